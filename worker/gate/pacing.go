package gate

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// longestPause is how long the pauses between two questions whether it is over grow.
const longestPause = 30 * time.Second

// newPause is the growing pause between two probes, or two canaries.
func newPause() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(longestPause), backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.2), backoff.WithMaxElapsedTime(0))
}

// Sleep waits for d and says whether it did: not when ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// signal leaves an entry for whoever waits, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
