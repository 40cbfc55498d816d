package worker

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// quotaAgain is how long a worker that got no answer does not ask again.
const quotaAgain = 10 * time.Minute

// A quotaWatch pauses claiming where the broker is about to refuse records, before the first of them is one of Klarna's
// answers.
type quotaWatch struct {
	js      jetstream.JetStream
	outage  *gate.Outage
	metrics *Metrics
	log     zerolog.Logger

	next time.Time // before then the quota is not asked for
	told bool      // in the log
	full bool      // when it was last asked for
}

func (w *quotaWatch) check(ctx context.Context) {
	if time.Now().Before(w.next) {
		return
	}
	quota, err := topology.ReadQuota(ctx, w.js)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
			w.next = time.Now().Add(quotaAgain)
		}
		w.log.Debug().Err(err).Msg("quota not known")
		return
	}
	w.metrics.quota.Set(quota.Share())
	switch full := quota.Full(); {
	case full:
		w.outage.Failed(journal.Writes, quota, true)
		w.full = true
	case w.full: // a worker without jobs has nothing to find it out with
		noticed(w.outage, journal.Writes, nil)
		w.full = false
	}
	warning := quota.Warning()
	if warning != "" && !w.told {
		w.log.Warn().Msg(warning)
	}
	w.told = warning != ""
}
