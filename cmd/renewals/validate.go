package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klarna-renewals/renewals/messages"
)

type validateCmd struct {
	Job jobSettings `embed:""`

	File string `arg:"" optional:"" help:"JSON Lines, or one document over several lines. Default, and -: standard input."`
	JSON bool   `name:"json" help:"One JSON object a problem."`
}

// finding is one problem of one job.
type finding struct {
	File     string             `json:"file"`
	Line     int                `json:"line"` // where the job begins
	ID       messages.MessageID `json:"id,omitempty"`
	Severity string             `json:"severity"` // error or warning
	Path     string             `json:"path"`
	Message  string             `json:"message"`
}

func (f finding) String() string {
	severity := ""
	if f.Severity == "warning" {
		severity = "warning: "
	}
	return fmt.Sprintf("%s:%d: %s%s: %s", f.File, f.Line, severity, printable(f.Path), printable(f.Message))
}

func (c *validateCmd) Run(t *terminal) error {
	in, name, _, err := openInput(c.File, t)
	if err != nil {
		return err
	}
	defer in.Close()
	kind := c.Job.kind()
	jobs, invalid, warnings := 0, 0, 0
	check := func(line int, text []byte) error {
		jobs++
		reading := kind.read(text, nil)
		if len(reading.Problems) > 0 {
			invalid++
			if other := kind.mistaken(text); other != "" {
				reading.Problems = []messages.Problem{{Path: "$", Message: other}}
			}
		}
		warnings += len(reading.Warnings)
		return errors.Join(
			c.print(t.stdout, name, line, reading.Job.ID, "error", reading.Problems),
			c.print(t.stdout, name, line, reading.Job.ID, "warning", reading.Warnings))
	}
	// A file with one job a line ends its first line with the closing brace. Anything else is one document.
	var document []byte
	begin, first := 0, true
	err = lines(in, func(number int, text []byte, _ int64) error {
		if first && !bytes.HasSuffix(text, []byte("}")) {
			begin = number
		}
		first = false
		if begin == 0 {
			return check(number, text)
		}
		if len(document) < maxLine {
			document = append(append(document, text...), '\n')
		}
		return nil
	})
	if err != nil {
		return err
	}
	if begin > 0 {
		if err := check(begin, document); err != nil {
			return err
		}
	}
	fmt.Fprintf(t.stderr, "%d jobs, %d invalid, %d warnings\n", jobs, invalid, warnings)
	switch {
	case jobs == 0:
		return errors.New("no job found")
	case invalid > 0:
		return errReported
	}
	return nil
}

func (c *validateCmd) print(w io.Writer, file string, line int, id messages.MessageID, severity string, problems []messages.Problem) error {
	for _, p := range problems {
		f := finding{file, line, id, severity, p.Path, p.Message}
		if !c.JSON {
			fmt.Fprintln(w, f)
			continue
		}
		if err := json.NewEncoder(w).Encode(f); err != nil {
			return err
		}
	}
	return nil
}
