// Package test holds the black-box tests: real worker processes, a real JetStream
// with a file store, real HTTP. The README's promises name the tests here that prove them.
package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// program is the binary under test and broker a nats-server, both built once.
var program, broker string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "renewals-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program, broker = filepath.Join(dir, "renewals"), filepath.Join(dir, "nats-server")
		for binary, pkg := range map[string]string{program: "../cmd/renewals", broker: "github.com/nats-io/nats-server/v2"} {
			if out, err := exec.Command("go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// world is a broker and a Klarna for one test.
type world struct {
	t      *testing.T
	broker *server.Server
	store  string
	port   int
	js     jetstream.JetStream
	klarna *klarnasim.Server
	roots  string // a file of what certifies it; "": the system's
}

func newWorld(t *testing.T, o klarnasim.Options) *world {
	t.Helper()
	w := &world{t: t, store: t.TempDir(), port: server.RANDOM_PORT}
	w.startBroker()
	t.Cleanup(func() { w.broker.Shutdown(); w.broker.WaitForShutdown() })

	var err error
	if w.klarna, err = klarnasim.Start(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.klarna.Close)

	nc, err := nats.Connect(w.url(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) startBroker() {
	w.t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: w.port, JetStream: true, StoreDir: w.store, SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		w.t.Fatal("the broker does not start")
	}
	w.broker, w.port = s, s.Addr().(*net.TCPAddr).Port
}

func (w *world) url() string { return "nats://127.0.0.1:" + strconv.Itoa(w.port) }

// times are settings of a worker with which a test need not wait for minutes.
var quick = []string{
	"RENEWALS_TRY_TIMEOUT=1s", "RENEWALS_TRY_BUDGET=600ms", "RENEWALS_SETTLE_DELAY=1s",
	"RENEWALS_RETRY_DELAYS=200ms,500ms", "RENEWALS_ACK_WAIT=3s", "RENEWALS_SHUTDOWN_TIMEOUT=2s",
}

func (w *world) provision(accounts ...messages.Account) {
	w.t.Helper()
	if len(accounts) == 0 {
		accounts = []messages.Account{"default"}
	}
	err := worker.Provision(w.t.Context(), w.js, topology.Provisioning{Accounts: accounts, AckWait: 3 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
}

// process is a running `renewals` command.
type process struct {
	cmd    *exec.Cmd
	mu     sync.Mutex
	output bytes.Buffer
	done   chan struct{}
	err    error
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// launch starts a command. The end of the test kills it, and tells what it said where the test has failed.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", strings.Join(cmd.Args, " "), p.text())
		}
	})
	return p
}

func (w *world) start(env []string, args ...string) *process {
	w.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(append(w.env(), quick...), env...)
	return launch(w.t, cmd)
}

// env is a clean environment: nothing of the machine's own settings.
func (w *world) env() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.store, "RENEWALS_OPS_ADDR=127.0.0.1:0", "NATS_URL=" + w.url(),
		"KLARNA_ENDPOINT=" + w.klarna.URL, "KLARNA_USERNAME=merchant", "KLARNA_PASSWORD=secret-password",
		"SSL_CERT_FILE=" + w.roots,
	}
}

// noGap lets the attempts of a worker's account follow each other at once.
func (w *world) noGap() (variable string) {
	w.t.Helper()
	file := filepath.Join(w.store, "no-gap.yaml")
	write(w.t, file, "accounts: [{name: default, min_attempt_gap: 0s}]\n")
	return "RENEWALS_CONFIG=" + file
}

// due is one moment for all attempts of a period: another one is a conflict.
var due = time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)

// job is a valid renewal; change alters it.
func job(n int, token string, change ...func(map[string]any)) []byte {
	id := strconv.Itoa(1234000 + n)
	j := map[string]any{
		"id": id + "/2026-12/1", "subscription_id": id, "period": "2026-12", "attempt": 1,
		"due_at": due, "customer_token": token,
		"order": map[string]any{
			"purchase_currency": "EUR", "order_amount": 1599, "order_tax_amount": 255, "auto_capture": true, "merchant_reference1": id + "-2026-12",
			"order_lines": []any{map[string]any{
				"type": "digital", "reference": "19-402", "name": "Streaming Service Monthly", "quantity": 1, "unit_price": 1599, "tax_rate": 1900,
				"total_amount": 1599, "total_discount_amount": 0, "total_tax_amount": 255,
				"subscription": map[string]any{"name": "Premium Monthly {{" + id + "}}", "interval": "MONTH", "interval_count": 1},
			}},
		},
	}
	for _, c := range change {
		c(j)
	}
	data, err := json.Marshal(j)
	if err != nil {
		panic(err)
	}
	return data
}

// capture is a valid capture job for the renewal of job n; more alters it.
func capture(n, number int, more ...map[string]any) []byte {
	id := strconv.Itoa(1234000 + n)
	c := map[string]any{"id": fmt.Sprint(id, "/2026-12/capture-", number), "subscription_id": id, "period": "2026-12"}
	for _, m := range more {
		maps.Copy(c, m)
	}
	data, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return data
}

// keys are what anybody can compute of a job.
func keys(payload []byte) (messages.Renewal, messages.IdempotencyKey) {
	r := messages.Read(payload, nil)
	return r.Renewal(), r.IdempotencyKey
}

// captureKeys are the same of a capture job.
func captureKeys(payload []byte) (messages.Renewal, messages.IdempotencyKey) {
	r := messages.ReadCapture(payload, nil)
	return r.Common().Renewal(), r.IdempotencyKey
}

func (w *world) publish(payload []byte) {
	w.t.Helper()
	if _, err := w.js.Publish(w.t.Context(), "renewals.due.default", payload); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) publishCapture(payload []byte) {
	w.t.Helper()
	if _, err := w.js.Publish(w.t.Context(), "renewals.capture.default", payload); err != nil {
		w.t.Fatal(err)
	}
}

// record is one message of the journal.
type record struct {
	Kind    string
	Subject string
	State   string
	Batch   string // in which it was committed with others
	Event   map[string]any
}

// records reads the whole journal in its order.
func (w *world) records() []record {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	stream, err := w.js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []record
	for n := uint64(1); n <= stream.CachedInfo().State.LastSeq; n++ {
		m, err := stream.GetMsg(ctx, n)
		if err != nil {
			w.t.Fatal(err)
		}
		r := record{Kind: strings.Split(m.Subject, ".")[1], Subject: m.Subject, State: m.Header.Get(messages.HeaderState), Batch: m.Header.Get("Nats-Batch-Id")}
		body, err := journal.WholeBody(m.Subject, r.State, m.Data)
		if err != nil {
			w.t.Fatalf("record %d: %v", n, err)
		}
		if err := json.Unmarshal(body, &r.Event); err != nil {
			w.t.Fatalf("record %d: %v", n, err)
		}
		all = append(all, r)
	}
	return all
}

// results are the records that settle a job.
func (w *world) results() []record {
	w.t.Helper()
	var settled []record
	for _, r := range w.records() {
		switch r.Kind {
		case "paid", "dunning", "unresolved", "rejected", "captured", "capture_failed":
			settled = append(settled, r)
		}
	}
	return settled
}

// left is how many jobs are still in the stream.
func (w *world) left() uint64 { w.t.Helper(); return w.leftIn(messages.StreamJobs) }

func (w *world) leftIn(name string) uint64 {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

// await polls until the condition holds.
func await(t *testing.T, within time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for pause := 20 * time.Millisecond; !condition(); pause = min(2*pause, 160*time.Millisecond) { // a condition reads the whole journal, often
		select {
		case <-deadline.C:
			t.Fatalf("waited %s for %s", within, what)
		case <-time.After(pause):
		}
	}
}

// long is for what takes longer than a change should wait: make long runs it, and so does .ci/run.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("LONG") == "" {
		t.Skip("make long runs it")
	}
}
