package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// This file runs workers in this process against a real broker and the
// simulator, with a clock that tests move. The names of tests carry the number of the failure story
// that they tell.

// world is a broker, a Klarna and a clock.
type world struct {
	t       *testing.T
	js      jetstream.JetStream
	broker  *server.Server
	klarna  *klarnasim.Server
	began   time.Time
	ahead   atomic.Int64 // of the clock
	mu      sync.Mutex
	seen    []klarnasim.Exchange
	workers int
	running map[*Worker]bool

	markEvery, verifyEvery, sweepEvery time.Duration // of the workers to start; 0: as it is
}

func newWorld(t *testing.T, accounts ...messages.Account) *world {
	t.Helper()
	t.Parallel()
	return newWorldAlone(t, accounts...)
}

// newWorldAlone is newWorld for a test beside which no other runs.
func newWorldAlone(t *testing.T, accounts ...messages.Account) *world {
	t.Helper()
	return newWorldOf(t, &server.Options{}, nil, accounts...)
}

// newWorldOf has a broker with these options beside its own, to which everybody connects with that one.
func newWorldOf(t *testing.T, o *server.Options, as nats.Option, accounts ...messages.Account) *world {
	t.Helper()
	w := &world{t: t, began: time.Now(), running: map[*Worker]bool{}}
	o.Host, o.Port, o.JetStream, o.StoreDir, o.NoSigs, o.NoLog = "127.0.0.1", -1, true, t.TempDir(), true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	w.broker = s
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	w.klarna, err = klarnasim.StartTLS(klarnasim.Options{Now: w.now, KeepBodies: true, PendingFor: 200 * time.Millisecond, Log: func(e klarnasim.Exchange) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, e)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.klarna.Close)
	nc, err := nats.Connect(s.ClientURL(), as)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	if len(accounts) == 0 {
		accounts = []messages.Account{"default"}
	}
	if err := Provision(t.Context(), w.js, topology.Provisioning{Accounts: accounts, AckWait: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *world) monotonic() time.Duration { return time.Since(w.began) + time.Duration(w.ahead.Load()) }

// advance lets time pass for Klarna, the broker and every worker.
func (w *world) advance(d time.Duration) { w.ahead.Add(int64(d)) }

// start runs a worker until the test ends or stop is called.
func (w *world) start(change ...func(*Options)) (stop func()) {
	w.t.Helper()
	var started *Worker
	return w.startWith(&started, change...)
}

// startWith is start, and tells which worker it is.
func (w *world) startWith(started **Worker, change ...func(*Options)) (stop func()) {
	w.t.Helper()
	endpoint, err := url.Parse(w.klarna.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	o := DefaultOptions()
	o.TryTimeout, o.TryBudget, o.SettleDelay = 400*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	o.RetryDelays = []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}
	o.ShutdownTimeout, o.Now, o.Monotonic, o.Ahead = time.Second, w.now, w.monotonic, func() time.Duration { return time.Duration(w.ahead.Load()) }
	w.workers++
	o.Name = "worker-" + strconv.Itoa(w.workers)
	o.Accounts = []Account{{Name: "default", Host: endpoint.Host, Endpoint: klarna.CanonicalEndpoint(endpoint), Merchant: klarna.Merchant("merchant"), Concurrency: 8,
		MinAttemptGap: NoAttemptGap}} // what a test publishes follows at once; the tests of the guards set it
	for _, c := range change {
		c(&o)
	}
	for i := range o.Accounts {
		if o.Accounts[i].Klarna == nil {
			o.Accounts[i].Klarna, err = klarna.New(klarna.Config{
				Endpoint: endpoint, Timeout: o.TryTimeout, TLS: w.klarna.ClientTLS,
				Credentials: klarna.StaticCredentials("merchant", "secret-password"),
			})
			if err != nil {
				w.t.Fatal(err)
			}
		}
	}
	worker, err := New(w.js, o)
	if err != nil {
		w.t.Fatal(err)
	}
	worker.settings.every, worker.sweepEvery = time.Second, 50*time.Millisecond // a look at the settings takes a dozen requests, and the server tells of changes
	if w.verifyEvery > 0 {
		worker.settings.every = w.verifyEvery
	}
	if w.sweepEvery > 0 {
		worker.sweepEvery = w.sweepEvery
	}
	if w.markEvery > 0 {
		worker.markEvery = w.markEvery
	}
	*started = worker
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	w.running[worker] = true
	go func() { done <- worker.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		delete(w.running, worker)
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// due is a valid job for a renewal of one customer token.
func (w *world) due(subscription, token string, attempt int, change ...func(map[string]any)) []byte {
	w.t.Helper()
	j := map[string]any{
		"id": fmt.Sprintf("%s/2026-12/%d", subscription, attempt), "subscription_id": subscription, "period": "2026-12", "attempt": attempt,
		"due_at": w.began.Add(-time.Hour).UTC().Format(time.RFC3339), "customer_token": token,
		"order": map[string]any{
			"purchase_currency": "EUR", "order_amount": 1599, "order_tax_amount": 255, "auto_capture": true, "merchant_reference1": subscription,
			"order_lines": []any{map[string]any{
				"type": "digital", "name": "Streaming", "quantity": 1, "unit_price": 1599, "tax_rate": 1900, "total_amount": 1599, "total_tax_amount": 255,
				"subscription": map[string]any{"name": "Premium {{" + subscription + "}}", "interval": "MONTH", "interval_count": 1},
			}},
		},
	}
	for _, c := range change {
		c(j)
	}
	payload, err := json.Marshal(j)
	if err != nil {
		w.t.Fatal(err)
	}
	return payload
}

func (w *world) publish(payload []byte) { w.publishTo("default", payload, nil) }

func (w *world) publishTo(account messages.Account, payload []byte, header nats.Header) {
	w.t.Helper()
	if _, err := w.js.PublishMsg(w.t.Context(), &nats.Msg{Subject: messages.DueSubject(account), Data: payload, Header: header}); err != nil {
		w.t.Fatal(err)
	}
}

// told is one record, as a consumer of results sees it.
type told struct {
	Kind   messages.Kind
	ID     messages.MessageID      `json:"id"`
	Key    messages.IdempotencyKey `json:"idempotency_key"`
	Reason messages.Reason         `json:"reason"`
	Order  string                  `json:"order_id"`
	Corr   string                  `json:"corrects"`
	Tries  int                     `json:"tries"`
	Turns  int                     `json:"deliveries"`
	Unsure int                     `json:"undecided_tries"`
	Next   *time.Time              `json:"next_attempt_at"`
	Final  bool                    `json:"final"`
	Token  string                  `json:"token_status"`
	Errs   []messages.Problem      `json:"errors"`

	Status    int               `json:"http_status"`
	Category  messages.Category `json:"category"`
	Notify    bool              `json:"notify_customer"`
	Retryable bool              `json:"retryable"`
	State     journal.State     `json:"-"`
}

func (r told) String() string { return strings.TrimSpace(string(r.Kind) + " " + string(r.Reason)) }

// records reads the journal.
func (w *world) records() []told {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), messages.StreamJournal)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []told
	for n := uint64(1); n <= stream.CachedInfo().State.LastSeq; n++ {
		m, err := stream.GetMsg(w.t.Context(), n)
		if err != nil {
			w.t.Fatal(err)
		}
		body, err := journal.WholeBody(m.Subject, m.Header.Get(messages.HeaderState), m.Data)
		if err != nil {
			w.t.Fatal(err)
		}
		var r told
		if err := json.Unmarshal(body, &r); err != nil {
			w.t.Fatal(err)
		}
		address, err := messages.ParseRecordSubject(m.Subject)
		r.Kind = address.Kind
		if err != nil {
			w.t.Fatal(err)
		}
		if r.State, err = journal.ParseState(m.Header.Get(messages.HeaderState)); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// results are the records that settle a message ID.
func (w *world) results() []told {
	w.t.Helper()
	var all []told
	for _, r := range w.records() {
		if r.Kind != messages.KindCharging && r.Kind != messages.KindPending && r.Kind != messages.KindCapturing {
			all = append(all, r)
		}
	}
	return all
}

func (w *world) left() int {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), messages.StreamJobs)
	if err != nil {
		w.t.Fatal(err)
	}
	return int(stream.CachedInfo().State.Msgs)
}

// patience is for a machine that is busy: nothing waits for it where all is well.
const patience = time.Minute

func (w *world) await(what string, condition func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for pause := 5 * time.Millisecond; !condition(); pause = min(2*pause, 40*time.Millisecond) { // a condition reads the whole journal, often
		select {
		case <-deadline.C:
			w.t.Fatalf("waited for %s; records: %v", what, w.records())
		case <-time.After(pause):
		}
	}
}

func (w *world) awaitEmpty() {
	w.t.Helper()
	w.await("the jobs to leave the stream", func() bool { return w.left() == 0 })
}

// orders are the calls of the order operation that Klarna has answered or cut.
func (w *world) orders() (calls []klarnasim.Exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.seen {
		if e.Method == "POST" {
			calls = append(calls, e)
		}
	}
	return calls
}

// expect compares the results, in any order of different jobs, and the orders in Klarna's books.
func (w *world) expect(orders int, want ...string) {
	w.t.Helper()
	var got []string
	for _, r := range w.results() {
		got = append(got, r.String())
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		w.t.Errorf("results: %v, want %v", got, want)
	}
	if n := len(w.klarna.Simulator.Books().Orders); n != orders {
		w.t.Errorf("orders at Klarna: %d, want %d", n, orders)
	}
}

func (w *world) deadLetters() (letters []messages.DeadLetter, payloads []string) {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), messages.StreamDead)
	if err != nil {
		w.t.Fatal(err)
	}
	for n := uint64(1); n <= stream.CachedInfo().State.LastSeq; n++ {
		m, err := stream.GetMsg(w.t.Context(), n)
		if err != nil {
			w.t.Fatal(err)
		}
		d, err := messages.ParseDeadLetter(m.Header)
		if err != nil {
			w.t.Fatal(err)
		}
		letters, payloads = append(letters, d), append(payloads, string(m.Data))
	}
	return letters, payloads
}

// S1: three times the connection breaks after the order was made.
func TestCutAfterCommit(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s1", "created-cutx3-1", 1))
	w.start()
	w.awaitEmpty()
	w.expect(1, "paid")
	calls := w.orders()
	if len(calls) != 4 {
		t.Errorf("tries: %d, want 4", len(calls))
	}
	for _, c := range calls {
		if c.IdempotencyKey != calls[0].IdempotencyKey {
			t.Errorf("keys %s and %s for one attempt", c.IdempotencyKey, calls[0].IdempotencyKey)
		}
	}
}

// S3: past the key's window no byte is sent, and nobody is dunned.
func TestKeyWindowExpired(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s3", "cut-1", 1))
	stop := w.start()
	w.await("a try", func() bool { return len(w.orders()) > 0 })
	stop()
	tries := len(w.orders())
	w.advance(25 * time.Hour)
	w.start()
	w.awaitEmpty()
	w.expect(0, "unresolved idempotency_window_expired")
	if n := len(w.orders()); n != tries {
		t.Errorf("requests after the window: %d", n-tries)
	}
	letters, _ := w.deadLetters()
	if len(letters) != 1 || letters[0].Reason != messages.ReasonIdempotencyWindowExpired {
		t.Errorf("dead letters: %v, want one", letters)
	}
}

// S5: while attempt 1 is not known, attempt 2 is held; once
// attempt 1 is given up, it is refused.
func TestSecondAttemptWaits(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s5", "500-1", 1))
	w.start()
	w.await("a try", func() bool { return len(w.orders()) > 0 })
	w.publish(w.due("s5", "ok-1", 2))
	w.await("more tries", func() bool { return len(w.orders()) > 6 })
	w.expect(0)
	w.advance(25*time.Hour + time.Minute)
	w.awaitEmpty()
	w.expect(0, "unresolved idempotency_window_expired", "rejected blocked_by_unresolved")
	for _, c := range w.orders() {
		if c.IdempotencyKey != w.orders()[0].IdempotencyKey {
			t.Errorf("key %s was sent beside %s", c.IdempotencyKey, w.orders()[0].IdempotencyKey)
		}
	}
}

// S10: attempt 2 after a decline uses a new key and succeeds;
// attempt 1 published again changes nothing.
func TestNextAttemptHasAKeyOfItsOwn(t *testing.T) {
	w := newWorld(t)
	one, two := w.due("s10", "soft-decline-once-1", 1), w.due("s10", "soft-decline-once-1", 2)
	w.publish(one)
	w.start()
	w.awaitEmpty()
	w.publish(two)
	w.awaitEmpty()
	w.publish(one)
	w.publish(two)
	w.awaitEmpty()
	w.expect(1, "dunning payment_method_failed", "paid")
	results := w.results()
	if calls := w.orders(); len(calls) != 2 || results[0].Key == results[1].Key {
		t.Errorf("requests %v, want one for each of two keys", calls)
	}
	if r := results[0]; r.Next == nil || r.Final {
		t.Errorf("dunning %+v, want a next attempt", r)
	}
}

// S11, S36: a message ID stands for one account, token and
// order; anything else under it is a conflict, while it is open and after.
func TestSameIDOtherCharge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		token  string
		settle bool
	}{{"settled", "ok-1", true}, {"open", "500-1", false}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "default", "other")
			both := func(o *Options) {
				other := o.Accounts[0]
				other.Name = "other"
				o.Accounts = append(o.Accounts, other)
			}
			w.publish(w.due("s11", tt.token, 1))
			w.start(both)
			w.await("a try", func() bool { return len(w.orders()) > 0 })
			if tt.settle {
				w.awaitEmpty()
			}
			key := w.orders()[0].IdempotencyKey
			w.publish(w.due("s11", tt.token, 1, func(j map[string]any) { j["order"].(map[string]any)["merchant_data"] = "changed" }))
			w.publish(w.due("s11", "ok-other-token", 1))
			w.publishTo("other", w.due("s11", tt.token, 1), nil)
			conflicts := func() (n int) {
				for _, r := range w.results() {
					if r.Reason == messages.ReasonConflict {
						n++
					}
				}
				return n
			}
			w.await("three conflicts", func() bool { return conflicts() == 3 })
			for _, c := range w.orders() {
				if c.IdempotencyKey != key || c.TokenFingerprint != w.orders()[0].TokenFingerprint {
					t.Errorf("Klarna was asked for %+v", c)
				}
			}
		})
	}
}

// S12: a fraud status that is not final is no money and no refusal.
func TestPendingIsNoMoney(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{"pending-accept-1": "paid", "pending-reject-1": "dunning fraud_rejected"} {
		t.Run(token, func(t *testing.T) {
			w := newWorld(t)
			w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.PendingFor = time.Hour })
			w.publish(w.due("s12", token, 1))
			w.start()
			w.await("the order", func() bool { return len(w.klarna.Simulator.Books().Orders) == 1 })
			w.await("the pending record", func() bool { return len(w.records()) == 2 })
			w.expect(1)
			w.advance(2 * time.Hour)
			w.awaitEmpty()
			w.expect(1, want)
			if n := len(w.orders()); n != 1 {
				t.Errorf("orders asked for: %d, want 1", n)
			}
		})
	}
	t.Run("for two days", func(t *testing.T) {
		w := newWorld(t)
		w.publish(w.due("s12", "pending-1", 1))
		w.start()
		w.await("the pending record", func() bool { return len(w.records()) == 2 })
		w.advance(49 * time.Hour)
		w.awaitEmpty()
		w.expect(1, "unresolved pending_too_long")
	})
}

// S13: whatever is not an order is not paid, and not refused either.
func TestNoOrderInTheAnswer(t *testing.T) {
	w := newWorld(t)
	tokens := []string{"500-bare-1", "502-html-1", "no-id-200-1", "empty-200-1", "broken-200-1"}
	for i, token := range tokens {
		w.publish(w.due("s13-"+strconv.Itoa(i), token, 1))
	}
	w.start()
	w.await("a try of each", func() bool {
		tried := map[string]bool{}
		for _, c := range w.orders() {
			tried[c.IdempotencyKey] = true
		}
		return len(tried) == len(tokens)
	})
	w.expect(0)
	w.advance(24 * time.Hour)
	w.awaitEmpty()
	for _, r := range w.results() {
		if r.Kind != messages.KindUnresolved {
			t.Errorf("%s: %s, want unresolved", r.ID, r)
		}
	}
}

// S32: the same period under another message ID.
func TestAlreadyPaid(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s32", "ok-1", 1))
	w.start()
	w.awaitEmpty()
	w.advance(48 * time.Hour)
	w.publish(w.due("s32", "ok-1", 1, func(j map[string]any) { j["id"] = "the billing system's second database" }))
	w.awaitEmpty()
	w.expect(1, "paid", "rejected already_paid")
	if n := len(w.orders()); n != 1 {
		t.Errorf("requests: %d, want 1", n)
	}
}

// S35: a job that makes the worker panic is put aside; others flow.
func TestJobThatPanicsIsPutAside(t *testing.T) {
	w := newWorld(t)
	var broken atomic.Bool
	broken.Store(true)
	stop := w.start(func(o *Options) { o.Accounts[0].Klarna = w.panicking(&broken) })
	w.publish(w.due("s35", "ok-1", 1))
	w.awaitEmpty()
	w.expect(0, "unresolved poison")
	broken.Store(false)
	w.publish(w.due("s35-other", "ok-2", 1))
	w.awaitEmpty()
	stop()
	w.expect(1, "unresolved poison", "paid")
	letters, payloads := w.deadLetters()
	if len(letters) != 1 || letters[0].Reason != messages.ReasonPoison || !strings.Contains(payloads[0], "s35/2026-12/1") {
		t.Errorf("dead letters %v, want the poison job", letters)
	}
}

// panicking is a client whose credentials blow up.
func (w *world) panicking(broken *atomic.Bool) *klarna.Client {
	var made atomic.Bool
	return w.client(func() (klarna.Credentials, error) {
		if made.Swap(true) && broken.Load() {
			panic("credentials")
		}
		return klarna.Credentials{Username: "merchant", Password: klarna.NewSecret("secret-password")}, nil
	})
}

// client is one whose credentials come from a function.
func (w *world) client(c credentials) *klarna.Client {
	w.t.Helper()
	endpoint, err := url.Parse(w.klarna.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	client, err := klarna.New(klarna.Config{Endpoint: endpoint, Timeout: 400 * time.Millisecond, TLS: w.klarna.ClientTLS, Credentials: c})
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}

type credentials func() (klarna.Credentials, error)

func (c credentials) Credentials() (klarna.Credentials, error) { return c() }

// S38: the connection is cut, the order is made a moment later, and
// a try in between would be refused.
func TestLateCommit(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s38", "late-200-1", 1))
	w.start()
	w.awaitEmpty()
	w.expect(1, "paid")
}

// S38: a try times out under a claim that does not allow another, as by default, and the order is made after that. It is
// no try that was not sent: the key's clock runs, and the next one waits until Klarna has surely finished.
func TestTimedOutUnderItsClaim(t *testing.T) {
	w := newWorld(t)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Latency = 1300 * time.Millisecond })
	w.publish(w.due("s38", "ok-1", 1))
	w.start(func(o *Options) { o.TryTimeout, o.TryBudget = 900*time.Millisecond, 100*time.Millisecond })
	w.await("the end of a try", func() bool {
		all := w.records()
		return len(all) > 1 && all[len(all)-1].State.Claim.Tries > 0
	})
	all := w.records()
	if c := all[1].State.Claim; c.Released || c.FirstSentAt.IsZero() || c.LeaseUntil.Sub(c.FirstSentAt) < 900*time.Millisecond+300*time.Millisecond {
		t.Errorf("after a try that timed out: %+v, want the clock running and the claim kept for the settle delay", c)
	}
	w.await("the order", func() bool { return len(w.klarna.Simulator.Books().Orders) == 1 })
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Latency = 0 })
	w.awaitEmpty()
	w.expect(1, "paid")
	for _, r := range w.records() {
		if first := all[0].State.Claim.FirstSentAt; r.Kind == messages.KindCharging && !r.State.Claim.FirstSentAt.Equal(first) {
			t.Errorf("the key's clock began at %s, then at %s", first, r.State.Claim.FirstSentAt)
		}
	}
}

// S39: the answer is lost, the customer cancels the
// token, the next try is refused: that says nothing of the order.
func TestCancelledAfterTheOrder(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s39", "lost-cancelled-1", 1))
	w.start()
	w.await("a refusal", func() bool {
		calls := w.orders()
		return len(calls) > 2 && calls[len(calls)-1].ErrorCode == "TOKEN_CANCELLED"
	})
	w.expect(1)
	w.advance(23 * time.Hour)
	w.awaitEmpty()
	w.expect(1, "unresolved contradictory_answers")
}

// S45: a job is purged while its claim is open. The sweep settles
// it, and attempt 2 is not stuck for ever.
func TestPurgedJob(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s45", "500-1", 1))
	stop := w.start()
	w.await("a try", func() bool { return len(w.orders()) > 0 })
	stop()
	stream, err := w.js.Stream(t.Context(), messages.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.advance(26 * time.Hour)
	w.start()
	w.await("the sweep", func() bool { return len(w.results()) == 1 })
	w.expect(0, "unresolved idempotency_window_expired")
	w.publish(w.due("s45", "ok-1", 2))
	w.awaitEmpty()
	w.expect(0, "unresolved idempotency_window_expired", "rejected blocked_by_unresolved")
}

// S46: the journal's settings refuse what would make it
// forget, and what they cannot refuse is noticed.
func TestJournalChanged(t *testing.T) {
	w := newWorld(t)
	w.verifyEvery = often
	stream, err := w.js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	w.publish(w.due("s46", "ok-1", 1))
	w.start()
	w.awaitEmpty()
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("renewals.paid.>")); err == nil {
		t.Error("the journal was purged by subject")
	}
	if err := stream.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("a record was deleted")
	}
	config := stream.CachedInfo().Config
	config.MaxMsgsPerSubject = 1
	if _, err := w.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	w.verified()
	w.publish(w.due("s46-b", "ok-2", 1))
	w.verified()
	w.expect(1, "paid")
	config.MaxMsgsPerSubject = -1
	if _, err := w.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	w.awaitEmpty()
	w.expect(2, "paid", "paid")
}

// often is how often the settings are looked at where a test is about that.
const often = 50 * time.Millisecond

// verified waits until every worker has looked at the settings a few times, in a world where that is often.
func (w *world) verified() {
	w.t.Helper()
	for worker := range w.running {
		enough := worker.settings.looks.Load() + 5 // the first may have begun before
		w.await("the settings to be looked at", func() bool { return worker.settings.looks.Load() >= enough })
	}
}

// S47: headers that JetStream obeys and the largest payload it takes.
func TestHostileJob(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.publishTo("default", []byte("not a job"), nats.Header{
		"Nats-Expected-Stream": {messages.StreamJobs}, "Nats-Msg-Id": {"twice"}, "Renewals-State": {"{}"}, "Renewals-Replay": {"1"}, "Status": {"404"},
	})
	w.publishTo("default", nil, nats.Header{"Status": {"409"}, "Description": {"Consumer Deleted"}})
	w.publishTo("default", []byte(strings.Repeat("x", 500<<10)), nats.Header{"Long": {strings.Repeat("y", 10<<10)}})
	w.awaitEmpty()
	w.expect(0, "rejected invalid", "rejected invalid", "rejected invalid")
	letters, payloads := w.deadLetters()
	slices.SortFunc(payloads, func(a, b string) int { return len(a) - len(b) })
	if len(letters) != 3 || len(payloads[2]) != 500<<10 {
		t.Errorf("dead letters: %d, want 3, the last whole", len(letters))
	}
}

// S48: a single refusal that Klarna did not write is not a
// refusal; the job waits.
func TestOneOddAnswer(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s48", "403x2-bare-1", 1))
	w.start()
	w.awaitEmpty()
	w.expect(1, "paid")
	if r := w.results()[0]; r.Tries != 3 {
		t.Errorf("tries = %d, want 3", r.Tries)
	}
}

// S18: a cancelled or unknown token is asked for once, and its
// status goes with the event.
func TestDeadToken(t *testing.T) {
	w := newWorld(t)
	for i, token := range []string{"cancelled-1", "canceled-1", "not-found-1", "suspended-1"} {
		w.publish(w.due("s18-"+strconv.Itoa(i), token, 1))
	}
	w.start()
	w.awaitEmpty()
	want := map[string]string{"token_cancelled": "CANCELLED", "token_canceled": "CANCELLED", "token_not_found": "", "token_suspended": "SUSPENDED"}
	for _, r := range w.results() {
		if status, ok := want[string(r.Reason)]; !ok || r.Token != status || r.Tries != 1 {
			t.Errorf("%s: token_status %q after %d tries, want %q after 1", r, r.Token, r.Tries, status)
		}
		delete(want, string(r.Reason))
	}
	if len(want) > 0 || len(w.orders()) != 4 {
		t.Errorf("missing %v; requests for orders: %d, want 4", want, len(w.orders()))
	}
}
