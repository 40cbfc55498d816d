package desk_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// S63: an order that an operator names is the one that the job asked for, or it is refused with each thing in which it differs.
func TestOrderIsLookedUp(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	taken := b.taken()
	for _, row := range []struct {
		name  string
		made  func(*charge)        // instead of what the job asked for
		after func(orderID string) // at Klarna
		given func(r *desk.Ruling) // by the operator
		asked func(u *desk.Case)   // of the job
		want  []string             // differences; none: it fits
		seen  func(s messages.Seen) bool
	}{
		{name: "matching"},
		{name: "lower-case currency", made: func(c *charge) { c.currency = "eur" }},
		{name: "captured by part", made: func(c *charge) { c.authorise = true }, after: func(id string) { b.capture(id, "c1", 500) },
			seen: func(s messages.Seen) bool {
				return s.CapturedAmount == 500 && s.Status == "PART_CAPTURED" && !s.CaptureBefore.IsZero()
			}},
		{name: "captured, says the operator", made: func(c *charge) { c.authorise = true }, given: func(r *desk.Ruling) { yes := true; r.Captured = &yes },
			want: []string{"captured: the job says all of it, Klarna says 0.00 EUR of 15.99 EUR"}},
		{name: "other amount", made: func(c *charge) { c.amount = 1299 }, want: []string{"amount: the job says 15.99 EUR, Klarna says 12.99 EUR"}},
		{name: "other currency", made: func(c *charge) { c.currency = "SEK" }, want: []string{"currency: the job says EUR, Klarna says SEK"}},
		{name: "other reference", made: func(c *charge) { c.reference = "another" }, want: []string{"merchant_reference1: the job says other reference-2026-12, Klarna says another"}},
		{name: "second reference", asked: func(c *desk.Case) { c.GaveUp.MerchantReference2 = "NL-7" }, want: []string{"merchant_reference2: the job says NL-7, Klarna says -"}},
		{name: "rejected", after: func(id string) { b.sim.Simulator.SetFraudStatus(id, "REJECTED") }, want: []string{"fraud_status: the job says ACCEPTED, Klarna says REJECTED"}},
		{name: "pending", made: func(c *charge) { c.token = "pending" }, want: []string{"fraud_status: the job says ACCEPTED, Klarna says PENDING"}},
		{name: "cancelled", made: func(c *charge) { c.authorise = true }, after: func(id string) { b.sim.Simulator.CancelOrder(id) }, want: []string{"status: the job says an order that stands, Klarna says CANCELLED"}},
		{name: "made before", asked: func(c *desk.Case) { c.GaveUp.SearchUntil = b.began.Add(-time.Hour) }, want: []string{"made until: the job says "}},
		{name: "another than Klarna named", asked: func(c *desk.Case) { c.GaveUp.OrderID = "o-1" }, want: []string{"order: the job says o-1, Klarna says "}},
		{name: "in another record", given: func(r *desk.Ruling) { r.OrderID = taken }, want: []string{"named by another renewal, too: taken/2026-12, paid record ", "merchant_reference1: the job says "}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, made := b.unresolved(row.name, nil, ""), usual(row.name)
			if row.made != nil {
				row.made(&made)
			}
			r := desk.Ruling{Verdict: desk.VerdictPaid, OrderID: b.order(row.name, made)}
			if row.after != nil {
				row.after(r.OrderID)
			}
			if row.given != nil {
				row.given(&r)
			}
			if row.asked != nil {
				row.asked(&c)
			}
			comparison, err := b.look(c, r)
			if err != nil {
				t.Fatal(err)
			}
			got := comparison.Differences()
			if len(got) != len(row.want) || comparison.Verified() != (len(row.want) == 0) {
				t.Errorf("got %q, verified %t; want %q", got, comparison.Verified(), row.want)
			}
			contains(t, strings.Join(got, "; "), row.want...)
			if s := comparison.Seen; s == nil || s.OrderID != r.OrderID || s.LookedAt.IsZero() || row.seen != nil && !row.seen(*s) {
				t.Errorf("seen %+v", s)
			}
		})
	}
}

// What the simulator does not do: money that was given back, and orders that Klarna has closed.
func TestOrderThatIsOver(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	c := b.unresolved("1", nil, "")
	r := desk.Ruling{Verdict: desk.VerdictPaid, OrderID: "o-1"}
	for _, row := range []struct {
		status             string
		captured, refunded int64
		want               string // difference
		cameToNothing      bool
	}{
		{status: "CAPTURED", captured: 1599},
		{status: "CAPTURED", captured: 1599, refunded: 1599, want: "refunded: the job says nothing, Klarna says 15.99 EUR"},
		{status: "CLOSED", captured: 500},
		{status: "CLOSED", want: "status: the job says an order that stands, Klarna says CLOSED", cameToNothing: true},
		{status: "EXPIRED", want: "status: the job says an order that stands, Klarna says EXPIRED", cameToNothing: true},
		{status: "", want: "status: the job says an order that stands, Klarna says -", cameToNothing: false},
	} {
		o := klarna.Order{
			OrderID: "o-1", Status: row.status, FraudStatus: "ACCEPTED", PurchaseCurrency: "eur", OrderAmount: 1599, CapturedAmount: row.captured, RefundedAmount: row.refunded,
			MerchantReference1: "1-2026-12", CreatedAt: b.began.Format(time.RFC3339),
		}
		got := c.Compare(r, o, time.Now()).Differences()
		if want := []string{row.want}; row.want != "" && !slices.Equal(got, want) || row.want == "" && len(got) > 0 {
			t.Errorf("%+v: got %q, want %q", row, got, row.want)
		}
		if fits := c.Compare(desk.Ruling{Verdict: desk.VerdictNotCharged}, o, time.Now()).Verified(); fits != row.cameToNothing {
			t.Errorf("%+v: not charged fits: %t", row, fits)
		}
	}
}

// S63: what cannot be looked up is not recorded, and the error says what to do.
func TestOrderIsNotShown(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	c := b.unresolved("1", nil, "")
	paid := desk.Ruling{Verdict: desk.VerdictPaid, OrderID: b.order("1", usual("1"))}
	elsewhere := func(change func(*journal.Claim)) desk.Case {
		moved, claim := c, *c.State.Claim
		change(&claim)
		moved.State = c.State.Claimed(claim)
		return moved
	}
	for _, row := range []struct {
		name     string
		c        desk.Case
		r        desk.Ruling
		outage   string
		password string
		want     []string
	}{
		{name: "unknown order", c: c, r: desk.Ruling{Verdict: desk.VerdictPaid, OrderID: "bogus"}, want: []string{"account default has no order bogus at Klarna: check the id, and whether the order is another account's", "404 NO_SUCH_ORDER"}},
		{name: "maintenance", c: c, r: paid, outage: "503", want: []string{"could not be looked up: try again later", "503"}},
		{name: "cut", c: c, r: paid, outage: "cut", want: []string{"could not be looked up: ", "try again later"}},
		{name: "too many requests", c: c, r: paid, outage: "429", want: []string{"account default has asked too much for now: try again in "}},
		{name: "wrong key", c: c, r: paid, password: "wrong", want: []string{"account default may not look at orders: check its user name and API key", "401"}},
		{name: "another merchant", c: elsewhere(func(c *journal.Claim) { c.Merchant = "K2" }), r: paid, want: []string{"account default: it is configured for merchant K1, but the request was made as K2"}},
		{name: "another endpoint", c: elsewhere(func(c *journal.Claim) { c.Endpoint = "https://na.example" }), r: paid, want: []string{"configured for https://klarna.example, but the request went to https://na.example"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b.sim.Simulator.Change(func(o *klarnasim.Options) { o.Outage = row.outage })
			if b.client = b.connect("key"); row.password != "" {
				b.client = b.connect(row.password)
			}
			comparison, err := b.checker().Look(t.Context(), row.c, row.r)
			if err == nil || comparison.Seen != nil || comparison.Verified() {
				t.Fatalf("got %+v, %v; want an error and nothing seen", comparison, err)
			}
			contains(t, err.Error(), row.want...)
			if strings.Contains(err.Error(), "wrong") && row.password != "" {
				t.Errorf("the key is in %q", err)
			}
		})
	}
	if n := b.count("1"); n != 2 {
		t.Errorf("%d records, want the two there were", n)
	}
}

// An operator who settles a capture by another one's id would hide the late answer with the real one.
func TestCaptureIsLookedUp(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	order := b.order("order", charge{token: "ok", currency: "EUR", reference: "order-2026-12", amount: 1599, authorise: true})
	own, other := b.capture(order, "c1", 500), b.capture(order, "c2", 300)
	foreign := b.order("foreign", usual("foreign"))
	c := b.unresolved("1", &journal.Capture{OrderID: order, Amount: 500}, "c1")
	captured := func(id string) desk.Ruling { return desk.Ruling{Verdict: desk.VerdictCaptured, CaptureID: id} }
	for _, row := range []struct {
		name string
		r    desk.Ruling
		want []string
	}{
		{name: "its own", r: captured(own)},
		{name: "of another amount and reference", r: captured(other), want: []string{"captured_amount: the job says 5.00 EUR, Klarna says 3.00 EUR", "reference: the job says c1, Klarna says c2"}},
		{name: "bogus", r: captured("bogus"), want: []string{"capture id: the job says bogus, Klarna says the order has " + own + " (5.00 EUR), " + other + " (3.00 EUR)"}},
		{name: "of another order", r: desk.Ruling{Verdict: desk.VerdictCaptured, CaptureID: own, OrderID: foreign}, want: []string{"order id: the job says " + foreign}},
		{name: "not captured, although it is there", r: desk.Ruling{Verdict: desk.VerdictNotCaptured}, want: []string{"capture: the job says none, Klarna says " + own + " of 5.00 EUR"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			comparison, err := b.look(c, row.r)
			if err != nil {
				t.Fatal(err)
			}
			got := comparison.Differences()
			if len(got) != len(row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
			contains(t, strings.Join(got, "; "), row.want...)
			if named := comparison.Seen.Capture; row.want == nil && (named == nil || named.CaptureID != own || named.CapturedAmount != 500) {
				t.Errorf("seen %+v, want the capture", named)
			}
		})
	}
	// None of that amount at all, and one that another record has, are no hindrance.
	for _, amount := range []int64{700, 300} {
		subscription := "not-" + desk.Money(amount, "EUR")
		c := b.unresolved(subscription, &journal.Capture{OrderID: order, Amount: amount}, "")
		if amount == 300 {
			entries, err := b.records.Records(t.Context(), renewal(subscription))
			if err != nil {
				t.Fatal(err)
			}
			before := b.about(subscription)
			before.IdempotencyKey = key("another")
			body, err := messages.Encode(messages.Captured{Record: before, OrderID: order, CaptureID: other, CapturedAmount: 300, TotalCapturedAmount: 300})
			if err != nil {
				t.Fatal(err)
			}
			known := journal.Entry{Subject: messages.RecordAddress{Kind: messages.KindCaptured, Renewal: renewal(subscription), Account: account}.Subject(), Body: body, State: c.State}
			if c, err = desk.NewCase(renewal(subscription), append([]journal.Entry{known}, entries...)); err != nil {
				t.Fatal(err)
			}
		}
		if comparison, err := b.look(c, desk.Ruling{Verdict: desk.VerdictNotCaptured}); err != nil || !comparison.Verified() {
			t.Errorf("%d: got %q, %v; want it to fit", amount, comparison.Differences(), err)
		}
	}
	// A second capture is not settled by the first one's id.
	if err := c.Write(t.Context(), b.records, captured(own), false, decision(desk.Comparison{})); err != nil {
		t.Fatal(err)
	}
	second := b.unresolved("2", &journal.Capture{OrderID: order, Amount: 500}, "c1")
	comparison, err := b.look(second, captured(own))
	if err != nil || len(comparison.Differences()) != 1 {
		t.Fatalf("got %q, %v; want that another record names it", comparison.Differences(), err)
	}
	contains(t, comparison.Differences()[0], "named by another renewal, too: 1/2026-12, captured record ")
}

// A capture is none that the job asked for only where it cannot be: not for a time that nobody can read, nor at any time with its reference.
func TestCaptureThatItCanBe(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	c := b.unresolved("1", &journal.Capture{OrderID: "o-1", Amount: 500}, "ref")
	within, late := b.began.UTC().Format(time.RFC3339), b.began.Add(3*time.Hour).UTC().Format(time.RFC3339)
	for _, row := range []struct {
		at, reference string
		amount        int64
		want          string // "" where it cannot be
	}{
		{at: within, amount: 500, want: "made " + b.began.UTC().Format("2006-01-02 15:04:05 UTC")},
		{at: within, amount: 300},
		{at: late, amount: 500},
		{at: late, reference: "another", amount: 500},
		{at: late, reference: "ref", amount: 500, want: "x of 5.00 EUR"},
		{at: within, reference: "ref", amount: 300, want: "x of 3.00 EUR"},
		{at: "", amount: 500, want: "x of 5.00 EUR, made -"},
		{at: "", amount: 300},
		{at: "2026-12-01T00:00:00.000+0000", amount: 500, want: `made "2026-12-01T00:00:00.000+0000"`},
		{at: "2026-12-01 00:00:00", amount: 500, want: `made "2026-12-01 00:00:00"`},
	} {
		o := klarna.Order{
			OrderID: "o-1", Status: "PART_CAPTURED", FraudStatus: "ACCEPTED", OrderAmount: 1599, CapturedAmount: row.amount, PurchaseCurrency: "EUR",
			Captures: []klarna.OrderCapture{{CaptureID: "x", CapturedAmount: row.amount, CapturedAt: row.at, Reference: row.reference}},
		}
		got := c.Compare(desk.Ruling{Verdict: desk.VerdictNotCaptured}, o, time.Now())
		if got.Verified() != (row.want == "") || !strings.Contains(strings.Join(got.Differences(), "; "), row.want) {
			t.Errorf("%+v: got %q, want %q", row, got.Differences(), row.want)
		}
	}
}

// Not charged is not recorded over an order that Klarna is known to have; where none is known there is nothing to look at.
func TestNotChargedIsLookedUp(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	c := b.unresolved("1", nil, "")
	not := desk.Ruling{Verdict: desk.VerdictNotCharged}
	if comparison, err := b.look(c, not); err != nil || comparison.Seen != nil || len(comparison.Rows) != 0 || comparison.Verified() {
		t.Errorf("got %+v, %v; want nothing, and nothing verified", comparison, err)
	}
	c.GaveUp.OrderID = b.order("1", charge{token: "pending", currency: "EUR", reference: "1-2026-12", amount: 1599, authorise: true})
	for _, row := range []struct {
		status string
		fits   bool
	}{{"PENDING", false}, {"ACCEPTED", false}, {"REJECTED", true}} {
		b.sim.Simulator.SetFraudStatus(c.GaveUp.OrderID, row.status)
		comparison, err := b.look(c, not)
		if err != nil || comparison.Verified() != row.fits || comparison.Seen.FraudStatus != row.status {
			t.Errorf("%s: got %q, %v; want it to fit: %t", row.status, comparison.Differences(), err, row.fits)
		}
	}
	b.sim.Simulator.SetFraudStatus(c.GaveUp.OrderID, "ACCEPTED")
	b.sim.Simulator.CancelOrder(c.GaveUp.OrderID)
	if comparison, err := b.look(c, not); err != nil || !comparison.Verified() {
		t.Errorf("cancelled: got %q, %v; want it to fit", comparison.Differences(), err)
	}
}

// A decision that is to be corrected has named an order, which is the first to look at: were it still money, the next attempt would be charged
// beside it.
func TestCorrectedOrderIsLookedUp(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	authorised := func(subscription, reference string) string {
		c := usual(subscription)
		c.token, c.authorise, c.reference = "ok-"+reference, true, reference
		return b.order(subscription, c)
	}
	not := desk.Ruling{Verdict: desk.VerdictNotCharged}
	for _, row := range []struct {
		name    string
		decided []desk.Ruling // by operators, each the correction of the one before
		r       desk.Ruling
		nothing []string // orders that came to nothing
		seen    string
		problem string
		want    []string // differences; none: it fits
	}{
		{name: "not charged over its order", decided: []desk.Ruling{{Verdict: desk.VerdictPaid, OrderID: "own"}}, r: not, seen: "own",
			want: []string{"order: the job says none, or one that came to nothing, Klarna says own: AUTHORIZED, ACCEPTED, 0.00 EUR captured"}},
		{name: "not charged, and its order came to nothing", decided: []desk.Ruling{{Verdict: desk.VerdictPaid, OrderID: "own"}}, r: not, nothing: []string{"own"}, seen: "own"},
		{name: "another over its order", decided: []desk.Ruling{{Verdict: desk.VerdictPaid, OrderID: "other"}}, r: desk.Ruling{Verdict: desk.VerdictPaid, OrderID: "own"}, seen: "own",
			want: []string{"order on record: the job says none, or one that came to nothing, Klarna says other: AUTHORIZED"}},
		{name: "another, and its order came to nothing", decided: []desk.Ruling{{Verdict: desk.VerdictPaid, OrderID: "other"}}, r: desk.Ruling{Verdict: desk.VerdictPaid, OrderID: "own"},
			nothing: []string{"other"}, seen: "own"},
		{name: "the same after not charged", decided: []desk.Ruling{{Verdict: desk.VerdictPaid, OrderID: "own"}, not}, r: desk.Ruling{Verdict: desk.VerdictPaid, OrderID: "own"}, seen: "own"},
		{name: "not charged over the second of two", decided: []desk.Ruling{{Verdict: desk.VerdictPaid, OrderID: "own"}, not, {Verdict: desk.VerdictPaid, OrderID: "other"}}, r: not, nothing: []string{"other"},
			seen: "other", want: []string{"order on record: the job says none, or one that came to nothing, Klarna says own: AUTHORIZED"}},
		{name: "not charged over what Klarna does not know", decided: []desk.Ruling{{Verdict: desk.VerdictPaid, OrderID: "bogus"}}, r: not, problem: "account default has no order bogus at Klarna"},
		{name: "another over what Klarna does not know", decided: []desk.Ruling{{Verdict: desk.VerdictPaid, OrderID: "bogus"}}, r: desk.Ruling{Verdict: desk.VerdictPaid, OrderID: "own"}, seen: "own",
			problem: "account default has no order bogus at Klarna", want: []string{"order on record: the job says none, or one that came to nothing, Klarna says bogus: without status"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := b.unresolved(row.name, nil, "")
			ids := map[string]string{"own": authorised(row.name, row.name+"-2026-12"), "other": authorised(row.name, "another"), "bogus": "bogus"}
			for i, decided := range row.decided {
				decided.OrderID = ids[decided.OrderID]
				d := decision(desk.Comparison{})
				d.Corrects = i > 0
				if err := c.Write(t.Context(), b.records, decided, false, d); err != nil {
					t.Fatal(err)
				}
				c = b.read(row.name)
			}
			for _, name := range row.nothing {
				b.sim.Simulator.CancelOrder(ids[name])
			}
			r := row.r
			r.OrderID = ids[r.OrderID]
			comparison, err := b.checker().Look(t.Context(), c, r)
			if row.problem == "" && err != nil || row.problem != "" && (err == nil || !strings.Contains(err.Error(), row.problem)) {
				t.Errorf("got %v, want %q", err, row.problem)
			}
			got := strings.Join(comparison.Differences(), "; ")
			for name, id := range ids {
				got = strings.ReplaceAll(got, id, name)
			}
			contains(t, got, row.want...)
			if fits := len(row.want) == 0 && row.problem == ""; comparison.Verified() != fits || len(comparison.Differences()) != len(row.want) {
				t.Errorf("got %q, verified %t; want %q", got, comparison.Verified(), row.want)
			}
			if s := comparison.Seen; s == nil && row.seen != "" || s != nil && s.OrderID != ids[row.seen] {
				t.Errorf("seen %+v, want order %s", s, row.seen)
			}
		})
	}
}

// So has one on a capture: a capture that was named is not none for being another than the job asked for, nor is there a second beside it.
func TestCorrectedCaptureIsLookedUp(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	made := usual("order")
	made.authorise = true
	order := b.order("order", made)
	first, second := b.capture(order, "c1", 500), b.capture(order, "c2", 300)
	b.unresolved("1", &journal.Capture{OrderID: order, Amount: 300}, "c2")
	if err := b.read("1").Write(t.Context(), b.records, desk.Ruling{Verdict: desk.VerdictCaptured, CaptureID: first}, false, decision(desk.Comparison{})); err != nil {
		t.Fatal(err)
	}
	c := b.read("1")
	for _, row := range []struct {
		r    desk.Ruling
		want []string
	}{
		{desk.Ruling{Verdict: desk.VerdictNotCaptured}, []string{"capture: the job says none, Klarna says " + first + " of 5.00 EUR", "capture: the job says none, Klarna says " + second + " of 3.00 EUR"}},
		{desk.Ruling{Verdict: desk.VerdictCaptured, CaptureID: second}, []string{"capture on record: the job says none of this order, Klarna says " + first + " of 5.00 EUR"}},
	} {
		comparison, err := b.look(c, row.r)
		if err != nil || len(comparison.Differences()) != len(row.want) {
			t.Errorf("%s: got %q, %v; want %q", row.r.Verdict, comparison.Differences(), err, row.want)
		}
		contains(t, strings.Join(comparison.Differences(), "; "), row.want...)
	}
}

// What is recorded is what Klarna showed, and by whom; whoever ends between the two has recorded nothing, and looks again.
func TestRecordSaysWhatWasSeen(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	b.unresolved("1", nil, "")
	made := usual("1")
	made.authorise = true
	r := desk.Ruling{Verdict: desk.VerdictPaid, OrderID: b.order("1", made)}
	b.capture(r.OrderID, "by hand", 500)
	if _, err := b.look(b.read("1"), r); err != nil { // and crashes
		t.Fatal(err)
	}
	c := b.read("1")
	comparison, err := b.look(c, r)
	if err != nil || b.count("1") != 2 {
		t.Fatalf("%v; %d records, want the two there were", err, b.count("1"))
	}
	lost := false
	if err := c.Write(t.Context(), b.open(broker.Unheard{JetStream: b.js, Lost: &lost}), r, comparison.Captured, decision(comparison)); err != nil || !lost {
		t.Fatalf("got %v, an answer was lost: %t", err, lost)
	}
	entries, err := b.records.Records(t.Context(), renewal("1"))
	if err != nil || len(entries) != 3 {
		t.Fatalf("got %d records, %v; want three", len(entries), err)
	}
	event, err := messages.DecodeEvent(messages.KindPaid, entries[2].Body)
	if err != nil {
		t.Fatal(err)
	}
	paid := event.(messages.Paid)
	if paid.Verified == nil || !*paid.Verified || paid.Actor != "anna" || paid.FraudStatus != "ACCEPTED" || paid.Captured || paid.CaptureBefore.IsZero() ||
		paid.Seen.OrderID != r.OrderID || paid.Seen.CapturedAmount != 500 || paid.Seen.MerchantReference1 != "1-2026-12" || paid.Corrects != "unresolved" {
		t.Errorf("recorded %+v, seen %+v", paid, paid.Seen)
	}
	if o := entries[2].State.Order; o == nil || o.Captured != 500 || o.Amount != 1599 || !o.CaptureBefore.Truncate(time.Millisecond).Equal(paid.CaptureBefore) {
		t.Errorf("left to capture: %+v, want 1099 of 1599", o)
	}
	if got := b.read("1").Settled(); !got.Same(r) {
		t.Errorf("settled as %+v, want %+v", got, r)
	}

	// On a person's word alone nothing is said that nobody has seen.
	c = b.unresolved("2", nil, "")
	if err := c.Write(t.Context(), b.records, desk.Ruling{Verdict: desk.VerdictPaid, OrderID: "bogus"}, true, decision(desk.Comparison{})); err != nil {
		t.Fatal(err)
	}
	at, err := b.records.Last(t.Context(), renewal("2"))
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(at.Body), `"verified":false`, `"fraud_status":""`)
	if strings.Contains(string(at.Body), "seen") {
		t.Errorf("recorded %s, want nothing seen", at.Body)
	}
}

// Between the look and the record the answer comes after all, or another operator is faster: the record is written on what was looked at, or
// not at all.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	for _, row := range []struct {
		name    string
		correct bool
		before  func(c desk.Case) // what was looked at
		between func(c desk.Case)
		want    string
	}{
		{name: "late answer", want: "this one is paid", between: func(c desk.Case) {
			s := c.State
			claim := *s.Claim
			claim.OrderID = "late"
			s = s.Claimed(claim).Settle(claim.Key, journal.Settlement{Kind: messages.KindPaid, SHA256: "hash"})
			s.Phase = journal.PhasePaid
			b.write("late answer", s, messages.Paid{Record: b.about("late answer"), OrderID: "late", FraudStatus: "ACCEPTED", Captured: true, Corrects: "unresolved"})
		}},
		{name: "another operator", want: "this one is dunning", between: func(c desk.Case) {
			if err := b.records.ResolveNotCharged(t.Context(), c.Renewal, journal.Decision{Actor: "ben", At: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}},
		{
			name: "corrected by another", correct: true, want: "the renewal has moved on meanwhile",
			before: func(c desk.Case) {
				if err := b.records.ResolveNotCharged(t.Context(), c.Renewal, journal.Decision{Actor: "ben", At: time.Now()}); err != nil {
					t.Fatal(err)
				}
			},
			between: func(c desk.Case) {
				if err := b.records.ResolvePaid(t.Context(), c.Renewal, "other", true, journal.Decision{Actor: "eve", At: time.Now(), Corrects: true}); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := b.unresolved(row.name, nil, "")
			if row.before != nil {
				row.before(c)
				c = b.read(row.name)
			}
			r := desk.Ruling{Verdict: desk.VerdictPaid, OrderID: b.order(row.name, usual(row.name))}
			comparison, err := b.look(c, r)
			if err != nil || !comparison.Verified() {
				t.Fatalf("%q, %v", comparison.Differences(), err)
			}
			row.between(c)
			records, d := b.count(row.name), decision(comparison)
			d.Corrects = row.correct
			err = c.Write(t.Context(), b.records, r, true, d)
			var refused *journal.RefusedError
			if !errors.As(err, &refused) || b.count(row.name) != records {
				t.Fatalf("got %v and %d records, want it refused and %d", err, b.count(row.name), records)
			}
			contains(t, err.Error(), row.want)
		})
	}
}

// An order that is older than the claim can be named by records that are older, too: on an operator's word it would be taken for this renewal's
// alone.
func TestOlderOrderOfAnotherRenewal(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	taken := b.taken()
	free := b.order("free", usual("free"))
	b.began = time.Now().Add(10 * time.Minute)
	for _, row := range []struct {
		subscription, order string
		named               bool
	}{{"1", taken, true}, {"2", free, false}} {
		c := b.unresolved(row.subscription, nil, "")
		c.Since = time.Now()
		comparison, err := b.look(c, desk.Ruling{Verdict: desk.VerdictPaid, OrderID: row.order})
		if err != nil {
			t.Fatal(err)
		}
		say := strings.Join(comparison.Differences(), "; ")
		contains(t, say, "made from: the job says ")
		if got := strings.Contains(say, "named by another renewal, too: taken/2026-12, paid record "); got != row.named {
			t.Errorf("%s: got %q, named by another: %t, want %t", row.subscription, say, got, row.named)
		}
	}
	// Where Klarna was not asked nobody knows how old it is; where it fits, the journal is read from the claim on.
	c := b.read("taken")
	if got := (desk.Comparison{}).NamedSince(c); !got.IsZero() {
		t.Errorf("not asked: read from %s on, want from the first record", got)
	}
	comparison, err := b.look(c, desk.Ruling{Verdict: desk.VerdictPaid, OrderID: taken})
	if got := comparison.NamedSince(c); err != nil || got.IsZero() || got != c.Since {
		t.Errorf("it fits: read from %s on (%v), want from the claim, %s", got, err, c.Since)
	}
}

// Records that come to name an order while somebody is asked about it are noticed by reading on.
func TestMentionsReadOn(t *testing.T) {
	t.Parallel()
	b := newBureau(t)
	c := b.unresolved("1", nil, "")
	b.unresolved("2", nil, "")
	mentions := desk.NewMentions(b.finder(), c.Since, "X")
	for _, want := range []bool{false, true} {
		if err := mentions.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if at := mentions.Elsewhere("X", key("1")); (at != nil) != want {
			t.Errorf("named elsewhere: %+v, want %t", at, want)
		}
		if mentions.Elsewhere("X", key("2")) != nil {
			t.Error("its own record is taken for another's")
		}
		if want {
			break
		}
		if err := b.records.ResolvePaid(t.Context(), renewal("2"), "X", true, journal.Decision{Actor: "ben", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
}
