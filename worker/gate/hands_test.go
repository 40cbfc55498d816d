package gate

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Whatever is given is done once, at once and side by side, however many are free; and they are used again, and go in the end.
func TestHands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h Hands
		var done atomic.Int64
		const much = 3 * spareHands
		for round := range 3 {
			together := make(chan struct{})
			var over sync.WaitGroup
			for range much {
				over.Add(1)
				h.Do(func() {
					defer over.Done()
					<-together
					done.Add(1)
				})
			}
			synctest.Wait() // all of them have begun, none waits for another's end
			close(together)
			over.Wait()
			synctest.Wait()
			if n := done.Load(); n != int64((round+1)*much) {
				t.Fatalf("round %d: %d done, want %d", round, n, (round+1)*much)
			}
			if n := h.idle.Load(); n != spareHands {
				t.Fatalf("round %d: %d are free, want %d", round, n, spareHands)
			}
		}
		var one Hands
		for range 5 { // nobody new is asked while somebody is free
			one.Do(func() {})
			synctest.Wait()
			if n := one.idle.Load(); n != 1 {
				t.Fatalf("%d are free, want the one", n)
			}
		}
		one.Close()
		h.Close()
		synctest.Wait() // and the bubble ends, which it does not while one is left
		if n := h.idle.Load(); n != 0 {
			t.Errorf("%d are free after the end", n)
		}
	})
}
