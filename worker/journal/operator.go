package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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
	// Seen is what Klarna said of the order when the decision was checked, nil where Klarna was not asked, and Verified that
	// everything in it fits. What a record tells of the order besides its id is from there alone.
	Seen     *messages.Seen
	Verified bool
	// Rev is that of the state that was looked at: a renewal that has another by now is not settled. 0: whatever it is.
	Rev int64
}

// ResolvePaid settles an unresolved charge as paid with an order that the
// operator found at Klarna; captured false says that its money still needs a capture. A *RefusedError means that the
// renewal is not unresolved (any more), or for another reason; after any other error the decision may have been
// recorded: look, then repeat it.
func (j *Journal) ResolvePaid(ctx context.Context, r messages.Renewal, orderID string, captured bool, d Decision) error {
	if orderID == "" {
		return errors.New("order id: not set")
	}
	given := func(about messages.Record) verdict {
		v := verdict{kind: messages.KindPaid, made: orderID}
		if !captured {
			v.authorised = &Order{
				Amount: about.OrderAmount, Currency: about.PurchaseCurrency, MerchantReference1: about.MerchantReference1, MerchantReference2: about.MerchantReference2,
			}
			if d.Seen != nil {
				v.authorised.Captured, v.authorised.CaptureBefore = d.Seen.CapturedAmount, d.Seen.CaptureBefore
			}
		}
		return v
	}
	return j.resolve(ctx, r, given, d, func(about messages.Record, next Transition) messages.Event {
		paid := messages.Paid{Record: about, OrderID: orderID, Captured: captured, Corrects: string(next.Corrects)}
		if d.Seen != nil {
			paid.FraudStatus = d.Seen.FraudStatus
		}
		if o := next.State.Order; o != nil {
			paid.CaptureBefore = o.CaptureBefore
		}
		return paid
	})
}

// ResolveNotCharged settles an unresolved charge as a failed attempt, after
// which the next may be made. Errors are as with ResolvePaid.
func (j *Journal) ResolveNotCharged(ctx context.Context, r messages.Renewal, d Decision) error {
	given := func(messages.Record) verdict { return verdict{kind: messages.KindDunning} }
	return j.resolve(ctx, r, given, d, func(about messages.Record, next Transition) messages.Event {
		return DunningEvent(about, next)
	})
}

// ResolveCaptured settles an unresolved capture as done, with the capture that
// the operator found at Klarna. Errors are as with ResolvePaid.
func (j *Journal) ResolveCaptured(ctx context.Context, r messages.Renewal, captureID string, d Decision) error {
	if captureID == "" {
		return errors.New("capture id: not set")
	}
	given := func(messages.Record) verdict { return verdict{kind: messages.KindCaptured, made: captureID} }
	return j.resolve(ctx, r, given, d, func(about messages.Record, next Transition) messages.Event {
		return CapturedEvent(about, next.State, "", next.Corrects)
	})
}

// ResolveNotCaptured settles an unresolved capture as failed, after which the
// next may be made. Errors are as with ResolvePaid.
func (j *Journal) ResolveNotCaptured(ctx context.Context, r messages.Renewal, d Decision) error {
	given := func(messages.Record) verdict { return verdict{kind: messages.KindCaptureFailed} }
	return j.resolve(ctx, r, given, d, func(about messages.Record, next Transition) messages.Event {
		event := CaptureFailedEvent(about, next)
		event.OrderID, event.CapturedAmount = next.State.Claim.Capture.OrderID, next.State.Claim.Capture.Amount
		return event
	})
}

func (j *Journal) resolve(ctx context.Context, r messages.Renewal, given func(messages.Record) verdict, d Decision, event func(messages.Record, Transition) messages.Event) error {
	decide := resolve
	if d.Corrects {
		decide = correct
	}
	var about messages.Record
	return j.byHand(ctx, r, d, func(s State) (Transition, error) {
		if err := d.fits(s); err != nil {
			return Transition{}, err
		}
		gaveUp, err := j.unresolved(ctx, r)
		if err != nil {
			return Transition{}, err
		}
		about = d.sign(gaveUp.Record)
		about.Verified, about.Seen = &d.Verified, d.Seen
		found := given(gaveUp.Record)
		found.at = d.At.UTC()
		next, err := decide(s, found)
		if err == nil && !s.Capturing() {
			next.State.VouchedAt = d.At
		}
		return next, err
	}, func(next Transition) (messages.Event, messages.Record) {
		return event(about, next), about
	})
}

// fits says why a decision is not one about this state, as a *RefusedError; nil where it is.
func (d Decision) fits(s State) error {
	allowed := State.Resolvable
	if d.Corrects {
		allowed = State.Correctable
	}
	if err := allowed(s); err != nil {
		return err
	}
	if d.Rev != 0 && s.Rev != d.Rev {
		return &RefusedError{s.Phase, "the renewal has moved on meanwhile: nothing was changed, look again"}
	}
	return nil
}

// byHand writes what an operator decides; event is what the record then says.
func (j *Journal) byHand(ctx context.Context, r messages.Renewal, d Decision, decide func(State) (Transition, error), event func(Transition) (messages.Event, messages.Record)) error {
	at, err := j.Last(ctx, r)
	if err != nil {
		return err
	}
	_, _, err = j.Apply(ctx, at, Change{Renewal: r, Decide: decide, Record: func(_ context.Context, next Transition) (Record, error) {
		event, about := event(next)
		return Record{Event: event, About: about, Time: d.At}, nil
	}}, nil)
	return err
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
func (j *Journal) cancelled(ctx context.Context, account messages.Account, subscription messages.SubscriptionID, period messages.Period, d Decision, decide func(State) (Transition, error)) error {
	r := messages.NewRenewal(subscription, period)
	key := r.Key()
	about := d.sign(messages.Record{
		Account: account, SubscriptionID: subscription, Period: period, RenewalKey: key,
		// There is no job, so no message ID, to derive a key from.
		IdempotencyKey: messages.IdempotencyKey(key),
	})
	return j.byHand(ctx, r, d, decide, func(next Transition) (messages.Event, messages.Record) {
		return messages.Cancelled{Record: about, Undone: !next.State.Cancelled}, about
	})
}

func (d Decision) sign(r messages.Record) messages.Record {
	r.Actor, r.Note, r.At, r.Worker = d.Actor, d.Note, d.At, "operator"
	return r
}

// Records reads a renewal's whole history from the stream's leader, the oldest record first. The index of subjects says where the
// records are and how many: to ask for the next one by a wildcard, or past the last one, makes the broker load every block of the
// journal behind it, while claims wait. With an error that [Unreadable] takes apart, the readable records are there all the same.
func (j *Journal) Records(ctx context.Context, r messages.Renewal) (all []Entry, err error) {
	info, err := j.stream.Info(ctx, jetstream.WithSubjectFilter(messages.RenewalFilter(r)))
	if err != nil {
		return nil, fmt.Errorf("look up the records of renewal %s: %w", r, err)
	}
	var unreadable []error
	for subject, records := range info.State.Subjects {
		read := func(uint64) (*jetstream.RawStreamMsg, error) { return j.stream.GetLastMsgForSubject(ctx, subject) }
		if records > 1 {
			read = func(next uint64) (*jetstream.RawStreamMsg, error) {
				return j.stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
			}
		}
		next := uint64(1)
		for range records {
			m, err := read(next)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break // it has aged meanwhile
			}
			if err != nil {
				return nil, fmt.Errorf("read the records of renewal %s: %w", r, err)
			}
			next = m.Sequence + 1
			if e, err := entry(m); err != nil {
				unreadable = append(unreadable, err)
			} else {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return all, errors.Join(unreadable...)
}

// Unreadable are the records that an error of [Journal.Records] is about, in no order; none where it is about something else.
func Unreadable(err error) (records []*UnreadableError) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	for _, one := range joined.Unwrap() {
		var e *UnreadableError
		if !errors.As(one, &e) {
			return nil
		}
		records = append(records, e)
	}
	return records
}

// unresolved reads the record that gave a renewal up.
func (j *Journal) unresolved(ctx context.Context, r messages.Renewal) (messages.Unresolved, error) {
	at, err := j.LastOf(ctx, messages.KindUnresolved, r)
	if err != nil {
		return messages.Unresolved{}, err
	}
	event, err := messages.DecodeEvent(messages.KindUnresolved, at.Body)
	if err != nil {
		return messages.Unresolved{}, fmt.Errorf("record %d of %s: %w", at.Sequence, messages.StreamJournal, err)
	}
	return event.(messages.Unresolved), nil
}
