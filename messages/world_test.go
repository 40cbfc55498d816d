package messages_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// worldly is an order as a live integration sends it, in our words: paths of errors, and kinds of warnings.
type worldly struct {
	Name, Why, Before string
	Errors, Warnings  []string
	Order             json.RawMessage
}

func worldlyOrders(t testing.TB) (orders []worldly) {
	t.Helper()
	for text := range bytes.Lines(golden(t, "orders.jsonl")) {
		var o worldly
		if err := json.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		_, o.Order, _ = bytes.Cut(bytes.TrimSpace(text), []byte(`"order":`)) // its very bytes
		o.Order = bytes.TrimSuffix(o.Order, []byte("}"))
		orders = append(orders, o)
	}
	return orders
}

// S57, S58: what Klarna is known to refuse is refused, the rest is warned of.
func TestOrdersOfTheWorld(t *testing.T) {
	t.Parallel()
	orders := worldlyOrders(t)
	if len(orders) < 21 {
		t.Fatalf("got %d orders, want 21 or more", len(orders))
	}
	for _, o := range orders {
		t.Run(o.Name, func(t *testing.T) {
			t.Parallel()
			payload := o.Before + `{"id":"4711/2026-11/1","subscription_id":"4711","period":"2026-11","due_at":"2026-11-01T00:00:00Z","customer_token":"` + token + `","order":` + string(o.Order) + `}`
			r := messages.Read([]byte(payload), nil)
			var paths, kinds []string
			for _, p := range r.Problems {
				paths = append(paths, p.Path)
			}
			for _, w := range r.Warnings {
				kinds = append(kinds, string(w.Kind))
			}
			slices.Sort(kinds)
			if !slices.Equal(paths, o.Errors) {
				t.Errorf("got problems\n%s\nwant them at %v", report(r.Problems), o.Errors)
			}
			if len(o.Errors) == 0 && !slices.Equal(slices.Compact(kinds), o.Warnings) {
				t.Errorf("got warnings\n%s\nwant of the kinds %v", report(r.Warnings), o.Warnings)
			}
		})
	}
}

// S83: identities that differ in what nobody sees are refused, with the character named. Keys of all others stay as they are,
// see keys.json.
func TestInvisibleIdentities(t *testing.T) {
	t.Parallel()
	for character, want := range map[string]string{
		"\u200b":     "found the invisible character U+200B, expected none", // zero-width space
		"\u200d":     "found the invisible character U+200D, expected none", // zero-width joiner
		"\u202e":     "found the invisible character U+202E, expected none", // right-to-left override
		"\u00ad":     "found the invisible character U+00AD, expected none", // soft hyphen
		"\ufeff":     "found the invisible character U+FEFF, expected none", // byte order mark
		"\U000e0041": "found the invisible character U+E0041, expected none",
		"\u2028":     "found the invisible character U+2028, expected none", // line separator
		"\u2029":     "found the invisible character U+2029, expected none", // paragraph separator
		"\u0378":     "found U+0378, which is no assigned character, expected none",
		"\uffff":     "found U+FFFF, which is no assigned character, expected none",
		"\u0085":     "found the control character U+0085, expected none",
	} {
		for _, field := range []struct{ path, old string }{{"id", `"id": "1234834`}, {"subscription_id", `"subscription_id": "1234834`}, {"period", `"period": "2026`}} {
			payload := []byte(edit(t, string(golden(t, "job.json")), field.old, field.old+character))
			r := messages.Read(payload, nil)
			if got := report(r.Problems); got != field.path+": "+want || r.Identified {
				t.Errorf("%s with %+q: got %q, identified %v; want %q", field.path, character, got, r.Identified, want)
			}
			if validates(compile(t, "job"), payload) {
				t.Errorf("%s with %+q: job.json accepts it", field.path, character)
			}
		}
		if _, err := messages.ParseMessageID("a" + character + "b"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("typed with %+q: got %v, want %q", character, err, want)
		}
		header := map[string][]string{"ce-id": {"a" + percent(character)}}
		payload := []byte(edit(t, string(golden(t, "job.json")), `"id": "1234834/2026-12/1",`, ``))
		if r := messages.Read(payload, header); r.Identified || !strings.Contains(report(r.Problems), want) {
			t.Errorf("in a header with %+q: got %q, identified %v", character, report(r.Problems), r.Identified)
		}
	}
	for _, seen := range []string{"ä", "a\u0308", "\u00a0x\u00a0y"[2:], "🥪", "\ue000", "定期", "اشتراك"} {
		if _, err := messages.ParseMessageID(seen); err != nil {
			t.Errorf("%+q: %v", seen, err)
		}
	}
}

func percent(s string) (p string) {
	for i := range len(s) {
		p += fmt.Sprintf("%%%02X", s[i])
	}
	return p
}
