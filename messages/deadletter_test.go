package messages_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
)

func letter(original map[string][]string) messages.DeadLetter {
	return messages.DeadLetter{
		Reason: messages.ReasonInvalid, Errors: []messages.Problem{{Path: "order.order_lines[0].name", Message: `found "<é>", expected another`}},
		Account: "shop-eu", Stream: "RENEWALS", Sequence: 1234, Subject: "renewals.capture.shop-eu", At: time.Date(2026, 12, 1, 0, 0, 1, 0, time.UTC), Original: original,
	}
}

func TestDeadLetter(t *testing.T) {
	t.Parallel()
	original := map[string][]string{
		"Nats-Msg-Id": {"a"}, "Nats-Expected-Stream": {"OTHER"}, "nats-expected-last-sequence": {"3"}, "x": {"1", "two\r\nNats-Rollup: all"},
		"Renewals-Orig-Nats-Msg-Id": {"earlier"}, "Renewals-Replay": {"3"}, "empty": {}, "bad name": {"x"},
	}
	got := letter(original).Header([]byte("{}"))
	want := `Nats-Msg-Id: invalid/RENEWALS/1234/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a
Renewals-Account: shop-eu
Renewals-At: 2026-12-01T00:00:01Z
Renewals-Dropped: bad name
Renewals-Errors: [{"path":"order.order_lines[0].name","message":"found \"\u003cé\u003e\", expected another"}]
Renewals-Orig-Nats-Expected-Stream: OTHER
Renewals-Orig-Nats-Msg-Id: a
Renewals-Orig-Renewals-Orig-Nats-Msg-Id: earlier
Renewals-Orig-Renewals-Replay: 3
Renewals-Orig-nats-expected-last-sequence: 3
Renewals-Orig-x: 1
Renewals-Orig-x: two  Nats-Rollup: all
Renewals-Reason: invalid
Renewals-Sequence: 1234
Renewals-Stream: RENEWALS
Renewals-Subject: renewals.capture.shop-eu
`
	if lines(got) != want {
		t.Errorf("got\n%swant\n%s", lines(got), want)
	}

	back, err := messages.ParseDeadLetter(got)
	again := letter(original)
	for _, name := range []string{"bad name", "empty"} {
		delete(again.Original, name)
	}
	delete(back.Original, "empty")
	again.Original["x"] = []string{"1", "two  Nats-Rollup: all"}
	if err != nil || !reflect.DeepEqual(back, again) {
		t.Errorf("got back %+v, %v; want %+v", back, err, again)
	}
}

// Letters of the time before captures have no subject, and are read as ever.
func TestDeadLetterWithoutSubject(t *testing.T) {
	t.Parallel()
	old := letter(nil)
	old.Subject = ""
	h := old.Header(nil)
	if h.Get("Renewals-Subject") != "" || len(h["Renewals-Subject"]) != 0 {
		t.Errorf("got a header %q", h["Renewals-Subject"])
	}
	if back, err := messages.ParseDeadLetter(h); err != nil || back.Subject != "" || back.Sequence != 1234 {
		t.Errorf("got back %+v, %v", back, err)
	}
}

func TestParseDeadLetterOfOthers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Renewals-Account": "read header Renewals-Account: ", "Renewals-Sequence": "read header Renewals-Sequence: ",
		"Renewals-At": "read header Renewals-At: ", "Renewals-Errors": "read header Renewals-Errors: ",
	} {
		for _, value := range []string{"", "?"} {
			h := letter(nil).Header(nil)
			h.Set(name, value)
			if d, err := messages.ParseDeadLetter(h); err == nil || !strings.HasPrefix(err.Error(), want) || d.Stream != "" {
				t.Errorf("%s %q: got %+v, %v; want an error that begins with %q", name, value, d, err, want)
			}
		}
	}
	if _, err := messages.ParseDeadLetter(nil); err == nil {
		t.Error("got a dead letter of no headers")
	}
}

// S47: whatever headers a job had, those of its dead letter stay small; the largest go first, and their names are kept.
func TestDeadLetterIsBounded(t *testing.T) {
	t.Parallel()
	many, large, problems := map[string][]string{}, map[string][]string{"small": {"kept"}}, []messages.Problem{}
	for i := range 5_000 {
		many[fmt.Sprintf("name-%d", i)] = []string{strings.Repeat("x", i%50)}
		problems = append(problems, messages.Problem{Path: fmt.Sprintf("order.order_lines[%d].name", i), Message: `found 256 characters, expected 1 to 255`})
	}
	for i := range 10 {
		large[fmt.Sprintf("large-%d", i)] = []string{strings.Repeat("x", 1000*(i+1))}
	}
	for name, original := range map[string]map[string][]string{
		"many headers": many, "large headers": large, "one of 60 KiB": {"x": {strings.Repeat("x", 60<<10)}},
		"a name of 30 KiB": {strings.Repeat("x", 30<<10): {""}}, "many values": {"x": make([]string, 20_000)}, "control characters": {"x": {strings.Repeat("\r\n", 10_000)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := letter(original)
			d.Errors = problems
			h := d.Header(nil)
			size, copied := 0, 0
			for name, values := range h {
				if strings.HasPrefix(name, messages.PrefixOriginal) {
					copied++
				}
				for _, v := range values {
					size += len(name) + len(": \r\n") + len(v)
					if strings.ContainsAny(name+v, "\r\n") {
						t.Errorf("%.40q: got a line break", name)
					}
				}
			}
			if size > 16<<10 {
				t.Errorf("got %d bytes of headers, want at most 16 KiB", size)
			}
			if copied < len(original) == (h.Get(messages.HeaderDropped) == "") {
				t.Errorf("got %d of %d headers and %s %.80q", copied, len(original), messages.HeaderDropped, h.Get(messages.HeaderDropped))
			}
			var listed []messages.Problem
			if err := json.Unmarshal([]byte(h.Get(messages.HeaderErrors)), &listed); err != nil || len(h.Get(messages.HeaderErrors)) > 4<<10 || len(listed) < 30 || listed[29] != problems[29] {
				t.Errorf("got %d problems in %d bytes (%v), want whole ones in at most 4 KiB", len(listed), len(h.Get(messages.HeaderErrors)), err)
			}
		})
	}
	h := letter(large).Header(nil)
	if got, want := h.Get(messages.HeaderDropped), "large-4, large-5, large-6, large-7, large-8, large-9"; got != want {
		t.Errorf("got dropped %s, want %s", got, want)
	}
	if h.Get("Renewals-Orig-small") != "kept" || h.Get("Renewals-Orig-large-3") == "" {
		t.Error("got a small header dropped")
	}
}

// A replayed job is the same job: the same keys, wherever its ID came from, however often it is replayed.
func TestReplayKeepsTheKey(t *testing.T) {
	t.Parallel()
	const body = `"id": "1234834/2026-12/1",`
	for _, row := range []struct {
		name   string
		id     string
		header map[string][]string
	}{
		{"ID in the body", body, nil},
		{"in the body and in Nats-Msg-Id", body, map[string][]string{"Nats-Msg-Id": {"1234834/2026-12/1"}, "traceparent": {"00-1"}}},
		{"in Nats-Msg-Id", "", map[string][]string{"nats-msg-id": {"Zoë 1"}}},
		{"in ce-id", "", map[string][]string{"ce-id": {"Zo%C3%AB%201"}}},
		{"in ce-id and Nats-Msg-Id", "", map[string][]string{"Ce-Id": {"Zo%C3%AB%201"}, "Nats-Msg-Id": {"Zoë 1"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			payload := []byte(edit(t, string(golden(t, "job.json")), body, row.id))
			first := messages.Read(payload, row.header)
			if !first.Identified {
				t.Fatal(report(first.Problems))
			}
			header := row.header
			for sequence := range uint64(3) {
				dead, err := messages.ParseDeadLetter(letter(header).Header(nil))
				if err != nil {
					t.Fatal(err)
				}
				header = dead.Replay(sequence+1, fmt.Sprintf("fresh-%d", sequence))
				again := messages.Read(payload, header)
				if !again.Identified || again.IdempotencyKey != first.IdempotencyKey || again.Job.ID != first.Job.ID {
					t.Fatalf("replay %d: got %q and %s, want %q and %s: %s", sequence, again.Job.ID, again.IdempotencyKey, first.Job.ID, first.IdempotencyKey, report(again.Problems))
				}
				if id, replay := nats.Header(header).Get("Nats-Msg-Id"), nats.Header(header).Get("Renewals-Replay"); id != fmt.Sprintf("fresh-%d", sequence) || replay != fmt.Sprint(sequence+1) {
					t.Errorf("got Nats-Msg-Id %q and Renewals-Replay %q, want fresh-%d and %d", id, replay, sequence, sequence+1)
				}
				if traced := nats.Header(header).Get("traceparent") != ""; traced != (nats.Header(header).Get("Nats-Trace-Dest") == "trace disabled") {
					t.Errorf("got headers %v, want those that the server does not follow where there is a traceparent", header)
				}
			}
			if parent, _ := messages.TraceContext(header); row.header["traceparent"] != nil && parent != "00-1" {
				t.Errorf("got trace %q, want the job's", parent)
			}
		})
	}
}
