package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/klarna/settlements"
)

// order is what a report says of one order: as small as it can be, there may be a hundred thousand.
type order struct {
	id         string // "" where the file has no order ids: its references name it
	reference1 string
	reference2 string
	saleDate   time.Time
	sales      []sale
	backs      []back
	uncovered  bool // a row of it is not compared with a payout's totals: others may be missing
}

// sale is one SALE.
type sale struct {
	place
	captureID string
	amount    int64
	currency  string
	at        time.Time
	unpriced  bool // the file does not tell amounts
	matched   bool // with something on record
}

// back is money that went back: a RETURN or a REVERSAL.
type back struct {
	place
	kind       settlements.Type
	byKlarna   bool // though the row may not tell
	registered bool // by the merchant, with a reference of its own
	refundID   string
	dispute    string
	amount     int64
	currency   string
	at         time.Time
}

// place is where a row stands.
type place struct {
	payout string
	line   int
}

func (p place) compare(o place) int { return cmp.Or(cmp.Compare(p.payout, o.payout), p.line-o.line) }

// orderKey names an order, where the file has no order ids by its references.
func orderKey(t settlements.Transaction) string {
	if t.OrderID != "" {
		return t.OrderID
	}
	return "\x00" + t.MerchantReference1 + "\x00" + t.MerchantReference2
}

// add takes in a row of the order.
func (o *order) add(t settlements.Transaction, unpriced bool) {
	if o.reference1 == "" {
		o.reference1 = t.MerchantReference1
	}
	if o.reference2 == "" {
		o.reference2 = t.MerchantReference2
	}
	if o.saleDate.IsZero() {
		o.saleDate = t.SaleDate
	}
	at := place{t.PaymentReference, t.Line}
	if t.Type == settlements.Sale {
		o.sales = append(o.sales, sale{place: at, captureID: t.CaptureID, amount: t.Amount, currency: t.CurrencyCode, at: t.CaptureDate, unpriced: unpriced})
		return
	}
	o.backs = append(o.backs, back{
		place: at, kind: t.Type, byKlarna: strings.EqualFold(t.DetailedType, settlements.PaymentDefault), registered: t.MerchantRefundReference != "",
		refundID: t.RefundID, dispute: t.ReversalReference, amount: -t.Effect(), currency: t.CurrencyCode, at: t.CaptureDate,
	})
}

// first is where the order stands first.
func (o *order) first() place {
	var all []place
	for _, s := range o.sales {
		all = append(all, s.place)
	}
	for _, b := range o.backs {
		all = append(all, b.place)
	}
	return slices.MinFunc(all, place.compare)
}

// sold is the sum of its sales.
func (o *order) sold() (sum int64) {
	for _, s := range o.sales {
		sum += s.amount
	}
	return sum
}

func (o *order) name() string {
	if o.id != "" {
		return "order " + o.id
	}
	return fmt.Sprintf("the order with references %q and %q", o.reference1, o.reference2)
}

// due are the pieces of money that should have been settled for a renewal's order.
func (r Renewal) due() (pieces []Capture) {
	if amount := r.automatic(); amount > 0 {
		pieces = append(pieces, Capture{Amount: amount, At: r.PaidAt, SentAt: r.SentAt})
	}
	return append(pieces, r.Captures...)
}

// automatic is how much of the order Klarna has taken by itself, as far as anybody has seen: what it was asked to, until a capture job has looked.
func (r Renewal) automatic() int64 {
	switch {
	case r.OrderID == "":
		return 0
	case r.Looked:
		return r.Automatic
	case r.Captured:
		return r.Amount
	}
	return 0
}

// pair matches the sales of an order with what should have been settled, by capture id and then by amount. What is left over on both
// sides is paired as it comes: those are of another amount.
func pair(pieces []Capture, sales []sale) (settled []*sale, over []*sale) {
	settled = make([]*sale, len(pieces))
	take := func(same func(Capture, sale) bool) {
		for i, p := range pieces {
			for j := range sales {
				if s := &sales[j]; settled[i] == nil && !s.matched && same(p, *s) {
					settled[i], s.matched = s, true
				}
			}
		}
	}
	take(func(p Capture, s sale) bool { return p.ID != "" && p.ID == s.captureID })
	take(func(p Capture, s sale) bool {
		return (p.ID == "" || s.captureID == "") && (s.unpriced || p.Amount == s.amount)
	})
	take(func(p Capture, s sale) bool { return p.ID == "" || s.captureID == "" })
	for j := range sales {
		if !sales[j].matched {
			over = append(over, &sales[j])
		}
	}
	return settled, over
}
