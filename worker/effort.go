package worker

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// An effort is the patience on the way from an answer to its record: a step is made again until the process ends.
type effort struct {
	outage     *gate.Outage
	msg        *nats.Msg
	every      time.Duration // how often the broker is told that the job is at work
	unreadable func(error)   // is told once that only a person, or a newer worker, can put another record on top

	pause *backoff.ExponentialBackOff
	beat  time.Time // when the broker was last told
	told  bool
}

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
	if _, odd := errors.AsType[*journal.UnreadableError](err); !odd {
		return e.Hold(ctx, e.pause.NextBackOff())
	}
	if !e.told {
		e.told = true
		e.unreadable(err)
	}
	defer e.outage.SetAside()()
	return e.Hold(ctx, e.every)
}

// Hold waits, and keeps the job from being delivered again: its next delivery
// would ask Klarna again for what is in hand here. It says whether it waited: not when ctx ended first.
func (e *effort) Hold(ctx context.Context, d time.Duration) bool {
	for again := time.Now().Add(d); ; {
		if time.Since(e.beat) >= e.every {
			e.beat = time.Now()
			_ = e.msg.InProgress() // lost: whoever gets the job finds its claim
		}
		left := time.Until(again)
		if left <= 0 {
			return true
		}
		if !gate.Sleep(ctx, min(left, e.every)) {
			return false
		}
	}
}

// closed says that the connection has ended for good, as it does with the process.
func closed(err error) bool { return errors.Is(err, nats.ErrConnectionClosed) }
