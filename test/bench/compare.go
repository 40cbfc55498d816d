//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// measured is one setup with what it came to in each round that counts. It is the raw material, with rates, which depend on
// the machine and on its minute: the tables have ratios of one round and processor time only.
type measured struct {
	Setup  setup     `json:"setup"`
	Median figures   `json:"median"`
	Rounds []figures `json:"rounds"`
}

// spread is a figure over the rounds.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(all []float64) spread {
	if len(all) == 0 {
		return spread{}
	}
	return spread{Median: median(all), Min: slices.Min(all), Max: slices.Max(all)}
}

// text writes a figure with its smallest and largest, where it was measured more than once.
func (s spread) text(format string) string {
	text := fmt.Sprintf(format, s.Median)
	if s.Min != s.Max {
		text += fmt.Sprintf(" ("+format+"–"+format+")", s.Min, s.Max)
	}
	return text
}

// over is a figure in all rounds.
func (m measured) over(figure func(figures) float64) spread {
	var all []float64
	for _, f := range m.Rounds {
		all = append(all, figure(f))
	}
	return spreadOf(all)
}

// ratio compares a figure of two setups within each round, where both met the same weather.
func (m measured) ratio(other measured, figure func(figures) float64) spread {
	var all []float64
	for n := range min(len(m.Rounds), len(other.Rounds)) {
		if of := figure(other.Rounds[n]); of > 0 { // a run may be too short for the clock of a process
			all = append(all, figure(m.Rounds[n])/of)
		}
	}
	return spreadOf(all)
}

func rate(f figures) float64      { return f.Rate }
func cpu(f figures) float64       { return microseconds(f.CPU) }
func brokerCPU(f figures) float64 { return microseconds(f.BrokerCPU) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func mebibytes(bytes int64) float64        { return float64(bytes) / (1 << 20) }

// grouped writes thousands apart.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
