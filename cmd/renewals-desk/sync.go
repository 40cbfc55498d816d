package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/desk/books"
)

type syncCmd struct {
	NATS  cli.NATSSettings `embed:""`
	Log   cli.LogSettings  `embed:""`
	Books booksSettings    `embed:""`

	Follow bool `help:"Go on until told to stop."`
}

func (c *syncCmd) Run(ctx context.Context, s *cli.Settings, w *streams) error {
	path, err := c.Books.path(s)
	if err != nil {
		return err
	}
	server, err := c.NATS.Server(s)
	if err != nil {
		return err
	}
	server.Follows = c.Follow
	writer, err := books.Create(path, fmt.Sprintf("renewals-desk sync, process %d on %s, since %s", os.Getpid(), cli.Hostname(), time.Now().UTC().Format(time.RFC3339)))
	if err != nil {
		return err
	}
	defer writer.Close()
	log := c.Log.Logger(w.logs())
	ctx, js, err := server.Connect(ctx, log)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	began := time.Now()
	sum, err := books.Syncer{
		JetStream: js, Writer: writer, Follow: c.Follow,
		Say: func(sentence string) { log.Warn().Msg(sentence) },
		Progress: func(total int64) (func(int64), func()) {
			bar := cli.NewProgress(w.stderr, "records read", total)
			return bar.Set, bar.Done
		},
	}.Run(ctx)
	took := time.Since(began)
	if err == nil || sum.Added > 0 {
		fmt.Fprintf(w.stdout, "%s: %s, up to record %d%s\n", path, plural(sum.Added, "record added", "records added"), sum.Last, pace(sum.Added, took))
	}
	if err == nil {
		err = cli.LostConnection(ctx)
	}
	return err
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// pace is how fast it was, where that says anything.
func pace(n int64, took time.Duration) string {
	if n < 10_000 {
		return ""
	}
	return fmt.Sprintf(", in %s (%.0f a second)", cli.Lapse(took), float64(n)/took.Seconds())
}
