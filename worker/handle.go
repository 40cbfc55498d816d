package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// claimTimeout bounds the writing of a claim: a worker that cannot reach the
// journal hands its job back.
const claimTimeout = 10 * time.Second

// handle is everything that can happen to a customer's money: a job is read,
// claimed, charged, recorded and acknowledged, in this order. Whatever ends it early leaves the message unacknowledged,
// to be delivered again; the journal then says how far it came.
func (a *account) handle(ctx context.Context, d gate.Delivery) {
	j, err := a.place(d)
	if err != nil {
		a.log.Error().Err(err).Msg("delivery without JetStream metadata left alone")
		return
	}
	defer a.recoverPanic(j)
	a.read(j)
	if a.parkEarly(j) {
		return
	}

	wait, ok := a.myTurn(ctx, j)
	defer j.permit.Release()
	if !ok {
		a.handBack(j, wait)
		return
	}
	next, at, err := a.claim(ctx, j)
	if err != nil && next.Then == journal.Try {
		next, err = a.withdraw(ctx, j, next.State, err)
	} else if err == nil {
		switch next.Then {
		case journal.Try:
			held := journal.Held(at.State, a.rules)
			began := a.now()
			answers := a.ask(ctx, j, held)
			took := a.now().Sub(began)
			j.semaphore.Took(took)
			j.permit.Release() // what follows, another job need not wait for
			a.metrics.charge.WithLabelValues(string(a.Name)).Observe(took.Seconds())
			held.Authorised = a.authorised(j, answers)
			answers.TokenStatus = a.tokenStatus(j, answers)
			next, err = a.record(j, at, held, answers)
		case journal.Poll:
			next, err = a.recordFraudStatus(j, at)
		}
	}
	a.finish(j, next, err)
}

// myTurn says whether the job may be claimed here and now, or after how long by
// anybody. It waits for a permit and for the account's rate, before the claim: a lease is not spent on waiting.
func (a *account) myTurn(ctx context.Context, j *job) (wait time.Duration, ok bool) {
	left := func() time.Duration { return gate.Freshness - a.now().Sub(j.received) }
	paused := a.breaker.Paused() // then this is the probe
	j.probe = paused
	if ctx.Err() != nil || left() <= 0 {
		return 0, false
	}
	if j.permit, ok = j.semaphore.Acquire(ctx, left()); !ok || ctx.Err() != nil {
		return 0, false
	}
	if a.breaker.PausedFor(gate.PauseNotEvaluated) || a.marks.Doubtful() || a.unfit.Any() || !a.outage.Admit() || !paused && a.breaker.Paused() {
		return time.Second, false
	}
	if j.semaphore.InUse() > a.breaker.Places(a.limiter.SharedBy()) { // it came before the run of refusals did
		return time.Second, false
	}
	ok, wait = a.limiter.Wait(ctx, left())
	if ctx.Err() != nil {
		wait = 0
	}
	return wait, ok
}

// claim asks the machine what the delivery means and writes what it says. A
// charge that looks new is claimed without reading first: an empty renewal is part of the write's condition.
func (a *account) claim(ctx context.Context, j *job) (journal.Transition, journal.Entry, error) {
	at := journal.Entry{State: journal.State{Phase: journal.PhaseNone}}
	if j.request.Verdict != "" || j.capture != nil || j.delivered > 1 || j.early(a.now()) {
		var err error
		if at, err = a.last(j); err != nil {
			return journal.Transition{}, at, err
		}
	}
	return a.decide(ctx, j, at, func(s journal.State) journal.Transition { return journal.Deliver(s, j.request, a.now(), a.rulesNow()) })
}

// last reads the job's renewal.
func (a *account) last(j *job) (journal.Entry, error) {
	ctx, cancel := context.WithTimeout(a.recording, claimTimeout)
	defer cancel()
	return a.journal.Last(ctx, j.renewalKey)
}

// decide lets a function of the machine speak until the job goes by keys that are
// its own and everything is known that the function asks for. Each goes by a
// stand-in once at most; a job whose renewal changes again and again meanwhile goes back.
func (a *account) decide(ctx context.Context, j *job, at journal.Entry, speak func(journal.State) journal.Transition) (journal.Transition, journal.Entry, error) {
	var answers journal.TryResult
	for range maxRounds {
		one, cancel := context.WithTimeout(a.recording, claimTimeout)
		next, now, err := a.advance(one, nil, j, at, speak, answers)
		cancel()
		if at = now; err != nil {
			return next, at, err
		}
		switch next.Then {
		case journal.FileApart:
			j.standIn(next)
			if at, err = a.last(j); err != nil {
				return journal.Transition{}, at, err
			}
		case journal.Look:
			var ok bool
			if answers, ok = a.look(ctx, j, next.State.Order); !ok && answers.NotEvaluated {
				return a.notLooked(j, at, answers)
			} else if !ok {
				return journal.Later(a.rulesNow().Delay(j.delivered)), at, nil
			}
		default:
			return next, at, nil
		}
	}
	return journal.Transition{}, at, errNoDecision
}

// notLooked writes that the order of a capture could not be looked at, for its own sake.
func (a *account) notLooked(j *job, at journal.Entry, answers journal.TryResult) (journal.Transition, journal.Entry, error) {
	ctx, cancel := context.WithTimeout(a.recording, claimTimeout)
	defer cancel()
	return a.advance(ctx, nil, j, at, func(s journal.State) journal.Transition {
		return journal.LookedInVain(s, j.request, answers.Outcome, a.now(), a.rulesNow())
	}, answers)
}

// maxRounds is how often the machine is asked about one delivery at most. A job
// is filed under its stand-in once, and looks at its order again when a capture came between.
const maxRounds = 8

// errNoDecision is a job that the machine had no answer for.
var errNoDecision = errors.New("no decision after several rounds")

// record writes what the tries came to. It goes on until the journal has it or
// the process ends: an answer in hand is not given up because the broker is away.
func (a *account) record(j *job, at journal.Entry, held journal.HeldClaim, answers journal.TryResult) (journal.Transition, error) {
	defer a.outage.Keep()()
	speak := func(s journal.State) journal.Transition {
		return journal.Conclude(s, held, answers.Outcome, a.now(), a.rulesNow())
	}
	next, _, err := a.advance(a.recording, a.insist(j, answers.Made), j, at, speak, answers)
	if err != nil {
		a.notRecorded(j, answers.Made, err)
	}
	return next, err
}

// recordFraudStatus asks what became of a pending order and writes it.
func (a *account) recordFraudStatus(j *job, at journal.Entry) (journal.Transition, error) {
	orderID := a.journal.SpelledOrder(a.finishing, j.renewalKey, at.State.Claim.OrderID)
	accepted, final, err := a.poll(j, orderID)
	if err != nil {
		a.log.Warn().Err(err).Str("idempotency_key", string(j.request.Key)).Msg("fraud status not known yet")
	}
	speak := func(s journal.State) journal.Transition {
		return journal.Polled(s, j.request, accepted, final, a.now(), a.rulesNow())
	}
	answers := journal.TryResult{Order: klarna.CreatedOrder{OrderID: orderID, FraudStatus: klarna.FraudAccepted}}
	made := ""
	switch {
	case accepted:
		made = journal.StateID(orderID)
	case final:
		answers.Answer = journal.FraudRejected
	}
	defer a.outage.Keep()()
	next, _, err := a.advance(a.recording, a.insist(j, made), j, at, speak, answers)
	if err != nil {
		a.notRecorded(j, made, err)
	}
	return next, err
}

// advance lets a function of the machine speak to the renewal's last state until
// a record that it asked for is written, or none is asked for.
func (a *account) advance(ctx context.Context, p journal.Patience, j *job, at journal.Entry, speak func(journal.State) journal.Transition, answers journal.TryResult) (journal.Transition, journal.Entry, error) {
	return a.journal.Apply(ctx, at, journal.Change{
		Renewal: j.renewalKey,
		Decide: func(s journal.State) (journal.Transition, error) {
			next := speak(s)
			if next.ByTheClock() && a.clockFault() != "" {
				return journal.Later(time.Second), nil
			}
			return next, nil
		},
		Record: func(ctx context.Context, next journal.Transition) (journal.Record, error) {
			return a.say(ctx, j, next, answers)
		},
		Written: func(next journal.Transition, event messages.Event) { a.recorded(j, next, event) },
	}, p)
}

// finish acknowledges a settled job, as the last thing that happens to it, and
// sends back any other.
func (a *account) finish(j *job, next journal.Transition, err error) {
	if err == nil && next.Duplicate {
		a.metrics.duplicates.WithLabelValues(string(a.Name)).Inc()
	}
	if err == nil && next.Dead {
		err = a.bury(j, next)
	}
	switch {
	case err != nil:
		a.metrics.writes.WithLabelValues(string(a.Name)).Inc()
		level := zerolog.WarnLevel
		if !a.js.Conn().IsConnected() {
			level = zerolog.DebugLevel // that is told once, not for every job
		}
		a.log.WithLevel(level).Err(err).Uint64("sequence", j.sequence).Str("idempotency_key", string(j.request.Key)).Msg("job goes back: its state could not be read or written")
		err = j.msg.NakWithDelay(a.rulesNow().Delay(1))
	case next.Then == journal.Park:
		err = a.park(j, next)
	case next.Then == journal.Ack:
		err = j.msg.Ack()
	default:
		err = j.msg.NakWithDelay(next.Delay)
	}
	if err != nil { // nothing is lost: the job comes again after AckWait
		a.log.Debug().Err(err).Uint64("sequence", j.sequence).Msg("acknowledgement not sent")
	}
}

// handBack lets another worker have a job that was not started here, after a while.
func (a *account) handBack(j *job, wait time.Duration) {
	a.metrics.handBacks.WithLabelValues(string(a.Name)).Inc()
	if err := j.msg.NakWithDelay(wait); err != nil {
		a.log.Debug().Err(err).Uint64("sequence", j.sequence).Msg("hand-back not sent")
	}
}

// bury files the job in RENEWAL_DEAD as it was received. The same dead letter
// again, after a crash, is a duplicate by its ID.
func (a *account) bury(j *job, next journal.Transition) error {
	if next.Stray() {
		a.metrics.stray.WithLabelValues(string(a.Name), string(next.Reason)).Inc()
		a.log.Error().Str("reason", string(next.Reason)).Str("order_id", next.Made).Str("idempotency_key", string(j.request.Key)).Str("renewal_key", string(j.renewalKey)).
			Msg("Klarna made something that no result can name any more: a person must look at it")
	}
	defer a.outage.Keep()()
	m := a.deadLetter(j, next)
	publish := func() error {
		ctx, cancel := context.WithTimeout(a.recording, journal.PublishTimeout)
		defer cancel()
		_, err := a.js.PublishMsg(ctx, m, jetstream.WithExpectStream(messages.StreamDead))
		a.noticed(deadLetters, err)
		return err
	}
	try, err := a.insist(j, next.Made), publish()
	for try.Again(a.recording, err) {
		a.metrics.republish.WithLabelValues(messages.StreamDead).Inc()
		err = publish()
	}
	if err != nil {
		return fmt.Errorf("publish dead letter: %w", err)
	}
	return nil
}

// recoverPanic keeps one job's panic from ending the others, and counts it in
// the journal: after the tenth the job is put aside.
func (a *account) recoverPanic(j *job) {
	p := recover()
	if p == nil {
		return
	}
	defer func() {
		if again := recover(); again != nil { // even the counting breaks: it comes again after AckWait
			a.log.Error().Str("panic", fmt.Sprintf("%T", again)).Bytes("stack", debug.Stack()).Uint64("sequence", j.sequence).Msg("counting a panic panicked")
		}
	}()
	if j.renewalKey == "" { // reading it broke
		j.fileApart()
	}
	a.metrics.panics.WithLabelValues(string(a.Name)).Inc()
	// The value may quote the job: only its type is logged.
	a.log.Error().Str("panic", fmt.Sprintf("%T", p)).Bytes("stack", debug.Stack()).Uint64("sequence", j.sequence).
		Str("idempotency_key", string(j.request.Key)).Msg("handling a job panicked")
	at, err := a.last(j)
	var next journal.Transition
	if err == nil {
		next, _, err = a.decide(a.recording, j, at, func(s journal.State) journal.Transition { return journal.Panicked(s, j.request, a.now(), a.rulesNow()) })
	}
	a.finish(j, next, err)
}
