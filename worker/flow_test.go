package worker

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// S28, S49: for two days the password is wrong. Nobody is dunned,
// nothing becomes unresolved; after the fix every job is charged once.
func TestWrongPassword(t *testing.T) {
	const jobs = 20
	w := newWorld(t)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Username, o.Password = "merchant", "the new password" })
	for n := range jobs {
		w.publish(w.due("s49-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	var worker *Worker
	w.startWith(&worker)
	w.await("the pause", func() bool {
		live, err := topology.Workers(t.Context(), w.js)
		return err == nil && len(live) == 1 && live[0].Accounts["default"].Paused[gate.PauseNotEvaluated] != "" && (*worker.running.Load())[0].inFlight.Load() == 0
	})
	w.advance(48 * time.Hour)
	tried, asked := len(w.orders()), w.canaries()
	w.await("another canary", func() bool { return w.canaries() > asked })
	if n := len(w.orders()); n != tried {
		t.Errorf("requests for orders while the account is paused: %d, after %d", n, tried)
	}
	w.expect(0)
	if left := w.left(); left != jobs {
		t.Errorf("jobs in the stream: %d, want all %d", left, jobs)
	}
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Password = "secret-password" })
	worker.Retry()
	w.awaitEmpty()
	paid := 0
	for _, r := range w.results() {
		if r.Kind == messages.KindPaid {
			paid++
		}
	}
	if orders := len(w.klarna.Simulator.Books().Orders); paid != jobs || orders != jobs {
		t.Errorf("paid %d, orders %d, want %d", paid, orders, jobs)
	}
}

// TestBreaker: while Klarna is down jobs stay in the stream unclaimed, and one
// at a time finds out whether it is back.
func TestBreaker(t *testing.T) {
	const jobs, breakerRun = 60, 10
	w := newWorld(t)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "503-bare-" })
	for n := range jobs {
		w.publish(w.due("down-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	var worker *Worker
	w.startWith(&worker)
	w.await("the breaker", func() bool { return worker.accounts[0] == "default" && len(w.orders()) >= breakerRun })
	open := len(w.orders())
	w.await("two probes", func() bool { return len(w.orders()) >= open+2 })
	if claimed := len(w.records()); claimed > jobs {
		t.Errorf("records while Klarna is down: %d, want jobs left unclaimed", claimed)
	}
	w.expect(0)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "" })
	worker.Retry()
	w.awaitEmpty()
	if orders := len(w.klarna.Simulator.Books().Orders); orders != jobs {
		t.Errorf("orders: %d, want %d", orders, jobs)
	}
}

// S27: three workers share what Klarna allows one merchant.
func TestSharedRate(t *testing.T) {
	const limit, jobs = 100, 800
	w := newWorld(t)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Rate = limit })
	for range 3 {
		w.start(func(o *Options) { o.Accounts[0].Rate = 180; o.Accounts[0].Concurrency = 32 })
	}
	w.await("three workers", func() bool {
		live, err := topology.Workers(t.Context(), w.js)
		return err == nil && len(live) == 3
	})
	for n := range jobs {
		w.publish(w.due("s27-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	began := time.Now()
	w.awaitEmpty()
	t.Logf("%.0f requests/s", jobs/time.Since(began).Seconds())
	counts := w.klarna.Simulator.Books().Counts
	if limited := counts.Statuses[429]; limited*100 > counts.Requests*5 {
		t.Errorf("answers 429: %d of %d", limited, counts.Requests)
	}
	for _, r := range w.results() {
		if r.Kind != messages.KindPaid {
			t.Errorf("%s: %s", r.ID, r)
		}
	}
	t.Logf("429: %d of %d requests", counts.Statuses[429], counts.Requests)
}

// TestClockOff: a worker whose clock is off the broker's does not send (S78).
func TestClockOff(t *testing.T) {
	w := newWorld(t)
	w.verifyEvery = often
	var off atomic.Int64
	off.Store(int64(2 * time.Minute))
	w.start(func(o *Options) {
		o.Now = func() time.Time { return w.now().Add(time.Duration(off.Load())) }
	})
	w.await("the pause", func() bool {
		live, err := topology.Workers(t.Context(), w.js)
		return err == nil && len(live) == 1 && live[0].Paused[gate.PauseClock] != ""
	})
	w.publish(w.due("clock", "ok-1", 1))
	w.verified()
	if n := len(w.orders()); n != 0 {
		t.Errorf("requests: %d, want 0", n)
	}
	off.Store(0)
	w.awaitEmpty()
	w.expect(1, "paid")
}

// S37: a worker claims and freezes; another takes over and
// is declined; attempt 2 is paid; the first wakes, with a connection in hand, and must not send.
func TestFrozenBeforeTheSend(t *testing.T) {
	w := newWorld(t)
	frozen, wake := make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	freezing := w.client(func() (klarna.Credentials, error) {
		if calls.Add(1) == 2 { // the first is New's
			close(frozen)
			<-wake
		}
		return klarna.Credentials{Username: "frozen", Password: klarna.NewSecret("secret-password")}, nil
	})
	w.publish(w.due("s37", "soft-decline-once-1", 1))
	stop := w.start(func(o *Options) { o.Accounts[0].Klarna = freezing; o.Accounts[0].Concurrency = 1 })
	<-frozen
	w.start()
	w.await("dunning", func() bool { return len(w.results()) == 1 })
	w.publish(w.due("s37", "soft-decline-once-1", 2))
	w.await("attempt 2", func() bool { return len(w.results()) == 2 })
	answered := func() (n int) {
		for _, c := range w.orders() {
			if c.Status != 0 { // what the fence stops is a request without its body, which nobody can answer
				n++
			}
		}
		return n
	}
	before := answered()
	close(wake)
	stop()
	w.expect(1, "dunning payment_method_failed", "paid")
	if after := answered(); after != before {
		t.Errorf("requests that Klarna could read: %d, want %d, none of the woken worker: %v", after, before, w.orders())
	}
}

// S42: a delivery sends and crashes; the one that takes
// over cannot dial. The key's clock keeps running from the first send.
func TestNotSentAfterATakeover(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s42", "500-1", 1))
	stop := w.start()
	w.await("a try", func() bool { return len(w.orders()) > 0 })
	stop()
	sent := w.records()[0].State.Claim.FirstSentAt
	w.klarna.Close()
	w.start()
	before := len(w.records())
	w.await("deliveries that cannot dial", func() bool { return len(w.records()) > before+3 })
	for _, r := range w.records() {
		if !r.State.Claim.FirstSentAt.Equal(sent) {
			t.Errorf("first_sent_at = %s after %s", r.State.Claim.FirstSentAt, sent)
		}
	}
}

// TestRateBelowTheHands: where turns are scarcer than hands, jobs are not pulled
// only to be handed back (S27).
func TestRateBelowTheHands(t *testing.T) {
	const jobs = 30
	w := newWorld(t)
	for n := range jobs {
		w.publish(w.due("rate-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	w.start(func(o *Options) { o.Accounts[0].Rate = 10; o.Accounts[0].Concurrency = 64 })
	w.awaitEmpty()
	consumer, err := w.js.Consumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default"))
	if err != nil {
		t.Fatal(err)
	}
	if delivered := consumer.CachedInfo().Delivered.Consumer; delivered > 2*jobs {
		t.Errorf("deliveries: %d for %d jobs", delivered, jobs)
	}
}

// TestClosedByKlarna: while Klarna says to wait, nothing is pulled (S27).
func TestClosedByKlarna(t *testing.T) {
	w := newWorld(t)
	var worker *Worker
	w.startWith(&worker)
	w.await("the worker", func() bool { return worker.Ready() == nil })
	(*worker.running.Load())[0].limiter.Observe(klarna.RateLimit{}, tooMany(time.Second))
	for n := range 20 {
		w.publish(w.due("closed-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	w.awaitEmpty()
	consumer, err := w.js.Consumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default"))
	if err != nil {
		t.Fatal(err)
	}
	if delivered := consumer.CachedInfo().Delivered.Consumer; delivered > 40 {
		t.Errorf("deliveries: %d for 20 jobs", delivered)
	}
}

// TestClockOffAtStart: no byte is sent before the clock was compared (S78).
func TestClockOffAtStart(t *testing.T) {
	w := newWorld(t)
	w.verifyEvery = often
	for n := range 20 {
		w.publish(w.due("clock-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	w.start(func(o *Options) { o.Now = func() time.Time { return w.now().Add(-30 * time.Minute) } })
	w.verified()
	if n := len(w.orders()); n != 0 {
		t.Errorf("requests of a worker 30 minutes behind: %d", n)
	}
}

// TestClocksApart: leases and windows are compared between machines, so workers
// whose clocks are off by less than what stops them go by the broker's (S78).
func TestClocksApart(t *testing.T) {
	w := newWorld(t)
	for _, off := range []time.Duration{50 * time.Second, -50 * time.Second} {
		w.start(func(o *Options) { o.Now = func() time.Time { return w.now().Add(off) } })
	}
	for n := range 20 {
		w.publish(w.due("apart-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	w.awaitEmpty()
	workers := map[string]bool{}
	for _, r := range w.records() {
		c := r.State.Claim
		if !r.Kind.Claims() {
			continue
		}
		workers[c.Worker] = true
		if off := w.now().Sub(c.FirstSentAt); off.Abs() > 20*time.Second {
			t.Fatalf("clock of %s: it claimed %v ago, in a test of seconds", c.Worker, off)
		}
	}
	if len(workers) == 0 {
		t.Error("no records")
	}
}

// S46: the journal's age is lowered to what is still
// allowed; a period that it can no longer know is not charged.
func TestJournalForgetsSooner(t *testing.T) {
	w := newWorld(t)
	w.verifyEvery = often
	w.start()
	stream, err := w.js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxAge = 30 * 24 * time.Hour
	if _, err := w.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	w.verified()
	w.publish(w.due("old", "ok-1", 1, func(j map[string]any) { j["due_at"] = w.now().Add(-60 * 24 * time.Hour).UTC().Format(time.RFC3339) }))
	w.awaitEmpty()
	w.expect(0, "rejected too_old")
}

// S46: a consumer that gives up after some deliveries would
// lose jobs; nothing is claimed until it is put right.
func TestConsumerGivesUp(t *testing.T) {
	w := newWorld(t)
	w.verifyEvery = often
	var worker *Worker
	w.startWith(&worker)
	w.await("the worker", func() bool { return worker.Ready() == nil })
	consumer, err := w.js.Consumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default"))
	if err != nil {
		t.Fatal(err)
	}
	config := consumer.CachedInfo().Config
	config.MaxDeliver = 2
	if _, err := w.js.UpdateConsumer(t.Context(), messages.StreamJobs, config); err != nil {
		t.Fatal(err)
	}
	w.verified()
	w.publish(w.due("zombie", "ok-1", 1))
	w.verified()
	w.expect(0)
	if err := worker.Ready(); err == nil || !strings.Contains(err.Error(), "max_deliver") {
		t.Errorf("Ready: %v, want the setting by name", err)
	}
}

// TestRecordOfSomebodyElse: a record that no worker wrote stops its renewal, and
// only that; whoever looks how everything stands is told which record it is.
func TestRecordOfSomebodyElse(t *testing.T) {
	w := newWorld(t)
	foreign := messages.RecordAddress{Kind: messages.KindPaid, Renewal: messages.NewRenewal("foreign", "2026-12"), Account: "default"}.Subject()
	if _, err := w.js.Publish(t.Context(), foreign, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	w.publish(w.due("foreign", "ok-1", 1))
	w.publish(w.due("ours", "ok-2", 1))
	w.start()
	w.await("the other job's result", func() bool { return w.left() == 1 })
	o, err := desk.Look(t.Context(), w.js, w.now())
	if err != nil {
		t.Fatal(err)
	}
	if a := o.Accounts[0]; len(a.Unreadable) != 1 || !strings.Contains(a.Unreadable[0], foreign) || a.Human() == "" {
		t.Errorf("overview = %+v, want the record by its subject", a)
	}
	if n := len(w.klarna.Simulator.Books().Orders); n != 1 {
		t.Errorf("orders at Klarna: %d, want 1", n)
	}
}

// bucketTrouble does something at the nth look-up of the workers' bucket.
type bucketTrouble struct {
	jetstream.JetStream
	lookups *atomic.Int64
	at      int64
	trouble func() error
}

func (b bucketTrouble) KeyValue(ctx context.Context, name string) (jetstream.KeyValue, error) {
	if b.lookups.Add(1) == b.at {
		if err := b.trouble(); err != nil {
			return nil, err
		}
	}
	return b.JetStream.KeyValue(ctx, name)
}

// TestStartIsPatient: a worker that is told to stop while it starts ends well,
// and an answer that does not come at the start is asked for again.
func TestStartIsPatient(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		stop bool
		err  error
	}{{"stopped", true, nil}, {"no answer", false, nats.ErrTimeout}} {
		for at := int64(1); at <= 2; at++ {
			t.Run(tt.name, func(t *testing.T) {
				w := newWorld(t)
				o := DefaultOptions()
				o.Name, o.TryTimeout, o.TryBudget, o.ShutdownTimeout = "starting", 400*time.Millisecond, 300*time.Millisecond, time.Second
				o.Accounts = []Account{{Name: "default", Host: "klarna", Endpoint: "http://127.0.0.1", Klarna: w.client(klarna.StaticCredentials("merchant", "secret-password").Credentials)}}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				worker, err := New(bucketTrouble{JetStream: w.js, lookups: new(atomic.Int64), at: at, trouble: func() error {
					if tt.stop {
						stop()
					}
					return tt.err
				}}, o)
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- worker.Run(ctx) }()
				w.await("the worker", func() bool { return worker.Ready() == nil || len(ended) > 0 })
				stop()
				if err := <-ended; err != nil {
					t.Errorf("Run: %v, trouble at look-up %d of the bucket", err, at)
				}
			})
		}
	}
}
