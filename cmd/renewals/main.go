// Command renewals charges Klarna subscription renewals from NATS JetStream. This package reads flags, environment and
// files and assembles the others; it decides nothing about a customer's money.
//
// Exit codes: 0 done, 1 the work failed or input was invalid, 2 usage or a wrong setting, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}

const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2

	exitInterrupted = 130 // as shells have it of a program that SIGINT ended
)

// commands is the grammar. Every flag that is a setting has an environment variable: the one its setting tag names, else RENEWALS_
// and the flag's name. Flags that decide about money have none, see onCommandLine.
type commands struct {
	Dev          devCmd          `cmd:"" help:"Everything in one process: JetStream, Klarna's simulator, one worker and sample jobs."`
	Trigger      triggerCmd      `cmd:"" help:"Publish a due job that makes Klarna's simulator do something."`
	Sample       sampleCmd       `cmd:"" help:"Print such jobs as JSON Lines, for publish and validate."`
	Work         workCmd         `cmd:"" help:"Charge renewals, and capture their orders, until told to stop."`
	Provision    provisionCmd    `cmd:"" help:"Create or update the streams, consumers and bucket."`
	Publish      publishCmd      `cmd:"" help:"Check and publish jobs from JSON Lines: charges, or with --capture captures."`
	Validate     validateCmd     `cmd:"" help:"The same checks without publishing."`
	Watch        watchCmd        `cmd:"" help:"Follow results."`
	Status       statusCmd       `cmd:"" help:"How everything stands; exit code 1 when something needs a human."`
	Doctor       doctorCmd       `cmd:"" help:"Is this deployment safe? One line for each check; exit code 1 when something is not."`
	Show         showCmd         `cmd:"" help:"A renewal's whole history, or a subscription's periods."`
	Resolve      resolveCmd      `cmd:"" help:"Settle an unresolved charge or capture."`
	Cancel       cancelCmd       `cmd:"" help:"Charge nothing for a period."`
	Dead         deadCmd         `cmd:"" help:"Dead letters: jobs that no machine can finish."`
	Schema       schemaCmd       `cmd:"" help:"Print the JSON Schema of a job, a capture job or a result, or the AsyncAPI document."`
	Token        tokenCmd        `cmd:"" help:"Klarna's view of a customer token."`
	KlarnaSim    klarnaSimCmd    `cmd:"" help:"Klarna's simulator as a server."`
	DunningTable dunningTableCmd `cmd:"" help:"What each refusal of Klarna becomes."`
	Completion   completionCmd   `cmd:"" help:"Print what makes bash, zsh or fish complete commands, flags and their values."`
	Complete     completeCmd     `cmd:"" name:"__complete" hidden:""`

	Config  string           `help:"YAML file with settings of all commands and with accounts; renewals schema config describes it."`
	Version kong.VersionFlag `help:"Print the version."`
}

// run is the whole program; ctx ends with the first signal. It returns the exit code when all is quiet.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env environment) int {
	var (
		grammar  commands
		settings = &settings{env: env}
		t        = newTerminal(stdin, stdout, stderr, env)
		finished = false // by --help or --version
	)
	parser, err := kong.New(&grammar,
		kong.Name("renewals"),
		kong.Description("Charges Klarna subscription renewals from NATS JetStream. Every setting has an environment variable, named with its flag; a flag wins over the environment, the environment over the file of --config, that over the default."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { finished = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
		kong.ValueFormatter(helpWithVariable),
		kong.Resolvers(settings),
		durations(),
		defaults(),
		kong.Bind(settings, t),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		fmt.Fprintln(stderr, "renewals: build the command line:", err)
		return exitFailed
	}
	settings.grammar = parser.Model
	command, err := parser.Parse(args)
	if err == nil {
		_, settings.command, _ = strings.Cut(command.Selected().FullPath(), " ")
	}
	if finished {
		return exitDone
	}
	if err != nil {
		fmt.Fprintf(t.margin(), "renewals: %v\nrun \"renewals --help\" or \"renewals COMMAND --help\"\n", parseProblem(err))
		return exitUsage
	}
	err = settings.lost.instead(command.Run())
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "renewals: interrupted")
		return exitInterrupted
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintln(t.margin(), "renewals:", err)
		return exitUsage
	}
	fmt.Fprintln(t.margin(), "renewals:", err)
	return exitFailed
}

// parseProblem takes out of the parser's error what the settings said, which names the environment variable or the line
// of the file where the parser would name the flag.
func parseProblem(err error) error {
	var usage usageError
	if errors.As(err, &usage) {
		return usage.error
	}
	return err
}
