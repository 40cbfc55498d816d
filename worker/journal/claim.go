package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// claim opens a renewal's next attempt.
func claim(s State, q Request, now time.Time, r Rules) Transition {
	c := Claim{Key: q.Key, SHA256: q.Hash, Deliveries: 1, Corrects: s.Settled[q.Key].Kind}
	c.distrust(s, q, r)
	c.take(q, now, r)
	next := s.Claimed(c)
	next.Phase, next.UndecidedAt, next.NotEvaluated = PhaseCharging, time.Time{}, NotEvaluated{}
	if c.Restored {
		next.UndecidedAt = r.Restored // when a try that was forgotten may have ended
	}
	next.Attempts, next.LastAttemptAt = s.nextAttempt(q.Attempt), now
	next.Cadence, next.OffCycle, next.ClaimedSeq = q.Cadence, q.OffCycle, 0
	if next.FirstAttemptAt.IsZero() {
		next.FirstAttemptAt, next.DueAt, next.Policy = now, q.DueAt, q.policy()
	}
	return Transition{Record: messages.KindCharging, Key: q.Key, State: next, Then: Try}
}

// policy is the account's, as the state has it.
func (q Request) policy() *dunning.Policy {
	if q.Policy.Equal(dunning.DefaultPolicy()) {
		return nil
	}
	p := q.Policy
	return &p
}

// take makes the claim that of the delivery at hand and starts the key's clock
// if it does not run.
func (c *Claim) take(q Request, now time.Time, r Rules) {
	c.Nonce, c.Worker = q.Nonce, q.Worker
	c.Host, c.Endpoint, c.Merchant = "", q.Endpoint, q.Merchant
	if q.Endpoint == "" {
		c.Host = q.Host
	}
	c.LeaseUntil, c.Released, c.Held = now.Add(r.AckWait), false, false
	c.Unspaced = c.Unspaced || q.Unspaced
	if c.FirstSentAt.IsZero() {
		c.FirstSentAt = now
		return
	}
	s := c.search()
	s.TakenAt = now
	c.Search = &s
}

// Sendable says whether a try may start now: whoever takes the claim over, by a clock that is ahead, does so after the
// try has ended, and Klarna knows the key for as long.
func (c Claim) Sendable(now time.Time, r Rules) bool {
	return c.LeaseUntil.Sub(now) >= r.TryTimeout+r.ClockMargin && now.Before(c.FirstSentAt.Add(r.KeyWindow)) && !r.outdated(c)
}

// elsewhere says that a request would be sent to where the key of the claim means
// nothing. Claims of older workers know the host alone.
func (c Claim) elsewhere(q Request) bool {
	if c.Endpoint == "" {
		return c.Host != q.Host
	}
	return c.Endpoint != q.Endpoint || c.Merchant != q.Merchant
}

// claims is the kind of the records that announce nothing: of a claim, and of what is counted beside it.
func (q Request) claims() messages.Kind {
	if q.Capture != nil {
		return messages.KindCapturing
	}
	return messages.KindCharging
}

// becomes is the record that an answer leads to while the claim is one's own.
func (c Claim) becomes(a Answer) messages.Kind {
	if c.Capture != nil {
		switch a {
		case Accepted:
			return messages.KindCaptured
		case Refused:
			return messages.KindCaptureFailed
		}
		return messages.KindCapturing
	}
	switch a {
	case Accepted:
		return messages.KindPaid
	case Pending:
		return messages.KindPending
	case Refused, FraudRejected:
		return messages.KindDunning
	}
	return messages.KindCharging
}

// gained is the state after Klarna made what the claim asked for: there is an
// order to capture, or less of it is left.
func (s State) gained(c Claim, authorised *Order) State {
	switch {
	case c.Capture != nil:
		o := *s.Order
		o.Captured += c.Capture.Amount
		return s.ordered(o)
	case authorised != nil:
		o := *authorised
		o.ID = c.OrderID
		return s.ordered(o)
	}
	return s
}

// windowClosed says that no byte may be sent under the key of the claim any more.
func (s State) windowClosed(now time.Time, r Rules) bool {
	return !s.Claim.FirstSentAt.IsZero() && !now.Before(s.Claim.FirstSentAt.Add(r.KeyWindow))
}

// StaleAt is when an open claim may be settled by somebody who does not have its
// job: its window, or what else limits it, is over and its own delivery had its chance.
func (s State) StaleAt(r Rules) time.Time {
	c := s.Claim
	switch {
	case s.Phase == PhasePending:
		return c.FirstSentAt.Add(pendingLimit + StaleAfter)
	case !c.FirstSentAt.IsZero():
		return c.FirstSentAt.Add(r.KeyWindow + StaleAfter)
	default: // released, and nothing was ever evaluated
		return c.LeaseUntil.Add(unsentLimit + StaleAfter)
	}
}

// expiredReason names why a claim that ran out of time is unresolved.
func (s State) expiredReason() messages.Reason {
	switch {
	case s.Phase == PhasePending:
		return messages.ReasonPendingTooLong
	case s.Claim.Contradicted:
		return messages.ReasonContradictoryAnswers
	case s.Claim.FirstSentAt.IsZero():
		return messages.ReasonNotEvaluated
	case s.Claim.Restored:
		return messages.ReasonJournalRestored
	}
	return messages.ReasonIdempotencyWindowExpired
}

// Sweep settles a claim that nobody delivers any more. ok is false while there
// is nothing to do. A claim under which nothing was sent is left to whoever meets it: its account may be
// paused for longer than a week.
func Sweep(s State, now time.Time, r Rules) (_ Transition, ok bool) {
	if !s.Open() || s.Claim.FirstSentAt.IsZero() || now.Before(s.StaleAt(r)) {
		return Transition{}, false
	}
	st := giveUp(s, s.expiredReason(), r)
	st.Dead = false
	return st, true
}
