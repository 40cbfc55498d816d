package reconcile

import (
	"slices"
	"strings"

	"github.com/klarna-renewals/renewals/messages"
)

// Fold makes of a renewal's records, the oldest first, what is to be compared; the caller adds what only the state tells: phase, due
// moment and cadence. What is filed in its place and is not about it, such as a job that was rejected, changes nothing.
func Fold(records []messages.Event) Renewal {
	var r Renewal
	captures := map[messages.IdempotencyKey]Capture{}
	var order []messages.IdempotencyKey
	for _, record := range records {
		switch e := record.(type) {
		case messages.Charging:
			r.charged(e.Record)
		case messages.Pending:
			r.charged(e.Record)
			r.OrderID, r.PaidAt, r.Captured = e.OrderID, e.At, false
		case messages.Paid:
			r.charged(e.Record)
			if e.OrderID != r.OrderID {
				r.Looked, r.Automatic = false, 0
			}
			r.OrderID, r.PaidAt, r.Captured = e.OrderID, e.At, e.Captured
		case messages.Dunning:
			r.charged(e.Record)
			r.OrderID, r.Captured, r.Looked, r.Automatic = "", false, false, 0
		case messages.Unresolved:
			if r.Capturing = e.CapturedAmount > 0; r.Capturing {
				r.CapturingAmount = e.CapturedAmount
				break
			}
			r.charged(e.Record)
			r.FirstSentAt, r.SearchUntil = e.FirstSentAt, e.SearchUntil
		case messages.Captured:
			r.Capturing = false
			if _, again := captures[e.IdempotencyKey]; !again {
				order = append(order, e.IdempotencyKey)
			}
			captures[e.IdempotencyKey] = Capture{ID: e.CaptureID, Amount: e.CapturedAmount, At: e.At}
			r.look(e.TotalCapturedAmount, captures)
		case messages.CaptureFailed:
			r.Capturing = false
			if e.Corrects == string(messages.KindCaptured) {
				delete(captures, e.IdempotencyKey)
				order = slices.DeleteFunc(order, func(k messages.IdempotencyKey) bool { return k == e.IdempotencyKey })
			}
		case messages.Cancelled:
			r.Account, r.SubscriptionID, r.Period = e.Account, e.SubscriptionID, e.Period
		}
	}
	for _, key := range order {
		r.Captures = append(r.Captures, captures[key])
	}
	return r
}

// look takes in how much of the order is captured by the word of a capture's record: what these captures have not taken, Klarna took by itself.
// A record without a total says nothing of that.
func (r *Renewal) look(total int64, captures map[messages.IdempotencyKey]Capture) {
	if total == 0 {
		return
	}
	for _, c := range captures {
		total -= c.Amount
	}
	r.Looked, r.Automatic = true, max(total, 0)
}

// charged takes in what a record says of a charge.
func (r *Renewal) charged(e messages.Record) {
	r.Account, r.SubscriptionID, r.Period, r.MessageID = e.Account, e.SubscriptionID, e.Period, e.ID
	r.Amount, r.Currency, r.Reference1, r.Reference2 = e.OrderAmount, strings.ToUpper(e.PurchaseCurrency), e.MerchantReference1, e.MerchantReference2
}
