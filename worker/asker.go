package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// An asker asks Klarna for an account's jobs.
type asker struct {
	account messages.Account
	klarna  *klarna.Client
	journal *journal.Journal // for ids that the state has only a hash of
	limiter *gate.Limiter
	breaker *gate.Breaker
	canary  *gate.Canary
	clock   *clock
	rules   *rulebook
	owners  *owners
	metrics *Metrics
	log     zerolog.Logger

	autoCaptures *autoCaptures

	// When Klarna's application last spoke, in ns since 1970; 0: not yet. Captures go another way to it than charges: what one
	// of them hears says nothing of the other.
	heardCharges, heardOrders *atomic.Int64

	// finishing ends when tries in flight may no longer finish.
	finishing context.Context
}

// ask gets from Klarna what the claim is for, as far as that goes within this delivery, and what the record of it needs.
// A job that was claimed ahead waits first until it may be sent; where the account has paused since it was its turn, it goes back.
// The permit is given back as soon as Klarna has answered: what follows, another job need not wait for.
func (a *asker) ask(ctx context.Context, j *job, h journal.HeldClaim, t *turn) journal.TryResult {
	if !t.permit.Send(ctx, sendPatience) || !t.probe && a.breaker.Paused() {
		t.permit.Release()
		unsent := journal.Untried(h)
		unsent.HandBack = true
		return unsent
	}
	began := a.clock.now()
	answer := a.tries(ctx, j, h, t.probe)
	t.permit.Release()
	a.metrics.charge.WithLabelValues(string(a.account)).Observe(a.clock.now().Sub(began).Seconds())
	answer.Authorised = a.authorised(j, answer)
	answer.TokenStatus = a.tokenStatus(j, answer)
	return answer
}

// sendPatience is how long a claim may wait for its permit, which was about to come free when it was written. Where Klarna
// has fallen silent meanwhile, the job goes back rather than spend its lease on waiting.
const sendPatience = time.Second

// tries asks again while that makes sense within this delivery: the same key and the same bytes every time.
func (a *asker) tries(ctx context.Context, j *job, h journal.HeldClaim, probe bool) journal.TryResult {
	t := journal.Untried(h)
	var pause *backoff.ExponentialBackOff
	deadline := a.clock.now().Add(a.rules.base.TryBudget)
	try := j.service.try(a, j, h.Claim)
	for {
		if ctx.Err() != nil || a.rules.sendable(h.Claim) != nil {
			t.HandBack = true
			return t
		}
		// A shutdown does not end a try under way: its answer may be an order.
		began := a.clock.now()
		created, err := try(a.finishing)
		created, err = a.own(j, h.Claim, created, err)
		again := t.Hear(created, err, began, a.clock.now(), a.rules.base)
		if errors.Is(err, errLate) {
			t.HandBack = true
			return t
		}
		a.metrics.tried(a.account, err)
		t.EvaluatedAt = a.evaluated(j.service, err)
		t.Canary = a.learn(created.RateLimit, err)
		a.judge(j, h, probe, &t)
		if !again || a.breaker.Paused() {
			return t
		}
		if pause == nil {
			pause = tryPause(a.clock)
		}
		wait := max(pause.NextBackOff(), t.RetryAfter)
		if a.clock.now().Add(wait).After(deadline) {
			return t
		}
		turn := gate.Sleep(ctx, wait)
		if turn {
			turn, _ = a.limiter.Wait(ctx, deadline.Sub(a.clock.now()))
		}
		if !turn {
			t.HandBack = ctx.Err() != nil
			return t
		}
		if a.breaker.Paused() { // while it waited
			return t
		}
	}
}

// tryPause is between two tries of a delivery.
func tryPause(c backoff.Clock) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(500*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(10*time.Second),
		backoff.WithMaxElapsedTime(0), // the budget counts the pause to come, too
		backoff.WithClockProvider(c),
	)
}

// own is the answer of a try, unless the order or the capture in it is another renewal's: then it is not known what
// became of this one, and Klarna is asked again under the same key. What is repeated for its own renewal is a replay.
func (a *asker) own(j *job, c journal.Claim, created journal.Created, err error) (journal.Created, error) {
	if err != nil || created.ID == "" {
		return created, err
	}
	id := journal.StateID(created.ID)
	if !a.owners.claim(id, j.service.owner(j, c)) {
		return created, nil
	}
	a.metrics.stray.WithLabelValues(string(a.account), strayShared).Inc()
	a.log.Error().Str("reason", strayShared).Str("order_id", id).Str("idempotency_key", string(c.Key)).Str("renewal_key", string(j.key)).
		Str("correlation_id", created.CorrelationID).Msg("Klarna named an order or a capture for a second renewal: it is no result, and Klarna is asked again; a person must look whose it is")
	a.klarna.CloseIdle() // another answer may wait on a connection
	return journal.Created{RateLimit: created.RateLimit}, &klarna.UnknownError{
		StatusCode: 200, CorrelationID: created.CorrelationID, Err: fmt.Errorf("order or capture %s is another renewal's", id),
	}
}

// judge asks what an answer says of the account's configuration. A refusal that
// comes on top of a run of them, under a claim that nothing else happened to, is put off as if Klarna had
// not been asked: the job is tried again when the account is. Refusals about an order are not of the account's making.
func (a *asker) judge(j *job, h journal.HeldClaim, probe bool, t *journal.TryResult) {
	switch t.Answer {
	case journal.NoAnswer:
		return
	case journal.Refused:
		if j.service.afterOrder {
			return
		}
		if t.Outcome.Refusal.FixBy != messages.FixByMerchant {
			break
		}
		if own := a.breaker.MerchantFault(j.fingerprint, a.limiter.SharedBy(), probe); !own && h.SetsClock {
			// Every try of the key was answered by a definite no: its clock need not run. Klarna may
			// repeat this one, so that the job is no good for a probe.
			t.Answer, t.Refusal, t.Unsent, t.RetryAfter = journal.NoAnswer, nil, true, gate.MerchantPause
		}
		return
	}
	a.breaker.MerchantProven()
}

// evaluated notes that Klarna's application spoke, and says when it did last.
func (a *asker) evaluated(s *service, err error) time.Time {
	last := a.heardCharges
	if s.afterOrder {
		last = a.heardOrders
	}
	if class := klarna.ClassOf(err); class == klarna.ClassOK || class == klarna.ClassRefused {
		last.Store(a.clock.now().UnixNano())
	}
	if at := last.Load(); at != 0 {
		return time.Unix(0, at).UTC()
	}
	return time.Time{}
}

// learn tells the account's limiter and breaker of a try. Where Klarna turned it
// away unread, it asks what that says of the account.
func (a *asker) learn(told klarna.RateLimit, err error) journal.Canary {
	a.limiter.Observe(told, err)
	class := klarna.ClassOf(err)
	a.breaker.Observe(err)
	if class != klarna.ClassNotEvaluated {
		return journal.CanaryUnheard
	}
	return canaryTold[a.canary.TurnedAway(a.finishing)]
}

// canaryTold is what the canary found, in the journal's words.
var canaryTold = [...]journal.Canary{
	gate.Unheard: journal.CanaryUnheard, gate.Unwell: journal.CanaryUnwell, gate.Well: journal.CanaryWell, gate.WellKlarna: journal.CanaryWellKlarna,
}

// extraTimeout bounds what is asked beside the tries of a job. What it would tell is an extra.
const extraTimeout = 2 * time.Second

// tokenStatus asks what Klarna says of a token whose order it refused because
// of the token; "" when that cannot be learned.
func (a *asker) tokenStatus(j *job, t journal.TryResult) string {
	if t.Refusal == nil || j.service.afterOrder || !dunning.AboutToken(t.Refusal.Code) {
		return ""
	}
	ctx, cancel := context.WithTimeout(a.finishing, min(extraTimeout, a.rules.base.TryTimeout))
	defer cancel()
	token, err := gate.Aside(ctx, a.limiter, func(ctx context.Context) (klarna.Token, klarna.RateLimit, error) {
		t, err := a.klarna.Token(ctx, klarna.NewCustomerToken(j.reading.Job.CustomerToken.Reveal()))
		return t, t.RateLimit, err
	})
	if err != nil {
		a.log.Debug().Err(err).Str("idempotency_key", string(j.request.Key)).Msg("token status not learned")
		return ""
	}
	return token.Status
}

// authorised is what an accepted order leaves to be captured, and until when; nil where Klarna was asked to capture it by
// itself and nobody has seen that it did not. Not to learn the time costs only the hint.
func (a *asker) authorised(j *job, t journal.TryResult) *journal.Order {
	asked := !j.service.afterOrder && j.request.Authorised == nil
	if t.Answer != journal.Accepted || j.service.afterOrder || asked && !a.autoCaptures.sample() {
		return j.request.Authorised
	}
	ctx, cancel := context.WithTimeout(a.finishing, min(extraTimeout, a.rules.base.TryTimeout))
	defer cancel()
	order, err := gate.Aside(ctx, a.limiter, func(ctx context.Context) (klarna.Order, klarna.RateLimit, error) {
		o, err := a.klarna.Order(ctx, t.Created.ID)
		return o, o.RateLimit, err
	})
	switch {
	case err != nil:
		a.log.Debug().Err(err).Str("order_id", t.Made).Msg("accepted order not looked at")
		return j.request.Authorised
	case asked:
		left := a.ignored(j, t.Made, found(order))
		if left == nil {
			return nil
		}
		o := asOrdered(j.reading.Facts)
		o.CaptureBefore, o.Captured = left.CaptureBefore, left.Captured
		return o
	}
	return until(j.request.Authorised, order)
}

// until is what an order leaves to be captured, with the end of its authorisation as Klarna tells it.
func until(authorised *journal.Order, order klarna.Order) *journal.Order {
	if authorised == nil {
		return nil
	}
	o := *authorised
	o.CaptureBefore = expiry(order)
	return &o
}

func expiry(o klarna.Order) time.Time {
	t, _ := time.Parse(time.RFC3339, o.ExpiresAt)
	return t.UTC()
}

// A fraudStatus is what Klarna says of an order that was pending.
type fraudStatus struct {
	orderID         string
	accepted, final bool
	authorised      *journal.Order // what the order leaves to be captured; nil where that is automatic
}

// fraudStatus asks what became of a pending order. Without an answer it is not final.
func (a *asker) fraudStatus(j *job, orderID string) fraudStatus {
	told := fraudStatus{orderID: a.journal.SpelledOrder(a.finishing, j.renewal, orderID), authorised: j.request.Authorised}
	order, err := a.klarna.Order(a.finishing, told.orderID) // the turn is the delivery's, see turns
	a.limiter.Observe(order.RateLimit, err)
	if err != nil {
		a.log.Warn().Err(fmt.Errorf("get order: %w", err)).Str("idempotency_key", string(j.request.Key)).Msg("fraud status not known yet")
		return told
	}
	told.authorised = until(told.authorised, order)
	told.accepted = order.FraudStatus == klarna.FraudAccepted
	told.final = told.accepted || order.FraudStatus == klarna.FraudRejected
	return told
}

// lookTimeout bounds the look at an order before a capture of it is claimed.
const lookTimeout = 10 * time.Second

// look asks how much of an order can be captured. Without an answer the job has
// to wait; ok is false then.
func (a *asker) look(ctx context.Context, j *job, of *journal.Order) (seen journal.OrderFound, t journal.TryResult, ok bool) {
	if turn, _ := a.limiter.Wait(ctx, gate.Freshness); !turn {
		return seen, t, false
	}
	one, cancel := context.WithTimeout(a.finishing, lookTimeout)
	defer cancel()
	order, err := a.klarna.Order(one, a.journal.SpelledOrder(one, j.renewal, of.ID))
	t.EvaluatedAt = a.evaluated(j.service, err)
	t.Canary = a.learn(order.RateLimit, err)
	seen = found(order)
	seen.Booked = of.Captured
	if err == nil {
		if of.Amount == 0 {
			a.ignored(j, of.ID, seen)
		}
		return seen, t, true
	}
	answered, _ := errors.AsType[*klarna.Error](err)
	if class := klarna.ClassOf(err); class != klarna.ClassRefused {
		t.NotEvaluated, t.LastError, t.TurnedAway = class == klarna.ClassNotEvaluated, err.Error(), answered
		t.NoSuchOrder = t.NotEvaluated && answered.StatusCode == http.StatusNotFound
		a.log.Debug().Err(err).Str("order_id", of.ID).Msg("order not looked at")
		return seen, t, false
	}
	t.Refusal, seen.Refused = answered, true
	seen.Refusal, _ = dunning.DecideRefused(answered.StatusCode, answered.Code, answered.FraudStatus)
	return seen, t, true
}
