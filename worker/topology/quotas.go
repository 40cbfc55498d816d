package topology

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A Quota is how much of what its NATS account may store is taken.
type Quota struct {
	Used, Limit uint64 // bytes; no Limit is 0
}

const (
	// quotaNearlyFull is from where on a quota is a warning: time to raise it.
	quotaNearlyFull = 0.9
	// quotaLeft is less than what one renewal's records take: the next is refused or the one after it.
	quotaLeft = 16 << 10
	// quotaTimeout is for a broker that answers in milliseconds, or never a user who may not ask.
	quotaTimeout = 2 * time.Second
)

// Share is how much of it is taken, 0 where there is no limit.
func (q Quota) Share() float64 {
	if q.Limit == 0 {
		return 0
	}
	return float64(q.Used) / float64(q.Limit)
}

// Full says that the broker refuses the next records.
func (q Quota) Full() bool { return q.Limit > 0 && q.Used+quotaLeft > q.Limit }

// Warning is what to do while it is nearly full, "" while it is not.
func (q Quota) Warning() string {
	if !q.Full() && q.Share() < quotaNearlyFull {
		return ""
	}
	return q.Error()
}

func (q Quota) Error() string {
	return fmt.Sprintf("%.0f %% of the %d MB that the NATS account may store are taken, at 100 %% the broker refuses jobs and records; raise its quota, or free space in it", 100*q.Share(), q.Limit/1_000_000)
}

// ReadQuota asks how full the account is: the fullest of its tiers where it has tiers.
func ReadQuota(ctx context.Context, js jetstream.JetStream) (fullest Quota, err error) {
	ctx, cancel := context.WithTimeout(ctx, quotaTimeout)
	defer cancel()
	info, err := js.AccountInfo(ctx)
	if err != nil {
		return fullest, fmt.Errorf("ask for the account's quota: %w", err)
	}
	tiers := []jetstream.Tier{info.Tier}
	for _, t := range info.Tiers {
		tiers = append(tiers, t)
	}
	for _, t := range tiers {
		if t.Limits.MaxStore > 0 { // without a limit it is -1, or 0 beside tiers
			if q := (Quota{t.Store, uint64(t.Limits.MaxStore)}); q.Share() >= fullest.Share() {
				fullest = q
			}
		}
	}
	return fullest, nil
}
