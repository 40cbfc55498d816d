package main

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// promise keeps account of jobs and results, to compare with the simulator's books: a period is charged at most once, its
// money is taken at most once, and every job ends in exactly one recorded result.
type promise struct {
	jobs   map[messages.MessageID]*outcome
	keys   map[messages.IdempotencyKey]*outcome
	open   int // jobs without a result
	counts map[[2]string]int
}

// outcome is what is expected of a job, and what became of it.
type outcome struct {
	sample
	renewal messages.RenewalKey
	key     messages.IdempotencyKey
	results []record
}

func newPromise() *promise {
	return &promise{jobs: map[messages.MessageID]*outcome{}, keys: map[messages.IdempotencyKey]*outcome{}, counts: map[[2]string]int{}}
}

func (p *promise) expect(s sample) {
	renewal := messages.NewRenewalKey(s.job.SubscriptionID, s.job.Period)
	o := &outcome{sample: s, renewal: renewal, key: s.key(renewal)}
	p.jobs[s.id()], p.keys[o.key] = o, o
	p.open++
}

// result takes in a record and returns the outcome it settled, nil where it settled none.
func (p *promise) result(r record) *outcome {
	if isClaim(r.Kind) || r.Kind == messages.KindPending {
		return nil
	}
	o := p.jobs[r.ID]
	if o == nil {
		return nil
	}
	p.counts[[2]string{string(r.Kind), string(r.Reason)}]++
	r.body = nil
	if o.results = append(o.results, r); len(o.results) > 1 {
		return nil
	}
	p.open--
	return o
}

// awaited says what has no result yet; "" where all have one.
func (p *promise) awaited() string {
	var about []string
	for _, o := range p.jobs {
		if len(o.results) == 0 {
			about = append(about, strings.TrimSpace(o.about+" "+o.slow))
		}
	}
	slices.Sort(about)
	switch about = slices.Compact(about); {
	case p.open == 0:
		return ""
	case len(about) > mostAwaited:
		about = append(about[:mostAwaited], "…")
	}
	return fmt.Sprintf("waiting for %d of %d results: %s", p.open, len(p.jobs), strings.Join(about, "; "))
}

const mostAwaited = 3 // that are named

// broken lists every way in which the promise does not hold; nothing is the good answer.
func (p *promise) broken(books klarnasim.Books) []string {
	var list []string
	add := func(o *outcome, format string, args ...any) {
		list = append(list, fmt.Sprintf("%s (%s): ", o.id(), o.about)+fmt.Sprintf(format, args...))
	}
	orders, captures := map[messages.IdempotencyKey][]string{}, map[messages.IdempotencyKey][]string{}
	renewals := map[messages.RenewalKey]int{}
	for _, order := range books.Orders {
		o := p.keys[messages.IdempotencyKey(order.IdempotencyKey)]
		if o == nil {
			continue // an earlier run's job, with --store
		}
		orders[o.key] = append(orders[o.key], order.OrderID)
		if renewals[o.renewal]++; renewals[o.renewal] == 2 {
			add(o, "more than one order for the renewal")
		}
		for _, c := range order.Captures {
			key := messages.IdempotencyKey(c.IdempotencyKey)
			if captures[key] = append(captures[key], taken(c.CaptureID, order.OrderID, c.CapturedAmount)); p.keys[key] == nil {
				add(o, "capture %s of its order is of no job", c.CaptureID)
			}
		}
	}
	for _, o := range p.jobs {
		if len(o.results) != 1 {
			add(o, "%d results, expected 1", len(o.results))
			continue
		}
		r := o.results[0]
		made, named := orders[o.key], r.OrderID
		if o.capture != nil {
			made, named = captures[o.key], taken(r.CaptureID, r.OrderID, r.Amount)
		}
		got := r.Kind == messages.KindPaid || r.Kind == messages.KindCaptured
		switch {
		case r.Kind != o.want:
			add(o, "%s %s, expected %s", r.Kind, r.Reason, o.want)
		case got && (len(made) != 1 || made[0] != named):
			add(o, "%s with %s, Klarna's books have %q", r.Kind, named, made)
		case !got && len(made) > 0:
			add(o, "%s, Klarna's books have %q", r.Kind, made)
		case r.IdempotencyKey != o.key || r.RenewalKey != o.renewal:
			add(o, "recorded under other keys than its own")
		}
	}
	sort.Strings(list)
	return list
}

// taken names a capture with all that matters of it.
func taken(captureID, orderID string, amount int64) string {
	return fmt.Sprintf("capture %s of %d of order %s", captureID, amount, orderID)
}

// summary is a table of what became of the jobs, and one sentence.
func (p *promise) summary(w *cli.Page, books klarnasim.Books) {
	table := cli.NewTable("JOBS", "RESULT", "REASON")
	var rows [][2]string
	totals := map[messages.Kind]int{}
	for row, n := range p.counts {
		rows = append(rows, row)
		totals[messages.Kind(row[0])] += n
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i][0]+rows[i][1] < rows[j][0]+rows[j][1] })
	for _, row := range rows {
		table.Add(fmt.Sprintf("%4d", p.counts[row]), w.Paint(tone(messages.Kind(row[0])), row[0]), row[1])
	}
	table.Print(w)
	fmt.Fprintf(w, "%d jobs, %d paid, %d captured; %d orders and %d captures in Klarna's books after %d requests\n", len(p.jobs),
		totals[messages.KindPaid], totals[messages.KindCaptured], len(books.Orders), books.Captures, books.Requests)
}
