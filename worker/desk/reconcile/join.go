package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/klarna/settlements"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
)

// join finds the renewals of each order: by its id, then by its references.
func (c *comparison) join() error {
	for i, o := range c.places {
		c.tell(StepOrders, i, len(c.places))
		var renewals []Renewal
		var err error
		if o.id != "" {
			if renewals, err = c.books.ByOrder(c.ctx, o.id); err != nil {
				return fmt.Errorf("look up order %s: %w", o.id, err)
			}
		}
		ours := slices.DeleteFunc(slices.Clone(renewals), func(r Renewal) bool { return r.Account != c.Account })
		switch {
		case len(renewals) > 0 && len(ours) == 0:
			c.leave(o, "its order is of account "+string(renewals[0].Account))
			continue
		case len(ours) > 1:
			c.shared(o, ours)
		case len(ours) == 1:
			if err := c.anothers(o, ours[0]); err != nil {
				return err
			}
		}
		if len(ours) > 0 {
			c.report.Orders++
			if err := c.judge(o, ours[0]); err != nil {
				return err
			}
			continue
		}
		if err := c.byReference(o); err != nil {
			return err
		}
	}
	return nil
}

// shared is one order with two renewals.
func (c *comparison) shared(o *order, renewals []Renewal) {
	b := about(messages.BreakOrderShared, renewals[0], o, o.id)
	b.ConflictsWith = renewals[1].Key()
	c.found(b, o.first(), "%s is recorded for %d renewals: %s and %s; the customer was charged once for both", o.name(), len(renewals), renewals[0].name(), renewals[1].name())
}

// anothers finds an order that is recorded for one renewal and was made for another, by its references: something between Klarna and the
// worker gave the answer to one request to that of another. A reference that both renewals have says nothing.
func (c *comparison) anothers(o *order, r Renewal) error {
	if r.OrderID != o.id || r.referred(o) {
		return nil
	}
	var others []Renewal
	for _, reference := range []string{o.reference2, o.reference1} {
		if reference == "" {
			continue
		}
		found, err := c.books.ByReference(c.ctx, c.Account, reference)
		if err != nil {
			return fmt.Errorf("look up reference %q: %w", reference, err)
		}
		if slices.ContainsFunc(found, func(f Renewal) bool { return f.Key() == r.Key() }) {
			return nil // of another attempt
		}
		others = append(others, found...)
	}
	if len(others) == 0 {
		return nil
	}
	b := about(messages.BreakOrderShared, r, o, o.id)
	b.ConflictsWith = others[0].Key()
	c.found(b, o.first(), "%s is recorded for %s, and Klarna has it with the reference of %s, which is %s: was the one charged for the other?", o.name(), r.name(), others[0].name(), others[0].Phase)
	return nil
}

func (r Renewal) name() string { return string(r.SubscriptionID) + "/" + string(r.Period) }

// byReference finds whose an order is that no record has.
func (c *comparison) byReference(o *order) error {
	var renewals []Renewal
	for _, reference := range []string{o.reference2, o.reference1} { // a stamped message ID is in the second
		if reference == "" || len(renewals) > 0 {
			continue
		}
		found, err := c.books.ByReference(c.ctx, c.Account, reference)
		if err != nil {
			return fmt.Errorf("look up reference %q: %w", reference, err)
		}
		renewals = found
	}
	if o.id == "" && len(renewals) > 0 {
		return c.unnamed(o, renewals)
	}
	if len(renewals) > 0 && len(o.sales) > 0 {
		c.strangers = append(c.strangers, stranger{o, renewals})
		for _, r := range renewals {
			c.claims[r.Key()] = append(c.claims[r.Key()], o)
		}
		return nil
	}
	forgotten, err := c.forgotten(o)
	if err == nil && !forgotten {
		c.leave(o, "its order is in no record, and its references are of no renewal")
	}
	return err
}

// unnamed judges an order of a file without order ids: it is that of the one renewal that has its reference and an order.
func (c *comparison) unnamed(o *order, renewals []Renewal) error {
	if len(renewals) > 1 {
		c.leave(o, fmt.Sprintf("%d renewals have its reference, and the file does not tell its order", len(renewals)))
		return nil
	}
	if renewals[0].OrderID == "" {
		c.leave(o, "its reference is of a renewal that is "+string(renewals[0].Phase)+", and the file does not tell its order")
		return nil
	}
	c.report.Orders++
	return c.judge(o, renewals[0])
}

// forgotten says, and tells, that an order has the stamp of a subscription of ours, for a period that the journal does not know.
func (c *comparison) forgotten(o *order) (bool, error) {
	for _, reference := range []string{o.reference2, o.reference1} {
		for cut := len(reference); cut > 0 && len(o.sales) > 0; {
			if cut = strings.LastIndexByte(reference[:cut], '/'); cut <= 0 {
				break
			}
			subscription := messages.SubscriptionID(reference[:cut])
			known, err := c.books.Knows(c.ctx, c.Account, subscription)
			if err != nil {
				return false, fmt.Errorf("look up subscription %q: %w", subscription, err)
			}
			if known {
				b := about(messages.BreakForgotten, Renewal{Account: c.Account}, o, o.id)
				b.SubscriptionID, b.ExpectedAmount = subscription, 0
				c.found(b, o.first(), "%s has the reference %q, of a period of subscription %s of which the journal has no record", o.name(), reference, subscription)
				return true, nil
			}
		}
	}
	return false, nil
}

// judge compares an order with the renewal that has it on record.
func (c *comparison) judge(o *order, r Renewal) error {
	switch {
	case r.OrderID == "":
		if len(o.sales) > 0 { // an operator said that it came to nothing
			c.found(about(messages.BreakUnknownOrder, r, o, o.id), o.first(), "%s was settled, and the journal says of %s that it was not charged", o.name(), r.name())
		}
	case o.id != "" && r.OrderID != o.id:
		if len(o.sales) > 0 {
			c.second(o, r)
		}
	case !c.sameCurrency(o, r):
	default:
		c.amounts(o, r)
	}
	c.wentBack(o, r)
	if len(o.sales) == 0 || r.OrderID == "" {
		return nil
	}
	return c.neighbours(o, r)
}

// second is a double charge.
func (c *comparison) second(o *order, r Renewal) {
	b := about(messages.BreakSecondOrder, r, o, o.id)
	b.OtherOrderID = r.OrderID
	c.found(b, o.first(), "%s was charged for %s, which is paid with order %s: the customer was charged twice", o.name(), r.name(), r.OrderID)
}

func (c *comparison) sameCurrency(o *order, r Renewal) bool {
	for _, s := range o.sales {
		if s.currency != "" && r.Currency != "" && !strings.EqualFold(s.currency, r.Currency) {
			b := about(messages.BreakCurrency, r, o, o.id)
			b.Currency = s.currency
			c.found(b, s.place, "%s was settled in %s, %s was charged in %s", o.name(), s.currency, r.name(), r.Currency)
			return false
		}
	}
	return true
}

// amounts compares what was settled with what was captured.
func (c *comparison) amounts(o *order, r Renewal) {
	pieces := r.due()
	settled, over := pair(pieces, o.sales)
	if len(over) == 1 && r.Capturing && over[0].amount == r.CapturingAmount {
		c.resolvesCapture(o, r, over[0])
		over = nil
	}
	var expected, sold int64
	var at *sale
	for i, s := range settled {
		if s != nil {
			expected, sold = expected+pieces[i].Amount, sold+s.amount
			if s.amount != pieces[i].Amount && !s.unpriced {
				at = s
			}
		}
	}
	for _, s := range over {
		sold, at = sold+s.amount, s
	}
	if at == nil {
		return
	}
	b := about(messages.BreakAmount, r, o, o.id)
	b.Amount, b.ExpectedAmount, b.CaptureID = sold, expected, at.captureID
	switch {
	case len(over) > 0 && len(pieces) == 0:
		c.found(b, at.place, "%s was settled with %s, and no capture of %s is on record", o.name(), desk.Money(sold, r.Currency), r.name())
	case len(over) > 0:
		c.found(b, at.place, "%s was settled with %s in %d sales, on record are captures of %s in all", o.name(), desk.Money(sold, r.Currency), len(o.sales), desk.Money(expected, r.Currency))
	default:
		c.found(b, at.place, "%s was settled with %s, captured were %s", o.name(), desk.Money(sold, r.Currency), desk.Money(expected, r.Currency))
	}
}

// wentBack tells of money that went back and that nobody here knows of.
func (c *comparison) wentBack(o *order, r Renewal) {
	equals := map[string]int{}
	for _, back := range o.backs {
		kind, what := messages.BreakReturned, "was given back"
		switch {
		case back.kind == settlements.Reversal:
			kind, what = messages.BreakReversed, "was taken back after a dispute"
		case back.byKlarna:
			what = "was taken back by Klarna, since the customer did not pay"
		case back.registered:
			c.report.Refunded++
			continue
		}
		piece := back.refundID
		if piece == "" {
			piece = back.dispute
		}
		if piece == "" {
			piece = fmt.Sprintf("%s/%d", back.at.Format(time.RFC3339), back.amount)
			equals[string(kind)+piece]++
			if n := equals[string(kind)+piece]; n > 1 { // nothing else tells it from the first
				piece += fmt.Sprintf("/%d", n)
			}
		}
		b := about(kind, r, o, o.id, piece)
		b.Amount, b.Currency, b.RefundID, b.SettledAt = back.amount, back.currency, back.refundID, back.at
		c.found(b, back.place, "%s of %s %s, %s stays %s on record", desk.Money(back.amount, back.currency), o.name(), what, r.name(), r.Phase)
	}
}

// closest is how near to each other two periods are looked at: half a month and some days. One period under two names is dated days
// apart, if at all.
const closest = 20 * 24 * time.Hour

// neighbours looks for a period that was charged under two names.
func (c *comparison) neighbours(o *order, r Renewal) error {
	if r.DueAt.IsZero() {
		return nil
	}
	near, err := c.books.Neighbours(c.ctx, r, closest)
	if err != nil {
		return fmt.Errorf("look up the periods of %s: %w", r.name(), err)
	}
	for _, n := range near {
		if n.OrderID == "" || n.OrderID == r.OrderID {
			continue
		}
		close, err := c.close(r, n)
		if err != nil {
			return err
		}
		pair := []string{string(r.Key()), string(n.Key())}
		slices.Sort(pair)
		b := about(messages.BreakClosePeriods, r, o, pair...)
		if !close || slices.ContainsFunc(c.report.Breaks, func(found messages.Break) bool { return found.ID == b.ID }) {
			continue
		}
		b.ConflictsWith, b.OtherOrderID = n.Key(), n.OrderID
		c.found(b, o.first(), "%s and %s are both paid and fell due %s apart: is it one period under two names?", r.name(), n.name(), r.DueAt.Sub(n.DueAt).Abs())
	}
	return nil
}

// close says that two periods fall due closer together than half the shorter of their cadences, and neither is meant to.
func (c *comparison) close(r, n Renewal) (bool, error) {
	shortest := time.Duration(0)
	for _, one := range []Renewal{r, n} {
		cadence, offCycle, err := c.books.Cadence(c.ctx, one)
		if err != nil {
			return false, fmt.Errorf("look up the cadence of %s: %w", one.name(), err)
		}
		length := cadence.Length()
		if offCycle || length == 0 {
			return false, nil
		}
		if shortest == 0 || length < shortest {
			shortest = length
		}
	}
	return r.DueAt.Sub(n.DueAt).Abs() < shortest/2, nil
}
