package reconcile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/klarna/settlements"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// The join once more, in another way: everything is compared with everything, and each row is asked for itself. What both say of
// each row has to be the same.

// verdict is what is said of an order's rows: the kinds of its breaks, or that they are not ours.
type verdict []string

type plain struct {
	renewals []reconcile.Renewal
	rows     []settlements.Transaction
}

func (p plain) rowsOf(order string, kind settlements.Type) (rows []settlements.Transaction) {
	for _, r := range p.rows {
		if r.OrderID == order && r.Type == kind {
			rows = append(rows, r)
		}
	}
	return rows
}

func (p plain) having(is func(reconcile.Renewal) bool) (found []reconcile.Renewal) {
	for _, r := range p.renewals {
		if is(r) {
			found = append(found, r)
		}
	}
	return found
}

// wanted gives the renewals that an order names by its references, if it is in no record and there was a sale.
func (p plain) wanted(order string) (found []reconcile.Renewal) {
	if len(p.rowsOf(order, settlements.Sale)) == 0 || len(p.having(func(r reconcile.Renewal) bool { return r.OrderID == order })) > 0 {
		return nil
	}
	for _, reference := range p.references(order) {
		if found = p.referred(reference); len(found) > 0 {
			return found
		}
	}
	return nil
}

// references are those of an order's rows: the first that is there of the second ones, and of the first ones.
func (p plain) references(order string) []string {
	var first, second string
	for _, row := range p.rows {
		if row.Type == settlements.Fee {
			continue
		}
		if row.OrderID == order && first == "" {
			first = row.MerchantReference1
		}
		if row.OrderID == order && second == "" {
			second = row.MerchantReference2
		}
	}
	return []string{second, first}
}

func (p plain) referred(reference string) []reconcile.Renewal {
	return p.having(func(r reconcile.Renewal) bool {
		return reference != "" && r.Account == "default" && slices.Contains([]string{r.Reference1, r.Reference2, string(r.MessageID)}, reference)
	})
}

// anothers says that an order has references of other renewals, and none of the one that has it on record.
func (p plain) anothers(order string, r reconcile.Renewal) bool {
	var all []reconcile.Renewal
	for _, reference := range p.references(order) {
		all = append(all, p.referred(reference)...)
	}
	return len(all) > 0 && !slices.ContainsFunc(all, func(a reconcile.Renewal) bool { return a.Key() == r.Key() })
}

// of says what there is to say of an order.
func (p plain) of(order string) (v verdict) {
	recorded := p.having(func(r reconcile.Renewal) bool { return r.OrderID == order })
	ours := p.having(func(r reconcile.Renewal) bool { return r.OrderID == order && r.Account == "default" })
	sales := p.rowsOf(order, settlements.Sale)
	back := func() {
		for range p.rowsOf(order, settlements.Reversal) {
			v = append(v, "reversed")
		}
		for _, row := range p.rowsOf(order, settlements.Return) {
			if row.MerchantRefundReference == "" {
				v = append(v, "returned")
			}
		}
	}
	switch {
	case len(recorded) > 0 && len(ours) == 0:
		return verdict{"unused"}
	case len(ours) > 0:
		if len(ours) > 1 || p.anothers(order, ours[0]) {
			v = append(v, "order_shared")
		}
		switch {
		case slices.ContainsFunc(sales, func(s settlements.Transaction) bool { return s.CurrencyCode != ours[0].Currency }):
			v = append(v, "currency")
		case !multiset(due(ours[0]), sales):
			v = append(v, "amount")
		}
		back()
		return v
	}
	wanted := p.wanted(order)
	if len(wanted) == 0 {
		return verdict{"unused"}
	}
	v = append(v, p.stranger(order, wanted))
	back()
	return v
}

// stranger is an order of no record that names renewals.
func (p plain) stranger(order string, wanted []reconcile.Renewal) string {
	var open []reconcile.Renewal
	for _, r := range wanted {
		if r.Phase == journal.PhaseUnresolved {
			open = append(open, r)
		}
	}
	if len(open) == 1 {
		for _, other := range orders {
			if other < order && slices.ContainsFunc(p.wanted(other), func(r reconcile.Renewal) bool { return r.Key() == open[0].Key() }) {
				return "second_order"
			}
		}
		return "resolves"
	}
	if len(wanted) == 1 && wanted[0].OrderID != "" {
		return "second_order"
	}
	return "unknown_order"
}

// due is what should be settled, as amounts by capture id.
func due(r reconcile.Renewal) (pieces []string) {
	switch {
	case r.OrderID != "" && r.Captured && !r.Looked:
		pieces = append(pieces, fmt.Sprint("auto ", r.Amount))
	case r.OrderID != "" && r.Automatic > 0:
		pieces = append(pieces, fmt.Sprint("auto ", r.Automatic))
	}
	for _, c := range r.Captures {
		pieces = append(pieces, fmt.Sprint(c.ID, " ", c.Amount))
	}
	return pieces
}

// multiset says that each sale is one of the pieces, each of which is used once: that of its capture, else what Klarna took by itself, of which
// nobody knows the id.
func multiset(pieces []string, sales []settlements.Transaction) bool {
	pieces = slices.Clone(pieces)
	var others []settlements.Transaction
	for _, s := range sales {
		i := slices.IndexFunc(pieces, func(piece string) bool { return s.CaptureID != "auto" && strings.HasPrefix(piece, s.CaptureID+" ") })
		switch {
		case i < 0:
			others = append(others, s)
			continue
		case pieces[i] != fmt.Sprint(s.CaptureID, " ", s.Amount):
			return false
		}
		pieces = slices.Delete(pieces, i, i+1)
	}
	for _, s := range others {
		i := slices.Index(pieces, fmt.Sprint("auto ", s.Amount))
		if i < 0 {
			return false
		}
		pieces = slices.Delete(pieces, i, i+1)
	}
	return true
}

var orders = []string{"o-1", "o-2", "o-3", "o-4"}

// anyRenewals and anyRows are of a world so small that everything meets.
func anyRenewals(t *rapid.T) (all []reconcile.Renewal) {
	for i := range rapid.IntRange(1, 5).Draw(t, "renewals") {
		r := renewal(fmt.Sprint("s", i), func(r *reconcile.Renewal) {
			r.Account = rapid.SampledFrom([]messages.Account{"default", "default", "other"}).Draw(t, "account")
			r.OrderID = rapid.SampledFrom(orders).Draw(t, "order")
			r.Amount = rapid.SampledFrom([]int64{100, 200}).Draw(t, "amount")
			r.Currency = rapid.SampledFrom([]string{"EUR", "EUR", "SEK"}).Draw(t, "currency")
			r.Reference1 = rapid.SampledFrom([]string{"ref-1", "ref-2", "ref-3"}).Draw(t, "reference")
		})
		switch rapid.SampledFrom([]string{"paid", "paid", "parts", "looked", "refused", "under way", "unresolved"}).Draw(t, "phase") {
		case "parts":
			r.Captured = false
			for n := range rapid.IntRange(0, 2).Draw(t, "pieces") {
				r.Captures = append(r.Captures, reconcile.Capture{ID: fmt.Sprint("c-", n), Amount: 50, At: r.PaidAt})
			}
		case "looked":
			r.Looked, r.Automatic = true, rapid.SampledFrom([]int64{0, 50, 100}).Draw(t, "automatic")
			r.Captures = []reconcile.Capture{{ID: "c-0", Amount: 50, At: r.PaidAt}}
		case "refused":
			refused(&r)
		case "under way":
			underWay(&r)
		case "unresolved":
			unresolved(&r)
		}
		all = append(all, r)
	}
	return all
}

func anyRows(t *rapid.T) (all []settlements.Transaction) {
	kinds := []settlements.Type{settlements.Sale, settlements.Sale, settlements.Sale, settlements.Return, settlements.Reversal, settlements.Fee}
	for range rapid.IntRange(0, 8).Draw(t, "rows") {
		row := settlements.Transaction{
			Type: rapid.SampledFrom(kinds).Draw(t, "type"), OrderID: rapid.SampledFrom(orders).Draw(t, "of"), CurrencyCode: rapid.SampledFrom([]string{"EUR", "EUR", "SEK"}).Draw(t, "in"),
			Amount: rapid.SampledFrom([]int64{50, 100, 200}).Draw(t, "for"), PaymentReference: "P1", CaptureDate: firstDay.Add(time.Hour), SaleDate: firstDay.Add(time.Hour),
			MerchantReference1: rapid.SampledFrom([]string{"", "ref-1", "ref-2", "ref-3", "shoes"}).Draw(t, "first"),
			MerchantReference2: rapid.SampledFrom([]string{"", "", "s0/2026-12/1", "s1/2026-12/1"}).Draw(t, "second"),
		}
		switch row.Type {
		case settlements.Sale:
			row.CaptureID = rapid.SampledFrom([]string{"auto", "c-0", "c-1"}).Draw(t, "capture")
		case settlements.Return:
			row.MerchantRefundReference = rapid.SampledFrom([]string{"", "rma"}).Draw(t, "refund")
			fallthrough
		default:
			row.RefundID = rapid.SampledFrom([]string{"", fmt.Sprint("r-", len(all))}).Draw(t, "refund id")
		}
		all = append(all, row)
	}
	return all
}

func TestBothJoinsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := plain{anyRenewals(t), anyRows(t)}
		found, err := reconcile.Compare(t.Context(), books(p.renewals...), report(p.rows...), reconcile.Options{Account: "default", Now: firstDay.Add(day)})
		if err != nil {
			t.Fatal(err)
		}
		ids := map[messages.BreakID]bool{}
		for _, b := range found.Breaks {
			if ids[b.ID] {
				t.Fatalf("two breaks have the ID of %+v", b)
			}
			ids[b.ID] = true
		}
		for _, order := range orders {
			var got, want []string
			for _, b := range found.Breaks {
				if b.OrderID == order {
					got = append(got, string(b.Kind))
				}
			}
			for i, row := range p.rows {
				if row.OrderID != order || row.Type == settlements.Fee {
					continue
				}
				want = p.of(order)
				if unused := slices.ContainsFunc(found.Unused, func(u reconcile.Unused) bool { return u.Line == i+1 }); unused != slices.Equal(want, []string{"unused"}) {
					t.Fatalf("row %d %+v: unused %t, want %q", i+1, row, unused, want)
				}
			}
			want = slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s == "unused" })
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("order %s: found %q, the plain join says %q\nbooks %+v\nrows %+v", order, got, want, p.renewals, p.rows)
			}
		}
	})
}
