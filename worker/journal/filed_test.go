package journal

import (
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// S75: a message goes by one stand-in at most, whatever is filed there.
func TestConflictUnderAStandInEndsThere(t *testing.T) {
	r := testRules()
	q := first()
	q.StandIn, q.Verdict = true, messages.ReasonConflict
	another := q
	another.Hash = "another order"
	unread := first()
	unread.StandIn, unread.Hash = true, ""
	counting := countedByAClaim(empty(), unread, 1)
	filed := Deliver(empty(), q, noon, r).State

	for _, row := range []struct {
		name      string
		step      Transition
		record    messages.Kind
		reason    messages.Reason
		duplicate bool
	}{
		{"nothing is there", Deliver(empty(), q, noon, r), messages.KindRejected, messages.ReasonConflict, false},
		{"its own result", Deliver(filed, q, noon, r), "", messages.ReasonConflict, true},
		{"the result of another", Deliver(filed, another, noon, r), messages.KindRejected, messages.ReasonConflict, false},
		{"panics were counted there", Deliver(counting, q, noon, r), messages.KindRejected, messages.ReasonConflict, false},
		{"panics were counted there beside a claim", Deliver(Panicked(empty(), unread, noon, r).State, q, noon, r), messages.KindRejected, messages.ReasonConflict, false},
		{"reading it breaks after its result", Panicked(filed, unread, noon, r), "", messages.ReasonConflict, true},
		{"reading it breaks after another's claim", Panicked(with(counting, func(c *Claim) { c.SHA256 = "read once" }), unread, noon, r), messages.KindCharging, "", false},
	} {
		st := row.step
		if st.Then == FileApart || st.Record != row.record || st.Reason != row.reason || st.Duplicate != row.duplicate || st.Reason != "" && !st.Dead {
			t.Errorf("%s: got %+v", row.name, st)
		}
		if st.Record == messages.KindRejected && st.State.Open() {
			t.Errorf("%s: leaves a claim open", row.name)
		}
	}
}
