package worker

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// canaryToken names no customer: tokens are random, and this is the UUID that is never made.
// https://www.rfc-editor.org/rfc/rfc9562#section-5.9
const canaryToken = "00000000-0000-0000-0000-000000000000"

const (
	// canaryTimeout bounds the canary: Klarna may be slow, but is then asked again.
	canaryTimeout = 10 * time.Second
	// canaryPause is how long the pauses between canaries grow.
	canaryPause = 30 * time.Second
	// canaryFresh is how long an answer to the canary serves others: many jobs may be turned away at once.
	canaryFresh = 3 * time.Second
)

// A canary is a question that changes nothing and is nobody's: the look at a token
// that cannot exist. A request that was turned away unread may have been so for its own sake, for
// one token, order or payload, or for the account's, for a password, a host or a firewall. The canary tells
// which: a customer's job, token or order never does.
type canary struct {
	mu     sync.Mutex
	asking chan struct{} // closed once the question under way is answered; nil: none is
	heard  journal.Canary
	at     time.Time
	again  chan struct{} // a person has mended something
}

func newCanary() canary { return canary{again: make(chan struct{}, 1)} }

// conditionOf reads the canary's answer: a 404 is what it has to be.
func conditionOf(err error) journal.Canary {
	if errors.Is(err, gate.ErrNoTurn) || errors.Is(err, context.Canceled) {
		return journal.CanaryUnheard
	}
	answered, ok := errors.AsType[*klarna.Error](err)
	switch {
	case !ok: // no answer; or a token where there is none, by somebody who says yes to everything
		return journal.CanaryUnwell
	case answered.StatusCode == http.StatusNotFound && answered.HasErrorObject:
		return journal.CanaryWellKlarna
	case answered.StatusCode == http.StatusNotFound:
		return journal.CanaryWell
	}
	switch klarna.ClassOf(err) {
	case klarna.ClassRateLimited:
		return journal.CanaryUnheard
	case klarna.ClassRefused:
		return journal.CanaryWell
	}
	return journal.CanaryUnwell
}

// ask sends the canary. It counts against the account's rate.
func (a *account) askCanary() journal.Canary {
	ctx, cancel := context.WithTimeout(a.finishing, min(canaryTimeout, a.opts.TryTimeout))
	defer cancel()
	_, err := gate.Aside(ctx, a.limiter, func(ctx context.Context) (klarna.Token, klarna.RateLimit, error) {
		t, err := a.Klarna.Token(ctx, klarna.NewCustomerToken(canaryToken))
		return t, t.RateLimit, err
	})
	heard := conditionOf(err)
	if !heard.Listens() {
		a.log.Debug().Err(err).Msg("the canary is not well")
	}
	return heard
}

// condition sends the canary, one for all who ask at the same time.
func (a *account) condition() journal.Canary {
	c := &a.canary
	for {
		c.mu.Lock()
		asking := c.asking
		if asking == nil && c.heard != journal.CanaryUnheard && time.Since(c.at) < canaryFresh {
			defer c.mu.Unlock()
			return c.heard
		}
		if asking == nil {
			c.asking = make(chan struct{})
			c.mu.Unlock()
			break
		}
		c.mu.Unlock()
		select {
		case <-asking:
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.heard
		case <-a.finishing.Done():
			return journal.CanaryUnheard
		}
	}
	heard := journal.CanaryUnheard
	defer func() { c.answer(heard) }()
	heard = a.askCanary()
	return heard
}

// answer tells everybody who waits what the canary said.
func (c *canary) answer(heard journal.Canary) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard, c.at = heard, time.Now()
	close(c.asking)
	c.asking = nil
}

// retry lets the next canary go at once.
func (c *canary) retry() {
	select {
	case c.again <- struct{}{}:
	default:
	}
}

// turnedAway asks whose trouble it is that Klarna did not read a request: where
// the canary is not well it is the account's, which then waits until the canary is.
func (a *account) turnedAway() journal.Canary {
	if a.breaker.PausedFor(gate.PauseNotEvaluated) {
		return journal.CanaryUnwell
	}
	heard := a.condition()
	if heard == journal.CanaryUnwell && a.breaker.Open(gate.PauseNotEvaluated, "Klarna turns requests away unread: check user name, password, endpoint and what stands between") && a.beside != nil {
		a.beside("canary", a.untilWell)
	}
	return heard
}

// untilWell sends the canary with growing pauses, and no job, until it is well.
func (a *account) untilWell(ctx context.Context) {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(canaryPause), backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.2), backoff.WithMaxElapsedTime(0))
	for a.breaker.PausedFor(gate.PauseNotEvaluated) {
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-a.canary.again:
			timer.Stop()
			pause.Reset()
		case <-timer.C:
		}
		if heard := a.askCanary(); heard.Listens() {
			a.canary.mu.Lock()
			a.canary.heard, a.canary.at = heard, time.Now()
			a.canary.mu.Unlock()
			a.breaker.Close(gate.PauseNotEvaluated)
		}
	}
}
