package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A handler takes an account's jobs through the five steps: read, claim, charge, record, acknowledge.
type handler struct {
	reader   reader
	turns    *turns
	spacer   *spacer
	asker    *asker
	recorder *recorder
	finisher *finisher
}

// handle is everything that can happen to a customer's money: a job is read,
// claimed, charged, recorded and acknowledged, in this order. Whatever ends it early leaves the message unacknowledged,
// to be delivered again; the journal then says how far it came.
func (h *handler) handle(ctx context.Context, d gate.Delivery) {
	placed, err := place(d, h.reader.account.Name)
	if err != nil {
		h.recorder.log.Error().Err(err).Msg("delivery without JetStream metadata left alone")
		return
	}
	var j *job
	defer func() { h.recoverPanic(recover(), placed, j) }()
	j = h.reader.read(placed)
	if next, early, err := h.early(j); early {
		h.finisher.finish(j, next, err)
		return
	}

	mine, wait, ok := h.turns.take(ctx, d)
	defer mine.permit.Release()
	if !ok {
		h.finisher.handBack(j, wait)
		return
	}
	j, next, at, err := h.claim(ctx, j)
	switch {
	case err != nil && next.Then == journal.Try:
		mine.permit.Release()
		next, err = h.withdraw(ctx, j, next.State, err)
	case err == nil && next.Then == journal.Try:
		held := journal.Held(at.State, h.recorder.rules.base)
		var free bool
		if next, free, err = h.spacer.spaced(j, at, held); free {
			answer := h.asker.ask(ctx, j, held, mine)
			next, err = h.recorder.record(j, at, held, answer)
		}
	case err == nil && next.Then == journal.Poll:
		told := h.asker.fraudStatus(j, at.State.Claim.OrderID)
		next, err = h.recorder.recordFraudStatus(j, at, told)
	}
	h.finisher.finish(j, next, err)
}

// early says what becomes of a job that is to be parked, or leaves it to the way of all others: its renewal may say that it is
// done, or rejected, or half charged.
func (h *handler) early(j *job) (next journal.Transition, early bool, err error) {
	now := h.recorder.clock.now()
	if !j.early(now) || h.turns.pauses.reasons.Any() || h.turns.marks.Doubtful() {
		return next, false, nil
	}
	at, err := h.recorder.last(j)
	if err != nil {
		return next, true, err
	}
	next = journal.Deliver(at.State, j.request, now, h.recorder.rules.now())
	return next, next.Then == journal.Park, nil
}

// claim asks the machine what the delivery means and writes what it says. A
// charge that looks new is claimed without reading first: an empty renewal is part of the write's condition.
func (h *handler) claim(ctx context.Context, j *job) (*job, journal.Transition, journal.Entry, error) {
	r := h.recorder
	at := journal.Entry{State: journal.State{Phase: journal.PhaseNone}}
	if j.request.Verdict != "" || j.service.afterOrder || j.delivered > 1 || j.early(r.clock.now()) {
		var err error
		if at, err = r.last(j); err != nil {
			return j, journal.Transition{}, at, err
		}
	}
	return h.decide(ctx, j, at, func(j *job, s journal.State) journal.Transition {
		return journal.Deliver(s, j.request, r.clock.stamp(), r.rules.now())
	})
}

// maxRounds is how often the machine is asked about one delivery at most. A job
// is filed under its stand-in once, and looks at its order again when a capture came between.
const maxRounds = 8

// errNoDecision is a job that the machine had no answer for.
var errNoDecision = errors.New("no decision after several rounds")

// decide lets a function of the machine speak until the job goes by keys that are
// its own and everything is known that the function asks for, and returns the job as which it then goes. Each goes by a
// stand-in once at most; a job whose renewal changes again and again meanwhile goes back.
func (h *handler) decide(ctx context.Context, j *job, at journal.Entry, speak func(*job, journal.State) journal.Transition) (*job, journal.Transition, journal.Entry, error) {
	r := h.recorder
	var answer journal.TryResult
	for range maxRounds {
		one, cancel := context.WithTimeout(r.recording, claimTimeout)
		next, now, err := r.advance(one, nil, j, at, func(s journal.State) journal.Transition { return speak(j, s) }, answer)
		cancel()
		if at = now; err != nil {
			return j, next, at, err
		}
		switch next.Then {
		case journal.FileApart:
			j = j.standIn(next)
			if at, err = r.last(j); err != nil {
				return j, journal.Transition{}, at, err
			}
		case journal.LookAround:
			way, err := h.spacer.way(j, at)
			if err != nil {
				return j, journal.Transition{}, at, err
			}
			j = j.beside(way)
		case journal.Look:
			found, told, ok := h.asker.look(ctx, j, next.State.Order)
			switch {
			case ok:
				j, answer = j.looked(found), told
			case told.NotEvaluated:
				next, at, err = h.notLooked(j, at, told)
				return j, next, at, err
			default:
				return j, journal.Later(r.rules.now().Delay(j.delivered)), at, nil
			}
		default:
			return j, next, at, nil
		}
	}
	return j, journal.Transition{}, at, errNoDecision
}

// notLooked writes that the order of a capture could not be looked at, for its own sake.
func (h *handler) notLooked(j *job, at journal.Entry, told journal.TryResult) (journal.Transition, journal.Entry, error) {
	r := h.recorder
	ctx, cancel := context.WithTimeout(r.recording, claimTimeout)
	defer cancel()
	return r.advance(ctx, nil, j, at, func(s journal.State) journal.Transition {
		return journal.LookedInVain(s, j.request, told.Outcome, r.clock.stamp(), r.rules.now())
	}, told)
}

// withdraw takes back a claim whose answer was lost for the reason why, see [recorder.withdraw].
func (h *handler) withdraw(ctx context.Context, j *job, claimed journal.State, why error) (journal.Transition, error) {
	if _, unreadable := errors.AsType[*journal.UnreadableError](why); unreadable {
		return journal.Transition{}, why // it is not ours, and nobody can write on top of it
	}
	return h.recorder.withdraw(ctx, j, claimed)
}

// recoverPanic keeps one job's panic, p, from ending the others, and counts it in
// the journal: after the tenth the job is put aside. j is nil where reading it broke.
func (h *handler) recoverPanic(p any, d delivery, j *job) {
	if p == nil {
		return
	}
	r := h.recorder
	defer func() {
		if again := recover(); again != nil { // even the counting breaks: it comes again after AckWait
			r.log.Error().Str("panic", fmt.Sprintf("%T", again)).Bytes("stack", debug.Stack()).Uint64("sequence", d.sequence).Msg("counting a panic panicked")
		}
	}()
	if j == nil {
		j = h.reader.unread(d).apart()
	}
	r.metrics.panics.WithLabelValues(string(d.account)).Inc()
	// The value may quote the job: only its type is logged.
	r.log.Error().Str("panic", fmt.Sprintf("%T", p)).Bytes("stack", debug.Stack()).Uint64("sequence", d.sequence).
		Str("idempotency_key", string(j.request.Key)).Msg("handling a job panicked")
	at, err := r.last(j)
	var next journal.Transition
	if err == nil {
		j, next, _, err = h.decide(r.recording, j, at, func(j *job, s journal.State) journal.Transition {
			return journal.Panicked(s, j.request, r.clock.stamp(), r.rules.now())
		})
	}
	h.finisher.finish(j, next, err)
}
