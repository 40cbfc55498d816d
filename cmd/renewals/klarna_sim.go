package main

import (
	"context"
	"fmt"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

type klarnaSimCmd struct {
	Addr     string        `default:"127.0.0.1:8089" help:"Where to listen."`
	Latency  time.Duration `help:"Before each answer. Default none."`
	P99      time.Duration `name:"latency-p99" help:"The slowest hundredth takes this or longer, --latency is then the median. Default: all the same."`
	Faults   float64       `help:"Share of requests, 0 to 1, that fail at random in every way that Klarna's do. Default none."`
	LateBy   time.Duration `default:"30s" help:"How long after some of these failures the order is made all the same."`
	Outage   string        `help:"What every request suffers: 503, 429, cut, created-500, … as at the beginning of a token. Default nothing."`
	Seed     uint64        `help:"For everything random, so that a run can be repeated."`
	Rate     int           `help:"Requests per second before 429. Default no limit."`
	Username string        `setting:"KLARNA_USERNAME" help:"Expected user name; the password is KLARNA_PASSWORD. Default: any."`
	Bodies   bool          `default:"true" negatable:"" help:"Keep the bodies of orders in the books."`
}

func (c *klarnaSimCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if c.Faults < 0 || c.Faults > 1 {
		return cli.Usagef("--faults: %v, expected 0 to 1", c.Faults)
	}
	if err := klarnasim.CheckOutage(c.Outage); err != nil {
		return cli.Usagef("--outage: %w", err)
	}
	cli.OutlivePipe()
	simulator, err := klarnasim.Start(klarnasim.Options{
		Addr: c.Addr, Latency: c.Latency, LatencyP99: c.P99, Seed: c.Seed, Rate: c.Rate, Faults: c.Faults, LateBy: c.LateBy, Outage: c.Outage,
		Username: c.Username, Password: s.Lookup("KLARNA_PASSWORD"), KeepBodies: c.Bodies,
	})
	if err != nil {
		return cli.Usagef("%s: %w, expected a free host:port", s.Place("addr"), err)
	}
	defer simulator.Close()
	fmt.Fprintf(t.stdout, "KLARNA_ENDPOINT=%s\n", simulator.URL)
	<-ctx.Done()
	return nil
}
