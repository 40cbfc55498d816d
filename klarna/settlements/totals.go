package settlements

import (
	"fmt"
	"strings"
)

// Sums adds up the rows of one payout. The zero value is ready to use.
type Sums struct {
	Rows       int
	byType     map[Type]int64 // effects
	vat        int64          // on fees, without a sign
	hasTax     bool           // there are rows of type TAX
	overflowed bool
}

// Add takes in a row.
func (s *Sums) Add(t Transaction) {
	if s.byType == nil {
		s.byType = map[Type]int64{}
	}
	s.Rows++
	s.hasTax = s.hasTax || t.Type == Tax
	s.add(t.Type, t.Effect())
	if t.Type == Fee {
		s.vat += max(t.VATAmount, -t.VATAmount)
	}
}

func (s *Sums) add(kind Type, effect int64) {
	before := s.byType[kind]
	after := before + effect
	s.overflowed = s.overflowed || (after > before) != (effect > 0) && effect != 0
	s.byType[kind] = after
}

// merge takes in the rows of others.
func (s *Sums) merge(o *Sums) {
	if s.byType == nil {
		s.byType = map[Type]int64{}
	}
	for kind, effect := range o.byType {
		s.add(kind, effect)
	}
	s.Rows, s.vat, s.hasTax, s.overflowed = s.Rows+o.Rows, s.vat+o.vat, s.hasTax || o.hasTax, s.overflowed || o.overflowed
}

// IncompleteError lists the totals that the rows do not add up to: rows are missing, doubled or of another payout.
type IncompleteError struct {
	Payout Payout
	Rows   int
	Off    []Difference
}

// Difference is a total that is not what its rows add up to, in minor units.
type Difference struct {
	Total     string
	Told, Sum int64
}

func (e *IncompleteError) Error() string {
	var off []string
	for _, d := range e.Off {
		off = append(off, fmt.Sprintf("%s is %d, the rows add up to %d", d.Total, d.Told, d.Sum))
	}
	name := "payout " + e.Payout.PaymentReference
	if e.Payout.PaymentReference == "" { // a summary names none
		name = "the report of payouts in " + e.Payout.CurrencyCode
	}
	return fmt.Sprintf("%s is incomplete: its %d rows are not what its totals say, in minor units: %s", name, e.Rows, strings.Join(off, "; "))
}

// Cover says, as an *IncompleteError, that the rows are not exactly those that a payout's totals speak of; nil that they are. A total
// that a file has no column of is not compared, and counts in the settlement as the rows have it.
//
// Each total is compared with the rows of its type, and the settlement with the sum of all. Klarna's calculation:
// settlement = sale + release + credit + commission + fee_refund + fee_correction − return − reversal − fee − tax − charge
// − holdback − repay − commission_reversal; a negative one is deposited as debt. Five things are not said there, and both
// readings are taken: commission that is taken back has rows of the same type, which have a minus or not; a GROSS payout has its
// fees and their tax invoiced apart; CORRECTION rows are the fee correction, or stand apart from it; what disputes took has a minus
// in a report with signs, and where merchant protection gave back more in one without; tax without rows of its own is a column of
// the fees, which a report may leave out.
// https://docs.klarna.com/settlement-reports
func (s *Sums) Cover(p Payout) error {
	t := s.complete(p)
	incomplete := &IncompleteError{Payout: p, Rows: s.Rows}
	compare := func(name string, told, sum int64) {
		if told != sum {
			incomplete.Off = append(incomplete.Off, Difference{name, told, sum})
		}
	}
	compare("sale", t.Sale, s.byType[Sale])
	compare("return", t.Return, -s.byType[Return])
	compare("reversal", t.Reversal, s.reversed())
	compare("fee", t.Fee, -s.byType[Fee])
	compare("fee_refund", t.FeeRefund, s.byType[FeeRefund])
	if rows := s.byType[Commission]; rows != t.Commission+t.CommissionReversal {
		compare("commission less its reversal", t.Commission-t.CommissionReversal, rows)
	}
	compare("charge", t.Charge, -s.byType[Charge])
	compare("credit", t.Credit, s.byType[Credit])
	compare("holdback", t.Holdback, -s.byType[Holdback])
	compare("release", t.Release, s.byType[Release])
	if s.hasTax || s.vat > 0 {
		compare("tax", t.Tax, s.tax())
	}
	for kind, sum := range s.byType {
		if !kind.Known() {
			compare("(type "+string(kind)+" has no total)", 0, sum)
		}
	}
	if s.overflowed {
		compare("(sums)", 0, -1)
	}
	if len(incomplete.Off) == 0 && !p.Columns.lack("total_settlement_amount") && !t.settles(s.byType[Correction], p.MerchantSettlementType) {
		compare("settlement", t.Settlement, t.net()+s.byType[Correction]-t.FeeCorrection)
	}
	if len(incomplete.Off) > 0 {
		return incomplete
	}
	return nil
}

// complete are a payout's totals, with what the rows come to where a file does not tell it, and with the sign that they have.
func (s *Sums) complete(p Payout) Totals {
	t := p.Totals
	for name, sum := range map[string]int64{
		"total_sale_amount": s.byType[Sale], "total_return_amount": -s.byType[Return], "total_reversal_amount": s.reversed(), "total_fee_amount": -s.byType[Fee],
		"total_fee_refund_amount": s.byType[FeeRefund], "total_commission_amount": s.byType[Commission], "total_charge_amount": -s.byType[Charge],
		"total_credit_amount": s.byType[Credit], "total_holdback_amount": -s.byType[Holdback], "total_release_amount": s.byType[Release], "total_tax_amount": s.tax(),
	} {
		if p.Columns.lack(name) {
			*totalColumn(name)(&t) = sum
		}
	}
	if p.Columns.lack("total_commission_reversal_amount") {
		t.CommissionReversal = max(t.Commission-s.byType[Commission], s.byType[Commission]-t.Commission)
	}
	if t.Reversal == -s.reversed() {
		t.Reversal = s.reversed()
	}
	return t
}

// reversed is what disputes took, less what merchant protection gave back.
func (s *Sums) reversed() int64 { return -s.byType[Reversal] - s.byType[ReversalMerchantProtection] }

// tax is that of the rows, as far as they tell it.
func (s *Sums) tax() int64 {
	if s.hasTax {
		return -s.byType[Tax]
	}
	return s.vat
}

// net is Klarna's calculation.
func (t Totals) net() int64 {
	return t.Sale + t.Release + t.Credit + t.Commission + t.FeeRefund + t.FeeCorrection + t.TaxRefund -
		t.Return - t.Reversal - t.Fee - t.Tax - t.Charge - t.Holdback - t.Repay - t.CommissionReversal
}

// settles says whether the totals and the corrections make the settlement, in one of the readings.
func (t Totals) settles(corrections int64, settlementType string) bool {
	readings := []int64{t.net()}
	if settlementType == "GROSS" || settlementType == "GROSS_FEE" {
		readings = append(readings, t.net()+t.Fee+t.Tax-t.FeeRefund-t.TaxRefund-t.FeeCorrection, t.net()+t.Fee+t.Tax)
	}
	for _, net := range readings {
		for _, carried := range []int64{0, t.Deposit} {
			if corrections == t.FeeCorrection && net+carried == t.Settlement || net+carried+corrections == t.Settlement {
				return true
			}
		}
	}
	return false
}
