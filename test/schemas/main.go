// Command schemas reads jobs that CloudEvents' own SDK made, see events.mjs, and compares them with what they were made of.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/klarna-renewals/renewals/messages"
)

// event is one line of events.mjs.
type event struct {
	Kind, Mode, Traceparent, Body string
	Headers                       map[string]string
	Job                           json.RawMessage
}

func main() { os.Exit(run()) }

func run() int {
	lines, wrong := 0, 0
	in := bufio.NewScanner(os.Stdin)
	for in.Buffer(nil, 1<<20); in.Scan(); {
		lines++
		var e event
		err := json.Unmarshal(in.Bytes(), &e)
		if err == nil {
			err = e.check()
		}
		if err != nil {
			wrong++
			fmt.Fprintf(os.Stderr, "line %d: %s %s: %v\n", lines, e.Mode, e.Kind, err)
		}
	}
	if err := in.Err(); err != nil || wrong > 0 || lines == 0 {
		fmt.Fprintf(os.Stderr, "%d of %d jobs of CloudEvents' SDK are not read as they were made (%v)\n", wrong, lines, err)
		return 1
	}
	fmt.Printf("%d jobs of CloudEvents' SDK are read as they were made\n", lines)
	return 0
}

// check says in what a message differs from its job.
func (e event) check() error {
	header := map[string][]string{}
	for name, value := range e.Headers {
		header[name] = []string{value}
	}
	var got, want messages.Reading
	var bytesGot, bytesWant []byte
	if e.Kind == "capture" {
		g, w := messages.ReadCapture([]byte(e.Body), header), messages.ReadCapture(e.Job, nil)
		got, want, bytesGot, bytesWant = g.Common(), w.Common(), g.Capture.OrderLines, w.Capture.OrderLines
	} else {
		got, want = messages.Read([]byte(e.Body), header), messages.Read(e.Job, nil)
		bytesGot, bytesWant = got.Job.Order, want.Job.Order
	}
	trace, _ := messages.TraceContext(header)
	switch {
	case len(got.Problems) > 0:
		return fmt.Errorf("found problems: %v", got.Problems)
	case !got.Identified || got.IdempotencyKey != want.IdempotencyKey:
		return fmt.Errorf("found the key %s, expected %s", got.IdempotencyKey, want.IdempotencyKey)
	case !bytes.Equal(bytesGot, bytesWant):
		return fmt.Errorf("found other bytes: %s", bytesGot)
	case got.TraceParent+trace != e.Traceparent:
		return fmt.Errorf("found the trace %q, expected %q", got.TraceParent+trace, e.Traceparent)
	}
	return nil
}
