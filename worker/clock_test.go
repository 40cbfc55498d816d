package worker

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// clocks are a machine's, moved by hand.
type clocks struct {
	wall      time.Time
	monotonic time.Duration
}

func (c *clocks) pass(d time.Duration) { c.wall, c.monotonic = c.wall.Add(d), c.monotonic+d }

// compared is an account on such a machine, whose clock was just compared with
// the broker's, and a claim of it that may be sent.
func compared(t *testing.T) (*account, *clocks, journal.Claim) {
	t.Helper()
	c := &clocks{wall: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), monotonic: time.Hour}
	o := DefaultOptions()
	o.Name, o.Accounts = "w", []Account{{Name: "default"}}
	o.Now, o.Monotonic = func() time.Time { return c.wall }, func() time.Duration { return c.monotonic }
	a := accountOf(t, nil, o, nil)
	a.rules.base = journal.Rules{Timing: o.timing(), ClockMargin: time.Second}
	a.compare(c.wall)
	now := a.shared.clock.now()
	return a, c, journal.Claim{FirstSentAt: now, LeaseUntil: now.Add(2 * time.Minute)}
}

// accountOf is the only account of a worker that does not run.
func accountOf(t testing.TB, js jetstream.JetStream, o Options, records *journal.Journal) *account {
	t.Helper()
	if o.Name == "" {
		o.Name = "w"
	}
	w, err := New(js, o)
	if err != nil {
		t.Fatal(err)
	}
	return newAccount(w.opts.Accounts[0], o.Name, w.shared(records, t.Context(), t.Context()), w.log)
}

// compare compares the account's clock with the broker's, which shows this.
func (a *account) compare(broker time.Time) {
	clock := a.shared.clock
	clock.compare(clock.reading(), broker, time.Second)
}

// S78: what may be sent is asked of the clock at the send, whatever moved it
// since the last comparison; a fresh comparison ends the doubt.
func TestClockIsAskedAtTheSend(t *testing.T) {
	for _, tt := range []struct {
		name  string
		move  func(*clocks)
		fault string
	}{
		{"nothing happened", func(c *clocks) { c.pass(10 * time.Second) }, ""},
		{"corrected by less than a second", func(c *clocks) { c.wall = c.wall.Add(900 * time.Millisecond) }, ""},
		{"set forward", func(c *clocks) { c.wall = c.wall.Add(26 * time.Hour) }, "was set"},
		{"set back", func(c *clocks) { c.wall = c.wall.Add(-2 * time.Hour) }, "was set"},
		{"set forward by less than what is corrected", func(c *clocks) { c.wall = c.wall.Add(50 * time.Second) }, "was set"},
		{"suspended: the monotonic clock stood still", func(c *clocks) { c.wall = c.wall.Add(90 * time.Second) }, "was set"},
		{"not compared again", func(c *clocks) { c.pass(comparedFor + time.Second) }, "not compared"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, c, claim := compared(t)
			before := a.shared.clock.now()
			monotonic := c.monotonic
			tt.move(c)
			if got := a.shared.clock.now().Sub(before); got != c.monotonic-monotonic {
				t.Errorf("now moved by %s, want what has passed: %s", got, c.monotonic-monotonic)
			}
			err := a.rules.sendable(claim)
			if (err != nil) != (tt.fault != "") || !strings.Contains(a.shared.pauses.reasons.Why(gate.PauseClock), tt.fault) {
				t.Fatalf("sendable: %v, paused: %q; want %q", err, a.shared.pauses.reasons.Why(gate.PauseClock), tt.fault)
			}
			a.compare(c.wall)
			if err := a.rules.sendable(claim); err != nil && c.wall.Sub(before) < time.Minute {
				t.Errorf("sendable after a comparison: %v, paused: %v", err, a.shared.pauses.reasons.Active())
			}
		})
	}
	t.Run("paused, whatever the clocks show", func(t *testing.T) {
		a, _, claim := compared(t)
		a.shared.pauses.set(gate.PauseClock, "off")
		if a.rules.sendable(claim) == nil {
			t.Error("sent on a clock that is off")
		}
	})
	t.Run("never compared", func(t *testing.T) {
		a, _, claim := compared(t)
		a.shared.clock.compared.Store(nil)
		if a.rules.sendable(claim) == nil {
			t.Error("sent on a clock that nobody compared")
		}
	})
}

// S78: a comparison that cannot be relied upon is none.
func TestComparisonsThatSayTooLittle(t *testing.T) {
	for _, tt := range []struct {
		name    string
		between func(*clocks)
		broker  time.Duration // ahead of the wall
	}{
		{"too slow for the margin of a lease", func(c *clocks) { c.pass(1100 * time.Millisecond) }, 0},
		{"set meanwhile", func(c *clocks) { c.wall = c.wall.Add(-50 * time.Second) }, 0},
		{"the broker's clock jumped", func(c *clocks) {}, 26 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, c, _ := compared(t)
			base := a.shared.clock.compared.Load()
			sent := a.shared.clock.reading()
			tt.between(c)
			a.shared.clock.compare(sent, c.wall.Add(tt.broker), time.Second)
			if a.shared.clock.compared.Load() != base {
				t.Errorf("it was relied upon: now is %s", a.shared.clock.now())
			}
		})
	}
}

// S78: a step that rests on time having passed is not taken on such a clock.
func TestNothingExpires(t *testing.T) {
	a, c, claim := compared(t)
	open := journal.State{Phase: journal.PhaseCharging, Claim: &claim}
	for _, tt := range []struct {
		name string
		next journal.Transition
	}{
		{"a key's window", journal.Transition{Record: messages.KindUnresolved, Reason: messages.ReasonIdempotencyWindowExpired}},
		{"a job", journal.Transition{Record: messages.KindRejected, Reason: messages.ReasonExpired}},
		{"a period", journal.Transition{Record: messages.KindRejected, Reason: messages.ReasonTooOld}},
		{"another's lease", journal.Transition{Record: messages.KindCharging, Then: journal.Try}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.next.Record == "" {
				t.Fatalf("%+v writes nothing", tt.next)
			}
			a.shared.pauses.lift(gate.PauseClock)
			c.wall = c.wall.Add(50 * time.Second)
			// There is no journal: writing would panic.
			next, _, err := a.handler.recorder.advance(t.Context(), nil, &job{service: charge}, journal.Entry{State: open}, func(journal.State) journal.Transition { return tt.next }, journal.TryResult{})
			if err != nil || next.Then != journal.Nak || next.Record != "" {
				t.Errorf("advance = %+v, %v; want the job to come again", next, err)
			}
		})
	}
}

// deaf is the workers' bucket while nothing gets through.
type deaf struct {
	jetstream.JetStream
	off *atomic.Bool
}

type deafBucket struct {
	jetstream.KeyValue
	off *atomic.Bool
}

func (d deaf) KeyValue(ctx context.Context, name string) (jetstream.KeyValue, error) {
	kv, err := d.JetStream.KeyValue(ctx, name)
	return deafBucket{kv, d.off}, err
}

func (d deafBucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if d.off.Load() {
		return 0, jetstream.ErrNoStreamResponse
	}
	return d.KeyValue.Put(ctx, key, value)
}

// S78: the clock of a worker steps while claims are open. Nothing is sent and
// nothing expires until it was compared again; then everything ends well.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{26 * time.Hour, -2 * time.Hour, 50 * time.Second, -50 * time.Second} {
		t.Run(step.String(), func(t *testing.T) {
			w := newWorld(t)
			w.verifyEvery = often
			var set atomic.Int64
			var off atomic.Bool
			js := w.js
			w.js = deaf{js, &off}
			w.publish(w.due("open", "503x9-bare-1", 1))
			var worker *Worker
			w.startWith(&worker, func(o *Options) {
				o.Now = func() time.Time { return w.now().Add(time.Duration(set.Load())) }
				o.RetryDelays = []time.Duration{200 * time.Millisecond}
			})
			w.js = js
			w.await("a try", func() bool { return len(w.orders()) > 0 })
			off.Store(true)
			set.Store(int64(step))
			w.await("the pause", func() bool { return worker.pauses.reasons.Why(gate.PauseClock) != "" })
			tries, records := len(w.orders()), len(w.records())
			w.publish(w.due("new", "ok-3", 1, func(j map[string]any) { j["expires_at"] = w.now().Add(2 * time.Hour).UTC().Format(time.RFC3339) }))
			w.verified()
			if now := len(w.orders()); now > tries+1 { // one may have been on its way
				t.Errorf("tries on a clock that was not compared: %d", now-tries)
			}
			if now := len(w.records()); now > records+1 {
				t.Errorf("records on a clock that was not compared: %v", w.records()[records:])
			}
			set.Store(0)
			if step.Abs() < journal.MaxSkew { // what is corrected
				set.Store(int64(step))
			}
			off.Store(false)
			w.advance(time.Hour)
			w.awaitEmpty()
			for _, r := range w.results() {
				if r.Kind != messages.KindPaid {
					t.Errorf("%s: %s", r.ID, r)
				}
			}
			if n := len(w.klarna.Simulator.Books().Orders); n != 2 {
				t.Errorf("orders: %d, want 2", n)
			}
		})
	}
}

// S78: a comparison that does not come again is a pause, also where nothing is sent.
func TestNotComparedAgain(t *testing.T) {
	w := newWorld(t)
	var off atomic.Bool
	var sweeping, worker *Worker
	w.startWith(&sweeping) // a sweep would ask for the clock, too
	w.await("the sweeper", func() bool { return sweeping.leading.Load() })
	js := w.js
	w.js = deaf{js, &off}
	w.startWith(&worker)
	w.js = js
	w.await("the worker", func() bool { return worker.Ready() == nil })
	off.Store(true)
	w.advance(comparedFor + time.Second)
	w.await("the pause", func() bool { return worker.Ready() != nil })
	if err := worker.Ready(); err == nil || !strings.Contains(err.Error(), "not compared") {
		t.Errorf("Ready: %v, want the clock", err)
	}
	off.Store(false)
	w.await("the end of the pause", func() bool { return worker.Ready() == nil })
}
