//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// bar is a figure that the project has promised itself.
type bar struct {
	Figure string  `json:"figure"`
	AtMost bool    `json:"at_most"` // rather than at least
	Bar    float64 `json:"bar"`
	Unit   string  `json:"unit,omitempty"`
	Got    spread  `json:"got"`
	Known  bool    `json:"known"`          // it was measured in this run
	Bare   float64 `json:"bare,omitempty"` // the loop without promises beside it: what the machine allows
}

func (b bar) met() bool {
	got := b.Got.Median
	return b.Known && (got == b.Bar || b.AtMost == (got < b.Bar))
}

// judge fills in the bars.
func (r report) judge() []bar {
	return slices.Concat(r.judgeThroughput(), r.judgeLatency(), r.judgeWeight())
}

func newBar(figure, comparison string, limit float64, unit string, got spread, known bool) bar {
	return bar{Figure: figure, AtMost: comparison == "≤", Bar: limit, Unit: unit, Got: got, Known: known && got != spread{}}
}

// judgeThroughput is what the worker makes, and what it takes for that, beside the loops.
func (r report) judgeThroughput() (bars []bar) {
	compare := func(figure, comparison string, limit float64, group, who string, spaced bool, of func(figures) float64) {
		ours, ok := r.find(func(s setup) bool {
			return s.Group == group && s.Who == "renewals" && s.Workers == 1 && s.Accounts == 1 && s.Spaced == spaced && !s.Singly
		})
		theirs, also := r.like(ours, who)
		bars = append(bars, newBar(figure, comparison, limit, "", ours.ratio(theirs, of), ok && also))
	}
	compare("throughput ÷ the loop with the two writes", "≥", 0.90, groupAtOnce, "claims", false, rate)
	compare("throughput ÷ the bare loop", "≥", 0.65, groupAtOnce, "bare", false, rate)
	compare("throughput ÷ the bare loop, fsync on every write, one node", "≥", 1.5, groupSync, "bare", false, rate)
	compare("throughput ÷ the bare loop, fsync on every write, three nodes", "≥", 1.0, groupSync3, "bare", false, rate)
	compare("the same, of a disk 2 ms slower, one node", "≥", 1.5, groupSlow, "bare", false, rate)
	compare("the same, of disks 2 ms slower, three nodes", "≥", 1.0, groupSlow3, "bare", false, rate)
	compare("processor time of a renewal ÷ the bare loop", "≤", 1.6, groupAtOnce, "bare", false, cpu)
	compare("the broker's processor time ÷ the loop with the two writes", "≤", 1.1, groupAtOnce, "claims", false, brokerCPU)
	compare("the broker's processor time ÷ the loop with the two writes, spacing on", "≤", 1.7, groupAtOnce, "claims", true, brokerCPU)

	slowly := func(who string, workers int) measured {
		m, _ := r.find(func(s setup) bool { return s.Group == groupLatency && s.Who == who && s.Workers == workers })
		return m
	}
	beside := func(figure string, limit float64, of func(who string) spread) {
		got := of("renewals")
		b := newBar(figure, "≥", limit, "", got, true)
		b.Bare = of("bare").Median
		bars = append(bars, b)
	}
	beside("throughput at 300 ms, 256 in flight ÷ (256 / 0.3 s)", 0.97, func(who string) spread {
		return slowly(who, 1).over(func(f figures) float64 { return f.Rate / (slowHands / slow.Seconds()) })
	})
	beside("two workers ÷ one, 300 ms", 1.95, func(who string) spread {
		return slowly(who, 2).ratio(slowly(who, 1), rate)
	})
	for _, latency := range rateLatencies {
		one, _ := r.find(func(s setup) bool { return s.Group == groupRate && s.Latency == latency })
		figure := fmt.Sprintf("share of %d requests a second, fsync on every write, Klarna taking %g s", liveRate, latency.Seconds())
		bars = append(bars, newBar(figure, "≥", 0.97, "", one.over(func(f figures) float64 { return f.Rate / liveRate }), true))
	}
	return bars
}

// judgeLatency is how long a job takes that meets an idle worker.
func (r report) judgeLatency() (bars []bar) {
	for _, of := range []struct {
		figure  string
		limit   float64
		latency time.Duration
		spaced  bool
	}{
		{figure: "", limit: 5},
		{figure: ", spacing on", limit: 7, spaced: true},
		{figure: ", less the 300 ms that Klarna takes", limit: 5, latency: slow},
	} {
		p99 := func(who string, spaced bool) spread {
			m, _ := r.find(func(s setup) bool {
				return s.Group == groupPace && s.Who == who && s.Latency == of.latency && s.Spaced == spaced
			})
			return m.over(func(f figures) float64 { return milliseconds(f.P99 - of.latency) })
		}
		b := newBar("publish → result at 200 jobs a second, 99th percentile"+of.figure, "≤", of.limit, "ms", p99("renewals", of.spaced), true)
		b.Bare = p99("bare", false).Median
		bars = append(bars, b)
	}
	return bars
}

// judgeWeight is what a backlog takes of memory, and what it leaves on disk.
func (r report) judgeWeight() []bar {
	const memory, disk = "peak memory of the worker, draining 1,000,000 jobs", "disk for a paid renewal"
	m := r.Memory
	if m == nil {
		return []bar{newBar(memory, "≤", 64, "MiB", spread{}, false), newBar(disk, "≤", 2.6, "kB", spread{}, false)}
	}
	bars := []bar{newBar(strings.Replace(memory, "1,000,000", grouped(m.Jobs), 1), "≤", 64, "MiB", once(mebibytes(m.PeakWorker)), true)}
	return append(bars, newBar(disk, "≤", 2.6, "kB", once(float64(m.Disk)/float64(m.Jobs)/1000), m.Disk > 0))
}

// once is a figure that was measured one time.
func once(f float64) spread { return spread{Median: f, Min: f, Max: f} }

// bars is the verdicts; all says whether bars are named that this run has not measured.
func (r report) bars(all bool) table {
	t := table{{"bar", "", "measured", ""}}
	beside := slices.ContainsFunc(r.Bars, func(b bar) bool { return b.Bare != 0 })
	if beside {
		t[0] = append(t[0], "the bare loop")
	}
	for _, b := range r.Bars {
		if !b.Known && !all {
			continue
		}
		format := "%.3f"
		if b.Unit != "" {
			format = "%.1f"
		}
		if b.Unit == "kB" {
			format = "%.2f"
		}
		unit := func(text string) string { return strings.TrimSpace(text + " " + b.Unit) }
		comparison, measured, verdict, bare := "≥", unit(b.Got.text(format)), "missed", ""
		if b.AtMost {
			comparison = "≤"
		}
		if b.Bare != 0 {
			bare = unit(fmt.Sprintf(format, b.Bare))
		}
		switch {
		case !b.Known:
			measured, verdict = "", "not in this run"
		case b.met():
			verdict = "met"
		}
		row := []string{b.Figure, unit(fmt.Sprintf("%s %g", comparison, b.Bar)), measured, verdict}
		if beside {
			row = append(row, bare)
		}
		t = append(t, row)
	}
	return t
}
