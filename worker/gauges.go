package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// lookEvery is how often the gauges that repeat the broker's numbers are set.
const lookEvery = 15 * time.Second

// forgetResolved is after how many looks, an hour, every renewal that ever was unresolved is visited again:
// what was read meanwhile may have come from a leader that was none any more.
const forgetResolved = 240

// gauges repeat the broker's numbers.
type gauges struct {
	js        jetstream.JetStream
	accounts  []messages.Account
	clock     *clock
	leading   *atomic.Bool // this worker sweeps
	keyWindow time.Duration
	metrics   *Metrics
	log       zerolog.Logger
}

// run keeps them. What costs the broker more than a glance is left to
// the worker that sweeps, and to one look in four.
func (g *gauges) run(ctx context.Context) {
	mine := map[messages.Account]bool{}
	for _, a := range g.accounts {
		mine[a] = true
	}
	led, known := false, journal.Resolved{}
	for n := 0; ; n++ {
		if n%forgetResolved == 0 {
			clear(known)
		}
		leads := g.leading.Load()
		if !leads {
			g.metrics.forget() // whoever leads now knows better
		}
		one, cancel := context.WithTimeout(ctx, lookEvery)
		o, err := desk.Glance(one, g.js, g.clock.now(), leads && (!led || n%4 == 0), known)
		cancel()
		led = leads
		if err == nil {
			g.metrics.gauge(o, mine, g.keyWindow)
		} else if ctx.Err() == nil {
			g.log.Debug().Err(err).Msg("gauges not set")
		}
		if !gate.Sleep(ctx, lookEvery) {
			return
		}
	}
}
