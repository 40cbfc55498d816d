package journal

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
)

// A Change is what somebody wants of a renewal: a worker, an operator or the sweeper. All of them write by [Journal.Apply].
type Change struct {
	Renewal messages.Renewal
	// Decide says what the last state of the renewal comes to. It is asked again when another record came between.
	Decide func(State) (Transition, error)
	// Record is what the record of a transition says. Where that is about a key whose job is not at hand, see [Journal.Abandoned].
	Record func(context.Context, Transition) (Record, error)
	// Written is told of the record once it is in the journal; nil: nobody is.
	Written func(Transition, messages.Event)
}

// A Record is the event of a record and what goes with it.
type Record struct {
	Event messages.Event
	About messages.Record // the fields of every event, as in Event
	Time  time.Time
	// DueAt is when the job says that the period fell due; for a renewal whose state does not say so.
	DueAt time.Time

	TraceParent, TraceState string
}

// Patience says how often a step on the way to a record is made again. A nil Patience writes until the broker answers,
// and makes every other step once.
type Patience interface {
	// Again says whether a call that came to err is made again, after a pause: never one that succeeded.
	Again(ctx context.Context, err error) bool
	// Hold waits, and says whether it did: not when ctx ended first.
	Hold(ctx context.Context, d time.Duration) bool
}

// errNoProgress is a journal that refuses a record on top of what it says is the last.
var errNoProgress = errors.New("the journal refuses a record on top of its last one")

// Apply is the one loop in which a renewal changes: c decides from its last state, at, and what it asks for is written on
// top of exactly that by compare-and-set; where another record came first, c decides again from that one. It ends when the record
// is written, or none is asked for, and returns the last transition and what the renewal then is. After an error the record
// may be there or not: whoever reads the renewal again sees.
func (j *Journal) Apply(ctx context.Context, at Entry, c Change, p Patience) (Transition, Entry, error) {
	var between *backoff.ExponentialBackOff
	for {
		next, err := c.Decide(at.State)
		if err != nil || next.Record == "" {
			return next, at, err
		}
		next.State = next.State.follows(at.State)
		m, event, err := message(ctx, c, next)
		for p != nil && p.Again(ctx, err) {
			m, event, err = message(ctx, c, next)
		}
		if err != nil {
			return next, at, err
		}
		held := j.marks.held()
		sequence, err := j.write(ctx, p, m, c.Renewal, at.Sequence)
		if errors.Is(err, ErrLost) {
			on := at.Sequence
			at, err = j.Last(ctx, c.Renewal)
			for p != nil && p.Again(ctx, err) {
				at, err = j.Last(ctx, c.Renewal)
			}
			if err != nil {
				return next, at, err
			}
			if !same(m, at) {
				if at.Sequence != on {
					continue
				}
				// Refused although nothing is newer: a leader that was deposed reads, or judges.
				if between == nil {
					between = NewPause()
				}
				if p == nil || !p.Hold(ctx, between.NextBackOff()) {
					return next, at, errNoProgress
				}
				continue
			}
			sequence = at.Sequence // stored before, its answer was lost; as it is stored, which may be in a batch
			j.marks.end(held, &nats.Msg{Subject: at.Subject, Header: at.Header, Data: at.stored}, sequence, nil)
		}
		if err != nil {
			return next, at, err
		}
		if c.Written != nil {
			c.Written(next, event)
		}
		return next, Entry{Sequence: sequence, State: next.State.stored(sequence)}, nil
	}
}

// message is the record that a transition asks for.
func message(ctx context.Context, c Change, next Transition) (*nats.Msg, messages.Event, error) {
	r, err := c.Record(ctx, next)
	if err != nil {
		return nil, nil, err
	}
	m, err := r.message(c.Renewal, next.State)
	return m, r.Event, err
}

// write writes a record with as much patience as it is worth.
func (j *Journal) write(ctx context.Context, p Patience, m *nats.Msg, r messages.Renewal, last uint64) (uint64, error) {
	if p == nil {
		return j.Write(ctx, m, r, last)
	}
	sequence, _, err := j.writeOnce(ctx, m, r, last)
	for p.Again(ctx, err) {
		j.retried()
		sequence, _, err = j.writeOnce(ctx, m, r, last)
	}
	return sequence, err
}
