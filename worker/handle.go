package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
)

// freshness is how long a job may wait here for its turn. Its AckWait runs
// already, and another worker may be idle.
const freshness = 5 * time.Second

// claimTimeout bounds the writing of a claim: a worker that cannot reach the
// journal hands its job back.
const claimTimeout = 10 * time.Second

// handle is everything that can happen to a customer's money: a job is read,
// claimed, charged, recorded and acknowledged, in this order. Whatever ends it early leaves the message unacknowledged,
// to be delivered again; the journal then says how far it came.
func (a *account) handle(ctx context.Context, d delivery) {
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
	defer j.slots.leave(j)
	if !ok {
		a.handBack(j, wait)
		return
	}
	next, at, err := a.claim(ctx, j)
	if err != nil && next.Then == actCharge {
		next, err = a.withdraw(ctx, j, next.State, err)
	} else if err == nil {
		switch next.Then {
		case actCharge:
			held := a.held(at.State)
			began := a.now()
			answers := a.ask(ctx, j, held)
			took := a.now().Sub(began)
			j.slots.took(took)
			j.slots.leave(j) // what follows, another job need not wait for
			a.metrics.charge.WithLabelValues(string(a.Name)).Observe(took.Seconds())
			held.Authorised = a.authorised(j, answers)
			answers.tokenStatus = a.tokenStatus(j, answers)
			next, err = a.record(j, at, held, answers)
		case actPoll:
			next, err = a.recordFraudStatus(j, at)
		}
	}
	a.finish(j, next, err)
}

// myTurn says whether the job may be claimed here and now, or after how long by
// anybody. It waits for a slot and for the account's rate, before the claim: a lease is not spent on waiting.
func (a *account) myTurn(ctx context.Context, j *job) (wait time.Duration, ok bool) {
	left := func() time.Duration { return freshness - a.now().Sub(j.received) }
	paused := a.breaker.Paused() // then this is the probe
	j.probe = paused
	if ctx.Err() != nil || left() <= 0 || !j.slots.enter(ctx, j, left()) || ctx.Err() != nil {
		return 0, false
	}
	if a.breaker.PausedFor(gate.PauseNotEvaluated) || a.marks.doubtful() || a.unfit.Any() || !a.outage.admit(&a.pauses) || !paused && a.breaker.Paused() {
		return time.Second, false
	}
	if len(j.slots.taken) > a.breaker.Places(a.limiter.SharedBy()) { // it came before the run of refusals did
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
func (a *account) claim(ctx context.Context, j *job) (step, Entry, error) {
	at := Entry{State: State{Phase: PhaseNone}}
	if j.request.Verdict != "" || j.capture != nil || j.delivered > 1 || j.early(a.now()) {
		var err error
		if at, err = a.last(j); err != nil {
			return step{}, at, err
		}
	}
	return a.decide(ctx, j, at, func(s State) step { return deliver(s, j.request, a.now(), a.rulesNow()) })
}

// last reads the job's renewal.
func (a *account) last(j *job) (Entry, error) {
	ctx, cancel := context.WithTimeout(a.recording, claimTimeout)
	defer cancel()
	return a.journal.Last(ctx, j.renewalKey)
}

// decide lets a function of the machine speak until the job goes by keys that are
// its own and everything is known that the function asks for. Each goes by a
// stand-in once at most; a job whose renewal changes again and again meanwhile goes back.
func (a *account) decide(ctx context.Context, j *job, at Entry, speak func(State) step) (step, Entry, error) {
	var answers tally
	for range maxRounds {
		one, cancel := context.WithTimeout(a.recording, claimTimeout)
		next, now, err := a.advance(one, effort{}, j, at, speak, answers)
		cancel()
		if at = now; err != nil {
			return next, at, err
		}
		switch next.Then {
		case actStandIn:
			j.standIn(next)
			if at, err = a.last(j); err != nil {
				return step{}, at, err
			}
		case actLook:
			var ok bool
			if answers, ok = a.look(ctx, j, next.State.Order); !ok && answers.NotEvaluated {
				return a.notLooked(j, at, answers)
			} else if !ok {
				return nak(a.rulesNow().delay(j.delivered)), at, nil
			}
		default:
			return next, at, nil
		}
	}
	return step{}, at, errNoDecision
}

// notLooked writes that the order of a capture could not be looked at, for its own sake.
func (a *account) notLooked(j *job, at Entry, answers tally) (step, Entry, error) {
	ctx, cancel := context.WithTimeout(a.recording, claimTimeout)
	defer cancel()
	return a.advance(ctx, effort{}, j, at, func(s State) step { return lookedInVain(s, j.request, answers.outcome, a.now(), a.rulesNow()) }, answers)
}

// maxRounds is how often the machine is asked about one delivery at most. A job
// is filed under its stand-in once, and looks at its order again when a capture came between.
const maxRounds = 8

// errNoProgress is a journal that refuses a record on top of what it says is the last.
var errNoProgress = errors.New("the journal refuses a record on top of its last one")

// errNoDecision is a job that the machine had no answer for.
var errNoDecision = errors.New("no decision after several rounds")

// record writes what the tries came to. It goes on until the journal has it or
// the process ends: an answer in hand is not given up because the broker is away.
func (a *account) record(j *job, at Entry, held holding, answers tally) (step, error) {
	defer a.outage.keep()()
	speak := func(s State) step { return conclude(s, held, answers.outcome, a.now(), a.rulesNow()) }
	next, _, err := a.advance(a.recording, a.insist(j, answers.Made), j, at, speak, answers)
	if err != nil {
		a.notRecorded(j, answers.Made, err)
	}
	return next, err
}

// recordFraudStatus asks what became of a pending order and writes it.
func (a *account) recordFraudStatus(j *job, at Entry) (step, error) {
	orderID := a.spelledOrder(a.finishing, j.renewalKey, at.State.Claim.OrderID)
	accepted, final, err := a.poll(j, orderID)
	if err != nil {
		a.log.Warn().Err(err).Str("idempotency_key", string(j.request.Key)).Msg("fraud status not known yet")
	}
	speak := func(s State) step { return polled(s, j.request, accepted, final, a.now(), a.rulesNow()) }
	answers := tally{order: klarna.CreatedOrder{OrderID: orderID, FraudStatus: statusAccepted}}
	made := ""
	switch {
	case accepted:
		made = stateID(orderID)
	case final:
		answers.Answer = answerFraudRejected
	}
	defer a.outage.keep()()
	next, _, err := a.advance(a.recording, a.insist(j, made), j, at, speak, answers)
	if err != nil {
		a.notRecorded(j, made, err)
	}
	return next, err
}

// advance lets a function of the machine speak to the renewal's last state until
// a record that it asked for is written, or none is asked for. try says how often each
// step towards it is made: what was read before a failed read is not acted upon.
func (a *account) advance(ctx context.Context, try effort, j *job, at Entry, speak func(State) step, answers tally) (step, Entry, error) {
	var pause *backoff.ExponentialBackOff
	for {
		next := speak(at.State)
		if next.byTheClock() && a.clockFault() != "" {
			return nak(time.Second), at, nil
		}
		if next.Record == "" {
			return next, at, nil
		}
		m, event, err := a.message(ctx, j, next, answers)
		for try.again(ctx, err) {
			m, event, err = a.message(ctx, j, next, answers)
		}
		if err != nil {
			return next, at, err
		}
		held := a.journal.marks.held()
		sequence, err := a.write(ctx, &try, m, j.renewalKey, at.Sequence)
		if errors.Is(err, ErrLost) {
			on := at.Sequence
			at, err = a.journal.Last(ctx, j.renewalKey)
			for try.again(ctx, err) {
				at, err = a.journal.Last(ctx, j.renewalKey)
			}
			if err != nil {
				return next, at, err
			}
			if !same(m, at) {
				if at.Sequence != on {
					continue
				}
				// Refused although nothing is newer: a leader that was deposed reads, or judges.
				if pause == nil {
					pause = newPause()
				}
				if try.a == nil || !try.hold(ctx, pause.NextBackOff()) {
					return next, at, errNoProgress
				}
				continue
			}
			sequence = at.Sequence // stored before, its answer was lost
			a.journal.marks.end(held, m, sequence, nil)
		}
		if err != nil {
			return next, at, err
		}
		a.recorded(j, next, event)
		return next, Entry{Sequence: sequence, State: next.State}, nil
	}
}

// write writes a record with as much effort as it is worth.
func (a *account) write(ctx context.Context, try *effort, m *nats.Msg, r messages.RenewalKey, last uint64) (uint64, error) {
	if try.a == nil {
		return a.journal.Write(ctx, m, r, last)
	}
	sequence, _, err := a.journal.writeOnce(ctx, m, r, last)
	for try.again(ctx, err) {
		a.journal.retried()
		sequence, _, err = a.journal.writeOnce(ctx, m, r, last)
	}
	return sequence, err
}

// held is the claim as this delivery wrote it. It started the key's clock where
// lease and clock began at once.
func (a *account) held(s State) holding {
	c := *s.Claim
	return holding{Claim: c, UndecidedAt: s.UndecidedAt, SetsClock: c.FirstSentAt.Equal(c.LeaseUntil.Add(-a.rules.ackWait))}
}

// finish acknowledges a settled job, as the last thing that happens to it, and
// sends back any other.
func (a *account) finish(j *job, next step, err error) {
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
		err = j.msg.NakWithDelay(a.rulesNow().delay(1))
	case next.Then == actPark:
		err = a.park(j, next)
	case next.Then == actAck:
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
func (a *account) bury(j *job, next step) error {
	if next.afterwards() {
		a.metrics.stray.WithLabelValues(string(a.Name), string(next.Reason)).Inc()
		a.log.Error().Str("reason", string(next.Reason)).Str("order_id", next.Made).Str("idempotency_key", string(j.request.Key)).Str("renewal_key", string(j.renewalKey)).
			Msg("Klarna made something that no result can name any more: a person must look at it")
	}
	defer a.outage.keep()()
	m := a.deadLetter(j, next)
	publish := func() error {
		ctx, cancel := context.WithTimeout(a.recording, publishTimeout)
		defer cancel()
		_, err := a.js.PublishMsg(ctx, m, jetstream.WithExpectStream(StreamDead))
		a.outage.noticed(deadLetters, err)
		return err
	}
	try, err := a.insist(j, next.Made), publish()
	for try.again(a.recording, err) {
		a.metrics.republish.WithLabelValues(StreamDead).Inc()
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
	var next step
	if err == nil {
		next, _, err = a.decide(a.recording, j, at, func(s State) step { return panicked(s, j.request, a.now(), a.rulesNow()) })
	}
	a.finish(j, next, err)
}
