package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// A RefusedError says why the state of a renewal does not allow what an operator asked for.
type RefusedError struct {
	Phase Phase
	Why   string
}

func (e *RefusedError) Error() string { return e.Why }

// Resolvable says why a renewal in this state cannot be resolved, as a *RefusedError; nil when it can. What is unresolved
// can be a charge or a capture, see [State.Capturing].
func (s State) Resolvable() error {
	if s.Phase != PhaseUnresolved {
		return &RefusedError{s.Phase, "only an unresolved renewal can be resolved: this one is " + string(s.Phase)}
	}
	return nil
}

// Correctable says why a settlement cannot be put right by hand, as a *RefusedError; nil when it can: an operator made it, and
// nothing has followed.
func (s State) Correctable() error {
	if s.Phase == PhaseUnresolved {
		return &RefusedError{s.Phase, "the renewal is unresolved: there is no decision to correct yet"}
	}
	if s.Claim == nil || !s.Settled[s.Claim.Key].ByHand {
		return &RefusedError{s.Phase, "only what an operator decided can be corrected: the last result of this renewal, " + string(s.Phase) + ", is none"}
	}
	if s.Phase != Phase(s.Settled[s.Claim.Key].Kind) {
		return &RefusedError{s.Phase, "something has followed the decision: the renewal is " + string(s.Phase)}
	}
	return nil
}

// Provable says why an order that the settlements show cannot settle a renewal in this state, as a *RefusedError; nil when it can: the
// charge under this key is unresolved, and the journal knows of no other order of it.
func (s State) Provable(key messages.IdempotencyKey, orderID string) error {
	switch {
	case s.Phase != PhaseUnresolved:
		return &RefusedError{s.Phase, "it is " + string(s.Phase) + " by now"}
	case s.Capturing():
		return &RefusedError{s.Phase, "it is paid by now, and what is unresolved is a capture"}
	case !s.Holds(key):
		return &RefusedError{s.Phase, "another attempt has followed"}
	case s.Claim.OrderID != "" && s.Claim.OrderID != orderID:
		return &RefusedError{s.Phase, "the journal knows of another order: " + s.Claim.OrderID}
	}
	return nil
}

// Reinstatable is the same for undoing a cancellation.
func (s State) Reinstatable() error {
	_, err := reinstate(s)
	return err
}

// Capturing says that the last claim is for a capture.
func (s State) Capturing() bool { return s.Claim != nil && s.Claim.Capture != nil }

// Cancellable is the same for cancelling.
func (s State) Cancellable() error {
	_, err := cancel(s)
	return err
}

// A verdict is what an operator found at Klarna.
type verdict struct {
	kind       messages.Kind // paid, dunning, captured or capture_failed
	made       string        // the order or the capture
	authorised *Order        // what a paid order leaves to be captured
	at         time.Time
}

// resolve settles an unresolved renewal.
func resolve(s State, v verdict) (Transition, error) {
	if err := s.Resolvable(); err != nil {
		return Transition{}, err
	}
	return settleByHand(s, v, messages.KindUnresolved)
}

// correct settles otherwise what an operator has settled wrongly.
func correct(s State, v verdict) (Transition, error) {
	if err := s.Correctable(); err != nil {
		return Transition{}, err
	}
	was := s.Settled[s.Claim.Key].Kind
	if was == v.kind && s.Claim.made() == v.made && (v.kind != messages.KindPaid || (s.Order == nil) == (v.authorised == nil)) {
		return Transition{}, &RefusedError{s.Phase, "that is what is recorded already"}
	}
	switch was {
	case messages.KindPaid:
		s.Order = nil // no capture has been claimed: the claim would be its own
	case messages.KindCaptured:
		o := *s.Order
		o.Captured -= s.Claim.Capture.Amount
		s = s.ordered(o)
	}
	return settleByHand(s, v, was)
}

// settleByHand settles the last claim as an operator says, over an earlier result of the same key.
func settleByHand(s State, v verdict, corrects messages.Kind) (Transition, error) {
	ofCapture := v.kind == messages.KindCaptured || v.kind == messages.KindCaptureFailed
	switch {
	case s.Capturing() && !ofCapture:
		return Transition{}, &RefusedError{s.Phase, "the renewal is paid, what is unresolved is a capture: say whether there is one"}
	case !s.Capturing() && ofCapture:
		return Transition{}, &RefusedError{s.Phase, "what is unresolved is a charge, not a capture: say whether there is an order"}
	}
	c := *s.Claim
	c.make(v.made)
	next := s.Claimed(c).Settle(c.Key, Settlement{Kind: v.kind, SHA256: c.SHA256, ByHand: true})
	next.Phase = Phase(v.kind)
	switch {
	case v.made != "":
		next = next.gained(c, v.authorised)
	case v.kind == messages.KindDunning && s.Cancelled:
		next.Phase = PhaseCancelled // a cancellation outlives an order that came to nothing
	}
	st := Transition{Record: v.kind, Key: c.Key, State: next, Corrects: corrects}
	switch v.kind {
	case messages.KindDunning:
		st = st.missed(dunning.NotCharged(), v.at)
	case messages.KindCaptureFailed:
		st = st.missed(dunning.NotCapturable(messages.ReasonNotCaptured), v.at)
	}
	return st, nil
}

// cancel ends a renewal that is not being charged and has not been.
func cancel(s State) (Transition, error) {
	switch s.Phase {
	case PhaseNone, PhaseDunning:
		s.Phase, s.Cancelled = PhaseCancelled, true
		return Transition{Record: messages.KindCancelled, State: s}, nil
	case PhaseCharging, PhasePending:
		return Transition{}, &RefusedError{s.Phase, "too late: the renewal is being charged; its result will say what became of it"}
	case PhaseUnresolved:
		return Transition{}, &RefusedError{s.Phase, "the renewal is unresolved, it may have been charged: resolve it first"}
	case PhaseCancelled:
		return Transition{}, &RefusedError{s.Phase, "the renewal is cancelled already"}
	}
	return Transition{}, &RefusedError{s.Phase, "too late: the renewal is " + string(s.Phase)}
}

// reinstate undoes a cancellation. Whatever would have followed one is another phase, so nothing has.
func reinstate(s State) (Transition, error) {
	if s.Phase != PhaseCancelled {
		return Transition{}, &RefusedError{s.Phase, "only a cancelled renewal can be reinstated: this one is " + string(s.Phase)}
	}
	s.Cancelled = false
	s.Phase = s.before()
	return Transition{Record: messages.KindCancelled, State: s}, nil
}
