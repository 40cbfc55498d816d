package worker

import (
	"context"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/klarna-renewals/renewals/klarna"
)

// limit is this worker's part of the rate that an account has at Klarna, where
// it is counted for all workers together.
// https://docs.klarna.com/api-reference/rate-limit/
type limit struct {
	limiter *rate.Limiter

	mu       sync.Mutex
	whole    float64 // requests/s of all workers; 0: unlimited
	told     float64 // what Klarna's headers say it is, when less
	workers  int
	closedTo time.Time // Klarna said: not before then
}

// toldMargin keeps below the limit that Klarna's headers tell: its windows are
// not ours, and requests do not arrive as evenly as they leave.
const toldMargin = 0.95

func newLimit(requestsPerSecond float64) *limit {
	l := &limit{limiter: rate.NewLimiter(rate.Inf, 1), whole: requestsPerSecond, workers: 1}
	l.set()
	return l
}

// share says how many workers the rate is for.
func (l *limit) share(workers int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.workers = workers
	l.set()
}

func (l *limit) set() {
	r := l.whole
	if safe := l.told * toldMargin; safe > 0 && (r == 0 || safe < r) {
		r = safe
	}
	share := rate.Inf
	if r > 0 {
		share = rate.Limit(r / float64(l.workers))
	}
	if l.limiter.Limit() != share {
		l.limiter.SetLimit(share)
	}
}

// rate is this worker's share in requests/s; 0: unlimited.
func (l *limit) rate() float64 {
	if r := l.limiter.Limit(); r != rate.Inf {
		return float64(r)
	}
	return 0
}

// hear slows down to what an answer says.
func (l *limit) hear(r klarna.RateLimit, limited bool, retryAfter time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if r.Limit > 0 && float64(r.Limit) != l.told {
		l.told = float64(r.Limit)
		l.set()
	}
	switch {
	case limited:
		l.closedTo = now.Add(max(retryAfter, 50*time.Millisecond))
	case r.Known && r.Remaining == 0 && r.Limit > 0:
		// Reset is in whole seconds: waiting for it would halve the rate. Two turns are enough for the
		// window to move on.
		l.closedTo = now.Add(time.Duration(2 * l.workers * int(time.Second) / r.Limit))
	}
}

// open waits until Klarna takes requests again. false: ctx ended.
func (l *limit) open(ctx context.Context) bool {
	for {
		l.mu.Lock()
		closed := time.Until(l.closedTo)
		l.mu.Unlock()
		if closed <= 0 {
			return ctx.Err() == nil
		}
		if !sleep(ctx, closed) {
			return false
		}
	}
}

// turns is how many requests this worker may make within d, at least 1.
func (l *limit) turns(d time.Duration) int {
	r := l.limiter.Limit()
	if r == rate.Inf {
		return math.MaxInt
	}
	return max(1, int(float64(r)*d.Seconds()))
}

// wait waits for this worker's turn, at most d. Where it would take longer, or
// ctx ends, it says how long it would have taken.
func (l *limit) wait(ctx context.Context, d time.Duration) (ok bool, longer time.Duration) {
	l.mu.Lock()
	wait := max(time.Until(l.closedTo), 0)
	if r := l.limiter.Limit(); r != rate.Inf {
		// A turn that is taken and given back does not come back whole, so none is taken that comes too late.
		wait = max(wait, time.Duration((1-l.limiter.Tokens())/float64(r)*float64(time.Second)))
	}
	if wait > d {
		l.mu.Unlock()
		return false, wait
	}
	wait = max(wait, l.limiter.Reserve().Delay())
	l.mu.Unlock()
	return wait <= 0 || sleep(ctx, wait), wait
}
