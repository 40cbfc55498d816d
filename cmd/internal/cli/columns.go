package cli

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Columns is how many a text takes on a terminal.
func Columns(text string) int {
	sum := 0
	for _, n := range glyphs(text) {
		sum += n
	}
	return sum
}

// glyphs yields the pieces of a text that must not be torn, and how many columns each takes: a character with what is drawn over
// it, with the sequences around it.
func glyphs(text string) iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for text != "" {
			end, n := glyph(text)
			if !yield(text[:end], n) {
				return
			}
			text = text[end:]
		}
	}
}

// picture, a variation selector, makes a wide picture of the character before it. https://www.unicode.org/reports/tr51/
const picture = '\ufe0f'

func glyph(text string) (end, n int) {
	for end < len(text) {
		if skip := sequence(text[end:]); skip > 0 {
			end += skip
			continue
		}
		r, size := utf8.DecodeRuneInString(text[end:])
		w := columnsOf(r)
		if n > 0 && w > 0 {
			return end, n
		}
		if n += w; r == picture && n == 1 {
			n = 2
		}
		end += size
	}
	return end, n
}

// columnsOf is how many columns a character takes by itself. https://www.unicode.org/reports/tr11/
func columnsOf(r rune) int {
	if r < 0x80 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// sequence is the length of the SGR sequence that a text begins with, 0 where there is none. Strangers' text has none, see [Printable].
func sequence(text string) int {
	if !strings.HasPrefix(text, "\x1b[") {
		return 0
	}
	return strings.IndexByte(text, 'm') + 1
}

// pad fills a text up to n columns.
func pad(text string, n int) string { return text + strings.Repeat(" ", max(n-Columns(text), 0)) }

// Cut is as much of a text as fits into most columns.
func Cut(text string, most int) string {
	if Columns(text) <= most {
		return text
	}
	end, used := 0, 0
	for g, n := range glyphs(text) {
		if used+n >= most {
			break
		}
		end, used = end+len(g), used+n
	}
	return text[:end] + "…"
}

// Fold breaks a line between words into lines of at most most columns. The second and further ones begin at column hang, by
// default a little right of the first.
func Fold(line string, most, hang int) []string {
	if Columns(line) <= most {
		return []string{line}
	}
	if hang < 0 {
		hang = len(line) - len(strings.TrimLeft(line, " ")) + 2
	}
	indent := strings.Repeat(" ", min(hang, most/2))
	var lines []string
	for rest := line; rest != ""; {
		if len(lines) > 0 {
			rest = indent + strings.TrimLeft(rest, " ")
		}
		if Columns(rest) <= most {
			return append(lines, rest)
		}
		end := breakAt(rest, most)
		lines = append(lines, strings.TrimRight(rest[:end], " "))
		if rest = strings.TrimLeft(rest[end:], " "); rest == "" {
			break
		}
	}
	return lines
}

// breakAt is the byte before which a line is to be broken to take at most most columns: at a blank, or inside a word that
// has a line for itself already.
func breakAt(line string, most int) int {
	indent := len(line) - len(strings.TrimLeft(line, " "))
	at, used, blank := 0, 0, 0
	for g, n := range glyphs(line) {
		if used+n > most {
			break
		}
		if at > indent && line[at] == ' ' {
			blank = at
		}
		at, used = at+len(g), used+n
	}
	if at < len(line) && line[at] == ' ' || blank == 0 {
		return at
	}
	return blank
}
