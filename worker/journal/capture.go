package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// This file is the state machine's part for captures: what a capture job means
// for a renewal that is paid with an order which was only authorised, or which Klarna may not have captured although it was
// asked to. Claims, leases, the key window and what an answer means are those of charges.

// capture decides what a capture job without a claim of its own means. An order that Klarna was asked to capture by itself
// is looked at like any other: our own word for it is no reason to refuse a capture. Where the look finds that nothing
// can be done, the state stays as it was: what Klarna captured by itself is none of the renewal's captures.
func capture(s State, q Request, now time.Time, r Rules) Transition {
	w, was := q.Capture, s
	if s.Phase == PhaseUnresolved {
		st := reject(s, q, messages.ReasonBlockedByUnresolved)
		st.Conflicts = s.Claim.Key
		return st
	}
	o, ok := s.ToCapture()
	switch {
	case !ok:
		return reject(s, q, messages.ReasonNotPaid)
	case w.OrderID != "" && w.OrderID != o.ID:
		return reject(s, q, messages.ReasonOrderMismatch)
	case s.full(q.Key):
		return Transition{Then: FileApart, Reason: messages.ReasonTooManyAttempts}
	case w.Found == nil || w.Found.Booked != o.Captured:
		return Transition{Then: Look, State: s.ordered(o), Key: q.Key}
	}

	s = s.ordered(o.Learned(w.Found))
	if was.Order != nil {
		was = s
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
		return reject(was.closed(), q, messages.ReasonAlreadyCaptured)
	case w.Amount > left:
		return reject(was, q, messages.ReasonAmountTooHigh)
	case w.Amount > 0:
		left = w.Amount
	}
	return distrustCapture(s, q, claimCapture(s, q, left, now, r), now, r)
}

// ToCapture is the order that captures of the renewal are about. Where Klarna was asked to capture it by itself and nobody
// has looked since, only its id is known. ok is false where there is none.
func (s State) ToCapture() (_ Order, ok bool) {
	switch {
	case s.Order != nil:
		return *s.Order, true
	case s.Phase == PhasePaid:
		return Order{ID: s.Claim.OrderID}, true
	}
	return Order{}, false
}

// Learned is the order with what Klarna says of it, where only its id was known. What Klarna captured by itself is captured.
func (o Order) Learned(f *OrderFound) Order {
	if o.Amount == 0 && !f.Refused {
		o.Amount, o.Captured = max(f.Amount, 0), max(f.Captured, 0)
		o.Currency, o.MerchantReference1, o.MerchantReference2 = f.Currency, f.MerchantReference1, f.MerchantReference2
	}
	return o
}

// Ignored is the order that Klarna was asked to capture by itself, as far as it says that it did not; nil where it did, or
// can no longer.
func (f OrderFound) Ignored() *Order {
	if f.Refused || f.Remaining <= 0 || f.Amount <= 0 || f.Status != "AUTHORIZED" && f.Status != "PART_CAPTURED" {
		return nil
	}
	o := Order{CaptureBefore: f.CaptureBefore}.Learned(&f)
	return &o
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
	if s.Order == nil {
		return s
	}
	o := *s.Order
	o.Closed = true
	return s.ordered(o)
}

// Uncaptured says that a part of the renewal's order can still be captured.
func (s State) Uncaptured() bool {
	return s.Order != nil && !s.Order.Closed && s.Order.Captured < s.Order.Amount
}

// distrustCapture decides about a capture of an order of which the journal may have forgotten captures. What
// Klarna has captured tells: where that is no more than the journal knew before the look, nothing is forgotten. Where it is
// more, be it that Klarna took it by itself, only the window counted as for charges makes the same key safe.
func distrustCapture(s State, q Request, st Transition, now time.Time, r Rules) Transition {
	if _, ok := s.forgotten(q, r); !ok {
		return st
	}
	c := *st.State.Claim
	if f := q.Capture.Found; max(f.Amount-f.Remaining, f.Captured) <= f.Booked {
		c.Restored = true // looked at: its clock starts now
	} else {
		c.distrust(s, q, r)
		o := *st.State.Order
		o.Captured = f.Booked // whose the rest is nobody knows: it may be this very key's
		st.State = st.State.ordered(o)
	}
	st.State = st.State.Claimed(c)
	if st.State.windowClosed(now, r) {
		return giveUp(st.State.Claimed(c.unused()), messages.ReasonJournalRestored, r)
	}
	return st
}
