package gate

import (
	"math"
	"strconv"
	"testing"
)

// S74: what is a run, and what ends it.
func TestRunsOfMerchantFaults(t *testing.T) {
	const workers = 1
	fault := func(t *testing.T, b *Breaker, tokens ...int) {
		t.Helper()
		for _, n := range tokens {
			if !b.MerchantFault(strconv.Itoa(n), workers, false) {
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
		what   func(t *testing.T, b *Breaker)
		paused bool
	}{
		{"nineteen", func(t *testing.T, b *Breaker) { fault(t, b, numbers(1, 19)...) }, false},
		{"twenty", func(t *testing.T, b *Breaker) { fault(t, b, numbers(1, 20)...) }, true},
		{"one token many times", func(t *testing.T, b *Breaker) { fault(t, b, make([]int, 50)...) }, false},
		{"a success between", func(t *testing.T, b *Breaker) {
			fault(t, b, numbers(1, 19)...)
			b.MerchantProven()
			fault(t, b, numbers(20, 38)...)
		}, false},
		{"a success afterwards", func(t *testing.T, b *Breaker) {
			fault(t, b, numbers(1, 20)...)
			b.MerchantProven()
		}, false},
		{"one too many, under way already", func(t *testing.T, b *Breaker) {
			fault(t, b, numbers(1, 20)...)
			if b.MerchantFault("21", workers, false) || b.MerchantFault("22", workers, false) {
				t.Error("taken for the token's own")
			}
			if !b.MerchantFault("23", workers, true) {
				t.Error("the probe's put off: nobody would hear that it is not mended")
			}
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBreaker(func(string, bool, string) {})
			b.MerchantProven()
			tt.what(t, b)
			if b.pauses.Has(PauseRefusedByConfig) != tt.paused {
				t.Errorf("paused: %v, want %t", b.pauses.Active(), tt.paused)
			}
		})
	}
}

// S74: the workers of an account share what may be refused, and fewer charges
// are in flight the closer it comes.
func TestMerchantFaultsAreShared(t *testing.T) {
	for _, tt := range []struct {
		workers int
		proven  bool
		run     int // so far
		most    int // in a row
		places  int // in flight
	}{
		{workers: 1, proven: true, run: 0, most: 20, places: math.MaxInt},
		{workers: 1, proven: true, run: 5, most: 20, places: math.MaxInt},
		{workers: 1, proven: true, run: 6, most: 20, places: 14},
		{workers: 1, proven: true, run: 19, most: 20, places: 1},
		{workers: 1, proven: true, run: 20, most: 20, places: 1},
		{workers: 2, proven: true, run: 3, most: 10, places: 7},
		{workers: 4, proven: true, run: 0, most: 5, places: math.MaxInt},
		{workers: 10, proven: true, run: 2, most: 5, places: 3},
		{workers: 1, proven: false, run: 0, most: 3, places: math.MaxInt},
		{workers: 1, proven: false, run: 1, most: 3, places: 2},
		{workers: 2, proven: false, run: 0, most: 1, places: math.MaxInt},
		{workers: 10, proven: false, run: 1, most: 1, places: 1},
	} {
		b := NewBreaker(func(string, bool, string) {})
		if tt.proven {
			b.MerchantProven()
		}
		for n := range tt.run {
			b.MerchantFault(strconv.Itoa(n), tt.workers, false)
		}
		if most, places := b.faults.refusable(tt.workers), b.Places(tt.workers); most != tt.most || places != tt.places {
			t.Errorf("%+v: %d in a row and %d in flight", tt, most, places)
		}
	}
}
