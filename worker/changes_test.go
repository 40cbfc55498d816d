package worker

import (
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// changed changes one setting of a stream on the server.
func (w *world) changed(stream string, change func(*jetstream.StreamConfig)) {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), stream)
	if err != nil {
		w.t.Fatal(err)
	}
	c := s.CachedInfo().Config
	change(&c)
	if _, err := w.js.UpdateStream(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) consumerChanged(name string, change func(*jetstream.ConsumerConfig)) {
	w.t.Helper()
	consumer, err := w.js.Consumer(w.t.Context(), messages.StreamJobs, name)
	if err != nil {
		w.t.Fatal(err)
	}
	c := consumer.CachedInfo().Config
	change(&c)
	if _, err := w.js.UpdateConsumer(w.t.Context(), messages.StreamJobs, c); err != nil {
		w.t.Fatal(err)
	}
}

// provisions runs Provision and returns what it told.
func (w *world) provisions(p topology.Provisioning) (told []string, err error) {
	w.t.Helper()
	p.Accounts = []messages.Account{"default"}
	p.Tell = func(c topology.Change) { told = append(told, c.String()) }
	err = Provision(w.t.Context(), w.js, p)
	return told, err
}
