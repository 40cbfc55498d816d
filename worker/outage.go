package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// deadLetters is what a result needs of the broker beside the journal, in the words for when it fails.
const deadLetters = "the stream " + messages.StreamDead + " takes no dead letters"

const (
	// outageAfter is how long a part may fail before nothing new is claimed. An
	// election is over by then, mostly. A refusal that waiting does not mend needs no such proof.
	outageAfter = time.Second
	// Pauses between two claims that find out whether the journal takes records again.
	trialPause, trialPauseMax = time.Second, 5 * time.Second
	// trialLook is how often whoever waits for jobs looks whether it may go.
	trialLook = time.Second
)

// passingCodes are refusals of a cluster at work: they say "not now" of a moment.
var passingCodes = [...]jetstream.ErrorCode{
	jetstream.JSErrCodeStreamWrongLastSequence,
	jetstream.JSErrCodeStreamWrongLastSequenceConstant,
	10008, // JetStream temporarily unavailable: an election
	10009, // not the leader
	10158, // a message with this ID is in process
	10163, // the expected sequence is not known yet
}

// An outage is a broker that keeps nothing: its quota or disk is full, its stream
// has no leader, its network is away. Nothing new is claimed meanwhile, by [gate.PauseJournal]. What is in hand is
// written again and again and so finds out when that is over; where nothing is in
// hand, one job at a time tries to claim.
type outage struct {
	begin func(sentence string, err error)
	end   func()

	troubled atomic.Bool // since is not empty: spares the lock on every write of a well broker
	inHand   atomic.Int64
	ticket   atomic.Bool // one job may try to claim

	mu     sync.Mutex
	since  map[string]time.Time // parts that have failed and not worked again
	begun  map[string]bool      // those of them for which claiming is paused
	pause  time.Duration
	resume time.Time // when the next job may try
}

// keep counts what is in hand; the function it returns counts it no more.
func (o *outage) keep() (done func()) {
	o.inHand.Add(1)
	return func() { o.inHand.Add(-1) }
}

// noticed takes in what a call came to.
func (o *outage) noticed(part string, err error) {
	if err == nil {
		if o.troubled.Load() {
			o.worked(part)
		}
		return
	}
	refused, ok := errors.AsType[*jetstream.APIError](err)
	switch {
	case errors.Is(err, context.Canceled): // the process ends
	case journal.Final(err) && !(ok && refused.ErrorCode == journal.CodeSealed): // this record's own trouble
	case ok:
		o.failed(part, err, refused.Code != 503 && !slices.Contains(passingCodes[:], refused.ErrorCode))
	default:
		o.failed(part, err, errors.Is(err, context.DeadlineExceeded)) // that took long enough
	}
}

// failed notes that a part fails. Where it is sure to go on, or has gone on for long, claiming pauses.
func (o *outage) failed(part string, err error, sure bool) {
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

// worked notes that a part works. Whoever writes the journal can read it.
func (o *outage) worked(part string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	paused := len(o.begun) > 0
	delete(o.since, part)
	delete(o.begun, part)
	if part == journal.Writes {
		delete(o.since, journal.Reads)
		delete(o.begun, journal.Reads)
	}
	o.troubled.Store(len(o.since) > 0)
	if paused && len(o.begun) == 0 {
		o.end()
	}
}

// wait waits until jobs may be pulled. trial: only one may, to try its claim, by
// somebody who is idle. ok is false once ctx has ended.
func (o *outage) wait(ctx context.Context, p *gate.Pauses, idle func() bool) (trial, ok bool) {
	for ctx.Err() == nil {
		lifted, only := p.Only(gate.PauseJournal)
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
func (o *outage) mayTry() bool {
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

// admit says whether a job may be claimed: any while nothing is paused, and one
// at a time while nothing but the journal is.
func (o *outage) admit(p *gate.Pauses) bool {
	lifted, only := p.Only(gate.PauseJournal)
	return lifted == nil || only && o.mayTry() && o.ticket.CompareAndSwap(true, false)
}
