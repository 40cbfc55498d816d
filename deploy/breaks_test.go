package deploy_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// TestRunbookHasEveryBreak: whoever is told of one finds what to do about it.
func TestRunbookHasEveryBreak(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## What reconcile finds\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, kind := range messages.BreakKinds() {
		_, row, there := strings.Cut(section, "\n| `"+string(kind)+"` |")
		if !there || strings.Contains(row, "\n| `"+string(kind)+"` |") {
			t.Errorf("%s has no row, or two", kind)
		}
		row, _, _ = strings.Cut(row, "\n")
		if cells := strings.Split(strings.TrimSuffix(row, "|"), "|"); len(cells) != 4 || slices.ContainsFunc(cells, func(c string) bool { return len(strings.TrimSpace(c)) < 10 }) {
			t.Errorf("%s: found %q, expected what it means, what to look at, what to do, and when it is closed", kind, cells)
		}
	}
}
