package journal

import (
	"errors"
	"net/http"
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
)

// Created is what Klarna says that it made: an order, or a capture of one.
type Created struct {
	ID            string // as Klarna spells it
	Capture       bool
	FraudStatus   string                 // of an order
	PaymentMethod messages.PaymentMethod // of an order; zero when not told
	CorrelationID string
	RateLimit     klarna.RateLimit
}

// A TryResult is what the tries of one delivery have taught so far.
type TryResult struct {
	Outcome
	Refusal     *klarna.Error // the definite no, when Answer is Refused
	TurnedAway  *klarna.Error // the last answer, where it was not Klarna's application that gave it
	Created     Created       // when Answer is Accepted, Pending or FraudRejected
	TokenStatus string        // beside a refusal that is about the token; "" when not known
	Authorised  *Order        // what an accepted order leaves to be captured; nil where that is automatic
	before      doubt         // what earlier deliveries left open
}

// Untried is the result before the first try under a claim.
func Untried(h HeldClaim) TryResult {
	return TryResult{before: h.doubt(), Outcome: Outcome{Unsent: true}}
}

// Said is the answer by which a refusal was refused; nil where that was none.
func (t TryResult) Said(next Transition) *klarna.Error {
	if next.unread && t.TurnedAway != nil {
		return &klarna.Error{StatusCode: t.TurnedAway.StatusCode, CorrelationID: t.TurnedAway.CorrelationID}
	}
	return t.Refusal
}

// Hear takes the answer (a nil err is something created) of a try that lasted from began to
// ended, and says whether another try may follow within this delivery. It is the table of answers: which of them
// decide, which leave the outcome open, and which prove that nothing happened.
func (t *TryResult) Hear(created Created, err error, began, ended time.Time, r Rules) (again bool) {
	t.LastError, t.NotEvaluated, t.NoSuchOrder, t.RetryAfter = "", false, false, 0
	class := klarna.ClassOf(err)
	if err != nil {
		t.LastError = err.Error()
	}
	refusal, refused := errors.AsType[*klarna.Error](err)
	if refused {
		t.RetryAfter = min(refusal.RetryAfter, maxRetryAfter)
	}

	if class == klarna.ClassNotSent {
		return true
	}
	t.sent(began, correlationID(err))
	switch class {
	case klarna.ClassNotEvaluated:
		t.NotEvaluated, t.TurnedAway, t.NoSuchOrder = true, refusal, refusal.StatusCode == http.StatusNotFound
		return false // a password, a host or a firewall is wrong: seconds will not heal it
	case klarna.ClassRateLimited:
		return true
	}

	t.Unsent = false
	switch class {
	case klarna.ClassOK:
		if t.create(created, began, r); t.Answer != Accepted {
			t.heard(created.CorrelationID)
		}
		return false
	case klarna.ClassRefused:
		judged := dunning.SurvivesUndecided(refusal.Code) || refusal.FraudStatus == klarna.FraudRejected
		if t.refused(Refused, judged, began, r); t.Answer == Refused {
			t.Refusal = refusal
			t.Outcome.Refusal, _ = dunning.DecideRefused(refusal.StatusCode, refusal.Code, refusal.FraudStatus)
		}
		return false // it will say the same in a second; later perhaps not
	case klarna.ClassFailed:
		return true
	case klarna.ClassAnswered2xx:
		t.Answered2xx = true
		t.Undecided++
		t.UndecidedAt = ended
		return true
	case klarna.ClassCut:
		t.Cut = true // counted by whoever takes the claim over
		t.UndecidedAt = ended
		return false
	default:
		t.Undecided++
		t.UndecidedAt = ended
		return true
	}
}

// sent takes in that a try was sent, and the correlation id of its answer.
func (t *TryResult) sent(began time.Time, correlationID string) {
	t.Tries++
	t.SentAt = began
	t.heard(correlationID)
}

// correlationID is that of an answer which was no success.
func correlationID(err error) string {
	if answered, ok := errors.AsType[*klarna.Error](err); ok {
		return answered.CorrelationID
	}
	if unknown, ok := errors.AsType[*klarna.UnknownError](err); ok {
		return unknown.CorrelationID
	}
	return ""
}

// create takes in what was created. A capture is money at once, an order by its fraud status.
func (t *TryResult) create(created Created, began time.Time, r Rules) {
	t.Created, t.Made = created, StateID(created.ID)
	t.Answer = Pending
	switch {
	case created.Capture, created.FraudStatus == klarna.FraudAccepted:
		t.Answer = Accepted
	case created.FraudStatus == klarna.FraudRejected:
		t.Answer = NoAnswer
		if t.refused(FraudRejected, true, began, r); t.Answer == NoAnswer {
			t.Made = ""
		}
	}
}

// refused takes in a definite no, for what it is worth after what came before it.
func (t *TryResult) refused(no Answer, judged bool, began time.Time, r Rules) {
	d := doubt{t.before.Tries + t.Undecided, later(t.before.EndedAt, t.UndecidedAt), t.before.Answered2xx || t.Answered2xx}
	switch d.refused(judged, began, r) {
	case refusalDecides:
		t.Answer = no
	case refusalTooSoon:
		t.TooSoon = true
	case refusalContradicts:
		t.Contradicted = true
	}
}
