package journal

import (
	"strings"
	"testing"
)

func TestStateID(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, id string
		hashed   bool
	}{
		{"a UUID", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", false},
		{"the longest that is documented", strings.Repeat("x", 255), false},
		{"one more", strings.Repeat("x", 256), true},
		{"not UTF-8, which would come back as something else", "a\xff", true},
		{"what looks like a hash", "sha256:1", true},
	} {
		got := StateID(row.id)
		if (got != row.id) != row.hashed {
			t.Errorf("%s: stateID = %q", row.name, got)
		}
		if row.hashed && Spelled(got, row.id) != row.id {
			t.Errorf("%s: spelled = %q, want the id", row.name, Spelled(got, row.id))
		}
		if Spelled(got, "another") != got || Spelled(got, "") != got {
			t.Errorf("%s: another id passes for it", row.name)
		}
	}
	huge := strings.Repeat("x", maxSpelled+1)
	if got := Spelled(StateID(huge), huge); got != StateID(huge) {
		t.Errorf("an id that fits into no message is spelled out in %d bytes", len(got))
	}
}
