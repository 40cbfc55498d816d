package main

import (
	"io"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// streams are what a command talks to.
type streams struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	plain          bool // no colours, whatever the terminal can show
}

func newStreams(stdin io.Reader, stdout, stderr io.Writer, env cli.Environment) *streams {
	noColor, _ := env("NO_COLOR") // https://no-color.org
	kind, _ := env("TERM")
	return &streams{stdin, stdout, stderr, noColor != "" || kind == "dumb"}
}

// page is for what a command prints, margin for what it says beside that, such as problems.
func (w *streams) page() *cli.Page   { return cli.NewPage(w.stdout, w.plain) }
func (w *streams) margin() *cli.Page { return cli.NewPage(w.stderr, w.plain) }

// beside is for a person, also where a program reads the page.
func (w *streams) beside(asJSON bool) *cli.Page {
	if asJSON {
		return w.margin()
	}
	return w.page()
}

// logs is where the log goes.
func (w *streams) logs() cli.Log {
	return cli.Log{Program: "renewals-desk", Stderr: w.stderr, Margin: w.margin(), Plain: w.plain}
}
