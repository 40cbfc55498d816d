package worker

import (
	"context"
	"slices"
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

// mostNews is how many messages are read of RENEWAL_NEWS at a time: after a start it takes some looks to have read all.
const mostNews = 1000

// gauges repeat the broker's numbers.
type gauges struct {
	js        jetstream.JetStream
	accounts  []messages.Account
	clock     *clock
	leading   *atomic.Bool // this worker sweeps
	keyWindow time.Duration
	metrics   *Metrics
	log       zerolog.Logger

	breaks desk.Breaks
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
			if o.Deep {
				g.lookAtBreaks(ctx)
			}
		} else if ctx.Err() == nil {
			g.log.Debug().Err(err).Msg("gauges not set")
		}
		if !gate.Sleep(ctx, lookEvery) {
			return
		}
	}
}

// lookAtBreaks is apart from the rest, which is set even where this worker may not read the news: permissions of an earlier edition do
// not have them.
func (g *gauges) lookAtBreaks(ctx context.Context) {
	one, cancel := context.WithTimeout(ctx, lookEvery/3)
	defer cancel()
	if err := g.breaks.Read(one, g.js, mostNews); err == nil {
		g.metrics.gaugeBreaks(g.breaks.Open())
	} else if ctx.Err() == nil {
		g.log.Debug().Err(err).Msg("open breaks not counted")
	}
}

// brokenSeries is one of open breaks.
type brokenSeries struct {
	account messages.Account
	kind    messages.BreakKind
}

// kindOther stands for kinds that this edition does not know: labels are a closed set.
const kindOther messages.BreakKind = "other"

// gaugeBreaks sets the open breaks of all accounts. What is closed by now is 0.
func (m *Metrics) gaugeBreaks(open map[messages.Account]map[messages.BreakKind]int) {
	found := map[brokenSeries]int{}
	for account, kinds := range open {
		for kind, n := range kinds {
			if !slices.Contains(messages.BreakKinds(), kind) {
				kind = kindOther
			}
			s := brokenSeries{account, kind}
			found[s] += n
			m.broken[s] = true
		}
	}
	for s := range m.broken {
		m.breaks.WithLabelValues(string(s.account), string(s.kind)).Set(float64(found[s]))
	}
}
