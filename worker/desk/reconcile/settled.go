package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// Settled is an open break that is none any more.
type Settled struct {
	Break messages.Break
	Note  string // by which payout and row, or by which record
}

// settleOpen finds which of the open breaks have come right since: by a row of this report, or by a record. What is merely not found
// again settles nothing, and what was charged twice, or not at all, only a person does.
func (c *comparison) settleOpen() error {
	for _, b := range c.Open {
		if b.Account != c.Account || slices.ContainsFunc(c.report.Breaks, func(found messages.Break) bool { return found.ID == b.ID }) {
			continue
		}
		note, err := c.cameRight(b)
		if err != nil {
			return fmt.Errorf("look up order %s: %w", b.OrderID, err)
		}
		if note != "" {
			c.report.Settled = append(c.report.Settled, Settled{b, note})
		}
	}
	return nil
}

// cameRight says by what a break has; "" where nothing says so.
func (c *comparison) cameRight(b messages.Break) (note string, err error) {
	switch b.Kind {
	case messages.BreakMissing, messages.BreakNotCaptured, messages.BreakResolves:
	default:
		return "", nil
	}
	if b.OrderID == "" {
		return "", nil
	}
	renewals, err := c.books.ByOrder(c.ctx, b.OrderID)
	if err != nil || len(renewals) != 1 || renewals[0].Key() != b.RenewalKey || renewals[0].OrderID != b.OrderID {
		return "", err
	}
	r := renewals[0]
	if b.Kind == messages.BreakResolves {
		return r.resolved(b), nil
	}
	sales, err := c.salesOf(r)
	if err != nil {
		return "", err
	}
	if b.Kind == messages.BreakMissing {
		return r.settled(b, sales), nil
	}
	return r.taken(sales), nil
}

// salesOf are the sales of a renewal's order in the report, with an amount and in the renewal's currency. Where the file does not tell
// orders, they are those of its references, if no other renewal has one of them.
func (c *comparison) salesOf(r Renewal) (sales []sale, err error) {
	o := c.orders[r.OrderID]
	if o == nil {
		o = c.orders["\x00"+r.Reference1+"\x00"+r.Reference2]
		for _, reference := range []string{r.Reference1, r.Reference2} {
			if o == nil || reference == "" {
				continue
			}
			same, err := c.books.ByReference(c.ctx, c.Account, reference)
			if err != nil || len(same) != 1 {
				return nil, err
			}
		}
	}
	if o == nil {
		return nil, nil
	}
	return slices.DeleteFunc(slices.Clone(o.sales), func(s sale) bool {
		return s.unpriced || s.currency != "" && !strings.EqualFold(s.currency, r.Currency)
	}), nil
}

// settled says in which row what a break misses is: by the capture's id, or without one by an amount that no other capture has.
func (r Renewal) settled(b messages.Break, sales []sale) string {
	pieces := r.due()
	i := slices.IndexFunc(pieces, func(p Capture) bool { return p.ID == b.CaptureID })
	if i < 0 {
		return ""
	}
	p := pieces[i]
	twins := 0
	for _, other := range pieces {
		if other.Amount == p.Amount {
			twins++
		}
	}
	for _, s := range sales {
		named := p.ID != "" && s.captureID != ""
		if s.amount == p.Amount && (named && s.captureID == p.ID || !named && twins == 1) {
			return r.row(s)
		}
	}
	return ""
}

// taken says by what the money of an order was taken that had not been.
func (r Renewal) taken(sales []sale) string {
	switch {
	case len(sales) > 0:
		return r.row(sales[0])
	case len(r.Captures) > 0:
		first := r.Captures[0]
		return fmt.Sprintf("capture %s of %s is on record since %s", first.ID, desk.Money(first.Amount, r.Currency), first.At.UTC().Format(time.RFC3339))
	case r.automatic() > 0:
		return fmt.Sprintf("recorded as captured at %s", r.PaidAt.UTC().Format(time.RFC3339))
	}
	return ""
}

// resolved says which record settles what a break is evidence for: one that says the same.
func (r Renewal) resolved(b messages.Break) string {
	if r.Phase == journal.PhaseUnresolved {
		return ""
	}
	if b.CaptureID == "" {
		return fmt.Sprintf("recorded as paid with order %s at %s", r.OrderID, r.PaidAt.UTC().Format(time.RFC3339))
	}
	i := slices.IndexFunc(r.Captures, func(p Capture) bool { return p.ID == b.CaptureID })
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("capture %s is on record since %s", b.CaptureID, r.Captures[i].At.UTC().Format(time.RFC3339))
}

func (r Renewal) row(s sale) string {
	return fmt.Sprintf("settled in payout %s, line %d: SALE of %s", s.payout, s.line, desk.Money(s.amount, r.Currency))
}
