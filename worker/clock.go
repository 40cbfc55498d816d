package worker

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

const (
	// maxStep is how far the machine's two clocks may move apart between two
	// comparisons. The monotonic one stands still while the machine is suspended, the
	// other one jumps when somebody sets it: in both cases the time is anybody's guess.
	maxStep = time.Second
	// comparedFor is how long a comparison with the broker's clock is relied upon.
	comparedFor = topology.PresenceTTL
	notCompared = "the clock was not compared with the broker's"
)

// A clock shows the broker's time: leases and windows are compared between machines, so
// all of them go by one clock.
type clock struct {
	wall      func() time.Time     // of this machine, as people set it
	monotonic func() time.Duration // which nobody sets
	pauses    *pausing
	log       zerolog.Logger
	away      func() bool // there is no connection, of which whoever keeps it tells

	compared atomic.Pointer[comparison] // the last one that could be relied upon
	blind    atomic.Bool                // clocks cannot be compared: the bucket is missing
	cause    atomic.Pointer[string]     // why they are not; nil: nothing is known to be in the way
}

// A comparison is what three clocks showed at one moment: the broker's and both
// of this machine.
type comparison struct {
	broker, wall time.Time
	monotonic    time.Duration
}

// now is the broker's time. Since the last comparison it goes by the monotonic clock.
func (c *clock) now() time.Time {
	last := c.compared.Load()
	if last == nil {
		return c.wall().Round(0)
	}
	return last.broker.Add(c.monotonic() - last.monotonic)
}

// stamp is now as the journal keeps it: fractions of a millisecond mean nothing between machines, and stand in every record for ever.
func (c *clock) stamp() time.Time { return c.now().Truncate(time.Millisecond) }

// Now lets a backoff read the clock.
func (c *clock) Now() time.Time { return c.now() }

// fault says why the clock cannot be relied upon, or "". It is asked
// where something is sent or expires, since a ticker would be late by up to its period; what it finds is a pause at once.
func (c *clock) fault() string {
	if sentence := c.pauses.reasons.Why(gate.PauseClock); sentence != "" {
		return sentence
	}
	fault := c.moved()
	if fault != "" && c.blind.Load() {
		return fault // that the bucket is missing says why, and is a pause
	}
	if fault != "" && c.pauses.set(gate.PauseClock, fault) {
		level := zerolog.WarnLevel
		if c.away != nil && c.away() {
			level = zerolog.InfoLevel
		}
		c.log.WithLevel(level).Msg(fault + ": nothing is sent and nothing expires until the clock was compared with the broker's again")
	}
	return fault
}

// moved judges the clocks by what they show now.
func (c *clock) moved() string {
	last := c.compared.Load()
	if last == nil {
		return notCompared + " yet" + c.because()
	}
	shown := c.reading()
	passed := shown.monotonic - last.monotonic
	stepped := shown.wall.Sub(last.wall) - passed
	switch {
	case stepped.Abs() > maxStep:
		return fmt.Sprintf("this machine's clock was set or stood still: it is %s off what has passed since the last comparison with the broker's", stepped.Round(time.Millisecond))
	case passed > comparedFor:
		return notCompared + " for " + comparedFor.String() + c.because()
	}
	return ""
}

func (c *clock) because() string {
	if cause := c.cause.Load(); cause != nil {
		return " (" + *cause + ")"
	}
	return ""
}

// prevented notes why the clock cannot be compared, and says so where that is a pause; nil: it can. Whoever compares calls it.
func (c *clock) prevented(err error) {
	if err == nil {
		c.cause.Store(nil)
		return
	}
	cause := err.Error()
	c.cause.Store(&cause)
	if !strings.HasPrefix(c.pauses.reasons.Why(gate.PauseClock), notCompared) {
		return
	}
	if fault := c.moved(); fault != "" {
		c.pauses.set(gate.PauseClock, fault)
	}
}

// reading is what this machine's clocks show now.
func (c *clock) reading() comparison {
	return comparison{wall: c.wall().Round(0), monotonic: c.monotonic()}
}

// compare learns the broker's time from an entry that the broker stamped
// between sent and now. A comparison that took longer than the margin of the leases says too little: two workers that
// are each off by half of it must still be within that.
func (c *clock) compare(sent comparison, stamped time.Time, margin time.Duration) {
	seen := c.reading()
	took := seen.monotonic - sent.monotonic
	if took < 0 || took > margin {
		return
	}
	if (seen.wall.Sub(sent.wall) - took).Abs() > maxStep {
		return // it was set just now
	}
	seen.broker = stamped.Add(took / 2)
	ahead := seen.wall.Sub(seen.broker)
	if ahead.Abs() > journal.MaxSkew {
		// Which of the two is wrong is not known: neither is gone by, so that a broker whose clock
		// jumps ends no window.
		sentence := fmt.Sprintf("this machine's clock is %s off the broker's, at most %s is safe: nothing is sent until it is put right", ahead.Round(time.Second), journal.MaxSkew)
		if c.pauses.set(gate.PauseClock, sentence) {
			c.log.Error().Dur("skew_ms", ahead).Msg(sentence)
		}
		return
	}
	c.compared.Store(&seen)
	if c.pauses.lift(gate.PauseClock) {
		c.log.Debug().Dur("skew_ms", ahead).Msg("the clock is right: claiming goes on")
	}
}
