// Command renewals-desk is for those who look: it keeps books of the journal, in which support, finance and the reconciliation find what they
// look for. It charges nothing, and reads the journal as any other team may; what it writes are
// breaks, and with reconcile --apply what they prove.
//
// Exit codes: 0 done, 1 the work failed or nothing was found, 2 usage or a wrong setting, 130 interrupted.
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

// commands is the grammar. Settings are those of renewals: see its documentation.
type commands struct {
	Sync      syncCmd      `cmd:"" help:"Bring the books up to date with the journal."`
	Find      findCmd      `cmd:"" help:"Find renewals by anything that anybody may name."`
	Export    exportCmd    `cmd:"" help:"Write records as CSV."`
	Report    reportCmd    `cmd:"" help:"What further attempts brought in, why Klarna refuses, and the money, day by day."`
	Reconcile reconcileCmd `cmd:"" help:"Compare Klarna's settlement reports with the journal."`
	Breaks    breaksCmd    `cmd:"" help:"Where they differ, and nobody has closed it."`
	Close     closeCmd     `cmd:"" help:"Say that a break is dealt with."`

	Config  string           `help:"YAML file with settings, the same as that of renewals."`
	Version kong.VersionFlag `help:"Print the version."`
}

// run is the whole program; ctx ends with the first signal. It returns the exit code when all is quiet.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env cli.Environment) int {
	stdout = cli.NewOutput(stdout)
	w := newStreams(stdin, stdout, stderr, env)
	program := cli.Program{
		Name:        "renewals-desk",
		Description: "Keeps books of what became of subscription renewals, and answers from them. Every setting has an environment variable, named with its flag; a flag wins over the environment, the environment over the file of --config, that over the default.",
		Settings:    &cli.Settings{Env: env, Shared: true}, Stdout: stdout, Stderr: stderr, Margin: w.margin(),
	}
	return program.Run(ctx, &commands{}, args, kong.Bind(w))
}
