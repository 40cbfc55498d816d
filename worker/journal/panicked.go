package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// maxBroken bounds the jobs of one renewal whose panics are counted. One more is put aside at its first.
const maxBroken = 16

// Panicked counts a panic in the handling of a job, and puts the job aside after
// the last that is allowed: unresolved where Klarna may have been asked, else rejected.
func Panicked(s State, q Request, now time.Time, r Rules) Transition {
	if e, ok := s.Settled[q.Key]; ok && q.StandIn { // it has its result: this delivery broke before its ack
		return duplicate(s, q, e)
	}
	if !s.Open() || !s.Holds(q.Key) {
		if st := Deliver(s, q, now, r); st.Then != Try && st.Then != Look {
			return st // what it gets ends it, or it waits
		}
		if s.panics(q.Key) >= MaxPanics-1 || !s.counts(q.Key) && len(s.Panics) >= maxBroken {
			return reject(s, q, messages.ReasonPoison)
		}
		next := s.panicked(q.Key)
		return Transition{Record: q.claims(), Key: q.Key, State: next, Then: Nak, Delay: r.Delay(next.panics(q.Key))}
	}

	c := *s.Claim
	if c.SHA256 != q.Hash && !q.StandIn {
		return conflict(q) // the claim is another job's
	}
	if s.panics(q.Key) >= MaxPanics-1 {
		if !c.FirstSentAt.IsZero() {
			return giveUp(s, messages.ReasonPoison, r)
		}
		c.Released = true
		next := s.Claimed(c)
		next.Phase = next.before()
		return reject(next, q, messages.ReasonPoison)
	}
	if c.Nonce == q.Nonce && !c.Released {
		c.LeaseUntil = now.Add(r.SettleDelay + r.ClockMargin) // a try may have been under way
	}
	next := s.Claimed(c).panicked(q.Key) // in the phase that it is in: a pending order stays pending
	return Transition{Record: q.claims(), Key: q.Key, State: next, Then: Nak, Delay: max(r.Delay(next.panics(q.Key)), c.LeaseUntil.Sub(now))}
}
