package gate

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/klarna-renewals/renewals/klarna"
)

// A Limiter is this worker's part of the rate that an account has at Klarna, where
// it is counted for all workers together.
// https://docs.klarna.com/api-reference/rate-limit/
type Limiter struct {
	limiter *rate.Limiter

	mu       sync.Mutex
	whole    float64 // requests/s of all workers; 0: unlimited
	told     float64 // what Klarna's headers say it is, when less
	workers  int
	closedTo time.Time // no request before then
	until    time.Time // what Klarna last said of it
	refused  bool      // it said so with a 429 that asks for patience, and has taken no request since
	refusals uint64    // how often it said so
}

const (
	// maxClosed is how long one answer may keep an account from asking again: a
	// number that is wrong, or meant for somebody else, would close it in silence for an hour.
	maxClosed = time.Minute
	// patience is a wait that an operator should see, and after which one request
	// asks for all whether it is over.
	patience = time.Second
)

// toldMargin keeps below the limit that Klarna's headers tell: its windows are
// not ours, and requests do not arrive as evenly as they leave.
const toldMargin = 0.95

// NewLimiter is for a rate of all workers together; 0 is unlimited.
func NewLimiter(requestsPerSecond float64) *Limiter {
	l := &Limiter{limiter: rate.NewLimiter(rate.Inf, 1), whole: requestsPerSecond, workers: 1}
	l.set()
	return l
}

// Share says how many workers the rate is for.
func (l *Limiter) Share(workers int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.workers = workers
	l.set()
}

// SharedBy is how many workers the rate is for, at least 1.
func (l *Limiter) SharedBy() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.workers
}

func (l *Limiter) set() {
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

// Rate is this worker's share in requests/s; 0: unlimited.
func (l *Limiter) Rate() float64 {
	if r := l.limiter.Limit(); r != rate.Inf {
		return float64(r)
	}
	return 0
}

// Observe slows down to what an answer says: told beside a nil err, or err itself. Any other error is no answer.
func (l *Limiter) Observe(told klarna.RateLimit, err error) {
	var retryAfter time.Duration
	if answered, ok := errors.AsType[*klarna.Error](err); ok {
		told, retryAfter = answered.RateLimit, answered.RetryAfter
	} else if err != nil {
		return
	}
	l.observe(told, klarna.ClassOf(err) == klarna.ClassRateLimited, retryAfter)
}

// observe slows down to what an answer says; limited is a 429.
func (l *Limiter) observe(r klarna.RateLimit, limited bool, retryAfter time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if r.Limit > 0 && float64(r.Limit) != l.told {
		l.told = float64(r.Limit)
		l.set()
	}
	switch {
	case limited:
		closed := min(max(retryAfter, 50*time.Millisecond), maxClosed)
		l.refused, l.closedTo = closed >= patience, now.Add(closed)
		l.until = l.closedTo
		l.refusals++
	case l.refused && now.Before(l.until): // an answer to what was asked before the 429
	case l.refused:
		l.refused, l.closedTo = false, now
	case r.Known && r.Remaining == 0 && r.Limit > 0:
		// Reset is in whole seconds: waiting for it would halve the rate. Two turns are enough for the
		// window to move on.
		l.closedTo = now.Add(min(time.Duration(2*l.workers*int(time.Second)/r.Limit), maxClosed))
	}
}

// Closed says until when Klarna asked to wait, where that is worth telling; "" while it takes requests.
func (l *Limiter) Closed() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.refused || time.Until(l.closedTo) <= 0 {
		return ""
	}
	return "Klarna takes no requests (429); it is asked again at " + l.closedTo.UTC().Format(time.TimeOnly) + " UTC"
}

// open waits until Klarna takes requests again. false: ctx ended.
func (l *Limiter) open(ctx context.Context) bool {
	for {
		l.mu.Lock()
		closed := time.Until(l.closedTo)
		l.mu.Unlock()
		if closed <= 0 {
			return ctx.Err() == nil
		}
		if !Sleep(ctx, closed) {
			return false
		}
	}
}

// turns is how many requests this worker may make within d, at least 1.
func (l *Limiter) turns(d time.Duration) int {
	l.mu.Lock()
	refused := l.refused
	l.mu.Unlock()
	r := l.limiter.Limit()
	switch {
	case refused:
		return 1
	case r == rate.Inf:
		return math.MaxInt
	}
	return max(1, int(float64(r)*d.Seconds()))
}

// Wait waits for this worker's turn, at most d. Where it would take longer, or
// ctx ends, it says how long it would have taken. A turn is lost where a 429 comes before it does.
func (l *Limiter) Wait(ctx context.Context, d time.Duration) (ok bool, longer time.Duration) {
	for {
		closed, wait, refusals := l.turn(d)
		pause := max(closed, wait)
		switch {
		case pause > d:
			return false, pause
		case pause > 0 && !Sleep(ctx, pause):
			return false, pause
		case closed <= 0 && (wait <= 0 || l.told429() == refusals):
			return true, wait
		}
		d -= pause
	}
}

// told429 is how many 429s there were so far.
func (l *Limiter) told429() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusals
}

// turn takes the next turn, unless Klarna said to wait, or the turn comes later
// than d: then none is taken, since one that is given back does not come back whole. refusals is how many 429s there were by then.
func (l *Limiter) turn(d time.Duration) (closed, wait time.Duration, refusals uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if closed = time.Until(l.closedTo); closed > 0 {
		return closed, 0, l.refusals
	}
	if r := l.limiter.Limit(); r != rate.Inf {
		wait = max(time.Duration((1-l.limiter.Tokens())/float64(r)*float64(time.Second)), 0)
	}
	if wait > d {
		return 0, wait, l.refusals
	}
	wait = max(wait, l.limiter.Reserve().Delay())
	if l.refused { // this one asks whether Klarna takes requests again; the others wait for what it is told
		l.closedTo = time.Now().Add(wait + patience)
	}
	return 0, wait, l.refusals
}

// ErrNoTurn is a question that was not asked, since the account's rate is needed for charges.
var ErrNoTurn = errors.New("no turn at Klarna soon enough")

// asideWait is how long a question beside the jobs waits for its turn. What it would tell is an extra.
const asideWait = 2 * time.Second

// Aside asks Klarna something beside the tries of a job. It counts against the
// account's rate like these; [ErrNoTurn] is one that has no turn soon enough and was not asked.
func Aside[T any](ctx context.Context, l *Limiter, ask func(context.Context) (T, klarna.RateLimit, error)) (answer T, err error) {
	if turn, _ := l.Wait(ctx, asideWait); !turn {
		return answer, ErrNoTurn
	}
	answer, told, err := ask(ctx)
	l.Observe(told, err)
	return answer, err
}
