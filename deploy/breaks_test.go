package deploy_test

import (
	"os"
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
		if strings.Count(section, "\n| `"+string(kind)+"` |") != 1 {
			t.Errorf("%s has no row, or two", kind)
		}
	}
}
