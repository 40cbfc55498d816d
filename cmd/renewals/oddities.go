package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

// oddities tells of jobs that are published although something is odd about them: the first of each kind at once, all of
// them as numbers in the end, so that a million jobs with the same oddity are no million lines.
type oddities struct {
	printf func(format string, args ...any)
	counts map[string]int // by what is told of them
}

// note takes what is odd about one job, and why every worker would reject it now.
func (o *oddities) note(where string, warnings, now []messages.Problem) {
	for _, list := range []struct {
		severity string
		problems []messages.Problem
	}{{"warning", warnings}, {"now", now}} {
		for _, p := range list.problems {
			what := list.severity + ": " + string(p.Kind)
			if o.counts == nil {
				o.counts = map[string]int{}
			}
			if o.counts[what]++; o.counts[what] == 1 {
				o.printf("%s: %s: %s: %s\n", where, list.severity, cli.Printable(p.Path), cli.Printable(p.Message))
			}
		}
	}
}

// report says how many there were of each kind of which there was more than the one that was told.
func (o *oddities) report(w io.Writer) {
	for _, what := range slices.Sorted(maps.Keys(o.counts)) {
		if n := o.counts[what]; n > 1 {
			fmt.Fprintf(w, "%s: %d in all; `renewals validate` lists them\n", what, n)
		}
	}
}
