package main

import (
	"slices"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

func TestOffers(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&commands{}, defaults(), cli.Durations())
	if err != nil {
		t.Fatal(err)
	}
	c := &completer{parser.Model.Node, func() ([]messages.Account, error) { return []messages.Account{"de", "se"}, nil }}
	for _, row := range []struct {
		name  string
		words []string
		want  []string
	}{
		{"commands", []string{"pu"}, []string{"publish"}},
		{"what is hidden is not offered", []string{"__"}, nil},
		{"commands below a command", []string{"dead", "s"}, []string{"show"}},
		{"flags", []string{"cancel", "--und"}, []string{"--undo"}},
		{"flags of all commands", []string{"status", "--con"}, []string{"--config"}},
		{"values of a flag", []string{"work", "--log-format", "c"}, []string{"console"}},
		{"values behind =", []string{"work", "--log-format=c"}, []string{"--log-format=console"}},
		{"a flag without a value takes no word", []string{"status", "--json", "--wat"}, []string{"--watch"}},
		{"a flag with one takes one", []string{"--config", "dead", "sc"}, []string{"schema"}},
		{"reasons", []string{"dead", "list", "--reason", "blocked"}, []string{"blocked_by_unresolved"}},
		{"accounts", []string{"watch", "--account", ""}, []string{"de", "se"}},
		{"cases", []string{"trigger", "soft-decline-"}, []string{"soft-decline-once"}},
		{"one case is enough", []string{"trigger", "ok", "soft"}, nil},
		{"any number of cases", []string{"sample", "ok", "soft-decline-"}, []string{"soft-decline-once"}},
		{"schemas", []string{"schema", "conf"}, []string{"config"}},
		{"files", []string{"publish", ""}, nil},
		{"no such command", []string{"pubish", "--ca"}, nil},
	} {
		var got []string
		for _, o := range c.offers(row.words) {
			got = append(got, o.word)
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: %q offers %q, want %q", row.name, row.words, got, row.want)
		}
	}
}
