package messages_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/messages"
)

// What was encoded decodes to an event that encodes to the same, of every kind and whatever its fields hold.
func TestDecodeEventIsTheWayBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events := []messages.Event{
			filled[messages.Charging](t), filled[messages.Pending](t), filled[messages.Paid](t), filled[messages.Dunning](t), filled[messages.Unresolved](t),
			filled[messages.Rejected](t), filled[messages.Cancelled](t), filled[messages.Capturing](t), filled[messages.Captured](t), filled[messages.CaptureFailed](t),
		}
		if len(events) != len(messages.Kinds()) {
			t.Fatalf("%d events of %d kinds", len(events), len(messages.Kinds()))
		}
		for _, e := range events {
			body, err := messages.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			back, err := messages.DecodeEvent(e.Kind(), body)
			if err != nil {
				t.Fatalf("%s: %v in %s", e.Kind(), err, body)
			}
			again, err := messages.Encode(back)
			if err != nil || back.Kind() != e.Kind() {
				t.Fatalf("%s: got one of %s that encodes to %v", e.Kind(), back.Kind(), err)
			}
			var got, want any // a byte that is no UTF-8 is escaped at first, and a letter from then on
			if errors.Join(json.Unmarshal(again, &got), json.Unmarshal(body, &want)) != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("got %s, want %s", again, body)
			}
		}
	})
}

// The examples that consumers are given decode, each to its kind, and lose nothing.
func TestDecodeEventReadsTheExamples(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	read := map[messages.Kind]bool{}
	for _, path := range examples {
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".json"), "-")
		kind := messages.Kind(name)
		if !slices.Contains(messages.Kinds(), kind) {
			continue // a job, or keys
		}
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		event, err := messages.DecodeEvent(kind, body)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		again, err := messages.Encode(event)
		if err != nil || event.Kind() != kind || string(again) != strings.TrimSpace(string(body)) {
			t.Errorf("%s: got %s %s, error %v", path, event.Kind(), again, err)
		}
		read[kind] = true
	}
	if len(read) != len(messages.Kinds()) {
		t.Errorf("examples of %d kinds, want %d", len(read), len(messages.Kinds()))
	}
}

// A consumer survives the fields and the kinds of tomorrow, and is told what it cannot read.
func TestDecodeEventOfTomorrow(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind    messages.Kind
		body    string
		unknown bool
		bad     bool
	}{
		"a field of tomorrow": {kind: messages.KindPaid, body: `{"order_id":"o-1","refund":{"of":1}}`},
		"a kind of tomorrow":  {kind: "refunded", body: `{}`, unknown: true},
		"no JSON":             {kind: messages.KindPaid, body: `order`, bad: true},
		"another type":        {kind: messages.KindPaid, body: `{"order_id":1}`, bad: true},
	} {
		event, err := messages.DecodeEvent(tt.kind, []byte(tt.body))
		unknown, isUnknown := errors.AsType[*messages.UnknownKindError](err)
		switch {
		case isUnknown != tt.unknown, tt.unknown && unknown.Kind != tt.kind:
			t.Errorf("%s: got %v, want an unknown kind: %t", name, err, tt.unknown)
		case (err != nil) != (tt.unknown || tt.bad):
			t.Errorf("%s: got %v and %v", name, event, err)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	for _, k := range messages.Kinds() {
		f.Add(string(k), []byte(`{"id":"1","at":"2026-12-01T00:00:00Z","errors":[{"path":"$","message":"m"}]}`))
	}
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		event, err := messages.DecodeEvent(messages.Kind(kind), body)
		if err != nil {
			return
		}
		if _, err := messages.Encode(event); err != nil {
			t.Errorf("%s was read and cannot be written: %v", body, err)
		}
	})
}
