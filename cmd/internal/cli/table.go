package cli

import (
	"fmt"
	"strings"
)

// A Table has a line for each row where that fits. Where it does not, as many columns as fit stay columns, and the others follow
// below each row by their names.
type Table struct {
	Layout
	rows [][]string
}

// NewTable has a column for each head.
func NewTable(heads ...string) *Table { return &Table{Layout: Layout{heads: heads, Indent: 4}} }

// Add appends a row.
func (t *Table) Add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.AddText(row...)
}

// AddText appends a row of texts.
func (t *Table) AddText(cells ...string) { t.rows = append(t.rows, cells) }

// Print writes it as wide as its cells and the page are.
func (t *Table) Print(p *Page) {
	t.Widths = make([]int, len(t.heads))
	for _, row := range append([][]string{t.heads}, t.rows...) {
		for i, cell := range row {
			t.Widths[i] = max(t.Widths[i], Columns(cell))
		}
	}
	heads := make([]string, t.fits(t.heads, p.Width))
	for i := range heads {
		heads[i] = p.Paint(Bold, t.heads[i])
	}
	if head := t.line(heads); head != "" {
		_ = p.Lines(head) // somebody who does not look any more misses nothing
	}
	for _, row := range t.rows {
		_ = p.Lines(t.Format(row, p.Width)...)
	}
}

// A Layout is how cells become lines.
type Layout struct {
	Widths []int    // of the columns, at least
	heads  []string // their names
	Prose  bool     // the last cell is text, which needs no name
	Indent int      // of what goes below
}

const (
	gap        = 2  // between two columns
	leastProse = 32 // the narrowest that text may become before it goes below
)

func (l Layout) width(i int, cell string) int {
	if i < len(l.Widths) {
		return max(l.Widths[i], Columns(cell))
	}
	return Columns(cell)
}

// fits is how many cells stay in one line of at most most columns, at least one.
func (l Layout) fits(row []string, most int) int {
	used := 0
	for i, cell := range row {
		w := l.width(i, cell)
		if l.Prose && i == len(row)-1 {
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
func (l Layout) line(cells []string) string {
	var b strings.Builder
	for i, cell := range cells {
		if i > 0 {
			b.WriteString(strings.Repeat(" ", gap))
		}
		b.WriteString(pad(cell, l.width(i, cell)))
	}
	return strings.TrimRight(b.String(), " ")
}

// Format makes lines of a row that take at most most columns, 0 for one line, however long.
func (l Layout) Format(row []string, most int) []string {
	n := l.fits(row, most)
	switch {
	case most == 0:
		return []string{l.line(row)}
	case n == len(row):
		hang := Columns(l.line(append(append([]string{}, row[:n-1]...), "|"))) - 1
		return Fold(l.line(row), most, hang)
	}
	var below []string
	for i, cell := range row[n:] {
		cell = strings.TrimSpace(cell)
		if named := n+i < len(l.heads) && !(l.Prose && n+i == len(row)-1); named && l.heads[n+i] != "" && cell != "" {
			cell = strings.ToLower(strings.TrimSpace(l.heads[n+i])) + " " + cell
		}
		if cell != "" {
			below = append(below, cell)
		}
	}
	indent := strings.Repeat(" ", l.Indent)
	lines := Fold(l.line(row[:n]), most, l.Indent)
	if len(below) == 0 {
		return lines
	}
	return append(lines, Fold(indent+strings.Join(below, strings.Repeat(" ", gap)), most, l.Indent)...)
}
