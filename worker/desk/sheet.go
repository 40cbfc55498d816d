package desk

import (
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// A column of the list of what is unresolved. A person fills in those without a value, and gives the list back, see [ReadLines].
type column struct {
	name  string
	value func(messages.Unresolved) string
}

// columns are in the order of reading: what to fill in, what it is about, what to look for, how it came about.
func columns() []column {
	when := func(of func(messages.Unresolved) time.Time) func(messages.Unresolved) string {
		return func(u messages.Unresolved) string {
			if t := of(u); !t.IsZero() {
				return t.UTC().Format(time.RFC3339Nano) // search_until is not to be rounded down
			}
			return ""
		}
	}
	number := func(of func(messages.Unresolved) int64) func(messages.Unresolved) string {
		return func(u messages.Unresolved) string { return strconv.FormatInt(of(u), 10) }
	}
	return []column{
		{"verdict", nil},
		{"order_id", func(u messages.Unresolved) string { return u.OrderID }},
		{"capture_id", nil},
		{"note", nil},
		{"what", func(u messages.Unresolved) string { return string(What(u)) }},
		{"subscription_id", func(u messages.Unresolved) string { return string(u.SubscriptionID) }},
		{"period", func(u messages.Unresolved) string { return string(u.Period) }},
		{"account", func(u messages.Unresolved) string { return string(u.Account) }},
		{"amount", number(Asked)},
		{"purchase_currency", func(u messages.Unresolved) string { return u.PurchaseCurrency }},
		{"merchant_reference1", func(u messages.Unresolved) string { return u.MerchantReference1 }},
		{"merchant_reference2", func(u messages.Unresolved) string { return u.MerchantReference2 }},
		{"reference", func(u messages.Unresolved) string { return u.Reference }},
		{"first_sent_at", when(func(u messages.Unresolved) time.Time { return u.FirstSentAt })},
		{"last_sent_at", when(func(u messages.Unresolved) time.Time { return u.LastSentAt })},
		{"search_until", when(func(u messages.Unresolved) time.Time { return u.SearchUntil })},
		{"correlation_ids", func(u messages.Unresolved) string { return strings.Join(u.CorrelationIDs, " ") }},
		{"id", func(u messages.Unresolved) string { return string(u.ID) }},
		{"idempotency_key", func(u messages.Unresolved) string { return string(u.IdempotencyKey) }},
		{"token_fingerprint", func(u messages.Unresolved) string { return u.TokenFingerprint }},
		{"reason", func(u messages.Unresolved) string { return string(u.Reason) }},
		{"tries", number(func(u messages.Unresolved) int64 { return int64(u.Tries) })},
		{"at", when(func(u messages.Unresolved) time.Time { return u.At })},
	}
}

// What says whether a charge or a capture is unresolved.
func What(u messages.Unresolved) JobKind {
	if u.CapturedAmount > 0 {
		return CaptureJob
	}
	return ChargeJob
}

// Asked is the amount that is unresolved, in minor units: of a capture its own.
func Asked(u messages.Unresolved) int64 {
	if What(u) == CaptureJob {
		return u.CapturedAmount
	}
	return u.OrderAmount
}

// WriteSheet writes what is unresolved as CSV, a line each below a header, with empty columns for the verdict: [ReadLines] reads it back.
// Amounts are in minor units, times RFC 3339 in UTC.
func WriteSheet(w io.Writer, all []messages.Unresolved) error {
	var names []string
	for _, c := range columns() {
		names = append(names, c.name)
	}
	return WriteRows(w, names, func(yield func([]string) bool) {
		for _, u := range all {
			var cells []string
			for _, c := range columns() {
				cell := ""
				if c.value != nil {
					cell = c.value(u)
				}
				cells = append(cells, cell)
			}
			if !yield(cells) {
				return
			}
		}
	})
}
