package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// Yield decides for a claim in whose way another period stands. Nothing was sent by the delivery that holds it. Where nothing can have
// been sent before either, a way that is blocked ends the job: the renewal goes back to what it was before the claim. Else the claim is
// kept, released: it is never taken back once a byte may have gone out under its key, so that where the way stays blocked its window
// closes.
func Yield(s State, h HeldClaim, q Request, way Way, now time.Time, r Rules) Transition {
	st := Conclude(s, h, Outcome{Unsent: true}, now, r)
	if st.Record != messages.KindCharging {
		return st // it is no longer ours
	}
	if way.Blocked && st.State.Claim.unsent(way) {
		return tooClose(st.State, q, way)
	}
	c := *st.State.Claim
	c.Held = true
	wait := st.State.Claimed(c).heldFor(q, way, now, r)
	wait.Record, wait.Key, wait.State = st.Record, st.Key, st.State.Claimed(c)
	return wait
}
