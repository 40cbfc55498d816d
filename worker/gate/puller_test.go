package gate

import (
	"strconv"
	"testing"
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
