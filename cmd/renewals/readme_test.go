package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

// The pages that show commands.
var pages = []string{"README.md", "CHANGELOG.md", "messages/README.md", "deploy/README.md", "deploy/RUNBOOK.md", "deploy/METRICS.md", "test/bench/README.md"}

// shownCommand is one in a line of its own, behind a prompt or indented, or inside a sentence.
var shownCommand = regexp.MustCompile("(?m)^(?:    |\\$ )(?:[A-Z_]+=\\S+ )*renewals ([^\\n]+)|`renewals ([^`\\n]+)`")

// Every command that a page shows, and every flag of it, is one that the program has.
func TestPagesShowCommandsThatExist(t *testing.T) {
	t.Parallel()
	var grammar commands
	parser, err := kong.New(&grammar, kong.Resolvers(&cli.Settings{}), cli.Durations(), defaults())
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, page := range pages {
		text, err := os.ReadFile("../../" + page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range shownCommand.FindAllStringSubmatch(string(text), -1) {
			command, node := m[1]+m[2], parser.Model.Node
			words := strings.Fields(strings.NewReplacer(",", " ", ";", " ", "(", " ", ")", " ").Replace(command))
			for len(words) > 0 {
				i := slices.IndexFunc(node.Children, func(c *kong.Node) bool { return c.Name == words[0] })
				if i < 0 {
					break
				}
				node, words = node.Children[i], words[1:]
			}
			if node == parser.Model.Node && words[0] != "COMMAND" && !strings.HasPrefix(words[0], "--") {
				t.Errorf("%s: renewals %s: no such command", page, command)
				continue
			}
			shown++
			for _, word := range words {
				if strings.ContainsAny(word, "#|&<") {
					break // what is behind is not the command's
				}
				name, isFlag := strings.CutPrefix(word, "--")
				name, _, _ = strings.Cut(name, "=")
				known := func(f *kong.Flag) bool { return f.Name == name }
				if isFlag && name != "" && words[0] != "COMMAND" && !slices.ContainsFunc(slices.Concat(node.AllFlags(true)...), known) {
					t.Errorf("%s: renewals %s: no flag --%s", page, command, name)
				}
			}
		}
	}
	if shown < 50 {
		t.Errorf("found %d commands: the search is broken", shown)
	}
}

// The README shows what the command prints.
func TestReadmeHasTheDunningTable(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../messages/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var out, problems strings.Builder
	if code := run(t.Context(), []string{"dunning-table", "--markdown"}, strings.NewReader(""), &out, &problems, func(string) (string, bool) { return "", false }); code != cli.ExitDone {
		t.Fatalf("exit %d: %s", code, problems.String())
	}
	_, rest, _ := strings.Cut(string(readme), "<!-- dunning-table -->\n")
	if table, _, _ := strings.Cut(rest, "\n<!-- /dunning-table -->"); table != strings.TrimSpace(out.String()) {
		t.Error("messages/README.md: the dunning table is not what `renewals dunning-table --markdown` prints")
	}
}

// The capture jobs that the README shows are valid, and the key is theirs.
func TestReadmeHasCaptures(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../messages/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(readme), "$ cat captures.jsonl\n")
	jobs, rest, _ := strings.Cut(example, "$ renewals publish --capture")
	if _, told := finish(t, cli.ExitDone, variables{}, jobs, "validate", "--capture"); !strings.Contains(told, "2 jobs, 0 invalid, 0 warnings") {
		t.Errorf("validate --capture says %q of the README's example", told)
	}
	key := messages.NewCaptureKey(messages.NewRenewalKey("1234834", "2026-12"), "1234834/2026-12/c1")
	if _, rest, _ = strings.Cut(rest, "$ uuidgen "); !strings.Contains(rest, `"capture:1234834/2026-12/c1"`) || !strings.Contains(rest, "\n"+string(key)+"\n") {
		t.Errorf("messages/README.md: the key of its capture is %s", key)
	}
}

// The job of the first transcript is valid and due on the day on which it is read.
func TestReadmeHasAJobOfToday(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(readme), "$ renewals publish <<EOF\n")
	example, _, found := strings.Cut(example, "\nEOF\n")
	if !found {
		t.Fatal("README.md has no job to publish")
	}
	job, err := exec.Command("sh", "-c", "cat <<EOF\n"+example+"\nEOF\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, told := finish(t, cli.ExitDone, variables{}, string(job), "validate"); !strings.Contains(told, "1 jobs, 0 invalid, 0 warnings") {
		t.Errorf("validate says %q of the README's example", told)
	}
	if key := messages.NewIdempotencyKey(messages.NewRenewalKey("1234834", "2026-12"), "1234834/2026-12/1"); !strings.Contains(string(job), "1234834/2026-12/1") || key != "066fb987-94e8-5d9a-9b0b-0d279f430fd1" {
		t.Errorf("the key of the README's job is %s", key)
	}
}
