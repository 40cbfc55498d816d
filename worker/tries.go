package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// errLate stops a try whose lease or window would not outlast it. Nothing was sent.
var errLate = errors.New("the claim ends before a try could")

// sendable is asked with the connection in hand, before the first byte: a process
// that was frozen, or waited long for a connection, must find out here that its claim is no longer
// its own. A clock that was set, or stood still while the machine was suspended, cannot tell whose it is.
func (a *account) sendable(c journal.Claim) error {
	if a.clockFault() != "" || a.pauses.Has(pauseSetBack) || a.marks.Doubtful() || !c.Sendable(a.now(), a.rulesNow()) {
		return errLate
	}
	return nil
}

// ask tries to get from Klarna what the claim is for, again while that makes
// sense within this delivery: the same key and the same bytes every time.
func (a *account) ask(ctx context.Context, j *job, h journal.HeldClaim) journal.TryResult {
	t := journal.Untried(h)
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
		again := t.Hear(made, err, began, a.now(), a.rules)
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
func (a *account) charge(j *job, h journal.HeldClaim) func(context.Context) (klarna.CreatedOrder, error) {
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
func (a *account) capture(j *job, h journal.HeldClaim) func(context.Context) (klarna.CreatedOrder, error) {
	j.orderID = h.Claim.Capture.OrderID
	request := klarna.CreateCaptureRequest{
		OrderID:        a.journal.SpelledOrder(a.finishing, j.renewalKey, h.Claim.Capture.OrderID),
		IdempotencyKey: string(h.Claim.Key),
		CapturedAmount: h.Claim.Capture.Amount,
		Description:    j.capture.Description,
		Reference:      j.capture.Reference,
		OrderLines:     j.capture.OrderLines,
		BeforeSend:     func() error { return a.sendable(h.Claim) },
	}
	return func(ctx context.Context) (klarna.CreatedOrder, error) {
		c, err := a.Klarna.CreateCapture(ctx, request)
		return klarna.CreatedOrder{OrderID: c.CaptureID, FraudStatus: klarna.FraudAccepted, CorrelationID: c.CorrelationID, RateLimit: c.RateLimit}, err
	}
}

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
func (a *account) learn(told klarna.RateLimit, err error) journal.Canary {
	a.limiter.Observe(told, err)
	class := klarna.ClassOf(err)
	a.breaker.Observe(class)
	if class != klarna.ClassNotEvaluated {
		return journal.CanaryUnheard
	}
	return canaryTold[a.canary.TurnedAway(a.finishing)]
}

// canaryTold is what the canary found, in the journal's words.
var canaryTold = [...]journal.Canary{
	gate.Unheard: journal.CanaryUnheard, gate.Unwell: journal.CanaryUnwell, gate.Well: journal.CanaryWell, gate.WellKlarna: journal.CanaryWellKlarna,
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
func (a *account) tokenStatus(j *job, t journal.TryResult) string {
	if t.Refusal == nil || j.capture != nil || !dunning.AboutToken(t.Refusal.Code) {
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
	a.limiter.Observe(order.RateLimit, err)
	if err != nil {
		return false, false, fmt.Errorf("get order: %w", err)
	}
	if o := j.request.Authorised; o != nil {
		o.CaptureBefore = expiry(order)
	}
	return order.FraudStatus == klarna.FraudAccepted, order.FraudStatus == klarna.FraudAccepted || order.FraudStatus == klarna.FraudRejected, nil
}

// authorised is what an accepted order leaves to be captured, and until when; nil
// where that is automatic. Not to learn the time costs only the hint.
func (a *account) authorised(j *job, t journal.TryResult) *journal.Order {
	o := j.request.Authorised
	if o == nil || t.Answer != journal.Accepted {
		return o
	}
	ctx, cancel := context.WithTimeout(a.finishing, min(tokenTimeout, a.opts.TryTimeout))
	defer cancel()
	order, err := a.asideOrder(ctx, t.Order.OrderID)
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
func (a *account) look(ctx context.Context, j *job, of *journal.Order) (_ journal.TryResult, ok bool) {
	j.orderID = of.ID
	if turn, _ := a.limiter.Wait(ctx, gate.Freshness); !turn {
		return journal.TryResult{}, false
	}
	one, cancel := context.WithTimeout(a.finishing, lookTimeout)
	defer cancel()
	order, err := a.Klarna.Order(one, a.journal.SpelledOrder(one, j.renewalKey, of.ID))
	t := journal.TryResult{}
	t.EvaluatedAt = a.evaluated(true, err)
	t.Canary = a.learn(order.RateLimit, err)
	f := journal.OrderFound{Status: order.Status, Amount: order.OrderAmount, Remaining: order.RemainingAuthorizedAmount, CaptureBefore: expiry(order), Booked: of.Captured}
	if err != nil {
		if class := klarna.ClassOf(err); class != klarna.ClassRefused {
			t.NotEvaluated, t.LastError = class == klarna.ClassNotEvaluated, err.Error()
			if errors.As(err, &t.TurnedAway) {
				t.NoSuchOrder = t.NotEvaluated && t.TurnedAway.StatusCode == http.StatusNotFound
			}
			a.log.Debug().Err(err).Str("order_id", of.ID).Msg("order not looked at")
			return t, false
		}
		errors.As(err, &t.Refusal)
		f.Refused = true
		f.Refusal, _ = dunning.DecideRefused(t.Refusal.StatusCode, t.Refusal.Code, t.Refusal.FraudStatus)
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
