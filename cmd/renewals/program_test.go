package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// variables are the environment of a program under test; nothing of the machine's gets through.
type variables map[string]string

func (v variables) with(pairs ...string) variables {
	merged := variables{}
	for name, value := range v {
		merged[name] = value
	}
	for i := 0; i < len(pairs); i += 2 {
		merged[pairs[i]] = pairs[i+1]
	}
	return merged
}

func (v variables) lookup(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

// process is a run of the program in this process.
type process struct {
	stdout, stderr screen
	stop           context.CancelFunc // the first signal
	done           chan struct{}
	code           int
}

// screen is output that can be read while it is written.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const patience = time.Minute

// start runs the program until it is done or told to stop, at the latest at the end of the test.
func start(t *testing.T, env variables, stdin string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.code = run(ctx, args, strings.NewReader(stdin), &p.stdout, &p.stderr, env.lookup)
	}()
	t.Cleanup(func() {
		cancel()
		<-p.done
	})
	return p
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.code
	case <-time.After(patience):
		t.Fatalf("still running; stderr:\n%s", p.stderr.String())
		return -1
	}
}

// finish runs the program to its end and checks the exit code.
func finish(t *testing.T, want int, env variables, stdin string, args ...string) (stdout, stderr string) {
	t.Helper()
	p := start(t, env, stdin, args...)
	if got := p.wait(t); got != want {
		t.Fatalf("renewals %s: exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), got, want, p.stdout.String(), p.stderr.String())
	}
	return p.stdout.String(), p.stderr.String()
}

// eventually polls a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// broker runs a NATS server. Tests do not cut the power, so it need not sync.
func broker(t *testing.T, edit func(*server.Options)) *server.Server {
	t.Helper()
	options := brokerOptions(t.TempDir())
	options.SyncAlways = false
	if edit != nil {
		edit(options)
	}
	b, err := startBroker(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopBroker(b) })
	return b
}

const (
	testUser     = "merchant"
	testPassword = "klarna_test_api_hunter2"
)

func simulator(t *testing.T) *klarnasim.Server {
	t.Helper()
	s, err := klarnasim.Start(klarnasim.Options{Username: testUser, Password: testPassword, KeepBodies: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// environment of a worker for both.
func environmentFor(b *server.Server, s *klarnasim.Server) variables {
	return variables{
		"NATS_URL": b.ClientURL(), "KLARNA_ENDPOINT": s.URL, "KLARNA_USERNAME": testUser, "KLARNA_PASSWORD": testPassword,
		"RENEWALS_SETTLE_DELAY": "1s", "RENEWALS_RETRY_DELAYS": "200ms", "RENEWALS_OPS_ADDR": "off",
	}
}

// long is for what takes longer than a change should wait: make long runs it, and so does .ci/run.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("LONG") == "" {
		t.Skip("make long runs it")
	}
}
