package messages

import (
	"time"
)

// Event is the body of one record: [Charging], [Pending], [Paid], [Dunning], [Unresolved], [Rejected], [Cancelled],
// [Capturing], [Captured] or [CaptureFailed].
type Event interface {
	Kind() Kind
	wire() any // the same with times in UTC, empty lists for nil, and words of others cut to a sane length
}

// Record has the fields that every kind carries. Those left out when empty are not known, or not part of the job; only
// for a rejected job that could not be read can that be the identity or the amount.
type Record struct {
	ID             MessageID      `json:"id,omitempty"`
	Account        Account        `json:"account"`
	SubscriptionID SubscriptionID `json:"subscription_id,omitempty"`
	Period         Period         `json:"period,omitempty"`
	// Attempt is 1 for a renewal's first charge; the larger of what the job says and what the journal counts. For captures
	// it is which capture of the renewal this is, from 1.
	Attempt            int64          `json:"attempt,omitempty"`
	IdempotencyKey     IdempotencyKey `json:"idempotency_key"`
	RenewalKey         RenewalKey     `json:"renewal_key"`
	OrderAmount        int64          `json:"order_amount,omitempty"` // minor units
	PurchaseCurrency   string         `json:"purchase_currency,omitempty"`
	MerchantReference1 string         `json:"merchant_reference1,omitempty"`
	MerchantReference2 string         `json:"merchant_reference2,omitempty"`
	// Tries counts HTTP requests sent under this key, over all deliveries.
	Tries            int               `json:"tries"`
	Deliveries       int               `json:"deliveries"`
	Worker           string            `json:"worker"`
	At               time.Time         `json:"at"`
	Metadata         map[string]string `json:"metadata,omitempty"`
	TokenFingerprint string            `json:"token_fingerprint,omitempty"`
	// Actor and Note say which operator settled the renewal by hand, and why.
	Actor string `json:"actor,omitempty"`
	Note  string `json:"note,omitempty"`
	// Verified says of what an operator settled whether Klarna was asked first and its answer fits; nil where none did, and in
	// records of versions that did not ask. Seen is that answer, whether it fits or not; nil without one.
	Verified *bool `json:"verified,omitempty"`
	Seen     *Seen `json:"seen,omitempty"`
	// Warnings are what was odd about the job, and no reason not to send it: the first 20.
	Warnings []Problem `json:"warnings,omitempty"`
}

// Charging announces nothing to other teams: it is the claim, written before the first byte goes to Klarna.
type Charging struct {
	Record
	FirstSentAt    time.Time `json:"first_sent_at,omitzero"`
	UndecidedTries int       `json:"undecided_tries"`
	LastError      string    `json:"last_error,omitempty"`
}

// Pending says that an order exists, and that it is not known yet whether it is money. A paid or dunning record of the same key follows.
type Pending struct {
	Record
	OrderID       string `json:"order_id"`
	FraudStatus   string `json:"fraud_status"`
	CorrelationID string `json:"correlation_id,omitempty"`
}

// FraudAccepted is the fraud status of every order that Klarna was seen to accept, in Klarna's word.
const FraudAccepted = "ACCEPTED"

// Paid says that Klarna made the order and accepted it. Captured false says that the money still needs a capture.
type Paid struct {
	Record
	OrderID string `json:"order_id"`
	// FraudStatus is Klarna's word for it; "" where an operator says so and nobody asked Klarna, see Record.Verified.
	FraudStatus string `json:"fraud_status"`
	// Captured says that Klarna was asked to capture the order at once, which its answer does not confirm, and that nobody has
	// seen that it did not: some orders are looked at.
	Captured bool `json:"captured"`
	// CaptureBefore is when an authorisation that was not captured ends, where Klarna tells it; only with Captured false.
	CaptureBefore           time.Time     `json:"capture_before,omitzero"`
	AuthorizedPaymentMethod PaymentMethod `json:"authorized_payment_method,omitzero"`
	CorrelationID           string        `json:"correlation_id,omitempty"`
	// Corrects is the kind of an earlier record of the same key that this one overrides.
	Corrects string `json:"corrects,omitempty"`
}

// PaymentMethod is what the customer pays Klarna with, as far as Klarna said so: no reason to do anything.
type PaymentMethod struct {
	Type                 string `json:"type"` // like card or invoice; Klarna may add some
	NumberOfInstallments int64  `json:"number_of_installments,omitempty"`
	NumberOfDays         int64  `json:"number_of_days,omitempty"`
}

// Dunning says that Klarna refused. What the customer hears, and when the next attempt makes sense, is the billing system's to
// decide; the fields suggest it.
type Dunning struct {
	Record
	Reason         Reason   `json:"reason"`
	Category       Category `json:"category"`
	FixBy          FixBy    `json:"fix_by"`
	NotifyCustomer bool     `json:"notify_customer"`
	Retryable      bool     `json:"retryable"`
	// NextAttemptAt is a suggestion; nil: none.
	NextAttemptAt  *time.Time `json:"next_attempt_at"`
	Final          bool       `json:"final"` // no further attempt is suggested
	HTTPStatus     int        `json:"http_status,omitempty"`
	ErrorCode      string     `json:"error_code,omitempty"`
	ErrorMessages  []string   `json:"error_messages"` // for logs: Klarna asks not to show or parse them
	CorrelationID  string     `json:"correlation_id,omitempty"`
	UndecidedTries int        `json:"undecided_tries"`
	TokenStatus    string     `json:"token_status,omitempty"`
	// Corrects is the kind of an earlier record of the same key that this one overrides.
	Corrects string `json:"corrects,omitempty"`
}

// Unresolved says that it is not known whether the customer was charged, or the money of an order taken, and that nothing
// will be tried by itself. An operator settles it. What was made under the key was made between FirstSentAt and SearchUntil, by
// the worker's clock, for the amount and with the merchant references of the record.
type Unresolved struct {
	Record
	Reason Reason `json:"reason"`
	// FirstSentAt is when the key was first used; zero where no request can have been read.
	FirstSentAt time.Time `json:"first_sent_at,omitzero"`
	// LastSentAt is when the last try under the key began of which a worker told, whatever came of it.
	LastSentAt time.Time `json:"last_sent_at,omitzero"`
	// SearchUntil is when Klarna has surely finished or dropped every try, those of a worker that died included: what is not there
	// then never will be.
	SearchUntil time.Time `json:"search_until,omitzero"`
	// CorrelationIDs are those of Klarna's answers under the key, in order, the last 20.
	CorrelationIDs []string `json:"correlation_ids,omitempty"`
	LastError      string   `json:"last_error,omitempty"`
	UndecidedTries int      `json:"undecided_tries"`
	OrderID        string   `json:"order_id,omitempty"`
	// CapturedAmount is what was asked for, in minor units, where it is a capture that stayed unknown; 0 for a charge.
	CapturedAmount int64 `json:"captured_amount,omitempty"`
	// Reference is the capture's own, where its job has one.
	Reference string `json:"reference,omitempty"`
}

// Rejected says that the job is not charged. It says nothing about the renewal.
type Rejected struct {
	Record
	Reason Reason    `json:"reason"`
	Errors []Problem `json:"errors"`
	// ConflictsWith is the idempotency key of the job that stands in the way.
	ConflictsWith IdempotencyKey `json:"conflicts_with,omitempty"`
	// NextAttemptAt is from when on an attempt is accepted that came too soon, under a new message ID; zero with every other reason.
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
}

// Cancelled says that there will be no charge for this period or, where it is Undone, that it may be charged after all. The
// last one of a period counts.
type Cancelled struct {
	Record
	Undone bool `json:"undone,omitempty"`
}

// Capturing announces nothing to other teams: it is the claim of a capture, written before the first byte goes to Klarna.
type Capturing struct {
	Record
	OrderID        string    `json:"order_id"`
	CapturedAmount int64     `json:"captured_amount"` // minor units, as asked for
	Reference      string    `json:"reference,omitempty"`
	FirstSentAt    time.Time `json:"first_sent_at,omitzero"`
	UndecidedTries int       `json:"undecided_tries"`
	LastError      string    `json:"last_error,omitempty"`
}

// Captured says that money was taken for a renewal's order. Amounts are in minor units.
type Captured struct {
	Record
	OrderID             string `json:"order_id"`
	CaptureID           string `json:"capture_id"`
	CapturedAmount      int64  `json:"captured_amount"`       // by this capture
	TotalCapturedAmount int64  `json:"total_captured_amount"` // by all captures of the renewal that are known here, this one included
	RemainingAmount     int64  `json:"remaining_amount"`      // can still be captured
	CorrelationID       string `json:"correlation_id,omitempty"`
	// Corrects is the kind of an earlier record of the same key that this one overrides.
	Corrects string `json:"corrects,omitempty"`
}

// CaptureFailed says that Klarna refused to take the money. The order stays, and may be captured by another job. Beside the
// order and the amount it has the fields of [Dunning], with the same meaning; an attempt here is another capture.
type CaptureFailed struct {
	Record
	OrderID        string     `json:"order_id"`
	CapturedAmount int64      `json:"captured_amount"` // minor units, as asked for
	Reason         Reason     `json:"reason"`
	Category       Category   `json:"category"`
	FixBy          FixBy      `json:"fix_by"`
	NotifyCustomer bool       `json:"notify_customer"`
	Retryable      bool       `json:"retryable"`
	NextAttemptAt  *time.Time `json:"next_attempt_at"`
	Final          bool       `json:"final"`
	HTTPStatus     int        `json:"http_status,omitempty"`
	ErrorCode      string     `json:"error_code,omitempty"`
	ErrorMessages  []string   `json:"error_messages"`
	CorrelationID  string     `json:"correlation_id,omitempty"`
	UndecidedTries int        `json:"undecided_tries"`
	TokenStatus    string     `json:"token_status,omitempty"`
	Corrects       string     `json:"corrects,omitempty"`
}

func (Charging) Kind() Kind      { return KindCharging }
func (Pending) Kind() Kind       { return KindPending }
func (Paid) Kind() Kind          { return KindPaid }
func (Dunning) Kind() Kind       { return KindDunning }
func (Unresolved) Kind() Kind    { return KindUnresolved }
func (Rejected) Kind() Kind      { return KindRejected }
func (Cancelled) Kind() Kind     { return KindCancelled }
func (Capturing) Kind() Kind     { return KindCapturing }
func (Captured) Kind() Kind      { return KindCaptured }
func (CaptureFailed) Kind() Kind { return KindCaptureFailed }

// How much is kept of what Klarna or an operator wrote. A record has to fit into a NATS message whatever they wrote.
const (
	maxWord     = 255  // bytes of a code, a status or a correlation ID
	maxSentence = 1024 // bytes of an error or a note
	maxMessages = 20
	// maxCorrelationIDs is how many of those under one key, the last ones.
	maxCorrelationIDs = 20
	maxWarnings       = 20
)

func (r Record) clean() Record {
	r.At = instant(r.At)
	r.Actor, r.Note = cut(r.Actor, maxWord), cut(r.Note, maxSentence)
	r.Warnings = r.Warnings[:min(len(r.Warnings), maxWarnings)]
	if r.Seen != nil {
		r.Seen = r.Seen.clean()
	}
	return r
}

func (c Charging) wire() any { return c.tidy() }

func (c Charging) tidy() Charging {
	c.Record, c.FirstSentAt, c.LastError = c.clean(), instant(c.FirstSentAt), cut(c.LastError, maxSentence)
	return c
}

func (p Pending) wire() any {
	p.Record, p.FraudStatus, p.CorrelationID = p.clean(), cut(p.FraudStatus, maxWord), cut(p.CorrelationID, maxWord)
	return p
}

func (p Paid) wire() any { return p.tidy() }

func (p Paid) tidy() Paid {
	p.Record, p.FraudStatus, p.CorrelationID = p.clean(), cut(p.FraudStatus, maxWord), cut(p.CorrelationID, maxWord)
	p.AuthorizedPaymentMethod.Type, p.CaptureBefore = cut(p.AuthorizedPaymentMethod.Type, maxWord), instant(p.CaptureBefore)
	return p
}

func (d Dunning) wire() any {
	d.Record, d.ErrorCode, d.CorrelationID = d.clean(), cut(d.ErrorCode, maxWord), cut(d.CorrelationID, maxWord)
	d.TokenStatus, d.ErrorMessages, d.NextAttemptAt = cut(d.TokenStatus, maxWord), sentences(d.ErrorMessages), suggestion(d.NextAttemptAt)
	return d
}

func sentences(messages []string) []string {
	said := make([]string, min(len(messages), maxMessages))
	for i := range said {
		said[i] = cut(messages[i], maxSentence)
	}
	return said
}

func suggestion(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	next := instant(*t)
	return &next
}

func (u Unresolved) wire() any {
	u.Record, u.FirstSentAt, u.LastError = u.clean(), instant(u.FirstSentAt), cut(u.LastError, maxSentence)
	u.LastSentAt, u.SearchUntil = instant(u.LastSentAt), instant(u.SearchUntil)
	ids := make([]string, 0, maxCorrelationIDs)
	for _, id := range u.CorrelationIDs[max(len(u.CorrelationIDs)-maxCorrelationIDs, 0):] {
		ids = append(ids, cut(id, maxWord))
	}
	u.CorrelationIDs = ids
	return u
}

func (r Rejected) wire() any {
	r.Record, r.NextAttemptAt = r.clean(), instant(r.NextAttemptAt)
	if r.Errors == nil {
		r.Errors = []Problem{}
	}
	return r
}

func (c Cancelled) wire() any {
	c.Record = c.clean()
	return c
}

func (c Capturing) wire() any {
	c.Record, c.FirstSentAt, c.LastError = c.clean(), instant(c.FirstSentAt), cut(c.LastError, maxSentence)
	return c
}

func (c Captured) wire() any {
	c.Record, c.CorrelationID = c.clean(), cut(c.CorrelationID, maxWord)
	return c
}

func (c CaptureFailed) wire() any {
	c.Record, c.ErrorCode, c.CorrelationID = c.clean(), cut(c.ErrorCode, maxWord), cut(c.CorrelationID, maxWord)
	c.TokenStatus, c.ErrorMessages, c.NextAttemptAt = cut(c.TokenStatus, maxWord), sentences(c.ErrorMessages), suggestion(c.NextAttemptAt)
	return c
}
