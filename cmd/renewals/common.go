package main

import (
	"context"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// What both programs have in common, by the names that it has here.
type (
	environment     = cli.Environment
	settings        = cli.Settings
	usageError      = cli.UsageError
	accountSettings = cli.AccountSettings
	accountEntry    = cli.AccountEntry
	natsSettings    = cli.NATSSettings
	reachSettings   = cli.ReachSettings
	natsServer      = cli.NATSServer
	logSettings     = cli.LogSettings
	progress        = cli.Progress
)

const (
	exitDone        = cli.ExitDone
	exitFailed      = cli.ExitFailed
	exitUsage       = cli.ExitUsage
	exitInterrupted = cli.ExitInterrupted
	defaultAccount  = cli.DefaultAccount
)

var errReported = cli.ErrReported

func usagef(format string, args ...any) error { return cli.Usagef(format, args...) }

func parseDuration(text string) (time.Duration, error) { return cli.ParseDuration(text) }

func durationText(d time.Duration) string { return cli.DurationText(d) }

func lapse(d time.Duration) string { return cli.Lapse(d) }

func printable(text string) string { return cli.Printable(text) }

func amount(minor int64, currency string) string { return cli.Amount(minor, currency) }

func redactURLs(list string) string { return cli.RedactURLs(list) }

func journalProblem(err error) error { return cli.JournalProblem(err) }

func inClear(nc *nats.Conn) string { return cli.InClear(nc) }

func lostConnection(ctx context.Context) error { return cli.LostConnection(ctx) }

func isTerminal(stream any) bool { return cli.IsTerminal(stream) }

func newProgress(w io.Writer, label string, total int64) *progress {
	return cli.NewProgress(w, label, total)
}

func version() string { return cli.Version() }
