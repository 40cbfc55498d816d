package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// Panicked counts a panic in the handling of a job, and puts the job aside after
// the last that is allowed: unresolved where Klarna may have been asked, else rejected.
func Panicked(s State, q Request, now time.Time, r Rules) Transition {
	own := s.Open() && s.Holds(q.Key)
	if e, ok := s.Settled[q.Key]; ok && q.StandIn { // it has its result: this delivery broke before its ack
		return duplicate(s, q, e)
	}
	if own && s.Claim.SHA256 != q.Hash && !q.StandIn {
		return conflict(q) // the claim is another job's
	}
	if !own {
		// To count on, there has to be a claim. Where the job would not get one, what it gets instead ends it.
		if st := Deliver(s, q, now, r); st.Then != Try && st.Then != Look {
			return st
		}
		if q.Capture != nil {
			s = claimCapture(s, q, 0, now, r).State
		} else {
			s = claim(s, q, now, r).State
		}
		s.Claim.LeaseUntil, s.Claim.Released = now, true // nothing was sent
		if !s.Claim.Restored {
			s.Claim.FirstSentAt = time.Time{}
		}
	}
	c := *s.Claim
	c.Panics++
	if c.Panics >= MaxPanics {
		if !c.FirstSentAt.IsZero() {
			return giveUp(s.Claimed(c), messages.ReasonPoison)
		}
		c.Released = true
		next := s.Claimed(c)
		next.Phase = next.before()
		return reject(next, q, messages.ReasonPoison)
	}
	if own && c.Nonce == q.Nonce && !c.Released {
		c.LeaseUntil = now.Add(r.SettleDelay + r.ClockMargin) // a try may have been under way
	}
	next := s.Claimed(c) // in the phase that it is in: a pending order stays pending
	return Transition{Record: c.becomes(NoAnswer), Key: q.Key, State: next, Then: Nak, Delay: max(r.Delay(c.Panics), c.LeaseUntil.Sub(now))}
}
