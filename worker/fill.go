package worker

import (
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// nearlyFull is the share of max_ack_pending from which on a consumer needs a person: full, it hands out nothing.
const nearlyFull = 0.8

// A fill knows how much of the max_ack_pending of each consumer is taken.
type fill struct {
	metrics *Metrics
	shares  sync.Map // by consumer
}

// learn takes in a consumer as it was last looked at.
func (f *fill) learn(account messages.Account, info *jetstream.ConsumerInfo) {
	if info.Config.MaxAckPending <= 0 {
		return
	}
	share := float64(info.NumAckPending) / float64(info.Config.MaxAckPending)
	f.metrics.ackPending.WithLabelValues(string(account), info.Config.Durable).Set(share)
	f.shares.Store(info.Config.Durable, share)
}

// nearlyFull lists an account's consumers that are nearly full, with how much of them is taken.
func (f *fill) nearlyFull(a messages.Account) map[string]float64 {
	var full map[string]float64
	for name := range topology.Consumers(a) {
		if share, ok := f.shares.Load(name); ok && share.(float64) >= nearlyFull {
			if full == nil {
				full = map[string]float64{}
			}
			full[name] = share.(float64)
		}
	}
	return full
}
