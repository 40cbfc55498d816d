package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/klarna-renewals/renewals/worker/desk"
)

// Printable keeps what a stranger wrote from steering the terminal.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Amount writes minor units as people read them.
func Amount(minor int64, currency string) string { return Printable(desk.Money(minor, currency)) }

// Lapse writes a time span by its two largest units: 340ms, 12s, 3m5s, 2h7m, 6d3h.
func Lapse(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + Lapse(-d)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Truncate(100 * time.Millisecond).String()
	case d < time.Hour:
		return DurationText(d.Truncate(time.Second))
	case d < day:
		return DurationText(d.Truncate(time.Minute))
	}
	return fmt.Sprintf("%dd%s", d/day, strings.TrimSuffix(DurationText((d%day).Truncate(time.Hour)), "0s"))
}
