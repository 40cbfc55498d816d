package settlements_test

import (
	"regexp"
	"slices"
	"strings"
)

var (
	number = regexp.MustCompile(`(\d)\.(\d\d)(;|\n)`)
	date   = regexp.MustCompile(`(\d{4})-(\d\d)-(\d\d)(T\d\d:)`)
)

// decimals writes the numbers of a report with another decimal sign.
func decimals(s, sign string) string { return number.ReplaceAllString(s, "${1}"+sign+"${2}${3}") }

// dates writes the dates of a report in another order.
func dates(s, order string) string {
	return date.ReplaceAllString(s, strings.NewReplacer("$1", "${1}", "$2", "${2}", "$3", "${3}").Replace(order)+"${4}")
}

// quoted writes a report with commas, and quotes where they are needed.
func quoted(s string) string {
	return eachLine(s, func(fields []string) string {
		for i, f := range fields {
			if strings.Contains(f, ",") {
				fields[i] = `"` + f + `"`
			}
		}
		return strings.Join(fields, ",")
	})
}

// reversed writes the columns of a report the other way round.
func reversed(s string) string {
	return eachLine(s, func(fields []string) string {
		slices.Reverse(fields)
		return strings.Join(fields, ";")
	})
}

func eachLine(s string, write func([]string) string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = write(strings.Split(line, ";"))
	}
	return strings.Join(lines, "\n")
}
