package worker

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A merchant that captures late has many authorisations open: what the sweeper
// keeps of those that end later than in five days is one range of records a day.
func TestAuthorisationsAreBounded(t *testing.T) {
	const many = 200_000
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	authorised := newAuthorisations()
	before := used()
	for n := range many {
		s := journal.State{Phase: journal.PhasePaid, Order: &journal.Order{Amount: 1599, CaptureBefore: now.Add(6*24*time.Hour + time.Duration(n)*10*time.Second)}}
		authorised.note(messages.Renewal("renewal-"+strconv.Itoa(n)), "default", s, uint64(n+1), now)
	}
	if took := int64(used()) - int64(before); took > 1<<20 {
		t.Errorf("%d authorisations take %d bytes", many, took)
	}
	if len(authorised.soon) != 0 || len(authorised.later) > 25 {
		t.Errorf("kept: %d, and %d ranges; want one range for each of 24 days", len(authorised.soon), len(authorised.later))
	}
	covered := uint64(0)
	for _, s := range authorised.later {
		covered += s.last - s.first + 1
	}
	if covered != many {
		t.Errorf("records to be read again: %d, want each once", covered)
	}
	runtime.KeepAlive(authorised)
}

// What is in memory is what ends soon, and only while it is uncaptured.
func TestAuthorisationsThatEndSoon(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	a := newAuthorisations()
	order := journal.Order{Amount: 1599, CaptureBefore: now.Add(3 * 24 * time.Hour)}
	a.note("r", "default", journal.State{Order: &order}, 1, now)
	if len(a.soon) != 1 || len(a.later) != 0 {
		t.Errorf("one that ends in three days: %+v", a)
	}
	longer := order
	longer.CaptureBefore = now.Add(20 * 24 * time.Hour)
	a.note("r", "default", journal.State{Order: &longer}, 2, now)
	if len(a.soon) != 0 || len(a.later) != 1 {
		t.Errorf("one whose end was moved: %+v", a)
	}
	a.note("r", "default", journal.State{Order: &order}, 3, now)
	order.Captured = order.Amount
	a.note("r", "default", journal.State{Order: &order}, 4, now)
	if len(a.soon) != 0 {
		t.Errorf("one that was captured: %+v", a)
	}
}

// What ends later is read again when it ends soon; what was captured in between is not counted.
func TestAuthorisationsAreReadAgain(t *testing.T) {
	w := newWorld(t)
	var worker *Worker
	w.startWith(&worker)
	for _, s := range []string{"one", "two", "three"} {
		w.authorise(s, "ok-"+s)
	}
	w.advance(2 * 24 * time.Hour) // far enough for the sweeper to read, too early to keep
	counted := func(n int) func() bool {
		return func() bool {
			e := worker.expiring.Load()
			return e != nil && (*e)["default"] == n
		}
	}
	for range 2 { // the first may have begun before
		last := worker.expiring.Load()
		w.await("a sweep", func() bool { return worker.expiring.Load() != last })
	}
	if !counted(0)() {
		t.Error("counted before they end soon")
	}
	c := part("c1", 0)
	c.SubscriptionID = "one"
	w.capture(c)
	w.awaitEmpty()
	w.advance(24 * 24 * time.Hour)
	w.await("two to be counted", counted(2))
}
