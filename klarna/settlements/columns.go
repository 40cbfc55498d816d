package settlements

import "strings"

// canonical is a column's name as the API has it; known says that Klarna documents it. The names of CSV files differ:
// posting_currency is currency_code, tax_amount is vat_amount.
func canonical(name string) (column string, known bool) {
	name = strings.ToLower(strings.TrimSpace(name))
	if rest, ok := strings.CutPrefix(name, "summary_"); ok { // of all payouts between two dates
		name = rest
	}
	switch name {
	case "posting_currency":
		return "currency_code", true
	case "tax_amount":
		return "vat_amount", true
	case "tax_rate":
		return "vat_rate", true
	}
	return name, rowColumn(name) != nil || payoutColumn(name) != nil || totalColumn(name) != nil || others[name]
}

// others are documented columns that nobody here needs. https://docs.klarna.com/settlement-reports
var others = map[string]bool{
	"vat_rate": true, "vat_amount": true, "amount": true, "capture_date": true, "sale_date": true, "shipping_country": true,
	"initial_payment_method_type": true, "initial_number_of_installments": true, "initial_payment_method_monthly_downpayments": true,
	"tax_rate_1": true, "tax_rate_2": true, "tax_rate_3": true, "tax_rate_4": true,
	"tax_amount_1": true, "tax_amount_2": true, "tax_amount_3": true, "tax_amount_4": true,
	"klarna_comment": true, "payout_date": true, "submerchant_id": true, "payout_date_start": true, "payout_date_end": true,
	"tax_in_currency_of_registration_country": true, "currency_code_of_registration_country": true,
}

// rowColumn is where a column of text goes in a transaction.
func rowColumn(name string) func(*Transaction) *string {
	switch name {
	case "type":
		return func(t *Transaction) *string { return (*string)(&t.Type) }
	case "detailed_type":
		return func(t *Transaction) *string { return &t.DetailedType }
	case "currency_code":
		return func(t *Transaction) *string { return &t.CurrencyCode }
	case "order_id":
		return func(t *Transaction) *string { return &t.OrderID }
	case "short_order_id":
		return func(t *Transaction) *string { return &t.ShortOrderID }
	case "capture_id":
		return func(t *Transaction) *string { return &t.CaptureID }
	case "refund_id":
		return func(t *Transaction) *string { return &t.RefundID }
	case "merchant_reference1":
		return func(t *Transaction) *string { return &t.MerchantReference1 }
	case "merchant_reference2":
		return func(t *Transaction) *string { return &t.MerchantReference2 }
	case "merchant_capture_reference":
		return func(t *Transaction) *string { return &t.MerchantCaptureReference }
	case "merchant_refund_reference":
		return func(t *Transaction) *string { return &t.MerchantRefundReference }
	case "reversal_reference":
		return func(t *Transaction) *string { return &t.ReversalReference }
	case "payment_reference":
		return func(t *Transaction) *string { return &t.PaymentReference }
	case "purchase_country":
		return func(t *Transaction) *string { return &t.PurchaseCountry }
	case "merchant_id":
		return func(t *Transaction) *string { return &t.MerchantID }
	}
	return nil
}

// payoutColumn is the same for a payout.
func payoutColumn(name string) func(*Payout) *string {
	switch name {
	case "payment_reference":
		return func(p *Payout) *string { return &p.PaymentReference }
	case "settlement_currency":
		return func(p *Payout) *string { return &p.CurrencyCode }
	case "merchant_id":
		return func(p *Payout) *string { return &p.MerchantID }
	case "merchant_settlement_type":
		return func(p *Payout) *string { return &p.MerchantSettlementType }
	}
	return nil
}

// totalColumn is where an amount goes in a payout's totals.
func totalColumn(name string) func(*Totals) *int64 {
	switch name {
	case "total_sale_amount":
		return func(t *Totals) *int64 { return &t.Sale }
	case "total_return_amount":
		return func(t *Totals) *int64 { return &t.Return }
	case "total_reversal_amount":
		return func(t *Totals) *int64 { return &t.Reversal }
	case "total_fee_amount":
		return func(t *Totals) *int64 { return &t.Fee }
	case "total_fee_refund_amount":
		return func(t *Totals) *int64 { return &t.FeeRefund }
	case "total_fee_correction_amount":
		return func(t *Totals) *int64 { return &t.FeeCorrection }
	case "total_tax_amount":
		return func(t *Totals) *int64 { return &t.Tax }
	case "total_tax_refund_amount":
		return func(t *Totals) *int64 { return &t.TaxRefund }
	case "total_commission_amount":
		return func(t *Totals) *int64 { return &t.Commission }
	case "total_commission_reversal_amount":
		return func(t *Totals) *int64 { return &t.CommissionReversal }
	case "total_charge_amount":
		return func(t *Totals) *int64 { return &t.Charge }
	case "total_credit_amount":
		return func(t *Totals) *int64 { return &t.Credit }
	case "total_holdback_amount":
		return func(t *Totals) *int64 { return &t.Holdback }
	case "total_release_amount":
		return func(t *Totals) *int64 { return &t.Release }
	case "total_repay_amount":
		return func(t *Totals) *int64 { return &t.Repay }
	case "total_deposit_amount":
		return func(t *Totals) *int64 { return &t.Deposit }
	case "total_settlement_amount":
		return func(t *Totals) *int64 { return &t.Settlement }
	case "opening_debt_balance":
		return func(t *Totals) *int64 { return &t.OpeningDebt }
	case "closing_debt_balance":
		return func(t *Totals) *int64 { return &t.ClosingDebt }
	}
	return nil
}
