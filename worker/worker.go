// Package worker charges due renewals: it takes jobs from JetStream, claims
// each renewal in the journal, asks Klarna, records what became of it, and only
// then acknowledges the job.
//
// The promise: a subscription period is charged at most once, every job ends in
// exactly one recorded result, and what is not known is never announced. It rests on two
// things alone: every record is written by compare-and-set on the last record of its renewal
// ([Journal.Write]), and every request for a renewal's attempt carries the same
// idempotency key and the same bytes. Nothing is kept in memory that a restart may not lose; any
// number of workers may run, and any may die at any instruction.
//
// Read account.handle to follow the money, and machine.go for the rules.
package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// Account is one Klarna merchant account that the worker charges for.
type Account struct {
	Name   messages.Account
	Klarna *klarna.Client
	// Host of the endpoint, for logs, and for workers of earlier versions, which know no more of it.
	Host string
	// Endpoint in the form of [klarna.CanonicalEndpoint] and Merchant, a name that stays the same when the API key is
	// rotated, see [klarna.Merchant]. The journal remembers both: an idempotency key means nothing anywhere else.
	Endpoint, Merchant string
	// Rate is in requests a second; 0: unlimited.
	Rate float64
	// Concurrency is how many charges may be in flight, at least 1. Default 64.
	Concurrency int
	// Policy suggests when to try again after a refusal. Default [dunning.DefaultPolicy].
	Policy dunning.Policy
	// Rules by which its orders are read. Default: the strictest.
	Rules messages.Rules
}

// Options are a worker's settings. Start from [DefaultOptions].
type Options struct {
	// Name of this worker, unique among the live ones; it stands in records and logs.
	Name     string
	Accounts []Account

	// TryTimeout bounds one HTTP request, body included. Klarna gives up at 59 s
	// itself, so a shorter one abandons live requests. Default 65 s.
	TryTimeout time.Duration
	// TryBudget is how long one delivery goes on trying. Default 30 s.
	TryBudget time.Duration
	// SettleDelay is the pause after a try that was cut or timed out: by then
	// Klarna has finished or dropped it. Default 60 s.
	SettleDelay time.Duration
	// RetryDelays are the pauses between deliveries of an undecided job, ±20 %,
	// the last one repeating. Default 5 s, 1 m, 5 m, 15 m, 1 h, 2 h.
	RetryDelays []time.Duration
	// KeyWindow is how long after the first send an idempotency key is used.
	// Klarna honours one for 24 h. Default 23 h.
	KeyWindow time.Duration
	// ShutdownTimeout is how long tries in flight may take to finish once Run's
	// context has ended. Default 75 s.
	ShutdownTimeout time.Duration

	Log zerolog.Logger
	// Metrics to count in. Default: some that nobody reads.
	Metrics *Metrics
	// Now is this machine's clock, as people set it. Default time.Now.
	Now func() time.Time
	// Monotonic is the time that has passed, by a clock which nobody sets. Every
	// decision goes by it since the last comparison with the broker's, and by none
	// while it and Now are apart. Default: the process's own.
	Monotonic func() time.Duration
}

// DefaultOptions are the settings of the design, without a name or accounts.
func DefaultOptions() Options {
	t := journal.DefaultTiming()
	return Options{
		TryTimeout: t.TryTimeout, TryBudget: t.TryBudget, SettleDelay: t.SettleDelay, RetryDelays: t.RetryDelays, KeyWindow: t.KeyWindow,
		ShutdownTimeout: 75 * time.Second,
		Log:             zerolog.Nop(),
		Now:             time.Now,
	}
}

// maxKeyWindow is how long Klarna honours a key.
// https://docs.klarna.com/api/kn/integration-resilience
const maxKeyWindow = 24 * time.Hour

// Worker charges the due renewals of its accounts.
type Worker struct {
	js       jetstream.JetStream
	opts     Options
	metrics  *Metrics
	accounts []Account
	pauses   gate.Pauses                              // of all accounts
	outage   *gate.Outage                             // of the broker
	oldest   atomic.Int64                             // a period that fell due longer ago than this duration is too old to charge
	since    atomic.Pointer[time.Time]                // a period that fell due then has all its records
	leading  atomic.Bool                              // this worker sweeps
	expiring atomic.Pointer[map[messages.Account]int] // what it then found, see [Presence]
	compared atomic.Pointer[comparison]               // of the clocks, the last one that could be relied upon
	running  atomic.Pointer[[]*account]
	noBucket atomic.Bool // workers cannot tell of themselves, nor compare clocks

	quotaNext          time.Time // before then the account's quota is not asked for
	quotaTold, fewTold bool      // in the log
	quotaFull          bool      // when it was last asked for

	marks    *journal.Marks // of the journal; set once before anything is claimed
	restored atomic.Int64   // before this moment, in ns since 1970, the journal may have forgotten what it knew; 0: never

	ackPending sync.Map // share of max_ack_pending that is taken, by consumer

	verifyEvery, sweepEvery, markEvery time.Duration
	brokerAhead                        func() time.Duration // of a test's clock
}

// New checks the settings; the error names the first that is off.
func New(js jetstream.JetStream, o Options) (*Worker, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Monotonic == nil {
		began := time.Now()
		o.Monotonic = func() time.Duration { return time.Since(began) }
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	for _, c := range []struct {
		name string
		ok   bool
		want string
		got  any
	}{
		{"name", o.Name != "", "a name that is unique among the workers", o.Name},
		{"accounts", len(o.Accounts) > 0, "at least one account", len(o.Accounts)},
		{"try timeout", o.TryTimeout > 0, "a positive duration", o.TryTimeout},
		{"try budget", o.TryBudget > 0, "a positive duration", o.TryBudget},
		{"settle delay", o.SettleDelay >= 0, "zero or a positive duration", o.SettleDelay},
		{"retry delays", len(o.RetryDelays) > 0 && positive(o.RetryDelays), "one or more positive durations", o.RetryDelays},
		{"key window", o.KeyWindow > 0 && o.KeyWindow < maxKeyWindow, "a positive duration under 24h, for which Klarna honours a key", o.KeyWindow},
		{"shutdown timeout", o.ShutdownTimeout > 0, "a positive duration", o.ShutdownTimeout},
	} {
		if !c.ok {
			return nil, fmt.Errorf("%s: found %q, expected %s", c.name, fmt.Sprint(c.got), c.want)
		}
	}
	if err := o.keepsPromise(); err != nil {
		return nil, err
	}
	w := &Worker{js: js, opts: o, metrics: o.Metrics, verifyEvery: verifyEvery, sweepEvery: sweepEvery, markEvery: journal.MarkEvery, brokerAhead: func() time.Duration { return 0 }}
	w.outage = w.newOutage()
	seen := map[messages.Account]bool{}
	for _, a := range o.Accounts {
		if _, err := messages.ParseAccount(string(a.Name)); err != nil {
			return nil, fmt.Errorf("account: %w", err)
		}
		if seen[a.Name] {
			return nil, fmt.Errorf("account %s: named twice", a.Name)
		}
		seen[a.Name] = true
		if a.Concurrency <= 0 {
			a.Concurrency = 64
		}
		if a.Policy.SoftDecline.MaxAttempts == 0 && a.Policy.CustomerAction.MaxAttempts == 0 {
			a.Policy = dunning.DefaultPolicy()
		}
		if err := a.Policy.Validate(); err != nil {
			return nil, fmt.Errorf("account %s: retry policy: %w", a.Name, err)
		}
		w.accounts = append(w.accounts, a)
		w.metrics.start(a.Name)
	}
	return w, nil
}

const (
	// klarnaWorks is how long Klarna may work on a request: a try and the delay after it have to outlast that.
	// https://docs.klarna.com/acquirer/klarna-network/setup-your-integration/integration-resilience/request-timeout/
	klarnaWorks = 60 * time.Second
	// safeKeyWindow leaves an hour of Klarna's 24 for clocks, retries and deliveries.
	safeKeyWindow = 23 * time.Hour
)

// keepsPromise refuses settings with which a renewal could be charged twice. A simulator on this machine may be hurried.
func (o Options) keepsPromise() error {
	for _, a := range o.Accounts {
		if a.local() {
			continue
		}
		switch {
		case o.TryTimeout+o.SettleDelay < klarnaWorks:
			return fmt.Errorf("try timeout and settle delay: found %s and %s, expected at least %s together, since Klarna may work on a request of account %s for so long",
				o.TryTimeout, o.SettleDelay, klarnaWorks, a.Name)
		case o.KeyWindow > safeKeyWindow:
			return fmt.Errorf("key window: found %s, expected at most %s, since Klarna forgets a key of account %s after %s", o.KeyWindow, safeKeyWindow, a.Name, maxKeyWindow)
		}
	}
	return nil
}

// local says that the account's requests cannot leave this machine.
func (a Account) local() bool {
	u, err := url.Parse(a.Endpoint)
	return err == nil && klarna.Loopback(u)
}

func positive(ds []time.Duration) bool {
	for _, d := range ds {
		if d <= 0 {
			return false
		}
	}
	return true
}

// account is an Account at work.
type account struct {
	Account
	*Worker
	journal *journal.Journal
	rules   journal.Rules
	limiter *gate.Limiter
	breaker *gate.Breaker
	canary  *gate.Canary
	owners  owners
	pullers []*gate.Puller // of charges, of those that were parked, and of captures
	unfit   gate.Pauses    // for its own consumers' sake
	log     zerolog.Logger

	inFlight atomic.Int64 // deliveries being handled
	heardCharges,
	heardOrders atomic.Int64 // when Klarna's application last spoke, in ns since 1970; 0: not yet
	rateLimited bool     // the operator was told so; only presence asks
	warned      sync.Map // kinds of warnings that the log has heard of

	// finishing ends when tries in flight may no longer finish; recording ends
	// a little later, so that what a try has taught still gets into the journal.
	finishing, recording context.Context
}

// recordGrace is how long records may still be written after the tries had to end.
const recordGrace = 5 * time.Second

// Run charges renewals until ctx ends, then hands back what has not started, lets
// the tries in flight finish within the shutdown timeout, records them, and
// returns nil. Any other return is an error that a restart will not heal, such as a missing stream.
func (w *Worker) Run(ctx context.Context) error {
	var records *journal.Journal
	var bucket jetstream.KeyValue
	w.marks = w.newMarks()
	if err := w.untilAnswered(ctx, func(ctx context.Context) (err error) {
		if err := w.verify(ctx); err != nil {
			return err
		}
		if records, err = journal.Open(ctx, w.js, w.opts.Log); err != nil {
			return err
		}
		records = records.Observed(w.marks, w.metrics.republish.WithLabelValues(messages.StreamJournal).Inc, w.noticed)
		if bucket, err = w.js.KeyValue(ctx, topology.BucketWorkers); err != nil {
			return fmt.Errorf("bucket %s: %w%s", topology.BucketWorkers, err, topology.Hint(err))
		}
		return advised(w.marks.Look(ctx))
	}); err != nil || ctx.Err() != nil {
		return err
	}

	var ending sync.WaitGroup
	defer ending.Wait()
	stopping, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	finishing, endTries := context.WithCancel(context.WithoutCancel(ctx))
	defer endTries()
	recording, endRecords := context.WithCancel(context.WithoutCancel(ctx))
	defer endRecords()
	ending.Go(func() {
		select {
		case <-recording.Done():
		case <-stopping.Done():
			sleep(recording, w.opts.ShutdownTimeout)
			endTries()
			sleep(recording, recordGrace)
			endRecords()
		}
	})

	accounts := make([]*account, len(w.accounts))
	fit, first := 0, error(nil)
	defer func() { w.running.Store(nil) }()
	for i, config := range w.accounts {
		a := &account{
			Account: config, Worker: w, journal: records,
			finishing: finishing, recording: recording, limiter: gate.NewLimiter(config.Rate),
			log: w.opts.Log.With().Str("account", string(config.Name)).Logger(),
		}
		a.breaker = gate.NewBreaker(a.pauseChanged)
		a.canary = gate.NewCanary(a.Klarna, a.limiter, a.breaker, a.opts.TryTimeout, a.log)
		var unfit error
		if err := w.untilAnswered(ctx, func(ctx context.Context) (err error) { unfit, err = a.bind(ctx); return err }); err != nil || ctx.Err() != nil {
			return err
		}
		if accounts[i] = a; unfit == nil {
			fit++
		} else if first == nil {
			first = unfit
		}
	}
	if fit == 0 { // nothing to do but to wait for a person
		return first
	}
	w.running.Store(&accounts)
	w.setPause(gate.PauseClock, "the clock was not compared with the broker's yet")
	background := []interface{ run(context.Context) }{
		&presence{Worker: w, bucket: bucket, accounts: accounts, started: w.now(), seen: map[string]sighting{}},
		&sweeper{Worker: w, journal: records, bucket: bucket, open: map[messages.RenewalKey]time.Time{}, authorised: newAuthorisations(), rules: journal.Rules{Timing: w.opts.timing()}},
		&overdue{Worker: w, moments: map[string]time.Time{}},
	}
	var running sync.WaitGroup
	running.Go(func() { w.survive(stopping, "settings", w.guard) })
	running.Go(func() { w.survive(stopping, "gauges", w.look) })
	running.Go(func() {
		w.survive(stopping, "marks", func(ctx context.Context) { w.marks.Run(ctx, w.journalUnchecked) })
	})
	for _, b := range background {
		running.Go(func() { w.survive(stopping, fmt.Sprintf("%T", b), b.run) })
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
			w.opts.Log.Warn().Err(err).Msg("the broker does not answer, asking again until it does; a missing permission looks like this, too")
		}
		sleep(ctx, time.Second)
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

// bind reads the account's consumers. A lease is as long as the shorter AckWait. An account of which one is missing or not
// as it must be waits until it is; the error of that is returned, too.
func (a *account) bind(ctx context.Context) (unfit, err error) {
	var ackWait time.Duration
	a.pullers = nil
	charges := gate.NewSemaphore(a.Concurrency) // Klarna does not see where a charge waited
	for name, subject := range topology.Consumers(a.Name) {
		config, err := a.consumer(ctx, a.Name, name, subject)
		var off *topology.Deviation
		switch {
		case errors.As(err, &off), topology.Missing(err):
			unfit = err
		case err != nil:
			return nil, err
		case ackWait == 0 || config.AckWait < ackWait:
			ackWait = config.AckWait
		}
		semaphore := charges
		if name == topology.CaptureConsumerName(a.Name) {
			semaphore = gate.NewSemaphore(a.Concurrency)
		}
		a.pullers = append(a.pullers, gate.NewPuller(gate.PullerConfig{
			JetStream: a.js, Stream: topology.StreamOf(name), Consumer: name, Semaphore: semaphore, Limiter: a.limiter, Breaker: a.breaker,
			Outage: a.outage, Held: &a.unfit, Lost: a.hold, Now: a.now, Log: a.log,
		}))
	}
	if a.opts.KeyWindow < ackWait && !a.local() {
		return nil, &topology.Deviation{Stream: messages.StreamJobs, Consumer: a.pullers[0].Consumer, Setting: "ack_wait", Got: ackWait.String(),
			Want: fmt.Sprintf("at most the key window of %s: a key would end under a claim", a.opts.KeyWindow)}
	}
	if ackWait == 0 {
		ackWait = max(topology.DefaultAckWait, a.opts.timing().LeaseNeeded())
	}
	a.rules = journal.NewRules(a.opts.timing(), ackWait)
	if unfit != nil {
		a.hold(unfit)
	}
	return unfit, nil
}

// timing is what the state machine knows of the settings.
func (o Options) timing() journal.Timing {
	return journal.Timing{TryTimeout: o.TryTimeout, TryBudget: o.TryBudget, SettleDelay: o.SettleDelay, RetryDelays: o.RetryDelays, KeyWindow: o.KeyWindow}
}

// consumer reads a consumer of an account and checks that its settings and the
// worker's fit together.
func (w *Worker) consumer(ctx context.Context, account messages.Account, name, subject string) (jetstream.ConsumerConfig, error) {
	info, err := topology.VerifyConsumer(ctx, w.js, account, name, subject, w.opts.timing().LeaseNeeded())
	if info == nil {
		return jetstream.ConsumerConfig{}, err
	}
	w.filled(account, info)
	return info.Config, err
}

// run works until ctx ends and everything in flight is done.
func (a *account) run(ctx context.Context) error {
	a.log.Info().Str("host", a.Host).Int("concurrency", a.Concurrency).Float64("rate", a.Rate).Msg("charging renewals")
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var running sync.WaitGroup
	running.Go(func() { a.survive(ctx, "canary", a.canary.Run) })
	for _, p := range a.pullers {
		running.Go(func() {
			if err := p.Run(ctx); err != nil {
				stop(err)
			}
		})
		for range p.Hands() {
			running.Go(func() { p.Work(func(d gate.Delivery) { a.caught("jobs", func() { a.serve(ctx, d) }) }) })
		}
	}
	running.Wait()
	a.Klarna.CloseIdle()
	if ctx.Err() == nil {
		return nil
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// serve handles a delivery, unless the account is paused and this is not the one that may probe.
func (a *account) serve(ctx context.Context, d gate.Delivery) {
	inFlight := a.metrics.inFlight.WithLabelValues(string(a.Name))
	inFlight.Set(float64(a.inFlight.Add(1)))
	if tries := a.breaker.Tries(); !a.unfit.Any() && !a.hollow(ctx, d) && a.breaker.Admit() {
		a.handle(ctx, d)
		a.breaker.Handled(tries)
	} else {
		a.metrics.handBacks.WithLabelValues(string(a.Name)).Inc()
		_ = d.Msg.Nak() // lost: it comes again after AckWait
	}
	inFlight.Set(float64(a.inFlight.Add(-1)))
}

// paused are the reasons for which the account's jobs wait, each with a sentence.
func (a *account) paused() map[string]string {
	reasons := a.breaker.Reasons()
	if reasons == nil {
		reasons = map[string]string{}
	}
	maps.Copy(reasons, a.unfit.Active())
	if why := a.limiter.Closed(); why != "" {
		reasons[gate.PauseRateLimited] = why
	}
	return reasons
}

// pauseChanged tells the operator of a pause, once, and of its end.
func (a *account) pauseChanged(reason string, paused bool, sentence string) {
	value := 0.0
	if paused {
		value = 1
	}
	a.metrics.paused.WithLabelValues(string(a.Name), reason).Set(value)
	if reason == gate.PauseBreaker {
		a.metrics.breaker.WithLabelValues(string(a.Name)).Set(value)
	}
	if paused {
		a.log.Error().Str("reason", reason).Msg("account paused, its jobs wait: " + sentence)
		return
	}
	a.log.Info().Str("reason", reason).Msg("account no longer paused")
}

// rulesNow are the rules with this moment's jitter on the pauses.
func (a *account) rulesNow() journal.Rules {
	r := a.rules
	r.Jitter = 0.8 + 0.4*rand.Float64()
	r.Paused = a.breaker.Paused() || a.clockFault() != ""
	if t := a.restored.Load(); t != 0 {
		r.Restored = time.Unix(0, t).UTC()
	}
	return r
}
