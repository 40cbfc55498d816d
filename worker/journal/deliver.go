package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// Deliver decides what a delivered job means for its renewal.
func Deliver(s State, q Request, now time.Time, r Rules) Transition {
	if q.StandIn && q.Verdict != "" {
		return filed(s, q)
	}
	if e, ok := s.Settled[q.Key]; ok && e.binds(q) {
		if e.SHA256 != q.settlementHash(e) {
			return conflict(q)
		}
		return duplicate(s, q, e)
	}

	if s.Open() && s.Holds(q.Key) {
		return carryOn(s, q, now, r)
	}
	if q.Verdict != "" {
		return reject(s, q, q.Verdict)
	}
	if s.Open() {
		return blocked(s, q, now, r)
	}
	if q.Capture != nil {
		return capture(s, q, now, r)
	}
	return charge(s, q, now, r)
}

// blocked decides for a job that meets the open claim of another key: it waits, or settles the claim where that has run out.
func blocked(s State, q Request, now time.Time, r Rules) Transition {
	if give, ok := Stale(s, now, r); ok {
		return give
	}
	wait := r.Delay(q.Delivered)
	if left := s.StaleAt(r).Sub(now); left > 0 {
		wait = min(wait, left+time.Second)
	}
	return waitFor(q.Renewal, wait)
}

// charge decides what a charge without a claim of its own means.
func charge(s State, q Request, now time.Time, r Rules) Transition {
	switch s.Phase {
	case PhaseCaptured, PhaseCaptureFailed:
		st := reject(s, q, messages.ReasonOrderExists)
		st.Conflicts = s.Claim.Key
		return st
	case PhasePaid:
		st := reject(s, q, messages.ReasonAlreadyPaid)
		st.Conflicts = s.Claim.Key
		return st
	case PhaseUnresolved:
		why := messages.ReasonBlockedByUnresolved
		if s.Claim.Capture != nil {
			why = messages.ReasonOrderExists
		}
		st := reject(s, q, why)
		st.Conflicts = s.Claim.Key
		return st
	case PhaseCancelled:
		return reject(s, q, messages.ReasonCancelled)
	}

	if !s.DueAt.IsZero() && !s.DueAt.Equal(q.DueAt) {
		// How long the journal remembers the period is counted from this moment, and so is what is too close to it.
		return Transition{Then: FileApart, Reason: messages.ReasonConflict, DueAt: s.DueAt}
	}
	if s.full(q.Key) {
		return Transition{Then: FileApart, Reason: messages.ReasonTooManyAttempts}
	}
	if why := r.Guards.refuse(s, q, now); why != "" {
		return guarded(s, q, why, r.Guards)
	}
	switch wait := q.DueAt.Sub(now); {
	case wait > FiredEarly:
		return Transition{Then: Park, Until: q.DueAt, State: s, Key: q.Key}
	case wait > 0:
		return Later(wait)
	}
	st := claim(s, q, now, r)
	if st.State.windowClosed(now, r) || s.unseen(q, r) {
		return giveUp(st.State.Claimed(st.State.Claim.unused()), st.State.expiredReason(), r)
	}
	return st
}

// carryOn takes an open claim of the same key towards its end. The job's
// validity is not asked again: the order may exist already.
func carryOn(s State, q Request, now time.Time, r Rules) Transition {
	c := *s.Claim
	c.suppose(r)
	c.distrust(s, q, r)
	switch {
	case c.SHA256 != q.Hash, (c.Capture == nil) != (q.Capture == nil):
		return conflict(q)
	case s.Phase == PhasePending:
		return Transition{Then: Poll, State: s, Key: q.Key} // also after the limit: a last look
	case c.Nonce == q.Nonce:
		return Transition{Then: Try, State: s, Key: q.Key} // the answer to our claim was lost, the claim was not
	case !c.Released && now.Before(c.LeaseUntil):
		return until(c.LeaseUntil, now)
	case c.Capture != nil && c.Capture.Amount == 0:
		s.Phase = s.before() // the claim only counts looks in vain, or an earlier version's panics
		return capture(s, q, now, r)
	case s.Claimed(c).windowClosed(now, r):
		s = s.Claimed(c)
		return giveUp(s, s.expiredReason(), r)
	case c.elsewhere(q) && !c.FirstSentAt.IsZero():
		// Another endpoint or merchant would not know the key and charge anew: wait for
		// the old one to be configured again, or for the window to close.
		return Later(min(r.Delay(max(c.Deliveries, q.Delivered)), c.FirstSentAt.Add(r.KeyWindow).Sub(now)))
	case c.Held && (q.Way == nil || !q.Way.Free()):
		return s.held(q, now, r)
	}

	if c.Restored && !s.Claim.Restored {
		s.UndecidedAt = later(s.UndecidedAt, r.Restored)
	}
	if !c.Released {
		c.UndecidedTries++
	}
	if !c.Released || c.UndecidedTries > 0 && s.UndecidedAt.IsZero() { // older workers do not write when it ended
		s.UndecidedAt = later(s.UndecidedAt, c.LeaseUntil)
	}
	c.take(q, now, r)
	c.Deliveries++
	return Transition{Record: c.becomes(NoAnswer), Key: q.Key, State: s.Claimed(c), Then: Try}
}

// guarded records that an attempt is refused. Once half of the IDs that a renewal may see are used up, such a job goes by its stand-in: a
// publisher that repeats itself for a day must not use up the attempts that are still to come.
func guarded(s State, q Request, why messages.Reason, g Guards) Transition {
	st := reject(s, q, why)
	if !s.known(q.Key) && len(s.Settled) >= MaxSettled/2 {
		st = Transition{Then: FileApart, Reason: why}
	}
	switch why {
	case messages.ReasonTooSoon:
		st.NextAttemptAt = g.earliest(s)
	case messages.ReasonTooManyAttempts:
		st.MaxAttempts = g.MaxAttempts
	}
	return st
}
