//go:build linux

package main

import (
	"strings"
	"unicode/utf8"
)

// table is rows of cells; a row of one cell is a heading.
type table [][]string

// text aligns the first column left, the others right.
func (t table) text() string {
	widths := make([]int, len(t[0]))
	for _, row := range t {
		for n, cell := range row {
			if len(row) > 1 {
				widths[n] = max(widths[n], utf8.RuneCountInString(cell))
			}
		}
	}
	var b strings.Builder
	for _, row := range t {
		if len(row) == 1 {
			b.WriteString("\n" + row[0] + "\n")
			continue
		}
		line := ""
		for n, cell := range row {
			pad := strings.Repeat(" ", widths[n]-utf8.RuneCountInString(cell))
			if n == 0 {
				line += "  " + cell + pad
			} else {
				line += "  " + pad + cell
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

func (t table) markdown() string {
	var b strings.Builder
	for n, row := range t {
		if len(row) == 1 {
			row = append([]string{"**" + row[0] + "**"}, make([]string, len(t[0])-1)...)
		}
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if n == 0 {
			b.WriteString("|---|" + strings.Repeat("---:|", len(row)-1) + "\n")
		}
	}
	return b.String()
}
