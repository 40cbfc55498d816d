package desk

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
)

// A Row is one thing that a job and Klarna's order may differ in, as people read it.
type Row struct {
	What, Job, Klarna string
	Fits              bool
}

// A Comparison is what was asked for beside what Klarna shows.
type Comparison struct {
	Rows []Row
	// Seen is what Klarna showed; nil where it was not asked.
	Seen *messages.Seen
	// Captured says that nothing of the order is left to capture.
	Captured bool
}

// Verified says that Klarna was asked, and everything fits.
func (c Comparison) Verified() bool { return c.Seen != nil && len(c.Differences()) == 0 }

// Differences names each thing that does not fit.
func (c Comparison) Differences() (say []string) {
	for _, r := range c.Rows {
		switch {
		case r.Fits:
		case r.What == namedBy:
			say = append(say, namedBy+" another renewal, too: "+r.Klarna)
		default:
			say = append(say, fmt.Sprintf("%s: the job says %s, Klarna says %s", r.What, r.Job, r.Klarna))
		}
	}
	return say
}

const (
	namedBy  = "named by" // what the journal says, not Klarna
	madeFrom = "made from"
)

func (c *Comparison) row(what, job, klarna string, fits bool) {
	c.Rows = append(c.Rows, Row{what, cmp.Or(job, "-"), cmp.Or(klarna, "-"), fits})
}

// NamedSince is since when records can name what the comparison is about: zero, from the first, where Klarna does not show that it was made
// under the key of the case.
func (c Comparison) NamedSince(of Case) time.Time {
	if slices.ContainsFunc(c.Rows, func(r Row) bool { return r.What == madeFrom && r.Fits }) {
		return of.Since
	}
	return time.Time{}
}

// Named adds whether the journal names the order, or the capture, elsewhere: at, nil where it does not.
func (c *Comparison) Named(at *Mention) {
	if at == nil {
		c.row(namedBy, "this renewal alone", "this renewal alone", true)
		return
	}
	c.Rows = append(c.Rows, Row{namedBy, "this renewal alone", fmt.Sprintf("%s/%s, %s record %d", at.SubscriptionID, at.Period, at.Kind, at.Sequence), false})
}

// Compare holds a verdict against the order that Klarna shows. It asks nobody.
func (c Case) Compare(r Ruling, o klarna.Order, now time.Time) Comparison {
	seen := &messages.Seen{
		OrderID: o.OrderID, Status: o.Status, FraudStatus: o.FraudStatus, OrderAmount: o.OrderAmount, CapturedAmount: o.CapturedAmount,
		RefundedAmount: o.RefundedAmount, PurchaseCurrency: strings.ToUpper(o.PurchaseCurrency),
		MerchantReference1: o.MerchantReference1, MerchantReference2: o.MerchantReference2, CreatedAt: moment(o.CreatedAt), LookedAt: now,
	}
	left := o.RemainingAuthorizedAmount > 0 && (o.Status == "AUTHORIZED" || o.Status == "PART_CAPTURED")
	if left {
		seen.CaptureBefore = moment(o.ExpiresAt)
	}
	comparison := Comparison{Seen: seen, Captured: !left && o.CapturedAmount > 0}
	switch r.Verdict {
	case VerdictPaid:
		comparison.paid(c, r, o)
	case VerdictNotCharged:
		comparison.row("order", "none, or one that came to nothing", standing(o), cameToNothing(o))
	case VerdictCaptured:
		comparison.captured(c, r, o)
	case VerdictNotCaptured:
		comparison.notCaptured(c, o)
	}
	return comparison
}

// contradicted adds an order that a record names for the same charge: none of it may be money.
func (c *Comparison) contradicted(o klarna.Order) {
	c.row("order on record", "none, or one that came to nothing", standing(o), cameToNothing(o))
}

// paid asks whether an order can be nothing but what the job asked for.
func (c *Comparison) paid(of Case, r Ruling, o klarna.Order) {
	u := of.GaveUp
	if u.OrderID != "" {
		c.row("order", u.OrderID, o.OrderID, u.OrderID == o.OrderID)
	}
	if r.OrderID != o.OrderID {
		c.row("order id", r.OrderID, o.OrderID, false)
	}
	c.row("amount", Money(u.OrderAmount, u.PurchaseCurrency), Money(o.OrderAmount, c.Seen.PurchaseCurrency), u.OrderAmount == o.OrderAmount)
	c.row("currency", u.PurchaseCurrency, c.Seen.PurchaseCurrency, strings.EqualFold(u.PurchaseCurrency, o.PurchaseCurrency))
	c.row("merchant_reference1", u.MerchantReference1, o.MerchantReference1, u.MerchantReference1 == o.MerchantReference1)
	c.row("merchant_reference2", u.MerchantReference2, o.MerchantReference2, u.MerchantReference2 == o.MerchantReference2)
	c.made(of, c.Seen.CreatedAt)
	c.row("fraud_status", klarna.FraudAccepted, o.FraudStatus, o.FraudStatus == klarna.FraudAccepted)
	c.row("status", "an order that stands", o.Status, stands(o))
	c.row("refunded", "nothing", refunded(o), o.RefundedAmount == 0)
	took := fmt.Sprintf("%s of %s", Money(o.CapturedAmount, c.Seen.PurchaseCurrency), Money(o.OrderAmount, c.Seen.PurchaseCurrency))
	switch {
	case r.Captured == nil:
		c.row("captured", "as Klarna says", took, true)
	case *r.Captured:
		c.row("captured", "all of it", took, c.Captured)
	default:
		c.row("captured", "not all of it", took, !c.Captured)
	}
}

// captured asks whether a capture can be nothing but what the job asked for.
func (c *Comparison) captured(of Case, r Ruling, o klarna.Order) {
	wanted, u := of.capture(), of.GaveUp
	c.row("order id", wanted.OrderID, o.OrderID, wanted.OrderID == o.OrderID)
	if r.OrderID != "" && r.OrderID != o.OrderID {
		c.row("order id", r.OrderID, o.OrderID, false)
	}
	for _, made := range o.Captures {
		if made.CaptureID != r.CaptureID && of.ruledCaptured(made.CaptureID) {
			c.row("capture on record", "none of this order", fmt.Sprintf("%s of %s", made.CaptureID, Money(made.CapturedAmount, c.Seen.PurchaseCurrency)), false)
		}
	}
	for _, made := range o.Captures {
		if made.CaptureID != r.CaptureID {
			continue
		}
		c.Seen.Capture = &messages.SeenCapture{CaptureID: made.CaptureID, CapturedAmount: made.CapturedAmount, CapturedAt: moment(made.CapturedAt), Reference: made.Reference}
		c.row("capture id", r.CaptureID, made.CaptureID, true)
		c.row("captured_amount", Money(wanted.Amount, u.PurchaseCurrency), Money(made.CapturedAmount, c.Seen.PurchaseCurrency), wanted.Amount == made.CapturedAmount)
		c.row("currency", u.PurchaseCurrency, c.Seen.PurchaseCurrency, strings.EqualFold(u.PurchaseCurrency, o.PurchaseCurrency))
		c.row("reference", u.Reference, made.Reference, u.Reference == made.Reference)
		c.made(of, c.Seen.Capture.CapturedAt)
		return
	}
	c.row("capture id", r.CaptureID, "the order has "+listed(o), false)
}

// notCaptured looks for a capture that can be what the job asked for.
func (c *Comparison) notCaptured(of Case, o klarna.Order) {
	wanted := of.capture()
	c.row("order id", wanted.OrderID, o.OrderID, wanted.OrderID == o.OrderID)
	found := false
	for _, made := range o.Captures {
		if !of.canBe(made) {
			continue
		}
		found = true
		c.row("capture", "none", fmt.Sprintf("%s of %s, made %s", made.CaptureID, Money(made.CapturedAmount, c.Seen.PurchaseCurrency), written(made.CapturedAt)), false)
	}
	if !found {
		c.row("capture", "none", "none that it can be", true)
	}
}

// canBe says that a capture may be the one which the job asked for: a ruling on it named it, or no other record has it, and it has the job's
// reference, or its amount and no time at which it cannot have been made. A time that cannot be read is none of these.
func (c Case) canBe(made klarna.OrderCapture) bool {
	wanted, when := c.capture(), moment(made.CapturedAt)
	switch {
	case c.ruledCaptured(made.CaptureID):
		return true
	case c.captures[made.CaptureID]:
		return false
	case c.GaveUp.Reference != "" && c.GaveUp.Reference == made.Reference:
		return true
	}
	return (wanted.Amount == 0 || wanted.Amount == made.CapturedAmount) && (when.IsZero() || c.within(when))
}

// made asks when it was made: under the key of the job, it was within the time in which requests were sent.
func (c *Comparison) made(of Case, when time.Time) {
	from, until := of.window()
	c.row(madeFrom, at(from), at(when), of.since(when))
	if !until.IsZero() {
		c.row("made until", at(until), at(when), of.until(when))
	}
}

// over says that Klarna captures nothing more of an order.
func over(o klarna.Order) bool {
	return o.Status == "CANCELLED" || o.Status == "EXPIRED" || o.Status == "CLOSED"
}

// stands says that an order is, or may still become, money. Of one without a status nothing is known.
func stands(o klarna.Order) bool { return o.Status != "" && (!over(o) || o.CapturedAmount > 0) }

// cameToNothing says that Klarna has taken nothing from the customer for an order, and will not.
func cameToNothing(o klarna.Order) bool {
	return o.CapturedAmount == 0 && (over(o) || o.FraudStatus == klarna.FraudRejected)
}

func standing(o klarna.Order) string {
	return fmt.Sprintf("%s: %s, %s, %s captured", o.OrderID, cmp.Or(o.Status, "without status"), cmp.Or(o.FraudStatus, "without fraud_status"), Money(o.CapturedAmount, strings.ToUpper(o.PurchaseCurrency)))
}

func refunded(o klarna.Order) string {
	if o.RefundedAmount == 0 {
		return "nothing"
	}
	return Money(o.RefundedAmount, strings.ToUpper(o.PurchaseCurrency))
}

// listed names the captures of an order, the first few.
func listed(o klarna.Order) string {
	const most = 5
	var say []string
	for i, c := range o.Captures {
		if i == most {
			say = append(say, fmt.Sprintf("%d more", len(o.Captures)-most))
			break
		}
		say = append(say, fmt.Sprintf("%s (%s)", c.CaptureID, Money(c.CapturedAmount, strings.ToUpper(o.PurchaseCurrency))))
	}
	return cmp.Or(strings.Join(say, ", "), "no capture")
}

// moment reads one of Klarna's times; zero where it is none.
func moment(text string) time.Time {
	t, _ := time.Parse(time.RFC3339, text)
	return t
}

// written is one of Klarna's times for a person, as it stands where it cannot be read.
func written(text string) string {
	if when := moment(text); !when.IsZero() || text == "" {
		return at(when)
	}
	return fmt.Sprintf("%.40q", text)
}

func at(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
