package klarnasim

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ReportForm is how a merchant has configured its CSV reports. The zero value is what Klarna begins with.
// https://docs.klarna.com/payments/after-payments/settlements/additional-resources/how-to-adjust-settlements-reports/
type ReportForm struct {
	Delimiter string   `json:"delimiter,omitempty"` // default ;
	Decimal   string   `json:"decimal,omitempty"`   // default .
	Dates     string   `json:"dates,omitempty"`     // in Go's notation; default 2006-01-02T15:04:05Z
	Columns   []string `json:"columns,omitempty"`   // of the rows, in this order; default most
	NoTotals  bool     `json:"no_totals,omitempty"`
	Signed    bool     `json:"signed,omitempty"` // what is taken has a minus
	Mark      bool     `json:"bom,omitempty"`    // a byte order mark first
	CRLF      bool     `json:"crlf,omitempty"`
}

func (f ReportForm) withDefaults() ReportForm {
	if f.Delimiter == "" {
		f.Delimiter = ";"
	}
	if f.Decimal == "" {
		f.Decimal = "."
	}
	if f.Dates == "" {
		f.Dates = "2006-01-02T15:04:05Z"
	}
	if len(f.Columns) == 0 {
		f.Columns = []string{
			"type", "capture_date", "sale_date", "order_id", "short_order_id", "capture_id", "merchant_reference1", "merchant_reference2", "amount", "posting_currency",
			"refund_id", "purchase_country", "tax_rate", "tax_amount", "merchant_capture_reference", "merchant_refund_reference", "detailed_type", "reversal_reference",
		}
	}
	return f
}

func (f ReportForm) check() error {
	switch {
	case len(f.Delimiter) > 1 || f.Delimiter != "" && !strings.Contains(";,|\t", f.Delimiter):
		return fmt.Errorf("report.delimiter: %q, expected one of ; , | and tab", f.Delimiter)
	case f.Decimal != "" && f.Decimal != "." && f.Decimal != ",":
		return fmt.Errorf("report.decimal: %q, expected . or ,", f.Decimal)
	}
	return nil
}

// reportPayout is GET /settlements/v1/reports/payout-with-transactions.
func (s *Simulator) reportPayout(r *request, all *settlements) reply {
	p := all.byReference[r.URL.Query().Get("payment_reference")]
	if p == nil || p.username != r.username {
		return refuse(http.StatusNotFound, "", "There is no such payout")
	}
	return s.report(p)
}

// reportPayouts is GET /settlements/v1/reports/payouts-summary-with-transactions: here a section for each payout.
func (s *Simulator) reportPayouts(r *request, all *settlements) reply {
	l := list(r, true)
	if refusal, refused := l.refused(); refused {
		return refusal
	}
	return s.report(l.chosen(r, all.payouts)...)
}

func (s *Simulator) report(payouts ...*payout) reply {
	options := s.options.Load()
	form := options.Report.withDefaults()
	var b bytes.Buffer
	if form.Mark {
		b.WriteString("\ufeff")
	}
	w := csv.NewWriter(&b)
	w.Comma, w.UseCRLF = rune(form.Delimiter[0]), form.CRLF
	for _, p := range payouts {
		if !form.NoTotals {
			fields := form.totals(p)
			names := slices.Sorted(maps.Keys(fields))
			line := make([]string, len(names))
			for i, name := range names {
				line[i] = fields[name]
			}
			_ = w.Write(names) // to memory
			_ = w.Write(line)
		}
		_ = w.Write(form.Columns)
		for e := range p.rows {
			fields := form.row(p.transaction(e, options, ""))
			line := make([]string, len(form.Columns))
			for i, name := range form.Columns {
				line[i] = fields[name]
			}
			_ = w.Write(line)
		}
	}
	w.Flush()
	return reply{status: http.StatusOK, body: b.Bytes(), media: "text/csv"}
}

// decimal writes minor units; what the simulator sells in has two decimals, but for yen.
func (f ReportForm) decimal(amount int64, currency string) string {
	text, minus := strconv.FormatInt(max(amount, -amount), 10), ""
	if amount < 0 {
		minus = "-"
	}
	if currency == "JPY" {
		return minus + text
	}
	text = strings.Repeat("0", max(3-len(text), 0)) + text
	return minus + text[:len(text)-2] + f.Decimal + text[len(text)-2:]
}

func (f ReportForm) totals(p *payout) map[string]string {
	t := p.totals()
	taken := int64(1)
	if f.Signed {
		taken = -1
	}
	fields := map[string]string{
		"payment_reference": p.reference, "settlement_currency": p.currency, "payout_date": p.date().time().Format(f.Dates), "merchant_id": merchant(p.username), "merchant_settlement_type": "NET",
	}
	for name, amount := range map[string]int64{
		"total_sale_amount": t.Sale, "total_fee_amount": taken * t.Fee, "total_tax_amount": taken * t.Tax, "total_return_amount": taken * t.Return, "total_reversal_amount": taken * t.Reversal,
		"total_commission_amount": 0, "total_charge_amount": 0, "total_credit_amount": 0, "total_holdback_amount": 0, "total_release_amount": 0, "total_repay_amount": 0, "total_fee_refund_amount": 0,
		"total_deposit_amount": t.Deposit, "total_settlement_amount": t.Settlement, "opening_debt_balance": 0, "closing_debt_balance": t.ClosingDebt,
	} {
		fields[name] = f.decimal(amount, p.currency)
	}
	return fields
}

func (f ReportForm) row(t transaction) map[string]string {
	amount := t.Amount
	if f.Signed && (t.Type == "FEE" || t.Type == "RETURN" || t.Type == "REVERSAL") {
		amount = -amount
	}
	fields := map[string]string{
		"type": t.Type, "detailed_type": t.DetailedType, "capture_date": at(t.CaptureDate, f.Dates), "sale_date": at(t.SaleDate, f.Dates), "order_id": t.OrderID,
		"short_order_id": t.ShortOrderID, "capture_id": t.CaptureID, "merchant_reference1": t.MerchantReference1, "merchant_reference2": t.MerchantReference2,
		"amount": f.decimal(amount, t.CurrencyCode), "posting_currency": t.CurrencyCode, "refund_id": t.RefundID, "purchase_country": t.PurchaseCountry,
		"merchant_capture_reference": t.MerchantCaptureReference, "merchant_refund_reference": t.MerchantRefundReference, "reversal_reference": t.ReversalReference,
		"payment_reference": t.PaymentReference,
	}
	if t.VATAmount > 0 {
		fields["tax_rate"], fields["tax_amount"] = f.decimal(t.VATRate, ""), f.decimal(t.VATAmount, t.CurrencyCode)
	}
	return fields
}

func at(t time.Time, layout string) string { return t.UTC().Format(layout) }
