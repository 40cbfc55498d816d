package worker

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// What was resolved is not visited again by the gauges, until it is unresolved once more.
func TestResolvedIsNotVisitedAgain(t *testing.T) {
	w := newWorld(t)
	records, err := journal.Open(t.Context(), w.js, DefaultOptions().Log)
	if err != nil {
		t.Fatal(err)
	}
	giveUp := func(attempt int) {
		t.Helper()
		results := len(w.results())
		tries := len(w.orders())
		w.publish(w.due("sub", "503-bare-1", attempt))
		stop := w.start()
		w.await("a try", func() bool { return len(w.orders()) > tries })
		w.advance(24 * time.Hour)
		w.await("the end of the key's window", func() bool { return len(w.results()) > results })
		stop()
	}
	known := journal.Resolved{}
	waiting := func(want int, visited uint64) {
		t.Helper()
		reads, err := w.js.Conn().SubscribeSync("$JS.API.STREAM.MSG.GET." + messages.StreamJournal)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = reads.Unsubscribe() }()
		got, left, err := records.Waiting(t.Context(), known, journal.MostVisits)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.js.Conn().Flush(); err != nil {
			t.Fatal(err)
		}
		n, _, err := reads.Pending()
		if err != nil || left != 0 || len(got) != want || uint64(n) != visited {
			t.Errorf("waiting: %d with %d reads, %v; want %d with %d", len(got), n, err, want, visited)
		}
	}
	giveUp(1)
	if _, left, err := records.Waiting(t.Context(), known, 0); err != nil || left != 1 {
		t.Errorf("%d left without a visit, %v, want 1", left, err)
	}
	waiting(1, 2)
	waiting(1, 2)
	if err := records.ResolveNotCharged(t.Context(), messages.NewRenewal("sub", "2026-12"), journal.Decision{Actor: "anna", At: w.now()}); err != nil {
		t.Fatal(err)
	}
	waiting(0, 1)
	waiting(0, 0)
	giveUp(2)
	waiting(1, 2)
}
