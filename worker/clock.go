package worker

import (
	"fmt"
	"time"

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
)

// A comparison is what three clocks showed at one moment: the broker's and both
// of this machine.
type comparison struct {
	broker, wall time.Time
	monotonic    time.Duration
}

// now is the broker's time: leases and windows are compared between machines, so
// all of them go by one clock. Since the last comparison it goes by the monotonic clock, which nobody sets.
func (w *Worker) now() time.Time {
	c := w.compared.Load()
	if c == nil {
		return w.opts.Now().Round(0)
	}
	return c.broker.Add(w.opts.Monotonic() - c.monotonic)
}

// clockFault says why [Worker.now] cannot be relied upon, or "". It is asked
// where something is sent or expires, since a ticker would be late by up to its period; what it finds is a pause at once.
func (w *Worker) clockFault() string {
	if sentence := w.pauses.Why(gate.PauseClock); sentence != "" {
		return sentence
	}
	fault := w.clockMoved()
	if fault != "" && w.noBucket.Load() {
		return fault // that the bucket is missing says why, and is a pause
	}
	if fault != "" && w.setPause(gate.PauseClock, fault) {
		w.opts.Log.Warn().Msg(fault + ": nothing is sent and nothing expires until the clock was compared with the broker's again")
	}
	return fault
}

// clockMoved judges the clocks by what they show now.
func (w *Worker) clockMoved() string {
	c := w.compared.Load()
	if c == nil {
		return "the clock was not compared with the broker's yet"
	}
	shown := w.reading()
	passed := shown.monotonic - c.monotonic
	stepped := shown.wall.Sub(c.wall) - passed
	switch {
	case stepped.Abs() > maxStep:
		return fmt.Sprintf("this machine's clock was set or stood still: it is %s off what has passed since the last comparison with the broker's", stepped.Round(time.Millisecond))
	case passed > comparedFor:
		return "the clock was not compared with the broker's for " + comparedFor.String()
	}
	return ""
}

// reading is what this machine's clocks show now.
func (w *Worker) reading() comparison {
	return comparison{wall: w.opts.Now().Round(0), monotonic: w.opts.Monotonic()}
}

// compareClocks learns the broker's time from an entry that the broker stamped
// between sent and now. A comparison that took long says too little: two workers that
// are each off by half of it must still be within the margin of their leases.
func (p *presence) compareClocks(sent comparison, stamped time.Time) {
	seen := p.reading()
	took := seen.monotonic - sent.monotonic
	for _, a := range p.accounts {
		if took < 0 || took > a.rules.ClockMargin {
			return
		}
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
		if p.setPause(gate.PauseClock, sentence) {
			p.opts.Log.Error().Dur("skew_ms", ahead).Msg(sentence)
		}
		return
	}
	p.compared.Store(&seen)
	if p.liftPause(gate.PauseClock) {
		p.opts.Log.Debug().Dur("skew_ms", ahead).Msg("the clock is right: claiming goes on")
	}
}
