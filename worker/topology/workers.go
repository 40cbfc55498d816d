package topology

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

const (
	// PresenceTTL is how long an entry of the bucket lives.
	PresenceTTL = 15 * time.Second
	PresenceKey = "worker." // before the name of a worker
)

// A Presence is what a live worker says of itself every 5 seconds, for the
// others and for `renewals status`.
type Presence struct {
	Name     string                               `json:"name"`
	Started  time.Time                            `json:"started"`
	At       time.Time                            `json:"at"` // by the clock of the worker's machine
	Accounts map[messages.Account]AccountPresence `json:"accounts"`
	Paused   map[string]string                    `json:"paused,omitempty"` // reasons for the whole worker, each with a sentence
	// Expiring counts, where this worker sweeps, the orders with money left to
	// capture whose authorisation ends within 3 days.
	Expiring map[messages.Account]int `json:"uncaptured_expiring,omitempty"`
	// Version of its program, and its times by the names of their settings, as it runs with them. Workers that share accounts should
	// agree on both. Earlier versions do not say.
	Version string            `json:"version,omitempty"`
	Times   map[string]string `json:"times,omitempty"`

	// Stored is when the broker stored the entry, by its clock.
	Stored time.Time `json:"-"`
}

// AccountPresence is one account's part of it.
type AccountPresence struct {
	InFlight int               `json:"in_flight"`
	Rate     float64           `json:"rate"`       // this worker's share, requests/s; 0: unlimited
	Total    float64           `json:"total_rate"` // as configured, for all workers together; 0: unlimited
	Endpoint string            `json:"endpoint,omitempty"`
	Merchant string            `json:"merchant,omitempty"`
	Paused   map[string]string `json:"paused,omitempty"` // reasons, each with a sentence
	// NearlyFull are the account's consumers of which 80 % of max_ack_pending or more are taken, as a share of 1.
	NearlyFull map[string]float64 `json:"ack_pending_ratio,omitempty"`
}

// Workers lists the live workers.
func Workers(ctx context.Context, js jetstream.JetStream) ([]Presence, error) {
	bucket, err := js.KeyValue(ctx, BucketWorkers)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w%s", BucketWorkers, err, Hint(err))
	}
	watch, err := bucket.Watch(ctx, PresenceKey+"*", jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read bucket %s: %w", BucketWorkers, err)
	}
	defer func() { _ = watch.Stop() }()
	var live []Presence
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read bucket %s: %w", BucketWorkers, ctx.Err())
		case entry, ok := <-watch.Updates():
			if !ok || entry == nil {
				return live, nil
			}
			var p Presence
			if json.Unmarshal(entry.Value(), &p) == nil {
				p.Stored = entry.Created()
				live = append(live, p)
			}
		}
	}
}
