package worker

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/worker/gate"
)

// panicPause is between a panic and the next start of what panicked.
const panicPause = time.Second

// A survivor keeps a panic in one task from ending the worker.
type survivor struct {
	metrics *Metrics
	log     zerolog.Logger
}

// run runs what a worker does beside its jobs, again after a panic, until it
// returns or ctx ends: one odd record or answer ends no worker, let alone one after the other.
func (s survivor) run(ctx context.Context, task string, run func(context.Context)) {
	for s.caught(task, func() { run(ctx) }) && gate.Sleep(ctx, panicPause) {
	}
}

// caught says whether a part of a task panicked, after telling of it. The value
// may quote a job: only its type is logged.
func (s survivor) caught(task string, part func()) (panicked bool) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		panicked = true
		s.metrics.panics.WithLabelValues("").Inc()
		s.log.Error().Str("task", task).Str("panic", fmt.Sprintf("%T", p)).Bytes("stack", debug.Stack()).Msg("a task in the background panicked")
	}()
	part()
	return false
}
