package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// terminal is what a command talks to.
type terminal struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	plain          bool // no colours, whatever it can show
}

func newTerminal(stdin io.Reader, stdout, stderr io.Writer, env cli.Environment) *terminal {
	noColor, _ := env("NO_COLOR") // https://no-color.org
	kind, _ := env("TERM")
	return &terminal{stdin, stdout, stderr, noColor != "" || kind == "dumb"}
}

// page is for what a command prints.
func (t *terminal) page() *cli.Page { return cli.NewPage(t.stdout, t.plain) }

// margin is for what it says beside that, such as problems.
func (t *terminal) margin() *cli.Page { return cli.NewPage(t.stderr, t.plain) }

// beside is for a person, also where a program reads the page.
func (t *terminal) beside(asJSON bool) *cli.Page {
	if asJSON {
		return t.margin()
	}
	return t.page()
}

// logs is where the log goes.
func (t *terminal) logs() cli.Log {
	return cli.Log{Program: "renewals", Stderr: t.stderr, Margin: t.margin(), Plain: t.plain}
}

// agreed asks a person before something changes, see [cli.Agreed].
func (t *terminal) agreed(ctx context.Context, yes bool, question string) error {
	return cli.Agreed(ctx, t.stdin, t.margin(), yes, question)
}

// secret asks for one line that is not shown. An interrupted question leaves the terminal as it was.
func (t *terminal) secret(ctx context.Context, keyboard *os.File, question string) ([]byte, error) {
	fd := int(keyboard.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(t.stderr, question)
	defer fmt.Fprintln(t.stderr)
	type answer struct {
		text []byte
		err  error
	}
	typed := make(chan answer, 1)
	go func() { // which ends with the process where nobody types
		text, err := term.ReadPassword(fd)
		typed <- answer{text, err}
	}()
	select {
	case a := <-typed:
		return a.text, a.err
	case <-ctx.Done():
		_ = term.Restore(fd, before)
		return nil, ctx.Err()
	}
}
