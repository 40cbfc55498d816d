package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints what the shell has to read once, by eval in its start file or as a file among its completions. All of them ask the
// program itself, so that what they offer is what this version has.
func (c *completionCmd) Run(t *terminal) error {
	_, err := fmt.Fprint(t.stdout, map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Shell])
	return err
}

const (
	// https://www.gnu.org/software/bash/manual/html_node/Programmable-Completion-Builtins.html
	bashCompletion = `_renewals() {
	local IFS=$'\n'
	COMPREPLY=($("${COMP_WORDS[0]}" __complete bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _renewals renewals
`
	// https://zsh.sourceforge.io/Doc/Release/Completion-System.html
	zshCompletion = `#compdef renewals
_renewals() {
	local -a offers
	offers=("${(@f)$("${words[1]}" __complete zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n "${offers[*]}" ]]; then
		_describe renewals offers
	else
		_files
	fi
}
if [[ "${funcstack[1]}" = _renewals ]]; then
	_renewals
else
	compdef _renewals renewals
fi
`
	// https://fishshell.com/docs/current/completions.html
	fishCompletion = `function __renewals_offers
	set -l words (commandline -opc) (commandline -ct)
	$words[1] __complete fish -- $words[2..-1] 2>/dev/null
end
complete -c renewals -f -n 'count (__renewals_offers) >/dev/null' -a '(__renewals_offers)'
complete -c renewals -F -n 'not count (__renewals_offers) >/dev/null'
`
)

// completeCmd is what the shells run for each Tab.
type completeCmd struct {
	Account cli.AccountSettings `embed:""`

	Shell string   `arg:"" enum:"bash,zsh,fish"`
	Words []string `arg:"" optional:"" help:"Those of the command line so far, without the program's name; the last one is to be completed."`
}

func (c *completeCmd) Run(s *cli.Settings, t *terminal) error {
	words := c.Words
	if len(words) == 0 {
		words = []string{""}
	}
	begun := words[len(words)-1]
	if c.Shell == "bash" {
		words = rejoined(words)
	}
	for _, o := range (&completer{s.Grammar.Node, func() ([]messages.Account, error) { return c.Account.Names(s) }}).offers(words) {
		if _, err := fmt.Fprintln(t.stdout, o.text(c.Shell, words[len(words)-1], begun)); err != nil {
			return err
		}
	}
	return nil
}

// rejoined undoes that bash splits words before and behind a =.
func rejoined(words []string) []string {
	var joined []string
	for i, word := range words {
		if n := len(joined); n > 0 && strings.HasPrefix(joined[n-1], "--") && (word == "=" || i > 0 && words[i-1] == "=") {
			joined[n-1] += word
			continue
		}
		joined = append(joined, word)
	}
	return joined
}

// offer is a word that may stand at the end of the line.
type offer struct{ word, about string }

// text is the offer as a shell wants it. bash replaces only what it takes for a word, which begins behind a =.
func (o offer) text(shell, word, begun string) string {
	about, _, _ := strings.Cut(strings.TrimSpace(o.about), "\n")
	switch shell {
	case "zsh":
		return strings.ReplaceAll(o.word, ":", `\:`) + ":" + about
	case "fish":
		return o.word + "\t" + about
	}
	if i := strings.Index(word, "="); i >= 0 && begun != word {
		return strings.TrimPrefix(o.word, word[:i+1])
	}
	return o.word
}

// completer knows what the program has.
type completer struct {
	program  *kong.Node
	accounts func() ([]messages.Account, error)
}

// offers are the words that may stand in place of the last one.
func (c *completer) offers(words []string) []offer {
	node, value, position := c.program, (*kong.Flag)(nil), 0
	last := words[len(words)-1]
	for _, word := range words[:len(words)-1] {
		name, isFlag := strings.CutPrefix(word, "--")
		name, _, hasValue := strings.Cut(name, "=")
		switch child := childOf(node, word); {
		case value != nil:
			value = nil
		case isFlag:
			if f := flagOf(node, name); f != nil && !hasValue && !f.IsBool() {
				value = f
			}
		case child != nil:
			node = child
		default:
			position++
		}
	}
	var all []offer
	name, _, hasValue := strings.Cut(strings.TrimPrefix(last, "--"), "=")
	switch {
	case value != nil:
		all = c.values(node, value.Value)
	case strings.HasPrefix(last, "--") && hasValue:
		if f := flagOf(node, name); f != nil {
			for _, o := range c.values(node, f.Value) {
				all = append(all, offer{"--" + name + "=" + o.word, o.about})
			}
		}
	case strings.HasPrefix(last, "-"):
		all = flags(node)
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				all = append(all, offer{child.Name, child.Help})
			}
		}
		if n := len(node.Positional); n > 0 && (position < n || node.Positional[n-1].IsSlice()) {
			all = append(all, c.values(node, node.Positional[min(position, n-1)])...)
		}
	}
	return slices.DeleteFunc(all, func(o offer) bool { return !strings.HasPrefix(o.word, last) })
}

func childOf(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

func flagOf(node *kong.Node, name string) *kong.Flag {
	for _, f := range slices.Concat(node.AllFlags(false)...) {
		if f.Name == name {
			return f
		}
	}
	return nil
}

func flags(node *kong.Node) []offer {
	var all []offer
	for _, f := range slices.Concat(node.AllFlags(true)...) {
		all = append(all, offer{"--" + f.Name, f.Help})
	}
	return all
}

// values are those that a flag or an argument may have, as far as they are known; none: any, or a file.
func (c *completer) values(node *kong.Node, v *kong.Value) []offer {
	var all []offer
	switch what := node.Name + " " + v.Name; {
	case v.Enum != "":
		return listed(v.EnumSlice())
	case what == "trigger case", what == "sample case":
		for _, one := range klarnasim.Cases() {
			all = append(all, offer{one.Name, one.Answers})
		}
	case what == "schema name":
		return listed(append(messages.SchemaNames(), configSchema))
	case what == "watch kind":
		return listed(messages.Kinds())
	case v.Flag != nil && v.Name == "reason":
		return listed(slices.Concat(messages.Reasons(messages.KindRejected), messages.Reasons(messages.KindUnresolved)))
	case v.Flag != nil && v.Name == "account":
		if accounts, err := c.accounts(); err == nil {
			return listed(accounts)
		}
	}
	return all
}

func listed[Word ~string](words []Word) []offer {
	var all []offer
	for _, w := range words {
		if w != "" && !slices.Contains(all, offer{string(w), ""}) {
			all = append(all, offer{string(w), ""})
		}
	}
	return all
}
