package books

import "encoding/json"

const insertRecord = `INSERT INTO records (sequence, renewal_id, kind, account, at, stored_at, message_id, idempotency_key, attempt, amount, order_amount, purchase_currency,
	merchant_reference1, merchant_reference2, tries, deliveries, worker, token_fingerprint, order_id, fraud_status, captured, capture_before, payment_method,
	capture_id, captured_amount, total_captured_amount, remaining_amount, capture_reference, correlation_id, corrects, reason, category, fix_by, notify_customer,
	retryable, next_attempt_at, final, http_status, error_code, token_status, undecided_tries, first_sent_at, last_sent_at, search_until, conflicts_with, undone,
	actor, note, detail, metadata)
	VALUES (?,?, ?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?, ?,?,?,?,?,?,?,?,?,?,?,?, ?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?, ?,?,?,?)`

// insert writes a record as it is. The order of the values is that of the statement, and of its groups.
func (w *Writer) insert(renewal int64, row *Row) error {
	b := bind(w.record)
	b.number(int64(row.Sequence))
	b.number(renewal)
	row.job(b)
	row.order(b)
	row.outcome(b)
	if err := row.decision(b); err != nil {
		return err
	}
	if err := b.run(); err != nil {
		return err
	}
	return w.correlate(row)
}

// job is what was asked for.
func (row *Row) job(b *binder) {
	e := &row.event
	b.text(string(row.address.Kind))
	b.text(string(row.address.Account))
	b.time(e.At)
	b.time(row.Stored)
	b.text(string(e.ID))
	b.text(string(e.IdempotencyKey))
	b.some(e.Attempt)
	b.maybe(row.amount())
	if e.PurchaseCurrency != "" {
		b.number(e.OrderAmount)
	} else {
		b.some(e.OrderAmount)
	}
	b.text(e.PurchaseCurrency)
	b.text(e.MerchantReference1)
	b.text(e.MerchantReference2)
	b.number(int64(e.Tries))
	b.number(int64(e.Deliveries))
	b.text(e.Worker)
	b.text(e.TokenFingerprint)
}

// order is what Klarna made of it.
func (row *Row) order(b *binder) {
	e := &row.event
	b.text(e.OrderID)
	b.text(e.FraudStatus)
	b.maybeFlag(e.Captured)
	b.time(e.CaptureBefore)
	b.text(e.PaymentMethod.Type)
	b.text(e.CaptureID)
	b.maybe(e.CapturedAmount)
	b.maybe(e.TotalCapturedAmount)
	b.maybe(e.RemainingAmount)
	b.text(e.Reference)
	b.text(e.CorrelationID)
	b.text(e.Corrects)
}

// outcome is why it came to nothing, or is not known.
func (row *Row) outcome(b *binder) {
	e := &row.event
	b.text(e.Reason)
	b.text(e.Category)
	b.text(e.FixBy)
	b.maybeFlag(e.NotifyCustomer)
	b.maybeFlag(e.Retryable)
	if e.NextAttemptAt != nil {
		b.time(*e.NextAttemptAt)
	} else {
		b.text("")
	}
	b.maybeFlag(e.Final)
	b.some(e.HTTPStatus)
	b.text(e.ErrorCode)
	b.text(e.TokenStatus)
	b.maybe(e.UndecidedTries)
	b.time(e.FirstSentAt)
	b.time(e.LastSentAt)
	b.time(e.SearchUntil)
	b.text(e.ConflictsWith)
	b.maybeFlag(e.Undone)
}

// decision is a person's word, and what the job's publisher wants back.
func (row *Row) decision(b *binder) error {
	e := &row.event
	b.text(e.Actor)
	b.text(e.Note)
	b.text(row.detail())
	metadata := ""
	if len(e.Metadata) > 0 {
		text, err := json.Marshal(e.Metadata)
		if err != nil {
			return err
		}
		metadata = string(text)
	}
	b.text(metadata)
	return nil
}

// correlate keeps the correlation IDs of what has several.
func (w *Writer) correlate(row *Row) error {
	for _, id := range row.event.CorrelationIDs {
		if id == "" {
			continue
		}
		b := bind(w.correlation)
		b.text(id)
		b.number(int64(row.Sequence))
		if err := b.run(); err != nil {
			return err
		}
	}
	return nil
}
