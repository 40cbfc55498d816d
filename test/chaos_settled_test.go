package test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// reconcile ends a chaos run with the proof that does not come from us: what Klarna has paid out is what the journal says, but for what
// the run has broken on purpose. Some charges are left unresolved first, their orders made; the settlements prove them, they are
// recorded as paid, and after that nothing is left of them.
func (c *chaosRun) reconcile() {
	c.t.Helper()
	unresolved := c.giveUp(5)
	c.w.klarna.Simulator.Advance(40 * 24 * time.Hour)
	want := c.breaks()
	compared := c.w.comparison()
	breaks, report := compared.found(c.t, klarnasim.ReportForm{})
	for _, order := range unresolved {
		want = append(want, "resolves "+order)
	}
	c.compareBreaks("at first", breaks, want)
	applied := compared.apply(c.t, report)
	after, _ := c.w.comparison().found(c.t, klarnasim.ReportForm{})
	want = slices.DeleteFunc(want, func(b string) bool { return strings.HasPrefix(b, "resolves ") })
	c.compareBreaks("with the evidence applied", after, want)
	kinds := map[string]int{}
	for _, b := range breaks {
		kind, _, _ := strings.Cut(b, " ")
		kinds[kind]++
	}
	c.t.Logf("settlements: payouts %d, rows %d, orders %d, not used %d, breaks %v, all of them looked for; evidence applied %d, breaks then %d",
		report.Payouts, report.Rows, report.Orders, len(report.Unused), kinds, applied, len(after))
	if len(report.Unused) > 0 || applied != len(unresolved) {
		c.t.Errorf("%d rows are not used, want none: %+v; evidence applied %d times, want %d", len(report.Unused), report.Unused, applied, len(unresolved))
	}
}

func (c *chaosRun) compareBreaks(when string, got, want []string) {
	c.t.Helper()
	slices.Sort(want)
	for _, b := range got {
		if !slices.Contains(want, b) {
			c.t.Errorf("%s: %s is found, which nobody has caused", when, b)
		}
	}
	for _, b := range want {
		if !slices.Contains(got, b) {
			c.t.Errorf("%s: %s is not found", when, b)
		}
	}
}

// giveUp leaves n charges unresolved whose orders Klarna has made, and as many that came to nothing of which nobody knows; it gives
// the orders.
func (c *chaosRun) giveUp(n int) (orders []string) {
	c.t.Helper()
	const first = 700_000 // beyond every job of the run
	keyed := map[string]bool{}
	for i := range n {
		made, not := job(first+i, "created-500x99-"+strconv.Itoa(i)), job(first+n+i, "500x99-"+strconv.Itoa(i))
		_, key := keys(made)
		keyed[string(key)] = true
		c.send("renewals.due.default", made)
		c.send("renewals.due.default", not)
	}
	await(c.t, time.Minute, "the orders of which nobody is told", func() bool {
		orders = nil
		for _, o := range c.w.klarna.Simulator.Books().Orders {
			if keyed[o.IdempotencyKey] {
				orders = append(orders, o.OrderID)
			}
		}
		return len(orders) == n
	})
	for _, w := range c.workers {
		if code := w.stop(os.Interrupt); code != 0 {
			c.t.Errorf("a worker stops with %d", code)
		}
	}
	last := c.w.start([]string{"NATS_URL=nats://" + c.nodes[0].addr(), "RENEWALS_KEY_WINDOW=1s"}, "work")
	await(c.t, time.Minute, "the end of what is unresolved", func() bool { return c.w.left() == 0 })
	if code := last.stop(os.Interrupt); code != 0 {
		c.t.Errorf("the last worker stops with %d", code)
	}
	return orders
}

// breaks are those that follow from what the run has done: an order that was only authorised and never captured, as far as that is known,
// and where the journal was set back a capture that it forgot and Klarna did not take again.
func (c *chaosRun) breaks() (want []string) {
	c.t.Helper()
	captured, open := map[string]bool{}, map[string]bool{}
	for _, r := range c.w.results() {
		order := fmt.Sprint(r.Event["order_id"])
		switch messages.Kind(r.Kind) {
		case messages.KindCaptured:
			captured[fmt.Sprint(r.Event["capture_id"])] = true
			open[order] = false
		case messages.KindCaptureFailed:
			open[order] = false
		case messages.KindUnresolved:
			open[order] = true // of a capture, where the order is one that was paid
		}
	}
	for _, o := range c.w.klarna.Simulator.Books().Orders {
		forgotten := slices.ContainsFunc(o.Captures, func(taken klarnasim.Capture) bool { return !captured[taken.CaptureID] })
		switch {
		case o.CapturedAmount == 0 && o.FraudStatus == "ACCEPTED" && open[o.OrderID]: // nobody says that its money was not taken
		case o.CapturedAmount == 0 && o.FraudStatus == "ACCEPTED":
			want = append(want, "not_captured "+o.OrderID)
		case forgotten && c.made != nil:
			want = append(want, "amount "+o.OrderID)
		}
	}
	return want
}
