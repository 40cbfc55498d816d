package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// lookEvery is how often the gauges that repeat the broker's numbers are set.
const lookEvery = 15 * time.Second

// forgetResolved is after how many looks, an hour, every renewal that ever was unresolved is visited again:
// what was read meanwhile may have come from a leader that was none any more.
const forgetResolved = 240

// look keeps those gauges. What costs the broker more than a glance is left to
// the worker that sweeps, and to one look in four.
func (w *Worker) look(ctx context.Context) {
	mine := map[messages.Account]bool{}
	for _, a := range w.accounts {
		mine[a.Name] = true
	}
	led, known := false, journal.Resolved{}
	for n := 0; ; n++ {
		if n%forgetResolved == 0 {
			clear(known)
		}
		leads := w.leading.Load()
		if !leads {
			w.metrics.forget() // whoever leads now knows better
		}
		one, cancel := context.WithTimeout(ctx, lookEvery)
		o, err := desk.Glance(one, w.js, w.now(), leads && (!led || n%4 == 0), known)
		cancel()
		led = leads
		if err == nil {
			w.metrics.gauge(o, mine, w.opts.KeyWindow)
		} else if ctx.Err() == nil {
			w.opts.Log.Debug().Err(err).Msg("gauges not set")
		}
		if !sleep(ctx, lookEvery) {
			return
		}
	}
}

// setPause stops all claiming for a reason. It says whether the reason is new.
func (w *Worker) setPause(reason, sentence string) bool {
	for _, a := range w.accounts {
		w.metrics.paused.WithLabelValues(string(a.Name), reason).Set(1)
	}
	return w.pauses.Set(reason, sentence)
}

// liftPause takes a reason away. It says whether it was there.
func (w *Worker) liftPause(reason string) bool {
	for _, a := range w.accounts {
		w.metrics.paused.WithLabelValues(string(a.Name), reason).Set(0)
	}
	return w.pauses.Lift(reason)
}

// Ready says why the worker charges nothing; nil while it charges for at least
// one account.
func (w *Worker) Ready() error {
	if status := w.js.Conn().Status(); status != nats.CONNECTED {
		return fmt.Errorf("NATS: %s", strings.ToLower(status.String()))
	}
	running := w.running.Load()
	if running == nil {
		return errors.New("not started")
	}
	var why []string
	for reason, sentence := range w.pauses.Active() {
		why = append(why, reason+": "+sentence)
	}
	if len(why) > 0 {
		slices.Sort(why)
		return errors.New(strings.Join(why, "; "))
	}
	for _, a := range *running {
		paused := a.paused()
		if len(paused) == 0 {
			return nil
		}
		for reason, sentence := range paused {
			why = append(why, fmt.Sprintf("account %s: %s: %s", a.Name, reason, sentence))
		}
	}
	slices.Sort(why)
	return errors.New(strings.Join(why, "; "))
}

// verifyEvery is how often the settings that the promise rests on are checked
// while the worker runs.
const verifyEvery = time.Minute
