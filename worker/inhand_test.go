package worker

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// faulty is a JetStream of which a test fails reads and writes, or loses their
// answers. It tells the test which call it is, "read", "dead" or the kind of the record, and the token of its subject that
// names the renewal, or the key of a dead letter.
type faulty struct {
	jetstream.JetStream
	before func(ctx context.Context, call, of string) error
	after  func(call, of string) error // of what was stored
	index  func() error                // before a read of the subjects
}

func (f faulty) PublishMsg(ctx context.Context, m *nats.Msg, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if f.before == nil {
		return f.JetStream.PublishMsg(ctx, m, options...)
	}
	tokens := strings.Split(m.Subject, ".")
	if err := f.before(ctx, tokens[1], about(tokens)); err != nil {
		return nil, err
	}
	ack, err := f.JetStream.PublishMsg(ctx, m, options...)
	if err == nil && f.after != nil {
		err = f.after(tokens[1], about(tokens))
	}
	return ack, err
}

func (f faulty) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := f.JetStream.Stream(ctx, name)
	return faultyStream{s, f}, err
}

type faultyStream struct {
	jetstream.Stream
	faulty faulty
}

func (f faulty) RequestWithContext(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	if f.index != nil {
		if err := f.index(); err != nil {
			return nil, err
		}
	}
	return f.Conn().RequestWithContext(ctx, subject, data)
}

func (s faultyStream) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	if s.faulty.before == nil {
		return s.Stream.GetLastMsgForSubject(ctx, subject)
	}
	if err := s.faulty.before(ctx, "read", about(strings.Split(subject, "."))); err != nil {
		return nil, err
	}
	return s.Stream.GetLastMsgForSubject(ctx, subject)
}

// startFaulty is start, on a faulty view of the broker.
func (w *world) startFaulty(f faulty, change ...func(*Options)) (stop func()) {
	w.t.Helper()
	f.JetStream = w.js
	defer func() { w.js = f.JetStream }()
	w.js = f
	return w.start(change...)
}

// decline writes what another worker would that took the open claim of a renewal
// over and was declined.
func (w *world) decline(js jetstream.JetStream, r messages.Renewal) {
	w.t.Helper()
	records, err := journal.Open(w.t.Context(), js, DefaultOptions().Log)
	if err != nil {
		w.t.Fatal(err)
	}
	at, err := records.Last(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	c := *at.State.Claim
	c.Nonce, c.Worker = uuid.NewString(), "another"
	next := at.State
	next.Phase, next.Claim = journal.PhaseDunning, &c
	next.Settled = map[messages.IdempotencyKey]journal.Settlement{c.Key: {Kind: messages.KindDunning, SHA256: c.SHA256}}
	event := messages.Dunning{Record: messages.Record{ID: "declined", Account: "default", RenewalKey: r.Key(), IdempotencyKey: c.Key}}
	w.writes(records, r, at, next, event, event.Record)
}

// writes writes a record on top of what was read.
func (w *world) writes(records *journal.Journal, of messages.Renewal, at journal.Entry, next journal.State, event messages.Event, about messages.Record) journal.Entry {
	w.t.Helper()
	_, at, err := records.Apply(w.t.Context(), at, journal.Change{
		Renewal: of,
		Decide: func(journal.State) (journal.Transition, error) {
			return journal.Transition{Record: event.Kind(), Key: about.IdempotencyKey, State: next}, nil
		},
		Record: func(context.Context, journal.Transition) (journal.Record, error) {
			return journal.Record{Event: event, About: about, Time: w.now()}, nil
		},
	}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return at
}

// S69: a 200 is in hand, another worker has recorded `dunning`, and the read that
// would tell so fails: once, and for as long as a minute of a lease of two.
func TestLostSetThenFailedReads(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fails time.Duration
	}{{"once", 0}, {"for long", time.Second}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			js := w.js // the faulty view takes its place for as long as the worker starts
			w.publish(w.due("s69", "ok-1", 1))
			renewal := messages.NewRenewal("s69", "2026-12")
			var declined, failed atomic.Int64
			w.startFaulty(faulty{before: func(_ context.Context, call, _ string) error {
				switch {
				case call == "paid" && declined.CompareAndSwap(0, time.Now().UnixNano()):
					w.decline(js, renewal)
				case call == "read" && declined.Load() != 0 && (failed.Add(1) == 1 || time.Since(time.Unix(0, declined.Load())) < tt.fails):
					return nats.ErrTimeout
				}
				return nil
			}}, oneHand)
			w.awaitEmpty()
			w.expect(1, "dunning", "paid")
			if r := w.results(); len(r) == 2 && (r[1].Corr != "dunning" || r[1].Order == "") {
				t.Errorf("result %+v, want paid with its order, corrects dunning", r[1])
			}
			if n := len(w.orders()); n != 1 {
				t.Errorf("requests: %d, want 1", n)
			}
		})
	}
}

// A fault is what the broker does to a call, at its nth time and so long after its
// first. lost loses the first answer to what was stored.
type fault struct {
	name string
	fail func(ctx context.Context, n int64, since time.Duration) error
	lost bool
}

var faults = []fault{
	{name: "fails once", fail: func(_ context.Context, n int64, _ time.Duration) error { return firstTimes(n, 1, nats.ErrTimeout) }},
	{name: "fails for long", fail: forLong(jetstream.ErrNoStreamResponse)},
	{name: "answer lost", lost: true},
	{name: "no room in the account", fail: forLong(&jetstream.APIError{Code: 400, ErrorCode: 10002, Description: "resource limits exceeded for account"})},
	{name: "no room on the disk", fail: forLong(&jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "no space left on device"})},
	{name: "refused by a code of tomorrow", fail: forLong(&jetstream.APIError{Code: 400, ErrorCode: 19999})},
	{name: "not yet applied", fail: func(_ context.Context, n int64, _ time.Duration) error {
		return firstTimes(n, 3, &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequenceConstant})
	}},
	{name: "no answer", fail: func(ctx context.Context, n int64, _ time.Duration) error {
		if n == 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}},
}

func firstTimes(n, times int64, err error) error {
	if n > times {
		return nil
	}
	return err
}

// forLong fails for half of a lease, as a minute is half of one in production.
func forLong(err error) func(context.Context, int64, time.Duration) error {
	return func(_ context.Context, _ int64, since time.Duration) error {
		if since > time.Second {
			return nil
		}
		return err
	}
}

// about is the renewal of a record's subject, and the key of a dead letter's.
func about(tokens []string) string {
	if len(tokens) == 6 {
		return tokens[2] + "." + tokens[3]
	}
	return tokens[2]
}

// faultyRow is a renewal whose calls meet a fault.
type faultyRow struct {
	fault
	subscription string
	armed        atomic.Bool
	calls, began atomic.Int64
}

func (r *faultyRow) meet(ctx context.Context) error {
	if r.fail == nil {
		return nil
	}
	r.began.CompareAndSwap(0, time.Now().UnixNano())
	return r.fail(ctx, r.calls.Add(1), time.Since(time.Unix(0, r.began.Load())))
}

// S7, S26, S53, S69: every step of a delivery meets every fault of the broker. Each
// job ends in its one result, which is true, and where the step comes after the answer Klarna is not asked again.
func TestEveryStepOutlastsEveryFault(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		step   string
		token  string
		broken bool   // the job is invalid
		arm    string // the call after which the fault begins; "": at once
		lose   string // the call whose first answer is lost, so that the renewal is read again
		call   string
		posts  int // that Klarna may hear of each renewal
		want   string
	}{
		{step: "read before the claim", token: "created-cutx1-", arm: "charging", call: "read", posts: 2, want: "paid"},
		{step: "claim", token: "ok-", call: "charging", posts: 1, want: "paid"},
		{step: "read after the claim", token: "ok-", lose: "charging", call: "read", posts: 1, want: "paid"},
		{step: "record of a payment", token: "ok-", call: "paid", posts: 1, want: "paid"},
		{step: "read after the record", token: "ok-", lose: "paid", call: "read", posts: 1, want: "paid"},
		{step: "record of a refusal", token: "soft-decline-", call: "dunning", posts: 1, want: "dunning payment_method_failed"},
		{step: "record of a pending order", token: "pending-accept-", call: "pending", posts: 1, want: "paid"},
		{step: "record of its fraud status", token: "pending-accept-", call: "paid", posts: 1, want: "paid"},
		{step: "record of a rejection", token: "ok-", broken: true, call: "rejected", want: "rejected invalid"},
		{step: "dead letter", token: "ok-", broken: true, call: "dead", want: "rejected invalid"},
	} {
		t.Run(tt.step, func(t *testing.T) {
			w := newWorld(t)
			registry := prometheus.NewRegistry()
			// A loaded machine must not cut Klarna's answers short: that is not the fault at hand.
			if err := Provision(t.Context(), w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, AckWait: 8 * time.Second, Force: []string{topology.ForceAckWait}}); err != nil {
				t.Fatal(err)
			}
			rows := map[string]*faultyRow{}
			for n, f := range faults {
				row := &faultyRow{fault: f, subscription: strings.ReplaceAll(tt.step, " ", "-") + "-" + strconv.Itoa(n)}
				row.armed.Store(tt.arm == "")
				renewal := messages.NewRenewal(messages.SubscriptionID(row.subscription), "2026-12")
				rows[string(renewal)] = row
				rows[string(messages.NewIdempotencyKey(renewal.Key(), messages.MessageID(row.subscription+"/2026-12/1")))] = row
				w.publish(w.due(row.subscription, tt.token+strconv.Itoa(n), 1, func(j map[string]any) {
					if tt.broken {
						j["order"].(map[string]any)["order_amount"] = 1
					}
				}))
			}
			w.startFaulty(faulty{
				before: func(ctx context.Context, call, of string) error {
					row := rows[of]
					if row == nil || call != tt.call || !row.armed.Load() {
						return nil
					}
					return row.meet(ctx)
				},
				after: func(call, of string) error {
					row := rows[of]
					switch {
					case row == nil:
						return nil
					case call == tt.arm:
						row.armed.Store(true)
					case call == tt.lose && row.began.CompareAndSwap(0, time.Now().UnixNano()):
						return nats.ErrTimeout
					case call == tt.call && row.lost && row.calls.Add(1) == 1:
						return nats.ErrTimeout
					}
					return nil
				},
			}, func(o *Options) { o.TryTimeout, o.Metrics = 1500*time.Millisecond, NewMetrics(registry) })
			w.awaitEmpty()

			posts, orders, got := map[string]int{}, map[string]int{}, map[string][]string{}
			for _, c := range w.orders() {
				posts[c.IdempotencyKey]++
			}
			for _, o := range w.klarna.Simulator.Books().Orders {
				orders[o.IdempotencyKey]++
			}
			for _, r := range w.results() {
				got[string(r.Key)] = append(got[string(r.Key)], r.String())
			}
			wantOrders := 0
			if tt.want == "paid" {
				wantOrders = 1
			}
			for of, row := range rows {
				if of == string(messages.NewRenewal(messages.SubscriptionID(row.subscription), "2026-12")) {
					continue
				}
				if results := strings.Join(got[of], ", "); results != tt.want || orders[of] != wantOrders || posts[of] != tt.posts {
					t.Errorf("%s: results %q, orders %d, requests %d; want %q, %d, %d", row.name, results, orders[of], posts[of], tt.want, wantOrders, tt.posts)
				}
				if row.fail != nil && row.calls.Load() == 0 {
					t.Errorf("%s: never met", row.name)
				}
			}
			if n := metric(t, registry, "renewals_results_total", strings.Fields(tt.want)[0]); int(n) != len(faults) {
				t.Errorf("results counted: %v, want %d", n, len(faults))
			}
			if letters, _ := w.deadLetters(); tt.broken && len(letters) != len(faults) {
				t.Errorf("dead letters: %d, want %d", len(letters), len(faults))
			}
		})
	}
}

// S7, S53: the same for the record of a capture.
func TestCaptureOutlastsEveryFault(t *testing.T) {
	w := newWorld(t)
	if err := Provision(t.Context(), w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, AckWait: 8 * time.Second, Force: []string{topology.ForceAckWait}}); err != nil {
		t.Fatal(err)
	}
	long := func(o *Options) { o.TryTimeout = 1500 * time.Millisecond }
	stop := w.start(long)
	rows := map[string]*faultyRow{}
	for n, f := range faults {
		subscription := "capture-faults-" + strconv.Itoa(n)
		w.authorise(subscription, "ok-"+strconv.Itoa(n))
		rows[string(messages.NewRenewal(messages.SubscriptionID(subscription), "2026-12"))] = &faultyRow{fault: f, subscription: subscription}
	}
	stop()
	before := len(w.orders())
	for _, row := range rows {
		c := part(row.subscription+"/capture/1", 1599)
		c.SubscriptionID = messages.SubscriptionID(row.subscription)
		w.capture(c)
	}
	w.startFaulty(faulty{
		before: func(ctx context.Context, call, of string) error {
			if row := rows[of]; row != nil && call == "captured" {
				return row.meet(ctx)
			}
			return nil
		},
		after: func(call, of string) error {
			if row := rows[of]; row != nil && call == "captured" && row.lost && row.calls.Add(1) == 1 {
				return nats.ErrTimeout
			}
			return nil
		},
	}, long)
	w.awaitEmpty()
	captured := map[messages.MessageID]int{}
	for _, r := range w.results() {
		if r.Kind == messages.KindCaptured {
			captured[r.ID]++
		}
	}
	for _, row := range rows {
		if n := captured[messages.MessageID(row.subscription+"/capture/1")]; n != 1 || row.calls.Load() == 0 {
			t.Errorf("%s: captured %d times after %d calls, want once", row.name, n, row.calls.Load())
		}
	}
	if taken, posts := w.taken(), len(w.orders())-before; len(taken) != len(faults) || posts != len(faults) {
		t.Errorf("captures %v, requests %d, want %d", taken, posts, len(faults))
	}
}

// TestUnreadableUnderAnAnswer: while an order is in hand somebody writes a record
// on its renewal that no worker understands. The order is kept, a person is told of it once, nobody asks Klarna
// again; and once a newer record is on top the order gets its own.
func TestUnreadableUnderAnAnswer(t *testing.T) {
	w := newWorld(t)
	js := w.js // the faulty view takes its place for as long as the worker starts
	w.publish(w.due("unreadable", "ok-1", 1))
	renewal := messages.NewRenewal("unreadable", "2026-12")
	filter := messages.RenewalFilter(renewal)
	var claim *jetstream.RawStreamMsg
	var told atomic.Int64
	var written atomic.Bool
	put := func(state string) {
		stream, err := js.Stream(t.Context(), messages.StreamJournal)
		if err != nil {
			t.Error(err)
			return
		}
		last, err := stream.GetLastMsgForSubject(t.Context(), filter)
		if err != nil {
			t.Error(err)
			return
		}
		if claim == nil {
			claim = last
		}
		m := &nats.Msg{Subject: claim.Subject, Header: nats.Header{messages.HeaderState: []string{state}}, Data: claim.Data}
		if _, err := js.PublishMsg(t.Context(), m, jetstream.WithExpectLastSequencePerSubject(last.Sequence), jetstream.WithExpectLastSequenceForSubject(last.Sequence, filter)); err != nil {
			t.Error(err)
		}
	}
	w.startFaulty(faulty{before: func(_ context.Context, call, _ string) error {
		if call == "paid" && written.CompareAndSwap(false, true) {
			put(`{"v":1,`)
		}
		return nil
	}}, oneHand, func(o *Options) {
		o.Log = zerolog.New(lines(func(line string) {
			if strings.Contains(line, `"order_id"`) && strings.Contains(line, "understands") {
				told.Add(1)
			}
		}))
	})
	w.await("a word about the order", func() bool { return told.Load() > 0 })
	w.during(3*time.Second, func() bool { return len(w.orders()) == 1 && w.left() == 1 })
	if n := told.Load(); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	put(claim.Header.Get(messages.HeaderState)) // the claim as it was
	w.awaitEmpty()
	stream, err := w.js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	last, err := stream.GetLastMsgForSubject(t.Context(), filter)
	if err != nil || !strings.HasPrefix(last.Subject, "renewals.paid.") {
		t.Errorf("last record on %v, %v, want the payment", last, err)
	}
	if n, orders := len(w.orders()), len(w.klarna.Simulator.Books().Orders); n != 1 || orders != 1 {
		t.Errorf("requests %d, orders %d, want 1", n, orders)
	}
}

// lines hands a log's lines to a test.
type lines func(string)

func (l lines) Write(p []byte) (int, error) {
	l(string(p))
	return len(p), nil
}

// TestLostAck: the connection breaks between the record and the acknowledgement.
// The job comes again and is known to be done (S8, S41).
func TestLostAck(t *testing.T) {
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	nc, err := nats.Connect(w.broker.ClientURL(), nats.ReconnectBufSize(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	w.publish(w.due("ack", "ok-1", 1))
	ours := w.js
	w.js = js
	w.startFaulty(faulty{before: func(context.Context, string, string) error { return nil }, after: func(call, _ string) error {
		if call == "paid" {
			return nc.ForceReconnect()
		}
		return nil
	}}, func(o *Options) { o.Metrics = NewMetrics(registry) })
	w.js = ours
	w.awaitEmpty()
	w.expect(1, "paid")
	if n := len(w.orders()); n != 1 {
		t.Errorf("requests: %d, want 1", n)
	}
	if n := metric(t, registry, "renewals_duplicates_total", ""); n != 1 {
		t.Errorf("deliveries of what was done: %v, want 1", n)
	}
}

// S53: a worker holds an order for longer than AckWait, since it alone cannot
// write. Nobody else is given the job meanwhile, to ask Klarna again.
func TestNobodyElseIsGivenWhatIsInHand(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("held", "ok-1", 1))
	var refused atomic.Int64
	var healed atomic.Bool
	w.startFaulty(faulty{before: func(_ context.Context, call, _ string) error {
		if call == "paid" && !healed.Load() {
			refused.Add(1)
			return &jetstream.APIError{Code: 400, ErrorCode: 10002}
		}
		return nil
	}})
	w.await("refusals", func() bool { return refused.Load() > 1 })
	w.start()
	w.during(6*time.Second, func() bool { return len(w.orders()) == 1 && len(w.records()) == 1 })
	healed.Store(true)
	w.awaitEmpty()
	w.expect(1, "paid")
	if n := len(w.orders()); n != 1 {
		t.Errorf("requests: %d, want 1", n)
	}
}

// TestStoppedWithAnOrderInHand: a worker must stop while the broker refuses the
// record of an order. It says which order; the next worker asks under the same key and records it (S53).
func TestStoppedWithAnOrderInHand(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("stopped", "ok-1", 1))
	var told, refused atomic.Int64
	stop := w.startFaulty(faulty{before: func(_ context.Context, call, _ string) error {
		if call == "paid" {
			refused.Add(1)
			return &jetstream.APIError{Code: 400, ErrorCode: 10002}
		}
		return nil
	}}, func(o *Options) {
		o.Log = zerolog.New(lines(func(line string) {
			if strings.Contains(line, `"order_id"`) && strings.Contains(line, "could not be recorded") {
				told.Add(1)
			}
		}))
	})
	w.await("refusals", func() bool { return refused.Load() > 2 })
	stop()
	if n := told.Load(); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	w.expect(1)
	w.start()
	w.awaitEmpty()
	w.expect(1, "paid")
}

// TestNeverNegative: the broker stamped the job by a clock that is ahead.
func TestNeverNegative(t *testing.T) {
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	var line atomic.Pointer[string]
	o := DefaultOptions()
	o.Name, o.Accounts, o.Metrics = "negative", []Account{{Name: "default"}}, NewMetrics(registry)
	o.Log = zerolog.New(lines(func(l string) { line.Store(&l) }))
	a := accountOf(t, w.js, o, nil)
	ahead := time.Now().Add(time.Minute)
	a.handler.recorder.written(&job{delivery: delivery{published: ahead, received: ahead}, service: charge}, journal.Transition{Record: messages.KindPaid, Then: journal.Ack}, messages.Paid{})
	if l := line.Load(); l == nil || !strings.Contains(*l, `"end_to_end_ms":0`) || !strings.Contains(*l, `"handling_ms":0`) {
		t.Errorf("log: %v, want no time below 0", l)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "renewals_end_to_end_seconds" && f.GetMetric()[0].GetHistogram().GetSampleSum() != 0 {
			t.Errorf("histogram: %v, want no time below 0", f)
		}
	}
}

// S79: the answers to claims are lost, and the journal cannot be read until the leases are over. The tokens are cancelled: nobody
// asked Klarna before, so that its refusal decides, and no job waits a day for a person.
func TestNothingSentUnderAClaim(t *testing.T) {
	w := newWorld(t)
	const jobs = 6
	var mu sync.Mutex
	var began time.Time
	lost := map[string]bool{}
	w.startFaulty(faulty{
		before: func(_ context.Context, call, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if call == "read" && !began.IsZero() && time.Since(began) < 2500*time.Millisecond { // a lease lasts 2 s
				return nats.ErrTimeout
			}
			return nil
		},
		after: func(call, of string) error {
			mu.Lock()
			defer mu.Unlock()
			if call != "charging" || lost[of] || len(lost) == jobs {
				return nil
			}
			if lost[of] = true; began.IsZero() {
				began = time.Now()
			}
			return nats.ErrTimeout
		},
	})
	for i := range jobs {
		w.publish(w.due("s79-"+strconv.Itoa(i), "cancelled-1", 1))
	}
	w.await("the results", func() bool { return len(w.results()) == jobs })
	for _, r := range w.results() {
		if c := r.State.Claim; r.State.Phase != journal.PhaseDunning || c.UndecidedTries != 0 || c.Contradicted || c.Tries != 1 {
			t.Errorf("%s with %+v, want dunning after the only try", r.State.Phase, c)
		}
	}
	if len(lost) != jobs {
		t.Errorf("lost the answers of %d claims, want %d", len(lost), jobs)
	}
}
