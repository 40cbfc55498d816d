package topology

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
)

// world is a NATS server on which everything is provisioned, until the test ends.
type world struct {
	t  *testing.T
	js jetstream.JetStream
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, js: broker.JetStream(t)}
	if err := Provision(t.Context(), w.js, Provisioning{Accounts: []messages.Account{"default"}, AckWait: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	return w
}

// changed changes one setting of a stream on the server.
func (w *world) changed(stream string, change func(*jetstream.StreamConfig)) {
	w.t.Helper()
	broker.ChangeStream(w.t, w.js, stream, change)
}

func (w *world) consumerChanged(name string, change func(*jetstream.ConsumerConfig)) {
	w.t.Helper()
	broker.ChangeConsumer(w.t, w.js, messages.StreamJobs, name, change)
}

func (w *world) streamConfig(name string) jetstream.StreamConfig {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.CachedInfo().Config
}

// provisions runs Provision and returns what it told.
func (w *world) provisions(p Provisioning) (told []string, err error) {
	w.t.Helper()
	p.Accounts = []messages.Account{"default"}
	p.Tell = func(c Change) { told = append(told, c.String()) }
	err = Provision(w.t.Context(), w.js, p)
	return told, err
}
