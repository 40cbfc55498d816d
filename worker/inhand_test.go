package worker

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// faulty is a JetStream of which a test fails reads and writes, or loses their
// answers. It tells the test which call it is, "read", "dead" or the kind of the record, and the token of its subject that
// names the renewal, or the key of a dead letter.
type faulty struct {
	jetstream.JetStream
	before func(ctx context.Context, call, of string) error
	after  func(call, of string) error // of what was stored
}

func (f faulty) PublishMsg(ctx context.Context, m *nats.Msg, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	tokens := strings.Split(m.Subject, ".")
	if err := f.before(ctx, tokens[1], tokens[2]); err != nil {
		return nil, err
	}
	ack, err := f.JetStream.PublishMsg(ctx, m, options...)
	if err == nil && f.after != nil {
		err = f.after(tokens[1], tokens[2])
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

func (s faultyStream) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	if err := s.faulty.before(ctx, "read", strings.Split(subject, ".")[2]); err != nil {
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
func (w *world) decline(r messages.RenewalKey) {
	w.t.Helper()
	journal, err := OpenJournal(w.t.Context(), w.js, DefaultOptions().Log)
	if err != nil {
		w.t.Fatal(err)
	}
	at, err := journal.Last(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	c := *at.State.Claim
	c.Nonce, c.Worker = uuid.NewString(), "another"
	next := at.State.claimed(c).settle(c.Key, Settlement{Kind: messages.KindDunning, SHA256: c.SHA256})
	next.Phase = PhaseDunning
	event := messages.Dunning{Record: messages.Record{ID: "declined", Account: "default", RenewalKey: r, IdempotencyKey: c.Key}}
	m, err := recordMessage(event, event.Record, next, w.now(), "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := journal.Write(w.t.Context(), m, r, at.Sequence); err != nil {
		w.t.Fatal(err)
	}
}

// S69: a 200 is in hand, another worker has recorded `dunning`, and the read that
// would tell so fails: once, and for as long as a minute of a lease of two.
func TestS69LostSetThenFailedReads(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fails time.Duration
	}{{"once", 0}, {"for long", time.Second}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.publish(w.due("s69", "ok-1", 1))
			renewal := messages.NewRenewalKey("s69", "2026-12")
			var declined, failed atomic.Int64
			w.startFaulty(faulty{before: func(_ context.Context, call, _ string) error {
				switch {
				case call == "paid" && declined.CompareAndSwap(0, time.Now().UnixNano()):
					w.decline(renewal)
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
		{step: "read before the claim", token: "500x1-", arm: "charging", call: "read", posts: 2, want: "paid"},
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
			rows := map[string]*faultyRow{}
			for n, f := range faults {
				row := &faultyRow{fault: f, subscription: strings.ReplaceAll(tt.step, " ", "-") + "-" + strconv.Itoa(n)}
				row.armed.Store(tt.arm == "")
				renewal := messages.NewRenewalKey(messages.SubscriptionID(row.subscription), "2026-12")
				rows[string(renewal)] = row
				rows[string(messages.NewIdempotencyKey(renewal, messages.MessageID(row.subscription+"/2026-12/1")))] = row
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
			})
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
				if of == string(messages.NewRenewalKey(messages.SubscriptionID(row.subscription), "2026-12")) {
					continue
				}
				if results := strings.Join(got[of], ", "); results != tt.want || orders[of] != wantOrders || posts[of] != tt.posts {
					t.Errorf("%s: results %q, orders %d, requests %d; want %q, %d, %d", row.name, results, orders[of], posts[of], tt.want, wantOrders, tt.posts)
				}
				if row.fail != nil && row.calls.Load() == 0 {
					t.Errorf("%s: never met", row.name)
				}
			}
			if letters, _ := w.deadLetters(); tt.broken && len(letters) != len(faults) {
				t.Errorf("dead letters: %d, want %d", len(letters), len(faults))
			}
		})
	}
}
