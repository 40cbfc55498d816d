package settlements

import (
	"cmp"
	"fmt"
	"slices"
)

// Audit follows the records of a report and compares the rows of each payout with its totals. The zero value is ready.
type Audit struct {
	// Unverified says, in words, what could not be compared, each thing once.
	Unverified []string
	// Payouts and Rows that were read.
	Payouts, Rows int

	columns Columns // of a file; nil from the API, which has all
	section []Payout
	sums    map[rowsOf]*Sums
	begun   bool
	seen    map[string]bool // payouts, by their references
}

// rowsOf are those of a payout in a currency; reference is "" where rows do not tell their payout.
type rowsOf struct{ reference, currency string }

// Add takes in a record. An error is that of a payout that is incomplete, which can be seen once the next one begins or the file ends, or that
// is told twice.
func (a *Audit) Add(r Record) error {
	switch {
	case r.End:
		err := a.Close()
		a.columns = nil
		return err
	case r.Columns != nil:
		a.columns = r.Columns
		if len(r.Columns.Missing("type", "amount")) > 0 {
			a.unverified(fmt.Sprintf("whether rows are missing: the file has no column %s", r.Columns.Missing("type", "amount")[0]))
		}
		a.begun = true
	case r.Payout != nil:
		return a.payout(*r.Payout)
	case r.Transaction != nil:
		a.Rows++
		a.begun = true
		if len(a.section) == 0 {
			a.unverified("whether rows are missing: the report has no totals")
			return nil
		}
		key := rowsOf{r.Transaction.PaymentReference, r.Transaction.CurrencyCode}
		if a.sums == nil {
			a.sums = map[rowsOf]*Sums{}
		}
		if a.sums[key] == nil {
			a.sums[key] = &Sums{}
		}
		a.sums[key].Add(*r.Transaction)
	}
	return nil
}

func (a *Audit) payout(p Payout) (err error) {
	a.Payouts++
	if a.begun {
		err = a.Close()
	}
	a.section = append(a.section, p)
	if p.Columns.lack("total_sale_amount") && p.Columns.lack("total_settlement_amount") {
		a.unverified("whether rows are missing: the totals have no column total_sale_amount")
	}
	if a.seen[p.PaymentReference] && p.PaymentReference != "" && err == nil {
		err = fmt.Errorf("payout %s is in the report twice, and its rows would count twice: leave one out", p.PaymentReference)
	}
	if a.seen == nil {
		a.seen = map[string]bool{}
	}
	a.seen[p.PaymentReference] = true
	return err
}

// Covered says that the row that was added last is compared with totals, those of sales among them: that it is there once, and that none is
// missing beside it, is then known once the audit is closed.
func (a *Audit) Covered() bool {
	if len(a.section) == 0 || a.columns != nil && len(a.columns.Missing("type", "amount")) > 0 {
		return false
	}
	return !slices.ContainsFunc(a.section, func(p Payout) bool { return p.Columns.lack("total_sale_amount") })
}

// Close compares what has been read since the last payout began. It must be called at the end.
func (a *Audit) Close() error {
	section, sums, columns := a.section, a.sums, a.columns
	a.section, a.sums, a.begun = nil, nil, false
	if len(section) == 0 || columns != nil && len(columns.Missing("type", "amount")) > 0 {
		return nil // nothing was covered
	}
	together := map[string]Payout{} // of a currency, where rows do not tell their payout or the totals are of several
	for _, p := range section {
		if s := take(sums, func(of rowsOf) bool { return of.reference == p.PaymentReference && of.reference != "" }); s.Rows > 0 {
			if err := s.Cover(p); err != nil {
				return err
			}
			continue
		}
		all, ok := together[p.CurrencyCode]
		if !ok {
			all = p
		} else {
			all.Totals.add(p.Totals)
			all.Columns = all.Columns.both(p.Columns)
			all.PaymentReference += ", " + p.PaymentReference
		}
		together[p.CurrencyCode] = all
	}
	for currency, p := range together {
		s := take(sums, func(of rowsOf) bool {
			return of.currency == currency && (of.reference == "" || p.PaymentReference == "") // a summary names no payout
		})
		if err := s.Cover(p); err != nil {
			return err
		}
	}
	for of, s := range sums {
		return fmt.Errorf("payout %s: %d rows, but its totals are not in the report", cmp.Or(of.reference, "currency "+of.currency), s.Rows)
	}
	return nil
}

// take takes out the sums of some rows and adds them up.
func take(sums map[rowsOf]*Sums, which func(rowsOf) bool) *Sums {
	all := &Sums{}
	for of, s := range sums {
		if which(of) {
			all.merge(s)
			delete(sums, of)
		}
	}
	return all
}

func (a *Audit) unverified(what string) {
	for _, said := range a.Unverified {
		if said == what {
			return
		}
	}
	a.Unverified = append(a.Unverified, what)
}

func (t *Totals) add(o Totals) {
	t.Sale += o.Sale
	t.Return += o.Return
	t.Reversal += o.Reversal
	t.Fee += o.Fee
	t.FeeRefund += o.FeeRefund
	t.FeeCorrection += o.FeeCorrection
	t.Tax += o.Tax
	t.TaxRefund += o.TaxRefund
	t.Commission += o.Commission
	t.CommissionReversal += o.CommissionReversal
	t.Charge += o.Charge
	t.Credit += o.Credit
	t.Holdback += o.Holdback
	t.Release += o.Release
	t.Repay += o.Repay
	t.Deposit += o.Deposit
	t.Settlement += o.Settlement
}
