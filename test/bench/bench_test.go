//go:build linux

package main

import (
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
	os.Exit(m.Run())
}

// TestMeasure runs every program on every kind of broker with a few jobs.
func TestMeasure(t *testing.T) {
	programs, err := build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		setup setup
	}{
		{"the worker, whose records the loops' are as large as", setup{Who: "renewals", Workers: 1, Accounts: 1, Hands: 4, Replicas: 1, Jobs: 60, Light: true}},
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
	if got := ours.ratio(bare, rate); got != 0.8 {
		t.Errorf("got %v, want 0.8", got)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	run := func(s setup, f figures) measured {
		s.Accounts, s.Replicas = 1, 1
		return measured{Setup: s, Median: f, Rounds: []figures{f}}
	}
	at := func(who string) setup {
		return setup{Group: "Klarna answers at once", Who: who, Workers: 1, Hands: fastHands}
	}
	r := report{
		Runs: []measured{
			run(at("bare"), figures{Rate: 4000, CPU: 100}),
			run(at("claims"), figures{Rate: 3000, CPU: 150}),
			run(at("renewals"), figures{Rate: 2800, CPU: 151}),
			run(setup{Group: groupLatency, Who: "bare", Workers: 1, Hands: slowHands, Latency: slow}, figures{Rate: 832}),
			run(setup{Group: groupLatency, Who: "renewals", Workers: 1, Hands: slowHands, Latency: slow}, figures{Rate: 840}),
			run(setup{Group: groupLatency, Who: "renewals", Workers: 2, Hands: slowHands, Latency: slow}, figures{Rate: 1596}),
			run(setup{Group: groupPace, Who: "bare", Workers: 1, Hands: slowHands, Latency: slow, Pace: pace}, figures{P99: 303 * time.Millisecond}),
			run(setup{Group: groupPace, Who: "renewals", Workers: 1, Hands: slowHands, Latency: slow, Pace: pace}, figures{P99: 304 * time.Millisecond}),
		},
		Memory: &drained{Jobs: 1_000_000, PeakWorker: 65 << 20},
	}
	want := []string{
		"≥ 0.9 0.933 met", "≥ 0.7 0.700 met", "≤ 1.5 1.510 missed", "≥ 0.97 0.984 met 0.975", "≥ 1.95 1.900 missed",
		"≤ 5 ms  not in this run", "≤ 5 ms 4.0 ms met 3.0 ms", "≤ 64 MiB 65.0 MiB missed",
	}
	r.Bars = r.judge()
	for n, row := range r.bars(true)[1:] {
		if got := strings.TrimSpace(strings.Join(row[1:], " ")); got != want[n] {
			t.Errorf("%s: got %q, want %q", row[0], got, want[n])
		}
	}
	if got := len(r.bars(false)); got != len(want) {
		t.Errorf("%d rows without the bar that is not in this run, want %d", got, len(want))
	}
	columns := -1
	for line := range strings.Lines(r.runs().markdown()) {
		if n := strings.Count(line, "|"); columns < 0 {
			columns = n
		} else if n != columns {
			t.Errorf("%d columns, want %d: %s", n, columns, line)
		}
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
