package gate

import (
	"math"
	"strconv"
	"testing"
)

// S74: what is a run, and what ends it.
func TestS74Runs(t *testing.T) {
	const workers = 1
	fault := func(t *testing.T, c *Breaker, tokens ...int) {
		t.Helper()
		for _, n := range tokens {
			if !c.MerchantFault(strconv.Itoa(n), workers, false) {
				t.Fatalf("refusal of token %d put off", n)
			}
		}
	}
	numbers := func(from, to int) (all []int) {
		for n := from; n <= to; n++ {
			all = append(all, n)
		}
		return all
	}
	for _, tt := range []struct {
		name   string
		what   func(t *testing.T, c *Breaker)
		paused bool
	}{
		{"nineteen", func(t *testing.T, c *Breaker) { fault(t, c, numbers(1, 19)...) }, false},
		{"twenty", func(t *testing.T, c *Breaker) { fault(t, c, numbers(1, 20)...) }, true},
		{"one token many times", func(t *testing.T, c *Breaker) { fault(t, c, make([]int, 50)...) }, false},
		{"a success between", func(t *testing.T, c *Breaker) {
			fault(t, c, numbers(1, 19)...)
			c.MerchantProven()
			fault(t, c, numbers(20, 38)...)
		}, false},
		{"a success afterwards", func(t *testing.T, c *Breaker) {
			fault(t, c, numbers(1, 20)...)
			c.MerchantProven()
		}, false},
		{"one too many, under way already", func(t *testing.T, c *Breaker) {
			fault(t, c, numbers(1, 20)...)
			if c.MerchantFault("21", workers, false) || c.MerchantFault("22", workers, false) {
				t.Error("taken for the token's own")
			}
			if !c.MerchantFault("23", workers, true) {
				t.Error("the probe's put off: nobody would hear that it is not mended")
			}
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewBreaker(func(string, bool, string) {})
			c.MerchantProven()
			tt.what(t, c)
			if c.pauses.Has(PauseRefusedByConfig) != tt.paused {
				t.Errorf("paused: %v, want %t", c.pauses.Active(), tt.paused)
			}
		})
	}
}

// S74: the workers of an account share what may be refused, and fewer charges
// are in flight the closer it comes.
func TestS74SharedByTheWorkers(t *testing.T) {
	for _, tt := range []struct {
		workers int
		proven  bool
		run     int // so far
		places  int
		most    int
	}{
		{1, true, 0, math.MaxInt, 20}, {1, true, 5, math.MaxInt, 20}, {1, true, 6, 14, 20}, {1, true, 19, 1, 20}, {1, true, 20, 1, 20},
		{2, true, 3, 7, 10}, {4, true, 0, math.MaxInt, 5}, {10, true, 2, 3, 5},
		{1, false, 0, math.MaxInt, 3}, {1, false, 1, 2, 3}, {2, false, 0, math.MaxInt, 1}, {10, false, 1, 1, 1},
	} {
		c := NewBreaker(func(string, bool, string) {})
		if tt.proven {
			c.MerchantProven()
		}
		for n := range tt.run {
			c.MerchantFault(strconv.Itoa(n), tt.workers, false)
		}
		if got := c.faults.refusable(tt.workers); got != tt.most || c.Places(tt.workers) != tt.places {
			t.Errorf("%d workers, proven %t, %d refused: %d in a row and %d in flight, want %d and %d", tt.workers, tt.proven, tt.run, got, c.Places(tt.workers), tt.most, tt.places)
		}
	}
}
