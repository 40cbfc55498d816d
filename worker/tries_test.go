package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// TestHashIsStored: the journal of a running deployment holds these hashes.
func TestHashIsStored(t *testing.T) {
	stored := fmt.Sprintf("%x", sha256.Sum256([]byte("\x00\x00\x00\x00\x00\x00\x00\x07default\x00\x00\x00\x00\x00\x00\x00\x05token\x00\x00\x00\x00\x00\x00\x00\x02{}")))
	if got := journal.Hash([]byte("{}"), "default", "token"); got != stored {
		t.Errorf("hash = %s, want %s", got, stored)
	}
}

// The last question before the first byte is asked of captures as of charges: the claim may have ended while a connection was waited for.
func TestNothingIsSentUnderAClaimThatEnds(t *testing.T) {
	for _, service := range []*service{charge, capture} {
		var asked atomic.Int64
		a, j, h := accountAsking(t, func(w http.ResponseWriter, _ *http.Request) { asked.Add(1) })
		j.capture = &messages.Capture{}
		h.Claim.Capture = &journal.Capture{OrderID: "order-1", Amount: 1}
		h.Claim.LeaseUntil = a.shared.clock.now().Add(a.rules.base.TryTimeout)
		_, err := service.try(a.handler.asker, j, h.Claim)(t.Context())
		if !errors.Is(err, errLate) || klarna.ClassOf(err) != klarna.ClassNotSent || asked.Load() != 0 {
			t.Errorf("%s: %v after %d requests, want none sent", service.asked, err, asked.Load())
		}
	}
}

// One delivery goes on trying only within its budget, and not while the account is paused.
func TestTryingEnds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		budget time.Duration
		pauses func(pause func())
		most   int64
	}{
		{name: "with its budget", budget: 200 * time.Millisecond, most: 1}, // the first pause is a quarter of a second at least
		{name: "with more of it", budget: 1500 * time.Millisecond, most: 3},
		{name: "with a pause of the account", budget: time.Minute, pauses: func(pause func()) { pause() }, most: 1},
		{name: "with a pause of the account between two tries", budget: time.Minute, pauses: func(pause func()) { time.AfterFunc(50*time.Millisecond, pause) }, most: 1},
	} {
		var asked atomic.Int64
		asks := make(chan *account, 1)
		a, j, h := accountAsking(t, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			a := <-asks
			asks <- a
			if tt.pauses != nil {
				tt.pauses(func() { a.breaker.Open(gate.PauseBreaker, "a test") })
			}
			w.WriteHeader(http.StatusInternalServerError)
		})
		asks <- a
		a.rules.base.TryBudget = tt.budget
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		got := a.handler.asker.ask(ctx, j, h, permitted(t))
		cancel()
		if n := asked.Load(); n < 1 || n > tt.most || got.HandBack {
			t.Errorf("%s: %d requests, handed back: %t; want 1 to %d and not", tt.name, n, got.HandBack, tt.most)
		}
	}
}

// A shutdown does not cut a try that is under way: its answer may be an order.
func TestStopWaitsForTheAnswer(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("stop", "slow-250-ok-1", 1))
	stop := w.start()
	w.await("the request", func() bool { return len(w.klarna.Simulator.Books().Keys) > 0 })
	stop()
	w.expect(1, "paid")
	if n := len(w.orders()); n != 1 {
		t.Errorf("%d requests, want the one that was under way", n)
	}
}
