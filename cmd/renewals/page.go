package main

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// A page is where text for a person goes. It folds lines to its width, so that no terminal breaks them inside a word; what
// is longer than a line has to be broken all the same.
type page struct {
	io.Writer
	width  int  // in columns; 0: a file, whose lines are as long as they are
	colour bool // SGR sequences, which take no columns
}

var _ io.Writer = (*page)(nil)

// leastWidth is that of the narrowest terminal which lines are fitted to.
const leastWidth = 40

// page is for what a command prints.
func (t *terminal) page() *page { return newPage(t.stdout, t.plain) }

// margin is for what it says beside that, such as problems.
func (t *terminal) margin() *page { return newPage(t.stderr, t.plain) }

// beside is for a person, also where a program reads the page.
func (t *terminal) beside(asJSON bool) *page {
	if asJSON {
		return t.margin()
	}
	return t.page()
}

func newPage(w io.Writer, plain bool) *page {
	p := &page{Writer: w}
	if f, ok := w.(*os.File); ok && cli.IsTerminal(f) {
		p.colour = !plain
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			p.width = max(columns, leastWidth)
		}
	}
	return p
}

// Write takes whole lines.
func (p *page) Write(text []byte) (int, error) {
	if p.width == 0 {
		return p.Writer.Write(text)
	}
	var folded strings.Builder
	for line := range strings.Lines(string(text)) {
		bare := strings.TrimSuffix(line, "\n")
		folded.WriteString(strings.Join(fold(bare, p.width, -1), "\n"))
		folded.WriteString(line[len(bare):])
	}
	if _, err := io.WriteString(p.Writer, folded.String()); err != nil {
		return 0, err
	}
	return len(text), nil
}

// lines writes lines that fit already.
func (p *page) lines(lines ...string) error {
	_, err := io.WriteString(p.Writer, strings.Join(lines, "\n")+"\n")
	return err
}

// style is the number of an SGR sequence. https://ecma-international.org/publications-and-standards/standards/ecma-48/
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	cyan   style = "36"
	alarm  style = "1;31"
)

func (p *page) paint(s style, text string) string {
	if !p.colour || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}
