package test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/klarna/settlements"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/ledger"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
)

// settled compares everything that the simulator has settled with a ledger, by a report in some form, and gives the breaks as "kind order".
func (w *world) settled(t interface{ Fatal(...any) }, l *ledger.Ledger, form klarnasim.ReportForm) (breaks []string, report *reconcile.Report) {
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Report = form })
	from, to := time.Now().Add(-24*time.Hour), time.Now().Add(40*24*time.Hour)
	request := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/settlements/v1/reports/payouts-summary-with-transactions?start_date=%s&end_date=%s",
		from.UTC().Format("2006-01-02T15:04:05Z"), to.Add(30*24*time.Hour).UTC().Format("2006-01-02T15:04:05Z")), nil)
	request.SetBasicAuth("merchant", "secret-password")
	answer := httptest.NewRecorder()
	w.klarna.Simulator.ServeHTTP(answer, request)
	report, err := reconcile.Compare(w.t.Context(), l, settlements.ReadCSV(answer.Body, settlements.Form{MinorUnits: messages.MinorUnits}), reconcile.Options{Account: "default", From: from, To: to, Now: to})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range report.Breaks {
		breaks = append(breaks, string(b.Kind)+" "+b.OrderID)
	}
	slices.Sort(breaks)
	return slices.Compact(breaks), report
}

// S67: two SALE rows of one renewal; a row missing; a RETURN; a report with another delimiter: each is named, none invented. A worker
// charges renewals in several currencies, captures in parts and refuses some; refunds are made; then Klarna's reports lie at random, in a
// random form, and what reconcile names are exactly the lies.
func TestReconcileNamesExactlyTheLies(t *testing.T) {
	long(t)
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	w.start(nil, "work")
	const jobs = 24
	captures := 0
	for n := range jobs {
		token := fmt.Sprint("ok-", n)
		if n%8 == 7 {
			token = fmt.Sprint("soft-decline-", n)
		}
		w.publish(job(n, token, func(j map[string]any) {
			order := j["order"].(map[string]any)
			order["purchase_currency"] = []string{"EUR", "SEK", "GBP"}[n%3]
			order["auto_capture"] = n%4 != 1
		}))
	}
	await(t, time.Minute, "all charges", func() bool { return len(w.results()) == jobs })
	for n := range jobs {
		if n%4 == 1 {
			for part, amount := range []int{600, 999} {
				w.publishCapture(capture(n, part+1, map[string]any{"captured_amount": amount}))
				captures++
			}
		}
	}
	await(t, time.Minute, "all captures", func() bool { return len(w.results()) == jobs+captures })
	var orders []string
	for i, o := range w.klarna.Simulator.Books().Orders {
		if orders = append(orders, o.OrderID); i%5 == 0 && !w.klarna.Simulator.Refund(o.OrderID, 100, "rma-1") {
			t.Fatal("no refund")
		}
	}
	l, err := ledger.Read(t.Context(), w.js)
	if err != nil {
		t.Fatal(err)
	}
	w.klarna.Simulator.Advance(40 * 24 * time.Hour)
	if breaks, report := w.settled(t, l, klarnasim.ReportForm{}); len(breaks) != 0 || report.Orders != len(orders) || report.Refunded == 0 || len(report.Unused) != 0 || len(report.Unanswered) != 0 {
		t.Fatalf("clean books: breaks %q, report %+v", breaks, report)
	}
	named := map[klarnasim.LieKind]string{
		klarnasim.RowMissing: "missing", klarnasim.RowDoubled: "amount", klarnasim.OtherAmount: "amount", klarnasim.OtherCurrency: "currency",
		klarnasim.Late: "missing", klarnasim.Returned: "returned", klarnasim.Reversed: "reversed", klarnasim.ReferenceMissing: "",
	}
	kinds := []klarnasim.LieKind{klarnasim.RowMissing, klarnasim.RowDoubled, klarnasim.OtherAmount, klarnasim.OtherCurrency, klarnasim.Late, klarnasim.Returned, klarnasim.Reversed, klarnasim.ReferenceMissing}
	rapid.Check(t, func(t *rapid.T) {
		w.klarna.Simulator.TellTheTruth()
		var want []string
		for _, order := range orders {
			if rapid.IntRange(0, 3).Draw(t, "lies") > 0 {
				continue
			}
			kind := rapid.SampledFrom(kinds).Draw(t, "kind")
			if err := w.klarna.Simulator.Lie(klarnasim.Lie{OrderID: order, Kind: kind, Amount: map[klarnasim.LieKind]int64{klarnasim.OtherAmount: 1}[kind], Currency: "NOK", Days: map[klarnasim.LieKind]int{klarnasim.Late: 60}[kind]}); err != nil {
				t.Fatal(err)
			}
			if named[kind] != "" {
				want = append(want, named[kind]+" "+order)
			}
		}
		slices.Sort(want)
		form := klarnasim.ReportForm{
			Delimiter: rapid.SampledFrom([]string{";", ",", "\t", "|"}).Draw(t, "delimiter"), Decimal: rapid.SampledFrom([]string{".", ","}).Draw(t, "decimal"),
			Dates: rapid.SampledFrom([]string{"", "02.01.2006 15:04:05"}).Draw(t, "dates"), Signed: rapid.Bool().Draw(t, "signed"), Mark: rapid.Bool().Draw(t, "mark"), CRLF: rapid.Bool().Draw(t, "crlf"),
		}
		if got, _ := w.settled(t, l, form); !slices.Equal(got, want) {
			t.Fatalf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
