package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// Fold makes of a renewal's records, the oldest first, what is to be compared; the caller adds what only the state tells: phase, due
// moment and cadence. What is filed in its place and is not about it, such as a job that was rejected, changes nothing.
func Fold(records []messages.Event) Renewal {
	f := folding{captures: map[messages.IdempotencyKey]Capture{}, sent: map[messages.IdempotencyKey]time.Time{}}
	for _, record := range records {
		f.take(record)
	}
	for _, key := range f.order {
		f.Captures = append(f.Captures, f.captures[key])
	}
	return f.Renewal
}

// folding is a renewal by its records so far.
type folding struct {
	Renewal
	captures map[messages.IdempotencyKey]Capture
	order    []messages.IdempotencyKey             // of the captures
	sent     map[messages.IdempotencyKey]time.Time // from when on what was asked for under a key can have been made
}

func (f *folding) take(record messages.Event) {
	switch e := record.(type) {
	case messages.Charging:
		f.charged(e.Record)
		f.since(e.Record, e.At)
	case messages.Capturing:
		f.since(e.Record, e.At)
	case messages.Pending:
		f.charged(e.Record)
		f.ordered(e.OrderID, e.At, false)
	case messages.Paid:
		f.charged(e.Record)
		f.ordered(e.OrderID, e.At, e.Captured)
		f.SentAt = f.late(e.Record, e.Corrects)
	case messages.Dunning:
		f.charged(e.Record)
		f.refused(e.Record)
		f.ordered("", f.PaidAt, false)
	case messages.Unresolved:
		f.since(e.Record, e.FirstSentAt)
		if f.Capturing = e.CapturedAmount > 0; f.Capturing {
			f.CapturingAmount = e.CapturedAmount
			break
		}
		f.charged(e.Record)
		f.FirstSentAt, f.SearchUntil = e.FirstSentAt, e.SearchUntil
	case messages.Captured:
		f.captured(e)
	case messages.CaptureFailed:
		f.Capturing = false
		f.refused(e.Record)
		if e.Corrects == string(messages.KindCaptured) {
			delete(f.captures, e.IdempotencyKey)
			f.order = slices.DeleteFunc(f.order, func(k messages.IdempotencyKey) bool { return k == e.IdempotencyKey })
		}
	case messages.Cancelled:
		f.Account, f.SubscriptionID, f.Period = e.Account, e.SubscriptionID, e.Period
	}
}

// charged takes in what a record says of a charge.
func (f *folding) charged(e messages.Record) {
	f.Account, f.SubscriptionID, f.Period, f.MessageID = e.Account, e.SubscriptionID, e.Period, e.ID
	f.Amount, f.Currency, f.Reference1, f.Reference2 = e.OrderAmount, strings.ToUpper(e.PurchaseCurrency), e.MerchantReference1, e.MerchantReference2
}

// ordered takes in an order, or with "" that there is none. What was seen of another is not of this one.
func (f *folding) ordered(id string, at time.Time, captured bool) {
	if id != f.OrderID {
		f.Looked, f.Automatic = false, 0
	}
	f.OrderID, f.PaidAt, f.Captured, f.SentAt = id, at, captured, time.Time{}
}

// captured takes in a capture, and how much of the order is captured by its word: what these captures have not taken, Klarna took by itself.
// A record without a total says nothing of that.
func (f *folding) captured(e messages.Captured) {
	f.Capturing = false
	if _, again := f.captures[e.IdempotencyKey]; !again {
		f.order = append(f.order, e.IdempotencyKey)
	}
	f.captures[e.IdempotencyKey] = Capture{ID: e.CaptureID, Amount: e.CapturedAmount, At: e.At, SentAt: f.late(e.Record, e.Corrects)}
	left := e.TotalCapturedAmount
	if left == 0 {
		return
	}
	for _, c := range f.captures {
		left -= c.Amount
	}
	f.Looked, f.Automatic = true, max(left, 0)
}

// since notes that what is asked for under a record's key can be made from a moment on. The last word counts: a key may be asked for again.
func (f *folding) since(e messages.Record, at time.Time) {
	if !at.IsZero() {
		f.sent[e.IdempotencyKey] = at
	}
}

// refused takes the time of a refusal for the time of asking, where nothing is known of that.
func (f *folding) refused(e messages.Record) {
	if _, known := f.sent[e.IdempotencyKey]; !known {
		f.since(e, e.At)
	}
}

// late is from when on what a record tells of can have been made, where it puts an earlier record right: its own time is that of a decision, which
// may be weeks later. Zero where it puts none right.
func (f *folding) late(e messages.Record, corrects string) time.Time {
	if corrects == "" {
		return time.Time{}
	}
	return f.sent[e.IdempotencyKey]
}
