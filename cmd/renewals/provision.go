package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/worker"
)

type provisionCmd struct {
	NATS         natsSettings         `embed:""`
	Account      accountSettings      `embed:""`
	Log          logSettings          `embed:""`
	Provisioning provisioningSettings `embed:""`
}

// provisioningSettings shape what provision creates.
type provisioningSettings struct {
	Replicas           int           `default:"1" help:"Copies of every stream: 1, or 3 or 5 in a cluster."`
	Retention          time.Duration `default:"120d" help:"How long the journal remembers a renewal."`
	AckWait            time.Duration `default:"2m" help:"How long a worker may hold a job; over try budget and try timeout by a tenth."`
	AcceptEmptyJournal bool          `help:"Create a missing journal although jobs wait: the memory of what was charged is gone, and you take that on."`
}

func (c *provisionCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	server, err := c.NATS.server(s)
	if err != nil {
		return err
	}
	names, err := c.Account.names(s)
	if err != nil {
		return err
	}
	ctx, js, err := server.connect(ctx, c.Log.logger(t))
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	if err := c.Provisioning.provision(ctx, js, c.Account, s); err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "streams %s, %s, %s and bucket %s are as they must be\n", worker.StreamJobs, worker.StreamJournal, worker.StreamDead, worker.BucketWorkers)
	for _, name := range names {
		fmt.Fprintf(t.stdout, "consumer %s is ready for account %s\n", worker.ConsumerName(name), name)
	}
	return nil
}

func (p provisioningSettings) provision(ctx context.Context, js jetstream.JetStream, a accountSettings, s *settings) error {
	switch p.Replicas {
	case 1, 3, 5:
	default:
		return usagef("RENEWALS_REPLICAS: %d, expected 1, 3 or 5", p.Replicas)
	}
	names, err := a.names(s)
	if err != nil {
		return err
	}
	return worker.Provision(ctx, js, worker.Provisioning{
		Accounts: names, Replicas: p.Replicas, Retention: p.Retention, AckWait: p.AckWait, AcceptEmptyJournal: p.AcceptEmptyJournal,
	})
}
