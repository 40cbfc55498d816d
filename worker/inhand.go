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
// up: on the way to a claim once, since the job can go back; on the way from an answer to its record until the process ends.
type effort func(ctx context.Context, call func(context.Context) error) error

// once leaves it to ctx how long the call may take.
func once(ctx context.Context, call func(context.Context) error) error { return call(ctx) }

// insistPause is the longest pause between two calls of what is in hand.
const insistPause = 2 * time.Second

// insist makes a call again until it has succeeded, the journal has moved on, the
// refusal is final or ctx has ended. The job is kept from being delivered again meanwhile: its next
// delivery would ask Klarna again for what is in hand here.
func (a *account) insist(j *job, made string) effort {
	return func(ctx context.Context, call func(context.Context) error) error {
		var pause *backoff.ExponentialBackOff
		var beat time.Time // when the broker was last told that the job is at work
		told := false
		for {
			one, cancel := context.WithTimeout(ctx, min(claimTimeout, a.rules.ackWait/4))
			err := call(one)
			cancel()
			if err == nil || errors.Is(err, ErrLost) || final(err) || ctx.Err() != nil {
				return err
			}
			if pause == nil {
				pause = backoff.NewExponentialBackOff(
					backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(insistPause), backoff.WithMaxElapsedTime(0))
			}
			wait := pause.NextBackOff()
			unreadable, odd := errors.AsType[*UnreadableError](err)
			if odd {
				wait = a.rules.ackWait / 4 // only a person, or a newer worker, puts another record on top
				if !told {
					told = true
					a.log.Error().Err(unreadable).Str("order_id", made).Str("idempotency_key", string(j.request.Key)).Str("renewal_key", string(j.renewalKey)).
						Msg("an answer of Klarna's waits here for its record: nobody can write on top of what nobody understands")
				}
			}
			if odd {
				a.outage.inHand.Add(-1) // it learns nothing of the broker meanwhile
			}
			waited := a.hold(ctx, j, wait, &beat)
			if odd {
				a.outage.inHand.Add(1)
			}
			if !waited {
				return err
			}
		}
	}
}

// hold waits, and tells the broker in time that the job is still at work. It says
// whether it did: not when ctx ended first.
func (a *account) hold(ctx context.Context, j *job, d time.Duration, beat *time.Time) bool {
	every := a.rules.ackWait / 4
	for again := time.Now().Add(d); ; {
		if time.Since(*beat) >= every {
			*beat = time.Now()
			_ = j.msg.InProgress() // lost: whoever gets the job finds its claim
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
