package worker

import (
	"maps"
	"sync"
)

// pauses are the reasons for which nothing new is claimed, each with a sentence
// for the operator. Jobs stay in the stream meanwhile; nobody is dunned.
type pauses struct {
	mu      sync.Mutex
	reasons map[string]string
	lifted  chan struct{} // closed when the last reason goes; nil while there is none
}

// set adds a reason, or gives it another sentence. It says whether the reason is new.
func (p *pauses) set(reason, sentence string) bool {
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

// lift takes a reason away. It says whether it was there.
func (p *pauses) lift(reason string) bool {
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

// any says whether there is a reason.
func (p *pauses) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.reasons) > 0
}

// has says whether this reason is there.
func (p *pauses) has(reason string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.reasons[reason]
	return ok
}

// why is the sentence of this reason, "" when it is not there.
func (p *pauses) why(reason string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reasons[reason]
}

// only says whether this reason is the only one. lifted is closed once there is none; nil when
// there is none already.
func (p *pauses) only(reason string) (lifted <-chan struct{}, only bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, there := p.reasons[reason]
	return p.lifted, there && len(p.reasons) == 1
}

// active are the reasons there are.
func (p *pauses) active() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.reasons)
}
