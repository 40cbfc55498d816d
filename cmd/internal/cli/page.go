package cli

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// A Page is where text for a person goes. It folds lines to its width, so that no terminal breaks them inside a word; what
// is longer than a line has to be broken all the same.
type Page struct {
	io.Writer
	Width  int  // in columns; 0: a file, whose lines are as long as they are
	Colour bool // SGR sequences, which take no columns
}

var _ io.Writer = (*Page)(nil)

// leastWidth is that of the narrowest terminal which lines are fitted to.
const leastWidth = 40

// NewPage fits lines to the terminal that w is. Without colours where plain says so, and where it is none.
func NewPage(w io.Writer, plain bool) *Page {
	p := &Page{Writer: w}
	if f, ok := w.(*os.File); ok && IsTerminal(f) {
		p.Colour = !plain
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			p.Width = max(columns, leastWidth)
		}
	}
	return p
}

// Write takes whole lines.
func (p *Page) Write(text []byte) (int, error) {
	if p.Width == 0 {
		return p.Writer.Write(text)
	}
	var folded strings.Builder
	for line := range strings.Lines(string(text)) {
		bare := strings.TrimSuffix(line, "\n")
		folded.WriteString(strings.Join(Fold(bare, p.Width, -1), "\n"))
		folded.WriteString(line[len(bare):])
	}
	if _, err := io.WriteString(p.Writer, folded.String()); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Lines writes lines that fit already.
func (p *Page) Lines(lines ...string) error {
	_, err := io.WriteString(p.Writer, strings.Join(lines, "\n")+"\n")
	return err
}

// Style is the number of an SGR sequence. https://ecma-international.org/publications-and-standards/standards/ecma-48/
type Style string

const (
	Plain  Style = ""
	Bold   Style = "1"
	Dim    Style = "2"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
	Cyan   Style = "36"
	Alarm  Style = "1;31"
)

// Paint puts a text into a style, where the page has any.
func (p *Page) Paint(s Style, text string) string {
	if !p.Colour || s == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}
