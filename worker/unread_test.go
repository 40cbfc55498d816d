package worker

import (
	"strconv"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// S51: an order that is refused without a code again and again ends as the merchant's trouble; the customer hears nothing.
func TestRefusedWithoutCode(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("odd", "403-bare-1", 1))
	w.publish(w.due("unsure", "500x1-403-bare-1", 1))
	w.start()
	row := func(id string, n int) func() bool {
		return func() bool {
			for _, r := range w.records() {
				if r.ID == messages.MessageID(id) && r.State.NotEvaluated.N >= n {
					return true
				}
			}
			return false
		}
	}
	w.await("two odd answers", row("odd/2026-12/1", 2))
	w.await("two odd answers after one that leaves it open", row("unsure/2026-12/1", 2))
	w.expect(0)
	w.advance(15 * time.Minute)
	w.await("its end", func() bool { return len(w.results()) > 0 })
	w.await("more odd answers", row("unsure/2026-12/1", 8))
	w.expect(0, "dunning refused_without_code")
	w.advance(24 * time.Hour)
	w.awaitEmpty()
	w.expect(0, "dunning refused_without_code", "unresolved idempotency_window_expired")
	r := w.results()[0]
	if r.Status != 403 || r.Category != messages.CategoryMerchantError || r.Notify || r.Retryable || r.Next != nil {
		t.Errorf("result: %+v, want 403, the merchant's, no notice, no retry", r)
	}
}

// S94: a proxy answers 404 to everything, the canary included. Nobody is dunned, and nobody is paused for good: after a day
// a person looks at it.
func TestProxyThatKnowsNoPath(t *testing.T) {
	w := newWorld(t)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "404-bare" })
	for n := range 3 {
		w.publish(w.due("s94-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	w.start()
	turned := func(n int) bool {
		rows := map[messages.MessageID]int{}
		for _, r := range w.records() {
			rows[r.ID] = r.State.NotEvaluated.N
		}
		return len(rows) == 3 && min(rows["s94-0/2026-12/1"], rows["s94-1/2026-12/1"], rows["s94-2/2026-12/1"]) >= n
	}
	w.await("some answers", func() bool { return turned(2) })
	w.advance(time.Hour)
	w.await("more answers", func() bool { return turned(5) })
	w.expect(0)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "" })
	w.awaitEmpty()
	w.expect(3, "paid", "paid", "paid")
}

// S52: the order of a capture has expired, and Klarna answers the look at it, or the capture, 404 without a word.
func TestCaptureOfAnExpiredOrder(t *testing.T) {
	t.Parallel()
	for _, reference := range []string{"404-bare-1", "403-bare-1"} {
		t.Run(reference, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			order := w.authorise("s52", "ok-s52")
			w.capture(messages.Capture{ID: "s52/capture", SubscriptionID: "s52", Period: "2026-12", OrderID: order, Reference: reference})
			w.await("two odd answers", func() bool {
				all := w.records()
				return all[len(all)-1].State.NotEvaluated.N >= 2
			})
			w.advance(15 * time.Minute)
			w.awaitEmpty()
			want := "capture_failed refused_without_code"
			if reference == "404-bare-1" {
				want = "capture_failed no_such_order"
			}
			w.expect(1, "paid", want)
		})
	}
}

// S94: captures and charges go different ways to Klarna: what is heard of the one is no witness for the other, and what
// nobody there evaluated is none at all.
func TestWitnessesGoDifferentWays(t *testing.T) {
	o := DefaultOptions()
	o.Name, o.Accounts, o.Now = "w", []Account{{Name: "default"}}, func() time.Time { return midday }
	a := accountOf(t, nil, o, nil)
	now := a.shared.clock.now()
	for _, tt := range []struct {
		capture bool
		err     error
		want    bool
	}{
		{false, turnedDown(403, ""), false}, {true, turnedDown(404, ""), false}, {false, turnedDown(500, ""), false}, {false, turnedDown(429, ""), false},
		{true, nil, true}, {false, turnedDown(403, ""), false}, {true, turnedDown(404, ""), true},
		{false, turnedDown(403, "TOKEN_CANCELLED"), true}, {false, turnedDown(403, ""), true},
	} {
		service := charge
		if tt.capture {
			service = capture
		}
		at := a.handler.asker.evaluated(service, tt.err)
		if at.IsZero() == tt.want || tt.want && at.Sub(now).Abs() > time.Minute {
			t.Errorf("capture %t, answer %v: last evaluated at %s, want %t", tt.capture, tt.err, at, tt.want)
		}
	}
}
