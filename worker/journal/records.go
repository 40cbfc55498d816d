package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
)

// message is the record as it goes over the wire.
func (r Record) message(of messages.Renewal, state State) (*nats.Msg, error) {
	data, err := r.body(of, state)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.Event.Kind(), err)
	}
	encoded, err := state.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	header := messages.Envelope{
		ID: uuid.NewString(), Kind: r.Event.Kind(), Account: r.About.Account,
		SubscriptionID: r.About.SubscriptionID, Period: r.About.Period, Time: r.Time,
		TraceParent: r.TraceParent, TraceState: r.TraceState,
	}.Header()
	header.Set(messages.HeaderState, encoded)
	address := messages.RecordAddress{Kind: r.Event.Kind(), Renewal: of, Account: r.About.Account}
	if !of.StandsIn() {
		address.Due = messages.DueToken(cmp.Or(state.DueAt, r.DueAt))
	}
	return &nats.Msg{Subject: address.Subject(), Header: header, Data: data}, nil
}

// same says that an entry is the very record that was to be written: a result has an id of its own, and the state of a claim, which
// has none, the nonce of its delivery and the number of the record.
func same(m *nats.Msg, e Entry) bool {
	name := "ce-id"
	if m.Header.Get(name) == "" {
		name = messages.HeaderState
	}
	return e.Sequence != 0 && m.Header.Get(name) != "" && e.Subject == m.Subject && e.Header.Get(name) == m.Header.Get(name)
}

// UnresolvedEvent is the body of the record of a claim that is given up; reference is the capture's own, where it is one.
func UnresolvedEvent(r messages.Record, why messages.Reason, c Claim, reference string) messages.Unresolved {
	u := messages.Unresolved{
		Record: r, Reason: why, FirstSentAt: c.FirstSentAt, LastError: c.LastError,
		UndecidedTries: c.UndecidedTries, OrderID: c.OrderID,
	}
	if s := c.Search; s != nil {
		u.LastSentAt, u.SearchUntil, u.CorrelationIDs = s.LastSentAt, s.Until, s.CorrelationIDs
	}
	if c.Capture != nil {
		u.OrderID, u.CapturedAmount, u.Reference = c.Capture.OrderID, c.Capture.Amount, reference
	}
	return u
}

// CapturedEvent is the body of the record of a capture.
func CapturedEvent(r messages.Record, s State, correlationID string, corrects messages.Kind) messages.Captured {
	c := s.Claim.Capture
	return messages.Captured{
		Record: r, OrderID: c.OrderID, CaptureID: c.ID, CapturedAmount: c.Amount, TotalCapturedAmount: s.Order.Captured,
		RemainingAmount: max(s.Order.Amount-s.Order.Captured, 0), CorrelationID: correlationID, Corrects: string(corrects),
	}
}

// DunningEvent is the body of the record of a refusal, but for Klarna's words.
func DunningEvent(r messages.Record, next Transition) messages.Dunning {
	a := next.Advice
	return messages.Dunning{
		Record: r, Reason: a.Reason, Category: a.Category, FixBy: a.FixBy, NotifyCustomer: a.NotifyCustomer, Retryable: a.Retryable,
		NextAttemptAt: a.NextAttemptAt, Final: a.Final, UndecidedTries: next.State.Claim.UndecidedTries, Corrects: string(next.Corrects),
	}
}

// CaptureFailedEvent is the same for a capture, but for what was asked for where nothing was claimed.
func CaptureFailedEvent(r messages.Record, next Transition) messages.CaptureFailed {
	a, s := next.Advice, next.State
	event := messages.CaptureFailed{
		Record: r, OrderID: s.Order.ID, CapturedAmount: s.Order.Amount - s.Order.Captured,
		Reason: a.Reason, Category: a.Category, FixBy: a.FixBy, NotifyCustomer: a.NotifyCustomer, Retryable: a.Retryable,
		NextAttemptAt: a.NextAttemptAt, Final: a.Final, Corrects: string(next.Corrects),
	}
	if s.Holds(next.Key) {
		event.UndecidedTries = s.Claim.UndecidedTries
	}
	return event
}

// Abandoned is the record of a claim that somebody gives up who does not have its job: the facts of the charge, or capture, come
// from the record that claimed it.
func (j *Journal) Abandoned(ctx context.Context, r messages.Renewal, next Transition, worker string, now time.Time) (Record, error) {
	kind := messages.KindCharging
	if next.State.Claim.Capture != nil {
		kind = messages.KindCapturing
	}
	claim, err := j.LastOf(ctx, kind, r)
	if err != nil {
		return Record{}, err
	}
	var about struct {
		messages.Record
		Reference string `json:"reference"`
	}
	if err := json.Unmarshal(claim.Body, &about); err != nil {
		return Record{}, fmt.Errorf("read record %d of %s: %w", claim.Sequence, messages.StreamJournal, err)
	}
	if about.IdempotencyKey != next.Key {
		return Record{}, errors.New("read the claim of another key: its record is gone")
	}
	c := *next.State.Claim
	about.Tries, about.Deliveries, about.Worker, about.At = c.Tries, c.Deliveries, worker, now
	return Record{Event: UnresolvedEvent(about.Record, next.Reason, c, about.Reference), About: about.Record, Time: now}, nil
}
