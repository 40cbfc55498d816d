//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// world is an empty broker, a Klarna and their workers, each a process, for one run.
type world struct {
	setup setup
	dir   string
	tools tools
	died  chan error // the first process that ended by itself

	brokers   []*process
	profiling string // address of the first broker's profiles
	simulator *process
	workers   []*process
	brokerURL string // of all brokers
	klarnaURL string

	js      jetstream.JetStream
	results *collector
}

// tools are the programs that a world is made of; loop is also the light simulator.
type tools struct {
	renewals, broker, loop string
	desk                   string      // "" where it was not built
	load                   string      // of the machine in the minute before they were built
	records                recordSizes // of the worker's, to which the loops pad theirs
}

// errPortTaken means that somebody else took a port between its choice and its use: choose again.
var errPortTaken = errors.New("a port was taken meanwhile")

// open starts a world and provisions it. Whatever it returns is to be closed.
func open(ctx context.Context, t tools, dir string, s setup) (*world, error) {
	for again := 0; ; again++ {
		w := &world{setup: s, dir: filepath.Join(dir, strconv.Itoa(again)), tools: t, died: make(chan error, 1)}
		err := w.start(ctx)
		if errors.Is(err, errPortTaken) && again < 3 {
			w.close()
			continue
		}
		return w, w.explain(err)
	}
}

func (w *world) start(ctx context.Context) error {
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return err
	}
	ports, err := freePorts(2 + 2*w.setup.Replicas)
	if err != nil {
		return err
	}
	w.klarnaURL = "http://" + loopback(ports[0])
	w.profiling = loopback(ports[1])
	klarna := []string{w.tools.renewals, "klarna-sim", "--addr", loopback(ports[0]), "--no-bodies", "--latency", w.setup.Latency.String()}
	if w.setup.Light {
		klarna = []string{w.tools.loop, "klarna", loopback(ports[0]), w.setup.Latency.String()}
	}
	if w.simulator, err = w.run("klarna-sim", klarna...); err != nil {
		return err
	}
	if err := w.startBrokers(ports[2:]); err != nil {
		return err
	}
	if w.js, err = w.connect(ctx); err != nil {
		return err
	}
	for { // a cluster that has a leader does not know of all its nodes at once
		p := topology.Provisioning{Replicas: w.setup.Replicas}
		for n := range w.setup.Accounts {
			p.Accounts = append(p.Accounts, accountOf(n, w.setup.Accounts))
		}
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		err = worker.Provision(one, w.js, p)
		cancel()
		if err == nil {
			break
		}
		if waitErr := await(ctx, w, time.After(100*time.Millisecond)); waitErr != nil {
			return fmt.Errorf("%w: %w", waitErr, err)
		}
	}
	if err := w.listening(ctx, loopback(ports[0])); err != nil {
		return err
	}
	w.results = newCollector(w.setup.Jobs)
	// A consumer of the stream, as anybody's who needs results: a mere subscription would see records before they are
	// stored, and those that are refused as well.
	consumer, err := w.js.OrderedConsumer(ctx, messages.StreamJournal, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{messages.RecordFilter(messages.KindPaid, "*")},
	})
	if err != nil {
		return err
	}
	_, err = consumer.Consume(w.results.take, jetstream.PullMaxMessages(1000))
	return err
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// startBrokers starts one nats-server for each replica, with a file store.
func (w *world) startBrokers(ports []int) error {
	var urls, routes []string
	for n := range w.setup.Replicas {
		urls = append(urls, "nats://"+loopback(ports[2*n]))
		routes = append(routes, "nats://"+loopback(ports[2*n+1]))
	}
	w.brokerURL = strings.Join(urls, ",")
	for n := range w.setup.Replicas {
		name := "nats-server-" + strconv.Itoa(n)
		config := fmt.Sprintf("server_name: %s\nlisten: %q\njetstream { store_dir: %q", name, loopback(ports[2*n]), filepath.Join(w.dir, name))
		if w.setup.Sync != "" {
			config += ", sync_interval: " + w.setup.Sync
		}
		config += " }\n"
		if w.setup.Replicas > 1 {
			config += fmt.Sprintf("cluster { name: bench, listen: %q, routes: [%s] }\n", loopback(ports[2*n+1]), strings.Join(routes, ", "))
		}
		if w.setup.Profiles && n == 0 {
			_, port, _ := net.SplitHostPort(w.profiling)
			config += "prof_port: " + port + "\n"
		}
		path := filepath.Join(w.dir, name+".conf")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return err
		}
		p, err := w.run(name, slowed(w.setup.Slower, []string{w.tools.broker, "-c", path})...)
		if err != nil {
			return err
		}
		w.brokers = append(w.brokers, p)
	}
	return nil
}

// startWorkers starts what is measured.
func (w *world) startWorkers() error {
	for n := range w.setup.Workers {
		args := []string{w.tools.renewals, "work"}
		if w.setup.Who != "renewals" {
			args = []string{w.tools.loop, "loop", w.setup.Who, strconv.Itoa(w.setup.Hands), strconv.Itoa(w.setup.Jobs), w.tools.records.String()}
		} else {
			config, err := w.accounts()
			if err != nil {
				return err
			}
			args = append(args, "--config", config)
		}
		p, err := w.run(w.setup.Who+"-"+strconv.Itoa(n), args...)
		if err != nil {
			return err
		}
		w.workers = append(w.workers, p)
	}
	return nil
}

// accounts writes the configuration of a worker: of its one account, which the environment has, or of several.
func (w *world) accounts() (path string, err error) {
	path = filepath.Join(w.dir, "renewals.yaml")
	password := filepath.Join(w.dir, "password")
	spacing := "off"
	if w.setup.Spaced {
		spacing = "hold"
	}
	config := "accounts:\n"
	if w.setup.Accounts == 1 {
		config += fmt.Sprintf("  - {name: %s, spacing: %s}\n", accountOf(0, 1), spacing)
	}
	for n := range w.setup.Accounts {
		if w.setup.Accounts > 1 {
			config += fmt.Sprintf("  - {name: %s, endpoint: %q, username: bench, password_file: %q, concurrency: %d, spacing: %s}\n",
				accountOf(n, w.setup.Accounts), w.klarnaURL, password, w.setup.Hands/w.setup.Accounts, spacing)
		}
	}
	return path, errors.Join(os.WriteFile(password, []byte("bench\n"), 0o600), os.WriteFile(path, []byte(config), 0o600))
}

// run starts a program with an environment in which nothing is of the machine's own settings. Everything that is not set
// here is as the program has it by default, its log included.
func (w *world) run(name string, args ...string) (*process, error) {
	environment := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "NATS_URL=" + w.brokerURL, "RENEWALS_OPS_ADDR=off"}
	if w.setup.Singly {
		environment = append(environment, "RENEWALS_BATCHES=off")
	} else if w.setup.Sync == "always" {
		environment = append(environment, "RENEWALS_BATCHES=sync-always")
	}
	if w.setup.Accounts == 1 {
		environment = append(environment, "KLARNA_ENDPOINT="+w.klarnaURL, "KLARNA_USERNAME=bench", "KLARNA_PASSWORD=bench")
		if w.setup.Rate > 0 {
			environment = append(environment, "KLARNA_RATE="+strconv.Itoa(w.setup.Rate))
		} else {
			environment = append(environment, "KLARNA_CONCURRENCY="+strconv.Itoa(w.setup.Hands))
		}
	}
	return start(w.dir, name, environment, w.died, args...)
}

// await waits for what may come, unless a process ends or the time is over.
func await[T any](ctx context.Context, w *world, until <-chan T) error {
	select {
	case <-until:
		return nil
	case err := <-w.died:
		var ended *endedError
		if errors.As(err, &ended) && strings.Contains(ended.said, syscall.EADDRINUSE.Error()) {
			return fmt.Errorf("%w: %w", errPortTaken, err)
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// explain adds to an error what every process said last, unless it is one of them that tells.
func (w *world) explain(err error) error {
	var ended *endedError
	if err == nil || errors.Is(err, context.Canceled) || errors.As(err, &ended) {
		return err
	}
	said := ""
	for _, p := range w.processes() {
		said += p.last(5)
	}
	return fmt.Errorf("%w%s", err, said)
}

func (w *world) processes() []*process {
	all := append(append([]*process{}, w.workers...), w.brokers...)
	if w.simulator != nil {
		all = append(all, w.simulator)
	}
	return all
}

// connect returns once the broker can be asked about streams.
func (w *world) connect(ctx context.Context) (jetstream.JetStream, error) {
	nc, err := nats.Connect(w.brokerURL, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1000))
	for err == nil {
		one, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		_, asked := js.AccountInfo(one)
		cancel()
		if asked == nil {
			return js, nil
		}
		if err = await(ctx, w, time.After(20*time.Millisecond)); err != nil {
			err = fmt.Errorf("ask the broker: %w: %w", err, asked)
		}
	}
	nc.Close()
	return nil, err
}

// listening returns once somebody accepts connections there.
func (w *world) listening(ctx context.Context, addr string) error {
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c.Close()
		}
		if waitErr := await(ctx, w, time.After(20*time.Millisecond)); waitErr != nil {
			return fmt.Errorf("%w: %w", waitErr, err)
		}
	}
}

// stopWorkers tells the workers to stop, as an operator would, so that what they have done is recorded and acknowledged.
func (w *world) stopWorkers() (err error) {
	for _, p := range w.workers {
		p.tell(syscall.SIGTERM)
	}
	for _, p := range w.workers {
		err = errors.Join(err, p.end())
	}
	return err
}

// close ends every process and forgets what they stored.
func (w *world) close() {
	if w.js != nil {
		w.js.Conn().Close()
	}
	for _, p := range w.processes() {
		p.tell(syscall.SIGKILL)
		_ = p.end()
	}
	_ = os.RemoveAll(w.dir)
}

// audit compares Klarna's books with the journal, once the workers have stopped: no promise is weakened for speed.
func (w *world) audit(ctx context.Context) error {
	response, err := http.Get(w.klarnaURL + "/sim/counts")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var counts struct {
		Orders int `json:"order_count"`
	}
	if err := json.NewDecoder(response.Body).Decode(&counts); err != nil {
		return fmt.Errorf("read the simulator's counts: %w", err)
	}
	journal, err := w.js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return err
	}
	last, err := journal.GetLastMsgForSubject(ctx, messages.RecordFilter(messages.KindPaid, "*"))
	if err != nil {
		return fmt.Errorf("read the last result: %w", err)
	}
	for w.results.lastSequence() < last.Sequence {
		if err := await(ctx, w, time.After(20*time.Millisecond)); err != nil {
			return w.missing(err)
		}
	}
	if err := audit(w.setup, w.results.all(), counts.Orders); err != nil {
		return err
	}
	return w.acknowledged(ctx)
}

// acknowledged returns once no job is left. Acknowledgements are not answered, so the last of them may still be on their way.
func (w *world) acknowledged(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("waited 10 s"))
	defer cancel()
	for {
		jobs, err := w.js.Stream(ctx, messages.StreamJobs)
		if err != nil {
			return err
		}
		left := jobs.CachedInfo().State.Msgs
		if left == 0 {
			return nil
		}
		if err := await(ctx, w, time.After(20*time.Millisecond)); err != nil {
			return fmt.Errorf("%d jobs were not acknowledged: %w", left, err)
		}
	}
}

// audit says what is wrong with the books: every job must have one recorded result, every result an order of its own, and
// there must be no further order.
func audit(s setup, results []result, orders int) error {
	charged := map[uuid]bool{}
	settled := map[uuid]bool{}
	for _, r := range results {
		if settled[r.renewal] {
			return fmt.Errorf("renewal %s was recorded paid twice", r.renewal)
		}
		settled[r.renewal] = true
		if s.Who != "writes" && charged[r.order] {
			return fmt.Errorf("order %s was recorded for two renewals", r.order)
		}
		charged[r.order] = true
	}
	for n := range s.Jobs {
		var key uuid
		if copy(key[:], renewal(n)); !settled[key] {
			return fmt.Errorf("renewal %s has no result", key)
		}
	}
	if s.Who == "writes" { // Klarna is not asked
		orders = s.Jobs
	}
	if len(results) != s.Jobs || orders != s.Jobs {
		return fmt.Errorf("%d jobs, %d orders, %d results", s.Jobs, orders, len(results))
	}
	return nil
}

// freePorts finds ports that nobody listens on.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that no port comes twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
