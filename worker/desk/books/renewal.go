package books

import (
	"github.com/ncruces/go-sqlite3"

	"github.com/klarna-renewals/renewals/messages"
)

// renewal is what some records of one renewal change of its row. What none of them says stays as it is.
type renewal struct {
	id      int64
	records int64
	last    *Row // the last of them
	about   *Row // the last that says amount and references
	order   *Row // the last that names an order
	paid    *Row // the last that is paid
	taken   *Row // the last that says how much was captured
	why     *Row // the last refusal, or what is unresolved, unless it was paid since
	claim   *Row // the claim that is open after them, if they hold it
	closed  bool // what was claimed before them has its end
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
	if row.event.OrderID != "" {
		r.order = row
	}
	switch {
	case row.claims():
		r.claim = row
	case row.stands.Phase != string(messages.KindCharging) && row.stands.Phase != string(messages.KindCapturing):
		r.claim, r.closed = nil, true
	}
}

// updateRenewal keeps by coalesce what the records do not say. Of a refusal ?10 says whether it still stands: -1 it is settled, 0 nothing
// new, 1 it is new.
const updateRenewal = `UPDATE renewals SET phase = ?2, due_at = coalesce(?3, due_at), attempts = ?4, account = ?5,
	order_amount = coalesce(?6, order_amount), purchase_currency = coalesce(?7, purchase_currency),
	merchant_reference1 = CASE WHEN ?7 IS NULL THEN merchant_reference1 ELSE ?8 END, merchant_reference2 = CASE WHEN ?7 IS NULL THEN merchant_reference2 ELSE ?9 END,
	reason = CASE ?10 WHEN 0 THEN reason ELSE ?11 END, category = CASE ?10 WHEN 0 THEN category ELSE ?12 END,
	order_id = coalesce(?13, order_id), paid_at = coalesce(?14, paid_at), captured_amount = coalesce(?15, captured_amount),
	open_message_id = CASE WHEN ?2 IN ('charging', 'capturing') THEN coalesce(?16, iif(?20, NULL, open_message_id)) END,
	open_key = CASE WHEN ?2 IN ('charging', 'capturing') THEN coalesce(?17, iif(?20, NULL, open_key)) END, last_sequence = ?18, records = records + ?19 WHERE id = ?1`

// save writes what has changed.
func (r *renewal) save(s *sqlite3.Stmt) error {
	b := bind(s)
	b.number(r.id)
	b.text(r.last.stands.Phase)
	b.time(r.last.stands.DueAt)
	b.number(r.last.stands.Attempts)
	b.text(string(r.last.address.Account))
	about := &event{}
	if r.about != nil {
		about = &r.about.event
		b.number(about.OrderAmount)
	} else {
		b.maybe(nil)
	}
	b.text(about.PurchaseCurrency)
	b.text(about.MerchantReference1)
	b.text(about.MerchantReference2)
	why := &event{}
	switch {
	case r.why != nil:
		why = &r.why.event
		b.number(1)
	case r.paid != nil || r.taken != nil:
		b.number(-1)
	default:
		b.number(0)
	}
	b.text(why.Reason)
	b.text(why.Category)
	if r.order != nil {
		b.text(r.order.event.OrderID)
	} else {
		b.text("")
	}
	if r.paid != nil {
		b.time(r.paid.event.At)
	} else {
		b.text("")
	}
	b.maybe(r.captured())
	open := &event{}
	if r.claim != nil {
		open = &r.claim.event
	}
	b.text(string(open.ID))
	b.text(string(open.IdempotencyKey))
	b.number(int64(r.last.Sequence))
	b.number(r.records)
	b.flag(r.closed)
	return b.run()
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
