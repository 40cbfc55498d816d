package worker

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
)

func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := newSlots(2)
		one, two, three := &job{}, &job{}, &job{}
		if !s.enter(ctx, one, 0) || !s.enter(ctx, two, 0) {
			t.Fatal("a free slot was not given")
		}
		before := time.Now()
		if s.enter(ctx, three, time.Second) || time.Since(before) != time.Second {
			t.Errorf("a third slot of two, or not after a second but %s", time.Since(before))
		}
		s.leave(three) // has none: takes none away
		go func() {
			<-time.After(time.Second)
			s.leave(one)
			s.leave(one)
		}()
		before = time.Now()
		if !s.enter(ctx, three, time.Minute) || time.Since(before) != time.Second {
			t.Errorf("no slot when one became free, or after %s", time.Since(before))
		}
		if s.enter(ctx, one, time.Second) {
			t.Error("a third slot of two, since one was given back twice")
		}
	})
}

// TestPauseWhileWaitingForASlot: a job that waits while the account is paused
// goes back; only the probe, which comes while it is paused, may go on.
func TestPauseWhileWaitingForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &account{
			Account: Account{Name: "default"}, Worker: &Worker{opts: Options{Now: time.Now}},
			limiter: gate.NewLimiter(0), breaker: gate.NewBreaker(func(string, bool, string) {}),
		}
		s := newSlots(1)
		first, second := &job{slots: s, received: a.now()}, &job{slots: s, received: a.now()}
		if _, ok := a.myTurn(t.Context(), first); !ok {
			t.Fatal("a free slot was not given")
		}
		turn := make(chan bool)
		go func() {
			_, ok := a.myTurn(t.Context(), second)
			turn <- ok
		}()
		synctest.Wait()
		a.breaker.Open(gate.PauseBreaker, "")
		s.leave(first)
		if <-turn {
			t.Error("a job that waited may be claimed though the account is paused")
		}
		s.leave(second)
		if _, ok := a.myTurn(t.Context(), first); !ok {
			t.Error("the probe may not be claimed")
		}
		s.leave(first)
		a.breaker.Open(gate.PauseNotEvaluated, "")
		if _, ok := a.myTurn(t.Context(), first); ok {
			t.Error("S55: a job may be claimed while the canary is not well")
		}
	})
}

// TestWanted: more jobs than slots are asked for only while charges are quick,
// and then not one by one.
func TestWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(64)
		expect := func(when string, want map[int]int) {
			t.Helper()
			for atHand, wanted := range want {
				if got := s.wanted(atHand); got != wanted {
					t.Errorf("%s, with %d jobs at hand: %d wanted, want %d", when, atHand, got, wanted)
				}
			}
		}
		slow := map[int]int{0: 64, 1: 63, 63: 1, 64: 0, 70: 0, 200: 0}
		quick := map[int]int{0: 80, 63: 17, 64: 16, 71: 9, 72: 0, 80: 0, 200: 0}
		expect("before the first charge", slow)
		s.took(quickCharge)
		expect("after a slow charge", slow)
		s.took(quickCharge - 1)
		expect("after a quick charge", quick)
		<-time.After(quickCharge - 1)
		expect("a moment later", quick)
		<-time.After(time.Nanosecond)
		expect("when none has ended for a while", slow)
		s = newSlots(1)
		s.took(0)
		expect("with a single slot", map[int]int{0: 1, 1: 0})
	})
}

// TestSlotIsFreeWhileAResultIsRecorded: what Klarna has answered keeps no other job from asking Klarna.
func TestSlotIsFreeWhileAResultIsRecorded(t *testing.T) {
	w := NewWorld(t)
	for n := range 12 {
		w.publish(w.due("recorded-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	release := make(chan struct{})
	w.startOn(tap{before: func(m *nats.Msg) error {
		if is(m, messages.KindPaid) {
			w.hold(release)
		}
		return nil
	}}, func(o *Options) { o.Accounts[0].Concurrency = 4 })
	w.await("five charges with four slots and no result", func() bool { return len(w.orders()) == 5 })
	w.expect(5)
	close(release)
	w.awaitEmpty()
	if n := len(w.orders()); n != 12 {
		t.Errorf("requests: %d, want 12", n)
	}
}

// TestConcurrency: however many jobs are at hand, Klarna never sees more of them at once than the account may have.
func TestConcurrency(t *testing.T) {
	const jobs, slots = 60, 4
	w := NewWorld(t)
	var now, most atomic.Int64
	full := make(chan struct{})
	isFull := sync.OnceFunc(func() { close(full) })
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == slots {
			isFull()
		}
		w.klarna.Simulator.ServeHTTP(rw, r)
	}))
	t.Cleanup(front.Close)
	endpoint, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	for n := range jobs {
		w.publish(w.due("many-"+strconv.Itoa(n), "slow-20-ok-"+strconv.Itoa(n), 1))
	}
	w.start(func(o *Options) {
		client, err := klarna.New(klarna.Config{Endpoint: endpoint, Timeout: o.TryTimeout, Credentials: klarna.StaticCredentials("merchant", "secret-password")})
		if err != nil {
			t.Fatal(err)
		}
		o.Accounts[0].Klarna, o.Accounts[0].Concurrency = client, slots
	})
	w.awaitEmpty()
	select {
	case <-full:
	default:
		t.Errorf("never more than %d at once, want %d", most.Load(), slots)
	}
	if n := most.Load(); n > slots {
		t.Errorf("%d requests at once, want at most %d", n, slots)
	}
	if n := len(w.orders()); n != jobs {
		t.Errorf("requests: %d, want %d", n, jobs)
	}
}
