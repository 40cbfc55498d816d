package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// Held is the claim as this delivery wrote it. It started the key's clock where
// lease and clock began at once.
func Held(s State, r Rules) HeldClaim {
	c := *s.Claim
	return HeldClaim{Claim: c, DueAt: s.DueAt, Cadence: s.Cadence, OffCycle: s.OffCycle, UndecidedAt: s.UndecidedAt, SetsClock: c.FirstSentAt.Equal(c.LeaseUntil.Add(-r.AckWait))}
}

// Conclude decides what the tries of a delivery mean for its renewal, whose
// last state may be another's by now.
func Conclude(s State, h HeldClaim, o Outcome, now time.Time, r Rules) Transition {
	k := h.Claim.Key
	own := s.Holds(k) && s.Claim.Nonce == h.Claim.Nonce
	e, settled := s.Settled[k]

	switch {
	case own && s.Phase == PhasePending && o.Answer != Accepted:
		// A fenced delivery found the order and put it here: nothing that we heard can take it away.
		return Later(r.Delay(1))
	case own && s.Open():
		return record(s, h, o, now, r)
	case own && settled && o.Answer.made() && s.Claim.made() != o.Made:
		return fenced(s, h, o, now, r) // an operator named another one
	case own && settled && (e.Kind == h.Claim.becomes(o.Answer) || o.Answer == NoAnswer):
		// Our record is there, its answer was lost.
		return Transition{Then: Ack, Dead: deadAgain(e), Reason: e.deadReason(), State: s, Key: k}
	case o.Answer.made():
		return fenced(s, h, o, now, r)
	case s.Open() && s.Holds(k):
		// Another delivery is at it, whatever an earlier use of the key came to.
		return until(s.Claim.LeaseUntil, now)
	case settled:
		return Transition{Then: Ack, Duplicate: true, Dead: deadAgain(e), Reason: e.deadReason(), State: s, Key: k}
	}
	return Later(r.Delay(h.Claim.Deliveries))
}

// record writes what one's own claim came to.
func record(s State, h HeldClaim, o Outcome, now time.Time, r Rules) Transition {
	c := h.after(o, now, r)
	c.Corrects, c.Panics = s.Claim.Corrects, s.Claim.Panics // others may have written these on our claim
	c.NotEvaluatedSince = time.Time{}
	next := s.Claimed(c)
	next.UndecidedAt = later(s.UndecidedAt, o.UndecidedAt)
	was := s.unread()
	next.NotEvaluated = was.after(o, now, r)
	why := next.NotEvaluated.comesTo(was, c, o, now, r)
	if why == messages.ReasonNotEvaluated {
		return giveUp(next, why, r)
	} else if why != "" {
		o.Answer = Refused
	}
	st := Transition{Record: c.becomes(o.Answer), Key: c.Key, Reason: why, Then: Ack, Corrects: c.Corrects}

	switch st.Record {
	case messages.KindPaid, messages.KindCaptured:
		next = next.gained(c, h.Authorised)
		fallthrough
	case messages.KindDunning, messages.KindCaptureFailed:
		next = next.found()
		next.Phase = Phase(st.Record)
		st.State = next.Settle(c.Key, Settlement{Kind: st.Record, SHA256: c.SHA256})
		if st.Record == messages.KindDunning || st.Record == messages.KindCaptureFailed {
			refusal := o.refusal(c, why)
			st.unread, st.State = why != "", st.State.heard(refusal, h.Token)
			return st.advised(refusal, r.Guards)
		}
		return st
	case messages.KindPending:
		next.Phase = PhasePending
		st.State, st.Then, st.Delay = next, Nak, r.Delay(1)
		return st
	}

	st.State, st.Then = next, Nak
	st.Delay = max(r.Delay(c.Deliveries), o.RetryAfter)
	if o.TooSoon {
		st.Delay = max(next.UndecidedAt.Add(r.settled()).Sub(now), o.RetryAfter)
	}
	if o.HandBack {
		st.Delay = 0
	}
	if !c.FirstSentAt.IsZero() { // be there when the window closes
		st.Delay = min(st.Delay, max(c.FirstSentAt.Add(r.KeyWindow).Sub(now), 0))
	}
	if o.Cut {
		st.Delay = max(st.Delay, r.SettleDelay+r.ClockMargin)
	}
	return st
}

// after is the claim with what the delivery's tries have taught.
func (h HeldClaim) after(o Outcome, now time.Time, r Rules) Claim {
	c := h.Claim
	c.Tries += o.Tries
	c.UndecidedTries += o.Undecided
	c.Answered2xx = c.Answered2xx || o.Answered2xx
	c.Contradicted = c.Contradicted || o.Contradicted
	if o.LastError != "" || o.Tries > 0 { // a delivery that was handed back before its first try has nothing to say
		c.LastError = o.LastError[:min(len(o.LastError), maxLastError)]
	}
	if o.Answer == NoAnswer || o.Answer == Pending { // else nobody has to search
		c.tell(o, r)
	}
	if o.Made != "" {
		c.make(o.Made)
	}
	c.Released, c.LeaseUntil = true, now
	if o.Cut {
		c.Released, c.LeaseUntil = false, now.Add(r.SettleDelay+r.ClockMargin)
	}
	if h.SetsClock && o.Unsent && !c.Restored {
		c.FirstSentAt = time.Time{}
	}
	return c
}

// fenced decides for a delivery that holds an order, or a capture, but no longer
// the claim: what is in hand is never dropped.
func fenced(s State, h HeldClaim, o Outcome, now time.Time, r Rules) Transition {
	k := h.Claim.Key
	e, settled := s.Settled[k]
	if h.forgottenBy(s) {
		s = s.Claimed(h.Claim)
		s.DueAt, s.Cadence, s.OffCycle = h.DueAt, h.Cadence, h.OffCycle // other periods go by them
		s.Attempts++
		if s.FirstAttemptAt.IsZero() {
			s.FirstAttemptAt = now
		}
		s.LastAttemptAt = now
	}
	switch {
	case settled && (e.Kind == messages.KindPaid || e.Kind == messages.KindCaptured):
		named := o.Made
		if s.Holds(k) {
			named = s.Claim.made()
		} else if h.Claim.Capture == nil && s.Order != nil {
			named = s.Order.ID // a capture has followed
		}
		if named != o.Made {
			return Transition{Then: Ack, Dead: true, Reason: messages.ReasonSecondOrder, Made: o.Made, State: s, Key: k}
		}
		return Transition{Then: Ack, Duplicate: true, State: s, Key: k}
	case !s.Holds(k) && h.Claim.Capture != nil:
		return Transition{Then: Ack, Dead: true, Reason: messages.ReasonCaptureAfterFailure, Made: o.Made, State: s, Key: k}
	case !s.Holds(k):
		// Another key has followed: its charge cannot be undone from here.
		st := Transition{Then: Ack, Dead: true, Reason: messages.ReasonOrderAfterDunning, Made: o.Made, State: s, Key: k}
		if !settled { // the journal was set back: the job gets its result when it comes again
			st.Then, st.Delay = Nak, r.Delay(1)
		}
		return st
	}
	if s.Phase == PhasePending && o.Answer == Pending {
		return Later(r.Delay(1))
	}

	c := *s.Claim
	c.make(o.Made)
	c.Tries += o.Tries
	c.Released, c.LeaseUntil = true, now
	if settled {
		c.Corrects = e.Kind
	}
	next := s.Claimed(c)
	st := Transition{Record: c.becomes(o.Answer), Key: k, Then: Ack, Corrects: c.Corrects}
	if o.Answer == Pending {
		next.Phase = PhasePending
		st.State, st.Then, st.Delay = next.unsettle(k), Nak, r.Delay(1)
		return st
	}
	next = next.gained(c, h.Authorised).found()
	next.Phase = Phase(st.Record)
	st.State = next.Settle(k, Settlement{Kind: st.Record, SHA256: h.Claim.SHA256})
	return st
}

// Polled decides what the fraud status of a pending order means. final is false
// while Klarna has not decided.
func Polled(s State, q Request, accepted, final bool, now time.Time, r Rules) Transition {
	if s.Phase != PhasePending || !s.Holds(q.Key) {
		return Deliver(s, q, now, r)
	}
	if left := s.Claim.FirstSentAt.Add(pendingLimit).Sub(now); !final && left <= 0 {
		return giveUp(s, messages.ReasonPendingTooLong, r)
	} else if !final {
		return Later(min(r.Delay(q.Delivered), left+time.Second))
	}
	st := Transition{Record: messages.KindPaid, Key: q.Key, Then: Ack, Corrects: s.Claim.Corrects}
	if !accepted {
		st.Record = messages.KindDunning
	}
	next := s.found()
	if accepted {
		next = next.gained(*s.Claim, q.Authorised)
	}
	next.Phase = Phase(st.Record)
	if !accepted && s.Cancelled { // a cancellation outlives an order that came to nothing
		next.Phase = PhaseCancelled
	}
	st.State = next.Settle(q.Key, Settlement{Kind: st.Record, SHA256: s.Claim.SHA256})
	if !accepted {
		return st.advised(dunning.FraudRejected(), r.Guards)
	}
	return st
}

// forgottenBy says that the journal does not know the claim any more under which an order was made, and that
// nobody charges under another one: the order can be recorded as if the claim were there.
func (h HeldClaim) forgottenBy(s State) bool {
	k := h.Claim.Key
	return h.Claim.Capture == nil && !s.Holds(k) && !s.known(k) && (s.Phase == PhaseNone || s.Phase == PhaseDunning)
}
