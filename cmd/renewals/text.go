package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// clockFrom is the minute by which it will be t, as somebody writes it who looks at the clock at now.
func clockFrom(now, t time.Time) string {
	if up := t.Truncate(time.Minute); up.Before(t) {
		t = up.Add(time.Minute)
	}
	if now.UTC().Format(time.DateOnly) == t.UTC().Format(time.DateOnly) {
		return t.UTC().Format("15:04 UTC")
	}
	return clock(t)
}

// age is how long ago something was. What the broker's clock puts into the future of this machine's has just happened.
func age(now, t time.Time) string { return cli.Lapse(max(now.Sub(t), 0)) }

// before says until when an order can be captured, where that is known.
func before(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " before " + clock(t)
}

// left says what remains of an authorised order.
func left(minor int64, currency string) string {
	if minor <= 0 {
		return "nothing remains"
	}
	return cli.Amount(minor, currency) + " remain to be captured"
}

// join lists the words of a closed set, each once.
func join[Word ~string](words []Word) string {
	var names []string
	for _, r := range words {
		if !slices.Contains(names, string(r)) {
			names = append(names, string(r))
		}
	}
	return strings.Join(names, ", ")
}

// counted lists counts by name: 3 invalid, 1 expired.
func counted[Name ~string](counts map[Name]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
	}
	return strings.Join(parts, ", ")
}

// short is enough of a key to tell those of one renewal apart.
func short(k messages.IdempotencyKey) string { return string(k[:min(len(k), 8)]) }
