package worker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// period is a job of subscription s for a period that fell due so many days ago.
func (w *world) period(s, period, token string, attempt, ago int, change ...func(map[string]any)) []byte {
	w.t.Helper()
	return w.due(s, token, attempt, append([]func(map[string]any){func(j map[string]any) {
		j["id"], j["period"] = fmt.Sprintf("%s/%s/%d", s, period, attempt), period
		j["due_at"] = w.began.Truncate(time.Second).Add(-time.Hour).AddDate(0, 0, -ago).UTC().Format(time.RFC3339)
	}}, change...)...)
}

func every(interval string, count int) func(map[string]any) {
	return func(j map[string]any) {
		subscription := j["order"].(map[string]any)["order_lines"].([]any)[0].(map[string]any)["subscription"].(map[string]any)
		subscription["interval"], subscription["interval_count"] = interval, count
	}
}

func offCycle(j map[string]any) { j["off_cycle"] = true }

// became is the last result of each job, by message ID.
func (w *world) became() map[messages.MessageID]string {
	all := map[messages.MessageID]string{}
	for _, r := range w.results() {
		all[r.ID] = r.String()
	}
	return all
}

// S64: one period under three names, published at once and handled by three workers, is charged once; the others
// say what stands in their way. For many subscriptions at a time.
func TestOnePeriodUnderThreeNames(t *testing.T) {
	const subscriptions = 30
	w := newWorld(t)
	names := []string{"2026-12", "December 2026", "2026-12-01"}
	for range 3 {
		w.start()
	}
	for n := range subscriptions {
		for _, name := range names {
			w.publish(w.period(fmt.Sprint("s64-", n), name, "ok-"+fmt.Sprint(n), 1, 0))
		}
	}
	w.awaitEmpty()
	charged := map[string]string{} // the key of each subscription's order
	for _, paid := range bodies[messages.Paid](w) {
		if other := charged[string(paid.SubscriptionID)]; other != "" {
			t.Errorf("subscription %s is charged twice", paid.SubscriptionID)
		}
		charged[string(paid.SubscriptionID)] = string(paid.IdempotencyKey)
	}
	rejected := bodies[messages.Rejected](w)
	for _, r := range rejected {
		by := charged[string(r.SubscriptionID)]
		if r.Attempt != 1 || r.Reason != messages.ReasonTooClose || string(r.ConflictsWith) != by || len(r.Errors) != 1 || r.Errors[0].Path != "period" || !strings.Contains(r.Errors[0].Message, by) || !strings.Contains(r.Errors[0].Message, "off_cycle") {
			t.Errorf("%s: %s, conflicts with %s, %v; want too_close, because of %s", r.ID, r.Reason, r.ConflictsWith, r.Errors, by)
		}
	}
	if orders := len(w.klarna.Simulator.Books().Orders); orders != subscriptions || len(charged) != subscriptions || len(rejected) != 2*subscriptions {
		t.Errorf("%d orders, %d paid, %d rejected, want %d, %[4]d and %d", orders, len(charged), len(rejected), subscriptions, 2*subscriptions)
	}
	if letters, _ := w.deadLetters(); len(letters) != len(rejected) {
		t.Errorf("%d dead letters, want one for each that was rejected", len(letters))
	}
}

// S64: how far apart is far enough goes by the shorter cadence of the two. A burst of really different periods passes.
func TestCloseGoesByTheCadence(t *testing.T) {
	w := newWorld(t)
	w.start()
	const paid, tooClose = "paid", "rejected too_close"
	for _, tt := range []struct {
		name          string
		apart         int // days
		first, second func(map[string]any)
		want          string // of the second
	}{
		{name: "months, the same day", apart: 0, first: every("MONTH", 1), second: every("MONTH", 1), want: tooClose},
		{name: "months, fourteen days", apart: 14, first: every("MONTH", 1), second: every("MONTH", 1), want: tooClose},
		{name: "months, fifteen days", apart: 15, first: every("MONTH", 1), second: every("MONTH", 1), want: paid},
		{name: "months, a short one", apart: 28, first: every("MONTH", 1), second: every("MONTH", 1), want: paid},
		{name: "weeks, three days", apart: 3, first: every("WEEK", 1), second: every("WEEK", 1), want: tooClose},
		{name: "weeks, four days", apart: 4, first: every("WEEK", 1), second: every("WEEK", 1), want: paid},
		{name: "a week beside a month", apart: 4, first: every("MONTH", 1), second: every("WEEK", 1), want: paid},
		{name: "a month beside a week", apart: 4, first: every("WEEK", 1), second: every("MONTH", 1), want: paid},
		{name: "a month beside a week, close", apart: 3, first: every("WEEK", 1), second: every("MONTH", 1), want: tooClose},
		{name: "days, one", apart: 1, first: every("DAY", 1), second: every("DAY", 1), want: paid},
		{name: "years, five months", apart: 100, first: every("YEAR", 1), second: every("YEAR", 1), want: tooClose},
		{name: "off-cycle beside a period", apart: 0, first: every("MONTH", 1), second: offCycle, want: paid},
		{name: "a period beside off-cycle", apart: 0, first: offCycle, second: every("MONTH", 1), want: paid},
	} {
		s := strings.NewReplacer(" ", "-", ",", "").Replace(tt.name)
		w.publish(w.period(s, "second", "ok-1", 1, 0, tt.second)) // the later of the two
		w.awaitEmpty()
		w.publish(w.period(s, "first", "ok-1", 1, tt.apart, tt.first))
		w.awaitEmpty()
		if got := w.became(); got[messages.MessageID(s+"/second/1")] != paid || got[messages.MessageID(s+"/first/1")] != tt.want {
			t.Errorf("%s: %s, then %s; want paid, then %s", tt.name, got[messages.MessageID(s+"/second/1")], got[messages.MessageID(s+"/first/1")], tt.want)
		}
	}
}

// S64: a period that is refused leaves room for the one beside it, which has waited; S85: the refused one's second attempt looks, too.
func TestRefusedPeriodLeavesRoom(t *testing.T) {
	w := newWorld(t)
	w.start(w.patient)
	w.publish(w.period("s85", "A", "slow-500-soft-decline-1", 1, 0))
	w.await("the first request", func() bool { return len(w.klarna.Simulator.Books().Keys) > 0 })
	w.publish(w.period("s85", "B", "ok-1", 1, 0))
	w.awaitEmpty()
	w.publish(w.period("s85", "A", "ok-2", 2, 0))
	w.awaitEmpty()
	got := w.became()
	if want := map[messages.MessageID]string{"s85/A/1": "dunning payment_method_failed", "s85/B/1": "paid", "s85/A/2": "rejected too_close"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	last := w.records()[len(w.records())-1]
	if last.State.Phase != journal.PhaseDunning || last.State.Open() {
		t.Errorf("the refused period is %s, want dunning as before", last.State.Phase)
	}
}

// S86: A and B are too close, B and C as well, A and C not: A and C are charged, B is refused, and C not for a B that yields.
func TestChainOfClosePeriods(t *testing.T) {
	w := newWorld(t)
	w.start(w.patient)
	w.publish(w.period("s86", "A", "slow-400-1", 1, 24))
	w.await("the first request", func() bool { return len(w.klarna.Simulator.Books().Keys) > 0 })
	w.publish(w.period("s86", "B", "ok-1", 1, 12))
	w.await("the second to wait", func() bool { return w.held("s86/B/1") })
	w.publish(w.period("s86", "C", "ok-2", 1, 0))
	w.awaitEmpty()
	got := w.became()
	if want := map[messages.MessageID]string{"s86/A/1": "paid", "s86/B/1": "rejected too_close", "s86/C/1": "paid"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// held says that a job's claim is kept for another period's sake.
func (w *world) held(id messages.MessageID) bool {
	return slices.ContainsFunc(w.records(), func(r told) bool {
		return r.ID == id && r.State.Open() && r.State.Claim.Held && r.State.Claim.Released && r.State.Claim.FirstSentAt.IsZero()
	})
}

// Nothing is sent for a period that waits for the one beside it, and it gets its result as soon as that has its own.
func TestPeriodWaitsForTheOneBesideIt(t *testing.T) {
	w := newWorld(t)
	w.start(w.patient, func(o *Options) { o.RetryDelays = []time.Duration{time.Hour} }) // it is woken
	w.publish(w.period("wait", "A", "slow-700-1", 1, 0))
	w.await("the first request", func() bool { return len(w.klarna.Simulator.Books().Keys) > 0 })
	w.publish(w.period("wait", "B", "ok-1", 1, 1))
	w.await("the second to wait", func() bool { return w.held("wait/B/1") })
	w.awaitEmpty()
	w.expect(1, "paid", "rejected too_close")
	if n := len(w.orders()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// An account may charge whatever it is told to.
func TestSpacingOff(t *testing.T) {
	w := newWorld(t)
	w.start(func(o *Options) { o.Accounts[0].Spacing = SpacingOff })
	w.publish(w.period("off", "A", "ok-1", 1, 0))
	w.publish(w.period("off", "B", "ok-2", 1, 0))
	w.awaitEmpty()
	w.expect(2, "paid", "paid")
	for _, r := range w.records() {
		if !r.State.Claim.Unspaced {
			t.Errorf("%s of %s does not say that its holder did not look", r.Kind, r.ID)
		}
	}
}

// S84: a worker dies after it has claimed and before it has looked, while the period beside it is being charged: whoever takes the claim over
// looks. What is certain is said: that worker cannot have sent anything, so that the job is rejected, and no operator is called.
func TestDiedBeforeItLooked(t *testing.T) {
	w := newWorld(t)
	w.start(w.patient)
	w.publish(w.period("died", "A", "slow-700-1", 1, 0))
	w.await("the first request", func() bool { return len(w.klarna.Simulator.Books().Keys) > 0 })

	payload := w.period("died", "B", "ok-1", 1, 0)
	r := messages.Read(payload, nil)
	first := w.records()[0].State.Claim
	claimed := journal.Deliver(journal.State{Phase: journal.PhaseNone}, journal.Request{
		Key: r.IdempotencyKey, Hash: journal.HashCharge("default", r.Job), Account: "default", DueAt: r.Job.DueAt, Cadence: r.Facts.Cadence, Nonce: "dead", Worker: "dead",
		Host: first.Host, Endpoint: first.Endpoint, Merchant: first.Merchant,
	}, w.now().Add(-time.Hour), journal.NewRules(journal.DefaultTiming(), 2*time.Minute))
	records, err := journal.Open(t.Context(), w.js, DefaultOptions().Log)
	if err != nil {
		t.Fatal(err)
	}
	event := messages.Charging{Record: messages.Record{ID: r.Job.ID, Account: "default", RenewalKey: r.RenewalKey, IdempotencyKey: r.IdempotencyKey}}
	w.writes(records, r.Renewal(), journal.Entry{State: journal.State{Phase: journal.PhaseNone}}, claimed.State, event, event.Record)
	w.publish(payload)
	w.awaitEmpty()
	w.expect(1, "paid", "rejected too_close")
}

// A neighbour that nobody finishes is settled as unresolved by whoever waits for it, which then is too close to it.
func TestAbandonedPeriodIsSettled(t *testing.T) {
	w := newWorld(t)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "500" })
	stop := w.start(func(o *Options) { o.Accounts[0].Rate = 1000 })
	w.publish(w.period("left", "A", "ok-1", 1, 0))
	w.await("undecided tries", func() bool { return len(w.orders()) > 1 })
	stop()
	stream, err := w.js.Stream(t.Context(), messages.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil { // its job is gone
		t.Fatal(err)
	}
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "" })
	w.advance(26 * time.Hour)
	w.sweepEvery = time.Hour // the sweeper would settle it, too
	started := w.start(func(o *Options) { o.KeyWindow = 23 * time.Hour })
	defer started()
	w.publish(w.period("left", "B", "ok-2", 1, 0))
	w.awaitEmpty()
	got := w.became()
	if got["left/A/1"] != "unresolved idempotency_window_expired" || got["left/B/1"] != "rejected too_close" {
		t.Errorf("got %v, want A unresolved, and B too close to it", got)
	}
}

// A charge whose neighbours cannot be looked at is not sent, and comes again.
func TestNothingIsSentUnlooked(t *testing.T) {
	w := newWorld(t)
	var blind atomic.Bool
	var looks atomic.Int64
	blind.Store(true)
	w.startFaulty(faulty{index: func() error {
		if looks.Add(1); blind.Load() {
			return nats.ErrTimeout
		}
		return nil
	}})
	w.publish(w.due("blind", "ok-1", 1))
	w.await("several looks", func() bool { return looks.Load() > 3 })
	if n := len(w.orders()); n != 0 {
		t.Errorf("%d requests, want none before the look", n)
	}
	blind.Store(false)
	w.awaitEmpty()
	w.expect(1, "paid")
	if r := w.records()[len(w.records())-1]; r.State.Claim.UndecidedTries != 0 || r.Tries != 1 {
		t.Errorf("%d tries, %d undecided, want one that decided", r.Tries, r.State.Claim.UndecidedTries)
	}
}
