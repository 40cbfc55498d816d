// Command bench measures the worker beside two loops that keep none, or almost
// none, of its promises: broker, simulator and workers are separate processes on one machine,
// and every run ends with a check that each job has one order and one result.
//
// Run it as `make bench`, or `BENCH=quick make bench`. It prints a table and writes
// bench.json beside the binaries it builds.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
)

const account messages.Account = "default"

func main() {
	if len(os.Args) == 5 && os.Args[1] == "loop" {
		hands, _ := strconv.Atoi(os.Args[4])
		if err := loop(os.Getenv("NATS_URL"), os.Getenv("KLARNA_ENDPOINT"), hands, os.Args[2] == "claims"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// setup is one way of running.
type setup struct {
	Who     string        `json:"who"` // bare, claims, renewals
	Workers int           `json:"workers"`
	Hands   int           `json:"concurrency"` // of all workers together
	Latency time.Duration `json:"latency_ns"`
	Sync    string        `json:"sync"` // default, always
	Jobs    int           `json:"jobs"`
	Pace    int           `json:"pace"` // jobs a second; 0: all are there at the beginning
}

// figures are what one run came to.
type figures struct {
	Setup   setup         `json:"setup"`
	Rate    float64       `json:"renewals_per_second"`
	CPU     time.Duration `json:"cpu_per_renewal_ns"`
	PeakRSS int64         `json:"peak_rss_bytes"` // the largest of the workers
	P50     time.Duration `json:"p50_ns,omitempty"`
	P99     time.Duration `json:"p99_ns,omitempty"`
	Max     time.Duration `json:"max_ns,omitempty"`
}

type bench struct {
	dir                       string
	renewals, broker, looping string
}

func run() error {
	quick := os.Getenv("BENCH") == "quick"
	dir, err := os.MkdirTemp("", "renewals-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{dir: dir, renewals: filepath.Join(dir, "renewals"), broker: filepath.Join(dir, "nats-server"), looping: self}
	for binary, pkg := range map[string]string{b.renewals: "./cmd/renewals", b.broker: "github.com/nats-io/nats-server/v2"} {
		if out, err := exec.Command("go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	jobs, rounds := 20_000, 3
	if quick {
		jobs, rounds = 4_000, 1
	}
	slow := jobs / 3
	setups := []setup{
		{Who: "bare", Workers: 1, Hands: 64, Jobs: jobs},
		{Who: "claims", Workers: 1, Hands: 64, Jobs: jobs},
		{Who: "renewals", Workers: 1, Hands: 64, Jobs: jobs},
		{Who: "bare", Workers: 1, Hands: 256, Latency: 300 * time.Millisecond, Jobs: slow},
		{Who: "renewals", Workers: 1, Hands: 256, Latency: 300 * time.Millisecond, Jobs: slow},
		{Who: "renewals", Workers: 2, Hands: 512, Latency: 300 * time.Millisecond, Jobs: 2 * slow},
		{Who: "renewals", Workers: 1, Hands: 64, Jobs: 1000, Pace: 200},
	}
	if !quick {
		setups = append(setups,
			setup{Who: "bare", Workers: 1, Hands: 64, Jobs: jobs / 2, Sync: "always"},
			setup{Who: "claims", Workers: 1, Hands: 64, Jobs: jobs / 2, Sync: "always"},
			setup{Who: "renewals", Workers: 1, Hands: 64, Jobs: jobs / 2, Sync: "always"},
			setup{Who: "renewals", Workers: 2, Hands: 128, Jobs: jobs},
			setup{Who: "renewals", Workers: 4, Hands: 256, Jobs: jobs},
		)
	}
	runs := make([][]figures, len(setups))
	for round := range rounds { // interleaved, so that a slow minute of the machine hits all alike
		for i, s := range setups {
			fmt.Fprintf(os.Stderr, "\r\033[Kround %d of %d: %s", round+1, rounds, s)
			f, err := b.measure(s)
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			runs[i] = append(runs[i], f)
		}
	}
	fmt.Fprint(os.Stderr, "\r\033[K")
	medians := make([]figures, len(setups))
	for i, fs := range runs {
		medians[i] = median(fs)
	}
	print(medians)
	text, err := json.MarshalIndent(map[string]any{"machine": machine(), "runs": medians}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(cmp.Or(os.Getenv("BENCH_JSON"), "bench.json"), append(text, '\n'), 0o644)
}

func (s setup) String() string {
	text := fmt.Sprintf("%s ×%d, %d in flight, latency %s", s.Who, s.Workers, s.Hands, s.Latency)
	if s.Sync != "" {
		text += ", fsync " + s.Sync
	}
	if s.Pace > 0 {
		text += fmt.Sprintf(", %d/s", s.Pace)
	}
	return text
}

func median(fs []figures) figures {
	slices.SortFunc(fs, func(a, b figures) int { return cmp.Compare(a.Rate, b.Rate) })
	m := fs[len(fs)/2]
	slices.SortFunc(fs, func(a, b figures) int { return cmp.Compare(a.CPU, b.CPU) })
	m.CPU = fs[len(fs)/2].CPU
	slices.SortFunc(fs, func(a, b figures) int { return cmp.Compare(a.P99, b.P99) })
	m.P50, m.P99, m.Max = fs[len(fs)/2].P50, fs[len(fs)/2].P99, fs[len(fs)/2].Max
	return m
}

func machine() string {
	return fmt.Sprintf("%d CPUs, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

func print(all []figures) {
	fmt.Println(machine())
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "run\trenewals/s\t÷ bare\t÷ claims\tCPU µs\tCPU ÷ bare\tpeak RSS MiB\tp50 ms\tp99 ms\tmax ms\t")
	for _, f := range all {
		like := func(who string) *figures {
			for i, o := range all {
				if o.Setup.Who == who && o.Setup.Latency == f.Setup.Latency && o.Setup.Sync == f.Setup.Sync && o.Setup.Pace == f.Setup.Pace {
					return &all[i]
				}
			}
			return nil
		}
		ratio := func(who string, of func(figures) float64) string {
			if o := like(who); o != nil && o.Setup.Who != f.Setup.Who {
				return fmt.Sprintf("%.2f", of(f)/of(*o))
			}
			return ""
		}
		rate := func(f figures) float64 { return f.Rate }
		cpu := func(f figures) float64 { return float64(f.CPU) }
		ms := func(d time.Duration) string {
			if d == 0 {
				return ""
			}
			return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond))
		}
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%s\t%d\t%s\t%d\t%s\t%s\t%s\t\n", f.Setup, f.Rate, ratio("bare", rate), ratio("claims", rate),
			f.CPU.Microseconds(), ratio("bare", cpu), f.PeakRSS>>20, ms(f.P50), ms(f.P99), ms(f.Max))
	}
	t.Flush()
}

// measure runs one setup from an empty broker to an empty queue.
func (b *bench) measure(s setup) (f figures, err error) {
	f.Setup = s
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	store, err := os.MkdirTemp(b.dir, "store-")
	if err != nil {
		return f, err
	}
	defer os.RemoveAll(store)
	ports, err := freePorts(2)
	if err != nil {
		return f, err
	}
	config := fmt.Sprintf("listen: \"127.0.0.1:%d\"\njetstream { store_dir: %q", ports[0], store)
	if s.Sync != "" {
		config += ", sync_interval: " + s.Sync
	}
	path := filepath.Join(store, "nats.conf")
	if err := os.WriteFile(path, []byte(config+" }\n"), 0o600); err != nil {
		return f, err
	}
	natsURL, klarnaURL := fmt.Sprintf("nats://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	environment := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + store, "NATS_URL=" + natsURL, "KLARNA_ENDPOINT=" + klarnaURL, "KLARNA_USERNAME=bench", "KLARNA_PASSWORD=bench",
		"RENEWALS_OPS_ADDR=off", "RENEWALS_LOG_LEVEL=warn", "KLARNA_CONCURRENCY=" + strconv.Itoa(s.Hands/s.Workers),
	}
	for _, args := range [][]string{
		{b.broker, "-c", path},
		{b.renewals, "klarna-sim", "--addr", fmt.Sprintf("127.0.0.1:%d", ports[1]), "--latency", s.Latency.String()},
	} {
		stop, _, err := start(environment, args...)
		if err != nil {
			return f, err
		}
		defer stop()
	}
	js, done, err := connect(ctx, natsURL)
	if err != nil {
		return f, err
	}
	defer done()
	if err := worker.Provision(ctx, js, worker.Provisioning{Accounts: []messages.Account{account}}); err != nil {
		return f, err
	}
	if err := listening(ctx, fmt.Sprintf("127.0.0.1:%d", ports[1])); err != nil {
		return f, err
	}

	results := &collector{published: make(map[string]time.Time, s.Jobs), done: make(chan struct{}), want: s.Jobs}
	sub, err := js.Conn().Subscribe(messages.RecordSubject(messages.KindPaid, "*", account), results.take)
	if err != nil {
		return f, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return f, err
	}
	if s.Pace == 0 {
		if err := publish(ctx, js, s, results); err != nil {
			return f, err
		}
	}
	var workers []*exec.Cmd
	for range s.Workers {
		args := []string{b.renewals, "work"}
		if s.Who != "renewals" {
			args = []string{b.looping, "loop", s.Who, "", strconv.Itoa(s.Hands / s.Workers)}
		}
		stop, cmd, err := start(environment, args...)
		if err != nil {
			return f, err
		}
		defer stop()
		workers = append(workers, cmd)
	}
	if s.Pace > 0 {
		if err := publish(ctx, js, s, results); err != nil {
			return f, err
		}
	}
	select {
	case <-results.done:
	case <-ctx.Done():
		return f, fmt.Errorf("%d of %d results", results.count(), s.Jobs)
	}
	elapsed := results.last.Sub(results.first)
	f.Rate = float64(s.Jobs-1) / elapsed.Seconds()
	for _, w := range workers {
		if err := w.Process.Signal(syscall.SIGTERM); err != nil {
			return f, err
		}
		_ = w.Wait()
		f.CPU += (w.ProcessState.UserTime() + w.ProcessState.SystemTime()) / time.Duration(s.Jobs)
		f.PeakRSS = max(f.PeakRSS, w.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
	}
	f.P50, f.P99, f.Max = results.latencies(s)
	return f, b.check(ctx, js, klarnaURL, s)
}

// check compares the books with the journal: no promise is weakened for speed.
func (b *bench) check(ctx context.Context, js jetstream.JetStream, klarnaURL string, s setup) error {
	response, err := http.Get(klarnaURL + "/sim/counts")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var counts struct {
		Orders int `json:"order_count"`
	}
	if err := json.NewDecoder(response.Body).Decode(&counts); err != nil {
		return err
	}
	stream, err := js.Stream(ctx, worker.StreamJournal)
	if err != nil {
		return err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(messages.RecordSubject(messages.KindPaid, "*", "*")))
	if err != nil {
		return err
	}
	for _, n := range info.State.Subjects {
		if n != 1 {
			return errors.New("a renewal is paid twice")
		}
	}
	if counts.Orders != s.Jobs || len(info.State.Subjects) != s.Jobs {
		return fmt.Errorf("%d jobs, %d orders, %d paid", s.Jobs, counts.Orders, len(info.State.Subjects))
	}
	return nil
}

// collector sees results as they are published.
type collector struct {
	mu          sync.Mutex
	want, got   int
	first, last time.Time
	published   map[string]time.Time
	took        []time.Duration
	done        chan struct{}
}

func (c *collector) take(m *nats.Msg) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got == 0 {
		c.first = now
	}
	if c.got++; len(c.published) > 0 {
		var r struct {
			Subscription string `json:"subscription_id"`
		}
		if json.Unmarshal(m.Data, &r) == nil {
			c.took = append(c.took, now.Sub(c.published[r.Subscription]))
		}
	}
	if c.got == c.want {
		c.last = now
		close(c.done)
	}
}

func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got
}

// latencies are from publish to result, only where jobs came at a pace.
func (c *collector) latencies(s setup) (p50, p99, most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Pace == 0 || len(c.took) == 0 {
		return 0, 0, 0
	}
	slices.Sort(c.took)
	return c.took[len(c.took)/2], c.took[len(c.took)*99/100], c.took[len(c.took)-1]
}

func publish(ctx context.Context, js jetstream.JetStream, s setup, c *collector) error {
	due := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	var tick *time.Ticker
	if s.Pace > 0 {
		tick = time.NewTicker(time.Second / time.Duration(s.Pace))
		defer tick.Stop()
	}
	for n := range s.Jobs {
		id := strconv.Itoa(1_000_000 + n)
		payload := fmt.Appendf(nil, `{"id":"%[1]s/2026-12/1","subscription_id":"%[1]s","period":"2026-12","attempt":1,"due_at":"%[2]s","customer_token":"ok-%[1]s",`+
			`"order":{"purchase_currency":"EUR","order_amount":3198,"order_tax_amount":510,"auto_capture":true,"merchant_reference1":"%[1]s-2026-12","order_lines":[`+
			`{"type":"digital","reference":"19-402","name":"Streaming Service Monthly","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,"total_discount_amount":0,"total_tax_amount":255,"subscription":{"name":"Premium Monthly {{%[1]s}}","interval":"MONTH","interval_count":1}},`+
			`{"type":"digital","reference":"19-403","name":"Second Screen","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,"total_discount_amount":0,"total_tax_amount":255,"subscription":{"name":"Premium Monthly {{%[1]s}}","interval":"MONTH","interval_count":1}}]}}`, id, due)
		m := &nats.Msg{Subject: messages.DueSubject(account), Data: payload, Header: nats.Header{messages.HeaderMsgID: {id + "/2026-12/1"}}}
		if tick != nil {
			<-tick.C
			c.mu.Lock()
			c.published[id] = time.Now()
			c.mu.Unlock()
		}
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(10*time.Second)); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func connect(ctx context.Context, url string) (jetstream.JetStream, func(), error) {
	nc, err := nats.Connect(url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, err
	}
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		_, err = js.AccountInfo(one)
		cancel()
		if err == nil {
			return js, nc.Close, nil
		}
	}
	return nil, nil, fmt.Errorf("the broker does not answer: %w", err)
}

func listening(ctx context.Context, addr string) error {
	var dialer net.Dialer
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// start runs a process; stop ends it.
func start(environment []string, args ...string) (stop func(), cmd *exec.Cmd, err error) {
	cmd = exec.Command(args[0], args[1:]...)
	cmd.Env = environment
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if said.Len() > 0 && os.Getenv("BENCH_VERBOSE") != "" {
			fmt.Fprintf(os.Stderr, "\n%s said: %s\n", filepath.Base(args[0]), said.String())
		}
	}, cmd, nil
}
