package journal

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// S95: what waits for the end of another key's claim says so, and asks again within a minute however often it was delivered. What waits for
// time, for Klarna or for its own claim goes by other rules.
func TestWaitsForAnotherClaim(t *testing.T) {
	const renewal messages.Renewal = "4a87da77-4bba-50c6-8cae-6972612639ac"
	about := func(q Request, delivered int) Request {
		q.Renewal, q.Delivered = renewal, delivered
		return q
	}
	r := testRules() // pauses of 5 s, a minute, 5 minutes
	paused, jittered := r, r
	paused.Paused, jittered.Jitter = true, 1.2

	declined, paid := after(t, charging(), refused), after(t, charging(), accepted)
	released, unsent := after(t, charging(), undecided), after(t, charging(), unsent)
	pending := after(t, charging(), Outcome{Answer: Pending, Made: "order-1", Tries: 1})
	capturing := with(charging(), func(c *Claim) { c.Capture = &Capture{OrderID: "order-1", Amount: 5} })
	capturing.Phase, capturing.Order = PhaseCapturing, &Order{ID: "order-1", Amount: 5}
	takeover := first()
	takeover.Nonce = "b"

	for _, tt := range []struct {
		name  string
		state State
		job   Request
		rules Rules
		at    time.Time
		delay time.Duration
		waits bool
	}{
		{name: "its first delivery", state: charging(), job: about(second(), 1), rules: r, at: noon, delay: 5 * time.Second, waits: true},
		{name: "a later one", state: charging(), job: about(second(), 3), rules: r, at: noon, delay: time.Minute, waits: true},
		{name: "jitter does not lengthen it", state: charging(), job: about(second(), 2), rules: jittered, at: noon, delay: time.Minute, waits: true},
		{name: "the claim is released: Klarna is asked again under it", state: released, job: about(second(), 9), rules: r, at: noon.Add(time.Hour), delay: time.Minute, waits: true},
		{name: "an order in doubt", state: pending, job: about(second(), 9), rules: r, at: noon.Add(time.Hour), delay: time.Minute, waits: true},
		{name: "a capture", state: capturing, job: about(second(), 9), rules: r, at: noon, delay: time.Minute, waits: true},
		{name: "the account is paused, nothing was sent", state: unsent, job: about(second(), 9), rules: paused, at: noon.Add(time.Hour), delay: time.Minute, waits: true},
		{name: "the claim may be settled soon", state: released, job: about(second(), 9), rules: r, at: noon.Add(25*time.Hour - 10*time.Second), delay: 11 * time.Second, waits: true},

		{name: "its own claim, of another delivery", state: charging(), job: about(takeover, 9), rules: r, at: noon, delay: 2*time.Minute + time.Second},
		{name: "the claim was settled for it", state: released, job: about(second(), 9), rules: r, at: noon.Add(25 * time.Hour), delay: time.Second},
		{name: "no open claim", state: declined, job: about(second(), 9), rules: r, at: noon},
		{name: "nor after it was paid", state: paid, job: about(second(), 9), rules: r, at: noon},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := messages.Renewal("")
			if tt.waits {
				want = renewal
			}
			if got := Deliver(tt.state, tt.job, tt.at, tt.rules); got.Waits != want || got.Delay != tt.delay {
				t.Errorf("waits for %q, at most %s; want %q, %s: %+v", got.Waits, got.Delay, want, tt.delay, got)
			}
		})
	}
}
