//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// drained is what one worker needed for a backlog, and what the journal of it weighs.
type drained struct {
	Jobs      int           `json:"jobs"`
	Done      int           `json:"done"` // less where the time was over
	Published time.Duration `json:"publishing_ns"`
	Took      time.Duration `json:"draining_ns"`
	Rate      float64       `json:"renewals_per_second"`

	PeakWorker    int64    `json:"worker_peak_bytes"`
	PeakBroker    int64    `json:"broker_peak_bytes"`
	PeakSimulator int64    `json:"simulator_peak_bytes"`
	Samples       []sample `json:"samples"`

	Records   int           `json:"journal_records"`
	Disk      int64         `json:"journal_disk_bytes"`
	Queued    int64         `json:"broker_heap_of_queue_bytes"`   // live heap of all jobs before the first is taken
	Journal   int64         `json:"broker_heap_of_journal_bytes"` // live heap of all records, after a restart
	Restarted int64         `json:"broker_restarted_bytes"`       // resident set after that restart
	Restart   time.Duration `json:"broker_restart_ns"`            // until it answers
}

// sample is what the processes had at one moment of the draining.
type sample struct {
	At        time.Duration `json:"at_ns"`
	Worker    int64         `json:"worker_bytes"`
	Broker    int64         `json:"broker_bytes"`
	Simulator int64         `json:"simulator_bytes"`
	Left      int           `json:"left"`
}

// drainLimit is for the draining alone.
const drainLimit = 10 * time.Minute

// drain publishes a backlog and watches one worker's memory until the backlog is gone or the time is over.
func drain(ctx context.Context, t tools, dir string, jobs int, every time.Duration, seen func(*world)) (*drained, error) {
	s := setup{Group: "draining", Who: "renewals", Workers: 1, Accounts: 1, Hands: fastHands, Replicas: 1, Jobs: jobs, Profiles: true}
	w, err := open(ctx, t, dir, s)
	defer w.close()
	if err != nil {
		return nil, err
	}
	seen(w)
	d, err := w.drain(ctx, every)
	return d, w.explain(err)
}

func (w *world) drain(ctx context.Context, every time.Duration) (*drained, error) {
	d := &drained{Jobs: w.setup.Jobs}
	empty, err := w.heap(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := publish(ctx, w.js, w.setup, 0, w.setup.Jobs, w.results); err != nil {
		return nil, err
	}
	d.Published = time.Since(began)
	queued, err := w.heap(ctx)
	if err != nil {
		return nil, err
	}
	d.Queued = queued - empty
	if err := w.startWorkers(); err != nil {
		return nil, err
	}
	if err := w.watch(ctx, d, every); err != nil {
		return nil, err
	}
	if err := w.stopWorkers(); err != nil {
		return nil, err
	}
	if d.Done < d.Jobs {
		return d, nil // the time is over: the audit would only miss the rest
	}
	ctx, cancel := context.WithTimeoutCause(ctx, runLimit, fmt.Errorf("not audited within %s", runLimit))
	defer cancel()
	if err := w.audit(ctx); err != nil {
		return nil, err
	}
	return d, w.weigh(ctx, d, empty)
}

// watch samples until the backlog is gone or the time is over.
func (w *world) watch(ctx context.Context, d *drained, every time.Duration) error {
	began := time.Now()
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	over := make(chan struct{})
	all := w.results.reached(d.Jobs)
	go func() {
		defer close(over)
		select {
		case <-all:
		case <-limit.C:
		case <-ctx.Done():
		}
	}()
	for done := false; !done; {
		select {
		case <-over:
			done = true
		default:
			if err := await(ctx, w, tick.C); err != nil {
				return w.missing(err)
			}
		}
		s := sample{At: time.Since(began), Left: d.Jobs - w.results.count()}
		for _, p := range []struct {
			process   *process
			now, peak *int64
		}{{w.workers[0], &s.Worker, &d.PeakWorker}, {w.brokers[0], &s.Broker, &d.PeakBroker}, {w.simulator, &s.Simulator, &d.PeakSimulator}} {
			var err error
			if *p.now, *p.peak, err = p.process.memory(); err != nil {
				return err
			}
		}
		d.Samples = append(d.Samples, s)
	}
	d.Took, d.Done = time.Since(began), w.results.count()
	d.Rate = float64(d.Done) / d.Took.Seconds()
	return nil
}

// weigh finds what the journal alone takes, on disk and in a broker that has just been started on it: one that has run for
// a while also remembers the message IDs of the last hour.
func (w *world) weigh(ctx context.Context, d *drained, empty int64) error {
	journal, err := w.js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return err
	}
	d.Records = int(journal.CachedInfo().State.Msgs)
	store := filepath.Join(w.dir, "nats-server-0")

	if err := w.halt(); err != nil {
		return err
	}
	if d.Disk, err = sizeOf(store); err != nil {
		return fmt.Errorf("measure the journal's files: %w", err)
	}
	began := time.Now()
	if err := w.startAgain(ctx); err != nil {
		return err
	}
	d.Restart = time.Since(began)
	if journal, err = w.js.Stream(ctx, messages.StreamJournal); err != nil {
		return err
	}
	if found := int(journal.CachedInfo().State.Msgs); found != d.Records {
		return fmt.Errorf("%d of %d records after the restart", found, d.Records)
	}
	heap, err := w.heap(ctx)
	if err != nil {
		return err
	}
	d.Journal = heap - empty
	d.Restarted, _, err = w.brokers[0].memory()
	return err
}

// halt ends the first broker as an operator would.
func (w *world) halt() error {
	w.js.Conn().Close()
	w.brokers[0].tell(syscall.SIGTERM)
	return w.brokers[0].end()
}

// startAgain starts it on what it has stored, and returns once it answers about the journal.
func (w *world) startAgain(ctx context.Context) (err error) {
	if w.brokers[0], err = w.run("nats-server-0", w.tools.broker, "-c", filepath.Join(w.dir, "nats-server-0.conf")); err != nil {
		return err
	}
	if w.js, err = w.connect(ctx); err != nil {
		return err
	}
	for { // it answers before it has found all streams
		one, cancel := context.WithTimeout(ctx, time.Second)
		_, err = w.js.Stream(one, messages.StreamJournal)
		cancel()
		if err == nil {
			return nil
		}
		if waitErr := await(ctx, w, time.After(20*time.Millisecond)); waitErr != nil {
			return fmt.Errorf("%w: %w", waitErr, err)
		}
	}
}

// sizeOf is how much of a store the journal takes on disk as du counts it, which is in whole blocks, in bytes.
func sizeOf(store string) (size int64, err error) {
	err = filepath.WalkDir(store, func(path string, entry fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || entry.IsDir() || !strings.Contains(path, "/streams/"+messages.StreamJournal+"/") {
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the broker tidies up
		}
		if err != nil {
			return err
		}
		allocated, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: its blocks are not told", path)
		}
		size += allocated.Blocks * 512
		return nil
	})
	return size, err
}

// heap asks the first broker to collect its garbage and tells what is left, in bytes.
func (w *world) heap(ctx context.Context) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.profiling+"/debug/pprof/heap?gc=1&debug=1", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("ask the broker for its heap: %w", err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "# HeapAlloc = "); ok {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, errors.Join(errors.New("the broker does not tell its heap"), lines.Err())
}

func (d *drained) table() table {
	t := table{{"draining a backlog", ""}}
	add := func(what, format string, of ...any) { t = append(t, []string{what, fmt.Sprintf(format, of...)}) }
	add("jobs", "%s", grouped(d.Jobs))
	if d.Done < d.Jobs {
		add("of these done when the time was over", "%s", grouped(d.Done))
	}
	add("peak memory of the worker", "%.1f MiB", mebibytes(d.PeakWorker))
	add("peak memory of nats-server", "%.0f MiB", mebibytes(d.PeakBroker))
	const telling = 200_000 // below it a broker's buffers weigh more than what they are for
	if d.Disk > 0 {
		add("disk for a paid renewal, of the journal", "%.2f kB", float64(d.Disk)/float64(d.Jobs)/1000)
	}
	if d.Records >= telling {
		million := func(bytes int64, of int) float64 { return mebibytes(bytes) / float64(of) * 1e6 }
		add("nats-server's memory for a million queued jobs", "%.0f MiB", million(d.Queued, d.Jobs))
		add("nats-server's memory for a million journal records", "%.0f MiB", million(d.Journal, d.Records))
		add("journal records, two for each paid renewal", "%s", grouped(d.Records))
		add("nats-server's start on this journal", "%.1f s, %.0f MiB resident", d.Restart.Seconds(), mebibytes(d.Restarted))
	}
	return t
}
