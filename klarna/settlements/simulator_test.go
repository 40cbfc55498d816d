package settlements_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/klarna/settlements"
)

// world is a simulator with orders in its books, and a client of its settlements.
type world struct {
	*klarnasim.Server
	client *settlements.Client
	waits  *pauses
}

var firstDay = time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)

func newWorld(t *testing.T, options klarnasim.Options) world {
	t.Helper()
	options.Now = func() time.Time { return firstDay }
	server, err := klarnasim.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	endpoint, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	w := world{Server: server, waits: &pauses{}}
	w.client, err = settlements.New(settlements.Config{Endpoint: endpoint, Credentials: klarna.StaticCredentials("K123456_a", "p"), Timer: w.waits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	return w
}

func (w world) post(t *testing.T, path, key, body string) *http.Response {
	t.Helper()
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL+path, strings.NewReader(body))
	request.SetBasicAuth("K123456_a", "p")
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Klarna-Idempotency-Key", key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response
}

// charge makes n orders of 15.99 and returns the ids of all.
func (w world) charge(t *testing.T, n int, currency string) (ids []string) {
	t.Helper()
	made := len(w.Simulator.Books().Orders)
	for i := range n {
		body := fmt.Sprintf(`{"purchase_currency":%q,"order_amount":1599,"order_tax_amount":0,"auto_capture":true,"merchant_reference1":"ref-%d","merchant_reference2":"id-%[2]d",`+
			`"order_lines":[{"name":"n","quantity":1,"unit_price":1599,"tax_rate":0,"total_amount":1599,"total_tax_amount":0,"subscription":{"name":"s","interval":"MONTH","interval_count":1}}]}`, currency, made+i)
		if r := w.post(t, "/customer-token/v1/tokens/ok-1/order", fmt.Sprint("k-", made+i), body); r.StatusCode != http.StatusOK {
			t.Fatalf("order: status %d", r.StatusCode)
		}
	}
	for _, o := range w.Simulator.Books().Orders {
		ids = append(ids, o.OrderID)
	}
	return ids
}

// settled reads all payouts until now and compares each with its totals.
func (w world) settled(t *testing.T) (payouts []settlements.Payout, rows []settlements.Transaction, err error) {
	t.Helper()
	var audit settlements.Audit
	for record, err := range w.client.Records(t.Context(), firstDay.AddDate(0, 0, -1), firstDay.AddDate(1, 0, 0), "") {
		if err == nil {
			err = audit.Add(record)
		}
		if err != nil {
			return payouts, rows, err
		}
		if record.Payout != nil {
			payouts = append(payouts, *record.Payout)
		} else {
			rows = append(rows, *record.Transaction)
		}
	}
	return payouts, rows, audit.Close()
}

func TestSettlementsOfTheSimulator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	ids := w.charge(t, 3, "EUR")
	if payouts, _, err := w.settled(t); len(payouts) != 0 || err != nil {
		t.Fatalf("%d payouts on the first day, %v", len(payouts), err)
	}
	w.charge(t, 2, "SEK")
	w.Simulator.Advance(24 * time.Hour)
	refund := func(key, amount string) *http.Response {
		return w.post(t, "/ordermanagement/v1/orders/"+ids[0]+"/refunds", key, `{"refunded_amount":`+amount+`,"reference":"rma-1"}`)
	}
	first := refund("r-1", "599")
	if again := refund("r-1", "599"); first.StatusCode != 201 || first.Header.Get("Refund-Id") == "" || again.Header.Get("Refund-Id") != first.Header.Get("Refund-Id") {
		t.Errorf("refund: %d %v, again %v", first.StatusCode, first.Header, again.Header)
	}
	if more := refund("r-2", "1001"); more.StatusCode != 403 {
		t.Errorf("a refund of more than was captured: status %d", more.StatusCode)
	}
	w.Simulator.Advance(24 * time.Hour)
	payouts, rows, err := w.settled(t)
	if err != nil || len(payouts) != 3 || len(rows) != 5*3+1 {
		t.Fatalf("%d payouts, %d rows, %v; want 2 of the first day, 1 of the second, and 16 rows", len(payouts), len(rows), err)
	}
	if p := payouts[0]; p.CurrencyCode != "EUR" || p.Totals.Sale != 3*1599 || p.MerchantID != "K123456" || !p.PayoutDate.Equal(time.Date(2026, 12, 2, 7, 45, 0, 0, time.UTC)) {
		t.Errorf("found %+v", p)
	}
	if back := rows[15]; back.Type != settlements.Return || back.Amount != 599 || back.OrderID != ids[0] || back.CaptureID != "" || back.RefundID != first.Header.Get("Refund-Id") || back.MerchantRefundReference != "rma-1" {
		t.Errorf("found %+v", back)
	}
	n := 0
	for row, err := range w.client.OfOrder(t.Context(), ids[0]) {
		if n++; err != nil || row.OrderID != ids[0] {
			t.Errorf("of one order: %+v, %v", row, err)
		}
	}
	if n != 4 {
		t.Errorf("%d rows of one order, want its sale, two fees and a return", n)
	}
	sums, err := w.client.Summaries(t.Context(), firstDay, firstDay.AddDate(0, 0, 3), "EUR")
	if err != nil || len(sums) != 1 || sums[0].Sale != 3*1599 || sums[0].Return != 599 {
		t.Errorf("summaries %+v, %v", sums, err)
	}
	var refused *klarna.Error
	if _, err := w.client.Payout(t.Context(), "NONE"); !errors.As(err, &refused) || refused.StatusCode != http.StatusNotFound {
		t.Errorf("a payout that is none: %v", err)
	}
	for _, query := range []string{"transactions", "transactions?payment_reference=a&order_id=b", "payouts?size=501", "payouts?start_date=yesterday", "payouts/summary?start_date=2026-12-01", "payouts?offset=-1"} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+"/settlements/v1/"+query, nil)
		request.SetBasicAuth("K123456_a", "p")
		if r, err := http.DefaultClient.Do(request); err != nil || r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s is answered %v, %v; want 400", query, r.StatusCode, err)
		} else {
			r.Body.Close()
		}
	}
}

// TestReportsInEveryForm: the CSV report of a payout, as a merchant may have configured it, has what the API tells.
func TestReportsInEveryForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	w.charge(t, 4, "EUR")
	w.Simulator.Advance(24 * time.Hour)
	payouts, want, err := w.settled(t)
	if err != nil {
		t.Fatal(err)
	}
	for name, form := range map[string]klarnasim.ReportForm{
		"as Klarna begins": {},
		"a spreadsheet's":  {Delimiter: ";", Decimal: ",", Dates: "02.01.2006 15:04:05", Mark: true, CRLF: true, Signed: true},
		"quoted":           {Delimiter: ",", Decimal: ","},
		"tab":              {Delimiter: "\t", Signed: true},
	} {
		w.Simulator.Change(func(o *klarnasim.Options) { o.Report = form })
		report, err := w.client.Report(t.Context(), payouts[0].PaymentReference)
		if err != nil {
			t.Fatal(err)
		}
		rows, told, _, err := read(t, report, settlements.Form{})
		report.Close()
		if err != nil || len(rows) != len(want) || len(told) != 1 || told[0].Totals != payouts[0].Totals {
			t.Fatalf("%s: %d rows, %+v, %v", name, len(rows), told, err)
		}
		for i := range rows {
			got, want := rows[i], want[i]
			got.Amount, want.Amount, got.Line, want.Line, got.MerchantID = got.Effect(), want.Effect(), 0, 0, ""
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: row %d\nfound %+v\nwant  %+v", name, i, got, want)
			}
		}
	}
}

// TestLies: each is in the rows, and only the report that was cut short does not add up.
func TestLies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	ids := w.charge(t, 9, "EUR")
	lie := func(order int, l klarnasim.Lie) {
		l.OrderID = ids[order]
		if err := w.Simulator.Lie(l); err != nil {
			t.Fatal(err)
		}
	}
	lie(1, klarnasim.Lie{Kind: klarnasim.RowMissing})
	lie(2, klarnasim.Lie{Kind: klarnasim.RowDoubled})
	lie(3, klarnasim.Lie{Kind: klarnasim.OtherAmount, Amount: 1})
	lie(4, klarnasim.Lie{Kind: klarnasim.OtherCurrency, Currency: "SEK"})
	lie(5, klarnasim.Lie{Kind: klarnasim.Late, Days: 5})
	lie(6, klarnasim.Lie{Kind: klarnasim.Returned})
	lie(7, klarnasim.Lie{Kind: klarnasim.Reversed})
	lie(8, klarnasim.Lie{Kind: klarnasim.ReferenceMissing})
	w.Simulator.Advance(6 * 24 * time.Hour)
	_, rows, err := w.settled(t)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, row := range rows {
		if row.Type != settlements.Fee {
			told[row.OrderID] += fmt.Sprintf("%s %s %d %s on %d; ", row.Type, row.CurrencyCode, row.Amount, row.MerchantReference1, row.CaptureDate.Day())
		}
	}
	for i, want := range []string{
		"SALE EUR 1599 ref-0 on 1; ", "", "SALE EUR 1599 ref-2 on 1; SALE EUR 1599 ref-2 on 1; ", "SALE EUR 1 ref-3 on 1; ", "SALE SEK 1599 ref-4 on 1; ", "SALE EUR 1599 ref-5 on 6; ",
		"SALE EUR 1599 ref-6 on 1; RETURN EUR 1599 ref-6 on 2; ", "SALE EUR 1599 ref-7 on 1; REVERSAL EUR 1599 ref-7 on 2; ", "SALE EUR 1599  on 1; ",
	} {
		if told[ids[i]] != want {
			t.Errorf("order %d: %s\nwant %s", i, told[ids[i]], want)
		}
	}
	lie(0, klarnasim.Lie{Kind: klarnasim.RowCut})
	var incomplete *settlements.IncompleteError
	if _, _, err := w.settled(t); !errors.As(err, &incomplete) {
		t.Errorf("a report that was cut short: %v", err)
	}
	if err := w.Simulator.Lie(klarnasim.Lie{OrderID: "none", Kind: klarnasim.Late}); err == nil {
		t.Error("a lie about no order is taken")
	}
}

// TestOutageOfTheSimulator is waited out.
func TestOutageOfTheSimulator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	w.charge(t, 1, "EUR")
	w.Simulator.Advance(24 * time.Hour)
	w.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "503" })
	w.waits.then = func() { w.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "" }) }
	if _, rows, err := w.settled(t); err != nil || len(rows) != 3 || len(w.waits.set) != 1 {
		t.Errorf("%d rows, %v, after %d pauses; want 3 after 1", len(rows), err, len(w.waits.set))
	}
}
