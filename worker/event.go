package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// message builds the record that the machine asked for: the event for other
// teams as its body, the renewal's state in its header.
func (a *account) message(ctx context.Context, j *job, next step, answers tally) (*nats.Msg, messages.Event, error) {
	now := a.now()
	if next.Key != j.request.Key {
		event, err := a.journal.abandoned(ctx, j.renewalKey, next, a.opts.Name, now)
		if err != nil {
			return nil, nil, err
		}
		m, err := recordMessage(event, event.Record, next.State, now, "", "")
		return m, event, err
	}
	about := a.common(j, next, now)
	event := a.event(j, about, next, answers)
	m, err := recordMessage(event, about, next.State, now, j.traceParent, j.traceState)
	return m, event, err
}

// recordMessage is a journal record as it goes over the wire.
func recordMessage(event messages.Event, about messages.Record, state State, now time.Time, traceParent, traceState string) (*nats.Msg, error) {
	data, err := messages.Encode(event)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", event.Kind(), err)
	}
	encoded, err := state.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	header := messages.Envelope{
		ID: uuid.NewString(), Kind: event.Kind(), Account: about.Account,
		SubscriptionID: about.SubscriptionID, Period: about.Period, Time: now,
		TraceParent: traceParent, TraceState: traceState,
	}.Header()
	header.Set(messages.HeaderState, encoded)
	return &nats.Msg{Subject: messages.RecordSubject(event.Kind(), about.RenewalKey, about.Account), Header: header, Data: data}, nil
}

// same says that an entry is the very record that was to be written.
func same(m *nats.Msg, e Entry) bool {
	const id = "ce-id"
	return e.Sequence != 0 && e.Header.Get(id) != "" && e.Header.Get(id) == m.Header.Get(id)
}

// event is the body of a record about the job at hand.
func (a *account) event(j *job, r messages.Record, next step, t tally) messages.Event {
	var c Claim
	if next.State.holds(next.Key) {
		c = *next.State.Claim
	}
	switch next.Record {
	case messages.KindPaid:
		event := messages.Paid{
			Record: r, OrderID: spelled(c.OrderID, t.order.OrderID), FraudStatus: statusAccepted, Captured: j.reading.Facts.AutoCapture,
			AuthorizedPaymentMethod: t.order.AuthorizedPaymentMethod, CorrelationID: t.order.CorrelationID, Corrects: string(next.Corrects),
		}
		if o := next.State.Order; o != nil {
			event.CaptureBefore = o.CaptureBefore
		}
		return event
	case messages.KindCaptured:
		event := captured(r, next.State, t.order.CorrelationID, next.Corrects)
		event.CaptureID = spelled(event.CaptureID, t.order.OrderID)
		return event
	case messages.KindCaptureFailed:
		return a.captureFailed(j, r, next, t)
	case messages.KindCapturing:
		o := next.State.Order
		return messages.Capturing{
			Record: r, OrderID: o.ID, CapturedAmount: cmp.Or(c.Capture.Amount, j.request.Capture.Amount, o.Amount-o.Captured),
			FirstSentAt: c.FirstSentAt, UndecidedTries: c.UndecidedTries, LastError: c.LastError,
		}
	case messages.KindPending:
		return messages.Pending{Record: r, OrderID: spelled(c.OrderID, t.order.OrderID), FraudStatus: t.order.FraudStatus, CorrelationID: t.order.CorrelationID}
	case messages.KindDunning:
		return a.dunning(r, next, t)
	case messages.KindUnresolved:
		return unresolved(r, next.Reason, c)
	case messages.KindRejected:
		return messages.Rejected{Record: r, Reason: next.Reason, Errors: j.errors(next), ConflictsWith: cmp.Or(next.Conflicts, j.conflicts)}
	default:
		return messages.Charging{Record: r, FirstSentAt: c.FirstSentAt, UndecidedTries: c.UndecidedTries, LastError: c.LastError}
	}
}

// common are the fields of every record.
func (a *account) common(j *job, next step, now time.Time) messages.Record {
	in := j.reading.Job
	r := messages.Record{
		ID: in.ID, Account: j.account, SubscriptionID: in.SubscriptionID, Period: in.Period,
		Attempt: max(in.Attempt, 1), IdempotencyKey: next.Key, RenewalKey: j.renewalKey,
		OrderAmount: j.reading.Facts.Amount, PurchaseCurrency: j.reading.Facts.Currency, MerchantReference1: j.reading.Facts.MerchantReference1,
		Deliveries: j.delivered, Worker: a.opts.Name, At: now, Metadata: in.Metadata, TokenFingerprint: j.fingerprint,
	}
	if next.Record != messages.KindCharging && next.Record != messages.KindCapturing {
		r.Warnings = j.reading.Warnings
	}
	s := next.State
	if s.holds(next.Key) {
		r.Attempt, r.Tries, r.Deliveries = s.Attempts, s.Claim.Tries, s.Claim.Deliveries
	}
	if o := s.Order; o != nil && j.capture != nil {
		r.OrderAmount, r.PurchaseCurrency, r.MerchantReference1 = o.Amount, o.Currency, o.MerchantReference1
		r.Attempt = max(o.Captures, 1)
	}
	return r
}

// dunning says what a refusal means and when another attempt makes sense, by
// the policy that was in force when the chain of attempts began.
func (a *account) dunning(r messages.Record, st step, t tally) messages.Dunning {
	s := st.State
	d := dunning.FraudRejected()
	event := messages.Dunning{Record: r, UndecidedTries: s.Claim.UndecidedTries, CorrelationID: t.order.CorrelationID, Corrects: string(st.Corrects)}
	if t.refusal != nil {
		d, _ = dunning.DecideRefused(t.refusal.StatusCode, t.refusal.Code, t.refusal.FraudStatus)
		event.HTTPStatus, event.ErrorCode, event.ErrorMessages = t.refusal.StatusCode, t.refusal.Code, t.refusal.Messages
		event.CorrelationID, event.TokenStatus = t.refusal.CorrelationID, t.tokenStatus
	}
	if st.Reason == messages.ReasonRefusedWithoutCode {
		d = dunning.RefusedWithoutCode()
		if t.turnedAway != nil {
			event.HTTPStatus, event.CorrelationID = t.turnedAway.StatusCode, t.turnedAway.CorrelationID
		}
	}
	event.Reason, event.Category, event.FixBy = d.Reason, d.Category, d.FixBy
	event.NotifyCustomer, event.Retryable = d.NotifyCustomer, d.Retryable
	event.NextAttemptAt, event.Final = s.nextAttempt(d)
	return event
}

// captureFailed says what a refusal to capture means, in the words of dunning.
func (a *account) captureFailed(j *job, r messages.Record, st step, t tally) messages.CaptureFailed {
	s := st.State
	d := dunning.NotCapturable(st.Reason)
	event := messages.CaptureFailed{
		Record: r, OrderID: s.Order.ID, CapturedAmount: cmp.Or(j.request.Capture.Amount, s.Order.Amount-s.Order.Captured), Corrects: string(st.Corrects),
	}
	if s.holds(st.Key) {
		event.CapturedAmount, event.UndecidedTries = cmp.Or(s.Claim.Capture.Amount, event.CapturedAmount), s.Claim.UndecidedTries
	}
	if t.refusal != nil {
		d, _ = dunning.DecideRefused(t.refusal.StatusCode, t.refusal.Code, t.refusal.FraudStatus)
		event.HTTPStatus, event.ErrorCode, event.ErrorMessages = t.refusal.StatusCode, t.refusal.Code, t.refusal.Messages
		event.CorrelationID = t.refusal.CorrelationID
	}
	if t.turnedAway != nil && st.Reason == messages.ReasonRefusedWithoutCode {
		event.HTTPStatus, event.CorrelationID = t.turnedAway.StatusCode, t.turnedAway.CorrelationID
		if t.turnedAway.StatusCode == http.StatusNotFound { // an order that is unknown, or expired, without a word
			d = dunning.NotCapturable(messages.ReasonNoSuchOrder)
		}
	}
	event.Reason, event.Category, event.FixBy = d.Reason, d.Category, d.FixBy
	event.NotifyCustomer, event.Retryable = d.NotifyCustomer, d.Retryable
	event.NextAttemptAt, event.Final = s.nextCapture(d)
	return event
}

// captured is the body of the record of a capture.
func captured(r messages.Record, s State, correlationID string, corrects messages.Kind) messages.Captured {
	c := s.Claim.Capture
	return messages.Captured{
		Record: r, OrderID: c.OrderID, CaptureID: c.ID, CapturedAmount: c.Amount, TotalCapturedAmount: s.Order.Captured,
		RemainingAmount: max(s.Order.Amount-s.Order.Captured, 0), CorrelationID: correlationID, Corrects: string(corrects),
	}
}

// nextAttempt suggests when to charge again after a refusal.
func (s State) nextAttempt(d dunning.Decision) (at *time.Time, final bool) {
	next, ok, final := s.policy().Next(d.Category, d.Retryable, s.Attempts, s.FirstAttemptAt)
	if !ok {
		return nil, final
	}
	return &next, final
}

// nextCapture suggests when to capture again after a refusal, while the
// authorisation lasts.
func (s State) nextCapture(d dunning.Decision) (at *time.Time, final bool) {
	next, ok, final := s.policy().Next(d.Category, d.Retryable, s.Order.Captures, s.Order.FirstCaptureAt)
	if !ok {
		return nil, final
	}
	if end := s.Order.CaptureBefore; !end.IsZero() && !next.Before(end) {
		return nil, true
	}
	return &next, final
}

func (s State) policy() dunning.Policy {
	if s.Policy != nil {
		return *s.Policy
	}
	return dunning.DefaultPolicy()
}

func unresolved(r messages.Record, why messages.Reason, c Claim) messages.Unresolved {
	u := messages.Unresolved{
		Record: r, Reason: why, FirstSentAt: c.FirstSentAt, LastError: c.LastError,
		UndecidedTries: c.UndecidedTries, OrderID: c.OrderID,
	}
	if c.Capture != nil {
		u.OrderID, u.CapturedAmount = c.Capture.OrderID, c.Capture.Amount
	}
	return u
}

// abandoned is the body of an unresolved record that somebody else writes: the
// facts of the charge come from the record that claimed it.
func (j *Journal) abandoned(ctx context.Context, r messages.RenewalKey, next step, worker string, now time.Time) (messages.Unresolved, error) {
	kind := messages.KindCharging
	if next.State.Claim.Capture != nil {
		kind = messages.KindCapturing
	}
	claim, err := j.LastOf(ctx, kind, r)
	if err != nil {
		return messages.Unresolved{}, err
	}
	var about messages.Record
	if err := json.Unmarshal(claim.Body, &about); err != nil {
		return messages.Unresolved{}, fmt.Errorf("read record %d of %s: %w", claim.Sequence, StreamJournal, err)
	}
	if about.IdempotencyKey != next.Key {
		return messages.Unresolved{}, errors.New("read the claim of another key: its record is gone")
	}
	c := *next.State.Claim
	about.Tries, about.Deliveries, about.Worker, about.At = c.Tries, c.Deliveries, worker, now
	return unresolved(about, next.Reason, c), nil
}

// errors says why a job was rejected.
func (j *job) errors(next step) []messages.Problem {
	if next.Reason == j.request.Verdict {
		return j.problems
	}
	return j.explain(next.Reason, next.Conflicts, next.Made)
}

// deadLetter is the job as it was received, with why it lies there.
func (a *account) deadLetter(j *job, next step) *nats.Msg {
	header := messages.DeadLetter{
		Reason: next.Reason, Errors: j.errors(next), Account: j.account,
		Stream: j.stream, Subject: j.msg.Subject, Sequence: j.sequence, At: a.now(), Original: j.msg.Header,
	}.Header(j.msg.Data)
	return &nats.Msg{Subject: messages.DeadSubject(next.Key, j.account), Header: header, Data: j.msg.Data}
}

// recorded tells the log and the metrics of a result, once.
func (a *account) recorded(j *job, next step, event messages.Event) {
	if next.Record == messages.KindCharging || next.Record == messages.KindCapturing {
		return
	}
	a.warn(j, next)
	reason := next.Reason
	switch e := event.(type) {
	case messages.Dunning:
		reason = e.Reason
	case messages.CaptureFailed:
		reason = e.Reason
	}
	if reason == messages.ReasonUnknownCode {
		a.metrics.unknown.WithLabelValues(string(a.Name)).Inc()
	}
	now := a.now()
	// Clocks are corrected, and stamps are the broker's: either may be ahead by a little.
	endToEnd, handling := max(now.Sub(j.since(now)), 0), max(now.Sub(j.received), 0)
	a.metrics.results.WithLabelValues(string(a.Name), string(next.Record), string(reason)).Inc()
	if next.Then == actAck {
		a.metrics.endToEnd.WithLabelValues(string(a.Name)).Observe(endToEnd.Seconds())
	}

	e := a.log.Info()
	if next.Record == messages.KindUnresolved {
		e = a.log.Error()
	}
	id := j.reading.Job.ID
	if u, other := event.(messages.Unresolved); other {
		id = u.ID
	}
	e = e.Str("kind", string(next.Record)).
		Str("id", string(id)).
		Str("subscription_id", string(j.reading.Job.SubscriptionID)).
		Str("period", string(j.reading.Job.Period)).
		Str("renewal_key", string(j.renewalKey)).
		Str("idempotency_key", string(next.Key))
	if reason != "" {
		e = e.Str("reason", string(reason))
	}
	if c := next.State.Claim; c != nil && c.Key == next.Key {
		if c.Capture != nil {
			e = e.Str("order_id", c.Capture.OrderID).Str("capture_id", c.Capture.ID).Int64("captured_amount", c.Capture.Amount)
		} else {
			e = e.Str("order_id", c.OrderID)
		}
		e = e.Int("tries", c.Tries).Int("deliveries", c.Deliveries)
	}
	e.Dur("handling_ms", handling).Dur("end_to_end_ms", endToEnd).Msg("recorded")
}
