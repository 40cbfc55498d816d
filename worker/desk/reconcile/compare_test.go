package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/settlements"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/ledger"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

var (
	firstDay = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	day      = 24 * time.Hour
)

// renewal is one that is paid and captured, of subscription s; change alters it.
func renewal(s string, change ...func(*reconcile.Renewal)) reconcile.Renewal {
	r := reconcile.Renewal{
		Account: "default", SubscriptionID: messages.SubscriptionID(s), Period: "2026-12", Phase: journal.PhasePaid, MessageID: messages.MessageID(s + "/2026-12/1"),
		Amount: 1599, Currency: "EUR", Reference1: s + "-2026-12", DueAt: firstDay,
		OrderID: "order-" + s, PaidAt: firstDay.Add(time.Hour), Captured: true,
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func unresolved(r *reconcile.Renewal) {
	r.Phase, r.OrderID, r.Captured, r.PaidAt = journal.PhaseUnresolved, "", false, time.Time{}
	r.FirstSentAt, r.SearchUntil = firstDay.Add(time.Hour), firstDay.Add(2*time.Hour)
}

func refused(r *reconcile.Renewal) {
	r.Phase, r.OrderID, r.Captured, r.PaidAt = journal.PhaseDunning, "", false, time.Time{}
}

// underWay is a charge whose worker has gone, or has no answer yet.
func underWay(r *reconcile.Renewal) {
	refused(r)
	r.Phase = journal.PhaseCharging
}

// sold is the SALE of a renewal's order; change alters it.
func sold(s string, change ...func(*settlements.Transaction)) settlements.Transaction {
	t := settlements.Transaction{
		Type: settlements.Sale, Amount: 1599, CurrencyCode: "EUR", OrderID: "order-" + s, CaptureID: "capture-" + s, MerchantReference1: s + "-2026-12",
		SaleDate: firstDay.Add(time.Hour), CaptureDate: firstDay.Add(time.Hour), PaymentReference: "P1",
	}
	for _, c := range change {
		c(&t)
	}
	return t
}

func of(order string) func(*settlements.Transaction) {
	return func(t *settlements.Transaction) { t.OrderID = order }
}

func amount(n int64) func(*settlements.Transaction) {
	return func(t *settlements.Transaction) { t.Amount = n }
}

// went is money that went back.
func went(kind settlements.Type) func(*settlements.Transaction) {
	return func(t *settlements.Transaction) { t.Type, t.CaptureID, t.RefundID = kind, "", "refund-"+t.OrderID }
}

// report makes a payout of rows, with totals that are what they add up to.
func report(rows ...settlements.Transaction) iter.Seq2[settlements.Record, error] {
	return func(yield func(settlements.Record, error) bool) {
		p := settlements.Payout{PaymentReference: "P1", CurrencyCode: "EUR"}
		for _, r := range rows {
			switch r.Type {
			case settlements.Sale:
				p.Totals.Sale += r.Amount
			case settlements.Return:
				p.Totals.Return += r.Amount
			case settlements.Reversal:
				p.Totals.Reversal += r.Amount
			case settlements.Fee:
				p.Totals.Fee += r.Amount
			}
			p.Totals.Settlement += r.Effect()
		}
		if !yield(settlements.Record{Payout: &p}, nil) {
			return
		}
		for i, r := range rows {
			r.Line = i + 1
			if !yield(settlements.Record{Transaction: &r}, nil) {
				return
			}
		}
	}
}

func books(renewals ...reconcile.Renewal) *ledger.Ledger {
	l := ledger.New()
	for _, r := range renewals {
		l.Add(r)
	}
	return l
}

// options of a comparison 30 days after the renewals, of all payouts until then.
func options() reconcile.Options {
	return reconcile.Options{Account: "default", From: firstDay, To: firstDay.Add(30 * day), Now: firstDay.Add(30 * day)}
}

// told are the breaks as a test writes them.
func told(r *reconcile.Report) (all []string) {
	for _, b := range r.Breaks {
		all = append(all, fmt.Sprintf("%s %s", b.Kind, b.OrderID))
	}
	slices.Sort(all)
	return all
}

// S67: two sales of one renewal, a row missing, a return: each is named, none invented.
func TestBreaks(t *testing.T) {
	captured := func(pieces ...int64) func(*reconcile.Renewal) {
		return func(r *reconcile.Renewal) {
			r.Captured = false
			for i, p := range pieces {
				r.Captures = append(r.Captures, reconcile.Capture{ID: fmt.Sprintf("piece-%d", i+1), Amount: p, At: firstDay.Add(2 * time.Hour)})
			}
		}
	}
	piece := func(n int) func(*settlements.Transaction) {
		return func(t *settlements.Transaction) { t.CaptureID = fmt.Sprintf("piece-%d", n) }
	}
	for name, c := range map[string]struct {
		books    []reconcile.Renewal
		rows     []settlements.Transaction
		want     []string
		unused   int
		expected int
	}{
		"clean":                {books: []reconcile.Renewal{renewal("1"), renewal("2")}, rows: []settlements.Transaction{sold("1"), sold("2")}},
		"fees are for totals":  {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("1", func(t *settlements.Transaction) { t.Type = settlements.Fee })}},
		"captured in parts":    {books: []reconcile.Renewal{renewal("1", captured(600, 999))}, rows: []settlements.Transaction{sold("1", amount(999), piece(2)), sold("1", amount(600), piece(1))}},
		"parts without an id":  {books: []reconcile.Renewal{renewal("1", captured(600, 999))}, rows: []settlements.Transaction{sold("1", amount(999), piece(0)), sold("1", amount(600), func(t *settlements.Transaction) { t.CaptureID = "" })}, want: []string{"amount order-1", "missing order-1"}},
		"no order of ours":     {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("shoes")}, unused: 1},
		"another account's":    {books: []reconcile.Renewal{renewal("1", func(r *reconcile.Renewal) { r.Account = "other" })}, rows: []settlements.Transaction{sold("1")}, unused: 1},
		"two orders":           {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("1", of("order-x"))}, want: []string{"second_order order-x"}},
		"two under a stamp":    {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("x", func(t *settlements.Transaction) { t.MerchantReference2 = "1/2026-12/1" })}, want: []string{"second_order order-x"}},
		"one order for two":    {books: []reconcile.Renewal{renewal("1"), renewal("2", func(r *reconcile.Renewal) { r.OrderID = "order-1" })}, rows: []settlements.Transaction{sold("1")}, want: []string{"order_shared order-1"}},
		"one made for another": {books: []reconcile.Renewal{renewal("1"), renewal("2", unresolved)}, rows: []settlements.Transaction{sold("2", of("order-1"))}, want: []string{"order_shared order-1"}},
		"made for both":        {books: []reconcile.Renewal{renewal("1"), renewal("2", unresolved, func(r *reconcile.Renewal) { r.Reference2 = "1-2026-12" })}, rows: []settlements.Transaction{sold("1")}},
		"after a refusal":      {books: []reconcile.Renewal{renewal("1", refused)}, rows: []settlements.Transaction{sold("1")}, want: []string{"unknown_order order-1"}},
		"under way":            {books: []reconcile.Renewal{renewal("1", underWay)}, rows: []settlements.Transaction{sold("1")}, want: []string{"unknown_order order-1"}},
		"under way, by stamp":  {books: []reconcile.Renewal{renewal("1", underWay)}, rows: []settlements.Transaction{sold("x", func(t *settlements.Transaction) { t.MerchantReference2 = "1/2026-12/1" })}, want: []string{"unknown_order order-x"}},
		"a reference of two":   {books: []reconcile.Renewal{renewal("1"), renewal("2", func(r *reconcile.Renewal) { r.Reference1 = "1-2026-12" })}, rows: []settlements.Transaction{sold("1"), sold("2"), sold("1", of("order-x"))}, want: []string{"unknown_order order-x"}},
		"another amount":       {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1", amount(1598))}, want: []string{"amount order-1"}},
		"half of it":           {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1", amount(799))}, want: []string{"amount order-1"}},
		"the sale twice":       {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("1")}, want: []string{"amount order-1"}},
		"not captured by us":   {books: []reconcile.Renewal{renewal("1", captured())}, rows: []settlements.Transaction{sold("1")}, want: []string{"amount order-1"}},
		"another currency":     {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1", func(t *settlements.Transaction) { t.CurrencyCode = "SEK" })}, want: []string{"currency order-1"}},
		"never settled":        {books: []reconcile.Renewal{renewal("1"), renewal("2")}, rows: []settlements.Transaction{sold("1")}, want: []string{"missing order-2"}},
		"a part never settled": {books: []reconcile.Renewal{renewal("1", captured(600, 999))}, rows: []settlements.Transaction{sold("1", amount(600), piece(1))}, want: []string{"missing order-1"}},
		"not settled yet":      {books: []reconcile.Renewal{renewal("1", func(r *reconcile.Renewal) { r.PaidAt = firstDay.Add(10 * day) })}, expected: 1},
		"captured before":      {books: []reconcile.Renewal{renewal("1", func(r *reconcile.Renewal) { r.PaidAt = firstDay.Add(-day) })}},
		"never captured":       {books: []reconcile.Renewal{renewal("1", captured())}, want: []string{"not_captured order-1"}},
		"given back":           {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("1", went(settlements.Return))}, want: []string{"returned order-1"}},
		"given back by itself": {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("1", went(settlements.Return), func(t *settlements.Transaction) { t.MerchantRefundReference = "rma-1" })}},
		"not paid by customer": {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("1", went(settlements.Return), func(t *settlements.Transaction) {
			t.MerchantRefundReference, t.DetailedType = "r", settlements.PaymentDefault
		})}, want: []string{"returned order-1"}},
		"the same in lower case": {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("1", went(settlements.Return), func(t *settlements.Transaction) {
			t.MerchantRefundReference, t.DetailedType = "r", "payment_default"
		})}, want: []string{"returned order-1"}},
		"disputed":              {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("1", went(settlements.Reversal))}, want: []string{"reversed order-1"}},
		"a return of last year": {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("old", went(settlements.Return))}, unused: 1},
		"a period of two names": {books: []reconcile.Renewal{renewal("1"), renewal("1", func(r *reconcile.Renewal) { r.Period, r.OrderID, r.DueAt = "december", "order-2", firstDay.Add(day) })}, rows: []settlements.Transaction{sold("1"), sold("2")}, want: []string{"close_periods order-1"}},
		"two months":            {books: []reconcile.Renewal{renewal("1"), renewal("1", func(r *reconcile.Renewal) { r.Period, r.OrderID, r.DueAt = "2027-01", "order-2", firstDay.Add(31*day) })}, rows: []settlements.Transaction{sold("1"), sold("2")}},
		"evidence":              {books: []reconcile.Renewal{renewal("1", unresolved)}, rows: []settlements.Transaction{sold("1")}, want: []string{"resolves order-1"}},
		"evidence twice":        {books: []reconcile.Renewal{renewal("1", unresolved)}, rows: []settlements.Transaction{sold("1"), sold("1", of("order-x"))}, want: []string{"resolves order-1", "second_order order-x"}},
		"no evidence":           {books: []reconcile.Renewal{renewal("1", unresolved)}},
		"evidence of a capture": {books: []reconcile.Renewal{renewal("1", captured(600), func(r *reconcile.Renewal) {
			r.Phase, r.Capturing, r.CapturingAmount = journal.PhaseUnresolved, true, 999
		})}, rows: []settlements.Transaction{sold("1", amount(600), piece(1)), sold("1", amount(999), piece(2))}, want: []string{"resolves order-1"}},
		"forgotten":        {books: []reconcile.Renewal{renewal("1")}, rows: []settlements.Transaction{sold("1"), sold("x", func(t *settlements.Transaction) { t.MerchantReference1, t.MerchantReference2 = "", "1/2026-11/1" })}, want: []string{"forgotten order-x"}},
		"a wrong decision": {books: []reconcile.Renewal{renewal("1", refused)}, rows: []settlements.Transaction{sold("1", of("order-1"))}, want: []string{"unknown_order order-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := reconcile.Compare(t.Context(), books(c.books...), report(c.rows...), options())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(told(found), c.want) || len(found.Unused) != c.unused || found.Expected != c.expected || len(found.Unanswered) != 0 {
				t.Errorf("found %q, unused %+v, expected %d, unanswered %v; want %q", told(found), found.Unused, found.Expected, found.Unanswered, c.want)
			}
			for _, b := range found.Breaks {
				if b.ID == "" || b.Status != messages.BreakOpen || b.Detail == "" || b.Account != "default" || b.SubscriptionID == "" {
					t.Errorf("break %+v", b)
				}
			}
			again, err := reconcile.Compare(t.Context(), books(c.books...), report(slices.Concat(c.rows, []settlements.Transaction{sold("shoes")})...), options())
			if err != nil {
				t.Fatal(err)
			}
			for i, b := range again.Breaks {
				if b.ID != found.Breaks[i].ID {
					t.Errorf("%s is %s in one report and %s in another", b.Kind, found.Breaks[i].ID, b.ID)
				}
			}
		})
	}
}

// backwards are books that tell renewals in another order.
type backwards struct{ *ledger.Ledger }

func (b backwards) Paid(ctx context.Context, account messages.Account, from, to time.Time) iter.Seq2[reconcile.Renewal, error] {
	var all []reconcile.Renewal
	for r := range b.Ledger.Paid(ctx, account, from, to) {
		all = append(all, r)
	}
	return func(yield func(reconcile.Renewal, error) bool) {
		for _, r := range slices.Backward(all) {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Two renewals that name one order, which was never settled, make two breaks of one id: their order is nobody's choice.
func TestBreaksOfOneID(t *testing.T) {
	l := books(renewal("1"), renewal("2", func(r *reconcile.Renewal) { r.OrderID = "order-1" }))
	one, err := reconcile.Compare(t.Context(), l, report(), options())
	other, otherErr := reconcile.Compare(t.Context(), backwards{l}, report(), options())
	if err != nil || otherErr != nil || len(one.Breaks) != 2 || one.Breaks[0].ID != one.Breaks[1].ID || !reflect.DeepEqual(one.Breaks, other.Breaks) {
		t.Errorf("%v, %v: %+v\nbackwards %+v", err, otherErr, one, other)
	}
}

// TestEqualReturns: what nothing tells apart but its number is as many breaks, of which the first has the ID that it always had.
func TestEqualReturns(t *testing.T) {
	bare := func(amount int64, change ...func(*settlements.Transaction)) settlements.Transaction {
		return sold("1", append([]func(*settlements.Transaction){went(settlements.Return), func(t *settlements.Transaction) { t.RefundID, t.Amount = "", amount }}, change...)...)
	}
	own := func(t *settlements.Transaction) { t.MerchantRefundReference = "rma-1" }
	rows := []settlements.Transaction{sold("1"), bare(500, own), bare(500), bare(500), bare(400), bare(500), bare(500, func(t *settlements.Transaction) { t.Type = settlements.Reversal })}
	found, err := reconcile.Compare(t.Context(), books(renewal("1")), report(rows...), options())
	if err != nil {
		t.Fatal(err)
	}
	got, want := map[messages.BreakID]bool{}, map[messages.BreakID]bool{messages.NewBreakID(messages.BreakReversed, "default", "order-1", "2026-12-01T01:00:00Z/500"): true}
	for _, piece := range []string{"500", "500/2", "500/3", "400"} {
		want[messages.NewBreakID(messages.BreakReturned, "default", "order-1", "2026-12-01T01:00:00Z/"+piece)] = true
	}
	for _, b := range found.Breaks {
		got[b.ID] = true
	}
	if !maps.Equal(got, want) || len(found.Breaks) != len(want) {
		t.Errorf("%d breaks with IDs %v, want %v", len(found.Breaks), got, want)
	}
}

// TestWhatMaySettle takes one condition away at a time: none is left out.
func TestWhatMaySettle(t *testing.T) {
	for name, c := range map[string]struct {
		renewals []func(*reconcile.Renewal)
		row      func(*settlements.Transaction)
		more     []settlements.Transaction
		others   []reconcile.Renewal
		against  string // a part of why not; "" where it may
	}{
		"all fits":                  {},
		"by its stamp":              {row: func(t *settlements.Transaction) { t.MerchantReference1, t.MerchantReference2 = "", "1/2026-12/1" }},
		"another amount":            {row: amount(1598), against: "it is of 1598, charged were 1599"},
		"another currency":          {row: func(t *settlements.Transaction) { t.CurrencyCode = "SEK" }, against: `it is in "SEK"`},
		"no currency":               {row: func(t *settlements.Transaction) { t.CurrencyCode = "" }, against: `it is in ""`},
		"made before":               {row: func(t *settlements.Transaction) { t.SaleDate = firstDay }, against: "it was made at"},
		"made after":                {row: func(t *settlements.Transaction) { t.SaleDate = firstDay.Add(3 * time.Hour) }, against: "it was made at"},
		"made nobody knows when":    {row: func(t *settlements.Transaction) { t.SaleDate = time.Time{} }, against: "does not say when the order was made"},
		"charged nobody knows when": {renewals: []func(*reconcile.Renewal){func(r *reconcile.Renewal) { r.SearchUntil = time.Time{} }}, against: "does not say when it was charged"},
		"one reference of another":  {row: func(t *settlements.Transaction) { t.MerchantReference2 = "1/2026-11/1" }, against: "not all of its references"},
		"two sales":                 {more: []settlements.Transaction{sold("1")}, against: "the order has 2 sales"},
		"given back":                {more: []settlements.Transaction{sold("1", went(settlements.Return))}, against: "some of the money went back"},
		"two orders":                {more: []settlements.Transaction{sold("1", of("order-x"))}, against: "2 orders have this reference"},
		"two renewals":              {others: []reconcile.Renewal{renewal("2", refused, func(r *reconcile.Renewal) { r.Reference1 = "1-2026-12" })}, against: "2 renewals have this reference"},
		"another order on record":   {renewals: []func(*reconcile.Renewal){func(r *reconcile.Renewal) { r.OrderID = "order-y" }}, against: "another order of it is on record"},
	} {
		t.Run(name, func(t *testing.T) {
			row := sold("1")
			if c.row != nil {
				c.row(&row)
			}
			r := renewal("1", append([]func(*reconcile.Renewal){unresolved}, c.renewals...)...)
			found, err := reconcile.Compare(t.Context(), books(append(c.others, r)...), report(append(c.more, row)...), options())
			if err != nil {
				t.Fatal(err)
			}
			if len(found.Evidence) != 1 {
				t.Fatalf("evidence %+v of %q", found.Evidence, told(found))
			}
			for id, e := range found.Evidence {
				if c.against == "" && e.Against != "" || !strings.Contains(e.Against, c.against) || e.OrderID != "order-1" || e.Renewal.Key() != r.Key() || e.Note == "" {
					t.Errorf("%s: %+v; want against: %q", id, e, c.against)
				}
			}
		})
	}
	known := renewal("1", unresolved)
	found, err := reconcile.Compare(t.Context(), books(known, renewal("3", func(r *reconcile.Renewal) { r.OrderID = "order-1" })), report(sold("1")), options())
	if err != nil || len(found.Evidence) != 0 {
		t.Errorf("an order of another record is evidence: %+v, %v", found.Evidence, err)
	}
}

// TestRowsWithoutTotalsMaySettleNothing: that it is exactly one sale is proven by totals alone, those of its own file.
func TestRowsWithoutTotalsMaySettleNothing(t *testing.T) {
	const totals = "payment_reference;settlement_currency;total_sale_amount;total_settlement_amount\nP1;EUR;15.99;15.99\n\n"
	const row = "type;order_id;merchant_reference1;amount;posting_currency;sale_date\nSALE;order-1;1-2026-12;15.99;EUR;2026-12-01T01:00:00Z\n"
	for text, against := range map[string]string{totals + row: "", row: "the report has no totals that say whether it has all sales"} {
		found, err := reconcile.Compare(t.Context(), books(renewal("1", unresolved)), settlements.ReadCSV(strings.NewReader(text), settlements.Form{}), options())
		if err != nil || len(found.Evidence) != 1 || len(found.Breaks) != 1 {
			t.Fatalf("%+v, %v", found, err)
		}
		for _, e := range found.Evidence {
			if e.Against != against || !strings.Contains(found.Breaks[0].Detail, against) {
				t.Errorf("%s\nagainst %q, want %q", text, e.Against, against)
			}
		}
	}
}

// TestRowsOfOtherTypes: those that a payout has beside sales and what went back are for its totals; one of a type that nobody knows is listed.
func TestRowsOfOtherTypes(t *testing.T) {
	text := "type;order_id;amount;posting_currency\nSALE;order-1;15.99;EUR\n"
	for _, kind := range []string{"CHARGE", "CORRECTION", "HOLDBACK", "FEE", "REVERSAL_MERCHANT_PROTECTION", "WHATEVER"} {
		text += kind + ";order-1;-15.99;EUR\n"
	}
	found, err := reconcile.Compare(t.Context(), books(renewal("1")), settlements.ReadCSV(strings.NewReader(text), settlements.Form{}), options())
	if err != nil || len(found.Breaks) != 0 || len(found.Unused) != 1 || found.Unused[0].Line != 8 || found.Unused[0].Type != "WHATEVER" || found.Unused[0].OrderID != "order-1" || found.Unused[0].Amount != -1599 {
		t.Errorf("found %q, unused %+v, %v; want the last row unused", told(found), found.Unused, err)
	}
}

// TestExtraCharge is meant to fall between two periods.
func TestExtraCharge(t *testing.T) {
	extra := renewal("1", func(r *reconcile.Renewal) { r.Period, r.OrderID = "extra", "order-2" })
	l := books(renewal("1"), extra)
	l.OffCycle[extra.Key()] = true
	if found, err := reconcile.Compare(t.Context(), l, report(sold("1"), sold("2")), options()); err != nil || len(found.Breaks) != 0 {
		t.Errorf("found %q, %v", told(found), err)
	}
}

func TestIncompleteReportIsRefused(t *testing.T) {
	var incomplete *settlements.IncompleteError
	cut := func(yield func(settlements.Record, error) bool) {
		n := 0
		for record, err := range report(sold("1"), sold("2")) {
			if n++; n < 3 && !yield(record, err) {
				return
			}
		}
	}
	if found, err := reconcile.Compare(t.Context(), books(renewal("1"), renewal("2")), cut, options()); !errors.As(err, &incomplete) || found != nil {
		t.Errorf("found %+v, %v; want an incomplete report, and nothing compared", found, err)
	}
}

// TestColumnsThatAreMissing: each takes its question with it, by name, and no other.
func TestColumnsThatAreMissing(t *testing.T) {
	const all = "type;order_id;capture_id;merchant_reference1;merchant_reference2;amount;posting_currency;sale_date;detailed_type;merchant_refund_reference"
	const row = "SALE;order-1;capture-1;1-2026-12;;15.99;EUR;2026-12-01T01:00:00Z;PURCHASE;"
	for column, want := range map[string]string{
		"": "", "order_id": "without the column order_id: second_order", "posting_currency": "without the column currency_code: currency",
		"amount": "without the column amount: amount", "detailed_type": "without the column detailed_type", "sale_date": "without the column sale_date: what resolves may settle",
		"merchant_reference1": "", "capture_id": "",
	} {
		names, fields := strings.Split(all, ";"), strings.Split(row, ";")
		if i := slices.Index(names, column); i >= 0 {
			names, fields = slices.Delete(names, i, i+1), slices.Delete(fields, i, i+1)
		}
		text := strings.Join(names, ";") + "\n" + strings.Join(fields, ";") + "\n"
		found, err := reconcile.Compare(t.Context(), books(renewal("1")), settlements.ReadCSV(strings.NewReader(text), settlements.Form{}), options())
		if err != nil {
			t.Fatal(err)
		}
		named := slices.ContainsFunc(found.Unanswered, func(s string) bool { return strings.HasPrefix(s, want) })
		others := len(slices.DeleteFunc(found.Unanswered, func(s string) bool {
			return strings.HasPrefix(s, "whether rows") || want != "" && strings.HasPrefix(s, want)
		}))
		if !named && want != "" || others != 0 || len(found.Breaks) != 0 {
			t.Errorf("without %s: unanswered %q, breaks %q; want %q and no break", column, found.Unanswered, told(found), want)
		}
	}
	found, err := reconcile.Compare(t.Context(), books(renewal("1")), report(), reconcile.Options{Account: "default", Now: firstDay.Add(99 * day)})
	if err != nil || len(found.Breaks) != 0 || len(found.Unanswered) != 1 || !strings.HasPrefix(found.Unanswered[0], "missing and not_captured") {
		t.Errorf("without dates: %q, %v, %v", told(found), found.Unanswered, err)
	}
}

// TestProgress: each step that may take long says how far it is.
func TestProgress(t *testing.T) {
	t.Parallel()
	var renewals []reconcile.Renewal
	var rows []settlements.Transaction
	for n := range 250 {
		s := fmt.Sprint("sub-", n)
		renewals, rows = append(renewals, renewal(s)), append(rows, sold(s))
	}
	o, last := options(), map[reconcile.Step]string{}
	o.Progress = func(step reconcile.Step, n, of int) { last[step] = fmt.Sprintf("%d of %d", n, of) }
	if _, err := reconcile.Compare(t.Context(), books(renewals...), report(rows...), o); err != nil {
		t.Fatal(err)
	}
	want := map[reconcile.Step]string{reconcile.StepRows: "200 of 0", reconcile.StepOrders: "200 of 250", reconcile.StepRenewals: "200 of 0"}
	if !maps.Equal(last, want) {
		t.Errorf("told %v, want %v", last, want)
	}
}
