//go:build linux

package main

import (
	"fmt"
	"time"
)

// setup is one way of running.
type setup struct {
	Group    string        `json:"group"` // what is compared with each other
	Who      string        `json:"who"`   // bare, claims, renewals; writes is the journal alone
	Workers  int           `json:"workers"`
	Accounts int           `json:"accounts"`
	Hands    int           `json:"concurrency"` // of each worker, over all accounts
	Latency  time.Duration `json:"latency_ns"`
	Light    bool          `json:"light_simulator"` // Klarna is one that validates nothing, rather than the strict simulator
	Sync     string        `json:"sync_interval"`   // "": the broker's default, 2 minutes
	Slower   time.Duration `json:"fsync_slower_ns"` // by how much each fsync takes longer than the disk does
	Replicas int           `json:"replicas"`
	Jobs     int           `json:"jobs"`
	Pace     int           `json:"pace"`    // jobs a second; 0: all are there at the beginning
	Rate     int           `json:"rate"`    // requests a second that the account may make, with as many in flight as the worker sees fit; 0: no limit
	Spaced   bool          `json:"spacing"` // the worker looks at the periods beside each charge, as it does by default; the loops never do
	Singly   bool          `json:"singly"`  // the worker commits every record by itself, rather than in batches
	Profiles bool          `json:"-"`       // the broker tells what its memory holds
}

const (
	groupAtOnce  = "Klarna answers at once"
	groupLatency = "Klarna takes 300 ms"
	groupSync    = "fsync on every write"
	groupSync3   = "three replicas, fsync on every write"
	groupSlow    = "fsync on every write, of a disk 2 ms slower"
	groupSlow3   = "three replicas, fsync on every write, of disks 2 ms slower"
	groupWrites  = "the journal's two writes alone"
	groupPace    = "200 jobs a second"
	groupRate    = "180 requests a second, fsync on every write"

	slow      = 300 * time.Millisecond
	slowHands = 256
	fastHands = 64
	pace      = 200

	liveRate    = 180 // what the worker allows itself of a live account
	rateSeconds = 10  // of a backlog at that rate: what is measured is not how fast the machine is
)

// rateLatencies are what Klarna takes while the worker is to use the whole rate.
var rateLatencies = []time.Duration{100 * time.Millisecond, slow, 600 * time.Millisecond, 1200 * time.Millisecond}

// plan gathers what is measured.
type plan struct {
	quick     bool
	perSecond float64 // what one worker makes on this machine, Klarna answering at once
	all       []setup
}

// setups are what `make bench` measures. At most so many seconds are meant for a run on a machine where one worker makes
// perSecond renewals a second; those that wait for Klarna and not for the machine are given their own.
func setups(quick bool, perSecond float64) []setup {
	p := &plan{quick: quick, perSecond: perSecond}
	p.limitedByMachine()
	p.limitedByKlarna()
	return p.all
}

// add adds a setup for each of those who are measured in it. The share is what a setting leaves of the speed, roughly.
func (p *plan) add(group string, share float64, s setup, whos ...string) {
	seconds := 1.5
	if p.quick {
		seconds = 1
	}
	s.Group = group
	s.Workers, s.Accounts, s.Replicas = max(s.Workers, 1), max(s.Accounts, 1), max(s.Replicas, 1)
	if s.Hands == 0 {
		s.Hands = fastHands
	}
	if s.Jobs == 0 {
		s.Jobs = max(int(share*seconds*p.perSecond), 10*s.Workers*s.Hands)
	}
	for _, who := range whos {
		s.Who = who
		p.all = append(p.all, s)
	}
}

func (p *plan) limitedByMachine() {
	three := []string{"bare", "claims", "renewals"}
	p.add(groupAtOnce, 3, setup{Light: true}, three...)
	p.add(groupAtOnce, 3, setup{Light: true, Spaced: true}, "renewals")
	if !p.quick {
		p.add(groupAtOnce, 1, setup{Light: true, Workers: 2}, three...)
		p.add(groupAtOnce, 1, setup{Light: true, Workers: 2, Accounts: 4}, "renewals")
		p.add(groupAtOnce+", strictly", 2, setup{}, three...)
	}
	p.add(groupSync, 0.4, setup{Light: true, Sync: "always"}, three...)
	p.add(groupSync, 0.4, setup{Light: true, Sync: "always", Singly: true}, "renewals")
	if p.quick {
		p.add(groupSync3, 0.3, setup{Light: true, Replicas: 3, Sync: "always"}, "renewals")
		return
	}
	p.add("three replicas", 0.4, setup{Light: true, Replicas: 3}, three...)
	p.add("three replicas", 0.4, setup{Light: true, Replicas: 3, Singly: true}, "renewals")
	p.add(groupSync3, 0.3, setup{Light: true, Replicas: 3, Sync: "always"}, three...)
	p.add(groupSync3, 0.3, setup{Light: true, Replicas: 3, Sync: "always", Singly: true}, "renewals")
	if canSlow() {
		p.add(groupSlow, 0.2, setup{Light: true, Sync: "always", Slower: slowDisk}, three...)
		p.add(groupSlow, 0.2, setup{Light: true, Sync: "always", Slower: slowDisk, Singly: true}, "renewals")
		p.add(groupSlow3, 0.2, setup{Light: true, Replicas: 3, Sync: "always", Slower: slowDisk}, three...)
		p.add(groupSlow3, 0.2, setup{Light: true, Replicas: 3, Sync: "always", Slower: slowDisk, Singly: true}, "renewals")
	}
	p.add(groupWrites, 1, setup{Hands: slowHands}, "writes")
	p.add(groupWrites, 1, setup{Hands: slowHands, Sync: "always"}, "writes")
	p.add(groupWrites, 1, setup{Hands: slowHands, Replicas: 3}, "writes")
	p.add(groupWrites, 0.8, setup{Hands: slowHands, Replicas: 3, Sync: "always"}, "writes")
}

func (p *plan) limitedByKlarna() {
	turns, counted := 18, 500 // how often each hand charges; jobs at a pace
	whos, paced := []string{"bare", "claims", "renewals"}, []string{"bare", "renewals"}
	if p.quick {
		turns, counted = 14, 400
		whos, paced = whos[2:], paced[1:]
	}
	p.add(groupLatency, 0, setup{Light: true, Latency: slow, Hands: slowHands, Jobs: turns * slowHands}, whos...)
	p.add(groupLatency, 0, setup{Light: true, Latency: slow, Hands: slowHands, Workers: 2, Jobs: 2 * turns * slowHands}, whos...)

	p.add(groupPace, 0, setup{Light: true, Pace: pace, Jobs: fastHands + counted}, paced...)
	p.add(groupPace, 0, setup{Light: true, Pace: pace, Jobs: fastHands + counted, Spaced: true}, "renewals")
	p.add(groupPace, 0, setup{Light: true, Pace: pace, Jobs: slowHands + counted, Latency: slow, Hands: slowHands}, paced...)
	if !p.quick {
		for _, latency := range rateLatencies {
			p.add(groupRate, 0, setup{Light: true, Rate: liveRate, Jobs: rateSeconds * liveRate, Latency: latency, Sync: "always", Spaced: true}, "renewals")
		}
	}
}

func (s setup) String() string { return s.Group + ": " + s.name() }

// name is what tells a setup from others of its group.
func (s setup) name() string {
	name := fmt.Sprintf("%s ×%d", s.Who, s.Workers)
	if s.Accounts > 1 {
		name += fmt.Sprintf(", %d accounts", s.Accounts)
	}
	if s.Spaced {
		name += ", spacing on"
	}
	if s.Singly {
		name += ", singly"
	}
	if s.Who == "writes" {
		name = fmt.Sprintf("R%d", s.Replicas)
		if s.Sync != "" {
			name += ", fsync on every write"
		}
	}
	if s.Pace > 0 || s.Rate > 0 {
		name += fmt.Sprintf(", %d ms", s.Latency.Milliseconds())
	}
	return name
}

// steady is the middle of a run, as numbers of results: neither the start nor the end of it counts. Where the hands are
// the limit, results come in waves, so it is a whole number of turns of all hands.
func (s setup) steady() (from, to int) {
	if s.Pace > 0 {
		n := s.Jobs - s.Hands
		return s.Hands + n/10, s.Jobs - n/10
	}
	if s.Rate > 0 { // turns come one by one
		return s.Jobs / 5, s.Jobs * 9 / 10
	}
	from = max(s.Jobs/10, 1)
	hands := s.Workers * s.Hands
	return from, from + max(s.Jobs*8/10/hands, 1)*hands
}
