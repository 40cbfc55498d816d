package settlements

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// parseAmount reads a decimal as minor units, without a float. sign is the decimal sign where that is known, else 0: then the
// last of . and , is it, unless what follows could be thousands as well. digits is how many decimals the currency has.
func parseAmount(text string, sign rune, digits int) (int64, error) {
	body, negative := signed(strings.TrimSpace(text))
	whole, fraction, err := split(body, sign, digits)
	if err != nil {
		return 0, err
	}
	number := whole
	if trimmed := strings.TrimRight(fraction, "0"); len(trimmed) > digits {
		return 0, fmt.Errorf("found %.40q, expected at most %d decimals", text, digits)
	}
	for i := range digits {
		if i < len(fraction) {
			number += fraction[i : i+1]
		} else {
			number += "0"
		}
	}
	var amount int64
	for _, c := range number {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("found %.40q, expected a decimal number", text)
		}
		if amount > (math.MaxInt64-int64(c-'0'))/10 {
			return 0, fmt.Errorf("found %.40q, which is more than there is", text)
		}
		amount = amount*10 + int64(c-'0')
	}
	if negative {
		amount = -amount
	}
	return amount, nil
}

// signed takes the sign away, before or behind.
func signed(s string) (body string, negative bool) {
	for _, minus := range []string{"-", "−"} {
		if rest, ok := strings.CutPrefix(s, minus); ok {
			return strings.TrimSpace(rest), true
		}
		if rest, ok := strings.CutSuffix(s, minus); ok {
			return strings.TrimSpace(rest), true
		}
	}
	return strings.TrimPrefix(s, "+"), false
}

var errSign = errors.New("the decimal sign is unknown")

// split parts a number at its decimal sign and takes out what parts thousands.
func split(s string, sign rune, digits int) (whole, fraction string, err error) {
	at := -1
	if sign != 0 {
		at = strings.LastIndexByte(s, byte(sign))
	} else if at = strings.LastIndexAny(s, ".,"); at >= 0 {
		once, other := strings.Count(s, s[at:at+1]) == 1, strings.ContainsAny(s[:at], ".,")
		switch {
		case !once:
			at = -1 // 1.234.567
		case !other && len(s)-at-1 == 3 && at > 0 && at <= 3 && digits != 3 && s[:at] != "0":
			return "", "", fmt.Errorf("found %.40q: %w: is it %c, or does that part thousands", s, errSign, s[at])
		}
	}
	whole = s
	if at >= 0 {
		whole, fraction = s[:at], s[at+1:]
		if fraction == "" {
			return "", "", fmt.Errorf("found %.40q, expected decimals after the sign", s)
		}
	}
	groups := strings.FieldsFunc(whole, func(r rune) bool { return strings.ContainsRune(".,' \u00a0\u202f’", r) })
	for i, g := range groups {
		if i > 0 && len(g) != 3 {
			return "", "", fmt.Errorf("found %.40q, expected a decimal number", s)
		}
	}
	whole = strings.Join(groups, "")
	if whole == "" {
		return "", "", fmt.Errorf("found %.40q, expected a decimal number", s)
	}
	return whole, fraction, nil
}
