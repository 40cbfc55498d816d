package books

import (
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/klarna-renewals/renewals/messages"
)

// renewal is what some records of one renewal change of its row. What none of them says stays as it is.
type renewal struct {
	id      int64
	records int64
	first   *Row
	last    *Row // the last of them
	about   *Row // the last that says amount and references
	order   *Row // the last that names an order
	paid    *Row // the last that is paid
	taken   *Row // the last that says how much was captured
	why     *Row // the last refusal, or what is unresolved, unless it was paid since
	claim   *Row // the claim that is open after them, if they hold it
	closed  bool // what was claimed before them has its end
	undone  bool // what was paid before them is not
}

// take adds the next record.
func (r *renewal) take(row *Row) {
	r.records++
	r.last = row
	if row.event.PurchaseCurrency != "" {
		r.about = row
	}
	switch row.address.Kind {
	case messages.KindPaid:
		r.paid, r.order, r.taken, r.why = row, row, row, nil
	case messages.KindPending:
		r.order = row
	case messages.KindCaptured:
		r.taken, r.why = row, nil
	case messages.KindDunning, messages.KindUnresolved, messages.KindCaptureFailed:
		r.why = row
	}
	if row.stands.Phase == string(messages.KindDunning) {
		r.paid, r.taken, r.undone = nil, nil, true
	}
	if row.event.OrderID != "" {
		r.order = row
	}
	switch {
	case row.claims():
		r.claim = row
	case !claimed(row.stands.Phase):
		r.claim, r.closed = nil, true
	}
}

// setRenewal makes the row of a renewal or changes it. What the records do not say stays as it is. ?24: they say how a refusal stands; ?25: what was
// claimed before them has its end; ?26: what was paid before them is not.
const setRenewal = `INSERT INTO renewals (name, renewal_key, stands_in, subscription_id, period, account, phase, due_at, attempts, order_amount, purchase_currency,
		merchant_reference1, merchant_reference2, reason, category, order_id, paid_at, captured_amount, open_message_id, open_key, first_sequence, last_sequence, records)
	VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)
	ON CONFLICT (name) DO UPDATE SET phase = excluded.phase, due_at = coalesce(excluded.due_at, due_at), attempts = excluded.attempts, account = excluded.account,
		order_amount = coalesce(excluded.order_amount, order_amount), purchase_currency = coalesce(excluded.purchase_currency, purchase_currency),
		merchant_reference1 = iif(excluded.purchase_currency IS NULL, merchant_reference1, excluded.merchant_reference1),
		merchant_reference2 = iif(excluded.purchase_currency IS NULL, merchant_reference2, excluded.merchant_reference2),
		reason = iif(?24, excluded.reason, reason), category = iif(?24, excluded.category, category),
		order_id = coalesce(excluded.order_id, order_id),
		paid_at = coalesce(excluded.paid_at, iif(?26, NULL, paid_at)), captured_amount = coalesce(excluded.captured_amount, iif(?26, NULL, captured_amount)),
		open_message_id = CASE WHEN excluded.phase IN ('charging', 'capturing') THEN coalesce(excluded.open_message_id, iif(?25, NULL, open_message_id)) END,
		open_key = CASE WHEN excluded.phase IN ('charging', 'capturing') THEN coalesce(excluded.open_key, iif(?25, NULL, open_key)) END,
		last_sequence = excluded.last_sequence, records = records + excluded.records
	RETURNING id`

// save writes what has changed, and learns the id.
func (r *renewal) save(s *sqlite3.Stmt) error {
	b := bind(s)
	r.names(b)
	b.text(r.last.stands.Phase)
	b.time(r.last.stands.DueAt)
	b.number(r.last.stands.Attempts)
	var about, why, order, claim event
	if r.about != nil {
		about = r.about.event
		b.number(about.OrderAmount)
	} else {
		b.maybe(nil)
	}
	b.text(about.PurchaseCurrency)
	b.text(about.MerchantReference1)
	b.text(about.MerchantReference2)
	if r.why != nil {
		why = r.why.event
	}
	b.text(why.Reason)
	b.text(why.Category)
	if r.order != nil {
		order = r.order.event
	}
	b.text(order.OrderID)
	if r.paid != nil {
		b.time(r.paid.event.At)
	} else {
		b.text("")
	}
	b.maybe(r.captured())
	if r.claim != nil && claimed(r.last.stands.Phase) {
		claim = r.claim.event
	}
	b.text(string(claim.ID))
	b.text(string(claim.IdempotencyKey))
	b.number(int64(r.first.Sequence))
	b.number(int64(r.last.Sequence))
	b.number(r.records)
	b.flag(r.why != nil || r.paid != nil || r.taken != nil)
	b.flag(r.closed)
	b.flag(r.undone)
	id, found, err := b.id()
	if err == nil && !found {
		err = errors.New("no id for a renewal")
	}
	r.id = id
	return err
}

// names binds what never changes, and the account.
func (r *renewal) names(b *binder) {
	name := r.first.address.Renewal
	subscription, period := name.Split()
	if name.StandsIn() { // what its job said, where that can be read
		subscription, period = r.first.event.SubscriptionID, r.first.event.Period
	}
	b.text(string(name))
	b.text(string(name.Key()))
	b.flag(name.StandsIn())
	b.text(string(subscription))
	b.text(string(period))
	b.text(string(r.last.address.Account))
}

// claimed says that somebody is asking Klarna in this phase.
func claimed(phase string) bool {
	return phase == string(messages.KindCharging) || phase == string(messages.KindCapturing)
}

// captured is how much of the order was taken, as far as these records say; nil where none does.
func (r *renewal) captured() *int64 {
	if r.taken == nil {
		return nil
	}
	e := &r.taken.event
	switch {
	case e.TotalCapturedAmount != nil:
		return e.TotalCapturedAmount
	case e.Captured != nil && *e.Captured:
		return &e.OrderAmount
	}
	return new(int64)
}
