//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// figures are what one run came to. Processor times are those of all processes of a kind in the steady middle of the run,
// for each renewal.
type figures struct {
	Rate         float64       `json:"renewals_per_second"`
	CPU          time.Duration `json:"worker_cpu_ns"`
	BrokerCPU    time.Duration `json:"broker_cpu_ns"`
	SimulatorCPU time.Duration `json:"simulator_cpu_ns"`
	PeakRSS      int64         `json:"peak_rss_bytes"` // of the largest worker
	Records      recordSizes   `json:"record_bytes"`   // of the last of each kind
	// From publish to result, of the jobs that came at a pace.
	P50 time.Duration `json:"p50_ns,omitempty"`
	P99 time.Duration `json:"p99_ns,omitempty"`
	Max time.Duration `json:"max_ns,omitempty"`
}

// runLimit is for one run, which is meant to take seconds.
const runLimit = 2 * time.Minute

// measure runs one setup from an empty broker to an empty queue.
func measure(ctx context.Context, t tools, dir string, s setup, seen func(*world)) (figures, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runLimit, fmt.Errorf("not done within %s", runLimit))
	defer cancel()
	w, err := open(ctx, t, dir, s)
	defer w.close()
	if err != nil {
		return figures{}, err
	}
	seen(w)
	f, err := w.measure(ctx)
	if err == nil {
		err = w.audit(ctx)
	}
	if err == nil {
		f.Records, err = w.recordSizes(ctx)
	}
	return f, w.explain(err)
}

// recordSizes measures the last record of each kind in the journal.
func (w *world) recordSizes(ctx context.Context) (sizes recordSizes, err error) {
	journal, err := w.js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return sizes, err
	}
	for _, kind := range []struct {
		of   messages.Kind
		size *recordSize
	}{{messages.KindCharging, &sizes.Claim}, {messages.KindPaid, &sizes.Paid}} {
		last, err := journal.GetLastMsgForSubject(ctx, messages.RecordFilter(kind.of, "*"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // the bare loop claims nothing
		}
		if err != nil {
			return sizes, fmt.Errorf("read the last record %s: %w", kind.of, err)
		}
		*kind.size = sizeOfRecord(last)
	}
	return sizes, nil
}

func (w *world) measure(ctx context.Context) (f figures, err error) {
	s := w.setup
	from, to := s.steady()
	begin, end, all := w.results.reached(from), w.results.reached(to), w.results.reached(s.Jobs)
	backlog := s.Jobs
	if s.Pace > 0 {
		backlog = s.Hands // to wake everybody up: what is measured is not the start
	}
	if s.Who == "writes" {
		backlog = 0
	}
	woken := w.results.reached(max(backlog, 1))
	warmUp := s
	warmUp.Pace = 0
	if err := publish(ctx, w.js, warmUp, 0, backlog, w.results); err != nil {
		return f, err
	}
	if err := w.startWorkers(); err != nil {
		return f, err
	}
	if s.Pace > 0 {
		if err := await(ctx, w, woken); err != nil {
			return f, w.missing(err)
		}
		defer w.pace(ctx, backlog)(&err)
	}
	if err := await(ctx, w, begin); err != nil {
		return f, w.missing(err)
	}
	before, err := w.meter()
	if err != nil {
		return f, err
	}
	if err := await(ctx, w, end); err != nil {
		return f, w.missing(err)
	}
	after, err := w.meter()
	if err != nil {
		return f, err
	}
	if err := await(ctx, w, all); err != nil {
		return f, w.missing(err)
	}
	if err := w.figure(&f, from, to, before, after); err != nil {
		return f, err
	}
	return f, w.stopWorkers()
}

// pace publishes what is left at the pace of the setup, beside the caller. The function that it returns ends that, and adds
// its error to the caller's.
func (w *world) pace(ctx context.Context, from int) (end func(*error)) {
	publishing, stop := context.WithCancel(ctx)
	published := make(chan error, 1)
	go func() { published <- publish(publishing, w.js, w.setup, from, w.setup.Jobs, w.results) }()
	return func(err *error) {
		defer stop()
		if *err != nil {
			stop()
		}
		if failed := <-published; *err == nil {
			*err = failed
		}
	}
}

// figure computes what was measured between two results.
func (w *world) figure(f *figures, from, to int, before, after reading) error {
	results := w.results.all()
	f.Rate = float64(to-from) / (results[to-1].at - results[from-1].at).Seconds()
	handled := time.Duration(max(after.handled-before.handled, 1))
	f.CPU = (after.workers - before.workers) / handled
	f.BrokerCPU = (after.brokers - before.brokers) / handled
	f.SimulatorCPU = (after.simulator - before.simulator) / handled
	for _, p := range w.workers {
		_, peak, err := p.memory()
		if err != nil {
			return err
		}
		f.PeakRSS = max(f.PeakRSS, peak)
	}
	if took := w.results.latencies(); len(took) > 0 {
		f.P50, f.P99, f.Max = took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	}
	return nil
}

// missing says how far a run came that did not end.
func (w *world) missing(err error) error {
	return fmt.Errorf("%d of %d results: %w", w.results.count(), w.setup.Jobs, err)
}

// reading is what the processes have used at one moment.
type reading struct {
	handled                     int
	workers, brokers, simulator time.Duration
}

func (w *world) meter() (r reading, err error) {
	for _, kind := range []struct {
		processes []*process
		sum       *time.Duration
	}{{w.workers, &r.workers}, {w.brokers, &r.brokers}, {[]*process{w.simulator}, &r.simulator}} {
		for _, p := range kind.processes {
			used, err := p.cpu()
			if err != nil {
				return r, err
			}
			*kind.sum += used
		}
	}
	r.handled = w.results.count()
	return r, nil
}

// median is the middle one of a figure of all rounds; of an even number the upper.
func median[T cmp.Ordered](of []T) T {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// medians takes the median of each figure by itself.
func medians(rounds []figures) figures {
	return figures{
		Rate:         medianOf(rounds, func(f figures) float64 { return f.Rate }),
		CPU:          medianOf(rounds, func(f figures) time.Duration { return f.CPU }),
		BrokerCPU:    medianOf(rounds, func(f figures) time.Duration { return f.BrokerCPU }),
		SimulatorCPU: medianOf(rounds, func(f figures) time.Duration { return f.SimulatorCPU }),
		PeakRSS:      medianOf(rounds, func(f figures) int64 { return f.PeakRSS }),
		P50:          medianOf(rounds, func(f figures) time.Duration { return f.P50 }),
		P99:          medianOf(rounds, func(f figures) time.Duration { return f.P99 }),
		Max:          medianOf(rounds, func(f figures) time.Duration { return f.Max }),
	}
}

func medianOf[T cmp.Ordered](rounds []figures, figure func(figures) T) T {
	var all []T
	for _, f := range rounds {
		all = append(all, figure(f))
	}
	return median(all)
}
