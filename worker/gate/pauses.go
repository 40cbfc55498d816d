// Package gate says how fast an account's jobs go to Klarna, and whether they go at all: it pulls them from JetStream,
// bounds how many are in flight and how many a second, and pauses them while Klarna, the account or the broker is in trouble.
//
// The promise: whatever is held up here was not claimed yet and stays in the stream, so that waiting burns no attempt,
// starts no key's clock and duns nobody. It knows nothing of renewals; whoever asks and records is its caller.
package gate

import (
	"maps"
	"sync"
)

// Reasons for pauses. They are label values of a metric: closed and append-only.
const (
	PauseNotEvaluated = "not_evaluated" // Klarna turns requests away unread: a password, a host or a firewall is wrong
	PauseBreaker      = "breaker"       // a run of answers that decide nothing
	PauseSettings     = "settings"      // a stream lost a setting that the promise rests on
	PauseClock        = "clock"         // this machine's clock is off
	PauseJournal      = "journal"       // the broker does not take records
	PauseRateLimited  = "rate_limited"  // Klarna said when to ask again

	PauseRefusedByConfig = "refused_by_config" // Klarna refuses all tokens for the merchant's own fault
)

// Pauses are the reasons for which nothing new is claimed, each with a sentence
// for the operator. Jobs stay in the stream meanwhile; nobody is dunned. The zero value has none.
type Pauses struct {
	mu      sync.Mutex
	reasons map[string]string
	lifted  chan struct{} // closed when the last reason goes; nil while there is none
}

// Set adds a reason, or gives it another sentence. It says whether the reason is new.
func (p *Pauses) Set(reason, sentence string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reasons == nil {
		p.reasons = map[string]string{}
	}
	if len(p.reasons) == 0 {
		p.lifted = make(chan struct{})
	}
	_, known := p.reasons[reason]
	p.reasons[reason] = sentence
	return !known
}

// Lift takes a reason away. It says whether it was there.
func (p *Pauses) Lift(reason string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.reasons[reason]; !known {
		return false
	}
	if delete(p.reasons, reason); len(p.reasons) == 0 {
		close(p.lifted)
		p.lifted = nil
	}
	return true
}

// Any says whether there is a reason.
func (p *Pauses) Any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.reasons) > 0
}

// Has says whether this reason is there.
func (p *Pauses) Has(reason string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.reasons[reason]
	return ok
}

// Why is the sentence of this reason, "" when it is not there.
func (p *Pauses) Why(reason string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reasons[reason]
}

// only says whether this reason is the only one. lifted is closed once there is none; nil when
// there is none already.
func (p *Pauses) only(reason string) (lifted <-chan struct{}, only bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, there := p.reasons[reason]
	return p.lifted, there && len(p.reasons) == 1
}

// Active are the reasons there are.
func (p *Pauses) Active() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.reasons)
}
