package worker

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/worker/journal"
)

// An effort is the patience on the way from an answer to its record: a step is made again until the process ends.
type effort struct {
	a    *account
	j    *job
	made string // by Klarna, for a person

	pause *backoff.ExponentialBackOff
	beat  time.Time // when the broker was last told that the job is at work
	told  bool
}

func (a *account) insist(j *job, made string) *effort { return &effort{a: a, j: j, made: made} }

// Again says whether a call is made again that came to err, after a pause: not
// when it has succeeded, the journal has moved on, the refusal is final or ctx has ended.
func (e *effort) Again(ctx context.Context, err error) bool {
	if err == nil || errors.Is(err, journal.ErrLost) || journal.Final(err) || ctx.Err() != nil {
		e.pause = nil
		return false
	}
	if e.pause == nil {
		e.pause = journal.NewPause()
	}
	unreadable, odd := errors.AsType[*journal.UnreadableError](err)
	if !odd {
		return e.Hold(ctx, e.pause.NextBackOff())
	}
	if !e.told {
		e.told = true
		e.a.log.Error().Err(unreadable).Str("order_id", e.made).Str("idempotency_key", string(e.j.request.Key)).Str("renewal_key", string(e.j.renewalKey)).
			Msg("an answer of Klarna's waits here for its record: nobody can write on top of what nobody understands")
	}
	defer e.a.outage.SetAside()()
	return e.Hold(ctx, e.a.rules.AckWait/4) // only a person, or a newer worker, puts another record on top
}

// Hold waits, and keeps the job from being delivered again: its next delivery
// would ask Klarna again for what is in hand here. It says whether it waited: not when ctx ended first.
func (e *effort) Hold(ctx context.Context, d time.Duration) bool {
	every := e.a.rules.AckWait / 4
	for again := time.Now().Add(d); ; {
		if time.Since(e.beat) >= every {
			e.beat = time.Now()
			_ = e.j.msg.InProgress() // lost: whoever gets the job finds its claim
		}
		left := time.Until(again)
		if left <= 0 {
			return true
		}
		if !sleep(ctx, min(left, every)) {
			return false
		}
	}
}

// notRecorded tells a person of what Klarna made and the journal did not take.
// The job goes back: its next delivery asks Klarna again, under the same key.
func (a *account) notRecorded(j *job, made string, err error) {
	if made == "" {
		return
	}
	if a.recording.Err() == nil && !errors.Is(err, nats.ErrConnectionClosed) {
		a.metrics.stray.WithLabelValues(string(a.Name), strayNotRecorded).Inc()
	}
	a.log.Error().Err(err).Str("order_id", made).Str("idempotency_key", string(j.request.Key)).Str("renewal_key", string(j.renewalKey)).
		Msg("what Klarna made could not be recorded: the job goes back, and Klarna is asked again under the same key")
}

// strayNotRecorded is the reason under which such orders and captures are counted.
const strayNotRecorded = "not_recorded"

// withdraw says that nothing was sent under a claim whose answer was lost: it may be
// stored all the same. Without that word whoever takes it over has to count a try that nobody made, and no
// refusal about the token decides any more. It may be said only here, where no request was ever handed to
// the HTTP client, and only of the claim with this delivery's own nonce; what earlier deliveries left stays. It
// goes on until the journal says whether the claim is there, and not for long once the worker is told to stop.
func (a *account) withdraw(ctx context.Context, j *job, claimed journal.State, why error) (journal.Transition, error) {
	if _, unreadable := errors.AsType[*journal.UnreadableError](why); unreadable {
		return journal.Transition{}, why // it is not ours, and nobody can write on top of it
	}
	j.permit.Release()
	defer a.outage.Keep()()
	bounded, cancel := context.WithCancel(a.recording)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		sleep(bounded, recordGrace)
		cancel()
	})()
	try := a.insist(j, "")
	at, err := a.journal.Last(bounded, j.renewalKey)
	for try.Again(bounded, err) {
		at, err = a.journal.Last(bounded, j.renewalKey)
	}
	if err != nil {
		return journal.Transition{}, err
	}
	held, nothing := journal.Held(claimed, a.rules), journal.Outcome{Unsent: true, HandBack: true}
	speak := func(s journal.State) journal.Transition {
		return journal.Conclude(s, held, nothing, a.now(), a.rulesNow())
	}
	next, _, err := a.advance(bounded, a.insist(j, ""), j, at, speak, journal.TryResult{Outcome: nothing})
	return next, err
}
