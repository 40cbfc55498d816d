package topology

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// world is a NATS server on which everything is provisioned, until the test ends.
type world struct {
	t  *testing.T
	js jetstream.JetStream
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	w := &world{t: t}
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	if err := Provision(t.Context(), w.js, Provisioning{Accounts: []messages.Account{"default"}, AckWait: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	return w
}

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
