package worker

import (
	"context"
	"time"

	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// turns say whether a job may be claimed here and now.
type turns struct {
	limiter *gate.Limiter
	breaker *gate.Breaker
	unfit   *gate.Pauses // for the account's own consumers' sake
	pauses  *pausing
	outage  *gate.Outage
	marks   *journal.Marks
	clock   *clock
}

// A turn is the right to claim a job and to ask Klarna for it.
type turn struct {
	permit gate.Permit
	probe  bool // it asks for all whether Klarna listens to the account again
}

// take waits for a permit and for the account's rate, before the claim: a lease is not spent on waiting. Where it is not
// the job's turn, wait is after how long anybody may try.
func (t *turns) take(ctx context.Context, s *gate.Semaphore, received time.Time) (mine *turn, wait time.Duration, ok bool) {
	left := func() time.Duration { return gate.Freshness - t.clock.now().Sub(received) }
	paused := t.breaker.Paused() // then this is the probe
	mine = &turn{probe: paused}
	if ctx.Err() != nil || left() <= 0 {
		return mine, 0, false
	}
	if mine.permit, ok = s.Acquire(ctx, left()); !ok || ctx.Err() != nil {
		return mine, 0, false
	}
	if t.breaker.PausedFor(gate.PauseNotEvaluated) || t.marks.Doubtful() || t.unfit.Any() || !t.outage.Admit() || !paused && t.breaker.Paused() {
		return mine, time.Second, false
	}
	if s.InUse() > t.breaker.Places(t.limiter.SharedBy()) { // it came before the run of refusals did
		return mine, time.Second, false
	}
	ok, wait = t.limiter.Wait(ctx, left())
	if ctx.Err() != nil {
		wait = 0
	}
	if ok {
		mine.permit.Begin()
	}
	return mine, wait, ok
}
