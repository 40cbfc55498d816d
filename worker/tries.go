package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/worker/gate"
)

// maxRetryAfter is how long one answer may put a job off.
const maxRetryAfter = time.Minute

// tally is what the tries of one delivery have taught so far.
type tally struct {
	outcome
	refusal     *klarna.Error       // the definite no, when Answer is answerRefused
	turnedAway  *klarna.Error       // the last answer, where it was not Klarna's application that gave it
	order       klarna.CreatedOrder // when Answer is accepted, pending or fraud rejected
	tokenStatus string              // beside a refusal that is about the token; "" when not known
	before      doubt               // what earlier deliveries left open
}

// hear takes the answer (a nil err is an order) of a try that lasted from began to
// ended, and says whether another try may follow within this delivery. It is the table of answers: which of them
// decide, which leave the outcome open, and which prove that nothing happened.
func (t *tally) hear(order klarna.CreatedOrder, err error, began, ended time.Time, r rules) (again bool) {
	t.LastError, t.NotEvaluated, t.RetryAfter = "", false, 0
	class := klarna.ClassOf(err)
	if err != nil {
		t.LastError = err.Error()
	}
	refusal, refused := errors.AsType[*klarna.Error](err)
	if refused {
		t.RetryAfter = min(refusal.RetryAfter, maxRetryAfter)
	}

	switch class {
	case klarna.ClassNotSent:
		return true
	case klarna.ClassNotEvaluated:
		t.Tries++
		t.NotEvaluated, t.turnedAway = true, refusal
		return false // a password, a host or a firewall is wrong: seconds will not heal it
	case klarna.ClassRateLimited:
		t.Tries++
		return true
	}

	t.Tries++
	t.Unsent = false
	switch class {
	case klarna.ClassOK:
		t.order, t.Made = order, stateID(order.OrderID)
		t.Answer = answerPending
		switch order.FraudStatus {
		case statusAccepted:
			t.Answer = answerAccepted
		case statusRejected:
			t.Answer = answerNone
			if t.refused(answerFraudRejected, true, began, r); t.Answer == answerNone {
				t.Made = ""
			}
		}
		return false
	case klarna.ClassRefused:
		judged := dunning.SurvivesUndecided(refusal.Code) || refusal.FraudStatus == statusRejected
		if t.refused(answerRefused, judged, began, r); t.Answer == answerRefused {
			t.refusal = refusal
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

// refused takes in a definite no, for what it is worth after what came before it.
func (t *tally) refused(no answer, judged bool, began time.Time, r rules) {
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

// errLate stops a try whose lease or window would not outlast it. Nothing was sent.
var errLate = errors.New("the claim ends before a try could")

// fence is asked with the connection in hand, before the first byte: a process
// that was frozen, or waited long for a connection, must find out here that its claim is no longer
// its own. margin is for whoever takes over by a faster clock.
func (w *Worker) fence(c Claim, margin time.Duration) error {
	now := w.now()
	if w.pauses.Has(pauseSetBack) || w.marks.doubtful() {
		return errLate
	}
	if c.LeaseUntil.Sub(now) < w.opts.TryTimeout+margin || !now.Before(c.FirstSentAt.Add(w.opts.KeyWindow)) {
		return errLate
	}
	return nil
}

// sendable is the fence, on a clock that can be relied upon: one that was set, or
// stood still while the machine was suspended, cannot tell whose the claim is.
func (a *account) sendable(c Claim) error {
	if a.clockFault() != "" || a.rulesNow().outdated(c) {
		return errLate
	}
	return a.fence(c, a.rules.clockMargin)
}

// ask tries to get from Klarna what the claim is for, again while that makes
// sense within this delivery: the same key and the same bytes every time.
func (a *account) ask(ctx context.Context, j *job, h holding) tally {
	t := tally{before: h.doubt(), outcome: outcome{Unsent: true}}
	var pause *backoff.ExponentialBackOff
	deadline := a.now().Add(a.opts.TryBudget)
	try := a.charge(j, h)
	if h.Claim.Capture != nil {
		try = a.capture(j, h)
	}
	for {
		if ctx.Err() != nil || a.sendable(h.Claim) != nil {
			t.HandBack = true
			return t
		}
		// A shutdown does not end a try under way: its answer may be an order.
		began := a.now()
		made, err := try(a.finishing)
		made, err = a.mine(j, h, made, err)
		again := t.hear(made, err, began, a.now(), a.rules)
		if errors.Is(err, errLate) {
			t.HandBack = true
			return t
		}
		a.metrics.tried(a.Name, err)
		t.EvaluatedAt = a.evaluated(h.Claim.Capture != nil, err)
		t.Canary = a.learn(made.RateLimit, err)
		a.judge(j, h, &t)
		if !again || a.breaker.Paused() {
			return t
		}
		if pause == nil {
			pause = backoff.NewExponentialBackOff(
				backoff.WithInitialInterval(500*time.Millisecond),
				backoff.WithMultiplier(2),
				backoff.WithMaxInterval(10*time.Second),
				backoff.WithMaxElapsedTime(0), // the budget counts the pause to come, too
				backoff.WithClockProvider(clock(a.now)),
			)
		}
		wait := max(pause.NextBackOff(), t.RetryAfter)
		if a.now().Add(wait).After(deadline) {
			return t
		}
		turn := sleep(ctx, wait)
		if turn {
			turn, _ = a.limiter.Wait(ctx, deadline.Sub(a.now()))
		}
		if !turn {
			t.HandBack = ctx.Err() != nil
			return t
		}
	}
}

// charge is one try at the order of a renewal.
func (a *account) charge(j *job, h holding) func(context.Context) (klarna.CreatedOrder, error) {
	request := klarna.CreateOrderRequest{
		CustomerToken:  klarna.NewCustomerToken(j.reading.Job.CustomerToken.Reveal()),
		IdempotencyKey: string(h.Claim.Key),
		Body:           j.reading.Job.Order,
		BeforeSend:     func() error { return a.sendable(h.Claim) }, // with the connection in hand
	}
	return func(ctx context.Context) (klarna.CreatedOrder, error) { return a.Klarna.CreateOrder(ctx, request) }
}

// capture is one try at a capture. What Klarna made is told as an order is: it
// is there, and it is money.
func (a *account) capture(j *job, h holding) func(context.Context) (klarna.CreatedOrder, error) {
	j.orderID = h.Claim.Capture.OrderID
	request := klarna.CreateCaptureRequest{
		OrderID:        a.spelledOrder(a.finishing, j.renewalKey, h.Claim.Capture.OrderID),
		IdempotencyKey: string(h.Claim.Key),
		CapturedAmount: h.Claim.Capture.Amount,
		Description:    j.capture.Description,
		Reference:      j.capture.Reference,
		OrderLines:     j.capture.OrderLines,
		BeforeSend:     func() error { return a.sendable(h.Claim) },
	}
	return func(ctx context.Context) (klarna.CreatedOrder, error) {
		c, err := a.Klarna.CreateCapture(ctx, request)
		return klarna.CreatedOrder{OrderID: c.CaptureID, FraudStatus: statusAccepted, CorrelationID: c.CorrelationID, RateLimit: c.RateLimit}, err
	}
}

// The fraud statuses that decide.
const (
	statusAccepted = "ACCEPTED"
	statusRejected = "REJECTED"
)

// evaluated notes that Klarna's application spoke, and says when it did last. Captures go another way to it than charges:
// what one of them hears says nothing of the other.
func (a *account) evaluated(capture bool, err error) time.Time {
	last := &a.heardCharges
	if capture {
		last = &a.heardOrders
	}
	if class := klarna.ClassOf(err); class == klarna.ClassOK || class == klarna.ClassRefused {
		last.Store(a.now().UnixNano())
	}
	if at := last.Load(); at != 0 {
		return time.Unix(0, at).UTC()
	}
	return time.Time{}
}

// learn tells the account's limiter and breaker of a try. Where Klarna turned it
// away unread, it asks what that says of the account.
func (a *account) learn(told klarna.RateLimit, err error) condition {
	a.limiter.Learn(told, err)
	class := klarna.ClassOf(err)
	a.breaker.Hear(class)
	if class != klarna.ClassNotEvaluated {
		return unheard
	}
	return a.turnedAway()
}

func (a *account) asideOrder(ctx context.Context, id string) (klarna.Order, error) {
	return gate.Aside(ctx, a.limiter, func(ctx context.Context) (klarna.Order, klarna.RateLimit, error) {
		o, err := a.Klarna.Order(ctx, id)
		return o, o.RateLimit, err
	})
}

func (a *account) asideToken(ctx context.Context, j *job) (klarna.Token, error) {
	return gate.Aside(ctx, a.limiter, func(ctx context.Context) (klarna.Token, klarna.RateLimit, error) {
		t, err := a.Klarna.Token(ctx, klarna.NewCustomerToken(j.reading.Job.CustomerToken.Reveal()))
		return t, t.RateLimit, err
	})
}

// tokenTimeout bounds the look at a refused token. What it would tell is an extra.
const tokenTimeout = 2 * time.Second

// tokenStatus asks what Klarna says of a token whose order it refused because
// of the token; "" when that cannot be learned.
func (a *account) tokenStatus(j *job, t tally) string {
	if t.refusal == nil || j.capture != nil || !dunning.AboutToken(t.refusal.Code) {
		return ""
	}
	ctx, cancel := context.WithTimeout(a.finishing, min(tokenTimeout, a.opts.TryTimeout))
	defer cancel()
	token, err := a.asideToken(ctx, j)
	if err != nil {
		a.log.Debug().Err(err).Str("idempotency_key", string(j.request.Key)).Msg("token status not learned")
		return ""
	}
	return token.Status
}

// poll asks for the fraud status of an order that Klarna has made.
func (a *account) poll(j *job, orderID string) (accepted, final bool, err error) {
	order, err := a.Klarna.Order(a.finishing, orderID) // the turn is the delivery's, see myTurn
	a.limiter.Learn(order.RateLimit, err)
	if err != nil {
		return false, false, fmt.Errorf("get order: %w", err)
	}
	if o := j.request.Authorised; o != nil {
		o.CaptureBefore = expiry(order)
	}
	return order.FraudStatus == statusAccepted, order.FraudStatus == statusAccepted || order.FraudStatus == statusRejected, nil
}

// authorised is what an accepted order leaves to be captured, and until when; nil
// where that is automatic. Not to learn the time costs only the hint.
func (a *account) authorised(j *job, t tally) *Order {
	o := j.request.Authorised
	if o == nil || t.Answer != answerAccepted {
		return o
	}
	ctx, cancel := context.WithTimeout(a.finishing, min(tokenTimeout, a.opts.TryTimeout))
	defer cancel()
	order, err := a.asideOrder(ctx, t.order.OrderID)
	if err != nil {
		a.log.Debug().Err(err).Str("order_id", t.Made).Msg("end of the authorisation not learned")
		return o
	}
	o.CaptureBefore = expiry(order)
	return o
}

func expiry(o klarna.Order) time.Time {
	t, _ := time.Parse(time.RFC3339, o.ExpiresAt)
	return t.UTC()
}

// lookTimeout bounds the look at an order before a capture of it is claimed.
const lookTimeout = 10 * time.Second

// look asks how much of an order can be captured. Without an answer the job has
// to wait; ok is false then.
func (a *account) look(ctx context.Context, j *job, of *Order) (_ tally, ok bool) {
	j.orderID = of.ID
	if turn, _ := a.limiter.Wait(ctx, freshness); !turn {
		return tally{}, false
	}
	one, cancel := context.WithTimeout(a.finishing, lookTimeout)
	defer cancel()
	order, err := a.Klarna.Order(one, a.spelledOrder(one, j.renewalKey, of.ID))
	t := tally{}
	t.EvaluatedAt = a.evaluated(true, err)
	t.Canary = a.learn(order.RateLimit, err)
	f := found{Status: order.Status, Amount: order.OrderAmount, Remaining: order.RemainingAuthorizedAmount, CaptureBefore: expiry(order), Booked: of.Captured}
	if err != nil {
		if class := klarna.ClassOf(err); class != klarna.ClassRefused {
			t.NotEvaluated, t.LastError = class == klarna.ClassNotEvaluated, err.Error()
			errors.As(err, &t.turnedAway)
			a.log.Debug().Err(err).Str("order_id", of.ID).Msg("order not looked at")
			return t, false
		}
		errors.As(err, &t.refusal)
		f.Refused = true
	}
	j.request.Capture.Found = &f
	return t, true
}

// clock lets the backoff read the worker's clock.
type clock func() time.Time

func (c clock) Now() time.Time { return c() }

// sleep waits for d and says whether it did: not when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
