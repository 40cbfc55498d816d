package worker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// guarded starts a worker whose account has the guards of one that sets none.
func guarded(o *Options) { o.Accounts[0].MinAttemptGap = 0 }

// refused checks that all of these results are rejections for one reason, whose errors say what to do.
func refused(t *testing.T, results []messages.Rejected, n int, why messages.Reason, path string, says ...string) {
	t.Helper()
	if len(results) != n {
		t.Fatalf("%d rejections, want %d: %v", len(results), n, results)
	}
	for _, r := range results {
		if r.Reason != why || len(r.Errors) != 1 || r.Errors[0].Path != path {
			t.Fatalf("rejected: %+v, want %s, which names %s", r, why, path)
		}
		for _, words := range says {
			if !strings.Contains(r.Errors[0].Message, words) {
				t.Errorf("%s says %q, want %q in it", why, r.Errors[0].Message, words)
			}
		}
	}
}

// S65: forty jobs of one renewal in a minute, each under a message ID of its own. Klarna hears one; the others are told when to come, and
// those who come then are charged.
func TestFortyAttemptsInAMinute(t *testing.T) {
	w := newWorld(t)
	const jobs = 40
	for attempt := 1; attempt <= jobs; attempt++ {
		w.publish(w.due("s65", "soft-decline-once-1", attempt, func(j map[string]any) { delete(j, "attempt") }))
	}
	registry := prometheus.NewRegistry()
	w.start(guarded, func(o *Options) { o.Metrics = NewMetrics(registry) })
	w.awaitEmpty()
	if n := len(w.orders()); n != 1 {
		t.Errorf("requests to Klarna: %d, want 1", n)
	}
	claimed := w.records()[0].State.LastAttemptAt
	declined := bodies[messages.Dunning](w)
	if len(declined) != 1 || declined[0].Final || declined[0].NextAttemptAt == nil {
		t.Fatalf("refusals of Klarna: %+v, want one, with the next attempt", declined)
	}
	rejected := bodies[messages.Rejected](w)
	next := rejected[0].NextAttemptAt
	refused(t, rejected, jobs-1, messages.ReasonTooSoon, "period", "new message ID from "+next.Format(time.RFC3339), `"customer_acted": true`)
	if gap := next.Sub(claimed); gap < time.Hour || gap > time.Hour+time.Second || next.After(*declined[0].NextAttemptAt) {
		t.Errorf("the next attempt is accepted %s after the last, and suggested at %s", gap, declined[0].NextAttemptAt)
	}
	if letters, _ := w.deadLetters(); len(letters) != jobs-1 || letters[0].Reason != messages.ReasonTooSoon {
		t.Errorf("dead letters: %d, want %d", len(letters), jobs-1)
	}
	if n := metric(t, registry, "renewals_results_total", string(messages.ReasonTooSoon)); n != jobs-1 {
		t.Errorf("counted as too soon: %v, want %d", n, jobs-1)
	}

	w.advance(next.Sub(w.now()))
	w.publish(w.due("s65", "soft-decline-once-1", jobs+1, func(j map[string]any) { delete(j, "attempt") }))
	w.awaitEmpty()
	if results := w.results(); results[len(results)-1].Kind != messages.KindPaid || len(w.orders()) != 2 {
		t.Errorf("at the moment that was told: %v after %d requests, want it paid with the second", results[len(results)-1], len(w.orders()))
	}
}

// S65: a token that was announced as dead is tried every night. Klarna hears one; with a new token the period is paid.
func TestDeadTokenEveryNight(t *testing.T) {
	w := newWorld(t)
	w.start(guarded)
	for attempt := 1; attempt <= 5; attempt++ {
		w.publish(w.due("s65", "cancelled-1", attempt, func(j map[string]any) { j["customer_acted"] = attempt == 3 }))
		w.awaitEmpty()
		w.advance(24 * time.Hour)
	}
	if told := bodies[messages.Dunning](w); len(told) != 1 || told[0].Category != messages.CategoryTokenDead || !told[0].Final || told[0].NextAttemptAt != nil {
		t.Errorf("refusals of Klarna: %+v, want one, final", told)
	}
	refused(t, bodies[messages.Rejected](w), 4, messages.ReasonTokenDead, "customer_token", "sign up again", "new message ID")
	for _, r := range bodies[messages.Rejected](w) {
		if !r.NextAttemptAt.IsZero() {
			t.Errorf("%s has a next attempt at %s, want none", r.Reason, r.NextAttemptAt)
		}
	}
	if n := len(w.orders()); n != 1 {
		t.Errorf("requests to Klarna: %d, want 1", n)
	}
	w.publish(w.due("s65", "ok-2", 6))
	w.awaitEmpty()
	if results := w.results(); results[len(results)-1].Kind != messages.KindPaid {
		t.Errorf("with a new token: %v, want it paid", results[len(results)-1])
	}
}

// Whoever says that the customer has acted need not wait, and nobody gets more attempts than the account allows. The last that
// it allows says that it is the last, whatever the retry policy would suggest.
func TestCustomerActs(t *testing.T) {
	w := newWorld(t)
	w.start(guarded, func(o *Options) { o.Accounts[0].MaxAttempts = 3 })
	acted := func(j map[string]any) { j["customer_acted"] = true }
	for attempt := 1; attempt <= 4; attempt++ {
		w.publish(w.due("acted", "soft-decline-1", attempt, acted))
		w.awaitEmpty()
	}
	told := bodies[messages.Dunning](w)
	for i, d := range told {
		if last := i == 2; d.Attempt != int64(i+1) || d.Final != last || (d.NextAttemptAt == nil) != last {
			t.Errorf("attempt %d: final %t, next %v; want the third to be final", d.Attempt, d.Final, d.NextAttemptAt)
		}
	}
	if len(told) != 3 || len(w.orders()) != 3 {
		t.Errorf("refusals: %d after %d requests, want 3", len(told), len(w.orders()))
	}
	refused(t, bodies[messages.Rejected](w), 1, messages.ReasonTooManyAttempts, "period", "3 attempts", "max_attempts", "a person has to decide")
}

// A replayed dead letter passes the same guards: too soon it is refused again, later it is charged under the same key.
func TestReplayTooSoon(t *testing.T) {
	w := newWorld(t)
	w.start(guarded)
	w.publish(w.due("replayed", "soft-decline-once-1", 1))
	w.awaitEmpty()
	w.publish(w.due("replayed", "soft-decline-once-1", 2))
	w.awaitEmpty()
	for n, want := range []string{"rejected too_soon", "paid"} {
		letters, payloads := w.deadLetters()
		if len(letters) != n+1 {
			t.Fatalf("dead letters: %d, want %d", len(letters), n+1)
		}
		w.publishTo("default", []byte(payloads[n]), letters[n].Replay(uint64(n+1), want))
		w.awaitEmpty()
		if results := w.results(); results[len(results)-1].String() != want {
			t.Errorf("replay %d: %v, want %s", n+1, results[len(results)-1], want)
		}
		w.advance(time.Hour)
	}
	keys := []messages.IdempotencyKey{}
	for _, c := range w.orders() {
		keys = append(keys, messages.IdempotencyKey(c.IdempotencyKey))
	}
	if r := w.results(); len(keys) != 2 || keys[1] != r[len(r)-1].Key || slices.ContainsFunc(w.orders(), func(e klarnasim.Exchange) bool { return e.Status == 0 }) {
		t.Errorf("keys at Klarna: %v, want one of each job", keys)
	}
}

// What an account may set, and what it has where it sets nothing.
func TestGuardSettings(t *testing.T) {
	for _, row := range []struct {
		name     string
		gap      time.Duration
		attempts int
		wantGap  time.Duration
		want     int64
		fault    string
	}{
		{name: "nothing", wantGap: time.Hour, want: 20},
		{name: "none and one", gap: NoAttemptGap, attempts: 1, want: 1},
		{name: "the most", gap: 168 * time.Hour, attempts: 256, wantGap: 168 * time.Hour, want: 256},
		{name: "too long", gap: 169 * time.Hour, fault: "account default: min attempt gap: found 169h0m0s, expected at most 168h0m0s"},
		{name: "too many", attempts: 257, fault: "account default: max attempts: found 257, expected 1 to 256"},
		{name: "fewer than one", attempts: -1, fault: "account default: max attempts: found -1, expected 1 to 256"},
	} {
		a, err := Account{Name: "default", MinAttemptGap: row.gap, MaxAttempts: row.attempts}.checked()
		if fault := ""; err != nil || row.fault != "" {
			if err != nil {
				fault = err.Error()
			}
			if fault != row.fault {
				t.Errorf("%s: got %q, want %q", row.name, fault, row.fault)
			}
			continue
		}
		if g := a.guards(); g.MinAttemptGap != row.wantGap || g.MaxAttempts != row.want {
			t.Errorf("%s: got %+v", row.name, g)
		}
	}
}
