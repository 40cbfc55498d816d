package settlements

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// pagination is what a page says of itself. Only Count is always there.
type pagination struct {
	Count int64  `json:"count"`
	Total *int64 `json:"total"`
	Next  string `json:"next"`
}

// more says whether anything follows on a page of so many elements, the last of which is at so high an offset. The link is not followed: it
// would take the credentials wherever it points.
func (p pagination) more(elements int, offset int64) bool {
	switch {
	case elements == 0:
		return false
	case p.Total != nil:
		return offset < *p.Total
	}
	return p.Next != "" || elements == pageSize
}

// pages reads a collection to its end, page by page. get reads one page and says how many elements it has.
func pages[E any](get func(offset int64) ([]E, pagination, error)) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		var zero E
		var total int64 = -1
		for offset := int64(0); ; {
			elements, page, err := get(offset)
			if err != nil {
				yield(zero, err)
				return
			}
			if page.Count != int64(len(elements)) {
				yield(zero, fmt.Errorf("a page has %d elements and says that they are %d", len(elements), page.Count))
				return
			}
			if page.Total != nil {
				if total >= 0 && *page.Total != total {
					yield(zero, fmt.Errorf("the collection changed while it was read, from %d elements to %d: read it again", total, *page.Total))
					return
				}
				total = *page.Total
			}
			for _, e := range elements {
				if !yield(e, nil) {
					return
				}
			}
			offset += int64(len(elements))
			if !page.more(len(elements), offset) {
				if total >= 0 && offset != total {
					yield(zero, fmt.Errorf("%d elements came, expected %d", offset, total))
				}
				return
			}
		}
	}
}

func paging(query url.Values, offset int64) url.Values {
	query.Set("size", strconv.Itoa(pageSize))
	query.Set("offset", strconv.FormatInt(offset, 10))
	return query
}

// Payouts lists the payouts that Klarna began from a moment to another, both included, in one currency or with "" in all.
func (c *Client) Payouts(ctx context.Context, from, to time.Time, currency string) iter.Seq2[Payout, error] {
	return pages(func(offset int64) ([]Payout, pagination, error) {
		var page struct {
			Payouts    []Payout   `json:"payouts"`
			Pagination pagination `json:"pagination"`
		}
		err := c.json(ctx, "/payouts", paging(between(from, to, currency), offset), &page)
		return page.Payouts, page.Pagination, err
	})
}

// between is a range of payout dates. A bare date would mean its midnight at both ends.
func between(from, to time.Time, currency string) url.Values {
	query := url.Values{"start_date": {from.UTC().Format(time.RFC3339)}, "end_date": {to.UTC().Format(time.RFC3339)}}
	if currency != "" {
		query.Set("currency_code", currency)
	}
	return query
}

// Payout reads one payout by its reference. A *[klarna.Error] with status 404 means that there is none.
func (c *Client) Payout(ctx context.Context, reference string) (Payout, error) {
	var p Payout
	err := c.json(ctx, "/payouts/"+url.PathEscape(reference), nil, &p)
	return p, err
}

// Summary is what the payouts between two moments come to, in one currency. Amounts are in minor units.
type Summary struct {
	Currency           string    `json:"summary_settlement_currency"`
	Start              time.Time `json:"summary_payout_date_start"`
	End                time.Time `json:"summary_payout_date_end"`
	Sale               int64     `json:"summary_total_sale_amount"`
	Return             int64     `json:"summary_total_return_amount"`
	Reversal           int64     `json:"summary_total_reversal_amount"`
	Fee                int64     `json:"summary_total_fee_amount"`
	FeeCorrection      int64     `json:"summary_total_fee_correction_amount"`
	Tax                int64     `json:"summary_total_tax_amount"`
	Commission         int64     `json:"summary_total_commission_amount"`
	CommissionReversal int64     `json:"summary_total_commission_reversal_amount"`
	Holdback           int64     `json:"summary_total_holdback_amount"`
	Release            int64     `json:"summary_total_release_amount"`
	Repay              int64     `json:"summary_total_repay_amount"`
	Settlement         int64     `json:"summary_total_settlement_amount"`
}

// Summaries reads what the payouts between two moments come to, one for each currency.
func (c *Client) Summaries(ctx context.Context, from, to time.Time, currency string) ([]Summary, error) {
	var all []Summary
	err := c.json(ctx, "/payouts/summary", between(from, to, currency), &all)
	return all, err
}

// Transactions lists the rows of a payout.
func (c *Client) Transactions(ctx context.Context, reference string) iter.Seq2[Transaction, error] {
	return c.transactions(ctx, "payment_reference", reference)
}

// OfOrder lists the rows of an order, whichever payout they are in.
func (c *Client) OfOrder(ctx context.Context, orderID string) iter.Seq2[Transaction, error] {
	return c.transactions(ctx, "order_id", orderID)
}

func (c *Client) transactions(ctx context.Context, by, value string) iter.Seq2[Transaction, error] {
	line := 0
	return pages(func(offset int64) ([]Transaction, pagination, error) {
		var page struct {
			Transactions []Transaction `json:"transactions"`
			Pagination   pagination    `json:"pagination"`
		}
		err := c.json(ctx, "/transactions", paging(url.Values{by: {value}}, offset), &page)
		for i := range page.Transactions {
			line++
			t := &page.Transactions[i]
			t.Line, t.CurrencyCode = line, strings.ToUpper(t.CurrencyCode)
			if by == "payment_reference" && t.PaymentReference == "" {
				t.PaymentReference = value
			}
		}
		return page.Transactions, page.Pagination, err
	})
}

// Records reads payouts between two moments with all their rows.
func (c *Client) Records(ctx context.Context, from, to time.Time, currency string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for p, err := range c.Payouts(ctx, from, to, currency) {
			if !yield(Record{Payout: &p}, err) || err != nil {
				return
			}
			for t, err := range c.Transactions(ctx, p.PaymentReference) {
				if !yield(Record{Transaction: &t}, err) || err != nil {
					return
				}
			}
		}
	}
}

// Report opens the CSV report of a payout, in the form that the merchant has configured, for [ReadCSV]. It must be closed. One
// that breaks off is an error of its reader.
func (c *Client) Report(ctx context.Context, reference string) (io.ReadCloser, error) {
	return c.report(ctx, "/reports/payout-with-transactions", url.Values{"payment_reference": {reference}})
}

// SummaryReport is the same for all payouts between two moments.
func (c *Client) SummaryReport(ctx context.Context, from, to time.Time) (io.ReadCloser, error) {
	return c.report(ctx, "/reports/payouts-summary-with-transactions", between(from, to, ""))
}

func (c *Client) report(ctx context.Context, path string, query url.Values) (body io.ReadCloser, err error) {
	err = c.get(ctx, path, query, "text/csv", func(response *http.Response) error {
		body = response.Body
		return nil
	})
	return body, err
}
