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
	// Corrects: an operator has settled this before, wrongly, and nothing has followed. Both decisions stay on the record.
	Corrects bool
}

// A RefusedError says why the state of a renewal does not allow what an operator asked for.
type RefusedError struct {
	Phase Phase
	Why   string
}

func (e *RefusedError) Error() string { return e.Why }

// Resolvable says why a renewal in this state cannot be resolved, as a *RefusedError; nil when it can. What is unresolved
// can be a charge or a capture, see [State.Capturing].
func (s State) Resolvable() error {
	if s.Phase != PhaseUnresolved {
		return &RefusedError{s.Phase, "only an unresolved renewal can be resolved: this one is " + string(s.Phase)}
	}
	return nil
}

// Correctable says why a settlement cannot be put right by hand, as a *RefusedError; nil when it can: an operator made it, and
// nothing has followed.
func (s State) Correctable() error {
	if s.Phase == PhaseUnresolved {
		return &RefusedError{s.Phase, "the renewal is unresolved: there is no decision to correct yet"}
	}
	if s.Claim == nil || !s.Settled[s.Claim.Key].ByHand {
		return &RefusedError{s.Phase, "only what an operator decided can be corrected: the last result of this renewal, " + string(s.Phase) + ", is none"}
	}
	if s.Phase != Phase(s.Settled[s.Claim.Key].Kind) {
		return &RefusedError{s.Phase, "something has followed the decision: the renewal is " + string(s.Phase)}
	}
	return nil
}

// Reinstatable is the same for undoing a cancellation.
func (s State) Reinstatable() error {
	_, err := reinstate(s)
	return err
}

// Capturing says that the last claim is for a capture.
func (s State) Capturing() bool { return s.Claim != nil && s.Claim.Capture != nil }

// Cancellable is the same for cancelling.
func (s State) Cancellable() error {
	_, err := cancel(s)
	return err
}

// A verdict is what an operator found at Klarna.
type verdict struct {
	kind       messages.Kind // paid, dunning, captured or capture_failed
	made       string        // the order or the capture
	authorised *Order        // what a paid order leaves to be captured
}

// resolve settles an unresolved renewal.
func resolve(s State, v verdict) (step, error) {
	if err := s.Resolvable(); err != nil {
		return step{}, err
	}
	return settleByHand(s, v, messages.KindUnresolved)
}

// correct settles otherwise what an operator has settled wrongly.
func correct(s State, v verdict) (step, error) {
	if err := s.Correctable(); err != nil {
		return step{}, err
	}
	was := s.Settled[s.Claim.Key].Kind
	if was == v.kind && s.Claim.made() == v.made && (v.kind != messages.KindPaid || (s.Order == nil) == (v.authorised == nil)) {
		return step{}, &RefusedError{s.Phase, "that is what is recorded already"}
	}
	switch was {
	case messages.KindPaid:
		s.Order = nil // no capture has been claimed: the claim would be its own
	case messages.KindCaptured:
		o := *s.Order
		o.Captured -= s.Claim.Capture.Amount
		s = s.ordered(o)
	}
	return settleByHand(s, v, was)
}

// settleByHand settles the last claim as an operator says, over an earlier result of the same key.
func settleByHand(s State, v verdict, corrects messages.Kind) (step, error) {
	ofCapture := v.kind == messages.KindCaptured || v.kind == messages.KindCaptureFailed
	switch {
	case s.Capturing() && !ofCapture:
		return step{}, &RefusedError{s.Phase, "the renewal is paid, what is unresolved is a capture: say whether there is one"}
	case !s.Capturing() && ofCapture:
		return step{}, &RefusedError{s.Phase, "what is unresolved is a charge, not a capture: say whether there is an order"}
	}
	c := *s.Claim
	c.make(v.made)
	next := s.claimed(c).settle(c.Key, Settlement{Kind: v.kind, SHA256: c.SHA256, ByHand: true})
	next.Phase = Phase(v.kind)
	switch {
	case v.made != "":
		next = next.gained(c, v.authorised)
	case v.kind == messages.KindDunning && s.Cancelled:
		next.Phase = PhaseCancelled // a cancellation outlives an order that came to nothing
	}
	return step{Record: v.kind, Key: c.Key, State: next, Corrects: corrects}, nil
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

// reinstate undoes a cancellation. Whatever would have followed one is another phase, so nothing has.
func reinstate(s State) (step, error) {
	if s.Phase != PhaseCancelled {
		return step{}, &RefusedError{s.Phase, "only a cancelled renewal can be reinstated: this one is " + string(s.Phase)}
	}
	s.Cancelled = false
	s.Phase = s.before()
	return step{Record: messages.KindCancelled, State: s}, nil
}

// ResolvePaid settles an unresolved charge as paid with an order that the
// operator found at Klarna; captured false says that its money still needs a capture. A *RefusedError means that the
// renewal is not unresolved (any more), or for another reason; after any other error the decision may have been
// recorded: look, then repeat it.
func (j *Journal) ResolvePaid(ctx context.Context, r messages.RenewalKey, orderID string, captured bool, d Decision) error {
	if orderID == "" {
		return errors.New("order id: not set")
	}
	given := func(about messages.Record) verdict {
		v := verdict{kind: messages.KindPaid, made: orderID}
		if !captured {
			v.authorised = &Order{Amount: about.OrderAmount, Currency: about.PurchaseCurrency, MerchantReference1: about.MerchantReference1}
		}
		return v
	}
	return j.resolve(ctx, r, given, d, func(about messages.Record, s State, corrects messages.Kind) messages.Event {
		return messages.Paid{Record: about, OrderID: orderID, FraudStatus: statusAccepted, Captured: captured, Corrects: string(corrects)}
	})
}

// ResolveNotCharged settles an unresolved charge as a failed attempt, after
// which the next may be made. Errors are as with ResolvePaid.
func (j *Journal) ResolveNotCharged(ctx context.Context, r messages.RenewalKey, d Decision) error {
	given := func(messages.Record) verdict { return verdict{kind: messages.KindDunning} }
	return j.resolve(ctx, r, given, d, func(about messages.Record, s State, corrects messages.Kind) messages.Event {
		no := dunning.NotCharged()
		event := messages.Dunning{
			Record: about, Reason: no.Reason, Category: no.Category, FixBy: no.FixBy, NotifyCustomer: no.NotifyCustomer, Retryable: no.Retryable,
			UndecidedTries: s.Claim.UndecidedTries, Corrects: string(corrects),
		}
		event.NextAttemptAt, event.Final = s.nextAttempt(no)
		return event
	})
}

// ResolveCaptured settles an unresolved capture as done, with the capture that
// the operator found at Klarna. Errors are as with ResolvePaid.
func (j *Journal) ResolveCaptured(ctx context.Context, r messages.RenewalKey, captureID string, d Decision) error {
	if captureID == "" {
		return errors.New("capture id: not set")
	}
	given := func(messages.Record) verdict { return verdict{kind: messages.KindCaptured, made: captureID} }
	return j.resolve(ctx, r, given, d, func(about messages.Record, s State, corrects messages.Kind) messages.Event {
		return captured(about, s, "", corrects)
	})
}

// ResolveNotCaptured settles an unresolved capture as failed, after which the
// next may be made. Errors are as with ResolvePaid.
func (j *Journal) ResolveNotCaptured(ctx context.Context, r messages.RenewalKey, d Decision) error {
	given := func(messages.Record) verdict { return verdict{kind: messages.KindCaptureFailed} }
	return j.resolve(ctx, r, given, d, func(about messages.Record, s State, corrects messages.Kind) messages.Event {
		no := dunning.NotCapturable(messages.ReasonNotCaptured)
		event := messages.CaptureFailed{
			Record: about, OrderID: s.Claim.Capture.OrderID, CapturedAmount: s.Claim.Capture.Amount,
			Reason: no.Reason, Category: no.Category, FixBy: no.FixBy, NotifyCustomer: no.NotifyCustomer, Retryable: no.Retryable,
			UndecidedTries: s.Claim.UndecidedTries, Corrects: string(corrects),
		}
		event.NextAttemptAt, event.Final = s.nextCapture(no)
		return event
	})
}

func (j *Journal) resolve(ctx context.Context, r messages.RenewalKey, given func(messages.Record) verdict, d Decision, event func(messages.Record, State, messages.Kind) messages.Event) error {
	allowed, decide := State.Resolvable, resolve
	if d.Corrects {
		allowed, decide = State.Correctable, correct
	}
	for {
		at, err := j.Last(ctx, r)
		if err != nil {
			return err
		}
		if err := allowed(at.State); err != nil {
			return err
		}
		gaveUp, err := j.unresolved(ctx, r)
		if err != nil {
			return err
		}
		next, err := decide(at.State, given(gaveUp.Record))
		if err != nil {
			return err
		}
		if !at.State.Capturing() {
			next.State.VouchedAt = d.At
		}
		about := d.sign(gaveUp.Record)
		m, err := recordMessage(event(about, next.State, next.Corrects), about, next.State, d.At, "", "")
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
	return j.cancelled(ctx, account, subscription, period, d, cancel)
}

// Reinstate undoes the cancellation of a period: it may be charged again. Errors are as with ResolvePaid.
func (j *Journal) Reinstate(ctx context.Context, account messages.Account, subscription messages.SubscriptionID, period messages.Period, d Decision) error {
	return j.cancelled(ctx, account, subscription, period, d, reinstate)
}

// cancelled writes what decide says of a cancellation.
func (j *Journal) cancelled(ctx context.Context, account messages.Account, subscription messages.SubscriptionID, period messages.Period, d Decision, decide func(State) (step, error)) error {
	r := messages.NewRenewalKey(subscription, period)
	for {
		at, err := j.Last(ctx, r)
		if err != nil {
			return err
		}
		next, err := decide(at.State)
		if err != nil {
			return err
		}
		about := d.sign(messages.Record{
			Account: account, SubscriptionID: subscription, Period: period, RenewalKey: r,
			// There is no job, so no message ID, to derive a key from.
			IdempotencyKey: messages.IdempotencyKey(r),
		})
		m, err := recordMessage(messages.Cancelled{Record: about, Undone: !next.State.Cancelled}, about, next.State, d.At, "", "")
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
