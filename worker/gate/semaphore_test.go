package gate

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSemaphore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := NewSemaphore(2)
		enter := func(p *Permit, d time.Duration) (ok bool) {
			*p, ok = s.Acquire(ctx, d)
			return ok
		}
		var one, two, three, four Permit
		if !enter(&one, 0) || !enter(&two, 0) {
			t.Fatal("a free permit was not given")
		}
		before := time.Now()
		if enter(&three, time.Second) || time.Since(before) != time.Second {
			t.Errorf("a third permit of two, or not after a second but %s", time.Since(before))
		}
		three.Release() // has none: takes none away
		go func() {
			<-time.After(time.Second)
			one.Release()
			one.Release()
		}()
		before = time.Now()
		if !enter(&three, time.Minute) || time.Since(before) != time.Second {
			t.Errorf("no permit when one became free, or after %s", time.Since(before))
		}
		if enter(&four, time.Second) {
			t.Error("a third permit of two, since one was given back twice")
		}
	})
}

// TestWanted: more jobs than permits are asked for only while charges are quick or a rate bounds them,
// and then not one by one.
func TestWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSemaphore(64)
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
		s = NewRatedSemaphore(NewLimiter(0))
		expect("without a rate", slow)
		s = NewRatedSemaphore(NewLimiter(100))
		rated := map[int]int{0: 60, 48: 12, 53: 7, 54: 0, 60: 0}
		expect("with a rate", rated)
		s.took(quickCharge)
		expect("with a rate, after a slow charge", rated)
		s = NewSemaphore(1)
		s.took(0)
		expect("with a single permit", map[int]int{0: 1, 1: 0})
	})
}

// TestPermitsFollowTheRate: with Klarna slower there are more permits, with Klarna quick again fewer, and at no time is one
// lost or given twice.
func TestPermitsFollowTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(100)
		s := NewRatedSemaphore(l)
		at := func(when string, want int) {
			t.Helper()
			if got := s.Permits(); got != want {
				t.Errorf("%s: %d permits, want %d", when, got, want)
			}
		}
		at("before the first charge", 48)
		var inFlight atomic.Int64
		// charge keeps more jobs at hand than there are permits until each of so many has been charged.
		charge := func(jobs int, klarna time.Duration) {
			var working sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(jobs))
			for range 2 * MostPermits {
				working.Go(func() {
					for left.Add(-1) >= 0 {
						p, ok := s.Acquire(t.Context(), time.Hour)
						if !ok {
							t.Error("no permit within an hour")
							return
						}
						if n := int(inFlight.Add(1)); n > MostPermits {
							t.Errorf("%d permits are taken of at most %d", n, MostPermits)
						}
						p.Begin()
						Sleep(t.Context(), klarna-time.Duration(rand.Int64N(int64(klarna/10))))
						inFlight.Add(-1)
						p.Release()
					}
				})
			}
			working.Wait()
		}
		charge(200, time.Second)
		if got := s.Permits(); got < 120 || got > 136 {
			t.Errorf("Klarna takes 1 s: %d permits, want what 100 charges a second need, and a quarter", got)
		}
		charge(1000, 10*time.Second)
		at("Klarna takes 10 s", MostPermits)
		charge(200, 20*time.Millisecond)
		if got := s.Permits(); got != MostPermits {
			t.Errorf("a moment after Klarna is quick again: %d permits, want still %d", got, MostPermits)
		}
		charge(20_000, 20*time.Millisecond)
		at("long after", FewestPermits)

		// Every one of them is there, and no other.
		held := make([]Permit, FewestPermits)
		for n := range held {
			var ok bool
			if held[n], ok = s.Acquire(t.Context(), 0); !ok {
				t.Fatalf("permit %d of %d is lost", n+1, FewestPermits)
			}
		}
		if _, ok := s.Acquire(t.Context(), time.Second); ok || s.InUse() != FewestPermits {
			t.Errorf("a permit too many: %d in use", s.InUse())
		}
		for n := range held {
			held[n].Release()
		}
		if s.InUse() != 0 {
			t.Errorf("%d in use, want none", s.InUse())
		}
		l.Share(4)
		s.took(time.Second)
		at("with a quarter of the rate", FewestPermits)
	})
}

// TestFewerPermitsThanTaken: what was given stays given, and nobody gets one until there are fewer taken than permits.
func TestFewerPermitsThanTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSemaphore(3)
		var held [3]Permit
		for n := range held {
			held[n], _ = s.Acquire(t.Context(), 0)
		}
		s.mu.Lock()
		s.permits = 1
		s.mu.Unlock()
		got := make(chan Permit)
		for range 2 {
			go func() {
				p, _ := s.Acquire(t.Context(), time.Hour)
				got <- p
			}()
		}
		for n := range held {
			synctest.Wait()
			select {
			case <-got:
				t.Fatalf("a permit is given while %d of 1 are taken", len(held)-n)
			default:
			}
			held[n].Release()
		}
		next := <-got
		next.Release()
		last := <-got
		last.Release()

		// Who gives up while another waits behind it loses nobody's turn.
		one, _ := s.Acquire(t.Context(), 0)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan bool)
		go func() {
			_, ok := s.Acquire(ctx, time.Hour)
			gone <- ok
		}()
		synctest.Wait()
		go func() {
			p, _ := s.Acquire(t.Context(), time.Hour)
			got <- p
		}()
		synctest.Wait()
		cancel()
		if <-gone {
			t.Error("who gave up has a permit")
		}
		one.Release()
		last = <-got
		last.Release()
		if s.InUse() != 0 {
			t.Errorf("%d in use, want none", s.InUse())
		}
	})
}
