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
		{name: "nothing is there", step: Deliver(empty(), q, noon, r), record: messages.KindRejected, reason: messages.ReasonConflict},
		{name: "its own result", step: Deliver(filed, q, noon, r), reason: messages.ReasonConflict, duplicate: true},
		{name: "the result of another", step: Deliver(filed, another, noon, r), record: messages.KindRejected, reason: messages.ReasonConflict},
		{name: "panics were counted there", step: Deliver(counting, q, noon, r), record: messages.KindRejected, reason: messages.ReasonConflict},
		{name: "panics were counted there beside a claim", step: Deliver(Panicked(empty(), unread, noon, r).State, q, noon, r), record: messages.KindRejected, reason: messages.ReasonConflict},
		{name: "reading it breaks after its result", step: Panicked(filed, unread, noon, r), reason: messages.ReasonConflict, duplicate: true},
		{name: "reading it breaks after another's claim", step: Panicked(with(counting, func(c *Claim) { c.SHA256 = "read once" }), unread, noon, r), record: messages.KindCharging},
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
