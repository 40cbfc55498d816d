package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/books"
)

// A chart is stacked bars.
type chart struct {
	title, unit string
	labels      []string // one for each bar
	series      []series // from the bottom up
	percent     bool     // of 100: the axis is fixed
	span        books.Span
	days        bool // labels are days, in order, of which an axis shows some
}

type series struct {
	name   string
	values []float64 // one for each bar
}

// mostSeries is how many colours a person tells apart; what is rarer is drawn together.
const mostSeries = 6

// overTime makes a bar of each span from the first to the last, those in which there was nothing included.
func overTime(title, unit string, counts []books.Count, span books.Span, value func(books.Count) float64) chart {
	c := chart{title: title, unit: unit, span: span, days: true}
	if len(counts) == 0 {
		return c
	}
	at := map[string]int{}
	for day, last := counts[0].Day, counts[len(counts)-1].Day; day <= last; day = following(day, span) {
		at[day] = len(c.labels)
		c.labels = append(c.labels, day)
	}
	c.title += ", " + c.labels[0] + " to " + c.labels[len(c.labels)-1]
	totals := map[string]float64{}
	for _, one := range counts {
		totals[one.Of] += value(one)
	}
	names := slices.SortedFunc(maps.Keys(totals), func(a, b string) int { return cmp.Or(cmp.Compare(totals[b], totals[a]), strings.Compare(a, b)) })
	place := map[string]int{}
	for i, name := range names {
		if place[name] = i; len(names) > mostSeries && i >= mostSeries-1 {
			place[name], name = mostSeries-1, "other reasons"
		}
		if place[names[i]] == len(c.series) {
			c.series = append(c.series, series{name: strings.ReplaceAll(name, "_", " "), values: make([]float64, len(c.labels))})
		}
	}
	for _, one := range counts {
		if i, ok := at[one.Day]; ok {
			c.series[place[one.Of]].values[i] += value(one)
		}
	}
	return c
}

// following is the day on which the next span begins. A day that is none ends the axis.
func following(day string, span books.Span) string {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return "~"
	}
	switch span {
	case books.Weeks:
		t = t.AddDate(0, 0, 7)
	case books.Months:
		t = t.AddDate(0, 1, 0)
	default:
		t = t.AddDate(0, 0, 1)
	}
	return t.Format(time.DateOnly)
}

// major is an amount in the currency's own units, for a picture only.
func major(minor int64, currency string) float64 {
	v := float64(minor)
	digits, _ := messages.MinorUnits(currency)
	for range digits {
		v /= 10
	}
	return v
}
