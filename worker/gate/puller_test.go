package gate

import (
	"strconv"
	"testing"
	"time"
)

// S74: no more jobs are asked for than may be in flight.
func TestFewerJobsAreAskedFor(t *testing.T) {
	b := NewBreaker(func(string, bool, string) {})
	b.MerchantProven()
	o := NewOutage(&Pauses{}, nil, nil)
	p := &Puller{PullerConfig: PullerConfig{Outage: o, Held: &Pauses{}, Breaker: b, Limiter: NewLimiter(0), Semaphore: NewSemaphore(32)}}
	if n := p.ready(t.Context()); n != 32 {
		t.Errorf("jobs asked for: %d, want 32", n)
	}
	for n := range merchantRun - 1 {
		b.MerchantFault(strconv.Itoa(n), 1, false)
	}
	if n := p.ready(t.Context()); n != 1 {
		t.Errorf("jobs asked for after 19 refusals: %d, want 1", n)
	}
}

// A broker that has just come back, or elects a leader, has no jobs for a moment: that is worth no line.
func TestTroubleIsToldOnceItLasts(t *testing.T) {
	start := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	var none trouble
	for _, row := range []struct {
		after time.Duration
		err   error
		want  bool
	}{
		{0, errNoResponders, false}, {4 * time.Second, errNoResponders, false}, {5 * time.Second, errNoResponders, true},
		{6 * time.Second, errNoResponders, false}, {7 * time.Second, errForgotten, true}, {8 * time.Second, errForgotten, false},
	} {
		if got := none.worthTelling(row.err, start.Add(row.after)); got != row.want {
			t.Errorf("%v after %s: told %t, want %t", row.err, row.after, got, row.want)
		}
	}
	if !none.over() || none.over() {
		t.Error("that it is over is told once")
	}
	if none.worthTelling(errForgotten, start); none.over() {
		t.Error("that it is over is told although nobody heard of it")
	}
}

// TestHeartbeat: a few accounts notice a lost request soon, and many do not spend their time on heartbeats.
func TestHeartbeat(t *testing.T) {
	for requests, want := range map[int]time.Duration{3: 5 * time.Second, 1500: 5 * time.Second, 2400: 8 * time.Second, 3000: 10 * time.Second, 30_000: 10 * time.Second} {
		if got := heartbeat(requests); got != want || 2*got >= pullExpiryIdle {
			t.Errorf("%d requests: every %s, want %s, and more than twice before one ends", requests, got, want)
		}
	}
}
