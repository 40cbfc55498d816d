package journal

import (
	"errors"
	"fmt"

	"github.com/klarna-renewals/renewals/messages"
)

// check says what no worker and no operator writes: a header that is JSON of the right shape, and still no state of a
// renewal. It asks for what the machine relies upon, and no more, so that whatever an earlier version wrote passes.
func (s State) check() error {
	if s.Attempts < 0 {
		return fmt.Errorf("attempts: %d, expected none or more", s.Attempts)
	}
	for k, n := range s.Panics {
		if k == "" || n < 0 {
			return fmt.Errorf("panics: %d of key %.60q, expected a key and none or more", n, string(k))
		}
	}
	for _, part := range []func() error{s.checkPhase, s.checkClaim, s.checkOrder, s.checkSettled} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// checkPhase asks for what belongs to the phase.
func (s State) checkPhase() error {
	switch s.Phase {
	case PhaseNone, PhaseDunning, PhaseCancelled:
		return nil // of a renewal that nobody has tried to charge, among others
	case PhaseCharging, PhasePending, PhasePaid, PhaseUnresolved, PhaseCapturing, PhaseCaptured, PhaseCaptureFailed:
	default:
		return fmt.Errorf("phase: %.40q, expected one that this program knows", string(s.Phase))
	}
	if s.Claim == nil {
		return fmt.Errorf("claim: none, expected one in phase %s", s.Phase)
	}
	capture := s.Claim.Capture != nil
	switch s.Phase {
	case PhaseCharging, PhasePending:
		if capture {
			return fmt.Errorf("claim.capture: found one in phase %s, which is a charge's", s.Phase)
		}
		if s.Phase == PhasePending && s.Claim.OrderID == "" {
			return errors.New("claim.order_id: none, expected the order that is pending")
		}
	case PhasePaid:
		if s.Claim.OrderID == "" && (!capture || s.Order == nil) {
			return errors.New("claim.order_id: none, expected the order that was paid")
		}
	case PhaseCapturing:
		if !capture {
			return errors.New("claim.capture: none in phase capturing")
		}
	}
	if s.Order == nil && (capture || s.Phase == PhaseCaptured || s.Phase == PhaseCaptureFailed) {
		return fmt.Errorf("order: none, expected what is captured in phase %s", s.Phase)
	}
	return nil
}

func (s State) checkClaim() error {
	c := s.Claim
	if c == nil {
		return nil
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"tries", c.Tries}, {"deliveries", c.Deliveries}, {"undecided_tries", c.UndecidedTries}, {"panics", c.Panics}} {
		if n.value < 0 {
			return fmt.Errorf("claim.%s: %d, expected none or more", n.name, n.value)
		}
	}
	switch {
	case c.Key == "":
		return errors.New("claim.key: none")
	case c.Capture == nil:
		return nil
	case c.Capture.OrderID == "":
		return errors.New("claim.capture.order_id: none, expected the order that is captured")
	case c.Capture.Amount < 0:
		return fmt.Errorf("claim.capture.captured_amount: %d, expected none or more", c.Capture.Amount)
	case s.Order == nil:
		return errors.New("order: none, expected the one that claim.capture is of")
	}
	return nil
}

func (s State) checkOrder() error {
	o := s.Order
	switch {
	case o == nil:
		return nil
	case o.ID == "":
		return errors.New("order.order_id: none")
	case s.Claim == nil:
		return errors.New("claim: none, expected that of the order")
	case o.Amount < 0 || o.Captured < 0 || o.Captures < 0:
		return fmt.Errorf("order: amount %d, captured %d in %d captures, expected none or more of each", o.Amount, o.Captured, o.Captures)
	}
	return nil
}

func (s State) checkSettled() error {
	for k, e := range s.Settled {
		if k == "" || e.Kind == "" {
			return fmt.Errorf("settled: kind %q of key %.60q, expected both", string(e.Kind), string(k))
		}
		if !s.Holds(k) {
			continue
		}
		switch capture := s.Claim.Capture != nil; e.Kind {
		case messages.KindPaid, messages.KindDunning:
			if capture {
				return fmt.Errorf("settled: kind %s of the key of a capture", e.Kind)
			}
		case messages.KindCaptured, messages.KindCaptureFailed:
			if !capture {
				return fmt.Errorf("settled: kind %s of the key of a charge", e.Kind)
			}
		}
	}
	return nil
}
