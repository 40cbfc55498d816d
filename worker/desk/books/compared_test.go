package books_test

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/test/ledger"
	"github.com/klarna-renewals/renewals/worker/desk/books"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// history are records of one subscription's period; the phase is that of the last.
func history(n int, of func(messages.Record) []messages.Event) (all []*nats.Msg, folded reconcile.Renewal) {
	id := messages.SubscriptionID(fmt.Sprint("sub-", n))
	r := messages.NewRenewal(id, "2026-12")
	about := messages.Record{
		ID: messages.MessageID(id + "/2026-12/1"), Account: "default", SubscriptionID: id, Period: "2026-12", Attempt: 1, RenewalKey: r.Key(),
		IdempotencyKey: messages.NewIdempotencyKey(r.Key(), messages.MessageID(id+"/2026-12/1")), OrderAmount: 1599, PurchaseCurrency: "EUR",
		MerchantReference1: string(id), MerchantReference2: fmt.Sprint("second-", n%2), Worker: "w", At: noon.Add(time.Duration(n) * time.Minute),
	}
	events := of(about)
	folded = reconcile.Fold(events)
	folded.Account, folded.SubscriptionID, folded.Period, folded.DueAt = "default", id, "2026-12", noon
	for _, e := range events {
		folded.Phase = journal.Phase(e.Kind())
		body, _ := messages.Encode(e)
		phase := string(e.Kind())
		all = append(all, &nats.Msg{
			Subject: messages.RecordAddress{Kind: e.Kind(), Renewal: r, Due: noon.Unix(), Account: "default"}.Subject(), Data: body,
			Header: nats.Header{messages.HeaderState: {fmt.Sprintf(`{"v":1,"phase":%q,"due_at":"2026-12-01T12:00:00Z","attempts":1,"cadence":"MONTH/1"}`, phase)}, "ce-id": {fmt.Sprint(n, phase)}},
		})
	}
	return all, folded
}

// TestComparedTellsWhatTheJournalHas: what a comparison reads in the books is what it would make of the journal itself.
func TestComparedTellsWhatTheJournalHas(t *testing.T) {
	js := broker.JetStream(t)
	if _, err := js.CreateStream(t.Context(), topology.Provisioning{Replicas: 1}.Journal()); err != nil {
		t.Fatal(err)
	}
	captured := func(a messages.Record, order, key, id string, amount int64) messages.Event {
		a.IdempotencyKey = messages.NewCaptureKey(a.RenewalKey, messages.MessageID(key))
		return messages.Captured{Record: a, OrderID: order, CaptureID: id, CapturedAmount: amount}
	}
	histories := []func(messages.Record) []messages.Event{
		func(a messages.Record) []messages.Event { return []messages.Event{messages.Charging{Record: a}} },
		func(a messages.Record) []messages.Event {
			return []messages.Event{messages.Charging{Record: a}, messages.Paid{Record: a, OrderID: "order-1", Captured: true}}
		},
		func(a messages.Record) []messages.Event {
			return []messages.Event{messages.Pending{Record: a, OrderID: "order-2"}, messages.Paid{Record: a, OrderID: "order-2"}, captured(a, "order-2", "c-1", "capture-1", 600), captured(a, "order-2", "c-2", "capture-2", 999)}
		},
		func(a messages.Record) []messages.Event {
			gone := captured(a, "order-3", "c-1", "capture-3", 600)
			failed := a
			failed.IdempotencyKey = messages.NewCaptureKey(a.RenewalKey, "c-1")
			return []messages.Event{messages.Paid{Record: a, OrderID: "order-3"}, gone, messages.CaptureFailed{Record: failed, OrderID: "order-3", CapturedAmount: 600, Corrects: "captured"}}
		},
		func(a messages.Record) []messages.Event {
			return []messages.Event{messages.Charging{Record: a}, messages.Unresolved{Record: a, Reason: "poison", FirstSentAt: noon, SearchUntil: noon.Add(time.Hour)}}
		},
		func(a messages.Record) []messages.Event {
			return []messages.Event{messages.Paid{Record: a, OrderID: "order-5"}, messages.Unresolved{Record: a, OrderID: "order-5", CapturedAmount: 999}}
		},
		func(a messages.Record) []messages.Event {
			return []messages.Event{messages.Paid{Record: a, OrderID: "order-6", Captured: true}, messages.Dunning{Record: a, Corrects: "paid"}}
		},
		func(a messages.Record) []messages.Event {
			second := a
			second.ID, second.MerchantReference1, second.Attempt = "sub-7/2026-12/2", "again", 2
			second.IdempotencyKey = messages.NewIdempotencyKey(a.RenewalKey, second.ID)
			return []messages.Event{messages.Dunning{Record: a}, messages.Charging{Record: second}}
		},
	}
	want := ledger.New()
	histories = append(histories, func(a messages.Record) []messages.Event {
		part := captured(a, "order-8", "c-1", "capture-8", 800).(messages.Captured)
		part.TotalCapturedAmount = 1599
		return []messages.Event{messages.Paid{Record: a, OrderID: "order-8", Captured: true}, part}
	})
	// Decisions of weeks later, of what was charged and captured then.
	histories = append(histories, func(a messages.Record) []messages.Event {
		decided := a
		decided.At = noon.Add(35 * 24 * time.Hour)
		taken := captured(decided, "order-9", "c-1", "capture-9", 800).(messages.Captured)
		taken.Corrects = "unresolved"
		gave := taken.Record
		gave.At = a.At.Add(time.Hour)
		return []messages.Event{
			messages.Unresolved{Record: a, FirstSentAt: noon.Add(2 * time.Minute), SearchUntil: noon.Add(time.Hour)}, messages.Paid{Record: decided, OrderID: "order-9", Corrects: "unresolved"},
			messages.Unresolved{Record: gave, OrderID: "order-9", CapturedAmount: 800, FirstSentAt: noon.Add(3 * time.Minute)}, taken,
		}
	})
	for n, of := range histories {
		records, folded := history(n, of)
		want.Add(folded)
		for _, m := range records {
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "books")
	w, err := books.Create(path, "the test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = (books.Syncer{JetStream: js, Writer: w}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Close()
	b, err := books.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got := books.Compared{Books: b, Rhythm: func(context.Context, messages.Renewal) (messages.Cadence, bool, error) { return "MONTH/1", false, nil }}
	same := func(what string, got []reconcile.Renewal, want []reconcile.Renewal, err error) {
		t.Helper()
		sorted := func(all []reconcile.Renewal) []reconcile.Renewal {
			return slices.SortedFunc(slices.Values(all), func(a, b reconcile.Renewal) int { return int(a.PaidAt.Sub(b.PaidAt)) })
		}
		if err != nil || !reflect.DeepEqual(sorted(got), sorted(want)) {
			t.Errorf("%s: %v\nbooks %+v\nwant  %+v", what, err, got, want)
		}
	}
	for n := range histories {
		order := fmt.Sprint("order-", n)
		found, err := got.ByOrder(t.Context(), order)
		expected, _ := want.ByOrder(t.Context(), order)
		if n == 6 { // of an order that was taken back, the ledger of the test knows nothing
			expected = found
		}
		same(order, found, expected, err)
		reference := fmt.Sprint("sub-", n)
		found, err = got.ByReference(t.Context(), "default", reference)
		if expected, _ = want.ByReference(t.Context(), "default", reference); n == 7 { // it knows the references of the last attempt
			expected = found
		}
		same(reference, found, expected, err)
	}
	if found, err := got.ByReference(t.Context(), "default", "second-1"); err != nil || len(found) != 5 {
		t.Errorf("by the second reference: %d, %v; want 5", len(found), err)
	}
	for _, text := range []string{"sub-0", "sub-0/2026-12/1", "again", "sub-7/2026-12/2"} { // of charges that are under way
		found, err := got.ByReference(t.Context(), "default", text)
		expected, _ := want.ByReference(t.Context(), "default", text)
		if same(text, found, expected, err); len(found) != 1 || found[0].Phase != journal.PhaseCharging {
			t.Errorf("by %s: %+v; want the charge that is under way", text, found)
		}
	}
	if found, err := got.ByReference(t.Context(), "other", "sub-1"); err != nil || len(found) != 0 {
		t.Errorf("of another account: %+v, %v", found, err)
	}
	collect := func(in reconcile.Books) (all []reconcile.Renewal) {
		for r, err := range in.Paid(t.Context(), "default", noon, noon.Add(4*time.Minute)) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		return all
	}
	same("paid", collect(got), collect(want), nil)
	if !slices.ContainsFunc(collect(got), func(r reconcile.Renewal) bool { return r.OrderID == "order-9" }) {
		t.Error("not paid: what was decided later")
	}
	for sub, known := range map[messages.SubscriptionID]bool{"sub-1": true, "sub-99": false} {
		if k, err := got.Knows(t.Context(), "default", sub); err != nil || k != known {
			t.Errorf("knows %s: %t, %v", sub, k, err)
		}
	}
}
