package topology

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
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

// consumersOf is how many consumers some accounts have on a stream.
func consumersOf(stream string, accounts int) (n int) {
	for name := range Consumers("") {
		if StreamOf(name) == stream {
			n += accounts
		}
	}
	return n
}

// withinLimits is p with as many consumers as a stream of the NATS account may have; a server refuses a stream that may have more than its
// account. The error says that the accounts need more.
func (p Provisioning) withinLimits(ctx context.Context, js jetstream.JetStream) (Provisioning, error) {
	info, err := js.AccountInfo(ctx)
	if err != nil {
		return p, fmt.Errorf("ask for the NATS account's limits: %w", err)
	}
	limits := info.Limits
	if tier, ok := info.Tiers[fmt.Sprintf("R%d", p.Replicas)]; ok {
		limits = tier.Limits
	}
	p.consumers = maxConsumers
	if limits.MaxConsumers <= 0 { // without a limit it is -1, or 0 beside tiers
		return p, nil
	}
	p.consumers = min(p.consumers, limits.MaxConsumers)
	for _, stream := range []string{messages.StreamJobs, messages.StreamLater} {
		if need := consumersOf(stream, len(p.Accounts)); need > limits.MaxConsumers {
			return p, fmt.Errorf("max_consumers of the NATS account: found %d, expected at least %d, as each Klarna account has %d on %s; raise it %s, or provision fewer accounts",
				limits.MaxConsumers, need, consumersOf(stream, 1), Called(stream), limitsPlace)
		}
	}
	return p, nil
}

// limitsPlace is where the limits of a NATS account are.
const limitsPlace = "in the server's configuration, or in the JWT of the NATS account"

// tooMany says what to do where a consumer is one too many for the NATS account.
func tooMany(err error) string {
	if errors.Is(err, jetstream.ErrMaximumConsumersLimit) {
		return ", those of other Klarna accounts included; delete which nobody needs, or raise max_consumers " + limitsPlace
	}
	return ""
}
