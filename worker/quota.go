package worker

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// quotaAgain is how long a worker that got no answer does not ask again.
const quotaAgain = 10 * time.Minute

// checkQuota pauses claiming where the broker is about to refuse records, before the first of them is one of Klarna's
// answers.
func (w *Worker) checkQuota(ctx context.Context) {
	if time.Now().Before(w.quotaNext) {
		return
	}
	quota, err := topology.ReadQuota(ctx, w.js)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
			w.quotaNext = time.Now().Add(quotaAgain)
		}
		w.opts.Log.Debug().Err(err).Msg("quota not known")
		return
	}
	w.metrics.quota.Set(quota.Share())
	switch full := quota.Full(); {
	case full:
		w.outage.Failed(journal.Writes, quota, true)
		w.quotaFull = true
	case w.quotaFull: // a worker without jobs has nothing to find it out with
		w.noticed(journal.Writes, nil)
		w.quotaFull = false
	}
	warning := quota.Warning()
	if warning != "" && !w.quotaTold {
		w.opts.Log.Warn().Msg(warning)
	}
	w.quotaTold = warning != ""
}
