package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/sony/gobreaker/v2"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/worker/gate"
)

const (
	// breakerRun is how many tries in a row must come to nothing before pulling stops.
	breakerRun = 10
	// longestPause is how long the pauses between probes grow.
	longestPause = 30 * time.Second
)

// A circuit stands between the jobs of an account and Klarna. While Klarna's
// answers say nothing it lets a single job through at a time, with growing pauses: the probe. Nobody is
// dunned meanwhile, no attempt is burnt and no key's clock started, since jobs that
// are not pulled are not claimed. While its requests are turned away unread not even
// that one goes, but the canary.
type circuit struct {
	pauses  gate.Pauses
	changed func(reason string, open bool, sentence string)
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]

	mu     sync.Mutex
	faults merchantFaults
	pause  *backoff.ExponentialBackOff
	resume time.Time     // when the next probe may go
	wake   chan struct{} // closed when something changed for whoever waits

	heard  atomic.Uint64 // tries, to know whether a probe came to one
	ticket atomic.Bool   // a probe may go
}

// newCircuit tells changed of every pause that begins or ends.
func newCircuit(changed func(reason string, open bool, sentence string)) *circuit {
	return &circuit{
		changed: changed, faults: merchantFaults{run: map[string]bool{}}, wake: make(chan struct{}),
		pause: backoff.NewExponentialBackOff(
			backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(longestPause), backoff.WithMultiplier(2),
			backoff.WithRandomizationFactor(0.2), backoff.WithMaxElapsedTime(0)),
		breaker: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:     time.Millisecond, // when a probe may go is decided by pause
			ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerRun },
		}),
	}
}

// changes is closed at the next change. Whoever waits takes it before looking.
func (c *circuit) changes() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wake
}

// signal wakes everybody who waits.
func (c *circuit) signal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.wake)
	c.wake = make(chan struct{})
}

// probe waits until a probe may go or nothing is paused any more. false: ctx ended.
// A probe that may go and has found no job is anybody's: one consumer may be empty and another not.
func (c *circuit) probe(ctx context.Context) bool {
	for {
		changes := c.changes()
		if !c.pauses.Any() {
			return ctx.Err() == nil
		}
		if c.pauses.Has(gate.PauseNotEvaluated) {
			select {
			case <-ctx.Done():
				return false
			case <-changes:
			}
			continue
		}
		c.mu.Lock()
		wait := time.Until(c.resume)
		may := wait <= 0 || c.ticket.Load()
		if may && !c.ticket.Swap(true) {
			c.resume = time.Now().Add(c.pause.NextBackOff())
		}
		c.mu.Unlock()
		if may {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-changes:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// admit says whether a job may be charged: any while nothing is paused, else
// only the probe. What was asked for before the pause began still arrives and goes back.
func (c *circuit) admit() bool {
	return !c.pauses.Any() || !c.pauses.Has(gate.PauseNotEvaluated) && c.ticket.CompareAndSwap(true, false)
}

// retry lets the next probe go at once: somebody has changed something.
func (c *circuit) retry() {
	c.mu.Lock()
	c.pause.Reset()
	c.resume = time.Time{}
	c.mu.Unlock()
	c.signal()
}

// handled is told of every job once it is done with, and how many tries there
// had been before: a probe that had nothing to ask is followed by the next at once.
func (c *circuit) handled(before uint64) {
	if c.heard.Load() != before || !c.pauses.Any() {
		return
	}
	c.mu.Lock()
	c.resume = time.Time{}
	c.mu.Unlock()
	c.signal()
}

// hear takes in what a try of a job came to.
func (c *circuit) hear(class klarna.Class) {
	c.heard.Add(1)
	switch class {
	case klarna.ClassNotEvaluated:
		// The canary tells what that means.
	case klarna.ClassRateLimited:
		// Klarna works, and says how fast.
	case klarna.ClassOK, klarna.ClassRefused:
		c.count(nil)
	default:
		c.count(errNothing)
	}
}

var errNothing = errors.New("came to nothing")

// count feeds the breaker.
func (c *circuit) count(failure error) {
	if done, err := c.breaker.Allow(); err == nil {
		done(failure)
	}
	switch {
	case failure == nil:
		c.close(gate.PauseBreaker)
	case c.breaker.State() != gobreaker.StateClosed:
		c.open(gate.PauseBreaker, "a run of timeouts and errors that decide nothing")
	}
}

// open pauses the account. It says whether the reason is new.
func (c *circuit) open(reason, sentence string) bool {
	if !c.pauses.Set(reason, sentence) {
		return false
	}
	c.ticket.Store(false) // of an earlier pause
	c.mu.Lock()
	if reason == gate.PauseRefusedByConfig {
		c.pause.MaxInterval = merchantPause
	}
	c.resume = time.Now().Add(c.pause.NextBackOff())
	c.mu.Unlock()
	c.changed(reason, true, sentence)
	c.signal()
	return true
}

func (c *circuit) close(reason string) {
	if !c.pauses.Lift(reason) {
		return
	}
	if reason == gate.PauseRefusedByConfig {
		c.mu.Lock()
		c.pause.MaxInterval = longestPause
		c.mu.Unlock()
	}
	c.changed(reason, false, "")
	c.retry()
}
