package reconcile_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/test/ledger"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// given is a journal with n renewals that are unresolved, and news.
func given(t *testing.T, n int) (jetstream.JetStream, *journal.Journal) {
	t.Helper()
	js := broker.JetStream(t)
	if err := topology.Provision(t.Context(), js, topology.Provisioning{Accounts: []messages.Account{"default"}}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		s := messages.SubscriptionID(fmt.Sprint(i))
		r := messages.NewRenewal(s, "2026-12")
		id := messages.MessageID(s + "/2026-12/1")
		key := messages.NewIdempotencyKey(r.Key(), id)
		sum := "0000000000000000000000000000000000000000000000000000000000000000"
		state := journal.State{
			Version: 1, Phase: journal.PhaseUnresolved, DueAt: firstDay, Rev: 1, Attempts: 1, FirstAttemptAt: firstDay,
			Claim:   &journal.Claim{Key: key, SHA256: sum, Nonce: "n", Worker: "w", FirstSentAt: firstDay.Add(time.Hour)},
			Settled: map[messages.IdempotencyKey]journal.Settlement{key: {Kind: messages.KindUnresolved, SHA256: sum}},
		}
		header, err := state.Encode()
		if err != nil {
			t.Fatal(err)
		}
		body, err := messages.Encode(messages.Unresolved{
			Record: messages.Record{ID: id, Account: "default", SubscriptionID: s, Period: "2026-12", Attempt: 1, IdempotencyKey: key, RenewalKey: r.Key(), OrderAmount: 1599,
				PurchaseCurrency: "EUR", MerchantReference1: string(s) + "-2026-12", Worker: "w", At: firstDay},
			Reason: messages.ReasonPoison, FirstSentAt: firstDay.Add(time.Hour), SearchUntil: firstDay.Add(2 * time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		m := &nats.Msg{Subject: messages.RecordAddress{Kind: messages.KindUnresolved, Renewal: r, Due: firstDay.Unix(), Account: "default"}.Subject(), Data: body, Header: nats.Header{messages.HeaderState: {header}}}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	j, err := journal.Open(t.Context(), js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return js, j
}

// proven is a comparison that proves all of them.
func proven(t *testing.T, js jetstream.JetStream, n int) *reconcile.Report {
	t.Helper()
	l, err := ledger.Read(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	rows := report(sold("0"))
	if n == 2 {
		rows = report(sold("0"), sold("1"))
	}
	found, err := reconcile.Compare(t.Context(), l, rows, options())
	if err != nil || len(found.Evidence) != n {
		t.Fatalf("evidence %+v, %v", found, err)
	}
	return found
}

// recorded are the journal's paid records by their renewals.
func recorded(t *testing.T, js jetstream.JetStream) map[messages.Renewal][]messages.Paid {
	t.Helper()
	stream, err := js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	paid := map[messages.Renewal][]messages.Paid{}
	for n := uint64(1); n <= stream.CachedInfo().State.LastSeq; n++ {
		m, err := stream.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		address, _ := messages.ParseRecordSubject(m.Subject)
		if event, err := messages.DecodeEvent(address.Kind, m.Data); err != nil {
			t.Fatal(err)
		} else if p, ok := event.(messages.Paid); ok {
			paid[address.Renewal] = append(paid[address.Renewal], p)
		}
	}
	return paid
}

func finder(js jetstream.JetStream) desk.Finder {
	return desk.Finder{JetStream: js, Progress: func(string, int64) (func(int64), func()) { return func(int64) {}, func() {} }}
}

func now() time.Time { return firstDay.Add(30 * day) }

func TestApply(t *testing.T) {
	js, j := given(t, 1)
	found := proven(t, js, 1)
	applied, err := reconcile.Apply(t.Context(), j, finder(js), found, now)
	if err != nil || len(applied) != 1 || !applied[0].Recorded {
		t.Fatalf("%+v, %v", applied, err)
	}
	paid := recorded(t, js)[messages.NewRenewal("0", "2026-12")]
	if len(paid) != 1 || paid[0].OrderID != "order-0" || !paid[0].Captured || paid[0].Corrects != "unresolved" || paid[0].Actor != "reconcile" || paid[0].Note != "settled in payout P1, line 1: SALE of 15.99 EUR for order order-0" {
		t.Errorf("recorded %+v", paid)
	}
	if applied, err = reconcile.Apply(t.Context(), j, finder(js), found, now); err != nil || applied[0].Recorded || applied[0].Why != "it is paid by now" || len(recorded(t, js)) != 1 {
		t.Errorf("applied again: %+v, %v", applied, err)
	}
	for id, e := range found.Evidence {
		e.Against = "because"
		found.Evidence[id] = e
	}
	js, j = given(t, 1)
	if applied, err = reconcile.Apply(t.Context(), j, finder(js), found, now); err != nil || applied[0].Recorded || applied[0].Why != "because" || len(recorded(t, js)) != 0 {
		t.Errorf("with something against it: %+v, %v", applied, err)
	}
}

// meanwhile lets something happen between the look at a renewal and the decision.
type meanwhile struct {
	*journal.Journal
	happens func()
}

func (m meanwhile) Last(ctx context.Context, r messages.Renewal) (journal.Entry, error) {
	at, err := m.Journal.Last(ctx, r)
	m.happens()
	return at, err
}

// TestApplyBesideOthers: an operator, or Klarna's late answer, comes between the look and the decision: one record, and the other's.
func TestApplyBesideOthers(t *testing.T) {
	r := messages.NewRenewal("0", "2026-12")
	for name, decide := range map[string]func(j *journal.Journal) error{
		"paid with the same order": func(j *journal.Journal) error {
			return j.ResolvePaid(t.Context(), r, "order-0", true, journal.Decision{Actor: "ada", At: now()})
		},
		"paid with another": func(j *journal.Journal) error {
			return j.ResolvePaid(t.Context(), r, "order-late", true, journal.Decision{Actor: "ada", At: now()})
		},
		"not charged": func(j *journal.Journal) error {
			return j.ResolveNotCharged(t.Context(), r, journal.Decision{Actor: "ada", At: now()})
		},
	} {
		js, j := given(t, 1)
		applied, err := reconcile.Apply(t.Context(), meanwhile{j, func() {
			if err := decide(j); err != nil {
				t.Fatal(err)
			}
		}}, finder(js), proven(t, js, 1), now)
		paid := recorded(t, js)[r]
		if err != nil || applied[0].Recorded || applied[0].Why == "" || len(paid) > 1 || len(paid) == 1 && paid[0].Actor != "ada" {
			t.Errorf("%s: %+v, %v, recorded %+v", name, applied, err, paid)
		}
	}
}

// TestApplyWhatAnotherHas: the order was recorded for another renewal since the books were read, or is while this is applied. It is recorded
// for no second one.
func TestApplyWhatAnotherHas(t *testing.T) {
	for name, when := range map[string]func(record func()) (before, between func()){
		"since the books were read": func(record func()) (before, between func()) { return record, func() {} },
		"while it is applied":       func(record func()) (before, between func()) { return func() {}, record },
	} {
		js, j := given(t, 2)
		found := proven(t, js, 1)
		before, between := when(func() {
			if err := j.ResolvePaid(t.Context(), messages.NewRenewal("1", "2026-12"), "order-0", true, journal.Decision{Actor: "ada", At: now()}); err != nil {
				t.Fatal(err)
			}
		})
		before()
		applied, err := reconcile.Apply(t.Context(), meanwhile{j, between}, finder(js), found, now)
		if err != nil || len(applied) != 1 || applied[0].Recorded || applied[0].Why != "the order is named by another record: 1/2026-12, record 3" || len(recorded(t, js)) != 1 {
			t.Errorf("%s: %+v, %v, recorded %+v", name, applied, err, recorded(t, js))
		}
	}
}

// hasty records the order for another renewal right before it is recorded for this one.
type hasty struct {
	*journal.Journal
	first func()
}

func (h hasty) ResolvePaid(ctx context.Context, r messages.Renewal, orderID string, captured bool, d journal.Decision) error {
	h.first()
	return h.Journal.ResolvePaid(ctx, r, orderID, captured, d)
}

// TestApplyAtTheSameMoment: what nobody can prevent is said, and by which records.
func TestApplyAtTheSameMoment(t *testing.T) {
	js, j := given(t, 2)
	found := proven(t, js, 1)
	_, err := reconcile.Apply(t.Context(), hasty{j, func() {
		if err := j.ResolvePaid(t.Context(), messages.NewRenewal("1", "2026-12"), "order-0", true, journal.Decision{Actor: "ada", At: now()}); err != nil {
			t.Fatal(err)
		}
	}}, finder(js), found, now)
	if err == nil || !strings.Contains(err.Error(), "settle 0/2026-12: recorded, but the order is named by another record: 1/2026-12, record 3: one of the two is wrong") {
		t.Errorf("%v, recorded %+v", err, recorded(t, js))
	}
}

// TestTwoReconciles settle the same at once: each renewal is recorded once.
func TestTwoReconciles(t *testing.T) {
	js, j := given(t, 2)
	found := proven(t, js, 2)
	var both sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 2 {
		both.Go(func() {
			applied, err := reconcile.Apply(t.Context(), j, finder(js), found, now)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			for _, a := range applied {
				if a.Recorded {
					total++
				}
			}
		})
	}
	both.Wait()
	paid := recorded(t, js)
	if total != 2 || len(paid) != 2 {
		t.Errorf("%d say that they recorded it, the journal has %+v", total, paid)
	}
	for r, records := range paid {
		if len(records) != 1 {
			t.Errorf("%s is recorded %d times", r, len(records))
		}
	}
}

// TestCrashWhileApplying: what was settled stays, and another run settles the rest.
func TestCrashWhileApplying(t *testing.T) {
	js, j := given(t, 2)
	found := proven(t, js, 2)
	ctx, crash := context.WithCancel(t.Context())
	looks := 0
	_, err := reconcile.Apply(ctx, meanwhile{j, func() {
		if looks++; looks == 2 {
			crash()
		}
	}}, finder(js), found, now)
	if err == nil || len(recorded(t, js)) != 1 {
		t.Fatalf("%v, recorded %+v; want one, and the error of the crash", err, recorded(t, js))
	}
	applied, err := reconcile.Apply(t.Context(), j, finder(js), found, now)
	if err != nil || len(applied) != 2 || applied[0].Recorded == applied[1].Recorded || len(recorded(t, js)) != 2 {
		t.Errorf("%+v, %v, recorded %+v", applied, err, recorded(t, js))
	}
}
