package worker

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// S54: something before Klarna hands one order to three renewals. One is paid with it, the two others are not announced; they
// go on asking under their own keys until they get orders of their own.
func TestOneOrderForThreeRenewals(t *testing.T) {
	var mended atomic.Bool
	client := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		order := "shared"
		if mended.Load() {
			order = "of-" + r.Header.Get("Klarna-Idempotency-Key")
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"order_id":%q,"fraud_status":"ACCEPTED"}`, order)
	})
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	w.start(func(o *Options) { o.Accounts[0].Klarna = client; o.Metrics = NewMetrics(registry) })
	for n := range 3 {
		w.publish(w.due("s54-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	unsure := func() (n int) {
		last := map[messages.MessageID]told{}
		for _, r := range w.records() {
			last[r.ID] = r
		}
		for _, r := range last {
			if c := r.State.Claim; r.Kind == messages.KindCharging && c.Released && c.UndecidedTries > 1 && !c.FirstSentAt.IsZero() {
				n++
			}
		}
		return n
	}
	w.await("two who ask again", func() bool { return unsure() == 2 })
	if results := w.results(); len(results) != 1 || results[0].Kind != messages.KindPaid || results[0].Order != "shared" {
		t.Fatalf("results: %v, want one, paid", results)
	}
	if n := metric(t, registry, "renewals_stray_orders_total", strayShared); n < 2 {
		t.Errorf("alarms: %v, want two or more", n)
	}
	mended.Store(true)
	w.awaitEmpty()
	for n, r := range w.results() {
		if want := "of-" + string(r.Key); r.Kind != messages.KindPaid || n > 0 && r.Order != want {
			t.Errorf("%s: %s with order %s, want paid with %s", r.ID, r, r.Order, want)
		}
	}
}

// S54: something before Klarna answers the look at a pending order with another one, which is accepted. That says nothing of this one.
func TestPendingOrderIsNotAnother(t *testing.T) {
	var looks atomic.Int64
	var mended atomic.Bool
	client := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		answer := `{"order_id":"ours","fraud_status":"PENDING"}`
		if r.Method == http.MethodGet {
			looks.Add(1)
			answer = `{"order_id":"another","fraud_status":"ACCEPTED","status":"CAPTURED","order_amount":1,"captured_amount":1}`
		}
		if mended.Load() {
			answer = `{"order_id":"ours","fraud_status":"REJECTED"}`
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(answer))
	})
	w := newWorld(t)
	w.publish(w.due("s54", "ok-1", 1))
	w.start(func(o *Options) { o.Accounts[0].Klarna = client })
	w.await("looks at the order", func() bool { return looks.Load() > 2 })
	if results := w.results(); len(results) > 0 {
		t.Errorf("results: %v, by the word of another order", results)
	}
	mended.Store(true)
	w.awaitEmpty()
	if results := w.results(); len(results) != 1 || results[0].String() != "dunning fraud_rejected" {
		t.Errorf("results: %v, want dunning fraud_rejected", results)
	}
}

// S54: what is repeated for its own renewal is a replay, captures go by their keys, and the memory is bounded.
func TestOwnersOfAnOrder(t *testing.T) {
	var o owners
	for _, tt := range []struct {
		id, owner string
		shared    bool
	}{{"order-1", "a", false}, {"order-1", "a", false}, {"order-1", "b", true}, {"order-2", "b", false}, {"order-1", "a", false}} {
		if got := o.claim(tt.id, tt.owner); got != tt.shared {
			t.Errorf("%s of %s: shared %t, want %t", tt.id, tt.owner, got, tt.shared)
		}
	}
	for n := range 3 * rememberedIDs {
		o.claim("later-"+strconv.Itoa(n), "c")
	}
	if len(o.of) != rememberedIDs || len(o.ids) != rememberedIDs {
		t.Errorf("remembered: %d ids, a ring of %d; want %d", len(o.of), len(o.ids), rememberedIDs)
	}
	if !o.claim("later-"+strconv.Itoa(3*rememberedIDs-1), "d") || o.claim("order-1", "d") {
		t.Error("the last id is forgotten, or the oldest is not")
	}

	w, registry := newWorld(t), prometheus.NewRegistry()
	var worker *Worker
	w.startWith(&worker, func(o *Options) { o.Metrics = NewMetrics(registry) })
	w.await("the worker", func() bool { return worker.Ready() == nil })
	a := (*worker.running.Load())[0]
	one, other := journal.HeldClaim{Claim: journal.Claim{Key: "k1", Capture: &journal.Capture{}}}, journal.HeldClaim{Claim: journal.Claim{Key: "k2", Capture: &journal.Capture{}}}
	made := journal.Created{ID: "capture-1", Capture: true}
	if _, err := a.handler.asker.own(&job{renewal: "r", service: capture}, one.Claim, made, nil); err != nil {
		t.Errorf("a capture: %v", err)
	}
	got, err := a.handler.asker.own(&job{renewal: "r", service: capture}, other.Claim, made, nil)
	if klarna.ClassOf(err) != klarna.ClassUnknown || got.ID != "" || !strings.Contains(err.Error(), "capture-1") {
		t.Errorf("the same capture under another key of its renewal: %+v, %v; want it unknown", got, err)
	}
}
