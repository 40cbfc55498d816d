package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/klarna/settlements"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/ledger"
	"github.com/klarna-renewals/renewals/worker/desk/books"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// settlements are everything that the simulator has paid out, as a merchant's report in some form.
func (w *world) settlements(form klarnasim.ReportForm, from, to time.Time) *bytes.Buffer {
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Report = form })
	request := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/settlements/v1/reports/payouts-summary-with-transactions?start_date=%s&end_date=%s",
		from.UTC().Format("2006-01-02T15:04:05Z"), to.Add(30*24*time.Hour).UTC().Format("2006-01-02T15:04:05Z")), nil)
	request.SetBasicAuth("merchant", "secret-password")
	answer := httptest.NewRecorder()
	w.klarna.Simulator.ServeHTTP(answer, request)
	return answer.Body
}

// comparison compares reports with the journal twice: with it in plain maps, and in the books of renewals-desk.
type comparison struct {
	w        *world
	from, to time.Time // of what the reports have all payouts
	ledger   *ledger.Ledger
	books    books.Compared
}

// comparison reads the journal as it is now.
func (w *world) comparison() *comparison {
	w.t.Helper()
	c := &comparison{w: w, from: time.Now().Add(-24 * time.Hour), to: time.Now().Add(40 * 24 * time.Hour)}
	var err error
	if c.ledger, err = ledger.Read(w.t.Context(), w.js); err != nil {
		w.t.Fatal(err)
	}
	path := filepath.Join(w.t.TempDir(), "books.db")
	writer, err := books.Create(path, "the test")
	if err != nil {
		w.t.Fatal(err)
	}
	defer writer.Close()
	if _, err := (books.Syncer{JetStream: w.js, Writer: writer}).Run(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	file, err := books.Open(w.t.Context(), path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { file.Close() })
	records := w.journal()
	c.books = books.Compared{Books: file, Rhythm: func(ctx context.Context, r messages.Renewal) (messages.Cadence, bool, error) {
		at, err := records.Last(ctx, r)
		return at.State.Cadence, at.State.OffCycle, err
	}}
	return c
}

func (w *world) journal() *journal.Journal {
	w.t.Helper()
	records, err := journal.Open(w.t.Context(), w.js, zerolog.Nop())
	if err != nil {
		w.t.Fatal(err)
	}
	return records
}

// found gives the breaks as "kind order", and the report of the books, which has to be that of the plain maps in every row.
func (c *comparison) found(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}, form klarnasim.ReportForm) (breaks []string, report *reconcile.Report) {
	csv := c.w.settlements(form, c.from, c.to).Bytes()
	var reports []*reconcile.Report
	var texts [2][]byte
	for i, in := range []reconcile.Books{c.ledger, c.books} {
		report, err := reconcile.Compare(c.w.t.Context(), in, settlements.ReadCSV(bytes.NewReader(csv), settlements.Form{MinorUnits: messages.MinorUnits}), reconcile.Options{Account: "default", From: c.from, To: c.to, Now: c.to})
		if err != nil {
			t.Fatal(err)
		}
		same := *report
		same.Evidence = map[messages.BreakID]reconcile.Evidence{}
		for id, e := range report.Evidence { // a time of the books is in milliseconds
			same.Evidence[id] = reconcile.Evidence{OrderID: e.OrderID, Against: e.Against, Note: e.Note}
		}
		if texts[i], err = json.MarshalIndent(same, "", " "); err != nil {
			t.Fatal(err)
		}
		reports = append(reports, report)
	}
	if !bytes.Equal(texts[0], texts[1]) {
		t.Fatalf("by the plain maps\n%s\nby the books\n%s", texts[0], texts[1])
	}
	for _, b := range reports[1].Breaks {
		breaks = append(breaks, string(b.Kind)+" "+b.OrderID)
	}
	slices.Sort(breaks)
	return slices.Compact(breaks), reports[1]
}

// apply settles what is proven, and fails where something is not recorded.
func (c *comparison) apply(t interface{ Fatalf(string, ...any) }, report *reconcile.Report) (applied int) {
	all, err := reconcile.Apply(c.w.t.Context(), c.w.journal(), report, time.Now)
	for _, a := range all {
		if !a.Recorded {
			t.Fatalf("%+v: not recorded", a)
		}
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return len(all)
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
	c := w.comparison()
	w.klarna.Simulator.Advance(40 * 24 * time.Hour)
	if breaks, report := c.found(t, klarnasim.ReportForm{}); len(breaks) != 0 || report.Orders != len(orders) || report.Refunded == 0 || len(report.Unused) != 0 || len(report.Unanswered) != 0 {
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
		if got, _ := c.found(t, form); !slices.Equal(got, want) {
			t.Fatalf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
