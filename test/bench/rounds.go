//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// group is the setups that are compared with each other. In each of its rounds each is measured once, so that a slow minute
// of the machine hits all alike, and every other round is backwards, so that a machine that grows slower does not favour
// whoever comes first.
type group struct {
	Name    string    `json:"name"`
	Light   bool      `json:"light_simulator"`
	Weather []weather `json:"weather"` // of every round, in order
	runs    []*measured
	rounds  [][]figures // of every round and run, the discarded ones as well
}

// quiet is how many rounds were.
func (g *group) quiet() (n int) {
	for _, w := range g.Weather {
		if w.quiet() {
			n++
		}
	}
	return n
}

// discarded is how many rounds do not count. Where none was quiet, all count, and the report says so.
func (g *group) discarded() int {
	if g.quiet() == 0 {
		return 0
	}
	return len(g.Weather) - g.quiet()
}

// ready says whether so many rounds were quiet, or so many more were measured that the machine is not going to be.
func (g *group) ready(rounds, most int) bool { return g.quiet() >= rounds || len(g.Weather) >= most }

// keep gives each run the figures of the rounds that count.
func (g *group) keep() {
	for n, m := range g.runs {
		m.Rounds = nil
		for round, figures := range g.rounds {
			if g.Weather[round].quiet() || g.quiet() == 0 {
				m.Rounds = append(m.Rounds, figures[n])
			}
		}
		if len(m.Rounds) > 0 {
			m.Median = medians(m.Rounds)
		}
	}
}

// play measures one round.
func (g *group) play(try func(setup) (figures, error), clock func() (clocks, error)) error {
	before, err := clock()
	if err != nil {
		return err
	}
	all := make([]figures, len(g.runs))
	for n := range g.runs {
		if len(g.rounds)%2 == 1 {
			n = len(g.runs) - 1 - n
		}
		if all[n], err = try(g.runs[n].Setup); err != nil {
			return err
		}
	}
	after, err := clock()
	if err != nil {
		return err
	}
	g.rounds, g.Weather = append(g.rounds, all), append(g.Weather, after.since(before))
	return nil
}

// groupsOf puts setups that follow one another and are of one group together.
func groupsOf(all []setup) (groups []*group) {
	for _, s := range all {
		if len(groups) == 0 || groups[len(groups)-1].Name != s.Group {
			groups = append(groups, &group{Name: s.Group, Light: s.Light})
		}
		g := groups[len(groups)-1]
		g.runs = append(g.runs, &measured{Setup: s})
	}
	return groups
}

// runsOf are the setups of all groups, but for those whose first round the time did not suffice for.
func runsOf(groups []*group) (runs []measured) {
	for _, g := range groups {
		for _, m := range g.runs {
			if len(m.Rounds) > 0 {
				runs = append(runs, *m)
			}
		}
	}
	return runs
}

// roundLimit is for all rounds: after it, no further one begins.
const roundLimit = 90 * time.Minute

// interleaved measures a round of each group after the other, until there are enough that count, or the time is over.
func interleaved(ctx context.Context, t tools, dir string, quick bool, rounds int, p *progress) ([]*group, error) {
	try := func(s setup) (figures, error) {
		f, err := measure(ctx, t, filepath.Join(dir, "run"), s, p.follow(s.String()))
		if err != nil {
			return f, fmt.Errorf("%s: %w", s, err)
		}
		return f, nil
	}
	// How much fits into a run, and how large the worker's records are, is found with one that does not count.
	first, err := try(setup{Group: "how fast is this machine", Who: "renewals", Workers: 1, Accounts: 1, Hands: fastHands, Light: true, Replicas: 1, Jobs: 1500})
	if err != nil {
		return nil, err
	}
	t.records = first.Records
	var asked []setup
	for _, s := range setups(quick, first.Rate) {
		if wanted(s.String()) {
			asked = append(asked, s)
		}
	}
	groups := groupsOf(asked)
	p.expect(rounds * len(asked))
	most := 2 * rounds
	if quick {
		most = rounds
	}
	counted := func(s setup) (figures, error) {
		f, err := try(s)
		p.done(s.String())
		return f, err
	}
	for over, left := time.Now().Add(roundLimit), true; left; {
		left = false
		for _, g := range groups {
			if g.ready(rounds, most) || time.Now().After(over) {
				continue
			}
			left = true
			if err := g.play(counted, readClocks); err != nil {
				return nil, err
			}
			if !g.Weather[len(g.Weather)-1].quiet() && !g.ready(rounds, most) {
				p.again(len(g.runs))
			}
		}
	}
	for _, g := range groups {
		g.keep()
	}
	return groups, nil
}

// wanted says whether a run's name is one of those that are asked for.
func wanted(name string) bool { return strings.Contains(name, os.Getenv("BENCH_ONLY")) }
