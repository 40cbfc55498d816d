package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

type devCmd struct {
	Jobs        int     `help:"A mixed load of this many jobs instead of one of every variant."`
	KeepRunning bool    `help:"Leave NATS, the simulator and a worker up until interrupted, for other terminals, and print what becomes of their jobs."`
	Speed       float64 `default:"1" help:"How much faster than the world's the clock of worker and simulator is, with subscribers who are billed by it: 4320 makes a month of ten minutes. It implies --keep-running."`
	Store       string  `type:"path" help:"Keep JetStream's files in this directory. Default: a temporary one, removed at the end."`
	JSON        bool    `name:"json" help:"Results as JSON Lines."`
	LogLevel    string  `enum:"debug,info,warn,error" default:"error" help:"debug, info, warn or error."`
}

const (
	mostSpeed   = 1_000_000 // eleven days a second
	devAccount  = messages.Account(cli.DefaultAccount)
	devUser     = "dev"
	devPassword = "dev"
	devPatience = 30 * time.Second // without a single further result
)

func (c *devCmd) Run(ctx context.Context, t *terminal) error {
	if c.Jobs < 0 {
		return cli.Usagef("--jobs: %d, expected 0 or more", c.Jobs)
	}
	if c.Speed < 1 || c.Speed > mostSpeed {
		return cli.Usagef("--speed: %v, expected 1 to %d", c.Speed, mostSpeed)
	}
	cli.OutlivePipe()
	c.KeepRunning = c.KeepRunning || c.Speed > 1
	store, err := c.directory()
	if err != nil {
		return err
	}
	if c.Store == "" {
		defer os.RemoveAll(store)
	}
	broker, err := startBroker(brokerOptions(store))
	if err != nil {
		return err
	}
	defer stopBroker(broker)
	clock := newTimelapse(c.Speed)
	simulator, err := klarnasim.Start(klarnasim.Options{Now: clock.now, Username: devUser, Password: devPassword, KeepBodies: c.Jobs == 0})
	if err != nil {
		return fmt.Errorf("start Klarna's simulator: %w", err)
	}
	defer simulator.Close()

	log := cli.LogSettings{Level: c.LogLevel, Format: "auto"}.Logger(t.logs())
	ctx, js, err := cli.NATSServer{URL: broker.ClientURL()}.Connect(ctx, log)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	d := demonstration{t: t, aside: t.beside(c.JSON), asJSON: c.JSON, jobs: c.Jobs, log: log, js: js, simulator: simulator, clock: clock}
	reach := fmt.Sprintf("  export NATS_URL=%s KLARNA_ENDPOINT=%s\n  export KLARNA_USERNAME=%s KLARNA_PASSWORD=%s\n", broker.ClientURL(), simulator.URL, devUser, devPassword)
	err = d.run(ctx)
	if !c.KeepRunning || ctx.Err() != nil {
		return err
	}
	if err != nil && !errors.Is(err, cli.ErrReported) {
		fmt.Fprintln(t.margin(), "renewals:", err)
		err = cli.ErrReported
	}
	return errors.Join(err, d.keep(ctx, func() {
		fmt.Fprintf(d.aside, "\nup until interrupted, with a worker; in another terminal:\n%s  renewals trigger --list\n\n", reach)
		if c.Speed > 1 {
			fmt.Fprintf(d.aside, "time passes %v times as fast, and some subscribers are billed by it\n\n", c.Speed)
		}
	}))
}

func (c *devCmd) directory() (string, error) {
	if c.Store == "" {
		return os.MkdirTemp("", "renewals-dev-")
	}
	if err := os.MkdirAll(c.Store, 0o700); err != nil {
		return "", cli.Usagef("--store: %w", err)
	}
	return c.Store, nil
}
