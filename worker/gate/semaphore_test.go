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

// TestClaimedAhead: as many jobs are claimed ahead as permits come free within claimAhead, and an eighth of these at
// most. They wait with their claims, in the order in which they ask, and that makes no
// charge longer.
func TestClaimedAhead(t *testing.T) {
	for name, tt := range map[string]struct {
		permits int
		klarna  time.Duration
		want    int
	}{
		"quick":       {64, 20 * time.Millisecond, 8},
		"many":        {256, 300 * time.Millisecond, 32},
		"not so many": {16, 300 * time.Millisecond, 2},
		"slow":        {256, 2 * time.Second, 5},
		"very slow":   {256, 11 * time.Second, 0},
		"too few":     {7, 5 * time.Millisecond, 0},
		"one at once": {1, 5 * time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				s := NewSemaphore(tt.permits)
				for range 2 * paceRound { // one after the other
					p, _ := s.Acquire(ctx, 0)
					p.Begin()
					if !p.Send(ctx, 0) {
						t.Fatal("nothing is sent, and it may not be")
					}
					Sleep(ctx, tt.klarna)
					p.Release()
				}
				var held []*Permit
				for {
					p, ok := s.Acquire(ctx, 0)
					if !ok {
						break
					}
					p.Begin()
					held = append(held, &p)
				}
				if ahead := len(held) - tt.permits; ahead != tt.want {
					t.Fatalf("%d jobs are claimed ahead, want %d", ahead, tt.want)
				}
				sent := make(chan int, len(held))
				var waiting sync.WaitGroup
				for n, p := range held {
					if n < tt.permits {
						if !p.Send(ctx, 0) {
							t.Fatalf("%d of %d may not be sent", n+1, tt.permits)
						}
						continue
					}
					waiting.Go(func() {
						before, asked := p.began, time.Now()
						defer func() {
							if left := p.began.Sub(before); left != time.Since(asked) {
								t.Errorf("%s of the wait are not counted, want %s", left, time.Since(asked))
							}
						}()
						if !p.Send(ctx, time.Minute) {
							t.Error("a job that was claimed ahead may not be sent though others are answered")
						}
						sent <- n
					})
					synctest.Wait()
				}
				if len(sent) > 0 {
					t.Fatal("more are sent than there are permits")
				}
				for n := range tt.want {
					Sleep(ctx, time.Millisecond)
					held[n].Release()
					if first := <-sent; first != tt.permits+n {
						t.Errorf("number %d is sent, want %d, which waited longer", first, tt.permits+n)
					}
				}
				waiting.Wait()
				for _, p := range held {
					p.Release()
				}
				if s.taken != 0 || s.sent != 0 || s.claimed.turns.Len() != 0 {
					t.Errorf("%d taken and %d sent, %d wait; want none", s.taken, s.sent, s.claimed.turns.Len())
				}
				Sleep(ctx, 3*claimAhead) // answers come in bursts
				if tt.want > 0 && s.ahead() == 0 {
					t.Error("no job may be claimed ahead a moment after the last answer")
				}
				Sleep(ctx, time.Second) // nothing comes free
				if s.ahead() != 0 {
					t.Error("a job is claimed ahead though Klarna has been silent")
				}
			})
		})
	}
}

// TestTurnAtTheLastMoment: a turn that comes at the moment at which nobody waits for it any more is had all the same, or it would be
// nobody's for ever.
func TestTurnAtTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, s := t.Context(), NewSemaphore(1)
		came := map[bool]int{}
		for range 1000 {
			first, ok := s.Acquire(ctx, 0)
			if !ok {
				t.Fatalf("after %v turns that came, or not, nobody gets the permit", came)
			}
			second := make(chan bool)
			go func() {
				p, ok := s.Acquire(ctx, time.Second)
				p.Release()
				second <- ok
			}()
			Sleep(ctx, time.Second)
			first.Release()
			came[<-second]++
		}
		if s.taken != 0 || s.waiting.turns.Len() != 0 {
			t.Errorf("%d taken, %d wait, want none", s.taken, s.waiting.turns.Len())
		}
	})
}

// TestSendWithoutPermit: who has none, or has given it back, may send nothing.
func TestSendWithoutPermit(t *testing.T) {
	s := NewSemaphore(1)
	p, _ := s.Acquire(t.Context(), 0)
	p.Release()
	if none := new(Permit); p.Send(t.Context(), 0) || none.Send(t.Context(), 0) {
		t.Error("something may be sent without a permit")
	}
}

// raise makes the most of to at least n.
func raise(to *atomic.Int64, n int64) {
	for most := to.Load(); n > most && !to.CompareAndSwap(most, n); most = to.Load() {
	}
}

// TestPermitsBoundWhatIsSent: whoever comes, waits, gives up or sends nothing, no more is with Klarna than there are permits, and
// no turn is lost.
func TestPermitsBoundWhatIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const permits, klarna = 64, 50 * time.Millisecond
		s := NewSemaphore(permits)
		var sent, most, ahead atomic.Int64
		var jobs sync.WaitGroup
		for n := range 4000 {
			jobs.Go(func() {
				Sleep(t.Context(), time.Duration(n)*400*time.Microsecond) // more than can go on
				p, ok := s.Acquire(t.Context(), 300*time.Millisecond)
				if !ok {
					return
				}
				defer p.Release()
				p.Begin()
				Sleep(t.Context(), time.Duration(rand.Int64N(int64(8*time.Millisecond)))) // the claim
				if n%50 == 0 {
					return // it was lost to another worker
				}
				raise(&ahead, int64(s.InUse()-permits))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.Int64N(int64(30*time.Millisecond))))
				defer cancel()
				if n%7 != 0 {
					ctx = t.Context()
				}
				if !p.Send(ctx, 20*time.Millisecond) {
					return
				}
				raise(&most, sent.Add(1))
				Sleep(t.Context(), klarna-time.Duration(rand.Int64N(int64(klarna/10))))
				sent.Add(-1)
			})
		}
		jobs.Wait()
		if most.Load() != permits {
			t.Errorf("%d at once, want %d", most.Load(), permits)
		}
		if ahead.Load() == 0 || ahead.Load() > permits/8 {
			t.Errorf("%d were claimed ahead, want some, and at most %d", ahead.Load(), permits/8)
		}
		if s.taken != 0 || s.sent != 0 || s.claimed.turns.Len() != 0 || s.waiting.turns.Len() != 0 {
			t.Errorf("%d taken, %d sent, %d and %d wait; want none", s.taken, s.sent, s.claimed.turns.Len(), s.waiting.turns.Len())
		}
	})
}
