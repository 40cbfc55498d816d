package worker

import (
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
)

// pausing holds the reasons for which nothing is claimed for any account, and tells the metrics of each.
type pausing struct {
	reasons  gate.Pauses
	accounts []messages.Account
	metrics  *Metrics
}

// set adds a reason for all accounts. It says whether the reason is new.
func (p *pausing) set(reason, sentence string) bool {
	for _, a := range p.accounts {
		p.metrics.paused.WithLabelValues(string(a), reason).Set(1)
	}
	return p.reasons.Set(reason, sentence)
}

// lift takes a reason away. It says whether it was there.
func (p *pausing) lift(reason string) bool {
	if !p.reasons.Has(reason) {
		return false
	}
	for _, a := range p.accounts {
		p.metrics.paused.WithLabelValues(string(a), reason).Set(0)
	}
	return p.reasons.Lift(reason)
}
