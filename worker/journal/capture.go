package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// This file is the state machine's part for captures: what a capture job means
// for a renewal that is paid with an order which was only authorised. Claims, leases, the key
// window and what an answer means are those of charges.

// capture decides what a capture job without a claim of its own means.
func capture(s State, q Request, now time.Time, r Rules) Transition {
	w := q.Capture
	switch {
	case s.Phase == PhaseUnresolved:
		st := reject(s, q, messages.ReasonBlockedByUnresolved)
		st.Conflicts = s.Claim.Key
		return st
	case s.Order == nil && s.Phase == PhasePaid:
		return reject(s, q, messages.ReasonAlreadyCaptured)
	case s.Order == nil:
		return reject(s, q, messages.ReasonNotPaid)
	case w.OrderID != "" && w.OrderID != s.Order.ID:
		return reject(s, q, messages.ReasonOrderMismatch)
	case s.full(q.Key):
		return Transition{Then: FileApart, Reason: messages.ReasonTooManyAttempts}
	case w.Found == nil || w.Found.Booked != s.Order.Captured:
		return Transition{Then: Look, State: s, Key: q.Key}
	}

	// Klarna may be behind with a capture that the journal has: what is taken
	// twice comes from the same customer.
	left := min(w.Found.Remaining, w.Found.Amount-s.Order.Captured)
	switch {
	case w.Found.Refused:
		return captureFailed(s, q, w.Found.Refusal)
	case w.Found.Status == "EXPIRED":
		return captureFailed(s, q, dunning.NotCapturable(messages.ReasonOrderExpired))
	case w.Found.Status == "CANCELLED":
		return captureFailed(s, q, dunning.NotCapturable(messages.ReasonOrderCancelled))
	case left <= 0:
		return reject(s.closed(), q, messages.ReasonAlreadyCaptured)
	case w.Amount > left:
		return reject(s, q, messages.ReasonAmountTooHigh)
	case w.Amount > 0:
		left = w.Amount
	}
	return distrustCapture(s, q, claimCapture(s, q, left, now, r), now, r)
}

// claimCapture opens a capture of a certain amount.
func claimCapture(s State, q Request, amount int64, now time.Time, r Rules) Transition {
	c := Claim{Key: q.Key, SHA256: q.Hash, Deliveries: 1, Corrects: s.Settled[q.Key].Kind}
	o := *s.Order
	if s.Holds(q.Key) { // it was opened to count looks in vain, or panics by an earlier version
		c.Deliveries, c.Panics = s.Claim.Deliveries+1, s.Claim.Panics
	} else {
		o.Captures++
	}
	c.Capture = &Capture{OrderID: o.ID, Amount: amount}
	c.take(q, now, r)
	if o.FirstCaptureAt.IsZero() {
		o.FirstCaptureAt = now
	}
	if f := q.Capture.Found; f != nil && !f.Refused {
		o.Amount, o.Closed = f.Amount, false
		if !f.CaptureBefore.IsZero() {
			o.CaptureBefore = f.CaptureBefore
		}
	}
	next := s.Claimed(c).ordered(o)
	next.Phase, next.UndecidedAt, next.NotEvaluated = PhaseCapturing, time.Time{}, NotEvaluated{}
	return Transition{Record: messages.KindCapturing, Key: q.Key, State: next, Then: Try}
}

// captureFailed records that nothing can be captured; Klarna was not asked to.
func captureFailed(s State, q Request, d dunning.Decision) Transition {
	next := s.closed().Settle(q.Key, Settlement{Kind: messages.KindCaptureFailed, SHA256: q.Hash})
	next.Phase = PhaseCaptureFailed
	return Transition{Record: messages.KindCaptureFailed, Key: q.Key, State: next, Then: Ack, Corrects: s.Settled[q.Key].Kind}.advised(d, Guards{})
}

// closed notes that nothing of the order can be captured any more, by Klarna's word.
func (s State) closed() State {
	o := *s.Order
	o.Closed = true
	return s.ordered(o)
}

// Uncaptured says that a part of the renewal's order can still be captured.
func (s State) Uncaptured() bool {
	return s.Order != nil && !s.Order.Closed && s.Order.Captured < s.Order.Amount
}

// distrustCapture decides about a capture of an order of which the journal may have forgotten captures. What
// Klarna has captured tells: where that is no more than the journal knows, nothing is forgotten. Where it is more, only
// the window counted as for charges makes the same key safe.
func distrustCapture(s State, q Request, st Transition, now time.Time, r Rules) Transition {
	if _, ok := s.forgotten(q, r); !ok {
		return st
	}
	c := *st.State.Claim
	if f := q.Capture.Found; f.Amount-f.Remaining <= s.Order.Captured {
		c.Restored = true // looked at: its clock starts now
	} else {
		c.distrust(s, q, r)
	}
	st.State = st.State.Claimed(c)
	if st.State.windowClosed(now, r) {
		return giveUp(st.State.Claimed(c.unused()), messages.ReasonJournalRestored, r)
	}
	return st
}
