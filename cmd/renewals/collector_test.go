package main

import "testing"

// TestGCPercent: the heap stays about as large while more and more of it is alive, and is never collected all the time.
func TestGCPercent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		alive uint64
		want  int
	}{
		{name: "nothing was collected yet", alive: 0, want: 300},
		{name: "64 in flight", alive: 4 << 20, want: 300},
		{name: "the most that is collected seldom", alive: 5 << 20, want: 300},
		{name: "a little more", alive: 6 << 20, want: 200},
		{name: "more", alive: 8 << 20, want: 150},
		{name: "256 in flight", alive: 10 << 20, want: 100},
		{name: "a thousand accounts", alive: 24 << 20, want: 75},
		{name: "4096 in flight", alive: 200 << 20, want: 75},
	} {
		if got := gcPercent(tt.alive); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
