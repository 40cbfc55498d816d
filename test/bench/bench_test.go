//go:build linux

package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// TestMain lets the test's own binary be the loop that the worker is measured against.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && parts[os.Args[1]] != nil {
		os.Exit(run())
	}
	var err error
	if binaries, err = os.MkdirTemp("", "bench"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(binaries)
	os.Exit(code)
}

var (
	binaries string // where the programs are built
	built    = sync.OnceValues(func() (tools, error) { return build(context.Background(), binaries) })
)

// programs are built once for all tests.
func programs(t *testing.T) tools {
	t.Helper()
	all, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestMeasure runs every program on every kind of broker with a few jobs.
func TestMeasure(t *testing.T) {
	programs := programs(t)
	for _, tt := range []struct {
		name  string
		setup setup
	}{
		{"the worker, whose records are the measure", setup{Who: "renewals", Workers: 1, Accounts: 1, Hands: 4, Replicas: 1, Jobs: 60, Light: true}},
		{"bare", setup{Who: "bare", Workers: 1, Accounts: 1, Hands: 4, Replicas: 1, Jobs: 60}},
		{"bare, and Klarna light and slow", setup{Who: "bare", Workers: 1, Accounts: 1, Hands: 4, Replicas: 1, Jobs: 60, Light: true, Latency: 10 * time.Millisecond}},
		{"claims on a cluster", setup{Who: "claims", Workers: 1, Accounts: 1, Hands: 4, Replicas: 3, Jobs: 60}},
		{"writes, fsync always", setup{Who: "writes", Workers: 1, Accounts: 1, Hands: 4, Replicas: 1, Jobs: 60, Sync: "always"}},
		{"two workers of three accounts", setup{Who: "renewals", Workers: 2, Accounts: 3, Hands: 6, Replicas: 1, Jobs: 90}},
		{"at a pace, Klarna takes a while", setup{Who: "renewals", Workers: 1, Accounts: 1, Hands: 8, Replicas: 1, Jobs: 40, Pace: 100, Latency: 50 * time.Millisecond}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := measure(t.Context(), programs, t.TempDir(), tt.setup, func(*world) {})
			if err != nil {
				t.Fatal(err)
			}
			if f.Rate <= 0 || f.PeakRSS <= 1<<20 {
				t.Errorf("rate %v, memory %d, want both", f.Rate, f.PeakRSS)
			}
			if tt.setup.Who == "renewals" && programs.records.Paid.Header == 0 {
				programs.records = f.Records
			}
			if got, want := f.Records, programs.records; tt.setup.Who != "bare" && !alike(got, want) || got.Paid.Body == 0 {
				t.Errorf("records of %s bytes, want %s as the worker's are", got, want)
			}
			if paced := tt.setup.Pace > 0; paced != (f.P99 > 0) || f.P99 < f.P50 || f.Max < f.P99 || paced && f.P50 < tt.setup.Latency {
				t.Errorf("p50 %s, p99 %s, max %s with Klarna taking %s", f.P50, f.P99, f.Max, tt.setup.Latency)
			}
		})
	}
	t.Run("a backlog", func(t *testing.T) {
		d, err := drain(t.Context(), programs, t.TempDir(), 300, 20*time.Millisecond, func(*world) {})
		if err != nil {
			t.Fatal(err)
		}
		if d.Done != 300 || d.Records != 600 || d.Disk < 600*500 || d.PeakWorker < 1<<20 || d.PeakBroker < 1<<20 || len(d.Samples) < 2 {
			t.Errorf("%+v", d)
		}
		if last := d.Samples[len(d.Samples)-1]; last.Left != 0 {
			t.Errorf("the curve ends with %d jobs left, want 0", last.Left)
		}
	})
}

// alike allows for numbers within a record that have a digit more.
func alike(a, b recordSizes) bool {
	near := func(a, b int) bool { return a > 100 && max(a-b, b-a) <= 30 }
	return near(a.Claim.Body, b.Claim.Body) && near(a.Claim.Header, b.Claim.Header) && near(a.Paid.Body, b.Paid.Body) && near(a.Paid.Header, b.Paid.Header)
}

func TestDiedByItself(t *testing.T) {
	t.Parallel()
	died := make(chan error, 1)
	w := &world{died: died}
	shell := func(script string) *process {
		p, err := start(t.TempDir(), "broker", nil, died, "/bin/sh", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	shell("echo disk full >&2; exit 3")
	err := await(t.Context(), w, time.After(time.Minute))
	if text := fmt.Sprint(err); !strings.Contains(text, "exit status 3") || !strings.Contains(text, "disk full") {
		t.Errorf("got %q, want the exit code and what it said last", text)
	}
	shell("echo bind: address already in use; exit 1")
	if err := await(t.Context(), w, time.After(time.Minute)); !errors.Is(err, errPortTaken) {
		t.Errorf("got %v, want errPortTaken", err)
	}
	p := shell("sleep 60")
	p.tell(syscall.SIGTERM)
	if err := p.end(); err != nil || len(died) != 0 {
		t.Errorf("one that was told to end: %v, reported %d times, want neither", err, len(died))
	}
}

// TestSlowDisk syncs a file as a slowed broker would, and ends what is slowed as any other process.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	if !canSlow() {
		t.Skip("there is no strace here that may trace, and make bench leaves these groups out")
	}
	const by = 300 * time.Millisecond
	file := filepath.Join(t.TempDir(), "block")
	if err := os.WriteFile(file, []byte("record"), 0o600); err != nil {
		t.Fatal(err)
	}
	died := make(chan error, 1)
	run := func(args ...string) *process {
		p, err := start(t.TempDir(), args[0], []string{"PATH=" + os.Getenv("PATH")}, died, slowed(by, args)...)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	began := time.Now()
	p := run("sync", file)
	<-p.done
	if took := time.Since(began); took < by || !p.cmd.ProcessState.Success() {
		t.Errorf("%v after %s, want success after %s or more", p.cmd.ProcessState, took, by)
	}
	p = run("sleep", "60")
	name := func() string {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.cmd.Process.Pid))
		return strings.TrimSpace(string(text))
	}
	for tick, bound := time.NewTicker(10*time.Millisecond), time.After(20*time.Second); name() != "sleep"; {
		select {
		case <-tick.C:
		case <-bound:
			t.Fatalf("the process is %q, want the program itself, whose processor time is counted", name())
		}
	}
	p.tell(syscall.SIGKILL)
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

func TestSteady(t *testing.T) {
	t.Parallel()
	// Four hands that each need 300 ms: results come in waves, and no wave may be counted in part.
	s := setup{Workers: 2, Hands: 2, Jobs: 50}
	from, to := s.steady()
	at := func(n int) float64 { return 0.3*float64((n-1)/4+1) + 0.001*float64(n%4) }
	if got, want := float64(to-from)/(at(to)-at(from)), 4/0.3; math.Abs(got-want) > 1e-6 {
		t.Errorf("%d to %d: %v a second, want %v", from, to, got, want)
	}
	if from < 5 || to > 46 {
		t.Errorf("%d to %d of 50, want neither the start nor the end", from, to)
	}
	for _, quick := range []bool{true, false} {
		for _, s := range setups(quick, 200) { // on a slow machine
			if from, to := s.steady(); from < 1 || to <= from || to > s.Jobs || s.Pace > 0 && from < s.Hands {
				t.Errorf("%s: %d to %d of %d", s, from, to, s.Jobs)
			}
		}
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	s := setup{Who: "renewals", Jobs: 3}
	key := func(n int) (k uuid) { copy(k[:], renewal(n)); return k }
	paid := func(n int, order byte) result { return result{renewal: key(n), order: uuid{order}} }
	good := []result{paid(2, 'c'), paid(0, 'a'), paid(1, 'b')}
	for _, tt := range []struct {
		name    string
		results []result
		orders  int
		want    string
	}{
		{name: "every job once", results: good, orders: 3},
		{name: "a result too many", results: append(good[:3:3], paid(1, 'd')), orders: 4, want: "recorded paid twice"},
		{name: "one order for two", results: []result{paid(0, 'a'), paid(1, 'a'), paid(2, 'c')}, orders: 3, want: "for two renewals"},
		{name: "a job without a result", results: []result{paid(0, 'a'), paid(1, 'b'), paid(7, 'c')}, orders: 3, want: "has no result"},
		{name: "an order that no result names", results: good, orders: 4, want: "4 orders"},
		{name: "a result that nobody asked for", results: append(good[:3:3], paid(7, 'd')), orders: 3, want: "4 results"},
	} {
		err := audit(s, tt.results, tt.orders)
		if got := fmt.Sprint(err); tt.want == "" && err != nil || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestRatio(t *testing.T) {
	t.Parallel()
	// The second round was slow for both: the medians alone would say 100 ÷ 200.
	ours := measured{Rounds: []figures{{Rate: 160}, {Rate: 80}, {Rate: 100}}}
	bare := measured{Rounds: []figures{{Rate: 200}, {Rate: 100}, {Rate: 250}}}
	if got, want := ours.ratio(bare, rate), (spread{Median: 0.8, Min: 0.4, Max: 0.8}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := ours.ratio(bare, rate).text("%.2f"), "0.80 (0.40–0.80)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	run := func(s setup, f figures) measured {
		s.Accounts, s.Replicas = 1, 1
		return measured{Setup: s, Median: f, Rounds: []figures{f}}
	}
	fast := func(group, who string) setup { return setup{Group: group, Who: who, Workers: 1, Hands: fastHands} }
	spaced := fast(groupAtOnce, "renewals")
	spaced.Spaced = true
	slowly := func(who string, workers int) setup {
		return setup{Group: groupLatency, Who: who, Workers: workers, Hands: slowHands, Latency: slow}
	}
	paced := func(who string, latency time.Duration, spaced bool) setup {
		return setup{Group: groupPace, Who: who, Workers: 1, Hands: slowHands, Latency: latency, Pace: pace, Spaced: spaced}
	}
	r := report{
		Groups: []*group{{Name: groupAtOnce, Light: true, Weather: []weather{{Steal: 0.01, Load: 0.02}, {Steal: 0.3}}}},
		Asked:  1,
		Runs: []measured{
			run(fast(groupAtOnce, "bare"), figures{Rate: 4000, CPU: 100, BrokerCPU: 70}),
			run(fast(groupAtOnce, "claims"), figures{Rate: 3000, CPU: 150, BrokerCPU: 100}),
			run(fast(groupAtOnce, "renewals"), figures{Rate: 2700, CPU: 161, BrokerCPU: 111}),
			run(spaced, figures{Rate: 2200, CPU: 170, BrokerCPU: 160}),
			run(fast(groupSync, "bare"), figures{Rate: 1000}),
			run(fast(groupSync, "renewals"), figures{Rate: 600}),
			run(fast(groupSlow, "bare"), figures{Rate: 100}),
			run(fast(groupSlow, "renewals"), figures{Rate: 250}),
			run(slowly("bare", 1), figures{Rate: 832}),
			run(slowly("renewals", 1), figures{Rate: 840}),
			run(slowly("renewals", 2), figures{Rate: 1596}),
			run(paced("bare", slow, false), figures{P99: 303 * time.Millisecond}),
			run(paced("renewals", slow, false), figures{P99: 304 * time.Millisecond}),
			run(paced("renewals", 0, true), figures{P99: 8 * time.Millisecond}),
			run(setup{Group: groupRate, Who: "renewals", Workers: 1, Rate: liveRate, Latency: rateLatencies[1]}, figures{Rate: 0.96 * liveRate}),
		},
		Memory: &drained{Jobs: 1_000_000, PeakWorker: 65 << 20, Disk: 2_590_000_000},
	}
	want := []string{
		"≥ 0.9 0.900 met", "≥ 0.65 0.675 met", "≥ 1.5 0.600 missed", "≥ 1  not in this run", "≥ 1.5 2.500 met", "≥ 1  not in this run", "≤ 1.6 1.610 missed", "≤ 1.1 1.110 missed", "≤ 1.7 1.600 met",
		"≥ 0.97 0.984 met 0.975", "≥ 1.95 1.900 missed",
		"≥ 0.97  not in this run", "≥ 0.97 0.960 missed", "≥ 0.97  not in this run", "≥ 0.97  not in this run", "≤ 5 ms  not in this run", "≤ 7 ms 8.0 ms missed", "≤ 5 ms 4.0 ms met 3.0 ms",
		"≤ 64 MiB 65.0 MiB missed", "≤ 2.6 kB 2.59 kB met",
	}
	r.Bars = r.judge()
	rows := r.bars(true)[1:]
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	for n, row := range rows {
		if got := strings.TrimSpace(strings.Join(row[1:], " ")); got != want[n] {
			t.Errorf("%s: got %q, want %q", row[0], got, want[n])
		}
	}
	if got, want := len(r.bars(false)), 1+len(want)-6; got != want {
		t.Errorf("%d rows without the bars that are not in this run, want %d", got, want)
	}
	if got, want := r.heading(groupAtOnce), groupAtOnce+"; light simulator; rounds: 1, 1 discarded; of the processors the host took 1.0 %, other programs 2.0 %"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	columns := -1
	for line := range strings.Lines(r.runs(true).markdown()) {
		if n := strings.Count(line, "|"); columns < 0 {
			columns = n
		} else if n != columns {
			t.Errorf("%d columns, want %d: %s", n, columns, line)
		}
	}
}

// TestRoundsThatCount plays rounds in weather of every kind: no figure of a discarded one may be used, and a machine that is
// never quiet is told of rather than waited for.
func TestRoundsThatCount(t *testing.T) {
	t.Parallel()
	calm, stolen, busy := weather{Steal: mostSteal}, weather{Steal: 2 * mostSteal}, weather{Load: 2 * mostLoad}
	for _, tt := range []struct {
		name      string
		weather   []weather // of the rounds, as long as there are any
		counted   string    // which rounds' figures are used
		discarded int
	}{
		{name: "quiet", weather: []weather{calm, calm, calm, calm}, counted: "[0 1]"},
		{name: "noisy at first", weather: []weather{stolen, calm, busy, calm}, counted: "[1 3]", discarded: 2},
		{name: "hardly quiet", weather: []weather{stolen, busy, calm, busy, calm}, counted: "[2]", discarded: 3},
		{name: "never quiet", weather: []weather{stolen, busy, busy, stolen, calm}, counted: "[0 1 2 3]"},
	} {
		groups := groupsOf([]setup{{Group: "one", Who: "bare"}, {Group: "one", Who: "renewals"}, {Group: "other", Who: "bare"}})
		if len(groups) != 2 || len(groups[0].runs) != 2 {
			t.Fatalf("%d groups, want 2", len(groups))
		}
		g := groups[0]
		var order []string
		for round := 0; !g.ready(2, 4); round++ {
			try := func(s setup) (figures, error) {
				order = append(order, s.Who)
				return figures{Rate: float64(round)}, nil
			}
			var now clocks
			clock := func() (clocks, error) {
				read := now
				now.all += time.Second
				now.steal += time.Duration(tt.weather[round].Steal * float64(time.Second))
				now.busy += time.Duration(tt.weather[round].Load*float64(time.Second)) + time.Second/10
				now.own += time.Second / 10
				return read, nil
			}
			if err := g.play(try, clock); err != nil {
				t.Fatal(err)
			}
		}
		g.keep()
		for _, m := range g.runs {
			var counted []int
			for _, f := range m.Rounds {
				counted = append(counted, int(f.Rate))
			}
			if got := fmt.Sprint(counted); got != tt.counted || g.discarded() != tt.discarded {
				t.Errorf("%s: rounds %s and %d discarded, want %s and %d", tt.name, got, g.discarded(), tt.counted, tt.discarded)
			}
		}
		if got := strings.Join(order[:4], " "); got != "bare renewals renewals bare" {
			t.Errorf("%s: in the order %s, want every other round backwards", tt.name, got)
		}
	}
}

func TestClocks(t *testing.T) {
	t.Parallel()
	before, err := parseClocks([]byte("cpu  100 10 50 800 20 5 5 10 7 0\ncpu0 1 2 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseClocks([]byte("cpu  140 10 60 830 20 5 5 30 7 0\ncpu0 1 2 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	after.own, after.kernel = 300*time.Millisecond, 100*time.Millisecond
	if got, want := after.since(before), (weather{Steal: 0.2, Load: 0.1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if parent, used, err := parseStat([]byte("77 (jbd2/a ) b) S 2 0 0 0 -1 2129984 0 0 0 0 3 40 0 0 20 0 1 0 99")); err != nil || parent != "2" || used != 430*time.Millisecond {
		t.Errorf("parent %q, %s, %v", parent, used, err)
	}
	if _, err := parseClocks([]byte("cpu 1 2\n")); err == nil {
		t.Error("a line without steal was read")
	}
	if now, err := readClocks(); err != nil || now.all <= 0 || now.own <= 0 || now.busy < now.own/2 {
		t.Errorf("this machine's: %+v, %v", now, err)
	}
}

func TestPlot(t *testing.T) {
	t.Parallel()
	d := &drained{Jobs: 1_000_000, PeakWorker: 61 << 20}
	for n := range 600 {
		s := sample{At: time.Duration(n+1) * time.Second, Worker: 40 << 20, Left: 1_000_000 - n*1_000_000/599}
		if n == 301 {
			s.Worker = 61 << 20 // a single sample
		}
		d.Samples = append(d.Samples, s)
	}
	text := plot(d)
	if len(text) > 10<<10 {
		t.Errorf("%d bytes, want at most 10 kB", len(text))
	}
	if want := fmt.Sprintf(",%.1f ", 28+130-61.0/80*130); !strings.Contains(text, want) {
		t.Errorf("the peak is not drawn: no point%s", want)
	}
	for decoder := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), "memory.svg"), []byte(text), 0o600); err != nil {
		t.Error(err)
	}
}

// paidMessage is the record of a paid renewal.
type paidMessage struct {
	jetstream.Msg
	job int
}

func (m paidMessage) Subject() string {
	return messages.RecordAddress{Kind: messages.KindPaid, Renewal: renewal(m.job), Due: due, Account: defaultAccount}.Subject()
}

func (m paidMessage) Data() []byte {
	return fmt.Appendf(nil, `{"renewal_key":%q,"order_id":"%s"}`, renewal(m.job).Key(), orderOf(m.job))
}

func (m paidMessage) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: uint64(m.job + 1)}}, nil
}

// orderOf is as long as Klarna's order IDs are.
func orderOf(job int) string { return fmt.Sprintf("72f11fba-23a7-492d-a000-%012d", job) }

func TestCollector(t *testing.T) {
	t.Parallel()
	c := newCollector(3)
	first, third := c.reached(1), c.reached(3)
	var wait sync.WaitGroup
	wait.Go(func() {
		<-first
		<-third
	})
	for n := range 3 {
		if n == 2 {
			c.publishing(n)
		}
		c.take(paidMessage{job: n})
	}
	wait.Wait()
	<-c.reached(2) // which has passed
	if got := c.count(); got != 3 {
		t.Errorf("got %d results, want 3", got)
	}
	if got := len(c.latencies()); got != 1 {
		t.Errorf("got %d latencies, want that of the job at a pace", got)
	}
	if r := c.all()[1]; r.renewal.String() != string(renewal(1)) || string(r.order[:]) != orderOf(1) {
		t.Errorf("got %s, order %s", r.renewal, r.order)
	}
	if got := c.lastSequence(); got != 3 {
		t.Errorf("last sequence %d, want 3", got)
	}
}
