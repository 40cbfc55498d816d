package test

import (
	"context"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/worker"
)

// A stepping worker works beside the others in this process, so that somebody can set its machine's clock.
type stepping struct {
	offset atomic.Int64
	stop   func()
}

// startStepping starts it with the settings of quick, behind a wire of its own.
func startStepping(t *testing.T, broker string, sim *klarnasim.Server) *stepping {
	t.Helper()
	nc, err := nats.Connect("nats://"+broker, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(sim.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := &stepping{}
	o := worker.DefaultOptions()
	o.Name = "stepping"
	o.TryTimeout, o.TryBudget, o.SettleDelay, o.ShutdownTimeout = time.Second, 600*time.Millisecond, time.Second, 2*time.Second
	o.RetryDelays = []time.Duration{200 * time.Millisecond, 500 * time.Millisecond}
	o.Now = func() time.Time { return time.Now().Add(time.Duration(s.offset.Load())) }
	client, err := klarna.New(klarna.Config{Endpoint: address, Timeout: o.TryTimeout, TLS: sim.ClientTLS, Credentials: klarna.StaticCredentials("merchant", "secret-password")})
	if err != nil {
		t.Fatal(err)
	}
	o.Accounts = []worker.Account{{
		Name: "default", Klarna: client, Host: address.Host, Endpoint: klarna.CanonicalEndpoint(address), Merchant: klarna.Merchant("merchant"), Concurrency: 16,
	}}
	w, err := worker.New(js, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the worker whose clock steps ended with %v", err)
		}
		ended <- nil
	}
	t.Cleanup(s.stop)
	return s
}

// steps are how far somebody sets a clock. The smallest is within what workers correct.
var steps = []time.Duration{26 * time.Hour, -2 * time.Hour, 50 * time.Second, -50 * time.Second}
