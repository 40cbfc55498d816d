// Package settlements reads Klarna's settlement reports: what was paid out to a merchant, and for which orders. They come
// from the Settlements API ([Client]) or as the CSV files that merchants download or find on Klarna's SFTP ([ReadCSV]); both
// give the same stream of [Record]s, one at a time, so that a report of any length takes the memory of one page.
//
// What callers get wrong: a report is not one format. Merchants choose delimiter, decimal sign, date form, signs and
// columns, for each merchant ID and channel apart. A column that is not there leaves a field empty, see [Columns]: it never
// means that the answer is no. And a report can be cut short: [Sums.Cover] says whether its rows are all of the payout's.
//
// Amounts are int64 in minor units of their currency; no float is on their way. The package charges nothing and changes
// nothing at Klarna.
//
// https://docs.klarna.com/settlement-reports
package settlements

import (
	"fmt"
	"time"
)

// Type of a transaction. Klarna may add others: those are of no known sign.
type Type string

// The types of Klarna's published API, with the sign that they have in a payout.
const (
	Sale                       Type = "SALE"                         // + a capture
	Return                     Type = "RETURN"                       // − a refund
	Reversal                   Type = "REVERSAL"                     // − a dispute that the customer won
	ReversalMerchantProtection Type = "REVERSAL_MERCHANT_PROTECTION" // + what Klarna bears of one
	Fee                        Type = "FEE"                          // − of Klarna, often two for one sale
	FeeRefund                  Type = "FEE_REFUND"                   // +
	Tax                        Type = "TAX"                          // − on fees
	Commission                 Type = "COMMISSION"                   // +
	Charge                     Type = "CHARGE"                       // −
	Credit                     Type = "CREDIT"                       // +
	Holdback                   Type = "HOLDBACK"                     // − a reserve
	Release                    Type = "RELEASE"                      // + from the reserve
	Correction                 Type = "CORRECTION"                   // either
)

// sign of a type in a payout: 1, −1, or 0 where the amount has it.
func (t Type) sign() int64 {
	switch t {
	case Sale, ReversalMerchantProtection, FeeRefund, Commission, Credit, Release:
		return 1
	case Return, Reversal, Fee, Tax, Charge, Holdback:
		return -1
	}
	return 0
}

// Known says that the type is one of these.
func (t Type) Known() bool { return t.sign() != 0 || t == Correction }

// PaymentDefault is the detailed type of a RETURN that Klarna registered, because the customer did not pay.
const PaymentDefault = "PAYMENT_DEFAULT"

// Transaction is one row of a report. Only Type and Line are always there.
type Transaction struct {
	Type         Type   `json:"type"`
	DetailedType string `json:"detailed_type"`
	// Amount in minor units, as the report has it: whether what is taken has a minus is a setting of the report. See [Transaction.Effect].
	Amount       int64  `json:"amount"`
	CurrencyCode string `json:"currency_code"` // ISO 4217, upper case
	OrderID      string `json:"order_id"`      // all rows in an order's life have it
	ShortOrderID string `json:"short_order_id"`
	CaptureID    string `json:"capture_id"` // of SALE and FEE only; one row for each capture
	RefundID     string `json:"refund_id"`
	// The references that the merchant gave with the order.
	MerchantReference1 string `json:"merchant_reference1"`
	MerchantReference2 string `json:"merchant_reference2"`
	// … with the capture and with the refund.
	MerchantCaptureReference string    `json:"merchant_capture_reference"`
	MerchantRefundReference  string    `json:"merchant_refund_reference"`
	ReversalReference        string    `json:"reversal_reference"` // of a dispute
	PaymentReference         string    `json:"payment_reference"`  // of the payout, "" where a file does not tell it
	PurchaseCountry          string    `json:"purchase_country"`
	SaleDate                 time.Time `json:"sale_date"`    // when the order was made, UTC
	CaptureDate              time.Time `json:"capture_date"` // when the event was registered: of a SALE the capture
	VATAmount                int64     `json:"vat_amount"`   // on a fee, minor units
	// MerchantID in files that cover several merchants, "" elsewhere.
	MerchantID string `json:"-"`
	// Line in the file, or place in the payout, from 1.
	Line int `json:"-"`
}

// Effect is what the row does to the payout, in minor units: what is taken is negative, whichever sign the report uses.
func (t Transaction) Effect() int64 {
	switch t.Type.sign() {
	case -1:
		return -max(t.Amount, -t.Amount)
	default:
		return t.Amount
	}
}

// Payout is one payment of Klarna's to the merchant, as a report sums it up.
type Payout struct {
	PaymentReference       string    `json:"payment_reference"` // also on the bank statement
	PayoutDate             time.Time `json:"payout_date"`
	CurrencyCode           string    `json:"currency_code"`
	MerchantID             string    `json:"merchant_id"`
	MerchantSettlementType string    `json:"merchant_settlement_type"` // NET, GROSS or GROSS_FEE
	Totals                 Totals    `json:"totals"`
	Columns                Columns   `json:"-"` // of a file, which may leave totals out; nil from the API, which has all
	Line                   int       `json:"-"` // in the file, 0 from the API
}

// Totals of a payout in minor units; all are told without a sign.
type Totals struct {
	Sale          int64 `json:"sale_amount"`
	Return        int64 `json:"return_amount"`
	Reversal      int64 `json:"reversal_amount"` // less what merchant protection gave back
	Fee           int64 `json:"fee_amount"`
	FeeRefund     int64 `json:"fee_refund_amount"`
	FeeCorrection int64 `json:"fee_correction_amount"`
	Tax           int64 `json:"tax_amount"`
	TaxRefund     int64 `json:"tax_refund_amount"`
	Commission    int64 `json:"commission_amount"`
	// CommissionReversal is commission taken back; those rows are of type COMMISSION as well.
	CommissionReversal int64 `json:"commission_reversal_amount"`
	Charge             int64 `json:"charge_amount"`
	Credit             int64 `json:"credit_amount"`
	Holdback           int64 `json:"holdback_amount"`
	Release            int64 `json:"release_amount"`
	Repay              int64 `json:"repay_amount"`   // of a debt from former payouts
	Deposit            int64 `json:"deposit_amount"` // what this payout adds to the debt, since it would be negative
	Settlement         int64 `json:"settlement_amount"`
	OpeningDebt        int64 `json:"opening_debt_balance_amount"`
	ClosingDebt        int64 `json:"closing_debt_balance_amount"`
}

// Record is one piece of a report, in the order in which it is read: exactly one field is set.
type Record struct {
	Columns     Columns      // a file's header of transactions; what follows has these
	Payout      *Payout      // the totals of a payout, before its rows
	Transaction *Transaction // a row
	End         bool         // of a file: what follows is of another, and has its own columns and totals
}

// Columns are the names of what the rows of a file have, in Klarna's words for the API: currency_code, not posting_currency.
type Columns map[string]bool

// lack says that a column is not there; nil has all.
func (c Columns) lack(name string) bool { return c != nil && !c[name] }

// both are the columns that two have.
func (c Columns) both(o Columns) Columns {
	common := Columns{}
	for name := range c {
		common[name] = o[name]
	}
	return common
}

// Missing lists those of names that are not there.
func (c Columns) Missing(names ...string) (missing []string) {
	for _, name := range names {
		if !c[name] {
			missing = append(missing, name)
		}
	}
	return missing
}

// FormatError says where in a file something cannot be read.
type FormatError struct {
	Line   int    // from 1
	Column int    // byte in the line, from 1; 0 for the whole line
	Name   string // of the column, "" where there is none
	Err    error
}

func (e *FormatError) Error() string {
	place := fmt.Sprintf("line %d", e.Line)
	if e.Column > 0 {
		place += fmt.Sprintf(", column %d", e.Column)
	}
	if e.Name != "" {
		place += " (" + e.Name + ")"
	}
	return place + ": " + e.Err.Error()
}

func (e *FormatError) Unwrap() error { return e.Err }
