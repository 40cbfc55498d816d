package main

import (
	"os"
	"strings"
	"testing"
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
