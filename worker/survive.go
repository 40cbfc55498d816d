package worker

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// panicPause is between a panic and the next start of what panicked.
const panicPause = time.Second

// survive runs what a worker does beside its jobs, again after a panic, until it
// returns or ctx ends: one odd record or answer ends no worker, let alone one after the other.
func (w *Worker) survive(ctx context.Context, task string, run func(context.Context)) {
	for w.caught(task, func() { run(ctx) }) && sleep(ctx, panicPause) {
	}
}

// caught says whether a part of a task panicked, after telling of it. The value
// may quote a job: only its type is logged.
func (w *Worker) caught(task string, part func()) (panicked bool) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		panicked = true
		w.metrics.panics.WithLabelValues("").Inc()
		w.opts.Log.Error().Str("task", task).Str("panic", fmt.Sprintf("%T", p)).Bytes("stack", debug.Stack()).Msg("a task in the background panicked")
	}()
	part()
	return false
}
