package test

import (
	"syscall"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// TestRollingRestarts deploys again and again while jobs keep coming: a new
// worker is started, an old one told to stop. Each ends in time with exit code 0; no renewal is lost, doubled or dunned (S8).
func TestRollingRestarts(t *testing.T) {
	t.Parallel()
	restarts := sized(12, 100)
	w := newWorld(t, klarnasim.Options{Latency: 20 * time.Millisecond})
	w.provision()
	deploy := func() *process {
		return w.start([]string{"KLARNA_CONCURRENCY=16", "RENEWALS_LOG_LEVEL=warn"}, "work")
	}
	var live []*process
	for range 3 {
		live = append(live, deploy())
	}
	w.awaitWorkers(3)
	stop := w.load(4*time.Millisecond, "ok-", "ok-", "slow-300-", "503x1-", "created-500-")

	var slowest time.Duration
	for range restarts {
		before := w.klarna.Simulator.Counts().Orders
		live = append(live, deploy())
		old := live[0]
		live = live[1:]
		began := time.Now()
		if code := old.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d, want 0; it said\n%s", code, old.text())
		}
		slowest = max(slowest, time.Since(began))
		await(t, 20*time.Second, "orders after the restart", func() bool { return w.klarna.Simulator.Counts().Orders > before+20 })
	}
	jobs := stop()
	await(t, 30*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(jobs)

	again := 0
	for _, r := range w.results() {
		if r.Event["tries"] == 1.0 && r.Event["deliveries"] != 1.0 {
			again++
		}
	}
	twice := 2*(jobs/5) + max(0, jobs%5-3) // two of five tokens fail their first try
	got := map[int]int{}
	for _, k := range w.klarna.Simulator.Books().Keys {
		got[k.Tries]++
	}
	if got[1] != jobs-twice || got[2] != twice {
		t.Errorf("keys by how many requests they took: %v, want %d with one and %d with two", got, jobs-twice, twice)
	}
	if slowest > 3*time.Second { // a try of at most 1 s, then the record and the ack
		t.Errorf("the slowest stop took %s", slowest)
	}
	t.Logf("%d restarts, %d jobs, each paid once; %d claimed by one worker and sent by another; the slowest stop took %s", restarts, jobs, again, slowest.Round(time.Millisecond))
}
