package gate

import (
	"testing"
	"time"
)

// TestPace: how many charges a rate needs in flight, after Klarna took so long for a while.
func TestPace(t *testing.T) {
	const ms = time.Millisecond
	type spell struct {
		charges int
		held    time.Duration
	}
	for _, tt := range []struct {
		name string
		rate float64
		took []spell
		want int
	}{
		{name: "nothing measured", rate: 180, want: 86},
		{name: "a round is not full yet", rate: 180, took: []spell{{15, 1200 * ms}}, want: 86},
		{name: "no limit", rate: 0, took: []spell{{160, 1200 * ms}}, want: UnratedPermits},
		{name: "Klarna at once", rate: 180, took: []spell{{160, 2 * ms}}, want: 19},
		{name: "the same in the playground", rate: 45, took: []spell{{160, 2 * ms}}, want: FewestPermits},
		{name: "0.1 s", rate: 180, took: []spell{{160, 100 * ms}}, want: 41},
		{name: "0.3 s", rate: 180, took: []spell{{160, 300 * ms}}, want: 86},
		{name: "0.6 s", rate: 180, took: []spell{{160, 600 * ms}}, want: 153},
		{name: "1.2 s", rate: 180, took: []spell{{160, 1200 * ms}}, want: MostPermits},
		{name: "a minute", rate: 180, took: []spell{{160, time.Minute}}, want: MostPermits},
		{name: "half the rate, with another worker", rate: 90, took: []spell{{160, 600 * ms}}, want: 77},
		{name: "the playground", rate: 45, took: []spell{{160, 600 * ms}}, want: 39},
		{name: "a rate of hardly anything", rate: 0.1, took: []spell{{160, 600 * ms}}, want: FewestPermits},

		{name: "it rises within a round", rate: 180, took: []spell{{1600, 100 * ms}, {16, 600 * ms}}, want: 153},
		{name: "one slow charge in a round is its part of the mean", rate: 180, took: []spell{{1600, 100 * ms}, {15, 100 * ms}, {1, 900 * ms}}, want: 52},
		{name: "it does not fall within a round", rate: 180, took: []spell{{160, 600 * ms}, {16, 100 * ms}}, want: 150},
		{name: "nor within a second", rate: 180, took: []spell{{160, 600 * ms}, {180, 100 * ms}}, want: 120},
		{name: "after ten it has", rate: 180, took: []spell{{160, 600 * ms}, {1800, 100 * ms}}, want: 44},
	} {
		var p pace
		for _, s := range tt.took {
			for range s.charges {
				p = p.took(s.held)
			}
		}
		if got := p.permits(tt.rate); got != tt.want {
			t.Errorf("%s: %d permits, want %d", tt.name, got, tt.want)
		}
	}
}
