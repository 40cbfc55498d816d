package worker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// More failure stories, in the worlds of scenario_test.go. The names of tests carry their numbers.

// tap is a JetStream on which a test holds, fails or loses what a worker
// publishes. An error of before keeps the message from being sent; one of after loses the answer to a message that is stored.
type tap struct {
	jetstream.JetStream
	before, after func(*nats.Msg) error
}

func (t tap) PublishMsg(ctx context.Context, m *nats.Msg, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if t.before != nil {
		if err := t.before(m); err != nil {
			return nil, err
		}
	}
	ack, err := t.JetStream.PublishMsg(ctx, m, options...)
	if err == nil && t.after != nil {
		err = t.after(m)
	}
	return ack, err
}

// startOn is start, on another view of the broker.
func (w *world) startOn(t tap, change ...func(*Options)) (stop func()) {
	w.t.Helper()
	t.JetStream = w.js
	defer func() { w.js = t.JetStream }()
	w.js = t
	return w.start(change...)
}

// is says whether a message is a record of that kind.
func is(m *nats.Msg, k messages.Kind) bool {
	return strings.HasPrefix(m.Subject, "renewals."+string(k)+".")
}

// hold waits until released, or until the test ends.
func (w *world) hold(released <-chan struct{}) {
	select {
	case <-released:
	case <-w.t.Context().Done():
	}
}

func oneHand(o *Options) { o.Accounts[0].Concurrency = 1 }

// patient lets a worker wait longer for Klarna than any test takes.
func (w *world) patient(o *Options) {
	w.t.Helper()
	var accounts []messages.Account
	for _, a := range o.Accounts {
		accounts = append(accounts, a.Name)
	}
	if err := Provision(w.t.Context(), w.js, topology.Provisioning{Accounts: accounts, AckWait: 20 * time.Second, Force: []string{topology.ForceAckWait}}); err != nil {
		w.t.Fatal(err)
	}
	o.TryTimeout = 15 * time.Second
}

// bodies are the events of one kind, as they were published.
func bodies[E messages.Event](w *world) (all []E) {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), messages.StreamJournal)
	if err != nil {
		w.t.Fatal(err)
	}
	var kind E
	for next := uint64(1); ; {
		m, err := stream.GetMsg(w.t.Context(), next, jetstream.WithGetMsgSubject(messages.RecordFilter(kind.Kind(), "*")))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return all
		}
		if err != nil {
			w.t.Fatal(err)
		}
		body, err := journal.WholeBody(m.Subject, m.Header.Get(messages.HeaderState), m.Data)
		if err != nil {
			w.t.Fatal(err)
		}
		var e E
		if err := json.Unmarshal(body, &e); err != nil {
			w.t.Fatal(err)
		}
		all, next = append(all, e), m.Sequence+1
	}
}

// metric sums the series of a counter or gauge that have a label with this
// value, or all of them for "".
func metric(t *testing.T, r *prometheus.Registry, name, value string) (sum float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labelled := value == ""
			for _, l := range m.GetLabel() {
				labelled = labelled || l.GetValue() == value
			}
			if f.GetName() == name && labelled {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// gauge is what the worker that looks at everything exports now.
func (w *world) gauge(name string) float64 {
	w.t.Helper()
	r := prometheus.NewRegistry()
	o := DefaultOptions()
	o.Name, o.Accounts, o.Metrics, o.Now = "looks only", []Account{{Name: "default"}}, NewMetrics(r), w.now
	looking, err := New(w.js, o)
	if err != nil {
		w.t.Fatal(err)
	}
	looking.leading.Store(true)
	ctx, stop := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); looking.gauges().run(ctx) }()
	w.await("a look", func() bool { return metric(w.t, r, "renewals_key_window_left_seconds", "") != 0 })
	stop()
	<-done
	return metric(w.t, r, name, "")
}

// S1, S9: whatever Klarna answers and however often the job is
// delivered, one attempt sends one key and the same bytes; the next attempt has a key of its own.
func TestSameKeySameBytes(t *testing.T) {
	const token = "429x1-401x1-500x1-503x1-bare-502x1-html-created-cut-soft-decline-once-1" // seven tries
	w := newWorld(t)
	w.start()
	w.start()
	before, keys := 0, map[string]bool{}
	for attempt := 1; attempt <= 2; attempt++ {
		w.publish(w.due("s9", token, attempt))
		w.awaitEmpty()
		results, calls := w.results(), w.orders()[before:]
		if len(results) != attempt {
			t.Fatalf("results: %v, want one for each of %d attempts", results, attempt)
		}
		r := results[attempt-1]
		for _, c := range calls {
			keys[c.IdempotencyKey] = true
		}
		if len(calls) < 7 || len(keys) != attempt || !keys[string(r.Key)] {
			t.Errorf("attempt %d: %d requests, keys so far %v, want at least 7 with one more key", attempt, len(calls), keys)
		}
		if d := r.Turns; d < 5 || r.State.Attempts != int64(attempt) {
			t.Errorf("attempt %d after %d deliveries, want attempt %d after 5 or more", r.State.Attempts, d, attempt)
		}
		before += len(calls)
	}
	w.expect(1, "dunning payment_method_failed", "paid")
	if n := w.klarna.Simulator.Counts().OtherBodies; n != 0 {
		t.Errorf("tries with other bytes than the first: %d", n)
	}
}

// S4, S23, S24: Klarna answers 5xx for as long as the
// key may be used. Nothing is announced, somebody can see it all the time, and what is found out in the end, such as by a row
// of a settlement report, is a result like any other.
func TestUnknownUntilAPersonKnows(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		found   string
		orderID string
		orders  int // that the next attempt makes
		want    []string
	}{
		{found: "an order", orderID: "the order of the settlement row", want: []string{"paid", "rejected already_paid"}},
		{found: "no order", orders: 1, want: []string{"dunning not_charged", "paid"}},
	} {
		t.Run(tt.found, func(t *testing.T) {
			w := newWorld(t)
			registry := prometheus.NewRegistry()
			w.publish(w.due("s4", "503-bare-1", 1))
			stop := w.start()
			w.await("tries of several deliveries", func() bool { return len(w.orders()) > 5 })
			stop()
			w.expect(0)
			w.advance(22 * time.Hour)
			if age := w.gauge("renewals_oldest_undecided_seconds"); age < (22 * time.Hour).Seconds() {
				t.Errorf("oldest undecided claim: %.0f s, want 22 h", age)
			}

			w.advance(time.Hour + time.Minute)
			w.start(func(o *Options) { o.Metrics = NewMetrics(registry) })
			w.awaitEmpty()
			w.expect(0, "unresolved idempotency_window_expired")
			if n := metric(t, registry, "renewals_results_total", "unresolved"); n != 1 {
				t.Errorf("unresolved results counted: %v, want 1", n)
			}
			waiting := func(want int) {
				t.Helper()
				o, err := desk.Look(t.Context(), w.js, w.now())
				if err != nil {
					t.Fatal(err)
				}
				shown := slices.ContainsFunc(o.Accounts, func(a desk.AccountOverview) bool {
					return a.Unresolved == 1 && strings.Contains(a.Human(), "unresolved renewals")
				})
				if g := int(w.gauge("renewals_unresolved")); g != want || len(o.Unresolved) != want || shown != (want > 0) {
					t.Errorf("unresolved renewals: metric %d, status %v, shown as in need of a human %t; want %d", g, o.Unresolved, shown, want)
				}
			}
			waiting(1)
			w.advance(30 * 24 * time.Hour)
			waiting(1)

			records, err := journal.Open(t.Context(), w.js, DefaultOptions().Log)
			if err != nil {
				t.Fatal(err)
			}
			renewal, decided := messages.NewRenewal("s4", "2026-12"), journal.Decision{Actor: "anna", At: w.now()}
			if tt.orderID != "" {
				err = records.ResolvePaid(t.Context(), renewal, tt.orderID, true, decided)
			} else {
				err = records.ResolveNotCharged(t.Context(), renewal, decided)
			}
			if err != nil {
				t.Fatal(err)
			}
			waiting(0)
			for _, d := range bodies[messages.Dunning](w) {
				want := decided.At.Truncate(time.Millisecond) // as results tell times
				if d.NextAttemptAt == nil || !d.NextAttemptAt.Equal(want) || d.Final || !d.Retryable || d.Attempt != 1 || d.Corrects != "unresolved" {
					t.Errorf("dunning %+v, want attempt 1, the next at %s", d, want)
				}
				if d.Category != messages.CategoryMerchantError || d.FixBy != messages.FixByMerchant || d.NotifyCustomer {
					t.Errorf("dunning %+v, want our own mistake, and no word to the customer", d)
				}
			}
			for _, p := range bodies[messages.Paid](w) {
				if p.OrderID != tt.orderID || p.Corrects != "unresolved" || p.OrderAmount != 1599 {
					t.Errorf("paid %+v, want order %s, corrects unresolved", p, tt.orderID)
				}
			}

			w.publish(w.due("s4", "ok-1", 2))
			w.awaitEmpty()
			w.expect(tt.orders, append([]string{"unresolved idempotency_window_expired"}, tt.want...)...)
		})
	}
}

// S6: two workers have each found the renewal free before
// either writes. One claim wins, and the other worker asks nothing.
func TestBothClaimAtOnce(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s6", "ok-1", 1))
	w.publish(w.due("s6", "ok-1", 1))
	var there atomic.Int64
	both := make(chan struct{})
	barrier := tap{before: func(m *nats.Msg) error {
		if is(m, messages.KindCharging) {
			if there.Add(1) == 2 {
				close(both)
			}
			w.hold(both)
		}
		return nil
	}}
	w.startOn(barrier, oneHand)
	w.startOn(barrier, oneHand)
	w.awaitEmpty()
	w.expect(1, "paid")
	if calls, claims := w.orders(), bodies[messages.Charging](w); len(calls) != 1 || len(claims) != 1 {
		t.Errorf("claims: %d, requests: %d, want one of each", len(claims), len(calls))
	}
}

// S7: the charge went well and whatever comes after it fails
// for a while. That is not the customer's failure, and no reason to charge again.
func TestLaterStepsFail(t *testing.T) {
	t.Parallel()
	t.Run("the result cannot be written", func(t *testing.T) {
		w := newWorld(t)
		w.publish(w.due("s7", "ok-1", 1))
		var failed atomic.Int64
		var healed atomic.Bool
		w.startOn(tap{before: func(m *nats.Msg) error {
			if is(m, messages.KindCharging) || healed.Load() {
				return nil
			}
			failures := []error{nats.ErrTimeout, jetstream.ErrNoStreamResponse, &jetstream.APIError{Code: 503, ErrorCode: 10008}}
			return failures[failed.Add(1)%3]
		}})
		w.await("failures of each kind", func() bool { return failed.Load() > 5 })
		w.expect(1)
		if w.left() != 1 {
			t.Error("the job was acknowledged before its result was recorded")
		}
		healed.Store(true)
		w.awaitEmpty()
		w.expect(1, "paid")
		if n := len(w.orders()); n != 1 {
			t.Errorf("requests: %d, want 1", n)
		}
	})
	t.Run("the order cannot be read again", func(t *testing.T) {
		w := newWorld(t)
		w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.PendingFor = time.Hour })
		w.publish(w.due("s7", "pending-accept-1", 1))
		w.start()
		w.await("the pending record", func() bool { return len(w.records()) == 2 })
		w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "cutx1-500x1-404" })
		w.advance(2 * time.Hour)
		lookedUp := func() (failed int) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, e := range w.seen {
				if e.Method == "GET" && e.Status != 200 {
					failed++
				}
			}
			return failed
		}
		w.await("failed readings", func() bool { return lookedUp() > 3 })
		w.expect(1)
		w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "" })
		w.awaitEmpty()
		w.expect(1, "paid")
		if n := len(w.orders()); n != 1 {
			t.Errorf("orders asked for: %d, want 1", n)
		}
	})
}

// S11: a message ID is published again with another amount. It
// is put aside as it came, with why, and Klarna hears nothing of it.
func TestAnotherAmount(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s11", "ok-1", 1))
	w.start()
	w.awaitEmpty()
	changed := []byte(strings.ReplaceAll(string(w.due("s11", "ok-1", 1)), "1599", "1600"))
	w.publish(changed)
	w.awaitEmpty()
	w.expect(1, "paid", "rejected conflict")
	letters, payloads := w.deadLetters()
	if len(letters) != 1 || letters[0].Reason != messages.ReasonConflict || payloads[0] != string(changed) || letters[0].Errors[0].Path != "id" {
		t.Errorf("dead letters: %+v, want the changed job, with a conflict at id", letters)
	}
	if n := len(w.orders()); n != 1 {
		t.Errorf("requests: %d, want 1", n)
	}
}

// S16: two periods of one subscription are in flight,
// and the second is answered first. Each event tells of its own order.
func TestAnswersInSwappedOrder(t *testing.T) {
	w := newWorld(t)
	w.start(w.patient)
	periods := map[messages.Period]string{"2026-12": "slow-400-1", "2027-01": "ok-1"}
	for _, period := range []messages.Period{"2026-12", "2027-01"} {
		w.publish(w.due("s16", periods[period], 1, func(j map[string]any) {
			j["id"], j["period"] = "s16/"+period+"/1", period
			j["due_at"] = w.began.AddDate(0, 0, map[messages.Period]int{"2026-12": -32, "2027-01": -1}[period]).UTC().Format(time.RFC3339)
			j["order"].(map[string]any)["merchant_reference1"] = "s16-" + period
		}))
		w.await("the request", func() bool { return len(w.klarna.Simulator.Books().Keys) > 0 })
	}
	w.awaitEmpty()
	w.expect(2, "paid", "paid")
	key := func(p messages.Period) messages.IdempotencyKey {
		return messages.NewIdempotencyKey(messages.NewRenewalKey("s16", p), messages.MessageID("s16/"+string(p)+"/1"))
	}
	if calls := w.orders(); len(calls) != 2 || calls[0].IdempotencyKey != string(key("2027-01")) {
		t.Fatalf("answers: %v, want that of 2027-01 first", calls)
	}
	made := map[string]klarnasim.Order{}
	for _, o := range w.klarna.Simulator.Books().Orders {
		made[o.IdempotencyKey] = o
	}
	for _, p := range bodies[messages.Paid](w) {
		k, reference := key(p.Period), "s16-"+string(p.Period)
		if o := made[string(k)]; p.IdempotencyKey != k || p.OrderID != o.OrderID || p.MerchantReference1 != reference || o.MerchantReference1 != reference {
			t.Errorf("period %s is paid with order %s under key %s and reference %s, Klarna made %+v", p.Period, p.OrderID, p.IdempotencyKey, p.MerchantReference1, o)
		}
		delete(periods, p.Period)
	}
	if len(periods) != 0 {
		t.Errorf("not paid: %v", periods)
	}
}

// S17: Klarna fails at random and every fifth answer of the
// broker is lost, while both attempts of each renewal are in the queue, some of them twice. Each message ID has one result, and it is true.
func TestOneResultEach(t *testing.T) {
	const renewals = 25
	w := newWorld(t)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Faults = 0.25 })
	var published atomic.Int64
	losing := tap{after: func(*nats.Msg) error {
		if published.Add(1)%5 == 0 {
			return nats.ErrTimeout
		}
		return nil
	}}
	tokens := []string{"ok-", "soft-decline-", "cancelled-", "soft-decline-once-", "lost-cancelled-"}
	for n := range 3 * renewals {
		renewal := n % renewals
		w.publish(w.due("s17-"+strconv.Itoa(renewal), tokens[renewal%len(tokens)]+strconv.Itoa(renewal), 1+n/renewals%2))
	}
	w.startOn(losing)
	w.startOn(losing)
	// What Klarna refuses after it may have made an order stays undecided until the key's window closes.
	w.await("what can be decided", func() bool {
		last := map[string]journal.State{}
		settled, undecided := 0, 0
		for _, r := range w.records() {
			renewal, _, _ := strings.Cut(string(r.ID), "/")
			last[renewal] = r.State
		}
		for _, s := range last {
			settled += len(s.Settled)
			if s.Open() && s.Claim.Contradicted {
				undecided += 2 - len(s.Settled)
			}
		}
		return settled+undecided == 2*renewals
	})
	w.advance(23*time.Hour + time.Minute) // Klarna still knows the key of a try that is under way
	w.awaitEmpty()

	orders, perRenewal := map[string]int{}, map[string]int{}
	for _, o := range w.klarna.Simulator.Books().Orders {
		orders[o.IdempotencyKey]++
		perRenewal[o.MerchantReference1]++
	}
	for renewal, n := range perRenewal {
		if n > 1 {
			t.Errorf("%s has %d orders", renewal, n)
		}
	}
	told, final, kinds := map[messages.MessageID]int{}, map[string]bool{}, map[messages.Kind]int{}
	for _, r := range w.results() {
		renewal, _, _ := strings.Cut(string(r.ID), "/")
		told[r.ID]++
		kinds[r.Kind]++
		made := orders[string(r.Key)]
		switch {
		case told[r.ID] > 1 && r.Corr == "":
			t.Errorf("%s has another result: %s", r.ID, r)
		case r.Kind == messages.KindPaid && (made != 1 || final[renewal]):
			t.Errorf("%s is paid with %d orders, after a final refusal: %t", r.ID, made, final[renewal])
		case (r.Kind == messages.KindDunning || r.Kind == messages.KindRejected) && made != 0:
			t.Errorf("%s: %s, with %d orders", r.ID, r, made)
		}
		final[renewal] = final[renewal] || r.Kind == messages.KindDunning && r.Final
	}
	if len(told) != 2*renewals || kinds[messages.KindPaid] == 0 || kinds[messages.KindDunning] == 0 || kinds[messages.KindUnresolved] == 0 {
		t.Errorf("results of %d message IDs, want %d: %v, want some of each kind", len(told), 2*renewals, kinds)
	}
}

// S19: both spellings of a cancelled token mean the same, and a
// code that nobody knows is the merchant's, not the customer's, and counted.
func TestCodesOfKlarna(t *testing.T) {
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	for i, token := range []string{"cancelled-1", "canceled-1", "403-SOMETHING_NEW-1"} {
		w.publish(w.due("s19-"+strconv.Itoa(i), token, 1))
	}
	w.start(func(o *Options) { o.Metrics = NewMetrics(registry) })
	w.awaitEmpty()
	dead := messages.Dunning{Category: messages.CategoryTokenDead, FixBy: messages.FixByCustomer, NotifyCustomer: true}
	unknown := messages.Dunning{Category: messages.CategoryMerchantError, FixBy: messages.FixByMerchant}
	want := map[string]messages.Dunning{"TOKEN_CANCELLED": dead, "TOKEN_CANCELED": dead, "SOMETHING_NEW": unknown}
	for _, d := range bodies[messages.Dunning](w) {
		expected, ok := want[d.ErrorCode]
		if !ok || d.Category != expected.Category || d.FixBy != expected.FixBy || d.NotifyCustomer != expected.NotifyCustomer || d.Retryable || !d.Final || d.NextAttemptAt != nil {
			t.Errorf("%s: %+v, want as %+v, final", d.ErrorCode, d, expected)
		}
		delete(want, d.ErrorCode)
	}
	if len(want) != 0 {
		t.Errorf("no dunning for %v", want)
	}
	if n := metric(t, registry, "renewals_unknown_error_codes_total", ""); n != 1 {
		t.Errorf("unknown codes counted: %v, want 1", n)
	}
}

// S20, S21, S22: three attempts are allowed and all are declined. There
// are three charges, the last says that it is the last, nothing is left behind, and a policy that changes meanwhile is for others.
func TestThreeDeclinesAndNoMore(t *testing.T) {
	w := newWorld(t)
	policy := func(days []int) func(*Options) {
		p := dunning.DefaultPolicy()
		p.SoftDecline = dunning.Schedule{Days: days, MaxAttempts: len(days) + 1}
		return func(o *Options) { o.Accounts[0].Policy = p }
	}
	stop := w.start(policy([]int{1, 3}))
	for attempt := 1; attempt <= 3; attempt++ {
		w.publish(w.due("s21", "soft-decline-1", attempt, func(j map[string]any) { delete(j, "attempt") }))
		w.awaitEmpty()
		if attempt == 1 {
			stop()
			w.start(policy([]int{9}))
		}
		w.advance(48 * time.Hour)
	}
	told := bodies[messages.Dunning](w)
	if len(told) != 3 {
		t.Fatalf("refusals: %d, want 3", len(told))
	}
	first := w.records()[0].State.FirstAttemptAt.Truncate(time.Millisecond) // as results tell times
	for i, days := range []int{1, 3, 0} {
		d, want := told[i], (*time.Time)(nil)
		if days > 0 {
			at := first.Add(time.Duration(days) * 24 * time.Hour)
			want = &at
		}
		if d.Attempt != int64(i+1) || d.Final != (want == nil) || (d.NextAttemptAt == nil) != (want == nil) || want != nil && !d.NextAttemptAt.Equal(*want) {
			t.Errorf("attempt %d, final %t, next %v; want attempt %d, final %t, next %v", d.Attempt, d.Final, d.NextAttemptAt, i+1, want == nil, want)
		}
	}
	w.expect(0, "dunning payment_method_failed", "dunning payment_method_failed", "dunning payment_method_failed")
	if keys := w.klarna.Simulator.Books().Keys; len(keys) != 3 || len(w.orders()) != 3 {
		t.Errorf("charges: %d with %d requests, want 3", len(keys), len(w.orders()))
	}
	records := w.records()
	if s := records[len(records)-1].State; s.Open() || !s.Claim.Released || len(s.Settled) != 3 {
		t.Errorf("state after the last attempt: %+v, want nothing open", s)
	}
	consumer, err := w.js.Consumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default"))
	if err != nil {
		t.Fatal(err)
	}
	if info := consumer.CachedInfo(); info.NumPending != 0 || info.NumAckPending != 0 {
		t.Errorf("jobs that are still scheduled: %d and %d", info.NumPending, info.NumAckPending)
	}
}

// S27: Klarna's 429 is about one account, and about no renewal.
func TestRateLimited(t *testing.T) {
	t.Run("another account goes on", func(t *testing.T) {
		w := newWorld(t, "default", "other")
		var worker *Worker
		w.startWith(&worker, func(o *Options) {
			o.Accounts = append(o.Accounts, o.Accounts[0])
			o.Accounts[1].Name = "other"
		})
		w.await("the worker", func() bool { return worker.Ready() == nil })
		(*worker.running.Load())[0].limiter.Observe(klarna.RateLimit{}, tooMany(time.Hour))
		const jobs = 20
		for n := range jobs {
			w.publish(w.due("s27-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
			w.publishTo("other", w.due("s27-other-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1), nil)
		}
		w.await("the other account's jobs", func() bool { return w.left() <= jobs })
		for _, r := range bodies[messages.Charging](w) {
			if r.Account != "other" {
				t.Fatalf("a claim of account %s, which Klarna told to wait", r.Account)
			}
		}
		w.expect(jobs, slices.Repeat([]string{"paid"}, jobs)...)
	})
	t.Run("it is no attempt and starts no clock", func(t *testing.T) {
		w := newWorld(t)
		w.publish(w.due("s27", "429x3-1", 1))
		w.start()
		w.awaitEmpty()
		w.expect(1, "paid")
		if p := bodies[messages.Paid](w)[0]; p.Attempt != 1 || p.Tries != 4 {
			t.Errorf("paid in attempt %d after %d tries, want attempt 1 after 4", p.Attempt, p.Tries)
		}
		for _, r := range w.records() {
			if c := r.State.Claim; r.Kind == messages.KindCharging && c.Released && (!c.FirstSentAt.IsZero() || c.UndecidedTries > 0) {
				t.Errorf("claim after 429: %+v, want no first_sent_at and nothing undecided", c)
			}
		}
	})
}

// S30: a worker holds two deliveries while time passes: one
// is claimed and its lease ends, the other waits for a hand. Neither leads to a request; both go back and are charged anew.
func TestStaleDeliveries(t *testing.T) {
	w := newWorld(t)
	frozen, wake := make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	freezing := w.client(func() (klarna.Credentials, error) {
		if calls.Add(1) == 2 { // the first is New's
			close(frozen)
			<-wake
		}
		return klarna.Credentials{Username: "merchant", Password: klarna.NewSecret("secret-password")}, nil
	})
	w.publish(w.due("s30-claimed", "ok-1", 1))
	registry := prometheus.NewRegistry()
	var worker *Worker
	w.startWith(&worker, oneHand, func(o *Options) { o.Accounts[0].Klarna, o.Metrics = freezing, NewMetrics(registry) })
	<-frozen

	w.publish(w.due("s30-waits", "ok-2", 1))
	pullers := (*worker.running.Load())[0].pullers
	puller := pullers[slices.IndexFunc(pullers, func(p *gate.Puller) bool { return p.Consumer == topology.ConsumerName("default") })]
	inbox := nats.NewInbox()
	sub, err := w.js.Conn().SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.js.Conn().PublishRequest(nextSubject(), inbox, []byte(`{"batch":1,"expires":5000000000}`)); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	puller.Take(m) // as when a request that was given up is answered late

	w.advance(gate.Freshness + time.Second)
	close(wake)
	w.awaitEmpty()
	w.expect(2, "paid", "paid")
	asked := map[string]int{}
	for _, c := range w.orders() {
		if c.Status != 0 { // what the fence stops is a request without its body, which nobody can answer
			asked[c.IdempotencyKey]++
		}
	}
	for key, n := range asked {
		if n != 1 {
			t.Errorf("requests with key %s: %d, want 1", key, n)
		}
	}
	consumer, err := w.js.Consumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default"))
	if err != nil {
		t.Fatal(err)
	}
	if got := consumer.CachedInfo().Delivered.Consumer; got != 4 || len(asked) != 2 {
		t.Errorf("deliveries: %d, jobs asked for: %d, want both jobs once more after going back", got, len(asked))
	}
	if n := metric(t, registry, "renewals_hand_backs_total", ""); n != 1 {
		t.Errorf("handed back before they were started: %v, want 1", n)
	}
}

// S31: a worker freezes with an order in hand, longer than its
// lease, and another takes over. Whichever of them writes first, there is one result, and no ack takes the job from the other.
func TestFrozenWithAnOrderInHand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		early bool // the first wakes before the other has recorded what it found
	}{{"awake after the other's result", false}, {"awake before the other's result", true}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			var holding [2]atomic.Bool
			wake := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
			freezing := func(i int) tap {
				return tap{before: func(m *nats.Msg) error {
					if is(m, messages.KindPaid) && !holding[i].Swap(true) {
						w.hold(wake[i])
					}
					return nil
				}}
			}
			w.publish(w.due("s31", "ok-1", 1))
			first := w.startOn(freezing(0), oneHand)
			w.await("an order in hand", holding[0].Load)
			second := w.startOn(freezing(1), oneHand)
			w.await("the takeover", holding[1].Load)
			w.expect(1)
			order := []int{1, 0}
			if tt.early {
				order = []int{0, 1}
			}
			for _, i := range order {
				close(wake[i])
				[]func(){first, second}[i]() // and finish what it was doing
				w.expect(1, "paid")
			}
			w.awaitEmpty()
			if n := len(w.orders()); n != 2 {
				t.Errorf("requests: %d, want one of each worker, with one key", n)
			}
		})
	}
}

// S33: Klarna may work on a request for 59 s. By default
// nobody gives up before that, and a slow answer is waited for within one delivery.
// https://docs.klarna.com/acquirer/klarna-network/setup-your-integration/integration-resilience/request-timeout/
func TestKlarnaTakesItsTime(t *testing.T) {
	o, p := DefaultOptions(), topology.Provisioning{AckWait: topology.DefaultAckWait}
	if o.TryTimeout <= 59*time.Second || p.AckWait < (o.TryBudget+o.TryTimeout)*11/10 {
		t.Errorf("try timeout %s, try budget %s, AckWait %s: a try is given up, or its delivery ends, while Klarna may still work", o.TryTimeout, o.TryBudget, p.AckWait)
	}
	w := newWorld(t)
	w.publish(w.due("s33", "slow-1500-1", 1))
	w.start(w.patient)
	w.start(w.patient)
	w.awaitEmpty()
	w.expect(1, "paid")
	if r := bodies[messages.Paid](w)[0]; r.Tries != 1 || r.Deliveries != 1 || len(w.orders()) != 1 {
		t.Errorf("paid after %d tries in %d deliveries and %d requests, want 1 of each", r.Tries, r.Deliveries, len(w.orders()))
	}
}

// S34: after a decline two systems each publish their own
// second attempt. One is charged; the other is told why it is not.
func TestTwoRetryEngines(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s34", "soft-decline-1", 1))
	w.start()
	w.awaitEmpty()
	w.publish(w.due("s34", "slow-200-1", 2))
	w.publish(w.due("s34", "slow-200-1", 2, func(j map[string]any) { j["id"] = "the other engine's" }))
	w.awaitEmpty()
	w.expect(1, "dunning payment_method_failed", "paid", "rejected already_paid")
	if n := len(w.orders()); n != 2 {
		t.Errorf("requests: %d, want one for each of two attempts", n)
	}
	paid, refused := bodies[messages.Paid](w)[0], bodies[messages.Rejected](w)[0]
	if refused.ConflictsWith != paid.IdempotencyKey || len(refused.Errors) != 1 || refused.Errors[0].Path != "period" {
		t.Errorf("rejected with %+v, conflicts with %s; want why, and the key %s", refused.Errors, refused.ConflictsWith, paid.IdempotencyKey)
	}
	if letters, _ := w.deadLetters(); len(letters) != 1 || letters[0].Reason != messages.ReasonAlreadyPaid {
		t.Errorf("dead letters: %+v, want the refused job", letters)
	}
}

// S35: a job makes the worker panic again and again. It comes
// back a bounded number of times, and others are charged in the meantime.
func TestOtherJobsFlow(t *testing.T) {
	const others = 5
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	charged := make(chan struct{})
	var panics atomic.Int64
	poison := tap{before: func(m *nats.Msg) error {
		// A claim, and not the note that counts a panic, which is released.
		if !strings.HasPrefix(m.Subject, "renewals.charging.s35.") || !claims(m) {
			return nil
		}
		if panics.Add(1) == journal.MaxPanics/2 {
			w.hold(charged)
		}
		panic("poison")
	}}
	w.publish(w.due("s35", "ok-1", 1))
	w.startOn(poison, func(o *Options) { o.Accounts[0].Concurrency, o.Metrics = 2, NewMetrics(registry) })
	w.await("panics", func() bool { return panics.Load() == journal.MaxPanics/2 })
	for n := range others {
		w.publish(w.due("s35-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	w.await("the other jobs", func() bool { return len(w.results()) == others })
	close(charged)
	w.awaitEmpty()
	w.expect(others, append(slices.Repeat([]string{"paid"}, others), "rejected poison")...)
	if n := metric(t, registry, "renewals_panics_total", ""); n != journal.MaxPanics || panics.Load() != journal.MaxPanics {
		t.Errorf("panics: %d, counted %v, want %d", panics.Load(), n, journal.MaxPanics)
	}
	if letters, _ := w.deadLetters(); len(letters) != 1 || letters[0].Reason != messages.ReasonPoison {
		t.Errorf("dead letters: %+v, want the poison job", letters)
	}
}

// S43: a job that would no longer be accepted has an
// open claim. It is carried to its end, whoever has it.
func TestVerdictWhileCharging(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s43", "created-500x3-1", 1, func(j map[string]any) {
		j["expires_at"] = w.now().Add(time.Hour).UTC().Format(time.RFC3339)
	}))
	stop := w.start()
	w.await("the order", func() bool { return len(w.klarna.Simulator.Books().Orders) == 1 })
	stop()
	w.expect(1)
	w.advance(2 * time.Hour)
	w.publish(w.due("s43-late", "ok-1", 1, func(j map[string]any) {
		j["expires_at"] = w.now().Add(-time.Minute).UTC().Format(time.RFC3339)
	}))
	w.start()
	w.awaitEmpty()
	results := map[messages.MessageID]string{}
	for _, r := range w.results() {
		results[r.ID] += r.String()
	}
	if results["s43/2026-12/1"] != "paid" || results["s43-late/2026-12/1"] != "rejected expired" {
		t.Errorf("results %v, want the claimed job paid and the other rejected", results)
	}
}

// S44: a rejection is decided and its worker freezes; an
// operator resolves the renewal and another worker charges it. The rejection comes too late.
func TestLateRejection(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s44", "500-1", 1))
	stop := w.start()
	w.await("a try", func() bool { return len(w.orders()) > 0 })
	stop()
	w.advance(24 * time.Hour)
	stop = w.start()
	w.awaitEmpty()
	stop()

	wake := make(chan struct{})
	var frozen atomic.Bool
	stop = w.startOn(tap{before: func(m *nats.Msg) error {
		if is(m, messages.KindRejected) && !frozen.Swap(true) {
			w.hold(wake)
		}
		return nil
	}}, oneHand)
	w.publish(w.due("s44", "ok-1", 2))
	w.await("the rejection", frozen.Load)
	records, err := journal.Open(t.Context(), w.js, DefaultOptions().Log)
	if err != nil {
		t.Fatal(err)
	}
	if err := records.ResolveNotCharged(t.Context(), messages.NewRenewal("s44", "2026-12"), journal.Decision{Actor: "anna", At: w.now()}); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.await("attempt 2", func() bool { return len(bodies[messages.Paid](w)) == 1 })
	close(wake)
	stop() // and finish what it was doing
	w.awaitEmpty()
	w.expect(1, "unresolved idempotency_window_expired", "dunning not_charged", "paid")
	if letters, _ := w.deadLetters(); len(letters) != 1 || letters[0].Reason != messages.ReasonIdempotencyWindowExpired {
		t.Errorf("dead letters: %+v, want that of attempt 1 only", letters)
	}
}

// S47: a bad job was published with what JetStream expected
// of RENEWALS, and does not expect of RENEWAL_DEAD.
func TestExpectedSequence(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s47", "ok-1", 1))
	w.start()
	w.awaitEmpty()
	hostile := nats.Header{jetstream.ExpectedLastSeqHeader: {"1"}, jetstream.ExpectedStreamHeader: {messages.StreamJobs}}
	w.publishTo("default", []byte("not a job"), hostile)
	w.awaitEmpty()
	w.expect(1, "paid", "rejected invalid")
	if _, payloads := w.deadLetters(); len(payloads) != 1 || payloads[0] != "not a job" {
		t.Errorf("dead letters: %q, want the bad job", payloads)
	}
}

// TestPublishRetriesAreCounted: the first answer to each record is lost; what is
// published again can be seen.
func TestPublishRetriesAreCounted(t *testing.T) {
	w := newWorld(t)
	var lost sync.Map
	registry := prometheus.NewRegistry()
	w.publish(w.due("again", "ok-1", 1))
	w.startOn(tap{after: func(m *nats.Msg) error {
		if _, before := lost.LoadOrStore(m.Subject, true); !before {
			return nats.ErrTimeout
		}
		return nil
	}}, func(o *Options) { o.Metrics = NewMetrics(registry) })
	w.awaitEmpty()
	w.expect(1, "paid")
	if n := metric(t, registry, "renewals_publish_retries_total", messages.StreamJournal); n != 2 {
		t.Errorf("publish retries: %v, want those of the claim and of the result", n)
	}
}

// S68: Klarna answers with an error and is still at work on the request. The retry is declined meanwhile, and then there is an
// order: nobody is told of a refusal, and a success decides at any time. A decline with no order behind it ends in dunning all
// the same, once the request before it is surely over.
func TestDeclinedTooSoon(t *testing.T) {
	w := newWorld(t)
	stop := w.start()
	var want []string
	for i, token := range []string{"late-600-500-1", "late-600-500-TIMEOUT-1", "late-600-502-1", "late-600-504-1", "late-600-408-1"} {
		w.publish(w.due("s68-"+strconv.Itoa(i), token, 1))
		want = append(want, "paid")
	}
	w.publish(w.due("s68-declined", "500x1-soft-decline-1", 1))
	w.await("the results", func() bool { return len(w.results()) == len(want)+1 })
	stop()
	paid := 0
	for _, r := range w.results() {
		if r.State.Phase == journal.PhasePaid {
			paid++
		}
		if r.State.Phase == journal.PhaseDunning && r.State.Claim.UndecidedTries == 0 {
			t.Errorf("%+v, want the undecided try before the decline kept", r.State.Claim)
		}
	}
	if orders := len(w.klarna.Simulator.Books().Orders); paid != len(want) || orders != len(want) || len(w.results()) != len(want)+1 {
		t.Errorf("%d paid, %d orders, %d results; want %d, %d, %d: %v", paid, orders, len(w.results()), len(want), len(want), len(want)+1, w.results())
	}
}
