package worker

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// store bounds what the broker's account may keep on disk, in bytes; -1: no bound.
func (w *world) store(bytes int64) {
	w.t.Helper()
	unlimited := server.JetStreamAccountLimits{MaxMemory: -1, MaxStore: bytes, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1}
	if err := w.broker.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": unlimited}); err != nil {
		w.t.Fatal(err)
	}
}

// fill stores what fits until nothing does.
func (w *world) fill() {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.js.CreateStream(ctx, jetstream.StreamConfig{Name: "ballast", Subjects: []string{"ballast"}}); err != nil {
		w.t.Fatal(err)
	}
	for size := 64 << 10; size > 0; size /= 2 {
		for {
			_, err := w.js.Publish(ctx, "ballast", make([]byte, size))
			if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == 10002 {
				break
			}
			if err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// during asks again and again for a while that something holds.
func (w *world) during(d time.Duration, holds func() bool) {
	w.t.Helper()
	began := time.Now()
	w.await("the time to pass", func() bool {
		if !holds() {
			w.t.Fatalf("it held for %s of %s", time.Since(began), d)
		}
		return time.Since(began) > d
	})
}

// S53: the account's quota fills up while an answer is under way, and stays full
// for longer than AckWait. The order is kept and recorded once there is room; Klarna hears one request, and nothing
// new is claimed meanwhile, by a name that everybody can see.
func TestQuotaFullWhileAnAnswerIsUnderWay(t *testing.T) {
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	if err := Provision(t.Context(), w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, AckWait: 4 * time.Second, Force: []string{topology.ForceAckWait}}); err != nil {
		t.Fatal(err)
	}
	w.store(2 << 20)
	w.publish(w.due("s53-0", "slow-1200-0", 1))
	for n := 1; n < 4; n++ {
		w.publish(w.due("s53-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	var worker *Worker
	w.startWith(&worker, oneHand, func(o *Options) { o.TryTimeout, o.Metrics = 2*time.Second, NewMetrics(registry) })
	w.await("the request", func() bool { return len(w.klarna.Simulator.Books().Keys) > 0 })
	w.fill()
	w.await("the pause", func() bool { return worker.pauses.reasons.Has(gate.PauseJournal) })
	if err := worker.Ready(); err == nil || !strings.Contains(err.Error(), "journal: the journal takes no records: ") || !strings.Contains(err.Error(), "10002") && !strings.Contains(err.Error(), "% of the 2 MB") {
		t.Errorf("ready: %v, want the refusal named", err)
	}
	if n := metric(t, registry, "renewals_account_paused", gate.PauseJournal); n != 1 {
		t.Errorf("accounts paused for %s: %v, want 1", gate.PauseJournal, n)
	}
	w.await("the answer", func() bool { return len(w.orders()) == 1 })
	w.during(6*time.Second, func() bool { return len(w.orders()) == 1 && len(w.records()) == 1 && w.left() == 4 })
	w.store(-1)
	w.awaitEmpty()
	w.expect(4, "paid", "paid", "paid", "paid")
	if n := len(w.orders()); n != 4 {
		t.Errorf("requests: %d, want one for each renewal", n)
	}
	if worker.pauses.reasons.Has(gate.PauseJournal) || metric(t, registry, "renewals_account_paused", gate.PauseJournal) != 0 {
		t.Error("still paused")
	}
}

// S53: claims are refused and nothing is in hand. The jobs go back, Klarna hears
// nothing, and one claim at a time finds out when there is room again, of whichever account has a job.
func TestClaimsRefused(t *testing.T) {
	w := newWorld(t, "default", "idle")
	registry := prometheus.NewRegistry()
	for n := range 20 {
		w.publish(w.due("refused-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	var full atomic.Bool
	var claims atomic.Int64
	full.Store(true)
	w.startFaulty(faulty{before: func(_ context.Context, call, _ string) error {
		if call != "charging" {
			return nil
		}
		claims.Add(1)
		if full.Load() {
			return &jetstream.APIError{Code: 400, ErrorCode: 10002, Description: "resource limits exceeded for account"}
		}
		return nil
	}}, func(o *Options) {
		o.Metrics = NewMetrics(registry)
		o.Accounts = append(o.Accounts, Account{Name: "idle", Host: o.Accounts[0].Host, Endpoint: o.Accounts[0].Endpoint, Concurrency: 8})
		w.patient(o)
	})
	w.await("the pause, in the worker's presence", func() bool {
		live, err := topology.Workers(t.Context(), w.js)
		return err == nil && len(live) == 1 && strings.Contains(live[0].Paused[gate.PauseJournal], "takes no records: ") && strings.Contains(live[0].Paused[gate.PauseJournal], "10002")
	})
	if n := metric(t, registry, "renewals_account_paused", gate.PauseJournal); n != 2 {
		t.Errorf("accounts paused for %s: %v, want 2", gate.PauseJournal, n)
	}
	before := claims.Load()
	w.await("claims that try", func() bool { return claims.Load() >= before+2 })
	if more := claims.Load() - before; more > 3 {
		t.Errorf("claims while the broker refuses them: %d, want one at a time", more)
	}
	if n := len(w.orders()); n != 0 {
		t.Errorf("requests: %d, want 0", n)
	}
	full.Store(false)
	w.awaitEmpty()
	if n, orders := len(w.orders()), len(w.klarna.Simulator.Books().Orders); n != 20 || orders != 20 {
		t.Errorf("requests %d, orders %d, want 20", n, orders)
	}
	w.await("the end of the pause", func() bool { return metric(t, registry, "renewals_account_paused", gate.PauseJournal) == 0 })
}

// broken is a broker that keeps nothing, and what is paused for it.
type broken struct {
	pauses gate.Pauses
	outage *gate.Outage
}

func (b *broken) noticed(part string, err error) { noticed(b.outage, part, err) }

// TestOutage: when claiming pauses, who may try meanwhile, and when it goes on.
func TestOutage(t *testing.T) {
	full := &jetstream.APIError{Code: 400, ErrorCode: 10002}
	passing := &jetstream.APIError{Code: 400, ErrorCode: 10164}
	const outageAfter, trialPause = time.Second, time.Second
	open := func() *broken {
		w := &broken{}
		w.outage = gate.NewOutage(&w.pauses, func(sentence string, _ error) { w.pauses.Set(gate.PauseJournal, sentence) }, func() { w.pauses.Lift(gate.PauseJournal) })
		return w
	}
	admitted := func(w *broken, times int) (n int) {
		for range times {
			if w.outage.Admit() {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct {
		name   string
		happen func(*broken)
		paused bool
		admits int // of ten jobs at once
	}{
		{name: "nothing", happen: func(*broken) {}, admits: 10},
		{name: "a quota is full", happen: func(w *broken) { w.noticed(journal.Writes, full) }, paused: true},
		{name: "a stream is sealed", happen: func(w *broken) {
			w.noticed(journal.Writes, &jetstream.APIError{Code: 400, ErrorCode: journal.CodeSealed})
		}, paused: true},
		{name: "a code of tomorrow", happen: func(w *broken) { w.noticed(journal.Writes, &jetstream.APIError{Code: 400, ErrorCode: 19999}) }, paused: true},
		{name: "no answer", happen: func(w *broken) { w.noticed(journal.Writes, context.DeadlineExceeded) }, paused: true},
		{name: "one record is too large", happen: func(w *broken) { w.noticed(journal.Writes, nats.ErrMaxPayload) }, admits: 10},
		{name: "the worker stops", happen: func(w *broken) { w.noticed(journal.Writes, context.Canceled) }, admits: 10},
		{name: "an election", happen: func(w *broken) {
			w.noticed(journal.Writes, passing)
			<-time.After(outageAfter / 2)
			w.noticed(journal.Writes, passing)
		}, admits: 10},
		{name: "an election without end", happen: func(w *broken) {
			w.noticed(journal.Writes, passing)
			<-time.After(outageAfter)
			w.noticed(journal.Writes, passing)
		}, paused: true},
		{name: "an election now and then", happen: func(w *broken) {
			for range 5 {
				w.noticed(journal.Writes, passing)
				<-time.After(outageAfter)
				w.noticed(journal.Writes, nil)
			}
		}, admits: 10},
		{name: "reads and writes fail, a write works", happen: func(w *broken) {
			w.noticed(journal.Writes, full)
			w.noticed(journal.Reads, context.DeadlineExceeded)
			w.noticed(journal.Writes, nil)
		}, admits: 10},
		{name: "writes fail, a read works", happen: func(w *broken) {
			w.noticed(journal.Writes, full)
			w.noticed(journal.Reads, nil)
		}, paused: true},
		{name: "dead letters fail, a record is written", happen: func(w *broken) {
			w.noticed(deadLetters, full)
			w.noticed(journal.Writes, nil)
		}, paused: true},
		{name: "a moment later", happen: func(w *broken) {
			w.noticed(journal.Writes, full)
			<-time.After(trialPause)
		}, paused: true, admits: 1},
		{name: "a moment later, with an answer in hand", happen: func(w *broken) {
			w.outage.Keep()
			w.noticed(journal.Writes, full)
			<-time.After(trialPause)
		}, paused: true},
		{name: "a moment later, while the clock is off as well", happen: func(w *broken) {
			w.noticed(journal.Writes, full)
			w.pauses.Set(gate.PauseClock, "")
			<-time.After(trialPause)
		}, paused: true},
		{name: "the clock alone", happen: func(w *broken) {
			w.pauses.Set(gate.PauseClock, "")
			<-time.After(trialPause)
		}},
		{name: "one has tried", happen: func(w *broken) {
			w.noticed(journal.Writes, full)
			<-time.After(trialPause)
			w.outage.Admit()
			<-time.After(trialPause)
		}, paused: true},
		{name: "one has tried, and the next may", happen: func(w *broken) {
			w.noticed(journal.Writes, full)
			<-time.After(trialPause)
			w.outage.Admit()
			<-time.After(2 * trialPause)
		}, paused: true, admits: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open()
				tt.happen(w)
				if got := w.pauses.Has(gate.PauseJournal); got != tt.paused {
					t.Errorf("paused: %t, want %t: %v", got, tt.paused, w.pauses.Active())
				}
				if got := admitted(w, 10); got != tt.admits {
					t.Errorf("admitted: %d of 10, want %d", got, tt.admits)
				}
			})
		})
	}
}

// TestReadsRefused: the journal cannot be read at all, which every job finds out at
// once whose delivery is not its first. They do not go round and round meanwhile.
func TestReadsRefused(t *testing.T) {
	const jobs = 5 // fewer than open the breaker
	w := newWorld(t)
	for n := range jobs {
		w.publish(w.due("unread-"+strconv.Itoa(n), "created-cutx1-"+strconv.Itoa(n), 1))
	}
	var claimed, healed atomic.Bool
	var reads atomic.Int64
	var worker *Worker
	f := faulty{JetStream: w.js, before: func(_ context.Context, call, _ string) error {
		if call == "charging" {
			claimed.Store(true)
		}
		if call != "read" || !claimed.Load() || healed.Load() {
			return nil
		}
		reads.Add(1)
		return nats.ErrNoResponders
	}}
	ours := w.js
	w.js = f
	w.startWith(&worker)
	w.js = ours
	w.await("the pause", func() bool { return strings.Contains(worker.pauses.reasons.Why(gate.PauseJournal), "cannot be read") })
	before := reads.Load()
	w.during(3*time.Second, func() bool { return worker.pauses.reasons.Has(gate.PauseJournal) })
	if more := reads.Load() - before; more > 6 {
		t.Errorf("reads in 3 s: %d, want one job at a time to try", more)
	}
	healed.Store(true)
	w.awaitEmpty()
	if n := len(w.klarna.Simulator.Books().Orders); n != jobs {
		t.Errorf("orders: %d, want %d", n, jobs)
	}
}

// TestRefusedForGood: the broker will never take these bytes. Nobody is told a
// result that is none; a person hears of the order, and the job goes on under the same key.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{
		"sealed":          &jetstream.APIError{Code: 400, ErrorCode: 10109},
		"too large":       &jetstream.APIError{Code: 400, ErrorCode: 10054},
		"header":          &jetstream.APIError{Code: 400, ErrorCode: 10097},
		"maximum payload": nats.ErrMaxPayload,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			registry := prometheus.NewRegistry()
			w.publish(w.due("final", "ok-1", 1))
			var refused atomic.Bool
			w.startFaulty(faulty{before: func(_ context.Context, call, _ string) error {
				if call == "paid" && refused.CompareAndSwap(false, true) {
					return refusal
				}
				return nil
			}}, func(o *Options) { o.Metrics = NewMetrics(registry) })
			w.awaitEmpty()
			w.expect(1, "paid")
			if n := metric(t, registry, "renewals_stray_orders_total", strayNotRecorded); n != 1 {
				t.Errorf("orders that were not recorded: %v, want 1", n)
			}
			keys := map[string]bool{}
			for _, c := range w.orders() {
				keys[c.IdempotencyKey] = true
			}
			if len(keys) != 1 || len(w.orders()) != 2 {
				t.Errorf("requests %v, want 2 under one key", w.orders())
			}
		})
	}
}

// TestDeadLetterFirst: a dead letter that is refused for good is no reason to
// acknowledge its job.
func TestDeadLetterFirst(t *testing.T) {
	w := newWorld(t)
	w.publish([]byte("no job at all"))
	var refused atomic.Int64
	w.startFaulty(faulty{before: func(_ context.Context, call, _ string) error {
		if call == "dead" && refused.Add(1) <= 3 {
			return &jetstream.APIError{Code: 400, ErrorCode: 10109, Description: "sealed"}
		}
		return nil
	}})
	w.awaitEmpty()
	w.expect(0, "rejected invalid")
	if letters, _ := w.deadLetters(); len(letters) != 1 {
		t.Errorf("dead letters: %d, want 1", len(letters))
	}
}

// TestWriteNotYetApplied: a member of a cluster that has not applied the last
// record yet refuses the next one with 10164. That is no verdict on the bytes.
func TestWriteNotYetApplied(t *testing.T) {
	w := newWorld(t)
	n := 0
	f := faulty{JetStream: w.js, before: func(context.Context, string, string) error {
		if n++; n <= 3 {
			return &jetstream.APIError{Code: 400, ErrorCode: 10164, Description: "wrong last sequence"}
		}
		return nil
	}}
	records, err := journal.Open(t.Context(), f, DefaultOptions().Log)
	if err != nil {
		t.Fatal(err)
	}
	r := messages.NewRenewal("10164", "2026-12")
	event := messages.Charging{Record: messages.Record{ID: "1", Account: "default", RenewalKey: r.Key()}}
	if at := w.writes(records, r, journal.Entry{}, journal.State{Phase: journal.PhaseNone}, event, event.Record); at.Sequence != 1 {
		t.Errorf("written as record %d, want sequence 1", at.Sequence)
	}
}

// TestJournalAwayManyHands: 200 charges are answered while the journal is away.
// Each waits for its record without hurry, and what they hold does not grow (S26).
func TestJournalAwayManyHands(t *testing.T) {
	const hands = 200 // with more a busy machine has no time left for anything else
	w := newWorldAlone(t)
	if err := Provision(t.Context(), w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, AckWait: 2 * time.Minute, Force: []string{topology.ForceAckWait}}); err != nil {
		t.Fatal(err)
	}
	for n := range 2 * hands {
		w.publish(w.due("away-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	var away atomic.Bool
	var claims, asked, writes atomic.Int64
	all := make(chan struct{})
	stop := w.startFaulty(faulty{before: func(_ context.Context, call, of string) error {
		switch {
		case call == "charging" && away.Load():
			claims.Add(1)
			return jetstream.ErrNoStreamResponse
		case call == "charging" && asked.Add(1) == hands:
			away.Store(true)
			close(all)
		case call == "paid":
			<-all
			writes.Add(1)
			if away.Load() {
				return jetstream.ErrNoStreamResponse
			}
		}
		return nil
	}}, func(o *Options) {
		o.Accounts[0].Concurrency = hands
		o.TryTimeout, o.TryBudget = 65*time.Second, 30*time.Second
	})
	<-all
	var first, last runtime.MemStats
	w.await("the answers", func() bool { return len(w.orders()) >= hands })
	runtime.GC()
	runtime.ReadMemStats(&first)
	goroutines := runtime.NumGoroutine()
	before := writes.Load()
	const while = 4 * time.Second
	w.during(while, func() bool { return len(w.orders()) == hands })
	more := writes.Load() - before
	runtime.GC()
	runtime.ReadMemStats(&last)
	t.Logf("in %s: %.1f writes of each hand, %d claims, %d goroutines more, %d KiB more", while, float64(more)/hands, claims.Load(),
		runtime.NumGoroutine()-goroutines, (int64(last.HeapAlloc)-int64(first.HeapAlloc))>>10)
	if more < hands || more > 15*hands {
		t.Errorf("writes: %d of %d hands in %s, want some of each and no hurry", more, hands, while)
	}
	if grown := int64(last.HeapAlloc) - int64(first.HeapAlloc); grown > 16<<20 || runtime.NumGoroutine() > goroutines+50 {
		t.Errorf("grown by %d KiB and %d goroutines", grown>>10, runtime.NumGoroutine()-goroutines)
	}
	away.Store(false)
	w.awaitEmpty()
	if n, orders := len(w.orders()), len(w.klarna.Simulator.Books().Orders); n != 2*hands || orders != 2*hands {
		t.Errorf("requests %d, orders %d, want %d", n, orders, 2*hands)
	}
	stop()
}
