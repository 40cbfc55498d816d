package worker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// brokerStore makes the test binary a broker with that store.
const brokerStore = "RENEWALS_TEST_BROKER_STORE"

// TestMain fails when any test of the package leaves a goroutine behind.
func TestMain(m *testing.M) {
	if store := os.Getenv(brokerStore); store != "" {
		serveBroker(store)
		return
	}
	goleak.VerifyTestMain(m)
}

// serveBroker says where it listens and runs until nobody holds the other end of its input.
func serveBroker(store string) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: store, NoSigs: true, NoLog: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.Start()
	if s.ReadyForConnections(10 * time.Second) {
		fmt.Println(s.ClientURL())
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	s.Shutdown()
}

// startBroker runs a broker in a process of its own, where its goroutines are not taken for the worker's. kill is kill -9.
func startBroker(t *testing.T) (url string, kill func()) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), brokerStore+"="+t.TempDir())
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = input.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatalf("start the broker: %v", err)
	}
	return strings.TrimSpace(line), kill
}

// TestNothingLeftBehind: once Run has returned, nothing that it started is still
// there, whatever the worker was in the middle of. The connection to NATS is its caller's and stays.
func TestNothingLeftBehind(t *testing.T) {
	for _, tt := range []struct {
		name string
		job  string // token of the jobs that wait
		// into brings the running worker into the situation in which it is stopped.
		into   func(l *leakWorld)
		broken bool // the worker cannot start
	}{
		{name: "jobs charged", job: "ok-", into: func(l *leakWorld) {
			l.await("the orders", func() bool { return l.klarna.Simulator.Counts().Orders == leakJobs })
		}},
		{name: "a slow charge under way", job: "slow-300-", into: (*leakWorld).asked},
		{name: "an open breaker", job: "503-bare-", into: func(l *leakWorld) { l.paused(gate.PauseBreaker) }},
		{name: "a wrong password", job: "401-", into: func(l *leakWorld) {
			l.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "401" })
			l.paused(gate.PauseNotEvaluated)
		}},
		{name: "NATS away", job: "ok-", into: func(l *leakWorld) {
			l.await("the orders", func() bool { return l.klarna.Simulator.Counts().Orders == leakJobs })
			l.killBroker()
		}},
		{name: "NATS away, an answer not recorded", job: "slow-300-", into: func(l *leakWorld) {
			l.asked()
			l.killBroker()
			l.await("the answer", func() bool { return l.klarna.Simulator.Counts().Requests > 0 })
		}},
		{name: "NATS away, an open breaker", job: "cut-", into: func(l *leakWorld) {
			l.paused(gate.PauseBreaker)
			l.killBroker()
		}},
		{name: "no account has its consumers", broken: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLeakWorld(t, tt.job)
			before := goleak.IgnoreCurrent()
			w := l.worker(tt.broken)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			if tt.into != nil {
				tt.into(l)
			}
			if !tt.broken {
				stop()
			}
			if err := <-ended; (err != nil) != tt.broken {
				t.Errorf("Run: %v, want an error: %t", err, tt.broken)
			}
			stop()
			goleak.VerifyNone(t, before,
				// The client's goodbye to a watcher's consumer, which it gives up after 5 s without a broker.
				goleak.IgnoreAnyFunction("github.com/nats-io/nats%2ego.(*Subscription).deleteConsumer"),
				// The connection itself.
				goleak.IgnoreAnyFunction("github.com/nats-io/nats%2ego.(*Conn).doReconnect"),
				goleak.IgnoreAnyFunction("github.com/nats-io/nats%2ego.(*Conn).readLoop"),
				goleak.IgnoreAnyFunction("github.com/nats-io/nats%2ego.(*Conn).flusher"))
		})
	}
}

const leakJobs = 20 // twice what opens the breaker

// leakWorld is a world whose tests run alone: goroutines do not say whose they are.
type leakWorld struct {
	t          *testing.T
	js         jetstream.JetStream
	klarna     *klarnasim.Server
	killBroker func()
	running    *Worker
}

func newLeakWorld(t *testing.T, token string) *leakWorld {
	t.Helper()
	l := &leakWorld{t: t}
	var err error
	broker, kill := startBroker(t)
	if l.klarna, err = klarnasim.Start(klarnasim.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.klarna.Close)
	nc, err := nats.Connect(broker, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	l.killBroker = func() {
		kill()
		l.await("the end of the connection", func() bool { return !nc.IsConnected() })
	}
	if l.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	if err := Provision(t.Context(), l.js, topology.Provisioning{Accounts: []messages.Account{"default"}, AckWait: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if token == "" {
		if err := l.js.DeleteConsumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default")); err != nil {
			t.Fatal(err)
		}
		return l
	}
	payloads := &world{t: t, began: time.Now()}
	for n := range leakJobs {
		id := "leak-" + strconv.Itoa(n)
		if _, err := l.js.Publish(t.Context(), messages.DueSubject("default"), payloads.due(id, token+strconv.Itoa(n), 1)); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// worker is one for account default, and with second for another that has no consumer.
func (l *leakWorld) worker(second bool) *Worker {
	l.t.Helper()
	endpoint, err := url.Parse(l.klarna.URL)
	if err != nil {
		l.t.Fatal(err)
	}
	o := DefaultOptions()
	o.Name, o.ShutdownTimeout = "leak", time.Second
	o.TryTimeout, o.TryBudget, o.SettleDelay = 400*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	for _, name := range []messages.Account{"default", "second"} {
		client, err := klarna.New(klarna.Config{Endpoint: endpoint, Timeout: o.TryTimeout, Credentials: klarna.StaticCredentials("merchant", "secret-password")})
		if err != nil {
			l.t.Fatal(err)
		}
		o.Accounts = append(o.Accounts, Account{Name: name, Host: endpoint.Host, Endpoint: klarna.CanonicalEndpoint(endpoint), Concurrency: leakJobs, Klarna: client})
		if !second {
			break
		}
	}
	if l.running, err = New(l.js, o); err != nil {
		l.t.Fatal(err)
	}
	return l.running
}

func (l *leakWorld) asked() {
	l.await("a request", func() bool { return len(l.klarna.Simulator.Books().Keys) > 0 })
}

// paused waits until the account is and nothing is in flight.
func (l *leakWorld) paused(reason string) {
	l.await("pause "+reason, func() bool {
		accounts := l.running.running.Load()
		return accounts != nil && (*accounts)[0].breaker.PausedFor(reason) && (*accounts)[0].inFlight.Load() == 0
	})
}

func (l *leakWorld) await(what string, condition func() bool) {
	l.t.Helper()
	(&world{t: l.t}).await(what, condition)
}
