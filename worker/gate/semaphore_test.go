package gate

import (
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

// TestWanted: more jobs than permits are asked for only while charges are quick,
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
		s.Took(quickCharge)
		expect("after a slow charge", slow)
		s.Took(quickCharge - 1)
		expect("after a quick charge", quick)
		<-time.After(quickCharge - 1)
		expect("a moment later", quick)
		<-time.After(time.Nanosecond)
		expect("when none has ended for a while", slow)
		s = NewSemaphore(1)
		s.Took(0)
		expect("with a single permit", map[int]int{0: 1, 1: 0})
	})
}
