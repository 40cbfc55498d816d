package worker

import (
	"cmp"
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// say is what the record says that the machine asked for: the event for other teams.
func (a *account) say(ctx context.Context, j *job, next journal.Transition, answers journal.TryResult) (journal.Record, error) {
	now := a.now()
	if next.Key != j.request.Key {
		return a.journal.Abandoned(ctx, j.renewalKey, next, a.opts.Name, now)
	}
	about := a.common(j, next, now)
	return journal.Record{Event: a.event(j, about, next, answers), About: about, Time: now, TraceParent: j.traceParent, TraceState: j.traceState}, nil
}

// event is the body of a record about the job at hand.
func (a *account) event(j *job, r messages.Record, next journal.Transition, t journal.TryResult) messages.Event {
	var c journal.Claim
	if next.State.Holds(next.Key) {
		c = *next.State.Claim
	}
	switch next.Record {
	case messages.KindPaid:
		event := messages.Paid{
			Record: r, OrderID: journal.Spelled(c.OrderID, t.Order.OrderID), FraudStatus: messages.FraudAccepted, Captured: j.reading.Facts.AutoCapture,
			AuthorizedPaymentMethod: t.Order.AuthorizedPaymentMethod, CorrelationID: t.Order.CorrelationID, Corrects: string(next.Corrects),
		}
		if o := next.State.Order; o != nil {
			event.CaptureBefore = o.CaptureBefore
		}
		return event
	case messages.KindCaptured:
		event := journal.CapturedEvent(r, next.State, t.Order.CorrelationID, next.Corrects)
		event.CaptureID = journal.Spelled(event.CaptureID, t.Order.OrderID)
		return event
	case messages.KindCaptureFailed:
		return captureFailedEvent(j, r, next, t)
	case messages.KindCapturing:
		o := next.State.Order
		return messages.Capturing{
			Record: r, OrderID: o.ID, CapturedAmount: cmp.Or(c.Capture.Amount, j.request.Capture.Amount, o.Amount-o.Captured),
			FirstSentAt: c.FirstSentAt, UndecidedTries: c.UndecidedTries, LastError: c.LastError,
		}
	case messages.KindPending:
		return messages.Pending{Record: r, OrderID: journal.Spelled(c.OrderID, t.Order.OrderID), FraudStatus: t.Order.FraudStatus, CorrelationID: t.Order.CorrelationID}
	case messages.KindDunning:
		return dunningEvent(r, next, t)
	case messages.KindUnresolved:
		return journal.UnresolvedEvent(r, next.Reason, c)
	case messages.KindRejected:
		return messages.Rejected{Record: r, Reason: next.Reason, Errors: j.errors(next), ConflictsWith: cmp.Or(next.Conflicts, j.conflicts)}
	default:
		return messages.Charging{Record: r, FirstSentAt: c.FirstSentAt, UndecidedTries: c.UndecidedTries, LastError: c.LastError}
	}
}

// common are the fields of every record.
func (a *account) common(j *job, next journal.Transition, now time.Time) messages.Record {
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
	if s.Holds(next.Key) {
		r.Attempt, r.Tries, r.Deliveries = s.Attempts, s.Claim.Tries, s.Claim.Deliveries
	}
	if o := s.Order; o != nil && j.capture != nil {
		r.OrderAmount, r.PurchaseCurrency, r.MerchantReference1 = o.Amount, o.Currency, o.MerchantReference1
		r.Attempt = max(o.Captures, 1)
	}
	return r
}

// dunning is a refusal, with Klarna's words.
func dunningEvent(r messages.Record, next journal.Transition, t journal.TryResult) messages.Dunning {
	event := journal.DunningEvent(r, next)
	event.CorrelationID = t.Order.CorrelationID
	if e := t.Said(next); e != nil {
		event.HTTPStatus, event.ErrorCode, event.ErrorMessages, event.CorrelationID = e.StatusCode, e.Code, e.Messages, e.CorrelationID
		event.TokenStatus = t.TokenStatus
	}
	return event
}

// captureFailedEvent is the same for a capture.
func captureFailedEvent(j *job, r messages.Record, next journal.Transition, t journal.TryResult) messages.CaptureFailed {
	event := journal.CaptureFailedEvent(r, next)
	asked := j.request.Capture.Amount
	if next.State.Holds(next.Key) {
		asked = cmp.Or(next.State.Claim.Capture.Amount, asked)
	}
	event.CapturedAmount = cmp.Or(asked, event.CapturedAmount)
	if e := t.Said(next); e != nil {
		event.HTTPStatus, event.ErrorCode, event.ErrorMessages, event.CorrelationID = e.StatusCode, e.Code, e.Messages, e.CorrelationID
	}
	return event
}

// errors says why a job was rejected.
func (j *job) errors(next journal.Transition) []messages.Problem {
	if next.Reason == j.request.Verdict {
		return j.problems
	}
	return j.explain(next.Reason, next.Conflicts, next.Made)
}

// deadLetter is the job as it was received, with why it lies there.
func (a *account) deadLetter(j *job, next journal.Transition) *nats.Msg {
	header := messages.DeadLetter{
		Reason: next.Reason, Errors: j.errors(next), Account: j.account,
		Stream: j.stream, Subject: j.msg.Subject, Sequence: j.sequence, At: a.now(), Original: j.msg.Header,
	}.Header(j.msg.Data)
	return &nats.Msg{Subject: messages.DeadSubject(next.Key, j.account), Header: header, Data: j.msg.Data}
}

// recorded tells the log and the metrics of a result, once.
func (a *account) recorded(j *job, next journal.Transition, event messages.Event) {
	if next.Record == messages.KindCharging || next.Record == messages.KindCapturing {
		return
	}
	a.warn(j, next)
	reason := next.Reason
	if reason == messages.ReasonUnknownCode {
		a.metrics.unknown.WithLabelValues(string(a.Name)).Inc()
	}
	now := a.now()
	// Clocks are corrected, and stamps are the broker's: either may be ahead by a little.
	endToEnd, handling := max(now.Sub(j.since(now)), 0), max(now.Sub(j.received), 0)
	a.metrics.results.WithLabelValues(string(a.Name), string(next.Record), string(reason)).Inc()
	if next.Then == journal.Ack {
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
