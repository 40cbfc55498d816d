package desk

import (
	"fmt"
	"strings"

	"github.com/klarna-renewals/renewals/messages"
)

// Money writes minor units as people read them: 1599 EUR is "15.99 EUR". Of what is no currency it writes the bare number.
func Money(minor int64, currency string) string {
	if currency == "" {
		return "-"
	}
	sign, digits := "", fmt.Sprint(minor)
	if minor < 0 {
		sign, digits = "-", digits[1:]
	}
	if n, ok := messages.MinorUnits(strings.ToUpper(currency)); ok && n > 0 {
		if len(digits) <= n {
			digits = strings.Repeat("0", n+1-len(digits)) + digits
		}
		digits = digits[:len(digits)-n] + "." + digits[len(digits)-n:]
	}
	return sign + digits + " " + currency
}
