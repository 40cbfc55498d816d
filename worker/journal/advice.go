package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// An Advice is what a refusal means, and when another attempt makes sense by the policy that was in force when the chain
// of attempts began.
type Advice struct {
	dunning.Decision
	NextAttemptAt *time.Time
	Final         bool
}

// advise is the advice after a refused charge, or with capture a refused capture: that makes sense only while the authorisation
// lasts. No guard refuses an attempt at the moment that is suggested.
func (s State) advise(d dunning.Decision, capture bool, g Guards) *Advice {
	attempts, since := s.Attempts, s.FirstAttemptAt
	if capture {
		attempts, since = s.Order.Captures, s.Order.FirstCaptureAt
	}
	policy := dunning.DefaultPolicy()
	if s.Policy != nil {
		policy = *s.Policy
	}
	next, ok, _ := policy.Next(d.Category, d.Retryable, attempts, since)
	if !ok {
		return &Advice{Decision: d, Final: true}
	}
	return s.suggest(d, next, capture, g)
}

// suggest is the advice to make another attempt, unless that makes no sense then.
func (s State) suggest(d dunning.Decision, next time.Time, capture bool, g Guards) *Advice {
	switch {
	case capture && !s.Order.CaptureBefore.IsZero() && !next.Before(s.Order.CaptureBefore):
		return &Advice{Decision: d, Final: true}
	case len(s.Settled) >= MaxSettled, !capture && g.tooMany(s, 0), s.Phase == PhaseCancelled:
		return &Advice{Decision: d, Final: true}
	case !capture:
		next = later(next, g.earliest(s))
	}
	return &Advice{Decision: d, NextAttemptAt: &next}
}

// missed is a refusal's transition where nobody has refused anything: an operator found that the attempt was never made. It is due
// at once, whatever its number. The days between attempts are there for money to come in, and nobody has said that any was missing;
// an attempt that was not made uses up none of them. Which guards the account has, an operator's program does not know: they are taken
// to be the usual ones.
func (st Transition) missed(d dunning.Decision, now time.Time) Transition {
	st.Advice = st.State.suggest(d, now, st.Record == messages.KindCaptureFailed, DefaultGuards())
	st.Reason = d.Reason
	return st
}

// advised is a refusal's transition with its advice.
func (st Transition) advised(d dunning.Decision, g Guards) Transition {
	st.Advice = st.State.advise(d, st.Record == messages.KindCaptureFailed, g)
	st.Reason = d.Reason
	return st
}

// refusal is what the tries of a delivery came to, where they came to a refusal. why is set where Klarna's application gave none.
func (o Outcome) refusal(c Claim, why messages.Reason) dunning.Decision {
	switch {
	case why != "" && c.Capture == nil:
		return dunning.RefusedWithoutCode()
	case why != "":
		return o.notCaptured(why)
	case o.Answer == FraudRejected:
		return dunning.FraudRejected()
	}
	return o.Refusal
}

// notCaptured is a refusal to capture that Klarna's application did not explain.
func (o Outcome) notCaptured(why messages.Reason) dunning.Decision {
	if o.NoSuchOrder {
		why = messages.ReasonNoSuchOrder
	}
	return dunning.NotCapturable(why)
}
