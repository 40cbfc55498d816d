// Package clitest makes sure that what the programs print for people fits their terminals.
package clitest

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// longest is a word that every terminal has room for in a line of its own.
const longest = 64

// Fits prints to a file and to terminals of 80, 100 and 200 columns: each line fits, all that a file gets is there, and no word is torn
// that a line has room for. unnamed are heads of columns that need no name below their rows.
func Fits(t *testing.T, name string, print func(*cli.Page), unnamed ...string) {
	t.Helper()
	var whole bytes.Buffer
	print(&cli.Page{Writer: &whole})
	if strings.Contains(whole.String(), "\x1b") {
		t.Errorf("%s: colour in a file", name)
	}
	for _, width := range []int{80, 100, 200} {
		var fitted bytes.Buffer
		print(&cli.Page{Writer: &fitted, Width: width, Colour: true})
		for line := range strings.Lines(fitted.String()) {
			if n := cli.Columns(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("%s on %d columns: %d columns in %q", name, width, n, line)
			}
		}
		words := strings.Fields(colour.ReplaceAllString(fitted.String(), ""))
		squeezed := strings.Join(words, "")
		for _, word := range strings.Fields(whole.String()) {
			switch {
			case slices.Contains(unnamed, word):
			case cli.Columns(word) > longest:
				if !strings.Contains(squeezed, word) {
					t.Errorf("%s on %d columns: %q is missing", name, width, word)
				}
			case !slices.Contains(words, word) && !slices.Contains(words, strings.ToLower(word)):
				t.Errorf("%s on %d columns: %q is missing or torn", name, width, word)
			}
		}
	}
}
