package main

import (
	"os"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// The README shows what the command prints.
func TestReadmeHasTheDunningTable(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var out, problems strings.Builder
	if code := run(t.Context(), []string{"dunning-table", "--markdown"}, strings.NewReader(""), &out, &problems, func(string) (string, bool) { return "", false }); code != exitDone {
		t.Fatalf("exit %d: %s", code, problems.String())
	}
	_, rest, _ := strings.Cut(string(readme), "<!-- dunning-table -->\n")
	if table, _, _ := strings.Cut(rest, "\n<!-- /dunning-table -->"); table != strings.TrimSpace(out.String()) {
		t.Error("README.md: the dunning table is not what `renewals dunning-table --markdown` prints")
	}
}

// The capture jobs that the README shows are valid, and the key is theirs.
func TestReadmeHasCaptures(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(readme), "$ cat captures.jsonl\n")
	jobs, rest, _ := strings.Cut(example, "$ renewals publish --capture")
	if _, told := finish(t, exitDone, variables{}, jobs, "validate", "--capture"); !strings.Contains(told, "2 jobs, 0 invalid, 0 warnings") {
		t.Errorf("validate --capture says %q of the README's example", told)
	}
	key := messages.NewCaptureKey(messages.NewRenewalKey("1234834", "2026-12"), "1234834/2026-12/c1")
	if _, rest, _ = strings.Cut(rest, "$ uuidgen "); !strings.Contains(rest, `"capture:1234834/2026-12/c1"`) || !strings.Contains(rest, "\n"+string(key)+"\n") {
		t.Errorf("README.md: the key of its capture is %s", key)
	}
}
