package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestColumns(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"": 0, "paid": 4, "日本語": 6, "Größe": 5, "Gro\u0308ße": 5, "🧾": 2, "❤": 1, "❤\ufe0f": 2, "👍🏽": 4,
		"\x1b[1;31mNEEDS\x1b[0m": 5, "ＡＢ": 4, "\xff\xfe": 2, "é": 1,
	} {
		if got := Columns(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		line string
		most int
		want []string
	}{
		{"it fits", "a bc", 4, []string{"a bc"}},
		{"between words", "the promise holds", 11, []string{"the promise", "  holds"}},
		{"further right than the first", "  state: paid with order X", 16, []string{"  state: paid", "    with order X"}},
		{"a word that is longer than a line", "id aaaaaaaaaaaaaaa b", 10, []string{"id", "  aaaaaaaa", "  aaaaaaa", "  b"}},
		{"wide characters", "日本語日本語", 7, []string{"日本語", "  日本", "  語"}},
		{"what is drawn over a character stays with it", "aaae\u0301e\u0301e\u0301", 4, []string{"aaae\u0301", "  e\u0301e\u0301"}},
		{"colour takes no room", "\x1b[31mred\x1b[0m and blue", 8, []string{"\x1b[31mred\x1b[0m and", "  blue"}},
		{"blanks at the end", "abc       ", 5, []string{"abc"}},
		{"no text", "            ", 5, []string{""}},
	} {
		if got := Fold(row.line, row.most, -1); !slices.Equal(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add("the promise holds", 11)
	f.Add("\x1b[31m日本語\x1b[0m e\u0301 ❤\ufe0f", 5)
	f.Fuzz(func(t *testing.T, line string, most int) {
		most = 4 + most%100
		if most < 4 || strings.ContainsAny(line, "\n\x1b") {
			return
		}
		lines := Fold(line, most, -1)
		for _, l := range lines {
			if Columns(l) > most {
				t.Errorf("%q is wider than %d", l, most)
			}
		}
		if got, want := strings.ReplaceAll(strings.Join(lines, ""), " ", ""), strings.ReplaceAll(line, " ", ""); got != want {
			t.Errorf("%q became %q", want, got)
		}
	})
}

func TestCut(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "waited": "waited", "waiting": "waiti…", "日本語": "日本語", "日本語だ": "日本…", "12345\u0301": "12345\u0301", "1234e\u0301e\u0301e": "1234e\u0301…"} {
		if got := Cut(text, 6); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
