package test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// sized chooses a test's size and how strict it is: short and lenient beside all other tests, long and strict in make long.
func sized[T any](short, long T) T {
	if os.Getenv("LONG") != "" {
		return long
	}
	return short
}

// TestThreeWorkersShareTheRate: three workers find a queue in front of a Klarna that enforces 100 requests/s. They use what there
// is, and are hardly ever told that it was too much (S27).
func TestThreeWorkersShareTheRate(t *testing.T) {
	t.Parallel()
	const limit = 100
	jobs := sized(800, 4000)
	w := newWorld(t, klarnasim.Options{Rate: limit})
	w.provision()
	w.fill("default", jobs, 0, "ok-")
	for range 3 {
		w.start([]string{"KLARNA_RATE=180", "KLARNA_CONCURRENCY=32"}, "work")
	}
	w.awaitWorkers(3)
	fewest := 3
	await(t, sized(30*time.Second, 3*time.Minute), "the jobs to leave the stream", func() bool {
		fewest = min(fewest, len(w.workers()))
		return w.left() == 0
	})
	w.settledOnce(jobs)
	if sized(false, true) && fewest < 3 { // the others would take its share
		t.Errorf("workers present all the time: %d, want 3", fewest)
	}

	books := w.klarna.Simulator.Books()
	took := books.Orders[jobs-1].CreatedAt.Sub(books.Orders[0].CreatedAt)
	rate, limited := float64(jobs)/took.Seconds(), books.Statuses[429]
	t.Logf("%d orders in %s: %.1f/s of %d; answers 429: %d of %d", jobs, took.Round(time.Millisecond), rate, limit, limited, books.Requests)
	// The long form measures, on a machine of its own. The short one runs beside all other tests and only
	// shows that the rate is neither ignored nor left unused.
	if least := sized(0.2, 0.9); rate < least*limit {
		t.Errorf("rate: %.1f/s, want at least %.0f%% of %d", rate, 100*least, limit)
	}
	if most := sized(0.3, 0.01); float64(limited) > most*float64(books.Requests) {
		t.Errorf("answers 429: %d of %d, want at most %.0f%%", limited, books.Requests, 100*most)
	}
}

// TestOneFailingAccountSlowsNobody: one worker serves two accounts. Klarna fails
// every request of the one; the other is as fast as in a worker whose second account has nothing to do.
func TestOneFailingAccountSlowsNobody(t *testing.T) {
	t.Parallel()
	jobs, rounds := sized(250, 2000), sized(2, 3)
	pair := func() *world {
		w := newWorld(t, klarnasim.Options{Latency: 50 * time.Millisecond})
		w.provision("well", "failing")
		key := filepath.Join(t.TempDir(), "key")
		write(t, key, "secret-password")
		config := filepath.Join(t.TempDir(), "renewals.yaml")
		text := "accounts:\n"
		for _, account := range []string{"well", "failing"} {
			text += fmt.Sprintf("  - {name: %s, endpoint: %q, username: %s, password_file: %q, concurrency: 16}\n", account, w.klarna.URL, account, key)
		}
		write(t, config, text)
		w.start([]string{"KLARNA_ENDPOINT=", "KLARNA_USERNAME=", "KLARNA_PASSWORD=", "RENEWALS_CONFIG=" + config}, "work")
		w.awaitWorkers(1)
		return w
	}
	alone, beside := pair(), pair()
	beside.fill("failing", jobs, 100_000, "503-bare-", "cut-", "503-")
	await(t, 20*time.Second, "failures", func() bool { return beside.klarna.Simulator.Counts().Requests > 0 })

	took := map[*world]time.Duration{}
	for round := range rounds {
		for i := range 2 { // in turn, so that the machine's moods hit both
			w := []*world{alone, beside}[(i+round)%2]
			began := time.Now()
			w.fill("well", jobs, round*jobs, "ok-")
			await(t, time.Minute, "the jobs of the account that is well", func() bool { return w.klarna.Simulator.Counts().Orders == (round+1)*jobs })
			took[w] += time.Since(began)
		}
	}
	ratio := float64(took[alone]) / float64(took[beside])
	t.Logf("%d renewals: %s alone, %s beside %d failed requests of the other account; throughput %.3f", rounds*jobs,
		took[alone].Round(time.Millisecond), took[beside].Round(time.Millisecond), beside.failures(), ratio)
	if least := sized(0.2, 0.8); ratio < least { // 0.99 on a quiet machine; the short form only shows that it is not held up
		t.Errorf("throughput beside a failing account: %.3f of what it is alone, want at least %.2f", ratio, least)
	}
	for _, r := range beside.results() {
		if r.Event["account"] != "well" || r.Kind != "paid" {
			t.Errorf("result %s of account %s, want only paid of the account that is well", r.Kind, r.Event["account"])
		}
	}
}

// failures counts the requests that Klarna did not answer with an order.
func (w *world) failures() int {
	c := w.klarna.Simulator.Counts()
	return c.Requests - c.Statuses[200]
}

// TestPasswordChangedUnderLoad: Klarna no longer takes the API key while jobs keep coming. Within a second the account is
// paused; nobody is dunned; once somebody has mended it, every job is charged, by the same process (S28, S49).
func TestPasswordChangedUnderLoad(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		mend   func(w *world, p *process, key string) error
		within time.Duration // until a charge succeeds again; the next probe by itself may be half a minute away
	}{
		{"the key file changes", func(w *world, _ *process, key string) error {
			return os.WriteFile(key, []byte("the second key\n"), 0o600)
		}, 3 * time.Second},
		{"Klarna takes the old key again, SIGHUP", func(w *world, p *process, _ string) error {
			w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Password = "the first key" })
			return p.cmd.Process.Signal(syscall.SIGHUP)
		}, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, klarnasim.Options{Username: "merchant", Password: "the first key"})
			w.provision()
			key := filepath.Join(t.TempDir(), "key")
			write(t, key, "the first key\n")
			p := w.start([]string{"KLARNA_PASSWORD=", "KLARNA_PASSWORD_FILE=" + key}, "work")
			stop := w.load(10*time.Millisecond, "ok-")
			counts := w.klarna.Simulator.Counts
			await(t, 20*time.Second, "orders", func() bool { return counts().Orders > 20 })

			w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Password = "the second key" })
			changed := time.Now()
			await(t, 10*time.Second, "the pause", func() bool { return strings.Contains(p.text(), `"reason":"not_evaluated"`) })
			paused := time.Since(changed)
			if most := sized(10*time.Second, time.Second); paused > most { // the short form runs beside others
				t.Errorf("paused after %s, want within %s", paused, most)
			}
			await(t, 10*time.Second, "the pause to be shown", func() bool {
				live := w.workers()
				return len(live) == 1 && live[0].Accounts["default"].Paused["not_evaluated"] != ""
			})
			before := counts()
			pause(sized(2*time.Second, 30*time.Second))
			probes := counts().Requests - before.Requests
			if most := sized(20, 8); probes > most { // though a hundred jobs come each second, and hundreds wait
				t.Errorf("requests while paused: %d, want a probe now and then, at most %d", probes, most)
			}

			if err := tt.mend(w, p, key); err != nil {
				t.Fatal(err)
			}
			mended := time.Now()
			await(t, tt.within+40*time.Second, "orders again", func() bool { return counts().Orders > before.Orders })
			resumed := time.Since(mended)
			if most := sized(15*time.Second, tt.within); resumed > most {
				t.Errorf("charging again after %s, want within %s", resumed, most)
			}
			jobs := stop()
			await(t, time.Minute, "the jobs to leave the stream", func() bool { return w.left() == 0 })
			drained := time.Since(mended)
			w.settledOnce(jobs)
			select {
			case <-p.done:
				t.Errorf("the worker ended: %v", p.err)
			default:
			}
			t.Logf("%d jobs; paused after %s, %d requests while paused, charging again after %s and drained after %s; answers 401: %d",
				jobs, paused.Round(time.Millisecond), probes, resumed.Round(time.Millisecond), drained.Round(time.Millisecond), counts().Statuses[401])
		})
	}
}

// TestPausedAccountLeavesJobsAlone: the request for jobs that was open when the pause began still brings some; they go back
// unclaimed, and only probes reach Klarna (S49).
func TestPausedAccountLeavesJobsAlone(t *testing.T) {
	t.Parallel()
	const jobs = 30
	w := newWorld(t, klarnasim.Options{Username: "merchant", Password: "another key"})
	w.provision()
	p := w.start(nil, "work")
	w.awaitWorkers(1)
	w.fill("default", 1, 0, "ok-")
	await(t, 10*time.Second, "the pause", func() bool { return strings.Contains(p.text(), `"reason":"not_evaluated"`) })
	w.fill("default", jobs, 1, "ok-")
	pause(2 * time.Second)
	claimed := map[string]bool{}
	for _, r := range w.records() {
		claimed[r.Subject] = true
	}
	if requests := w.klarna.Simulator.Counts().Requests; requests > 2+3 || len(claimed) > 1+3 { // an order and a look at its token, then probes
		t.Errorf("requests: %d, renewals claimed: %d, want one job and a probe now and then", requests, len(claimed))
	}
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Password = "" })
	await(t, 20*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(1 + jobs)
}

// TestStopDuringSlowCharges: a worker is told to stop while Klarna works on some
// of its jobs and others wait for their turn. It finishes the first, and another worker has the others within a second.
func TestStopDuringSlowCharges(t *testing.T) {
	t.Parallel()
	const jobs = 12
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	w.fill("default", jobs, 0, "slow-700-")
	first := w.start([]string{"KLARNA_RATE=6", "KLARNA_CONCURRENCY=12", "RENEWALS_SHUTDOWN_TIMEOUT=5s"}, "work")
	await(t, 20*time.Second, "slow charges", func() bool { return len(w.klarna.Simulator.Books().Keys) >= 3 })
	w.start([]string{"KLARNA_CONCURRENCY=12"}, "work")
	w.awaitWorkers(2)

	stopped := time.Now()
	code := first.stop(syscall.SIGTERM)
	if took, most := time.Since(stopped), sized(15*time.Second, 5*time.Second); code != 0 || took > most {
		t.Errorf("exit code %d after %s, want 0 within %s", code, took, most)
	}
	ended := time.Now()
	await(t, 20*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(jobs)
	handedOver, latest := 0, time.Duration(0)
	for _, k := range w.klarna.Simulator.Books().Keys {
		if k.Tries != 1 {
			t.Errorf("requests with key %s: %d, want 1", k.IdempotencyKey, k.Tries)
		}
		if wait := k.FirstAt.Sub(stopped); wait > 0 {
			handedOver, latest = handedOver+1, max(latest, wait)
		}
	}
	if most := sized(10*time.Second, time.Second); handedOver == 0 || handedOver == jobs || latest > most {
		t.Errorf("charges that began after the signal: %d, the last after %s; want some of %d, each within %s", handedOver, latest, jobs, most)
	}
	consumer, err := w.js.Consumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default"))
	if err != nil {
		t.Fatal(err)
	}
	// A charge that the first worker began in the moment of the signal reached Klarna after it.
	const began = 2
	if got := int(consumer.CachedInfo().Delivered.Consumer); got > jobs+handedOver || got < jobs+handedOver-began {
		t.Errorf("deliveries: %d, want %d and again those %d that had not started", got, jobs, handedOver)
	}
	t.Logf("ended %s after SIGTERM; %d of %d jobs handed over, the last one began at Klarna %s after SIGTERM", ended.Sub(stopped).Round(time.Millisecond), handedOver, jobs, latest.Round(time.Millisecond))
}

// TestSecondSignalEndsAtOnce: whoever cannot wait for slow charges signals
// again. What was in flight is carried to its end by another worker.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	const jobs = 4
	w := newWorld(t, klarnasim.Options{})
	if err := worker.Provision(t.Context(), w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, AckWait: 6 * time.Second}); err != nil {
		t.Fatal(err)
	}
	w.fill("default", jobs, 0, "slow-3000-")
	patient := []string{"RENEWALS_TRY_TIMEOUT=4s", "RENEWALS_SHUTDOWN_TIMEOUT=5s"}
	first := w.start(patient, "work")
	await(t, 20*time.Second, "slow charges", func() bool { return len(w.klarna.Simulator.Books().Keys) == jobs })
	began := time.Now()
	_ = first.cmd.Process.Signal(syscall.SIGTERM)
	await(t, 2*time.Second, "the worker to end", func() bool { // the first signal may still be on its way to the program
		_ = first.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-first.done:
			return true
		default:
			return false
		}
	})
	t.Logf("ended %s after the first signal", time.Since(began).Round(time.Millisecond))
	if got := len(w.results()); got != 0 {
		t.Errorf("results: %d, want none: Klarna has answered nothing yet", got)
	}
	w.start(patient, "work")
	await(t, 30*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(jobs)
}

// TestRefusedByNATS: a broker that no longer knows the worker's password is
// nothing that waiting mends.
func TestRefusedByNATS(t *testing.T) {
	t.Parallel()
	const name, password = "worker", "secret-password"
	options := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{{Username: name, Password: password}, {Username: "operator", Password: "o"}},
	}
	w := newWorldOn(t, options.Clone(), klarnasim.Options{}, nats.UserInfo("operator", "o"))
	w.provision()
	ends := func(p *process) {
		t.Helper()
		if code := p.exit(15 * time.Second); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		if !strings.Contains(p.text(), "NATS_USER") || !strings.Contains(strings.ToLower(p.text()), "authorization") || strings.Contains(p.text(), password) {
			t.Errorf("said %q, want that NATS_USER was refused, without the password", p.text())
		}
	}
	ends(w.start([]string{"NATS_USER=" + name, "NATS_PASSWORD=wrong"}, "work"))

	p := w.start([]string{"NATS_USER=" + name, "NATS_PASSWORD=" + password}, "work")
	w.awaitWorkers(1)
	changed := options.Clone()
	changed.Port = w.port
	changed.Users[0].Password = "another"
	w.restartBroker(changed) // reloading it would race inside of nats-server with a client that is sending
	ends(p)
}

// S82: a deleted consumer pauses its account and says what to do, also when the worker was not looking at the time; the
// same process goes on once it is there again.
func TestDeletedConsumer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		away bool // no connection at the time
	}{{"while the worker waits for jobs", false}, {"while the network is cut", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, klarnasim.Options{})
			w.provision()
			wire := newWire(t, w.broker.Addr().String())
			p := w.start([]string{"NATS_URL=nats://" + wire.addr}, "work")
			w.awaitWorkers(1)
			wire.set(tt.away, false)
			if err := w.js.DeleteConsumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default")); err != nil {
				t.Fatal(err)
			}
			wire.set(false, false)
			await(t, 15*time.Second, "the consumer's name and `renewals provision`", func() bool {
				return strings.Contains(p.text(), "charge-default") && strings.Contains(p.text(), "renewals provision")
			})
			w.provision()
			w.fill("default", 1, 0, "ok-")
			await(t, 20*time.Second, "the job to leave the stream", func() bool { return w.left() == 0 })
			w.settledOnce(1)
		})
	}
}

// TestBrokerRestartHeals: jobs from before and after the broker's restart are
// charged by the same process.
func TestBrokerRestartHeals(t *testing.T) {
	t.Parallel()
	const jobs = 200
	w := newWorld(t, klarnasim.Options{Latency: 20 * time.Millisecond})
	w.provision()
	p := w.start(nil, "work")
	w.fill("default", jobs, 0, "ok-")
	await(t, 20*time.Second, "the first orders", func() bool { return w.klarna.Simulator.Counts().Orders > 10 })
	w.broker.Shutdown()
	w.broker.WaitForShutdown()
	w.startBroker()
	restarted := time.Now()
	await(t, 20*time.Second, "the test's own connection", w.js.Conn().IsConnected)
	w.fill("default", jobs, jobs, "ok-")
	await(t, 30*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(2 * jobs)
	select {
	case <-p.done:
		t.Errorf("the worker ended: %v", p.err)
	default:
	}
	t.Logf("drained %s after the broker was back", time.Since(restarted).Round(time.Millisecond))
}

// TestMemoryOfABacklog: what waits in the stream is not in the worker's memory.
func TestMemoryOfABacklog(t *testing.T) {
	t.Parallel()
	const jobs = 20_000 // make bench-memory drains a million
	w := newWorldApart(t)
	w.fill("default", jobs, 0, "ok-")
	p := w.start(nil, "work")
	if highWater(p) == 0 && runtime.GOOS != "linux" { // it is read from /proc
		t.Skip("this system does not tell a process's peak memory") // the worker runs anywhere, it is measured on Linux
	}
	began := time.Now()
	await(t, time.Minute, "results", func() bool { return jobs-int(w.left()) >= 5_000 })
	peak := highWater(p) // kB
	t.Logf("%d of %d jobs in %s; peak memory %d KiB", jobs-int(w.left()), jobs, time.Since(began).Round(time.Millisecond), peak)
	if peak > 64<<10 {
		t.Errorf("peak memory: %d KiB, want at most 64 MiB", peak)
	}
}

// highWater is the peak of a process's resident memory in KiB; 0: not known here.
// https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
func highWater(p *process) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return n
		}
	}
	return 0
}

// stop sends a signal and returns the exit code.
func (p *process) stop(s os.Signal) int {
	_ = p.cmd.Process.Signal(s)
	return p.exit(30 * time.Second)
}

// exit waits for the process to end and returns its exit code; -1: ended by a signal, -2: not ended.
func (p *process) exit(within time.Duration) int {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-timer.C:
		return -2
	}
}

// workers are the live ones by their own account.
func (w *world) workers() []topology.Presence {
	live, err := topology.Workers(w.t.Context(), w.js)
	if err != nil {
		w.t.Error(err)
	}
	return live
}

func (w *world) awaitWorkers(n int) {
	w.t.Helper()
	await(w.t, 20*time.Second, strconv.Itoa(n)+" workers", func() bool { return len(w.workers()) == n })
}

// fill publishes jobs numbered from first, their tokens beginning in turn with each of the given.
func (w *world) fill(account messages.Account, jobs, first int, tokens ...string) {
	w.t.Helper()
	for n := first; n < first+jobs; n++ {
		payload := job(n, tokens[n%len(tokens)]+strconv.Itoa(n))
		if _, err := w.js.PublishMsgAsync(&nats.Msg{Subject: messages.DueSubject(account), Data: payload}, jetstream.WithStallWait(10*time.Second)); err != nil {
			w.t.Fatal(err)
		}
	}
	select {
	case <-w.js.PublishAsyncComplete():
	case <-w.t.Context().Done():
	}
}

// load publishes a job every so often, with the given tokens in turn, until stopped; stop says how many there were.
func (w *world) load(every time.Duration, tokens ...string) (stop func() (jobs int)) {
	ending, ended := make(chan struct{}), make(chan int, 1)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ending:
				ended <- n
				return
			case <-w.t.Context().Done():
				return
			case <-tick.C:
			}
			if _, err := w.js.Publish(w.t.Context(), "renewals.due.default", job(n, tokens[n%len(tokens)]+strconv.Itoa(n))); err != nil {
				w.t.Errorf("publish job %d: %v", n, err)
				ended <- n
				return
			}
		}
	}()
	return func() int {
		close(ending)
		return <-ended
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
