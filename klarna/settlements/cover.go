package settlements

import "fmt"

// Audit follows the records of a report and compares the rows of each payout with its totals. The zero value is ready.
type Audit struct {
	// Unverified says, in words, what could not be compared, each thing once.
	Unverified []string
	// Payouts and Rows that were read.
	Payouts, Rows int

	columns Columns // of a file; nil from the API, which has all
	section []Payout
	sums    map[string]*Sums // by payment reference, or by currency where there is none
	begun   bool
}

// Add takes in a record. An error is that of a payout that is incomplete, which can be seen once the next one begins.
func (a *Audit) Add(r Record) error {
	switch {
	case r.Columns != nil:
		a.columns = r.Columns
		if len(r.Columns.Missing("type", "amount")) > 0 {
			a.unverified(fmt.Sprintf("whether rows are missing: the file has no column %s", r.Columns.Missing("type", "amount")[0]))
		}
		a.begun = true
	case r.Payout != nil:
		a.Payouts++
		var err error
		if a.begun {
			err = a.Close()
		}
		a.section = append(a.section, *r.Payout)
		return err
	case r.Transaction != nil:
		a.Rows++
		a.begun = true
		if len(a.section) == 0 {
			a.unverified("whether rows are missing: the report has no totals")
			return nil
		}
		key := r.Transaction.PaymentReference
		if key == "" {
			key = "currency " + r.Transaction.CurrencyCode
		}
		if a.sums == nil {
			a.sums = map[string]*Sums{}
		}
		if a.sums[key] == nil {
			a.sums[key] = &Sums{}
		}
		a.sums[key].Add(*r.Transaction)
	}
	return nil
}

// Close compares what has been read since the last payout began. It must be called at the end.
func (a *Audit) Close() error {
	section, sums, columns := a.section, a.sums, a.columns
	a.section, a.sums, a.begun = nil, nil, false
	if len(section) == 0 || columns != nil && len(columns.Missing("type", "amount")) > 0 {
		return nil
	}
	together := map[string]Payout{} // of a currency, where rows do not tell their payout
	for _, p := range section {
		if s := sums[p.PaymentReference]; s != nil && p.PaymentReference != "" {
			if err := s.Cover(p); err != nil {
				return err
			}
			delete(sums, p.PaymentReference)
			continue
		}
		key := "currency " + p.CurrencyCode
		all, ok := together[key]
		if !ok {
			all = p
		} else {
			all.Totals.add(p.Totals)
			all.PaymentReference += ", " + p.PaymentReference
		}
		together[key] = all
	}
	for key, p := range together {
		s := sums[key]
		if s == nil {
			s = &Sums{}
		}
		if err := s.Cover(p); err != nil {
			return err
		}
		delete(sums, key)
	}
	for key, s := range sums {
		return fmt.Errorf("payout %s: %d rows, but its totals are not in the report", key, s.Rows)
	}
	return nil
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
