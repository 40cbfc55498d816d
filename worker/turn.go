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

// take waits for a permit and for the account's rate, before the claim: a lease is not spent on waiting. What has paused the account, or
// all of them, meanwhile holds for the job as well. Where it is not its turn, wait is after how long anybody may try.
func (t *turns) take(ctx context.Context, d gate.Delivery) (mine *turn, wait time.Duration, ok bool) {
	left := func() time.Duration { return gate.Freshness - t.clock.now().Sub(d.Received) }
	mine = &turn{probe: d.Probe}
	if ctx.Err() != nil || left() <= 0 {
		return mine, 0, false
	}
	if mine.permit, ok = d.Semaphore.Acquire(ctx, left()); !ok || ctx.Err() != nil {
		return mine, 0, false
	}
	if ok, wait = t.limiter.Wait(ctx, left()); ctx.Err() != nil {
		return mine, 0, false
	}
	if !ok {
		return mine, wait, false
	}
	if t.breaker.PausedFor(gate.PauseNotEvaluated) || t.marks.Doubtful() || t.unfit.Any() || !t.outage.Admit() || !d.Probe && t.breaker.Paused() {
		return mine, time.Second, false
	}
	if d.Semaphore.InUse() > t.breaker.Places(t.limiter.SharedBy()) { // it came before the run of refusals did
		return mine, time.Second, false
	}
	mine.permit.Begin()
	return mine, wait, true
}
