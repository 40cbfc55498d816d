package main

import (
	"context"
	"fmt"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
)

type provisionCmd struct {
	NATS         natsSettings         `embed:""`
	Account      accountSettings      `embed:""`
	Log          logSettings          `embed:""`
	Provisioning provisioningSettings `embed:""`
	Permissions  permissionSettings   `embed:""`

	AcceptRestoredJournal bool `help:"Take the journal as it is after it was restored, made anew or cut short: what fell due before is charged only while Klarna still knows every key that may have been used." from:"command-line"`
}

// provisioningSettings shape what provision creates.
type provisioningSettings struct {
	Replicas           int           `default:"1" help:"Copies of every stream: 1, or 3 or 5 in a cluster."`
	Retention          time.Duration `default:"120d" help:"How long the journal remembers a renewal."`
	AckWait            time.Duration `default:"2m" help:"How long a worker may hold a job; over try budget and try timeout by a tenth."`
	AcceptEmptyJournal bool          `help:"Create a missing journal although jobs wait: the memory of what was charged is gone, and you take that on." from:"command-line"`
}

func (c *provisionCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.Permissions.check(); err != nil {
		return err
	}
	if c.Permissions.PrintPermissions {
		return c.Permissions.print(t.stdout, func() ([]messages.Account, error) { return c.Account.names(s) })
	}
	provisioning, err := c.Provisioning.provisioning(c.Account, s)
	if err != nil {
		return err
	}
	server, err := c.NATS.server(s)
	if err != nil {
		return err
	}
	ctx, js, err := server.connect(ctx, c.Log.logger(t))
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	if err := worker.Provision(ctx, js, provisioning); err != nil {
		return err
	}
	if c.AcceptRestoredJournal {
		restored, err := worker.AcceptRestoredJournal(ctx, js)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.stdout, "stream %s is accepted as it is; of what fell due before %s it may have forgotten something: workers charge that within the key window from its due_at, or leave it unresolved\n",
			worker.StreamJournal, restored.Format(time.RFC3339))
	}
	fmt.Fprintf(t.stdout, "streams %s, %s, %s, %s, %s and bucket %s are as they must be\n",
		worker.StreamJobs, worker.StreamJournal, worker.StreamDead, worker.StreamMarks, worker.StreamMarksCopy, worker.BucketWorkers)
	for _, name := range provisioning.Accounts {
		fmt.Fprintf(t.stdout, "consumers %s and %s are ready for account %s\n", worker.ConsumerName(name), worker.CaptureConsumerName(name), name)
	}
	return nil
}

// provisioning needs the names of the accounts, not their credentials.
func (p provisioningSettings) provisioning(a accountSettings, s *settings) (worker.Provisioning, error) {
	switch p.Replicas {
	case 1, 3, 5:
	default:
		return worker.Provisioning{}, usagef("RENEWALS_REPLICAS: %d, expected 1, 3 or 5", p.Replicas)
	}
	if p.Retention < 30*24*time.Hour {
		return worker.Provisioning{}, usagef("RENEWALS_RETENTION: %s, expected at least 30d", p.Retention)
	}
	if p.AckWait < time.Second {
		return worker.Provisioning{}, usagef("RENEWALS_ACK_WAIT: %s, expected at least 1s", p.AckWait)
	}
	names, err := a.names(s)
	return worker.Provisioning{
		Accounts: names, Replicas: p.Replicas, Retention: p.Retention, AckWait: p.AckWait, AcceptEmptyJournal: p.AcceptEmptyJournal,
	}, err
}
