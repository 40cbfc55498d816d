package gate

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
)

// CanaryToken names no customer: tokens are random, and this is the UUID that is never made.
// https://www.rfc-editor.org/rfc/rfc9562#section-5.9
const CanaryToken = "00000000-0000-0000-0000-000000000000"

const (
	// canaryTimeout bounds the canary: Klarna may be slow, but is then asked again.
	canaryTimeout = 10 * time.Second
	// canaryFresh is how long an answer to the canary serves others: many jobs may be turned away at once.
	canaryFresh = 3 * time.Second
)

// A Canary is a question that changes nothing and is nobody's: the look at a token
// that cannot exist. A request that was turned away unread may have been so for its own sake, for
// one token, order or payload, or for the account's, for a password, a host or a firewall. The canary tells
// which: a customer's job, token or order never does.
type Canary struct {
	client  *klarna.Client
	limiter *Limiter
	breaker *Breaker
	timeout time.Duration
	log     zerolog.Logger

	mu     sync.Mutex
	asking chan struct{} // closed once the question under way is answered; nil: none is
	heard  Condition
	at     time.Time

	unwell chan struct{} // one entry when the account was paused
	again  chan struct{} // one entry when a person has mended something
}

// NewCanary asks client, as part of the limiter's rate and for a try's timeout at most, and pauses by breaker.
func NewCanary(client *klarna.Client, limiter *Limiter, breaker *Breaker, timeout time.Duration, log zerolog.Logger) *Canary {
	return &Canary{
		client: client, limiter: limiter, breaker: breaker, timeout: min(canaryTimeout, timeout), log: log,
		unwell: make(chan struct{}, 1), again: make(chan struct{}, 1),
	}
}

// A Condition is what the canary tells of the way to Klarna.
type Condition uint8

// What the canary may tell.
const (
	Unheard    Condition = iota // not asked, or told to wait
	Unwell                      // nobody listens who would know of tokens
	Well                        // somebody listens who does not know the token
	WellKlarna                  // and it is Klarna's application, by the object that it sends
)

// listens says that the account's requests arrive.
func (c Condition) listens() bool { return c == Well || c == WellKlarna }

// ConditionOf reads the canary's answer: a 404 is what it has to be.
func ConditionOf(err error) Condition {
	if errors.Is(err, ErrNoTurn) || errors.Is(err, context.Canceled) {
		return Unheard
	}
	answered, ok := errors.AsType[*klarna.Error](err)
	switch {
	case !ok: // no answer; or a token where there is none, by somebody who says yes to everything
		return Unwell
	case answered.StatusCode == http.StatusNotFound && answered.HasErrorObject:
		return WellKlarna
	case answered.StatusCode == http.StatusNotFound:
		return Well
	}
	switch klarna.ClassOf(err) {
	case klarna.ClassRateLimited:
		return Unheard
	case klarna.ClassRefused:
		return Well
	}
	return Unwell
}

// TurnedAway asks whose trouble it is that Klarna did not read a request: where
// the canary is not well it is the account's, which then waits until the canary is, see [Canary.Run].
func (c *Canary) TurnedAway(ctx context.Context) Condition {
	if c.breaker.PausedFor(PauseNotEvaluated) {
		return Unwell
	}
	heard := c.condition(ctx)
	if heard == Unwell && c.breaker.Open(PauseNotEvaluated, "Klarna turns requests away unread: check user name, password, endpoint and what stands between") {
		signal(c.unwell)
	}
	return heard
}

// Retry lets the next canary go at once: somebody has changed something.
func (c *Canary) Retry() { signal(c.again) }

// Run ends the pauses that the canary began, until ctx ends.
func (c *Canary) Run(ctx context.Context) {
	for {
		c.untilWell(ctx)
		select {
		case <-ctx.Done():
			return
		case <-c.unwell:
		}
	}
}

// untilWell sends the canary with growing pauses, and no job, while the account is paused for it.
func (c *Canary) untilWell(ctx context.Context) {
	pause := newPause()
	for c.breaker.PausedFor(PauseNotEvaluated) {
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.again:
			timer.Stop()
			pause.Reset()
		case <-timer.C:
		}
		if heard := c.ask(ctx); heard.listens() {
			c.mu.Lock()
			c.heard, c.at = heard, time.Now()
			c.mu.Unlock()
			c.breaker.Close(PauseNotEvaluated)
		}
	}
}

// condition sends the canary, one for all who ask at the same time.
func (c *Canary) condition(ctx context.Context) Condition {
	for {
		c.mu.Lock()
		asking := c.asking
		if asking == nil && c.heard != Unheard && time.Since(c.at) < canaryFresh {
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
		case <-ctx.Done():
			return Unheard
		}
	}
	heard := Unheard
	defer func() { c.answer(heard) }()
	heard = c.ask(ctx)
	return heard
}

// answer tells everybody who waits what the canary said.
func (c *Canary) answer(heard Condition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard, c.at = heard, time.Now()
	close(c.asking)
	c.asking = nil
}

// ask sends the canary. It counts against the account's rate.
func (c *Canary) ask(ctx context.Context) Condition {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	_, err := Aside(ctx, c.limiter, func(ctx context.Context) (klarna.Token, klarna.RateLimit, error) {
		t, err := c.client.Token(ctx, klarna.NewCustomerToken(CanaryToken))
		return t, t.RateLimit, err
	})
	heard := ConditionOf(err)
	if !heard.listens() {
		c.log.Debug().Err(err).Msg("the canary is not well")
	}
	return heard
}
