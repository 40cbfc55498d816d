package main

import (
	"fmt"
	"io"
	"sort"
	"text/tabwriter"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// promise keeps account of jobs and results, to compare with the simulator's books: a period is charged at most once, and
// every job ends in exactly one recorded result.
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
	o := &outcome{sample: s, renewal: renewal, key: messages.NewIdempotencyKey(renewal, s.job.ID)}
	p.jobs[s.job.ID], p.keys[o.key] = o, o
	p.open++
}

// result takes in a record and returns the outcome it settled, nil where it settled none.
func (p *promise) result(r record) *outcome {
	switch r.Kind {
	case messages.KindCharging, messages.KindPending:
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

// broken lists every way in which the promise does not hold; nothing is the good answer.
func (p *promise) broken(books klarnasim.Books) []string {
	var list []string
	add := func(o *outcome, format string, args ...any) {
		list = append(list, fmt.Sprintf("%s (%s): ", o.job.ID, o.about)+fmt.Sprintf(format, args...))
	}
	orders := map[messages.IdempotencyKey][]string{}
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
	}
	for _, o := range p.jobs {
		if len(o.results) != 1 {
			add(o, "%d results, expected 1", len(o.results))
			continue
		}
		r := o.results[0]
		switch made := orders[o.key]; {
		case r.Kind != o.want:
			add(o, "%s %s, expected %s", r.Kind, r.Reason, o.want)
		case r.Kind == messages.KindPaid && (len(made) != 1 || made[0] != r.OrderID):
			add(o, "paid with order %s, Klarna's books have %q", r.OrderID, made)
		case r.Kind != messages.KindPaid && len(made) > 0:
			add(o, "%s, Klarna's books have %q", r.Kind, made)
		case r.IdempotencyKey != o.key || r.RenewalKey != o.renewal:
			add(o, "recorded under other keys than its own")
		}
	}
	sort.Strings(list)
	return list
}

// summary is a table of what became of the jobs, and one sentence.
func (p *promise) summary(w io.Writer, books klarnasim.Books) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "jobs\tresult\treason\t")
	var rows [][2]string
	paid := 0
	for row, n := range p.counts {
		rows = append(rows, row)
		if row[0] == string(messages.KindPaid) {
			paid += n
		}
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i][0]+rows[i][1] < rows[j][0]+rows[j][1] })
	for _, row := range rows {
		fmt.Fprintf(table, "%d\t%s\t%s\t\n", p.counts[row], row[0], row[1])
	}
	table.Flush()
	fmt.Fprintf(w, "%d jobs, %d paid, %d orders in Klarna's books after %d requests\n", len(p.jobs), paid, len(books.Orders), books.Requests)
}
