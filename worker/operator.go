package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// What a person decides, no machine can. It goes into the journal by the same
// compare-and-set as everything else, with who decided it and why.

// A Decision is an operator's, for the record.
type Decision struct {
	Actor, Note string
	At          time.Time
}

// A RefusedError says why the state of a renewal does not allow what an operator asked for.
type RefusedError struct {
	Phase Phase
	Why   string
}

func (e *RefusedError) Error() string { return e.Why }

// Resolvable says why a renewal in this state cannot be resolved, as a *RefusedError; nil when it can.
func (s State) Resolvable() error {
	_, err := resolve(s, "")
	return err
}

// Cancellable is the same for cancelling.
func (s State) Cancellable() error {
	_, err := cancel(s)
	return err
}

// resolve settles an unresolved renewal: paid with an order, or not charged.
func resolve(s State, orderID string) (step, error) {
	if s.Phase != PhaseUnresolved {
		return step{}, &RefusedError{s.Phase, "only an unresolved renewal can be resolved: this one is " + string(s.Phase)}
	}
	c := *s.Claim
	c.OrderID = orderID
	kind := messages.KindPaid
	if orderID == "" {
		kind = messages.KindDunning
	}
	next := s.claimed(c).settle(c.Key, Settlement{Kind: kind, SHA256: c.SHA256})
	next.Phase = Phase(kind)
	if kind == messages.KindDunning && s.Cancelled {
		next.Phase = PhaseCancelled // a cancellation outlives an order that came to nothing
	}
	return step{Record: kind, Key: c.Key, State: next, Corrects: messages.KindUnresolved}, nil
}

// cancel ends a renewal that is not being charged and has not been.
func cancel(s State) (step, error) {
	switch s.Phase {
	case PhaseNone, PhaseDunning:
		s.Phase, s.Cancelled = PhaseCancelled, true
		return step{Record: messages.KindCancelled, State: s}, nil
	case PhaseCharging, PhasePending:
		return step{}, &RefusedError{s.Phase, "too late: the renewal is being charged; its result will say what became of it"}
	case PhaseUnresolved:
		return step{}, &RefusedError{s.Phase, "the renewal is unresolved, it may have been charged: resolve it first"}
	case PhaseCancelled:
		return step{}, &RefusedError{s.Phase, "the renewal is cancelled already"}
	}
	return step{}, &RefusedError{s.Phase, "too late: the renewal is " + string(s.Phase)}
}

// ResolvePaid settles an unresolved renewal as paid with an order that the
// operator found at Klarna. A *RefusedError means that the renewal is not unresolved (any more); after any other error
// the decision may have been recorded: look, then repeat it.
func (j *Journal) ResolvePaid(ctx context.Context, r messages.RenewalKey, orderID string, captured bool, d Decision) error {
	if orderID == "" {
		return errors.New("order id: not set")
	}
	return j.resolve(ctx, r, orderID, d, func(about messages.Record, s State) messages.Event {
		return messages.Paid{Record: about, OrderID: orderID, FraudStatus: "ACCEPTED", Captured: captured, Corrects: string(messages.KindUnresolved)}
	})
}

// ResolveNotCharged settles an unresolved renewal as a failed attempt, after
// which the next may be made. Errors are as with ResolvePaid.
func (j *Journal) ResolveNotCharged(ctx context.Context, r messages.RenewalKey, d Decision) error {
	return j.resolve(ctx, r, "", d, func(about messages.Record, s State) messages.Event {
		no := dunning.NotCharged()
		event := messages.Dunning{
			Record: about, Reason: no.Reason, Category: no.Category, FixBy: no.FixBy, NotifyCustomer: no.NotifyCustomer, Retryable: no.Retryable,
			UndecidedTries: s.Claim.UndecidedTries, Corrects: string(messages.KindUnresolved),
		}
		policy := dunning.DefaultPolicy()
		if s.Policy != nil {
			policy = *s.Policy
		}
		next, ok, final := policy.Next(no.Category, no.Retryable, s.Attempts, s.FirstAttemptAt)
		if event.Final = final; ok {
			event.NextAttemptAt = &next
		}
		return event
	})
}

func (j *Journal) resolve(ctx context.Context, r messages.RenewalKey, orderID string, d Decision, event func(messages.Record, State) messages.Event) error {
	for {
		at, err := j.Last(ctx, r)
		if err != nil {
			return err
		}
		next, err := resolve(at.State, orderID)
		if err != nil {
			return err
		}
		given, err := j.unresolved(ctx, r)
		if err != nil {
			return err
		}
		about := d.sign(given.Record)
		m, err := recordMessage(event(about, next.State), about, next.State, d.At, "", "")
		if err != nil {
			return err
		}
		if written, err := j.settle(ctx, m, r, at.Sequence); written || err != nil {
			return err
		}
	}
}

// settle writes an operator's record, unless another came between: then neither it nor an error is there, and the state
// has to be read again.
func (j *Journal) settle(ctx context.Context, m *nats.Msg, r messages.RenewalKey, last uint64) (written bool, err error) {
	if _, err = j.Write(ctx, m, r, last); !errors.Is(err, ErrLost) {
		return err == nil, err
	}
	at, err := j.Last(ctx, r)
	return err == nil && same(m, at), err // stored before, its answer was lost
}

// Cancel records that there will be no charge for a period. Errors are as with ResolvePaid.
func (j *Journal) Cancel(ctx context.Context, account messages.Account, subscription messages.SubscriptionID, period messages.Period, d Decision) error {
	r := messages.NewRenewalKey(subscription, period)
	for {
		at, err := j.Last(ctx, r)
		if err != nil {
			return err
		}
		next, err := cancel(at.State)
		if err != nil {
			return err
		}
		about := d.sign(messages.Record{
			Account: account, SubscriptionID: subscription, Period: period, RenewalKey: r,
			// There is no job, so no message ID, to derive a key from.
			IdempotencyKey: messages.IdempotencyKey(r),
		})
		m, err := recordMessage(messages.Cancelled{Record: about}, about, next.State, d.At, "", "")
		if err != nil {
			return err
		}
		if written, err := j.settle(ctx, m, r, at.Sequence); written || err != nil {
			return err
		}
	}
}

func (d Decision) sign(r messages.Record) messages.Record {
	r.Actor, r.Note, r.At, r.Worker = d.Actor, d.Note, d.At, "operator"
	return r
}

// Records reads a renewal's whole history from the stream's leader, the oldest record first.
func (j *Journal) Records(ctx context.Context, r messages.RenewalKey) ([]Entry, error) {
	var all []Entry
	for next := uint64(1); ; {
		m, err := j.stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(messages.RenewalFilter(r)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the records of renewal %s: %w", r, err)
		}
		e, err := entry(m)
		if err != nil {
			return nil, err
		}
		all, next = append(all, e), m.Sequence+1
	}
}

// unresolved reads the record that gave a renewal up.
func (j *Journal) unresolved(ctx context.Context, r messages.RenewalKey) (messages.Unresolved, error) {
	at, err := j.LastOf(ctx, messages.KindUnresolved, r)
	if err != nil {
		return messages.Unresolved{}, err
	}
	var u messages.Unresolved
	if err := json.Unmarshal(at.Body, &u); err != nil {
		return messages.Unresolved{}, fmt.Errorf("read record %d of %s: %w", at.Sequence, StreamJournal, err)
	}
	return u, nil
}
