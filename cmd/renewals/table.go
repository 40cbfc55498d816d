package main

import (
	"fmt"
	"strings"
)

// A table has a line for each row where that fits. Where it does not, as many columns as fit stay columns, and the others follow
// below each row by their names.
type table struct {
	layout
	rows [][]string
}

func newTable(heads ...string) *table { return &table{layout: layout{heads: heads, indent: 4}} }

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.rows = append(t.rows, row)
}

func (t *table) print(p *page) {
	t.widths = make([]int, len(t.heads))
	for _, row := range append([][]string{t.heads}, t.rows...) {
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], columns(cell))
		}
	}
	heads := make([]string, t.fits(t.heads, p.width))
	for i := range heads {
		heads[i] = p.paint(bold, t.heads[i])
	}
	if head := t.line(heads); head != "" {
		_ = p.lines(head) // somebody who does not look any more misses nothing
	}
	for _, row := range t.rows {
		_ = p.lines(t.format(row, p.width)...)
	}
}

// A layout is how cells become lines.
type layout struct {
	widths []int    // of the columns, at least
	heads  []string // their names
	prose  bool     // the last cell is text, which needs no name
	indent int      // of what goes below
}

const (
	gap        = 2  // between two columns
	leastProse = 32 // the narrowest that text may become before it goes below
)

func (l layout) width(i int, cell string) int {
	if i < len(l.widths) {
		return max(l.widths[i], columns(cell))
	}
	return columns(cell)
}

// fits is how many cells stay in one line of at most most columns, at least one.
func (l layout) fits(row []string, most int) int {
	used := 0
	for i, cell := range row {
		w := l.width(i, cell)
		if l.prose && i == len(row)-1 {
			w = min(w, leastProse)
		}
		if used += w; most > 0 && used > most && i > 0 {
			return i
		}
		used += gap
	}
	return len(row)
}

// line puts cells into their columns.
func (l layout) line(cells []string) string {
	var b strings.Builder
	for i, cell := range cells {
		if i > 0 {
			b.WriteString(strings.Repeat(" ", gap))
		}
		b.WriteString(pad(cell, l.width(i, cell)))
	}
	return strings.TrimRight(b.String(), " ")
}

func (l layout) format(row []string, most int) []string {
	n := l.fits(row, most)
	switch {
	case most == 0:
		return []string{l.line(row)}
	case n == len(row):
		hang := columns(l.line(append(append([]string{}, row[:n-1]...), "|"))) - 1
		return fold(l.line(row), most, hang)
	}
	var below []string
	for i, cell := range row[n:] {
		cell = strings.TrimSpace(cell)
		if named := n+i < len(l.heads) && !(l.prose && n+i == len(row)-1); named && l.heads[n+i] != "" && cell != "" {
			cell = strings.ToLower(l.heads[n+i]) + " " + cell
		}
		if cell != "" {
			below = append(below, cell)
		}
	}
	indent := strings.Repeat(" ", l.indent)
	lines := fold(l.line(row[:n]), most, l.indent)
	if len(below) == 0 {
		return lines
	}
	return append(lines, fold(indent+strings.Join(below, strings.Repeat(" ", gap)), most, l.indent)...)
}
