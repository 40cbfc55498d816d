package worker

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// rulebook holds the rules of the state machine for one account.
type rulebook struct {
	base     journal.Rules
	breaker  *gate.Breaker
	clock    *clock
	pauses   *pausing
	marks    *journal.Marks
	restored *atomic.Int64 // before this moment, in ns since 1970, the journal may have forgotten what it knew; 0: never
}

// now are the rules with this moment's jitter on the pauses.
func (b *rulebook) now() journal.Rules {
	r := b.base
	r.Jitter = 0.8 + 0.4*rand.Float64()
	r.Paused = b.breaker.Paused() || b.clock.fault() != ""
	r.Restored = moment(b.restored)
	return r
}

// moment reads a time that is kept in ns since 1970; 0 is none.
func moment(ns *atomic.Int64) time.Time {
	if t := ns.Load(); t != 0 {
		return time.Unix(0, t).UTC()
	}
	return time.Time{}
}

// errLate stops a try whose lease or window would not outlast it. Nothing was sent.
var errLate = errors.New("the claim ends before a try could")

// sendable is asked with the connection in hand, before the first byte: a process
// that was frozen, or waited long for a connection, must find out here that its claim is no longer
// its own. A clock that was set, or stood still while the machine was suspended, cannot tell whose it is.
func (b *rulebook) sendable(c journal.Claim) error {
	if b.clock.fault() != "" || b.pauses.reasons.Has(pauseSetBack) || b.marks.Doubtful() || !c.Sendable(b.clock.now(), b.now()) {
		return errLate
	}
	return nil
}
