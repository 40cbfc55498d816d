package worker

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
)

// S80: a worker that charges, sweeps, counts authorisations and repeats the broker's numbers makes the broker search nothing.
func TestWorkerSearchesNothing(t *testing.T) {
	w := newWorld(t)
	journal, dead := broker.Searches(t, w.js, messages.StreamJournal), broker.Searches(t, w.js, messages.StreamDead)
	var first *Worker
	stop := w.startWith(&first)
	w.authorise("one", "ok-one")
	w.publish(w.due("two", "500-1", 1))
	w.await("a try", func() bool { return len(w.orders()) > 1 })
	stop()
	jobs, err := w.js.Stream(t.Context(), messages.StreamJobs)
	if err == nil {
		err = jobs.Purge(t.Context()) // the sweep has to find the claim
	}
	if err != nil {
		t.Fatal(err)
	}
	w.advance(26 * 24 * time.Hour)
	var second *Worker
	stop = w.startWith(&second)
	w.await("the sweep", func() bool {
		expiring := second.expiring.Load()
		return len(w.results()) == 2 && expiring != nil && (*expiring)["default"] == 1
	})
	stop()
	broker.Asked(t, "the worker", journal)
	if _, searches := dead(); len(searches) > 0 {
		t.Errorf("dead letters: %v", searches)
	}
}
