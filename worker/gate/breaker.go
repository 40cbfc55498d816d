package gate

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/sony/gobreaker/v2"

	"github.com/klarna-renewals/renewals/klarna"
)

// breakerRun is how many tries in a row must come to nothing before pulling stops.
const breakerRun = 10

// A Breaker stands between the jobs of an account and Klarna. While Klarna's
// answers say nothing it lets a single job through at a time, with growing pauses: the probe. Nobody is
// dunned meanwhile, no attempt is burnt and no key's clock started, since jobs that
// are not pulled are not claimed. While its requests are turned away unread not even
// that one goes, but the canary.
type Breaker struct {
	pauses  Pauses
	changed func(reason string, open bool, sentence string)
	run     *gobreaker.TwoStepCircuitBreaker[struct{}]

	mu     sync.Mutex
	faults merchantFaults
	pause  *backoff.ExponentialBackOff
	resume time.Time     // when the next probe may go
	wake   chan struct{} // closed when something changed for whoever waits

	tries  atomic.Uint64 // so far, to know whether a probe came to one
	ticket atomic.Bool   // a probe may go
}

// NewBreaker tells changed of every pause that begins or ends.
func NewBreaker(changed func(reason string, open bool, sentence string)) *Breaker {
	return &Breaker{
		changed: changed, faults: merchantFaults{tokens: map[string]bool{}}, wake: make(chan struct{}),
		pause: newPause(),
		run: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:     time.Millisecond, // when a probe may go is decided by pause
			ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerRun },
		}),
	}
}

// Paused says whether there is a reason to charge nothing.
func (b *Breaker) Paused() bool { return b.pauses.Any() }

// PausedFor says whether this reason is there.
func (b *Breaker) PausedFor(reason string) bool { return b.pauses.Has(reason) }

// Reasons are those there are, each with a sentence for the operator.
func (b *Breaker) Reasons() map[string]string { return b.pauses.Active() }

// Tries is how many tries it has observed, for [Breaker.Handled].
func (b *Breaker) Tries() uint64 { return b.tries.Load() }

// changes is closed at the next change. Whoever waits takes it before looking.
func (b *Breaker) changes() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wake
}

// wakeAll wakes everybody who waits.
func (b *Breaker) wakeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.wake)
	b.wake = make(chan struct{})
}

// probe waits until a probe may go or nothing is paused any more. false: ctx ended.
// A probe that may go and has found no job is anybody's: one consumer may be empty and another not.
func (b *Breaker) probe(ctx context.Context) bool {
	for {
		changes := b.changes()
		if !b.pauses.Any() {
			return ctx.Err() == nil
		}
		if b.pauses.Has(PauseNotEvaluated) {
			select {
			case <-ctx.Done():
				return false
			case <-changes:
			}
			continue
		}
		b.mu.Lock()
		wait := time.Until(b.resume)
		may := wait <= 0 || b.ticket.Load()
		if may && !b.ticket.Swap(true) {
			b.resume = time.Now().Add(b.pause.NextBackOff())
		}
		b.mu.Unlock()
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

// Admit says whether a job may be charged: any while nothing is paused, else
// only the probe. What was asked for before the pause began still arrives and goes back.
func (b *Breaker) Admit() (probe, ok bool) {
	if !b.pauses.Any() {
		return false, true
	}
	probe = !b.pauses.Has(PauseNotEvaluated) && b.ticket.CompareAndSwap(true, false)
	return probe, probe
}

// Retry lets the next probe go at once: somebody has changed something.
func (b *Breaker) Retry() {
	b.mu.Lock()
	b.pause.Reset()
	b.resume = time.Time{}
	b.mu.Unlock()
	b.wakeAll()
}

// Handled is told of every job once it is done with, and how many tries there
// had been before: a probe that had nothing to ask is followed by the next at once.
func (b *Breaker) Handled(before uint64) {
	if b.tries.Load() != before || !b.pauses.Any() {
		return
	}
	b.mu.Lock()
	b.resume = time.Time{}
	b.mu.Unlock()
	b.wakeAll()
}

// Observe takes in what a try of a job came to.
func (b *Breaker) Observe(err error) {
	b.tries.Add(1)
	switch klarna.ClassOf(err) {
	case klarna.ClassNotEvaluated:
		// The canary tells what that means.
	case klarna.ClassRateLimited:
		// Klarna works, and says how fast.
	case klarna.ClassOK, klarna.ClassRefused:
		b.count(nil)
	default:
		b.count(err)
	}
}

// count feeds the breaker: nil where a try decided something.
func (b *Breaker) count(failure error) {
	if done, err := b.run.Allow(); err == nil {
		done(failure)
	}
	switch {
	case failure == nil:
		b.Close(PauseBreaker)
	case b.run.State() != gobreaker.StateClosed:
		b.Open(PauseBreaker, "a run of timeouts and errors that decide nothing, the last one: "+brief(failure))
	}
}

// mostSaid is how long an error may be in a sentence that workers tell each other.
const mostSaid = 300 // bytes

// brief is an error of package klarna, which holds no secret, but what Klarna has to say may be long.
func brief(err error) string {
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), mostSaid)], "")
}

// Open pauses the account. It says whether the reason is new.
func (b *Breaker) Open(reason, sentence string) bool {
	if !b.pauses.Set(reason, sentence) {
		return false
	}
	b.ticket.Store(false) // of an earlier pause
	b.mu.Lock()
	if reason == PauseRefusedByConfig {
		b.pause.MaxInterval = MerchantPause
	}
	b.resume = time.Now().Add(b.pause.NextBackOff())
	b.mu.Unlock()
	b.changed(reason, true, sentence)
	b.wakeAll()
	return true
}

// Close ends a pause: the next probe may go at once.
func (b *Breaker) Close(reason string) {
	if !b.pauses.Lift(reason) {
		return
	}
	if reason == PauseRefusedByConfig {
		b.mu.Lock()
		b.pause.MaxInterval = longestPause
		b.mu.Unlock()
	}
	b.changed(reason, false, "")
	b.Retry()
}

// MerchantProven notes an answer that depends on the customer: the account is configured well.
func (b *Breaker) MerchantProven() {
	b.mu.Lock()
	b.faults.prove()
	b.mu.Unlock()
	b.Close(PauseRefusedByConfig)
}

// MerchantFault notes a refusal of a token that only the merchant can mend, at one of so many workers. It
// says whether it is the token's own: one too many in a row, of a job that was
// under way already when the account paused, is not.
func (b *Breaker) MerchantFault(token string, workers int, probe bool) (own bool) {
	b.mu.Lock()
	counted, full := b.faults.count(token, workers)
	b.mu.Unlock()
	if full {
		b.Open(PauseRefusedByConfig,
			"Klarna refuses one token after the other for something that only the merchant can mend: check merchant ID, API key and endpoint")
	}
	return counted || probe
}

// Places is how many charges may be in flight here while so many workers share the account.
func (b *Breaker) Places(workers int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.faults.places(workers)
}
