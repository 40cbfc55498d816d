package worker

import (
	"sync/atomic"
	"time"

	"github.com/klarna-renewals/renewals/worker/topology"
)

// memory is how far back the journal surely knows what was charged.
type memory struct {
	oldest atomic.Int64              // a period that fell due longer ago than this duration is too old to charge
	since  atomic.Pointer[time.Time] // a period that fell due then has all its records
}

// reach is how long ago a period may have fallen due to be charged.
func (m *memory) reach() time.Duration { return time.Duration(m.oldest.Load()) }

// learn takes in the journal's age. One that somebody raises while the worker runs brings nothing back: the memory grows
// with the time from then on.
func (m *memory) learn(now time.Time, retention time.Duration) {
	since := now.Add(-max(retention-topology.RetentionMargin, 0))
	if known := m.since.Load(); known != nil && known.After(since) {
		since = *known
	}
	m.since.Store(&since)
	m.oldest.Store(int64(now.Sub(since)))
}
