package worker

import (
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// changed changes one setting of a stream on the server.
func (w *world) changed(stream string, change func(*jetstream.StreamConfig)) {
	w.t.Helper()
	broker.ChangeStream(w.t, w.js, stream, change)
}

func (w *world) consumerChanged(name string, change func(*jetstream.ConsumerConfig)) {
	w.t.Helper()
	broker.ChangeConsumer(w.t, w.js, messages.StreamJobs, name, change)
}

// provisions runs Provision and returns what it told.
func (w *world) provisions(p topology.Provisioning) (told []string, err error) {
	w.t.Helper()
	p.Accounts = []messages.Account{"default"}
	p.Tell = func(c topology.Change) { told = append(told, c.String()) }
	err = Provision(w.t.Context(), w.js, p)
	return told, err
}
