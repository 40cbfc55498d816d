// Package worker charges due renewals: it takes jobs from JetStream, claims
// each renewal in the journal, asks Klarna, records what became of it, and only
// then acknowledges the job.
//
// The promise: a subscription period is charged at most once, every job ends in
// exactly one recorded result, and what is not known is never announced. It rests on two
// things alone: every record is written by compare-and-set on the last record of its renewal
// ([journal.Journal.Apply]), and every request for a renewal's attempt carries the same
// idempotency key and the same bytes. Nothing is kept in memory that a restart may not lose; any
// number of workers may run, and any may die at any instruction.
//
// Read handler.handle to follow the money, and package journal for the rules.
package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// Worker charges the due renewals of its accounts.
type Worker struct {
	js       jetstream.JetStream
	opts     Options
	log      zerolog.Logger
	metrics  *Metrics
	accounts []messages.Account
	pauses   *pausing     // of all accounts
	outage   *gate.Outage // of the broker
	clock    *clock
	memory   *memory
	batches  *journal.Batches
	settings *settingsWatch
	marks    *journal.Marks // of the journal; set once before anything is claimed
	restored atomic.Int64   // see rulebook

	leading  atomic.Bool                              // this worker sweeps
	expiring atomic.Pointer[map[messages.Account]int] // what it then found
	running  atomic.Pointer[[]*account]

	sweepEvery, markEvery time.Duration
}

// New checks the settings; the error names the first that is off.
func New(js jetstream.JetStream, o Options) (*Worker, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	w := &Worker{
		js: js, opts: o, log: o.Log, metrics: o.Metrics, memory: new(memory),
		sweepEvery: sweepEvery, markEvery: journal.MarkEvery,
	}
	for _, a := range o.Accounts {
		w.accounts = append(w.accounts, a.Name)
		w.metrics.start(a.Name)
	}
	w.pauses = &pausing{accounts: w.accounts, metrics: w.metrics}
	w.outage = newOutage(w.pauses, w.log)
	w.batches = journal.NewBatches(o.Batching, w.metrics.committed)
	w.clock = &clock{wall: o.Now, monotonic: o.Monotonic, pauses: w.pauses, log: w.log, away: away(js)}
	w.settings = &settingsWatch{
		js: js, every: verifyEvery, clock: w.clock, memory: w.memory, batches: w.batches, pauses: w.pauses, metrics: w.metrics, log: w.log,
		quota: &quotaWatch{js: js, outage: w.outage, metrics: w.metrics, log: w.log},
	}
	return w, nil
}

// Run charges renewals until ctx ends, then hands back what has not started, lets
// the tries in flight finish within the shutdown timeout, records them, and
// returns nil. Any other return is an error that a restart will not heal, such as a missing stream.
func (w *Worker) Run(ctx context.Context) error {
	w.marks = journal.NewMarks(w.js, w.log, w.markEvery)
	setBack := &setBackWatch{marks: w.marks, pauses: w.pauses, restored: &w.restored, log: w.log}
	setBack.watch()
	records, bucket, err := w.open(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	stopping, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	finishing, recording, end := w.grace(stopping)
	defer end()

	s := w.shared(records, finishing, recording)
	accounts, err := w.bind(ctx, s)
	if err != nil || ctx.Err() != nil {
		return err
	}
	w.running.Store(&accounts)
	defer w.running.Store(nil)
	defer s.hands.Close() // all jobs are handled then
	w.settings.accounts = accounts
	w.pauses.set(gate.PauseClock, notCompared+" yet")

	var running sync.WaitGroup
	for task, run := range map[string]func(context.Context){
		"settings": w.settings.run,
		"marks":    func(ctx context.Context) { w.marks.Run(ctx, setBack.unchecked) },
		"gauges":   w.gauges().run,
		"presence": w.presence(s, bucket, accounts).run,
		"sweeper":  w.sweeper(s, bucket).run,
		"overdue":  (&overdue{js: w.js, accounts: w.accounts, clock: w.clock, log: w.log, moments: map[string]time.Time{}}).run,
	} {
		running.Go(func() { s.survivor.run(stopping, task, run) })
	}
	for _, a := range accounts {
		running.Go(func() {
			if err := a.run(stopping); err != nil {
				stop(err)
			}
		})
	}
	running.Wait()
	if cause := context.Cause(stopping); cause != nil && ctx.Err() == nil {
		return cause
	}
	return nil
}

// open verifies the streams and opens the journal and the workers' bucket.
func (w *Worker) open(ctx context.Context) (records *journal.Journal, bucket jetstream.KeyValue, err error) {
	err = w.untilAnswered(ctx, func(ctx context.Context) error {
		if err := w.settings.verify(ctx); err != nil {
			return err
		}
		opened, err := journal.Open(ctx, w.js, w.log)
		if err != nil {
			return err
		}
		records = opened.Observed(w.marks, w.batches, w.metrics.republish.WithLabelValues(messages.StreamJournal).Inc, func(part string, err error) { noticed(w.outage, part, err) })
		if bucket, err = w.js.KeyValue(ctx, topology.BucketWorkers); err != nil {
			return fmt.Errorf("bucket %s: %w%s", topology.BucketWorkers, err, topology.Hint(err))
		}
		return advised(w.marks.Look(ctx))
	})
	return records, bucket, err
}

// shared is what the accounts work with.
func (w *Worker) shared(records *journal.Journal, finishing, recording context.Context) *shared {
	return &shared{
		js: w.js, timing: w.opts.timing(), clock: w.clock, pauses: w.pauses, outage: w.outage, marks: w.marks, journal: records, memory: w.memory,
		fill: &fill{metrics: w.metrics}, waker: newWaker(func(subject string, data []byte) error { return w.js.Conn().Publish(subject, data) }), metrics: w.metrics, restored: &w.restored, survivor: survivor{metrics: w.metrics, log: w.log},
		finishing: finishing, recording: recording, pullers: len(w.opts.Accounts) * len(topology.Consumers("")),
	}
}

// grace makes the contexts that outlast stopping: tries in flight may finish for the shutdown timeout, and what they taught may be
// recorded for a little longer. end ends both.
func (w *Worker) grace(stopping context.Context) (finishing, recording context.Context, end func()) {
	finishing, endTries := context.WithCancel(context.WithoutCancel(stopping))
	recording, endRecords := context.WithCancel(context.WithoutCancel(stopping))
	var ending sync.WaitGroup
	ending.Go(func() {
		select {
		case <-recording.Done():
		case <-stopping.Done():
			gate.Sleep(recording, w.opts.ShutdownTimeout)
			endTries()
			gate.Sleep(recording, recordGrace)
			endRecords()
		}
	})
	return finishing, recording, func() { endRecords(); endTries(); ending.Wait() }
}

// bind makes the accounts and reads their consumers. Where none is fit to work there is nothing to do but to wait for a
// person: the error is that of the first.
func (w *Worker) bind(ctx context.Context, s *shared) ([]*account, error) {
	accounts := make([]*account, len(w.opts.Accounts))
	listed := w.settings.list(ctx, len(accounts))
	fit, first := 0, error(nil)
	for i, config := range w.opts.Accounts {
		a := newAccount(config, w.opts.Name, s, w.log)
		var unfit error
		if err := w.untilAnswered(ctx, func(ctx context.Context) (err error) { unfit, err = a.bind(ctx, listed); return err }); err != nil || ctx.Err() != nil {
			return nil, err
		}
		if accounts[i] = a; unfit == nil {
			fit++
		} else if first == nil {
			first = unfit
		}
	}
	if fit == 0 {
		return nil, first
	}
	return accounts, nil
}

// away says whether there is no connection at the moment.
func away(js jetstream.JetStream) func() bool {
	return func() bool { return js != nil && js.Conn() != nil && !js.Conn().IsConnected() }
}

func (w *Worker) gauges() *gauges {
	return &gauges{js: w.js, accounts: w.accounts, clock: w.clock, leading: &w.leading, keyWindow: w.opts.KeyWindow, metrics: w.metrics, log: w.log}
}

func (w *Worker) presence(s *shared, bucket jetstream.KeyValue, accounts []*account) *presence {
	return &presence{
		name: w.opts.Name, bucket: bucket, conn: w.js.Conn(), clock: w.clock, ahead: w.opts.Ahead, pauses: w.pauses, fill: s.fill, expiring: &w.expiring, metrics: w.metrics, log: w.log,
		accounts: accounts, started: w.clock.now(), version: w.opts.Version, times: w.opts.times(), seen: map[string]sighting{},
	}
}

func (w *Worker) sweeper(s *shared, bucket jetstream.KeyValue) *sweeper {
	return &sweeper{
		name: w.opts.Name, js: w.js, journal: s.journal, rules: journal.Rules{Timing: s.timing}, bucket: bucket, every: w.sweepEvery, clock: w.clock,
		marks: w.marks, pauses: w.pauses, restored: &w.restored, leading: &w.leading, expiring: &w.expiring, waker: s.waker, metrics: w.metrics, log: w.log,
		open: map[messages.Renewal]time.Time{}, authorised: newAuthorisations(),
	}
}

// untilAnswered repeats what the broker did not answer, such as during an
// election; it returns what asking again will not change, and nil once ctx has ended.
func (w *Worker) untilAnswered(ctx context.Context, ask func(context.Context) error) error {
	for told := false; ; told = true {
		one, cancel := context.WithTimeout(ctx, journal.PublishTimeout)
		err := ask(one)
		cancel()
		var off *topology.Deviation
		switch {
		case err == nil, ctx.Err() != nil:
			return nil
		case errors.As(err, &off), topology.Hint(err) != "", errors.Is(err, nats.ErrConnectionClosed):
			return err
		case !told:
			w.log.Warn().Err(err).Msg("the broker does not answer, asking again until it does; a missing permission looks like this, too")
		}
		gate.Sleep(ctx, time.Second)
	}
}

// advised is an error with what to do about it, where that is known.
func advised(err error) error {
	if advice := topology.Hint(err); advice != "" {
		return fmt.Errorf("%w%s", err, advice)
	}
	return err
}

// Retry lets paused accounts try again at once: a password was changed, a host
// is back. It is safe at any time.
func (w *Worker) Retry() {
	if accounts := w.running.Load(); accounts != nil {
		for _, a := range *accounts {
			a.breaker.Retry()
			a.canary.Retry()
		}
	}
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
	for reason, sentence := range w.pauses.reasons.Active() {
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
			why = append(why, fmt.Sprintf("account %s: %s: %s", a.config.Name, reason, sentence))
		}
	}
	slices.Sort(why)
	return errors.New(strings.Join(why, "; "))
}
