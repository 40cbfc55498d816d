package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// decide are the flags that take a decision, pick what it or an answer is about, or confirm it, by command. They are on the command line
// or nowhere.
var decide = map[string][]string{
	"sync":      {},
	"find":      {"limit", "json"},
	"export":    {"since", "until", "account", "kind", "csv"},
	"report":    {"since", "until", "account", "by", "csv", "svg"},
	"reconcile": {"account", "from", "to", "delimiter", "decimal", "dates", "apply", "json"},
	"breaks":    {"account", "kind", "all", "json", "csv"},
	"close":     {"from", "actor", "note", "yes", "json"},
}

// A variable left in a shell profile closes nothing, settles nothing and picks nothing.
func TestNothingInAnEnvironmentDecides(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&commands{}, kong.Vars{"version": "test"}, cli.Durations())
	if err != nil {
		t.Fatal(err)
	}
	obeyed := &cli.Settings{Env: func(string) (string, bool) { return "true", true }, File: &cli.ConfigFile{}, Shared: true}
	seen := map[string]bool{}
	err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		command, ok := node.(*kong.Command)
		if !ok {
			return next(nil)
		}
		seen[command.Name] = true
		var there []string
		for _, flag := range command.Flags {
			there = append(there, flag.Name)
			text, err := obeyed.Resolve(nil, nil, flag)
			switch decides := slices.Contains(decide[command.Name], flag.Name); {
			case decides && (text != nil || err != nil || !cli.OnCommandLine(flag)):
				t.Errorf("%s --%s: %v, %v from a variable, want nothing", command.Name, flag.Name, text, err)
			case !decides && cli.OnCommandLine(flag):
				t.Errorf("%s --%s: has no variable, want one, or a place in the list of what decides", command.Name, flag.Name)
			}
		}
		for _, name := range decide[command.Name] {
			if !slices.Contains(there, name) {
				t.Errorf("%s --%s: there is no such flag", command.Name, name)
			}
		}
		return next(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range decide {
		if !seen[name] {
			t.Errorf("%s: there is no such command", name)
		}
	}
}

// Each of these would close a break that nobody has looked at.
func TestVariablesDoNotClose(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{map[string]string{"RENEWALS_NOTE": "done", "RENEWALS_YES": "true"}, []string{"close", someBreak}, "--note: not set"},
		{map[string]string{"RENEWALS_FROM": "breaks.csv", "RENEWALS_YES": "true"}, []string{"close"}, "ID: found nothing"},
	} {
		row.env["NATS_URL"] = "nats://127.0.0.1:1"
		if code, out, told := asked(t, row.env, row.args...); code != cli.ExitUsage || out != "" || !strings.Contains(told, row.want) {
			t.Errorf("%v with %v: %d, %q, %q; want %q", row.args, row.env, code, out, told, row.want)
		}
	}
}

// TestDocumentedCommands: what the documents tell to type is there, every flag of it.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&commands{}, kong.Vars{"version": "test"}, cli.Durations())
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string][]string{}
	for _, node := range parser.Model.Children {
		for _, flag := range append(node.Flags, parser.Model.Flags...) {
			flags[node.Name] = append(flags[node.Name], "--"+flag.Name)
		}
	}
	said := 0
	for _, file := range []string{"../../deploy/RUNBOOK.md", "../../README.md", "../../deploy/README.md", "../../messages/README.md", "../../CHANGELOG.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range regexp.MustCompile("(?m)(?:^    |`)renewals-desk ([a-z][^`#\n]*)").FindAllStringSubmatch(string(text), -1) {
			words := strings.Fields(command[1])
			known, ok := flags[words[0]]
			if said++; !ok {
				t.Errorf("%s: renewals-desk has no %s", file, words[0])
			}
			for _, word := range words[1:] {
				if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") && !slices.Contains(known, flag) {
					t.Errorf("%s: renewals-desk %s has no %s", file, words[0], flag)
				}
			}
		}
	}
	if said < 8 {
		t.Errorf("found %d commands", said)
	}
}
