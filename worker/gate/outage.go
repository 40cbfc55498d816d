package gate

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// outageAfter is how long a part may fail before nothing new is claimed. An
	// election is over by then, mostly. A refusal that waiting does not mend needs no such proof.
	outageAfter = time.Second
	// Pauses between two claims that find out whether the journal takes records again.
	trialPause, trialPauseMax = time.Second, 5 * time.Second
	// trialLook is how often whoever waits for jobs looks whether it may go.
	trialLook = time.Second
)

// An Outage is a broker that keeps nothing: its quota or disk is full, its stream
// has no leader, its network is away. Nothing new is claimed meanwhile, by [PauseJournal]. What is in hand is
// written again and again and so finds out when that is over; where nothing is in
// hand, one job at a time tries to claim.
type Outage struct {
	pauses *Pauses // of all accounts
	begin  func(sentence string, err error)
	end    func()

	troubled atomic.Bool // since is not empty: spares the lock on every write of a well broker
	inHand   atomic.Int64
	ticket   atomic.Bool // one job may try to claim

	mu     sync.Mutex
	since  map[string]time.Time // parts that have failed and not worked again
	begun  map[string]bool      // those of them for which claiming is paused
	pause  time.Duration
	resume time.Time // when the next job may try
}

// NewOutage begins and ends by the functions: begin sets [PauseJournal] in pauses, once for each part that fails, and end
// lifts it. Neither may call the outage.
func NewOutage(pauses *Pauses, begin func(sentence string, err error), end func()) *Outage {
	return &Outage{pauses: pauses, begin: begin, end: end}
}

// Keep counts what is in hand; the function it returns counts it no more.
func (o *Outage) Keep() (done func()) {
	o.inHand.Add(1)
	return func() { o.inHand.Add(-1) }
}

// SetAside is for what is in hand but learns nothing of the broker, until the function that it returns is called.
func (o *Outage) SetAside() (back func()) {
	o.inHand.Add(-1)
	return func() { o.inHand.Add(1) }
}

// Failed notes that a part fails. Where it is sure to go on, or has gone on for long, claiming pauses.
func (o *Outage) Failed(part string, err error, sure bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if len(o.since) == 0 {
		o.since, o.begun = map[string]time.Time{}, map[string]bool{}
	}
	if _, known := o.since[part]; !known {
		o.since[part] = now
	}
	o.troubled.Store(true)
	if o.begun[part] || !sure && now.Sub(o.since[part]) < outageAfter {
		return
	}
	if len(o.begun) == 0 {
		o.pause, o.resume = trialPause, now.Add(trialPause)
		o.ticket.Store(false)
	}
	o.begun[part] = true
	o.begin(part+": "+err.Error(), err)
}

// Worked notes that parts work.
func (o *Outage) Worked(parts ...string) {
	if !o.troubled.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	paused := len(o.begun) > 0
	for _, part := range parts {
		delete(o.since, part)
		delete(o.begun, part)
	}
	o.troubled.Store(len(o.since) > 0)
	if paused && len(o.begun) == 0 {
		o.end()
	}
}

// wait waits until jobs may be pulled. trial: only one may, to try its claim, by
// somebody who is idle. ok is false once ctx has ended.
func (o *Outage) wait(ctx context.Context, idle func() bool) (trial, ok bool) {
	for ctx.Err() == nil {
		lifted, only := o.pauses.only(PauseJournal)
		if lifted == nil {
			return false, true
		}
		if only && idle() && o.mayTry() {
			return true, true
		}
		timer := time.NewTimer(trialLook)
		select {
		case <-ctx.Done():
		case <-lifted:
		case <-timer.C:
		}
		timer.Stop()
	}
	return false, false
}

// mayTry says whether a job may be pulled to try its claim. One that has found no
// job is anybody's, since one consumer may be empty and another not.
func (o *Outage) mayTry() bool {
	if o.inHand.Load() > 0 {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ticket.Load() {
		return true
	}
	if time.Now().Before(o.resume) {
		return false
	}
	o.pause = min(2*o.pause, trialPauseMax)
	o.resume = time.Now().Add(o.pause)
	o.ticket.Store(true)
	return true
}

// Admit says whether a job may be claimed: any while nothing is paused, and one
// at a time while nothing but the journal is.
func (o *Outage) Admit() bool {
	lifted, only := o.pauses.only(PauseJournal)
	return lifted == nil || only && o.mayTry() && o.ticket.CompareAndSwap(true, false)
}
