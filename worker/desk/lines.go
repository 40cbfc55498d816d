package desk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/klarna-renewals/renewals/messages"
)

// A Line of a file says what became of one charge or capture.
type Line struct {
	Number       int // in the file, from 1
	ID           string
	Subscription messages.SubscriptionID
	Period       messages.Period
	// Key is that of the charge or the capture, where the file has it: it is about no other attempt.
	Key  messages.IdempotencyKey
	Note string
	Ruling
	// Problem is why nothing can be made of the line; nil where something can.
	Problem error
}

// Open says that nobody has written a verdict into the line.
func (l Line) Open() bool { return l.Verdict == "" && l.Problem == nil }

// Name is what the line calls its renewal.
func (l Line) Name() string {
	if l.Subscription != "" && l.Period != "" {
		return string(l.Subscription) + "/" + string(l.Period)
	}
	return l.ID
}

// ReadLines reads verdicts, as CSV with a header or as JSON Lines: what begins with { is JSON. The columns, or fields, are verdict,
// order_id, capture_id and note beside id, or subscription_id (or subscription) and period; the others are those of [WriteSheet], in JSON
// those of [messages.Unresolved], and are left alone. A spreadsheet's semicolons and tabs are understood, and so is its byte order mark. An
// error is about the file as a whole.
func ReadLines(r io.Reader) ([]Line, error) {
	in := bufio.NewReader(r)
	skipMark(in)
	start, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch start = bytes.TrimLeft(start, " \t\r\n"); {
	case len(start) == 0:
		return nil, errors.New("found nothing, expected a header and lines of CSV, or JSON Lines")
	case start[0] == '{':
		return jsonLines(in)
	}
	return csvLines(in)
}

func csvLines(in io.Reader) (lines []Line, err error) {
	err = ReadSheet(in, checkHeader, func(number int, values map[string]string) error {
		lines = append(lines, readLine(number, values))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return lines, nil
}

// checkHeader names a column that nobody would read: a verdict under another name would be no verdict.
func checkHeader(names []string) error {
	known := []string{}
	for _, c := range columns() {
		known = append(known, c.name)
	}
	has := func(name string) bool { return slices.Contains(names, name) }
	switch err := CheckHeader(names, known); {
	case err != nil:
		return err
	case !has("verdict"):
		return errors.New("line 1: no column verdict, expected paid, not_charged, captured or not_captured in it")
	case !has("id") && !(has("subscription_id") && has("period")):
		return errors.New("line 1: no column id, nor subscription_id and period")
	}
	return nil
}

// named is a column by the name that results have for it.
func named(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "subscription" {
		return "subscription_id"
	}
	return name
}

// maxLine is more than any record has.
const maxLine = 1 << 20

func jsonLines(in *bufio.Reader) (lines []Line, err error) {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, maxLine)
	for number := 1; scanner.Scan(); number++ {
		if len(bytes.TrimSpace(scanner.Bytes())) == 0 {
			continue
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(scanner.Bytes(), &fields); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if err := checkFields(number, fields); err != nil {
			return nil, err
		}
		values, problem := map[string]string{}, error(nil)
		for name, value := range fields {
			var text string
			name = named(name)
			switch {
			case !slices.Contains(filledIn(), name) || bytes.Equal(value, []byte("null")):
			case json.Unmarshal(value, &text) != nil:
				problem = fmt.Errorf("%s: %.40s, expected a string", name, value)
			default:
				values[name] = text
			}
		}
		l := readLine(number, values)
		if problem != nil {
			l.Problem = problem
		}
		lines = append(lines, l)
	}
	return lines, scanner.Err()
}

// checkFields names a field that nobody would read, as [checkHeader] does a column.
func checkFields(line int, fields map[string]json.RawMessage) error {
	known := filledIn()
	for _, c := range columns() {
		known = append(known, c.name)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[messages.Unresolved]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		known = append(known, name)
	}
	seen := map[string]bool{}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		switch name := named(field); {
		case name == "" || !slices.Contains(known, name):
			return fmt.Errorf("line %d: unknown field %.40q, expected some of %s", line, name, strings.Join(filledIn(), ", "))
		case seen[name]:
			return fmt.Errorf("line %d: field %s is there twice", line, name)
		default:
			seen[name] = true
		}
	}
	return nil
}

// filledIn are the columns that say something.
func filledIn() []string {
	return []string{"id", "subscription_id", "period", "idempotency_key", "verdict", "order_id", "capture_id", "note"}
}

// readLine makes a line of its values.
func readLine(number int, values map[string]string) Line {
	l := Line{
		Number: number, ID: values["id"], Subscription: messages.SubscriptionID(values["subscription_id"]), Period: messages.Period(values["period"]),
		Key: messages.IdempotencyKey(values["idempotency_key"]), Note: values["note"],
	}
	if values["verdict"] == "" {
		return l
	}
	var err error
	if l.Verdict, err = ParseVerdict(values["verdict"]); err != nil {
		l.Problem = fmt.Errorf("verdict: %w", err)
		return l
	}
	l.OrderID, l.CaptureID = values["order_id"], values["capture_id"]
	switch order, capture := CheckID(l.OrderID), CheckID(l.CaptureID); {
	case l.Name() == "":
		l.Problem = errors.New("neither id nor subscription_id and period say which renewal it is")
	case l.Verdict == VerdictPaid && l.OrderID == "":
		l.Problem = errors.New("order_id: nothing, expected the order that was paid")
	case l.Verdict == VerdictCaptured && l.CaptureID == "":
		l.Problem = errors.New("capture_id: nothing, expected the capture")
	case l.Verdict != VerdictCaptured && l.CaptureID != "":
		l.Problem = fmt.Errorf("capture_id: %.80q beside %s, expected it with captured alone", l.CaptureID, l.Verdict)
	case order != nil:
		l.Problem = fmt.Errorf("order_id: %w", order)
	case capture != nil:
		l.Problem = fmt.Errorf("capture_id: %w", capture)
	}
	return l
}
