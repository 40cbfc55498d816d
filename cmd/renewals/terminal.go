package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// terminal is what a command talks to.
type terminal struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	plain          bool // no colours, whatever it can show
}

func newTerminal(stdin io.Reader, stdout, stderr io.Writer, env environment) *terminal {
	noColor, _ := env("NO_COLOR") // https://no-color.org
	kind, _ := env("TERM")
	return &terminal{stdin, stdout, stderr, noColor != "" || kind == "dumb"}
}

// logs is where the log goes.
func (t *terminal) logs() cli.Log {
	return cli.Log{Program: "renewals", Stderr: t.stderr, Margin: t.margin(), Plain: t.plain}
}

// confirm asks a person, and answers no where there is none.
func (t *terminal) confirm(question string) bool {
	if !isTerminal(t.stdin) {
		return false
	}
	fmt.Fprintf(t.margin(), "%s [y/N] ", question)
	answer, _ := bufio.NewReader(t.stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
