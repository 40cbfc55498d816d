package journal

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// What is right only if the clock is says so.
func TestByTheClock(t *testing.T) {
	r, open := testRules(), charging()
	later := open.Claim.LeaseUntil.Add(time.Hour)
	for name, next := range map[string]Transition{
		"a key's window":  giveUp(open, messages.ReasonIdempotencyWindowExpired, testRules()),
		"a job":           reject(State{}, Request{}, messages.ReasonExpired),
		"a period":        reject(State{}, Request{}, messages.ReasonTooOld),
		"a new lease":     Deliver(empty(), first(), noon, r),
		"another's lease": Deliver(open, second(), later, r),
	} {
		if next.Record != "" && !next.ByTheClock() {
			t.Errorf("%s: %+v does not go by the clock", name, next)
		}
	}
	if next := reject(State{}, Request{}, messages.ReasonInvalid); next.ByTheClock() {
		t.Errorf("%+v goes by the clock", next)
	}
}
