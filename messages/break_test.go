package messages

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestBreakAndSchemaAgree: the example is a break, byte for byte in its fields, and every kind is in the schema.
func TestBreakAndSchemaAgree(t *testing.T) {
	text, err := os.ReadFile("testdata/break.json")
	if err != nil {
		t.Fatal(err)
	}
	var b Break
	var want, got map[string]any
	if err := json.Unmarshal(text, &b); err != nil || json.Unmarshal(text, &want) != nil {
		t.Fatal(err)
	}
	m, err := b.Message()
	if err != nil || json.Unmarshal(m.Data, &got) != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("found %s, %v\nwant %s", m.Data, err, text)
	}
	if kind, id, account, err := ParseBreakSubject(m.Subject); err != nil || kind != b.Kind || id != b.ID || account != b.Account {
		t.Errorf("subject %s reads as %s %s %s, %v", m.Subject, kind, id, account, err)
	}
	if id := NewBreakID(BreakSecondOrder, "default", b.OrderID); id != b.ID {
		t.Errorf("id %s, want %s: a changed id makes every open break a new one", id, b.ID)
	}
	if m.Header["ce-type"][0] != "renewals.break.v1" || m.Header["ce-subject"][0] != "1234834/2026-12" {
		t.Errorf("headers %v", m.Header)
	}
	text, _ = Schema("break")
	var schema struct {
		Properties map[string]struct{ Examples []string }
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	for _, kind := range BreakKinds() {
		if !slices.Contains(schema.Properties["kind"].Examples, string(kind)) {
			t.Errorf("%s is not in the schema", kind)
		}
	}
	if len(schema.Properties["kind"].Examples) != len(BreakKinds()) {
		t.Errorf("kinds %v", schema.Properties["kind"].Examples)
	}
	fields := reflect.TypeFor[Break]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		if _, ok := schema.Properties[name]; !ok {
			t.Errorf("field %s is not in the schema", name)
		}
	}
	if fields.NumField() != len(schema.Properties) {
		t.Errorf("%d fields, %d properties", fields.NumField(), len(schema.Properties))
	}
	if b.SettledAt.IsZero() || b.At.Location() != time.UTC {
		t.Errorf("times %s %s", b.At, b.SettledAt)
	}
}

// TestBreakIDs: what Python's uuid.uuid5 and urllib.parse.quote say of each, and Node's crypto, see test/schemas/breaks.mjs. A changed
// id opens every break anew, those that somebody has closed among them.
func TestBreakIDs(t *testing.T) {
	t.Parallel()
	var vectors []struct {
		Kind    BreakKind
		Account Account
		About   []string
		ID      BreakID
	}
	text, err := os.ReadFile("testdata/break-ids.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	seen, kinds := map[BreakID]bool{}, map[BreakKind]bool{}
	for _, v := range vectors {
		if got := NewBreakID(v.Kind, v.Account, v.About...); got != v.ID {
			t.Errorf("%s of %s about %q: %s, want %s", v.Kind, v.Account, v.About, got, v.ID)
		}
		if seen[v.ID] {
			t.Errorf("%s stands for two", v.ID)
		}
		seen[v.ID], kinds[v.Kind] = true, true
	}
	for _, kind := range BreakKinds() {
		if !kinds[kind] {
			t.Errorf("%s has no vector", kind)
		}
	}
}
