package main

import (
	"context"
	"fmt"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

type klarnaSimCmd struct {
	Addr     string        `default:"127.0.0.1:8089" help:"Where to listen."`
	Latency  time.Duration `help:"Before each answer. Default none."`
	Seed     uint64        `help:"For everything random, so that a run can be repeated."`
	Rate     int           `help:"Requests per second before 429. Default no limit."`
	Username string        `setting:"KLARNA_USERNAME" help:"Expected user name; the password is KLARNA_PASSWORD. Default: any."`
	Bodies   bool          `default:"true" negatable:"" help:"Keep the bodies of orders in the books."`
}

func (c *klarnaSimCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	simulator, err := klarnasim.Start(klarnasim.Options{
		Addr: c.Addr, Latency: c.Latency, Seed: c.Seed, Rate: c.Rate,
		Username: c.Username, Password: s.lookup("KLARNA_PASSWORD"), KeepBodies: c.Bodies,
	})
	if err != nil {
		return fmt.Errorf("start Klarna's simulator on %s: %w", c.Addr, err)
	}
	defer simulator.Close()
	fmt.Fprintf(t.stdout, "KLARNA_ENDPOINT=%s\n", simulator.URL)
	<-ctx.Done()
	return nil
}
