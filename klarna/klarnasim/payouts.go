package klarnasim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What follows has the fields and the names of Klarna's Settlements API, version 1.0.0-rc2.

type payoutDetails struct {
	Totals                 payoutTotals `json:"totals"`
	PaymentReference       string       `json:"payment_reference"`
	PayoutDate             time.Time    `json:"payout_date"`
	CurrencyCode           string       `json:"currency_code"`
	RegistrationCurrency   string       `json:"currency_code_of_registration_country"`
	MerchantSettlementType string       `json:"merchant_settlement_type"`
	MerchantID             string       `json:"merchant_id"`
	Transactions           string       `json:"transactions"`
}

type payoutTotals struct {
	Commission    int64 `json:"commission_amount"`
	Repay         int64 `json:"repay_amount"`
	Sale          int64 `json:"sale_amount"`
	Holdback      int64 `json:"holdback_amount"`
	Tax           int64 `json:"tax_amount"`
	Settlement    int64 `json:"settlement_amount"`
	FeeCorrection int64 `json:"fee_correction_amount"`
	Reversal      int64 `json:"reversal_amount"`
	Release       int64 `json:"release_amount"`
	Return        int64 `json:"return_amount"`
	Fee           int64 `json:"fee_amount"`
	Charge        int64 `json:"charge_amount"`
	Credit        int64 `json:"credit_amount"`
	FeeRefund     int64 `json:"fee_refund_amount"`
	TaxRefund     int64 `json:"tax_refund_amount"`
	Deposit       int64 `json:"deposit_amount"`
	OpeningDebt   int64 `json:"opening_debt_balance_amount"`
	ClosingDebt   int64 `json:"closing_debt_balance_amount"`
}

type transaction struct {
	Amount                   int64     `json:"amount"`
	CaptureID                string    `json:"capture_id"`
	MerchantReference1       string    `json:"merchant_reference1,omitempty"`
	MerchantReference2       string    `json:"merchant_reference2,omitempty"`
	SaleDate                 time.Time `json:"sale_date"`
	Type                     string    `json:"type"`
	CaptureDate              time.Time `json:"capture_date"`
	PaymentReference         string    `json:"payment_reference"`
	OrderID                  string    `json:"order_id"`
	Payout                   string    `json:"payout"`
	RefundID                 string    `json:"refund_id,omitempty"`
	ShortOrderID             string    `json:"short_order_id"`
	CurrencyCode             string    `json:"currency_code"`
	PurchaseCountry          string    `json:"purchase_country"`
	VATRate                  int64     `json:"vat_rate,omitempty"`
	VATAmount                int64     `json:"vat_amount,omitempty"`
	MerchantCaptureReference string    `json:"merchant_capture_reference,omitempty"`
	MerchantRefundReference  string    `json:"merchant_refund_reference,omitempty"`
	DetailedType             string    `json:"detailed_type"`
	ReversalReference        string    `json:"reversal_reference,omitempty"`
}

type pageDetails struct {
	Count  int64  `json:"count"`
	Total  int64  `json:"total"`
	Next   string `json:"next,omitempty"`
	Prev   string `json:"prev,omitempty"`
	Offset int64  `json:"offset"`
}

// vat on a fee. It is told beside the fee's amount, which does not include it.
func (e entry) vat() int64 {
	if e.kind != percentageRow && e.kind != fixedRow {
		return 0
	}
	return (e.amount*feeVAT + 5000) / 10000
}

// totals of a payout. One that would be negative is a debt, which is not carried on here.
func (p *payout) totals() payoutTotals {
	var t payoutTotals
	for _, e := range p.entries {
		switch e.kind {
		case saleRow:
			t.Sale += e.amount
		case percentageRow, fixedRow:
			t.Fee += e.amount
			t.Tax += e.vat()
		case returnRow, defaultRow:
			t.Return += e.amount
		case reversalRow:
			t.Reversal += e.amount
		}
	}
	t.Settlement = t.Sale - t.Fee - t.Tax - t.Return - t.Reversal
	if t.Settlement < 0 {
		t.Deposit, t.ClosingDebt, t.Settlement = -t.Settlement, -t.Settlement, 0
	}
	return t
}

func (p *payout) details(base string) payoutDetails {
	return payoutDetails{
		Totals: p.totals(), PaymentReference: p.reference, PayoutDate: p.date().time(), CurrencyCode: p.currency, RegistrationCurrency: "EUR",
		MerchantSettlementType: "NET", MerchantID: merchant(p.username), Transactions: base + "/transactions?payment_reference=" + p.reference,
	}
}

func merchant(username string) string {
	id, _, _ := strings.Cut(username, "_")
	return id
}

// rows are those that a report shows.
func (p *payout) rows(yield func(entry) bool) {
	for _, e := range p.entries {
		if !e.hidden && !yield(e) {
			return
		}
	}
}

func (p *payout) transaction(e entry, options *Options, base string) transaction {
	o := e.order
	id := o.id(options)
	t := transaction{
		Amount: e.amount, SaleDate: o.createdAt.time().Truncate(time.Second), CaptureDate: e.at.time().Truncate(time.Second), Type: rowTypes[e.kind][0], DetailedType: rowTypes[e.kind][1],
		PaymentReference: p.reference, Payout: base + "/payouts/" + p.reference, OrderID: id, ShortOrderID: strings.ToUpper(id[:8]), CurrencyCode: p.currency, PurchaseCountry: "DE",
	}
	if !e.unnamed {
		t.MerchantReference1, t.MerchantReference2 = o.reference1, o.reference2
	}
	switch e.kind {
	case percentageRow, fixedRow:
		t.VATRate, t.VATAmount = feeVAT, e.vat()
		fallthrough
	case saleRow: // no other row has a capture
		t.CaptureID = uuid(options.Seed, o.number, 'a')
		if e.piece >= 0 {
			t.CaptureID, t.MerchantCaptureReference = o.captures[e.piece].id, o.captures[e.piece].reference
		}
	case returnRow:
		t.RefundID, t.MerchantRefundReference = o.refunds[e.piece].id, o.refunds[e.piece].reference
	case defaultRow:
		t.RefundID = uuid(options.Seed, o.number, 'd')
	case reversalRow:
		t.RefundID, t.ReversalReference = uuid(options.Seed, o.number, 'v'), "krn:klarna:eu1:dispute:goods_not_received:"+strconv.FormatUint(o.number, 10)
	}
	return t
}

// listing is a query as it was understood, or what is wrong with it.
type listing struct {
	size, offset int64
	from, to     time.Time
	currency     string
	bad          complaints
}

// list reads a query as strictly as Klarna's document is written.
func list(r *request, dates bool) (l listing) {
	query := r.URL.Query()
	number := func(name string, fallback, least, most int64) int64 {
		if !query.Has(name) {
			return fallback
		}
		n, err := strconv.ParseInt(query.Get(name), 10, 64)
		l.bad.check(err == nil && n >= least && n <= most, name)
		return n
	}
	moment := func(name string) (at time.Time) {
		text := query.Get(name)
		if text == "" {
			l.bad.check(!dates, name)
			return at
		}
		var err error
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			at, err = time.Parse(time.DateOnly, text)
		}
		l.bad.check(err == nil, name)
		return at
	}
	l.size, l.offset = number("size", 20, 1, 500), number("offset", 0, 0, 1<<40)
	l.from, l.to, l.currency = moment("start_date"), moment("end_date"), query.Get("currency_code")
	l.bad.check(l.currency == "" || len(l.currency) == 3, "currency_code")
	return l
}

func (l listing) refused() (reply, bool) {
	return refuse(http.StatusBadRequest, "BAD_VALUE", l.bad...), len(l.bad) > 0
}

// page of n elements: which of them, and what is said of it.
func (l listing) page(r *request, n int) (from, to int, details pageDetails) {
	from = int(min(l.offset, int64(n)))
	to = min(from+int(l.size), n)
	details = pageDetails{Count: int64(to - from), Total: int64(n), Offset: l.offset}
	link := func(offset int64) string {
		query := r.URL.Query()
		query.Set("size", strconv.FormatInt(l.size, 10))
		query.Set("offset", strconv.FormatInt(offset, 10))
		return base(r) + strings.TrimPrefix(r.URL.Path, "/settlements/v1") + "?" + query.Encode()
	}
	if to < n {
		details.Next = link(l.offset + l.size)
	}
	if from > 0 {
		details.Prev = link(max(l.offset-l.size, 0))
	}
	return from, to, details
}

func base(r *request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host + "/settlements/v1"
}

// chosen are the merchant's payouts of a query.
func (l listing) chosen(r *request, all []*payout) (chosen []*payout) {
	for _, p := range all {
		at := p.date().time()
		if p.username == r.username && (l.from.IsZero() || !at.Before(l.from)) && (l.to.IsZero() || !at.After(l.to)) && (l.currency == "" || l.currency == p.currency) {
			chosen = append(chosen, p)
		}
	}
	return chosen
}

func answer(v any) reply {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers, strings and times always marshal
	}
	return reply{status: http.StatusOK, body: body}
}

// settlement is an operation on the settlements, which may suffer an outage.
func (s *Simulator) settlement(operation func(*request, *settlements) reply) http.HandlerFunc {
	return s.api(func(r *request) reply {
		if answer, out := s.outage(r); out {
			return answer
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return operation(r, s.settle())
	})
}

// listPayouts is GET /settlements/v1/payouts.
func listPayouts(r *request, all *settlements) reply {
	l := list(r, false)
	if refusal, refused := l.refused(); refused {
		return refusal
	}
	chosen := l.chosen(r, all.payouts)
	from, to, page := l.page(r, len(chosen))
	details := make([]payoutDetails, 0, to-from)
	for _, p := range chosen[from:to] {
		details = append(details, p.details(base(r)))
	}
	return answer(map[string]any{"payouts": details, "pagination": page})
}

// readPayout is GET /settlements/v1/payouts/{payment_reference}.
func readPayout(r *request, all *settlements) reply {
	p := all.byReference[r.PathValue("reference")]
	if p == nil || p.username != r.username {
		return refuse(http.StatusNotFound, "", "There is no such payout")
	}
	return answer(p.details(base(r)))
}

// sumPayouts is GET /settlements/v1/payouts/summary.
func sumPayouts(r *request, all *settlements) reply {
	l := list(r, true)
	if refusal, refused := l.refused(); refused {
		return refusal
	}
	sums := []map[string]any{}
	for currency, t := range sumByCurrency(l.chosen(r, all.payouts)) {
		sums = append(sums, map[string]any{
			"summary_settlement_currency": currency, "summary_payout_date_start": l.from, "summary_payout_date_end": l.to,
			"summary_total_sale_amount": t.Sale, "summary_total_fee_amount": t.Fee, "summary_total_tax_amount": t.Tax, "summary_total_return_amount": t.Return,
			"summary_total_reversal_amount": t.Reversal, "summary_total_settlement_amount": t.Settlement, "summary_total_commission_amount": 0,
			"summary_total_fee_correction_amount": 0, "summary_total_holdback_amount": 0, "summary_total_release_amount": 0, "summary_total_repay_amount": 0,
		})
	}
	return answer(sums)
}

func sumByCurrency(payouts []*payout) map[string]payoutTotals {
	sums := map[string]payoutTotals{}
	for _, p := range payouts {
		t, of := sums[p.currency], p.totals()
		t.Sale, t.Fee, t.Tax, t.Return = t.Sale+of.Sale, t.Fee+of.Fee, t.Tax+of.Tax, t.Return+of.Return
		t.Reversal, t.Settlement, t.Deposit = t.Reversal+of.Reversal, t.Settlement+of.Settlement, t.Deposit+of.Deposit
		sums[p.currency] = t
	}
	return sums
}

// listTransactions is GET /settlements/v1/transactions, of a payout or of an order.
func (s *Simulator) listTransactions(r *request, all *settlements) reply {
	l, query := list(r, false), r.URL.Query()
	l.bad.check(query.Has("payment_reference") != query.Has("order_id"), "payment_reference or order_id")
	if refusal, refused := l.refused(); refused {
		return refusal
	}
	options := s.options.Load()
	var payouts []*payout
	of := s.order(query.Get("order_id"))
	if of != nil {
		payouts = all.byOrder[of.number]
	} else if p := all.byReference[query.Get("payment_reference")]; p != nil {
		payouts = []*payout{p}
	}
	type place struct {
		*payout
		entry
	}
	var places []place
	for _, p := range payouts {
		if p.username != r.username {
			continue
		}
		for e := range p.rows {
			if of == nil || e.order == of {
				places = append(places, place{p, e})
			}
		}
	}
	from, to, page := l.page(r, len(places))
	rows := make([]transaction, 0, to-from)
	for _, p := range places[from:to] {
		rows = append(rows, p.transaction(p.entry, options, base(r)))
	}
	return answer(map[string]any{"transactions": rows, "pagination": page})
}
