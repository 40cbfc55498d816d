package reconcile_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/settlements"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// TestWhatComesRight: an open break is settled by a row or a record that says so, and by nothing less.
func TestWhatComesRight(t *testing.T) {
	const key = "1"
	open := func(kind messages.BreakKind, order, capture string) messages.Break {
		r := renewal(key)
		return messages.Break{
			ID: messages.NewBreakID(kind, "default", "any"), Kind: kind, Status: messages.BreakOpen, Account: "default", SubscriptionID: key, Period: "2026-12",
			RenewalKey: r.Key(), OrderID: order, CaptureID: capture,
		}
	}
	missing, notCaptured, resolves := messages.BreakMissing, messages.BreakNotCaptured, messages.BreakResolves
	captures := func(pieces ...int64) func(*reconcile.Renewal) {
		return func(r *reconcile.Renewal) {
			r.Captured = false
			for i, p := range pieces {
				r.Captures = append(r.Captures, reconcile.Capture{ID: "piece-" + string(rune('1'+i)), Amount: p, At: firstDay.Add(2 * time.Hour)})
			}
		}
	}
	of := func(capture string) func(*settlements.Transaction) {
		return func(t *settlements.Transaction) { t.CaptureID = capture }
	}
	in := func(currency string) func(*settlements.Transaction) {
		return func(t *settlements.Transaction) { t.CurrencyCode = currency }
	}
	for _, c := range []struct {
		name  string
		open  messages.Break
		books []reconcile.Renewal
		rows  []settlements.Transaction
		note  string // "" where it stays open
	}{
		{"missing, and its row is there", open(missing, "order-1", ""), []reconcile.Renewal{renewal("1")}, []settlements.Transaction{sold("2"), sold("1")}, "settled in payout P1, line 2: SALE of 15.99 EUR"},
		{"missing, and no row", open(missing, "order-1", ""), []reconcile.Renewal{renewal("1")}, []settlements.Transaction{sold("2")}, ""},
		{"missing, and a row of another amount", open(missing, "order-1", ""), []reconcile.Renewal{renewal("1")}, []settlements.Transaction{sold("1", amount(1598))}, ""},
		{"missing, and a row in another currency", open(missing, "order-1", ""), []reconcile.Renewal{renewal("1")}, []settlements.Transaction{sold("1", in("SEK"))}, ""},
		{"missing, and money that went back", open(missing, "order-1", ""), []reconcile.Renewal{renewal("1")}, []settlements.Transaction{sold("1", went(settlements.Return))}, ""},
		{"a capture of two, by its id", open(missing, "order-1", "piece-2"), []reconcile.Renewal{renewal("1", captures(600, 600))}, []settlements.Transaction{sold("1", amount(600), of("piece-2"))}, "line 1: SALE of 6.00 EUR"},
		{"the other capture of two", open(missing, "order-1", "piece-2"), []reconcile.Renewal{renewal("1", captures(600, 600))}, []settlements.Transaction{sold("1", amount(600), of("piece-1"))}, ""},
		{"a capture of two of one amount, without an id", open(missing, "order-1", "piece-2"), []reconcile.Renewal{renewal("1", captures(600, 600))}, []settlements.Transaction{sold("1", amount(600), of(""))}, ""},
		{"a capture of two, by its amount", open(missing, "order-1", "piece-2"), []reconcile.Renewal{renewal("1", captures(600, 999))}, []settlements.Transaction{sold("1", amount(999), of(""))}, "line 1: SALE of 9.99 EUR"},
		{"a capture that is not on record any more", open(missing, "order-1", "piece-3"), []reconcile.Renewal{renewal("1", captures(600))}, []settlements.Transaction{sold("1", amount(600), of("piece-3"))}, ""},
		{"two renewals have the order", open(missing, "order-1", ""), []reconcile.Renewal{renewal("1"), renewal("2", func(r *reconcile.Renewal) { r.OrderID = "order-1" })}, []settlements.Transaction{sold("1")}, ""},
		{"the order is another renewal's by now", open(missing, "order-1", ""), []reconcile.Renewal{renewal("2", func(r *reconcile.Renewal) { r.OrderID = "order-1" })}, []settlements.Transaction{sold("1")}, ""},
		{"an order of no record", open(missing, "order-1", ""), nil, []settlements.Transaction{sold("1")}, ""},
		{"a break without an order", open(missing, "", ""), []reconcile.Renewal{renewal("1", refused)}, []settlements.Transaction{sold("1")}, ""},
		{"another account's", func() messages.Break { b := open(missing, "order-1", ""); b.Account = "other"; return b }(), []reconcile.Renewal{renewal("1")}, []settlements.Transaction{sold("1")}, ""},

		{"not captured, and captured by now", open(notCaptured, "order-1", ""), []reconcile.Renewal{renewal("1", captures(600))}, nil, "capture piece-1 of 6.00 EUR is on record since 2026-12-01T02:00:00Z"},
		{"not captured, and recorded as captured", open(notCaptured, "order-1", ""), []reconcile.Renewal{renewal("1")}, nil, "recorded as captured at 2026-12-01T01:00:00Z"},
		{"not captured, and settled", open(notCaptured, "order-1", ""), []reconcile.Renewal{renewal("1", captures())}, []settlements.Transaction{sold("1")}, "settled in payout P1, line 1: SALE of 15.99 EUR"},
		{"not captured yet", open(notCaptured, "order-1", ""), []reconcile.Renewal{renewal("1", captures())}, []settlements.Transaction{sold("2")}, ""},

		{"resolved with that order", open(resolves, "order-1", ""), []reconcile.Renewal{renewal("1")}, nil, "recorded as paid with order order-1 at 2026-12-01T01:00:00Z"},
		{"resolved with another", open(resolves, "order-x", ""), []reconcile.Renewal{renewal("1")}, nil, ""},
		{"resolved as not charged", open(resolves, "order-1", ""), []reconcile.Renewal{renewal("1", refused)}, nil, ""},
		{"unresolved as before", open(resolves, "order-1", ""), []reconcile.Renewal{renewal("1", func(r *reconcile.Renewal) { r.Phase = journal.PhaseUnresolved })}, nil, ""},
		{"the capture is recorded", open(resolves, "order-1", "piece-1"), []reconcile.Renewal{renewal("1", captures(600))}, nil, "capture piece-1 is on record since 2026-12-01T02:00:00Z"},
		{"another capture is recorded", open(resolves, "order-1", "piece-2"), []reconcile.Renewal{renewal("1", captures(600))}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) { comesRight(t, c.open, c.books, c.rows, c.note) })
	}
	for _, kind := range messages.BreakKinds() {
		if !slices.Contains([]messages.BreakKind{missing, notCaptured, resolves}, kind) {
			t.Run(string(kind), func(t *testing.T) {
				comesRight(t, open(kind, "order-1", ""), []reconcile.Renewal{renewal("1")}, []settlements.Transaction{sold("1")}, "")
			})
		}
	}
}

func comesRight(t *testing.T, open messages.Break, known []reconcile.Renewal, rows []settlements.Transaction, note string) {
	t.Helper()
	o := options()
	o.Open = []messages.Break{open}
	found, err := reconcile.Compare(t.Context(), books(known...), report(rows...), o)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case note == "" && len(found.Settled) > 0:
		t.Errorf("settled, since %s; want it open", found.Settled[0].Note)
	case note != "" && (len(found.Settled) != 1 || found.Settled[0].Break.ID != open.ID || !strings.Contains(found.Settled[0].Note, note)):
		t.Errorf("settled: %+v; want it, since %s", found.Settled, note)
	}
}

// TestWhatIsFoundAgainStaysOpen: what a report shows once more has not come right, whatever else it has.
func TestWhatIsFoundAgainStaysOpen(t *testing.T) {
	r := renewal("1", func(r *reconcile.Renewal) {
		r.Captured, r.Captures = false, []reconcile.Capture{{ID: "a", Amount: 600, At: firstDay.Add(time.Hour)}, {ID: "b", Amount: 600, At: firstDay.Add(time.Hour)}}
	})
	rows := []settlements.Transaction{sold("1", amount(600), func(t *settlements.Transaction) { t.CaptureID = "a" })}
	first, err := reconcile.Compare(t.Context(), books(r), report(rows...), options())
	if err != nil || len(first.Breaks) != 1 || first.Breaks[0].Kind != messages.BreakMissing {
		t.Fatalf("%+v, %v", first, err)
	}
	o := options()
	o.Open = first.Breaks
	if again, err := reconcile.Compare(t.Context(), books(r), report(rows...), o); err != nil || len(again.Breaks) != 1 || len(again.Settled) != 0 {
		t.Errorf("%+v, %v", again, err)
	}
	late := sold("1", amount(600), func(t *settlements.Transaction) { t.CaptureID = "b" })
	if then, err := reconcile.Compare(t.Context(), books(r), report(append(rows, late)...), o); err != nil || len(then.Breaks) != 0 || len(then.Settled) != 1 {
		t.Errorf("%+v, %v", then, err)
	}
}

// TestAnotherCapturesRow: a row with the amount of what is missing and the id of another capture is the other's.
func TestAnotherCapturesRow(t *testing.T) {
	r := renewal("1", func(r *reconcile.Renewal) {
		r.Captures = []reconcile.Capture{{ID: "b", Amount: 999, At: firstDay.Add(time.Hour)}}
	})
	open := messages.Break{ID: messages.NewBreakID(messages.BreakMissing, "default", "order-1", ""), Kind: messages.BreakMissing, Account: "default", RenewalKey: r.Key(), OrderID: "order-1"}
	comesRight(t, open, []reconcile.Renewal{r}, []settlements.Transaction{sold("1", func(t *settlements.Transaction) { t.CaptureID = "b" })}, "")
}

// TestOrderOfAnEarlierRecord: what is paid with another order by now says nothing about a break of this one.
func TestOrderOfAnEarlierRecord(t *testing.T) {
	l := books(renewal("1"))
	l.Orders["order-x"] = []messages.RenewalKey{renewal("1").Key()}
	o := options()
	for _, kind := range []messages.BreakKind{messages.BreakMissing, messages.BreakNotCaptured, messages.BreakResolves} {
		o.Open = append(o.Open, messages.Break{ID: messages.NewBreakID(kind, "default", "order-x", ""), Kind: kind, Account: "default", RenewalKey: renewal("1").Key(), OrderID: "order-x"})
	}
	if found, err := reconcile.Compare(t.Context(), l, report(sold("1")), o); err != nil || len(found.Settled) != 0 {
		t.Errorf("settled %+v, %v", found, err)
	}
}

// TestRowsWithoutAmountsSettleNothing.
func TestRowsWithoutAmountsSettleNothing(t *testing.T) {
	r := renewal("1", func(r *reconcile.Renewal) { r.Captured = false })
	o := options()
	o.Open = []messages.Break{{ID: messages.NewBreakID(messages.BreakNotCaptured, "default", "order-1"), Kind: messages.BreakNotCaptured, Account: "default", RenewalKey: r.Key(), OrderID: "order-1"}}
	rows := settlements.ReadCSV(strings.NewReader("type;order_id;posting_currency\nSALE;order-1;EUR\n"), settlements.Form{})
	if found, err := reconcile.Compare(t.Context(), books(r), rows, o); err != nil || len(found.Settled) != 0 {
		t.Errorf("settled %+v, %v", found, err)
	}
}

// TestComesRightByReferences: in a file without orders the row of the renewal's references settles it, if no other renewal has one.
func TestComesRightByReferences(t *testing.T) {
	row := sold("1", func(t *settlements.Transaction) { t.OrderID = "" })
	open := messages.Break{ID: messages.NewBreakID(messages.BreakMissing, "default", "order-1", ""), Kind: messages.BreakMissing, Account: "default", RenewalKey: renewal("1").Key(), OrderID: "order-1"}
	comesRight(t, open, []reconcile.Renewal{renewal("1")}, []settlements.Transaction{row}, "settled in payout P1, line 1")
	comesRight(t, open, []reconcile.Renewal{renewal("1"), renewal("2", refused, func(r *reconcile.Renewal) { r.Reference1 = "1-2026-12" })}, []settlements.Transaction{row}, "")
}
