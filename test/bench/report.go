//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// report is everything that a benchmark has found.
type report struct {
	Machine machine    `json:"machine"`
	Mode    string     `json:"mode"`
	Took    string     `json:"took"`
	Asked   int        `json:"rounds_asked"`
	Groups  []*group   `json:"groups,omitempty"`
	Runs    []measured `json:"runs,omitempty"`
	Memory  *drained   `json:"memory,omitempty"`
	Bars    []bar      `json:"bars"`
}

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
	want.Who, want.Accounts, want.Jobs, want.Spaced, want.Singly = who, 1, 0, false, false
	return r.find(func(s setup) bool {
		s.Jobs = 0
		return s == want && m.Setup.Who != who
	})
}

// runs is the table of all; spreads says whether it has the smallest and the largest of each figure.
func (r report) runs(spreads bool) table {
	t := table{{
		"", "in flight", "÷ bare", "÷ claims", "CPU µs", "CPU ÷ bare", "broker CPU µs", "broker ÷ claims", "Klarna CPU µs", "RSS MiB",
		"p50 ms", "p99 ms", "max ms",
	}}
	write := func(s spread, format string) string {
		if !spreads {
			s.Min, s.Max = s.Median, s.Median
		}
		return s.text(format)
	}
	name := ""
	for _, m := range r.Runs {
		if m.Setup.Group != name {
			name = m.Setup.Group
			t = append(t, []string{r.heading(name)})
		}
		ratio := func(who string, of func(figures) float64) string {
			other, ok := r.like(m, who)
			if !ok || m.Setup.Pace > 0 || m.Setup.Who == "bare" {
				return ""
			}
			return write(m.ratio(other, of), "%.2f")
		}
		latency := func(of func(figures) time.Duration) string {
			if m.Setup.Pace == 0 {
				return ""
			}
			return write(m.over(func(f figures) float64 { return milliseconds(of(f) - m.Setup.Latency) }), "%.1f")
		}
		inFlight := strconv.Itoa(m.Setup.Workers * m.Setup.Hands)
		if m.Setup.Rate > 0 {
			inFlight = "" // it follows from the rate
		}
		t = append(t, []string{
			m.Setup.name(), inFlight, ratio("bare", rate), ratio("claims", rate),
			write(m.over(cpu), "%.0f"), ratio("bare", cpu), write(m.over(brokerCPU), "%.0f"), ratio("claims", brokerCPU),
			write(m.over(func(f figures) float64 { return microseconds(f.SimulatorCPU) }), "%.0f"),
			write(m.over(func(f figures) float64 { return mebibytes(f.PeakRSS) }), "%.0f"),
			latency(func(f figures) time.Duration { return f.P50 }), latency(func(f figures) time.Duration { return f.P99 }),
			latency(func(f figures) time.Duration { return f.Max }),
		})
	}
	return t
}

// heading says of a group who Klarna is in it, how many rounds count, and what others had of the processors meanwhile.
func (r report) heading(name string) string {
	n := slices.IndexFunc(r.Groups, func(g *group) bool { return g.Name == name })
	if n < 0 {
		return name
	}
	g := r.Groups[n]
	klarna := "strict simulator"
	if g.Light {
		klarna = "light simulator"
	}
	if name == groupWrites {
		klarna = "Klarna is not asked"
	}
	counted, why := len(g.Weather)-g.discarded(), fmt.Sprintf("%d discarded", g.discarded())
	if g.quiet() == 0 {
		why = "none of them quiet: these figures say little"
	}
	if asked := r.Asked; counted < asked {
		why += fmt.Sprintf(", %d asked for", asked)
	}
	var steal, load []float64
	for _, w := range g.Weather {
		if w.quiet() || g.quiet() == 0 {
			steal, load = append(steal, w.Steal*100), append(load, w.Load*100)
		}
	}
	return fmt.Sprintf("%s; %s; rounds: %d, %s; of the processors the host took %s %%, other programs %s %%",
		name, klarna, counted, why, spreadOf(steal).text("%.1f"), spreadOf(load).text("%.1f"))
}

// notes explain the columns.
const notes = `Medians of the rounds that count, each figure and each ratio by itself, with the smallest and the largest in parentheses; a ratio compares
runs of the same round. ÷ bare and ÷ claims are of throughput. CPU is the processor time of all workers for one renewal, broker CPU that of all
nodes, Klarna CPU the simulator's, RSS the peak of the largest worker. Latencies are from publishing a job to a consumer's having its result,
less what Klarna takes. A round counts where its host took at most %.0f %% of the processors' time and programs outside the benchmark at most %.0f %%.
A bar's last column is the same figure of the bare loop: what this machine allows.
`

// sizes says how large the records are.
func (r report) sizes() string {
	one, ok := r.find(func(s setup) bool { return s.Who == "renewals" })
	if !ok || len(one.Rounds) == 0 {
		return ""
	}
	s := one.Rounds[0].Records
	return fmt.Sprintf("The worker's records: a claim of %s bytes, %s of them header, a result of %s, %s of them header; those of claims and of the two\n"+
		"writes alone are padded to the same.\n",
		grouped(s.Claim.Body+s.Claim.Header), grouped(s.Claim.Header), grouped(s.Paid.Body+s.Paid.Header), grouped(s.Paid.Header))
}

func (r report) text() string { return r.write(table.text, false, true) }

func (r report) markdown() string { return r.write(table.markdown, true, false) }

func (r report) write(as func(table) string, spreads, all bool) string {
	text := r.Machine.String() + "\n\n"
	if len(r.Runs) > 0 {
		text += as(r.runs(spreads)) + "\n" + fmt.Sprintf(notes, mostSteal*100, mostLoad*100) + r.sizes() + "\n"
	}
	if r.Memory != nil {
		text += as(r.Memory.table()) + "\n"
	}
	return text + as(r.bars(all))
}
