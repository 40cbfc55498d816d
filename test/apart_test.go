package test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// newWorldOn is newWorld on a broker with settings of its own.
func newWorldOn(t *testing.T, broker *server.Options, o klarnasim.Options, options ...nats.Option) *world {
	t.Helper()
	w := &world{t: t, store: broker.StoreDir}
	w.runBroker(broker)
	t.Cleanup(func() { w.broker.Shutdown(); w.broker.WaitForShutdown() })
	var err error
	_, port, _ := strings.Cut(w.broker.Addr().String(), ":")
	if w.port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	if w.klarna, err = klarnasim.Start(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.klarna.Close)
	w.connect(options...)
	return w
}

func (w *world) runBroker(o *server.Options) {
	w.t.Helper()
	var err error
	if w.broker, err = server.NewServer(o); err != nil {
		w.t.Fatal(err)
	}
	w.broker.Start()
	if !w.broker.ReadyForConnections(10 * time.Second) {
		w.t.Fatal("the broker does not start")
	}
}

// restartBroker gives the broker other settings.
func (w *world) restartBroker(o *server.Options) {
	w.t.Helper()
	w.broker.Shutdown()
	w.broker.WaitForShutdown()
	w.runBroker(o)
}

// newWorldApart has broker and Klarna in processes of their own, provisioned:
// nothing of them slows this process or is slowed by its race detector. The simulator's books are out of reach.
func newWorldApart(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: t.TempDir(), port: freePorts(t, 1)[0], klarna: &klarnasim.Server{}}
	n := &node{t: t, config: filepath.Join(w.store, "nats.conf"), port: w.port}
	write(t, n.config, fmt.Sprintf("listen: \"127.0.0.1:%d\"\njetstream { store_dir: %q }\n", w.port, w.store)) // fsync is not what is tested
	n.start()
	t.Cleanup(n.kill)
	n.awaitListening()
	w.connect()
	w.provision()
	sim := w.start([]string{"KLARNA_USERNAME=", "KLARNA_PASSWORD="}, "klarna-sim", "--addr", "127.0.0.1:0", "--no-bodies")
	await(t, 10*time.Second, "Klarna's simulator", func() bool {
		_, url, ok := strings.Cut(sim.text(), "KLARNA_ENDPOINT=")
		w.klarna.URL = strings.TrimSpace(url)
		return ok && strings.HasSuffix(url, "\n")
	})
	return w
}

func (w *world) connect(options ...nats.Option) {
	w.t.Helper()
	nc, err := nats.Connect(w.url(), append(options, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		w.t.Fatal(err)
	}
}
