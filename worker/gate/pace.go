package gate

import (
	"math"
	"time"
)

// A pace says how many permits a rate needs, by Little's law: as many charges are in flight as begin in the time that one
// takes. How long that is, claim and disk included, is measured: a Klarna that takes 1.2 s, or a slow disk, must not cost
// the rate that is paid for, and a fast one needs no hundreds of jobs waiting here while another worker is idle.
type pace struct {
	held  time.Duration // how long a permit is held; 0: not known yet
	sum   time.Duration // of the round that is not full
	count int
}

const (
	// FewestPermits and MostPermits bound what follows from a rate. The bodies of so many jobs are in memory, and so many
	// connections are open.
	FewestPermits, MostPermits = 16, 256
	// UnratedPermits are those of an account without a limit: nothing says how many it needs.
	UnratedPermits = 64

	// heldAtFirst is a guess, for as long as nothing was measured.
	heldAtFirst = 300 * time.Millisecond
	// paceRound is how many charges the mean is taken of: one of them that takes long says little.
	paceRound = 16
	// paceFall is the part of the way down that one round goes. Up it goes at once: too few permits cost rate, too many only
	// wait for their turn.
	paceFall = 32
	// The margin is a quarter, since charges do not take equally long, and what is short of it for a moment is lost: a turn
	// that nobody waits for does not come back. paceStall is a stall of disk, broker or processor beside that.
	paceStall = 100 * time.Millisecond
)

// took is the pace after another permit was held so long.
func (p pace) took(held time.Duration) pace {
	p.sum, p.count = p.sum+held, p.count+1
	if p.count < paceRound {
		return p
	}
	mean := p.sum / paceRound
	if mean < p.held {
		mean = p.held - (p.held-mean)/paceFall
	}
	return pace{held: mean}
}

// permits are as many as so many requests a second need; 0 is no limit.
func (p pace) permits(rate float64) int {
	if rate <= 0 {
		return UnratedPermits
	}
	held := p.held
	if held == 0 {
		held = heldAtFirst
	}
	needed := math.Ceil(rate * (held + held/4 + paceStall).Seconds())
	return int(min(max(needed, FewestPermits), MostPermits))
}
