package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// shared is what the accounts of a worker share.
type shared struct {
	js      jetstream.JetStream
	timing  journal.Timing
	clock   *clock
	pauses  *pausing
	outage  *gate.Outage
	marks   *journal.Marks
	journal *journal.Journal
	memory  *memory
	fill    *fill
	waker   *waker
	metrics *Metrics

	restored  *atomic.Int64 // see rulebook
	survivor  survivor
	finishing context.Context // ends when tries in flight may no longer finish
	recording context.Context // ends a little later, so that what a try has taught still gets into the journal
	hands     gate.Hands      // that handle the jobs of all accounts
	pullers   int             // of all accounts
}

// account is an Account at work.
type account struct {
	config  Account
	shared  *shared
	rules   *rulebook
	limiter *gate.Limiter
	breaker *gate.Breaker
	canary  *gate.Canary
	handler *handler
	pullers []*gate.Puller  // of charges, of those that were parked, and of captures
	charges *gate.Semaphore // of the first two: Klarna does not see where a charge waited
	unfit   gate.Pauses     // for its own consumers' sake
	log     zerolog.Logger

	inFlight    atomic.Int64 // deliveries being handled
	rateLimited bool         // the operator was told so; only presence asks
}

// newAccount makes an account of a worker with this name. It knows no rules yet: see bind.
func newAccount(config Account, worker string, s *shared, log zerolog.Logger) *account {
	a := &account{config: config, shared: s, limiter: gate.NewLimiter(config.Rate), log: log.With().Str("account", string(config.Name)).Logger()}
	a.charges = a.semaphore()
	a.breaker = gate.NewBreaker(a.pauseChanged)
	a.canary = gate.NewCanary(config.Klarna, a.limiter, a.breaker, s.timing.TryTimeout, a.log)
	a.rules = &rulebook{breaker: a.breaker, clock: s.clock, pauses: s.pauses, marks: s.marks, restored: s.restored}
	r := &recorder{
		account: config.Name, worker: worker, journal: s.journal, clock: s.clock, rules: a.rules, outage: s.outage,
		metrics: s.metrics, waker: s.waker, log: a.log, recording: s.recording,
	}
	a.handler = &handler{
		reader: reader{account: config, worker: worker, clock: s.clock, memory: s.memory},
		turns:  &turns{limiter: a.limiter, breaker: a.breaker, unfit: &a.unfit, pauses: s.pauses, outage: s.outage, marks: s.marks, clock: s.clock},
		asker: &asker{
			account: config.Name, klarna: config.Klarna, journal: s.journal, limiter: a.limiter, breaker: a.breaker, canary: a.canary, clock: s.clock, rules: a.rules,
			owners: new(owners), metrics: s.metrics, log: a.log, autoCaptures: new(autoCaptures), heardCharges: new(atomic.Int64), heardOrders: new(atomic.Int64), finishing: s.finishing,
		},
		spacer:   &spacer{off: config.Spacing == SpacingOff, recorder: r},
		recorder: r,
		finisher: &finisher{account: config.Name, js: s.js, clock: s.clock, rules: a.rules, outage: s.outage, recorder: r, waker: s.waker, metrics: s.metrics, log: a.log},
	}
	return a
}

// bind reads the account's consumers. A lease is as long as the shorter AckWait. An account of which one is missing or not
// as it must be waits until it is; the error of that is returned, too.
func (a *account) bind(ctx context.Context, listed topology.Listing) (unfit, err error) {
	var ackWait time.Duration
	for name, subject := range topology.Consumers(a.config.Name) {
		config, err := a.consumer(ctx, name, subject, listed)
		var off *topology.Deviation
		switch {
		case errors.As(err, &off), topology.Missing(err):
			unfit = err
		case err != nil:
			return nil, err
		case ackWait == 0 || config.AckWait < ackWait:
			ackWait = config.AckWait
		}
	}
	if window := a.shared.timing.KeyWindow; window < ackWait {
		off := &topology.Deviation{Stream: messages.StreamJobs, Consumer: topology.ConsumerName(a.config.Name), Setting: "ack_wait", Got: ackWait.String(),
			Want:   fmt.Sprintf("at most the key window of %s: a key would end under a claim", window),
			Advice: fmt.Sprintf("give keys a window of %s or more (RENEWALS_KEY_WINDOW, by default 23h)", ackWait)}
		if !a.config.local() {
			return nil, off
		}
		a.log.Warn().Err(off).Msg("goes on, since this endpoint is on this machine: a charge that a worker leaves open is unresolved as soon as another one finds it")
	}
	if ackWait == 0 {
		ackWait = max(topology.DefaultAckWait, a.shared.timing.LeaseNeeded())
	}
	for name := range topology.Consumers(a.config.Name) { // now that the broker has told all: this is not asked again
		semaphore := a.charges
		if name == topology.CaptureConsumerName(a.config.Name) {
			semaphore = a.semaphore()
		}
		a.pullers = append(a.pullers, a.puller(name, semaphore))
	}
	a.rules.base = journal.NewRules(a.shared.timing, ackWait)
	a.rules.base.Guards = a.config.guards()
	if unfit != nil {
		a.hold(unfit)
	}
	return unfit, nil
}

// semaphore bounds what is in flight: to what the account says, or to what its rate needs.
func (a *account) semaphore() *gate.Semaphore {
	if n := a.config.Concurrency; n > 0 {
		return gate.NewSemaphore(n)
	}
	return gate.NewRatedSemaphore(a.limiter)
}

// puller takes jobs from one of the account's consumers.
func (a *account) puller(consumer string, semaphore *gate.Semaphore) *gate.Puller {
	s := a.shared
	return gate.NewPuller(gate.PullerConfig{
		JetStream: s.js, Stream: topology.StreamOf(consumer), Consumer: consumer, Of: s.pullers, Hands: &s.hands, Semaphore: semaphore, Limiter: a.limiter, Breaker: a.breaker,
		Outage: s.outage, Held: &a.unfit, Lost: a.hold, Now: s.clock.now, Log: a.log,
	})
}

// consumer reads a consumer of the account and checks that its settings and the
// worker's fit together.
func (a *account) consumer(ctx context.Context, name, subject string, listed topology.Listing) (jetstream.ConsumerConfig, error) {
	info, err := topology.VerifyConsumer(ctx, a.shared.js, a.config.Name, name, subject, a.shared.timing.LeaseNeeded(), listed)
	if info == nil {
		return jetstream.ConsumerConfig{}, err
	}
	a.shared.fill.learn(a.config.Name, info)
	return info.Config, err
}

// run works until ctx ends and everything in flight is done.
func (a *account) run(ctx context.Context) error {
	a.log.Info().Str("host", a.config.Host).Int("concurrency", a.config.Concurrency).Float64("rate", a.config.Rate).Msg("charging renewals")
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	survivor := a.shared.survivor
	var running sync.WaitGroup
	handle := func(d gate.Delivery) { survivor.caught("jobs", func() { a.serve(ctx, d) }) }
	for _, p := range a.pullers {
		running.Go(func() {
			if err := p.Run(ctx, handle); err != nil {
				stop(err)
			}
		})
	}
	survivor.run(ctx, "canary", a.canary.Run)
	running.Wait()
	a.config.Klarna.CloseIdle()
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
	metrics, name := a.shared.metrics, string(a.config.Name)
	inFlight := metrics.inFlight.WithLabelValues(name)
	inFlight.Set(float64(a.inFlight.Add(1)))
	tries, ok := a.breaker.Tries(), !a.unfit.Any() && !a.hollow(ctx, d)
	if ok {
		d.Probe, ok = a.breaker.Admit()
	}
	if ok {
		a.handler.handle(ctx, d)
		a.breaker.Handled(tries)
	} else {
		metrics.handBacks.WithLabelValues(name).Inc()
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
	metrics, name := a.shared.metrics, string(a.config.Name)
	value := 0.0
	if paused {
		value = 1
	}
	metrics.paused.WithLabelValues(name, reason).Set(value)
	if reason == gate.PauseBreaker {
		metrics.breaker.WithLabelValues(name).Set(value)
	}
	if paused {
		a.log.Error().Str("reason", reason).Msg("account paused, its jobs wait: " + sentence)
		return
	}
	a.log.Info().Str("reason", reason).Msg("account no longer paused")
}

// check pauses the account while one of its consumers is missing or not as it must be: nobody else's jobs wait for that.
// It says whether it learned that.
func (a *account) check(ctx context.Context, listed topology.Listing) (answered bool) {
	for name, subject := range topology.Consumers(a.config.Name) {
		one, cancel := context.WithTimeout(ctx, journal.PublishTimeout)
		_, err := a.consumer(one, name, subject, listed)
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
	a.shared.metrics.deviate(a.config.Name, nil)
	if a.unfit.Lift(gate.PauseSettings) {
		a.pauseChanged(gate.PauseSettings, false, "")
	}
	if a.shared.pauses.reasons.Has(gate.PauseSettings) {
		a.shared.metrics.paused.WithLabelValues(string(a.config.Name), gate.PauseSettings).Set(1)
	}
	return true
}

// hold stops pulling for the account, probes included.
func (a *account) hold(err error) {
	a.shared.metrics.deviate(a.config.Name, err)
	if a.unfit.Set(gate.PauseSettings, err.Error()) {
		a.pauseChanged(gate.PauseSettings, true, err.Error())
	} else {
		a.shared.metrics.paused.WithLabelValues(string(a.config.Name), gate.PauseSettings).Set(1)
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
	for name, subject := range topology.Consumers(a.config.Name) {
		one, cancel := context.WithTimeout(ctx, claimTimeout)
		config, err := a.consumer(one, name, subject, nil)
		cancel()
		if err != nil || config.HeadersOnly {
			a.check(ctx, nil)
			return true
		}
	}
	return false
}
