//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// report is everything that a benchmark has found.
type report struct {
	Machine machine    `json:"machine"`
	Mode    string     `json:"mode"`
	Took    string     `json:"took"`
	Runs    []measured `json:"runs,omitempty"`
	Memory  *drained   `json:"memory,omitempty"`
	Bars    []bar      `json:"bars"`
}

// measured is one setup with what it came to in each round.
type measured struct {
	Setup  setup     `json:"setup"`
	Median figures   `json:"median"`
	Rounds []figures `json:"rounds"`
}

// ratio compares a figure of two setups within each round, where both met the same weather, and takes the median.
func (m measured) ratio(other measured, figure func(figures) float64) float64 {
	var all []float64
	for n := range m.Rounds {
		all = append(all, figure(m.Rounds[n])/figure(other.Rounds[n]))
	}
	return median(all)
}

func rate(f figures) float64 { return f.Rate }
func cpu(f figures) float64  { return float64(f.CPU) }

// find returns the first run that a setup fits to.
func (r report) find(fits func(setup) bool) (measured, bool) {
	for _, m := range r.Runs {
		if fits(m.Setup) {
			return m, true
		}
	}
	return measured{}, false
}

// like returns the run of another program that was set up as m was.
func (r report) like(m measured, who string) (measured, bool) {
	want := m.Setup
	want.Who, want.Accounts, want.Jobs, want.Spaced = who, 1, 0, false
	return r.find(func(s setup) bool {
		s.Jobs = 0
		return s == want && m.Setup.Who != who
	})
}

// bar is a figure that the project has promised itself.
type bar struct {
	Figure string  `json:"figure"`
	AtMost bool    `json:"at_most"` // rather than at least
	Bar    float64 `json:"bar"`
	Unit   string  `json:"unit,omitempty"`
	Got    float64 `json:"got"`
	Known  bool    `json:"known"`          // it was measured in this run
	Bare   float64 `json:"bare,omitempty"` // the loop without promises beside it: what the machine allows
}

func (b bar) met() bool { return b.Known && (b.Got == b.Bar || b.AtMost == (b.Got < b.Bar)) }

// judge fills in the bars.
func (r report) judge() []bar {
	at := func(group, who string, workers int, latency time.Duration) (measured, bool) {
		return r.find(func(s setup) bool {
			return s.Group == group && s.Who == who && s.Workers == workers && s.Accounts == 1 && s.Latency == latency && !s.Spaced
		})
	}
	var bars []bar
	add := func(figure, comparison string, limit float64, unit string, got float64, known bool) {
		bars = append(bars, bar{Figure: figure, AtMost: comparison == "≤", Bar: limit, Unit: unit, Got: got, Known: known})
	}
	compare := func(figure, comparison string, limit float64, who string, of func(figures) float64) {
		ours, ok := at("Klarna answers at once", "renewals", 1, 0)
		theirs, also := r.like(ours, who)
		got := 0.0
		if ok && also {
			got = ours.ratio(theirs, of)
		}
		add(figure, comparison, limit, "", got, ok && also)
	}
	compare("throughput ÷ the loop with the two writes", "≥", 0.90, "claims", rate)
	compare("throughput ÷ the bare loop", "≥", 0.70, "bare", rate)
	compare("processor time of a renewal ÷ the bare loop", "≤", 1.5, "bare", cpu)

	beside := func(figure, comparison string, limit float64, unit string, of func(who string) (float64, bool)) {
		got, known := of("renewals")
		add(figure, comparison, limit, unit, got, known)
		if bare, ok := of("bare"); ok {
			bars[len(bars)-1].Bare = bare
		}
	}
	beside("throughput at 300 ms, 256 in flight ÷ (256 / 0.3 s)", "≥", 0.97, "", func(who string) (float64, bool) {
		one, ok := at(groupLatency, who, 1, slow)
		return one.Median.Rate / (slowHands / slow.Seconds()), ok
	})
	beside("two workers ÷ one, 300 ms", "≥", 1.95, "", func(who string) (float64, bool) {
		one, ok := at(groupLatency, who, 1, slow)
		two, also := at(groupLatency, who, 2, slow)
		if !ok || !also {
			return 0, false
		}
		return two.ratio(one, rate), true
	})
	for _, latency := range []time.Duration{0, slow} {
		name := "publish → result at 200 jobs a second, 99th percentile"
		if latency > 0 {
			name += ", less the 300 ms that Klarna takes"
		}
		beside(name, "≤", 5, "ms", func(who string) (float64, bool) {
			paced, ok := at(groupPace, who, 1, latency)
			return milliseconds(paced.Median.P99 - latency), ok
		})
	}
	for _, latency := range rateLatencies {
		one, ok := r.find(func(s setup) bool { return s.Group == groupRate && s.Latency == latency })
		add(fmt.Sprintf("share of %d requests a second, fsync on every write, Klarna taking %g s", liveRate, latency.Seconds()), "≥", 0.97, "", one.Median.Rate/liveRate, ok)
	}
	name := "peak memory of the worker, draining 1,000,000 jobs"
	if m := r.Memory; m != nil {
		add(strings.Replace(name, "1,000,000", grouped(m.Jobs), 1), "≤", 64, "MiB", mebibytes(m.PeakWorker), true)
	} else {
		add(name, "≤", 64, "MiB", 0, false)
	}
	return bars
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func mebibytes(bytes int64) float64        { return float64(bytes) / (1 << 20) }

// table is rows of cells; a row of one cell is a heading.
type table [][]string

func (r report) runs() table {
	t := table{{"", "in flight", "renewals/s", "÷ bare", "÷ claims", "CPU µs", "CPU ÷ bare", "broker CPU µs", "RSS MiB", "p50 ms", "p99 ms", "max ms"}}
	group := ""
	for _, m := range r.Runs {
		if m.Setup.Group != group {
			group = m.Setup.Group
			t = append(t, []string{group})
		}
		ratio := func(who string, of func(figures) float64) string {
			other, ok := r.like(m, who)
			if !ok || m.Setup.Pace > 0 || m.Setup.Who == "bare" {
				return ""
			}
			return fmt.Sprintf("%.2f", m.ratio(other, of))
		}
		latency := func(d time.Duration) string {
			if m.Setup.Pace == 0 {
				return ""
			}
			return fmt.Sprintf("%.1f", milliseconds(d-m.Setup.Latency))
		}
		f, inFlight := m.Median, strconv.Itoa(m.Setup.Workers*m.Setup.Hands)
		if m.Setup.Rate > 0 {
			inFlight = "" // it follows from the rate
		}
		t = append(t, []string{
			m.Setup.name(), inFlight, grouped(int(f.Rate)), ratio("bare", rate), ratio("claims", rate),
			strconv.FormatInt(f.CPU.Microseconds(), 10), ratio("bare", cpu), strconv.FormatInt(f.BrokerCPU.Microseconds(), 10),
			fmt.Sprintf("%.0f", mebibytes(f.PeakRSS)), latency(f.P50), latency(f.P99), latency(f.Max),
		})
	}
	return t
}

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
		figure := func(f float64) string {
			if b.Unit != "" {
				return fmt.Sprintf("%.1f %s", f, b.Unit)
			}
			return fmt.Sprintf("%.3f", f)
		}
		comparison, measured, verdict, bare := "≥", figure(b.Got), "missed", ""
		if b.AtMost {
			comparison = "≤"
		}
		if b.Bare != 0 {
			bare = figure(b.Bare)
		}
		switch {
		case !b.Known:
			measured, verdict = "", "not in this run"
		case b.met():
			verdict = "met"
		}
		row := []string{b.Figure, strings.TrimSpace(fmt.Sprintf("%s %g %s", comparison, b.Bar, b.Unit)), measured, verdict}
		if beside {
			row = append(row, bare)
		}
		t = append(t, row)
	}
	return t
}

// notes explain the columns.
const notes = `Medians of the rounds, each figure and each ratio by itself; a ratio compares runs of the same round. CPU is the processor
time of all workers for one renewal, RSS the peak of the largest worker. Latencies are from publishing a job to a consumer's
having its result, less what Klarna takes. A bar's last column is the same figure of the bare loop: what this machine allows.
`

func (r report) text() string {
	text := r.Machine.String() + "\n\n"
	if len(r.Runs) > 0 {
		text += r.runs().text() + "\n" + notes + "\n"
	}
	if r.Memory != nil {
		text += r.Memory.table().text() + "\n"
	}
	return text + r.bars(true).text()
}

func (r report) markdown() string {
	text := r.Machine.String() + "\n\n"
	if len(r.Runs) > 0 {
		text += r.runs().markdown() + "\n" + notes + "\n"
	}
	if r.Memory != nil {
		text += r.Memory.table().markdown() + "\n"
	}
	return text + r.bars(false).markdown()
}

// text aligns the first column left, the others right.
func (t table) text() string {
	widths := make([]int, len(t[0]))
	for _, row := range t {
		for n, cell := range row {
			if len(row) > 1 {
				widths[n] = max(widths[n], utf8.RuneCountInString(cell))
			}
		}
	}
	var b strings.Builder
	for _, row := range t {
		if len(row) == 1 {
			b.WriteString("\n" + row[0] + "\n")
			continue
		}
		line := ""
		for n, cell := range row {
			pad := strings.Repeat(" ", widths[n]-utf8.RuneCountInString(cell))
			if n == 0 {
				line += "  " + cell + pad
			} else {
				line += "  " + pad + cell
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

func (t table) markdown() string {
	var b strings.Builder
	for n, row := range t {
		if len(row) == 1 {
			row = append([]string{"**" + row[0] + "**"}, make([]string, len(t[0])-1)...)
		}
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if n == 0 {
			b.WriteString("|---|" + strings.Repeat("---:|", len(row)-1) + "\n")
		}
	}
	return b.String()
}

// grouped writes thousands apart.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
