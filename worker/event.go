package worker

import (
	"cmp"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// event is the body of a record about the job at hand.
func event(j *job, r messages.Record, next journal.Transition, t journal.TryResult) messages.Event {
	var c journal.Claim
	if next.State.Holds(next.Key) {
		c = *next.State.Claim
	}
	switch next.Record {
	case messages.KindPaid:
		event := messages.Paid{
			Record: r, OrderID: journal.Spelled(c.OrderID, t.Created.ID), FraudStatus: messages.FraudAccepted, Captured: j.reading.Facts.AutoCapture && next.State.Order == nil,
			AuthorizedPaymentMethod: t.Created.PaymentMethod, CorrelationID: t.Created.CorrelationID, Corrects: string(next.Corrects),
		}
		if o := next.State.Order; o != nil {
			event.CaptureBefore = o.CaptureBefore
		}
		return event
	case messages.KindCaptured:
		event := journal.CapturedEvent(r, next.State, t.Created.CorrelationID, next.Corrects)
		event.CaptureID = journal.Spelled(event.CaptureID, t.Created.ID)
		return event
	case messages.KindCaptureFailed:
		return captureFailedEvent(j, r, next, t)
	case messages.KindCapturing:
		o, claimed := next.State.Order, int64(0)
		if c.Capture != nil {
			claimed = c.Capture.Amount
		}
		return messages.Capturing{
			Record: r, OrderID: o.ID, CapturedAmount: cmp.Or(claimed, j.request.Capture.Amount, o.Amount-o.Captured),
			Reference: j.reference(), FirstSentAt: c.FirstSentAt, UndecidedTries: c.UndecidedTries, LastError: c.LastError,
		}
	case messages.KindPending:
		return messages.Pending{Record: r, OrderID: journal.Spelled(c.OrderID, t.Created.ID), FraudStatus: t.Created.FraudStatus, CorrelationID: t.Created.CorrelationID}
	case messages.KindDunning:
		return dunningEvent(r, next, t)
	case messages.KindUnresolved:
		return journal.UnresolvedEvent(r, next.Reason, c, j.reference())
	case messages.KindRejected:
		return messages.Rejected{
			Record: r, Reason: next.Reason, Errors: j.errors(next),
			ConflictsWith: cmp.Or(next.Conflicts, j.conflicts), NextAttemptAt: cmp.Or(next.NextAttemptAt, j.nextAttemptAt),
		}
	default:
		if next.Then == journal.Try && c.Deliveries == 1 { // it is claimed at the moment from which on Klarna knows its key
			r.At = c.FirstSentAt
		}
		return messages.Charging{Record: r, FirstSentAt: c.FirstSentAt, UndecidedTries: c.UndecidedTries, LastError: c.LastError}
	}
}

// common are the fields of every record.
func common(j *job, next journal.Transition, worker string, now time.Time) messages.Record {
	in := j.reading.Job
	r := messages.Record{
		ID: in.ID, Account: j.account, SubscriptionID: in.SubscriptionID, Period: in.Period,
		Attempt: max(in.Attempt, 1), IdempotencyKey: next.Key, RenewalKey: j.key,
		OrderAmount: j.reading.Facts.Amount, PurchaseCurrency: j.reading.Facts.Currency, MerchantReference1: j.reading.Facts.MerchantReference1,
		MerchantReference2: j.reading.Facts.MerchantReference2,
		Deliveries:         j.delivered, Worker: worker, At: now, Metadata: in.Metadata, TokenFingerprint: j.fingerprint,
	}
	if !next.Record.Claims() {
		r.Warnings = j.reading.Warnings
	}
	s := next.State
	if s.Holds(next.Key) {
		r.Attempt, r.Tries, r.Deliveries = max(r.Attempt, s.Attempts), s.Claim.Tries, s.Claim.Deliveries
	}
	if o := s.Order; o != nil && j.service.afterOrder {
		r.OrderAmount, r.PurchaseCurrency, r.MerchantReference1, r.MerchantReference2 = o.Amount, o.Currency, o.MerchantReference1, o.MerchantReference2
		r.Attempt = max(o.Captures, 1)
	}
	return r
}

// dunningEvent is a refusal, with Klarna's words.
func dunningEvent(r messages.Record, next journal.Transition, t journal.TryResult) messages.Dunning {
	event := journal.DunningEvent(r, next)
	event.CorrelationID = t.Created.CorrelationID
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
