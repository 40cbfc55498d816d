package worker

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// A parked job that did not come out is stored over itself, once it is overdue and only while it is still there.
func TestOverdueIsParkedAgain(t *testing.T) {
	w := newWorld(t)
	due := w.now().Add(time.Hour)
	w.publish(w.due("overdue", "ok-1", 1, func(j map[string]any) { j["due_at"] = due.Format(time.RFC3339) }))
	var started *Worker
	stop := w.startWith(&started)
	last := func() *jetstream.RawStreamMsg {
		t.Helper()
		stream, err := w.js.Stream(t.Context(), messages.StreamLater)
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.GetLastMsgForSubject(t.Context(), messages.ParkedFilter("default"))
		if err != nil {
			return nil
		}
		return m
	}
	w.await("the job to be parked", func() bool { return last() != nil })
	stop()
	parked := last()

	o := &overdue{js: w.js, accounts: started.accounts, clock: started.clock, log: started.log, moments: map[string]time.Time{}}
	look := func(want uint64) {
		t.Helper()
		if err := o.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := last(); m == nil || m.Sequence != want || string(m.Data) != string(parked.Data) || m.Header.Get("Nats-Schedule") != parked.Header.Get("Nats-Schedule") {
			t.Errorf("parked: %+v, want the same at sequence %d", m, want)
		}
	}
	look(parked.Sequence) // not due
	compared := *started.clock.compared.Load()
	compared.broker = compared.broker.Add(time.Hour)
	started.clock.compared.Store(&compared)
	look(parked.Sequence) // the server's business yet
	compared.broker = compared.broker.Add(overdueAfter + time.Minute)
	started.clock.compared.Store(&compared)
	look(parked.Sequence + 1)

	if err := o.again(t.Context(), parked); err != nil {
		t.Errorf("%v, want nothing done for what has been replaced", err)
	}
	look(parked.Sequence + 2)
	o.accounts = []messages.Account{"another"}
	look(parked.Sequence + 2)
}
