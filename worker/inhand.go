package worker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// finalCodes are the refusals after which the same bytes can never be stored
// where they belong. The list is closed: whatever else the broker says, a full quota (10002), a full disk or stream (10077) and
// codes that do not exist yet among it, may pass.
// https://github.com/nats-io/nats-server/blob/main/server/errors.json
var finalCodes = [...]jetstream.ErrorCode{
	jetstream.JSErrCodeStreamMessageExceedsMaximum, // 10054: larger than the stream or the server allows
	10097, // header larger than 64 KiB
	codeSealed,
}

// codeSealed is the refusal of a stream that was sealed, which cannot be taken back.
const codeSealed jetstream.ErrorCode = 10109

// final says that a write was refused once and for all. A missing permission is not
// among it: the server tells the connection of it, not the publisher, for whom it is a timeout like any other; and
// permissions are reloaded.
func final(err error) bool {
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadHeaderMsg) || errors.Is(err, nats.ErrConnectionClosed) {
		return true
	}
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && slices.Contains(finalCodes[:], refused.ErrorCode)
}

// An effort is how often a step of a delivery asks the broker before it gives
// up. Its zero value does so once, on the way to a claim, since the job can go back. On the way from an answer to its
// record, see [account.insist], it does so until the process ends.
type effort struct {
	a    *account // nil: once
	j    *job
	made string // by Klarna, for a person

	pause *backoff.ExponentialBackOff
	beat  time.Time // when the broker was last told that the job is at work
	told  bool
}

func (a *account) insist(j *job, made string) effort { return effort{a: a, j: j, made: made} }

// again says whether a call is made again that came to err, after a pause: not
// when it has succeeded, the journal has moved on, the refusal is final or ctx has ended.
func (e *effort) again(ctx context.Context, err error) bool {
	if err == nil || e.a == nil || errors.Is(err, ErrLost) || final(err) || ctx.Err() != nil {
		e.pause = nil
		return false
	}
	if e.pause == nil {
		e.pause = newPause()
	}
	unreadable, odd := errors.AsType[*UnreadableError](err)
	if !odd {
		return e.hold(ctx, e.pause.NextBackOff())
	}
	if !e.told {
		e.told = true
		e.a.log.Error().Err(unreadable).Str("order_id", e.made).Str("idempotency_key", string(e.j.request.Key)).Str("renewal_key", string(e.j.renewalKey)).
			Msg("an answer of Klarna's waits here for its record: nobody can write on top of what nobody understands")
	}
	e.a.outage.inHand.Add(-1) // it learns nothing of the broker meanwhile
	defer e.a.outage.inHand.Add(1)
	return e.hold(ctx, e.a.rules.ackWait/4) // only a person, or a newer worker, puts another record on top
}

// hold waits, and keeps the job from being delivered again: its next delivery
// would ask Klarna again for what is in hand here. It says whether it waited: not when ctx ended first.
func (e *effort) hold(ctx context.Context, d time.Duration) bool {
	every := e.a.rules.ackWait / 4
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
func (a *account) withdraw(ctx context.Context, j *job, claimed State, why error) (step, error) {
	if _, unreadable := errors.AsType[*UnreadableError](why); unreadable {
		return step{}, why // it is not ours, and nobody can write on top of it
	}
	j.slots.leave(j)
	defer a.outage.keep()()
	bounded, cancel := context.WithCancel(a.recording)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		sleep(bounded, recordGrace)
		cancel()
	})()
	try := a.insist(j, "")
	at, err := a.journal.Last(bounded, j.renewalKey)
	for try.again(bounded, err) {
		at, err = a.journal.Last(bounded, j.renewalKey)
	}
	if err != nil {
		return step{}, err
	}
	held, nothing := a.held(claimed), outcome{Unsent: true, HandBack: true}
	speak := func(s State) step { return conclude(s, held, nothing, a.now(), a.rulesNow()) }
	next, _, err := a.advance(bounded, a.insist(j, ""), j, at, speak, tally{outcome: nothing})
	return next, err
}
