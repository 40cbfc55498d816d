package worker

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// This file is the state machine's part for captures: what a capture job means
// for a renewal that is paid with an order which was only authorised. Claims, leases, the key
// window and what an answer means are those of charges.

// wanted is what a capture job asks for.
type wanted struct {
	OrderID string // "": whichever order the renewal has
	Amount  int64  // minor units; 0: everything that is left
	Found   *found // nil until Klarna was asked
}

// found is what Klarna says of the order before a capture is claimed.
type found struct {
	Refused           bool // Klarna does not know it, or does not tell
	Status            string
	Amount, Remaining int64 // minor units
	CaptureBefore     time.Time
	Booked            int64 // what the journal had as captured when Klarna was asked
}

// capture decides what a capture job without a claim of its own means.
func capture(s State, q request, now time.Time, r rules) step {
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
	case !s.known(q.Key) && len(s.Settled) >= maxSettled:
		return step{Then: actStandIn, Reason: messages.ReasonTooManyAttempts}
	case w.Found == nil || w.Found.Booked != s.Order.Captured:
		return step{Then: actLook, State: s, Key: q.Key}
	}

	// Klarna may be behind with a capture that the journal has: what is taken
	// twice comes from the same customer.
	left := min(w.Found.Remaining, w.Found.Amount-s.Order.Captured)
	switch {
	case w.Found.Refused:
		return captureFailed(s, q, "")
	case w.Found.Status == "EXPIRED":
		return captureFailed(s, q, messages.ReasonOrderExpired)
	case w.Found.Status == "CANCELLED":
		return captureFailed(s, q, messages.ReasonOrderCancelled)
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
func claimCapture(s State, q request, amount int64, now time.Time, r rules) step {
	c := Claim{Key: q.Key, SHA256: q.Hash, Deliveries: 1, Corrects: s.Settled[q.Key].Kind}
	o := *s.Order
	if s.holds(q.Key) { // it was opened to count panics
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
	next := s.claimed(c).ordered(o)
	next.Phase, next.UndecidedAt, next.NotEvaluated = PhaseCapturing, time.Time{}, NotEvaluated{}
	return step{Record: messages.KindCapturing, Key: q.Key, State: next, Then: actCharge}
}

// captureFailed records that nothing can be captured; Klarna was not asked to. The
// reason of a refusal is Klarna's.
func captureFailed(s State, q request, why messages.Reason) step {
	next := s.closed().settle(q.Key, Settlement{Kind: messages.KindCaptureFailed, SHA256: q.Hash})
	next.Phase = PhaseCaptureFailed
	return step{Record: messages.KindCaptureFailed, Key: q.Key, Reason: why, State: next, Then: actAck, Corrects: s.Settled[q.Key].Kind}
}

// closed notes that nothing of the order can be captured any more, by Klarna's word.
func (s State) closed() State {
	o := *s.Order
	o.Closed = true
	return s.ordered(o)
}

// uncaptured says that a part of the renewal's order can still be captured.
func (s State) uncaptured() bool {
	return s.Order != nil && !s.Order.Closed && s.Order.Captured < s.Order.Amount
}
