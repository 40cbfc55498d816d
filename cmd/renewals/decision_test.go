package main

import (
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// decides are the flags that take a decision about money, pick what it is about, or confirm it. A flag that is added to one of
// the commands below belongs here or among the settings: the test does not guess.
var decides = map[string][]string{
	"provision":    {"accept-empty-journal", "accept-restored-journal", "force"},
	"work":         {"accept-empty-journal", "force"},
	"resolve":      {"paid", "not-charged", "captured", "not-captured", "order-id", "capture-id", "correct", "actor", "note", "yes"},
	"cancel":       {"undo", "actor", "note", "yes"},
	"show":         {"all", "as"},
	"dead list":    {"account", "reason"},
	"dead show":    {"reveal-token"},
	"dead replay":  {"all", "account", "reason", "yes"},
	"dead drop":    {"all", "account", "reason", "yes"},
	"token cancel": {"yes"},
}

// S62: a variable left in a shell profile said "not charged", and a dunning was recorded.
func TestNothingInAnEnvironmentDecides(t *testing.T) {
	t.Parallel()
	var grammar commands
	parser, err := kong.New(&grammar, defaults(), durations())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		command, ok := node.(*kong.Command)
		if !ok {
			return next(nil)
		}
		for _, flag := range command.Flags {
			if _, name, _ := strings.Cut(command.FullPath(), " "); flag.Tag.Get("from") == "command-line" {
				found[name] = append(found[name], flag.Name)
			}
		}
		return next(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range slices.Sorted(maps.Keys(found)) {
		got, want := slices.Sorted(slices.Values(found[command])), slices.Sorted(slices.Values(decides[command]))
		if !slices.Equal(got, want) {
			t.Errorf("%s: from the command line alone: %v, want %v", command, got, want)
		}
	}
	for command := range decides {
		if found[command] == nil {
			t.Errorf("%s: no flag is from the command line alone, want %v", command, decides[command])
		}
	}
}

// S62: each of these was obeyed once.
func TestVariablesDoNotDecide(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		variables []string
		args      []string
		want      string
	}{
		{[]string{"RENEWALS_NOT_CHARGED", "true", "RENEWALS_YES", "true"}, []string{"resolve", "1/2"}, "missing flags: --paid or --not-charged"},
		{[]string{"RENEWALS_PAID", "true", "RENEWALS_ORDER_ID", "x", "RENEWALS_YES", "true"}, []string{"resolve", "1/2"}, "missing flags: --paid or --not-charged"},
		{[]string{"RENEWALS_ALL", "true", "RENEWALS_YES", "true", "RENEWALS_REASON", "invalid"}, []string{"dead", "drop"}, "expected"},
	} {
		env := variables{}.with(row.variables...)
		var told strings.Builder
		if code := run(t.Context(), row.args, strings.NewReader(""), io.Discard, &told, env.lookup); code != exitUsage || !strings.Contains(told.String(), row.want) {
			t.Errorf("%v with %v: exit code %d and %q, want %d and %q", row.args, row.variables, code, told.String(), exitUsage, row.want)
		}
	}
}
