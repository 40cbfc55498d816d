// Package cli is what the command lines of both programs have in common: settings from flags, environment and file, the connection to NATS,
// Klarna's accounts, exit codes, and how things look on a terminal. It is part of the programs: nothing below cmd knows a flag or a variable.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// A Program is one of them.
type Program struct {
	Name, Description string
	Settings          *Settings
	Stdout, Stderr    io.Writer // Stdout of [NewOutput]
	Margin            io.Writer // standard error for a person: lines fit
}

// Run parses the arguments by a grammar of kong's and runs the command; ctx ends with the first signal. Commands may ask for whatever is
// bound, for ctx and for the settings. It returns the exit code when all is quiet.
func (p Program) Run(ctx context.Context, grammar any, args []string, options ...kong.Option) int {
	finished := false // by --help or --version
	parser, err := kong.New(grammar, append([]kong.Option{
		kong.Name(p.Name),
		kong.Description(p.Description),
		kong.Vars{"version": Version()},
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(int) { finished = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
		kong.ValueFormatter(HelpWithVariable),
		kong.Resolvers(p.Settings),
		Durations(),
		kong.Bind(p.Settings),
		kong.BindTo(ctx, (*context.Context)(nil)),
	}, options...)...)
	if err != nil {
		fmt.Fprintf(p.Stderr, "%s: build the command line: %v\n", p.Name, err)
		return ExitFailed
	}
	p.Settings.Grammar, p.Settings.program = parser.Model, p.Name
	if err := encoded(args); err != nil {
		fmt.Fprintf(p.Margin, "%s: %v\n", p.Name, err)
		return ExitUsage
	}
	command, err := parser.Parse(args)
	if err == nil {
		_, p.Settings.Command, _ = strings.Cut(command.Selected().FullPath(), " ")
	}
	if finished || unwritten(p.Stdout) != nil {
		return p.ended(ctx, nil)
	}
	if err != nil {
		fmt.Fprintf(p.Margin, "%s: %v\nrun \"%[1]s --help\" or \"%[1]s COMMAND --help\"\n", p.Name, parseProblem(err))
		return ExitUsage
	}
	return p.ended(ctx, p.Settings.lost.instead(command.Run()))
}

// encoded refuses arguments that are not UTF-8: what is written down of one would name something else. The argument is named by its
// place, and by its flag, since it may be a secret.
func encoded(args []string) error {
	for i, arg := range args {
		if utf8.ValidString(arg) {
			continue
		}
		flag, _, given := strings.Cut(arg, "=")
		if !given || !strings.HasPrefix(flag, "--") || !utf8.ValidString(flag) {
			return fmt.Errorf("argument %d: not valid UTF-8, expected every argument in UTF-8, as a terminal in a UTF-8 locale sends it", i+1)
		}
		return fmt.Errorf("argument %d, %s: not valid UTF-8, expected every argument in UTF-8, as a terminal in a UTF-8 locale sends it", i+1, flag)
	}
	return nil
}

// ended says what a command came to.
func (p Program) ended(ctx context.Context, err error) int {
	if lost := unwritten(p.Stdout); lost != nil && (err == nil || errors.Is(err, ErrReported)) {
		err = fmt.Errorf("write standard output: %w; what the command had to say is lost, not what it did", lost)
	}
	var unread UnreadError
	if errors.As(err, &unread) {
		p.Stderr, p.Margin = io.Discard, io.Discard
	}
	var usage UsageError
	switch {
	case err == nil:
		return ExitDone
	case ctx.Err() != nil:
		fmt.Fprintf(p.Stderr, "%s: interrupted\n", p.Name)
		return ExitInterrupted
	case errors.Is(err, ErrReported):
		return ExitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(p.Margin, "%s: %v\n", p.Name, err)
		return ExitUsage
	}
	fmt.Fprintf(p.Margin, "%s: %v\n", p.Name, err)
	return ExitFailed
}

// parseProblem takes out of the parser's error what the settings said, which names the environment variable or the line
// of the file where the parser would name the flag.
func parseProblem(err error) error {
	var usage UsageError
	if errors.As(err, &usage) {
		return usage.Err
	}
	return err
}
