package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/desk/books"
)

type reportCmd struct {
	Books  booksSettings  `embed:""`
	Filter filterSettings `embed:""`

	What []string `arg:"" optional:"" enum:"recovery,refusals,money" help:"recovery: what further attempts brought in, by category. refusals: by reason, over time. money: paid orders by currency, over time. Default: all of them."`
	By   string   `enum:",day,week,month" default:"" help:"day, week or month. Default: what suits the time." from:"command-line"`
	CSV  bool     `name:"csv" help:"One report as CSV." from:"command-line"`
	SVG  string   `name:"svg" help:"Directory to draw the reports into, each as a file NAME.svg." from:"command-line"`
}

// table is a report as text, its header first.
type table struct {
	name, title string
	rows        [][]string
	numbers     []bool  // columns that are right-aligned
	charts      []chart // the same as pictures: one, or one for each currency
}

func (c *reportCmd) Run(ctx context.Context, s *cli.Settings, w *streams) error {
	filter, err := c.Filter.filter(time.Now())
	if err != nil {
		return err
	}
	what := c.What
	if len(what) == 0 {
		what = []string{"recovery", "refusals", "money"}
	}
	if c.CSV && len(what) != 1 {
		return cli.Usagef("--csv: of %d reports, expected one of recovery, refusals, money", len(what))
	}
	b, err := c.Books.open(ctx, s)
	if err != nil {
		return err
	}
	defer b.Close()
	var tables []table
	for _, name := range what {
		t, err := c.table(ctx, b, name, filter)
		if err != nil {
			return err
		}
		tables = append(tables, t)
	}
	switch {
	case c.SVG != "":
		return drawAll(w.stdout, c.SVG, tables)
	case c.CSV:
		return printCSV(w.stdout, tables[0])
	}
	for i, t := range tables {
		if i > 0 {
			fmt.Fprintln(w.stdout)
		}
		printTable(w.page(), t)
	}
	return nil
}

func (c *reportCmd) table(ctx context.Context, b *books.Books, name string, f books.Filter) (table, error) {
	if name == "recovery" {
		recovered, err := b.Recovery(ctx, f)
		return recoveryTable(recovered), err
	}
	span := books.Span(c.By)
	if span == "" {
		first, last, err := b.Range(ctx, f)
		if err != nil {
			return table{}, err
		}
		span = books.SpanFor(last.Sub(first))
	}
	if name == "refusals" {
		counts, err := b.Refusals(ctx, f, span)
		return refusalsTable(counts, span), err
	}
	counts, err := b.Money(ctx, f, span)
	return moneyTable(counts, span), err
}

func recoveryTable(recovered []books.Recovered) table {
	t := table{name: "recovery", title: "Recovered after a first refusal, by its category", numbers: []bool{false, true, true, true, true, true, true, true, true}}
	t.rows = [][]string{{"category", "refused", "paid at 2nd", "3rd", "4th", "later", "recovered", "still open", "lost"}}
	bars := chart{title: t.title, unit: "share of the refused renewals, %", percent: true}
	for _, attempt := range []string{"2nd attempt", "3rd attempt", "4th attempt", "later"} {
		bars.series = append(bars.series, series{name: attempt})
	}
	slices.SortStableFunc(recovered, func(a, b books.Recovered) int { return cmp.Compare(b.Refused, a.Refused) })
	for _, r := range recovered {
		paid := int64(0)
		row := []string{r.Category, fmt.Sprint(r.Refused)}
		for i, n := range r.Paid {
			paid += n
			row = append(row, fmt.Sprint(n))
			bars.series[i].values = append(bars.series[i].values, 100*float64(n)/float64(max(r.Refused, 1)))
		}
		bars.labels = append(bars.labels, fmt.Sprintf("%s\n%d refused\n%.1f %% recovered", strings.ReplaceAll(r.Category, "_", " "), r.Refused, r.Share()))
		t.rows = append(t.rows, append(row, fmt.Sprintf("%.1f %%", r.Share()), fmt.Sprint(r.Open), fmt.Sprint(r.Refused-paid-r.Open)))
	}
	t.charts = []chart{bars}
	return t
}

func refusalsTable(counts []books.Count, span books.Span) table {
	t := table{name: "refusals", title: "Refusals by reason, by " + string(span), numbers: []bool{false, false, true}, rows: [][]string{{string(span), "reason", "refused"}}}
	for _, c := range counts {
		t.rows = append(t.rows, []string{c.Day, c.Of, fmt.Sprint(c.N)})
	}
	t.charts = []chart{overTime(t.title, "refused attempts", counts, span, func(c books.Count) float64 { return float64(c.N) })}
	return t
}

func moneyTable(counts []books.Count, span books.Span) table {
	t := table{name: "money", title: "Paid, by " + string(span), numbers: []bool{false, false, true, true}, rows: [][]string{{string(span), "currency", "orders", "amount"}}}
	by := map[string][]books.Count{}
	var currencies []string
	for _, c := range counts {
		if by[c.Of] == nil {
			currencies = append(currencies, c.Of)
		}
		by[c.Of] = append(by[c.Of], c)
		amount, _, _ := strings.Cut(desk.Money(c.Minor, c.Of), " ")
		t.rows = append(t.rows, []string{c.Day, c.Of, fmt.Sprint(c.N), amount})
	}
	slices.Sort(currencies)
	for _, currency := range currencies {
		t.charts = append(t.charts, overTime("Paid in "+currency+", by "+string(span), currency, by[currency], span, func(c books.Count) float64 { return major(c.Minor, currency) }))
	}
	return t
}

func printTable(p *cli.Page, t table) {
	fmt.Fprintln(p, t.title)
	if len(t.rows) == 1 {
		fmt.Fprintln(p, "  nothing")
		return
	}
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], cli.Columns(cli.Printable(cell)))
		}
	}
	cells := func(row []string) []string {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = cli.Printable(cell); t.numbers[i] {
				cells[i] = strings.Repeat(" ", widths[i]-cli.Columns(cells[i])) + cells[i]
			}
		}
		cells[0] = "  " + cells[0]
		return cells
	}
	out := cli.NewTable(cells(t.rows[0])...)
	for _, row := range t.rows[1:] {
		out.AddText(cells(row)...)
	}
	out.Print(p)
}

func printCSV(w io.Writer, t table) error {
	out := csv.NewWriter(w)
	for _, row := range t.rows {
		line := make([]string, len(row))
		for i, cell := range row {
			line[i] = books.Defused(strings.TrimSuffix(cell, " %"))
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// drawAll writes each report as a picture.
func drawAll(w io.Writer, dir string, tables []table) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, t := range tables {
		if len(t.rows) == 1 {
			fmt.Fprintf(w, "%s: nothing to draw\n", t.name)
			continue
		}
		text, err := render(t.charts)
		if err != nil {
			return fmt.Errorf("draw %s: %w", t.name, err)
		}
		path := filepath.Join(dir, t.name+".svg")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
		fmt.Fprintln(w, path)
	}
	return nil
}
