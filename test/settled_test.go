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
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/klarna/settlements"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/ledger"
	"github.com/klarna-renewals/renewals/worker/desk"
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
	finder := desk.Finder{JetStream: c.w.js, Progress: func(string, int64) (func(int64), func()) { return func(int64) {}, func() {} }}
	all, err := reconcile.Apply(c.w.t.Context(), c.w.journal(), finder, report, time.Now)
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
