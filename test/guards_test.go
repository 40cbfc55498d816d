package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// S65: forty jobs of one renewal within a minute, and five of another whose token is dead, each allowed by itself and under a message ID
// of its own, at two workers whose account sets nothing. Klarna hears one of each renewal; every other job is told what to do.
func TestOneRenewalOverAndOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	attempt := func(number int, acted bool) func(map[string]any) {
		return func(j map[string]any) {
			j["id"], j["customer_acted"] = fmt.Sprintf("%s/2026-12/%d", j["subscription_id"], number), acted
			delete(j, "attempt")
		}
	}
	w.start(nil, "work")
	w.start(nil, "work")
	for n := range 40 {
		w.publish(job(1, "soft-decline-1", attempt(n, false)))
		if n%8 == 0 {
			w.publish(job(2, "cancelled-2", attempt(n, true)))
		}
	}
	await(t, 60*time.Second, "a result of every job", func() bool { return w.left() == 0 })

	for _, k := range w.klarna.Simulator.Books().Keys {
		if k.Tries != 1 {
			t.Errorf("key %s was sent %d times, want once", k.IdempotencyKey, k.Tries)
		}
	}
	if n := len(w.klarna.Simulator.Books().Keys); n != 2 {
		t.Errorf("charges that Klarna was asked for: %d, want one of each renewal", n)
	}
	told := map[string]int{}
	for _, r := range w.results() {
		reason := r.Event["reason"].(string)
		told[r.Kind+" "+reason]++
		if _, has := r.Event["next_attempt_at"]; r.Kind == "rejected" && has != (reason == "too_soon") {
			t.Errorf("%s with the next attempt at %v", reason, r.Event["next_attempt_at"])
		}
	}
	want := map[string]int{"dunning payment_method_failed": 1, "rejected too_soon": 39, "dunning token_cancelled": 1, "rejected token_dead": 4}
	if fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("results: %v, want %v", told, want)
	}
}
