// Command renewals charges Klarna subscription renewals from NATS JetStream. This package reads flags, environment and
// files and assembles the others; it decides nothing about a customer's money.
//
// Exit codes: 0 done, 1 the work failed or input was invalid, 2 usage or a wrong setting, 130 interrupted.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}

// commands is the grammar. Every flag that is a setting has an environment variable: the one its setting tag names, else RENEWALS_
// and the flag's name. Flags that decide about money have none, see [cli.OnCommandLine].
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
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env cli.Environment) int {
	stdout = cli.NewOutput(stdout)
	t := newTerminal(stdin, stdout, stderr, env)
	program := cli.Program{
		Name:        "renewals",
		Description: "Charges Klarna subscription renewals from NATS JetStream. Every setting has an environment variable, named with its flag; a flag wins over the environment, the environment over the file of --config, that over the default.",
		Settings:    &cli.Settings{Env: env}, Stdout: stdout, Stderr: stderr, Margin: t.margin(),
	}
	return program.Run(ctx, &commands{}, args, defaults(), kong.Bind(t))
}
