package worker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// follow leaves an entry in news whenever something of this worker's was changed. A subject that it may not follow
// costs it the minute until it looks by itself.
func (w *Worker) follow(news chan struct{}) (stop func()) {
	mine := map[string]bool{}
	for _, a := range w.accounts {
		for name := range topology.Consumers(a.Name) {
			mine[name] = true
		}
	}
	var subs []*nats.Subscription
	for _, subject := range topology.Advisories {
		of := strings.HasSuffix(subject, ".*")
		sub, err := w.js.Conn().Subscribe(subject, func(m *nats.Msg) {
			if !of || mine[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]] {
				select {
				case news <- struct{}{}:
				default: // it has the news
				}
			}
		})
		if err != nil {
			w.opts.Log.Debug().Err(err).Str("subject", subject).Msg("changes are seen once a minute only")
			continue
		}
		subs = append(subs, sub)
	}
	return func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe()
		}
	}
}

// verifyGap is how long after a change the settings are looked at once more.
const verifyGap = 500 * time.Millisecond

// unansweredGap is how long after settings that could not be read the next look at them is.
const unansweredGap = 5 * time.Second

// guard stops claiming while a stream does not have the settings that the promise rests on, or an account while one of
// its consumers has not, until somebody has put them right. It looks first when the server surely tells of changes:
// what changed after the start's look and before that is told to nobody.
func (w *Worker) guard(ctx context.Context) {
	news := make(chan struct{}, 1)
	defer w.follow(news)()
	one, cancel := context.WithTimeout(ctx, journal.PublishTimeout)
	_ = w.js.Conn().FlushWithContext(one) // without an answer the look below gets none either, and comes again
	cancel()
	answered := w.checkAll(ctx)
	for {
		wait := w.verifyEvery
		if !answered {
			wait = min(wait, unansweredGap)
		}
		timer := time.NewTimer(wait)
		told := false
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-news:
			told = true
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		answered = w.checkAll(ctx)
		if told && sleep(ctx, verifyGap) { // the server may tell of a change before it answers by it
			answered = w.checkAll(ctx)
		}
	}
}

// checkAll says whether the server answered about everything.
func (w *Worker) checkAll(ctx context.Context) (answered bool) {
	answered = w.checkStreams(ctx)
	w.checkQuota(ctx)
	for _, a := range *w.running.Load() {
		answered = a.check(ctx) && answered
	}
	return answered
}

// checkStreams pauses everything while a stream or the bucket is not as it must be. It says whether it learned that.
func (w *Worker) checkStreams(ctx context.Context) (answered bool) {
	err := w.verify(ctx)
	var off *topology.Deviation
	switch {
	case err == nil:
		w.metrics.deviate("", nil)
		if w.liftPause(gate.PauseSettings) {
			w.opts.Log.Info().Msg("the streams are as they must be again: claiming goes on")
		}
	case errors.As(err, &off), topology.Missing(err):
		w.metrics.deviate("", err)
		if w.setPause(gate.PauseSettings, err.Error()) {
			w.opts.Log.Error().Err(err).Msg("nothing is claimed until this is put right")
		}
	default: // no answer says nothing about the settings
		w.opts.Log.Debug().Err(err).Msg("settings not verified")
		return false
	}
	return true
}

// verify checks the settings of the streams, and learns how long the journal remembers.
func (w *Worker) verify(ctx context.Context) error {
	found, err := topology.Inspect(ctx, w.js)
	w.noBucket.Store(found.Missing == topology.StreamWorkers)
	if err != nil {
		return err
	}
	w.metrics.few.Set(float64(len(found.Few)))
	if warnings := found.Warnings(); len(warnings) > 0 && !w.fewTold {
		w.opts.Log.Warn().Strs("streams", warnings).Msg("fewer copies than survive the loss of a machine")
		w.fewTold = true
	}
	if err := found.Err(); err != nil {
		return err
	}
	w.remember(w.now(), found.Retention)
	return nil
}

// remember learns how long ago a period may have fallen due whose charge the journal would know of. An age that somebody
// raises while the worker runs brings nothing back: the memory grows with the time from then on.
func (w *Worker) remember(now time.Time, retention time.Duration) {
	since := now.Add(-max(retention-topology.RetentionMargin, 0))
	if known := w.since.Load(); known != nil && known.After(since) {
		since = *known
	}
	w.since.Store(&since)
	w.oldest.Store(int64(now.Sub(since)))
}

// check pauses the account while one of its consumers is missing or not as it must be: nobody else's jobs wait for that.
// It says whether it learned that.
func (a *account) check(ctx context.Context) (answered bool) {
	for name, subject := range topology.Consumers(a.Name) {
		one, cancel := context.WithTimeout(ctx, journal.PublishTimeout)
		_, err := a.consumer(one, a.Name, name, subject)
		cancel()
		var off *topology.Deviation
		switch {
		case err == nil:
		case errors.As(err, &off), topology.Missing(err):
			a.hold(err)
			return true
		default:
			a.log.Debug().Err(err).Str("consumer", name).Msg("consumer not verified")
			return false
		}
	}
	a.metrics.deviate(a.Name, nil)
	if a.unfit.Lift(gate.PauseSettings) {
		a.pauseChanged(gate.PauseSettings, false, "")
	}
	if a.pauses.Has(gate.PauseSettings) {
		a.metrics.paused.WithLabelValues(string(a.Name), gate.PauseSettings).Set(1)
	}
	return true
}

// hold stops pulling for the account, probes included.
func (a *account) hold(err error) {
	a.metrics.deviate(a.Name, err)
	if a.unfit.Set(gate.PauseSettings, err.Error()) {
		a.pauseChanged(gate.PauseSettings, true, err.Error())
	} else {
		a.metrics.paused.WithLabelValues(string(a.Name), gate.PauseSettings).Set(1)
	}
}

// msgSize is what the server adds to a message of which it hands out the headers only.
const msgSize = "Nats-Msg-Size"

// hollow says that a job may have come without its body: its consumer was changed since it was last looked at. A
// publisher can write the header as well, so the consumer is asked.
func (a *account) hollow(ctx context.Context, d gate.Delivery) bool {
	if len(d.Msg.Data) > 0 || d.Msg.Header.Get(msgSize) == "" {
		return false
	}
	for name, subject := range topology.Consumers(a.Name) {
		one, cancel := context.WithTimeout(ctx, claimTimeout)
		config, err := a.consumer(one, a.Name, name, subject)
		cancel()
		if err != nil || config.HeadersOnly {
			a.check(ctx)
			return true
		}
	}
	return false
}

// setting is what an error is about, for the metric: a setting by name, or that something is missing.
func deviation(err error) (stream, consumer, setting string) {
	if off, ok := errors.AsType[*topology.Deviation](err); ok {
		return off.Stream, off.Consumer, off.Setting
	}
	return "", "", "missing"
}

// deviationOf is the series that tells of an account, or with "" of the streams.
type deviationOf struct{ stream, consumer, setting string }

// deviate sets the metric to what is off now; nil is nothing.
func (m *Metrics) deviate(account messages.Account, err error) {
	m.deviating.Lock()
	defer m.deviating.Unlock()
	var now deviationOf
	if err != nil {
		now.stream, now.consumer, now.setting = deviation(err)
		if now.stream == "" && account != "" {
			now.stream, now.consumer = messages.StreamJobs, topology.ConsumerName(account)
		}
	}
	was, there := m.deviations[account]
	if there && was != now {
		m.deviation.WithLabelValues(was.stream, was.consumer, was.setting).Set(0)
		delete(m.deviations, account)
	}
	if err != nil {
		m.deviations[account] = now
		m.deviation.WithLabelValues(now.stream, now.consumer, now.setting).Set(1)
	}
}
