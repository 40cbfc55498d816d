package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/klarna-renewals/renewals/klarna/settlements"
	"github.com/klarna-renewals/renewals/messages"
)

// Options of a comparison. Account is required.
type Options struct {
	Account messages.Account
	// Merchant is the account's merchant ID, by which the rows of others are told apart in a file of several; "" takes all.
	Merchant string
	// From and To are the moments between which the report has every payout of the account. Only where both are said is
	// money asked for that was never settled.
	From, To time.Time
	// ExpectWithin is how long Klarna may take from a capture to its payout. Default 21 days.
	ExpectWithin time.Duration
	// Now is when the breaks are found.
	Now time.Time
	// Open are breaks that were told before and that nobody has closed.
	Open []messages.Break
	// Progress, where set, is told how far a step has come, n of so many; of is 0 where that is not known.
	Progress func(step Step, n, of int)
}

// Step is a part of a comparison that may take long, as a person reads it beside a number.
type Step string

// The steps, in their order.
const (
	StepRows     Step = "rows read"
	StepOrders   Step = "orders looked up"
	StepRenewals Step = "renewals looked at"
)

// DefaultExpectWithin is what nobody has published: weekly payouts by contract, and two weeks to spare.
const DefaultExpectWithin = 21 * 24 * time.Hour

// Report is what a comparison found.
type Report struct {
	Breaks []messages.Break
	// Evidence is what the breaks of kind resolves rest on, by their ID.
	Evidence map[messages.BreakID]Evidence
	// Settled are those of [Options.Open] that have come right.
	Settled []Settled
	Unused  []Unused
	// Unanswered are questions that the report cannot answer, in a sentence each.
	Unanswered []string
	Payouts    int
	Rows       int
	Orders     int // of ours
	Expected   int // captures that may yet be settled: no break
	Refunded   int // rows that the merchant registered itself: no break
}

// Unused is a row that belongs to nothing of the account's.
type Unused struct {
	PaymentReference string           `json:"payment_reference,omitempty"`
	Line             int              `json:"line"`
	Type             settlements.Type `json:"type"`
	OrderID          string           `json:"order_id,omitempty"`
	Amount           int64            `json:"amount"` // minor units
	Currency         string           `json:"currency"`
	Reason           string           `json:"reason"`
}

// Evidence says whether a renewal may be settled by what was found.
type Evidence struct {
	Renewal Renewal
	OrderID string
	// Against is why it may not; "" where it may.
	Against string
	Note    string // the payout and the row
}

// Compare joins a report with the books. An error means that nothing was compared: the report is incomplete, as a
// *[settlements.IncompleteError], cannot be read, or the books cannot.
func Compare(ctx context.Context, books Books, report iter.Seq2[settlements.Record, error], options Options) (*Report, error) {
	if options.ExpectWithin == 0 {
		options.ExpectWithin = DefaultExpectWithin
	}
	c := &comparison{ctx: ctx, books: books, Options: options, orders: map[string]*order{}, claims: map[messages.RenewalKey][]*order{}}
	c.report.Evidence = map[messages.BreakID]Evidence{}
	for _, step := range []func() error{func() error { return c.read(report) }, c.join, c.judgeStrangers, c.await, c.settleOpen} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(c.report.Unused, func(a, b Unused) int {
		return cmp.Or(cmp.Compare(a.PaymentReference, b.PaymentReference), a.Line-b.Line)
	})
	slices.SortStableFunc(c.report.Breaks, func(a, b messages.Break) int {
		return cmp.Or(cmp.Compare(a.PaymentReference, b.PaymentReference), a.Line-b.Line, cmp.Compare(a.ID, b.ID), cmp.Compare(a.RenewalKey, b.RenewalKey))
	})
	return &c.report, nil
}

// comparison is one on its way.
type comparison struct {
	Options
	ctx    context.Context
	books  Books
	report Report

	orders   map[string]*order
	places   []*order // as they come
	unpriced bool     // what is read does not tell amounts
	// claims are orders of no record by the renewal that their reference names, and strangers what is known of them.
	claims    map[messages.RenewalKey][]*order
	strangers []stranger
}

// stranger is an order that no record has.
type stranger struct {
	*order
	renewals []Renewal // by its references
}

// read takes in the report and makes sure that it is whole.
func (c *comparison) read(report iter.Seq2[settlements.Record, error]) error {
	var audit settlements.Audit
	for record, err := range report {
		if err == nil {
			err = audit.Add(record)
		}
		if err == nil {
			err = c.ctx.Err()
		}
		if err != nil {
			return err
		}
		if record.Columns != nil {
			c.columns(record.Columns)
		}
		if record.Transaction != nil {
			c.row(*record.Transaction, audit.Covered())
		}
		c.tell(StepRows, audit.Rows, 0)
	}
	if err := audit.Close(); err != nil {
		return err
	}
	c.report.Payouts, c.report.Rows = audit.Payouts, audit.Rows
	for _, what := range audit.Unverified {
		c.unanswered(what)
	}
	return nil
}

// tell tells of every hundredth.
func (c *comparison) tell(step Step, n, of int) {
	if c.Progress != nil && n%100 == 0 {
		c.Progress(step, n, of)
	}
}

// columns says which questions a file cannot answer.
func (c *comparison) columns(have settlements.Columns) {
	c.unpriced = !have["amount"]
	for _, question := range []struct{ column, cannot string }{
		{"order_id", "second_order, order_shared, unknown_order, resolves and forgotten: orders are known by their references alone"},
		{"amount", "amount, and what resolves may settle"},
		{"currency_code", "currency"},
		{"sale_date", "what resolves may settle"},
		{"detailed_type", "which returns Klarna made itself: all without a reference of yours are listed"},
		{"merchant_refund_reference", "which returns you made yourself: all are listed"},
	} {
		if !have[question.column] {
			c.unanswered(fmt.Sprintf("without the column %s: %s", question.column, question.cannot))
		}
	}
	if !have["merchant_reference1"] && !have["merchant_reference2"] {
		c.unanswered("without the columns merchant_reference1 and merchant_reference2: second_order, unknown_order, resolves and forgotten")
	}
}

func (c *comparison) unanswered(what string) {
	if !slices.Contains(c.report.Unanswered, what) {
		c.report.Unanswered = append(c.report.Unanswered, what)
	}
}

// row keeps what a row says of its order. Fees and the like are for the totals only.
func (c *comparison) row(t settlements.Transaction, covered bool) {
	switch t.Type {
	case settlements.Sale, settlements.Return, settlements.Reversal:
	case "":
		c.unused(t, "the file does not tell its type")
		return
	default:
		if !t.Type.Known() {
			c.unused(t, "its type is none that is known here")
		}
		return
	}
	switch {
	case c.Merchant != "" && t.MerchantID != "" && t.MerchantID != c.Merchant:
		c.unused(t, "it is of merchant "+t.MerchantID)
		return
	case t.OrderID == "" && t.MerchantReference1 == "" && t.MerchantReference2 == "":
		c.unused(t, "it has neither an order nor a reference")
		return
	}
	key := orderKey(t)
	o := c.orders[key]
	if o == nil {
		o = &order{id: t.OrderID}
		c.orders[key], c.places = o, append(c.places, o)
	}
	o.add(t, c.unpriced)
	o.uncovered = o.uncovered || !covered
}

func (c *comparison) unused(t settlements.Transaction, why string) {
	c.report.Unused = append(c.report.Unused, Unused{t.PaymentReference, t.Line, t.Type, t.OrderID, t.Effect(), t.CurrencyCode, why})
}

// leave lists all rows of an order as unused.
func (c *comparison) leave(o *order, why string) {
	for _, s := range o.sales {
		c.report.Unused = append(c.report.Unused, Unused{s.payout, s.line, settlements.Sale, o.id, s.amount, s.currency, why})
	}
	for _, b := range o.backs {
		c.report.Unused = append(c.report.Unused, Unused{b.payout, b.line, b.kind, o.id, -b.amount, b.currency, why})
	}
}

// found adds a break.
func (c *comparison) found(b messages.Break, at place, format string, args ...any) messages.BreakID {
	b.Account, b.Status, b.At, b.PaymentReference, b.Line, b.Detail = c.Account, messages.BreakOpen, c.Now, at.payout, at.line, fmt.Sprintf(format, args...)
	c.report.Breaks = append(c.report.Breaks, b)
	return b.ID
}

// about is a break about a renewal and an order.
func about(kind messages.BreakKind, r Renewal, o *order, parts ...string) messages.Break {
	b := messages.Break{Kind: kind, SubscriptionID: r.SubscriptionID, Period: r.Period, MessageID: r.MessageID, ExpectedAmount: r.Amount, ExpectedCurrency: r.Currency, OrderID: r.OrderID}
	if r.SubscriptionID != "" {
		b.RenewalKey = r.Key()
	}
	if o != nil {
		b.OrderID = o.id
		if len(o.sales) > 0 {
			b.Amount, b.Currency, b.SettledAt = o.sold(), o.sales[0].currency, o.sales[0].at
		}
	}
	b.ID = messages.NewBreakID(kind, r.Account, parts...)
	return b
}
