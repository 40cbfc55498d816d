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

// clockMargin is how far the clocks of a worker and of Klarna may be apart.
const clockMargin = 5 * time.Minute

// judgeStrangers says what the orders of no record are to the renewals that their references name.
func (c *comparison) judgeStrangers() error {
	for _, s := range c.strangers {
		open := slices.DeleteFunc(slices.Clone(s.renewals), func(r Renewal) bool { return r.Phase != journal.PhaseUnresolved || r.Capturing })
		switch r := s.renewals[0]; {
		case len(open) == 1 && c.firstOf(open[0], s.order):
			c.resolves(s, open[0])
		case len(open) == 1:
			c.second(s.order, open[0])
		case len(s.renewals) == 1 && r.OrderID != "":
			c.second(s.order, r)
		case len(s.renewals) == 1:
			c.found(about(messages.BreakUnknownOrder, r, s.order, s.id), s.first(), "%s has the reference of %s, which is %s: no record has this order", s.name(), r.name(), r.Phase)
		default:
			c.found(about(messages.BreakUnknownOrder, r, s.order, s.id), s.first(), "%s has a reference that %d renewals have, %s and %s among them: no record has this order", s.name(), len(s.renewals), r.name(), s.renewals[1].name())
		}
		c.report.Orders++
		c.wentBack(s.order, s.renewals[0])
	}
	return nil
}

// firstOf says that an order is the first of those that claim a renewal.
func (c *comparison) firstOf(r Renewal, o *order) bool {
	return slices.MinFunc(c.claims[r.Key()], func(a, b *order) int {
		if d := a.saleDate.Compare(b.saleDate); d != 0 {
			return d
		}
		return strings.Compare(a.id, b.id)
	}) == o
}

// resolves is evidence for what is unresolved.
func (c *comparison) resolves(s stranger, r Renewal) {
	b := about(messages.BreakResolves, r, s.order, string(r.Key()), s.id)
	against := c.against(s, r)
	verdict := "and --apply records it as paid"
	if against != "" {
		verdict = "but a person has to decide: " + against
	}
	id := c.found(b, s.first(), "%s has the reference of %s, which is unresolved: it was charged, %s", s.name(), r.name(), verdict)
	at := s.first()
	c.report.Evidence[id] = Evidence{Renewal: r, OrderID: s.id, Against: against, Note: fmt.Sprintf("settled in payout %s, line %d: SALE of %s for order %s", at.payout, at.line, desk.Money(s.sold(), s.sales[0].currency), s.id)}
}

// against is what forbids to settle a renewal by an order: everything that must fit exactly and does not.
func (c *comparison) against(s stranger, r Renewal) string {
	sale := s.sales[0]
	switch {
	case len(s.renewals) > 1:
		return fmt.Sprintf("%d renewals have this reference", len(s.renewals))
	case len(c.claims[r.Key()]) > 1:
		return fmt.Sprintf("%d orders have this reference", len(c.claims[r.Key()]))
	case len(s.sales) > 1:
		return fmt.Sprintf("the order has %d sales", len(s.sales))
	case s.uncovered:
		return "the report has no totals that say whether it has all sales"
	case len(s.backs) > 0:
		return "some of the money went back"
	case !r.referred(s.order):
		return "not all of its references are those that were sent"
	case r.OrderID != "" && r.OrderID != s.id:
		return "another order of it is on record: " + r.OrderID
	case sale.amount != r.Amount:
		return fmt.Sprintf("it is of %d, charged were %d", sale.amount, r.Amount)
	case !strings.EqualFold(sale.currency, r.Currency):
		return fmt.Sprintf("it is in %q, charged was in %s", sale.currency, r.Currency)
	case r.FirstSentAt.IsZero() || r.SearchUntil.IsZero():
		return "the journal does not say when it was charged"
	case s.saleDate.IsZero():
		return "the report does not say when the order was made"
	case s.saleDate.Before(r.FirstSentAt.Add(-clockMargin)) || s.saleDate.After(r.SearchUntil.Add(clockMargin)):
		return fmt.Sprintf("it was made at %s, the charge was under way from %s to %s", s.saleDate.Format(time.RFC3339), r.FirstSentAt.Format(time.RFC3339), r.SearchUntil.Format(time.RFC3339))
	}
	return ""
}

// referred says that an order has every reference that was sent, as far as the report tells them, and one at least.
func (r Renewal) referred(o *order) bool {
	fits := func(told, sent string) bool { return told == "" || told == sent || told == string(r.MessageID) }
	return fits(o.reference1, r.Reference1) && fits(o.reference2, r.Reference2) &&
		(o.reference1 != "" && o.reference1 == r.Reference1 || o.reference2 != "" && (o.reference2 == r.Reference2 || o.reference2 == string(r.MessageID)))
}

// resolvesCapture is evidence for a capture of which nobody knows.
func (c *comparison) resolvesCapture(o *order, r Renewal, s *sale) {
	b := about(messages.BreakResolves, r, o, string(r.Key()), o.id, s.captureID)
	b.Amount, b.ExpectedAmount, b.CaptureID = s.amount, r.CapturingAmount, s.captureID
	id := c.found(b, s.place, "%s was settled with a capture of %s that is unresolved in %s: it was taken; say so with `renewals resolve --captured`", o.name(), desk.Money(s.amount, r.Currency), r.name())
	c.report.Evidence[id] = Evidence{Renewal: r, OrderID: o.id, Against: "it is a capture", Note: fmt.Sprintf("settled in payout %s, line %d", s.payout, s.line)}
}

// await looks for money that should have been settled by now. It is asked for only of a time of which the report has every payout.
func (c *comparison) await() error {
	if c.From.IsZero() || c.To.IsZero() {
		c.unanswered("missing and not_captured: say --from and --to where the report has all payouts between them")
		return nil
	}
	end := c.To
	if c.Now.Before(end) {
		end = c.Now
	}
	last := end.Add(-c.ExpectWithin)
	n := 0
	for r, err := range c.books.Paid(c.ctx, c.Account, c.From, end) {
		if err != nil {
			return fmt.Errorf("read the books: %w", err)
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n++
		c.tell(StepRenewals, n, 0)
		c.awaited(r, last, end)
	}
	return nil
}

func (c *comparison) awaited(r Renewal, last, end time.Time) {
	o := c.orders[r.OrderID]
	if o == nil { // a file without order ids, or nothing settled
		o = c.orders["\x00"+r.Reference1+"\x00"+r.Reference2]
	}
	if o == nil {
		o = &order{}
	}
	if len(o.sales) > 0 && !c.inRecorded(o, r) {
		return // told of by its currency
	}
	pieces := r.due()
	sales := slices.Clone(o.sales)
	for i := range sales {
		sales[i].matched = false
	}
	settled, _ := pair(pieces, sales)
	for i, p := range pieces {
		switch at := p.MadeAt(); {
		case settled[i] != nil, at.Before(c.From), !at.Before(end):
		case at.After(last):
			c.report.Expected++
		default:
			b := about(messages.BreakMissing, r, nil, r.OrderID, p.ID)
			b.CaptureID, b.ExpectedAmount = p.ID, p.Amount
			c.found(b, place{}, "%s of order %s for %s were captured at %s and have not been settled within %s", desk.Money(p.Amount, r.Currency), r.OrderID, r.name(), at.UTC().Format(time.RFC3339), c.ExpectWithin)
		}
	}
	if made := r.MadeAt(); len(pieces) == 0 && len(o.sales) == 0 && r.OrderID != "" && !made.Before(c.From) && !made.After(last) && r.Phase != journal.PhaseUnresolved {
		c.found(about(messages.BreakNotCaptured, r, nil, r.OrderID), place{}, "order %s for %s was made at %s, and no money was taken of its %s", r.OrderID, r.name(), made.UTC().Format(time.RFC3339), desk.Money(r.Amount, r.Currency))
	}
}

// inRecorded says that the sales of an order are in the currency of its renewal.
func (c *comparison) inRecorded(o *order, r Renewal) bool {
	return !slices.ContainsFunc(o.sales, func(s sale) bool {
		return s.currency != "" && r.Currency != "" && !strings.EqualFold(s.currency, r.Currency)
	})
}
