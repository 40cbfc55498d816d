//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"time"
)

// payoutReference names the only payout of the month.
const payoutReference = "XISA93DJ"

// row is one of the payout's, with the fields of Klarna's reports that matter here.
type row struct {
	kind, order, capture   string
	reference1, reference2 string
	refund, dispute        string
	amount                 int64
	at                     time.Time
}

// payout is the month's only one. Its fees are invoiced apart (GROSS): every row is a sale or takes one back, so that a payout of so many rows
// has as many orders as it can.
type payout struct {
	rows                  []row
	sold, returned, taken int64
}

// payout tells of the first of the month's renewals, lies included.
func (m month) payout() (p payout) {
	for n := range m.settled() {
		sale := row{kind: "SALE", order: m.order(n), capture: orderID(uint64(n) | 1<<40), reference1: reference1(n), reference2: reference2(n), amount: orderAmount, at: m.at(n)}
		other := sale
		other.order, other.capture = orderID(uint64(n)|1<<41), orderID(uint64(n)|1<<42)
		back := sale
		back.capture, back.at = "", sale.at.Add(time.Hour)
		switch m.lies[n] {
		case notSettled, neverTaken, oneOrder:
		case soldTwice:
			p.add(sale, sale)
		case otherAmount:
			sale.amount--
			p.add(sale)
		case givenBack:
			back.kind, back.refund = "RETURN", orderID(uint64(n)|1<<43)
			p.add(sale, back)
		case disputed:
			back.kind, back.dispute = "REVERSAL", fmt.Sprintf("krn:klarna:eu1:dispute:unauthorized_purchase:%d", n)
			p.add(sale, back)
		case twoOrders:
			p.add(sale, other)
		case unrecorded:
			other.reference1, other.reference2 = "", subscription(n)+"/2026-01/1"
			p.add(sale, other)
		case strange:
			other.reference1, other.reference2 = "a shop's", ""
			p.add(sale, other)
		default:
			p.add(sale)
		}
	}
	return p
}

func (p *payout) add(rows ...row) {
	for _, r := range rows {
		switch r.kind {
		case "SALE":
			p.sold += r.amount
		case "RETURN":
			p.returned += r.amount
		case "REVERSAL":
			p.taken += r.amount
		}
		p.rows = append(p.rows, r)
	}
}

// date is when it was paid out.
func (p payout) date() time.Time { return firstOfMonth.AddDate(0, 0, 5) }

// csv writes the report as a merchant downloads it.
func (p payout) csv(to io.Writer) error {
	w := bufio.NewWriter(to)
	money := func(amount int64) string { return fmt.Sprintf("%d.%02d", amount/100, amount%100) }
	fmt.Fprintf(w, "total_sale_amount;total_return_amount;total_reversal_amount;total_fee_amount;total_settlement_amount;payment_reference;settlement_currency;payout_date;merchant_id;merchant_settlement_type\n")
	fmt.Fprintf(w, "%s;%s;%s;0.00;%s;%s;EUR;%s;K123456;GROSS\n\n", money(p.sold), money(p.returned), money(p.taken), money(p.sold-p.returned-p.taken), payoutReference, p.date().Format(time.RFC3339))
	fmt.Fprintf(w, "type;capture_date;sale_date;order_id;short_order_id;capture_id;merchant_reference1;merchant_reference2;amount;posting_currency;detailed_type;refund_id;merchant_refund_reference;reversal_reference;payment_reference\n")
	for _, r := range p.rows {
		at := r.at.Format(time.RFC3339)
		fmt.Fprintf(w, "%s;%s;%s;%s;%.8s;%s;%s;%s;%s;EUR;%s;%s;;%s;%s\n", r.kind, at, at, r.order, r.order, r.capture, r.reference1, r.reference2, money(r.amount), "PURCHASE", r.refund, r.dispute, payoutReference)
	}
	return w.Flush()
}

// json appends the row as the Settlements API has it.
func (r row) json(b []byte) []byte {
	at := r.at.Format(time.RFC3339)
	return fmt.Appendf(b, `{"amount":%d,"capture_id":%q,"merchant_reference1":%q,"merchant_reference2":%q,"sale_date":%q,"capture_date":%q,"type":%q,"detailed_type":"PURCHASE",`+
		`"payment_reference":%q,"payout":"https://api.klarna.com/settlements/v1/payouts/%s","order_id":%q,"short_order_id":"%.8s","refund_id":%q,"reversal_reference":%q,"currency_code":"EUR","purchase_country":"DE",`+
		`"initial_payment_method_type":"direct_debit"}`, r.amount, r.capture, r.reference1, r.reference2, at, at, r.kind, payoutReference, payoutReference, r.order, r.order, r.refund, r.dispute)
}

// json appends the payout without its rows.
func (p payout) json(b []byte) []byte {
	return fmt.Appendf(b, `{"payment_reference":%q,"payout_date":%q,"currency_code":"EUR","merchant_id":"K123456","merchant_settlement_type":"GROSS","totals":{"sale_amount":%d,"return_amount":%d,"reversal_amount":%d,`+
		`"settlement_amount":%d,"commission_amount":0,"repay_amount":0,"holdback_amount":0,"tax_amount":0,"fee_correction_amount":0,"release_amount":0,"fee_amount":0,"charge_amount":0,"credit_amount":0,`+
		`"fee_refund_amount":0,"tax_refund_amount":0,"deposit_amount":0,"opening_debt_balance_amount":0,"closing_debt_balance_amount":0}}`,
		payoutReference, p.date().Format(time.RFC3339), p.sold, p.returned, p.taken, p.sold-p.returned-p.taken)
}
