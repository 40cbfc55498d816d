package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

type provisionCmd struct {
	NATS         cli.NATSSettings     `embed:""`
	Account      cli.AccountSettings  `embed:""`
	Log          cli.LogSettings      `embed:""`
	Provisioning provisioningSettings `embed:""`
	Permissions  permissionSettings   `embed:""`

	AcceptRestoredJournal bool `help:"Take the journal as it is after it was restored, made anew or cut short: what fell due before is charged only while Klarna still knows every key that may have been used." from:"command-line"`
}

// provisioningSettings shape what provision creates, and what it changes of what exists.
type provisioningSettings struct {
	Replicas           int           `help:"Copies of every stream: 1, or 3 or 5 in a cluster. Default: as it is; of a new stream as of the others, else 1."`
	Retention          time.Duration `help:"How long the journal remembers a renewal. Default: as it is, else 120d."`
	DeadRetention      time.Duration `help:"How long dead letters, which hold customer tokens, are kept. Default: as it is, else 400d."`
	AckWait            time.Duration `help:"How long a worker may hold a job; over try budget and try timeout by a tenth. Default: as it is, else 2m."`
	Force              []string      `help:"Settings of what exists that may be lowered, or changed at all: replicas, max_age, duplicate_window, ack_wait." from:"command-line"`
	AcceptEmptyJournal bool          `help:"Create a missing journal although jobs wait: the memory of what was charged is gone, and you take that on." from:"command-line"`
}

func (c *provisionCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if err := c.Permissions.check(); err != nil {
		return err
	}
	if c.Permissions.PrintPermissions {
		domain, err := c.NATS.Reach.StreamDomain(s)
		if err != nil {
			return err
		}
		return c.Permissions.print(t.stdout, domain, func() ([]messages.Account, error) { return c.Account.Names(s) })
	}
	provisioning, err := c.Provisioning.provisioning(c.Account, s)
	if err != nil {
		return err
	}
	server, err := c.NATS.Server(s)
	if err != nil {
		return err
	}
	ctx, js, err := server.Connect(ctx, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	provisioning.Tell = func(change topology.Change) { fmt.Fprintln(t.page(), change) }
	if err := worker.Provision(ctx, js, provisioning); err != nil {
		return err
	}
	if err := warnOfFew(ctx, js, t); err != nil {
		return err
	}
	if c.AcceptRestoredJournal {
		restored, err := journal.AcceptRestored(ctx, js)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.page(), "stream %s is accepted as it is; of what fell due before %s it may have forgotten something: workers charge that within the key window from its due_at, or leave it unresolved\n",
			messages.StreamJournal, restored.Format(time.RFC3339))
	}
	fmt.Fprintf(t.page(), "streams %s, %s, %s, %s, %s, %s, %s and bucket %s are as they must be\n",
		messages.StreamJobs, messages.StreamLater, messages.StreamJournal, messages.StreamDead, messages.StreamMarks, messages.StreamMarksCopy, messages.StreamNews, topology.BucketWorkers)
	for _, name := range provisioning.Accounts {
		fmt.Fprintf(t.page(), "consumers %s, %s and %s are ready for account %s\n", topology.ConsumerName(name), topology.LaterConsumerName(name), topology.CaptureConsumerName(name), name)
	}
	return nil
}

// warnOfFew tells of streams that the loss of one machine would take along.
func warnOfFew(ctx context.Context, js jetstream.JetStream, t *terminal) error {
	found, err := topology.Inspect(ctx, js)
	if err != nil {
		return err
	}
	for _, warning := range found.Warnings() {
		fmt.Fprintln(t.margin(), "renewals: warning:", warning)
	}
	return nil
}

// provisioning needs the names of the accounts, not their credentials.
func (p provisioningSettings) provisioning(a cli.AccountSettings, s *cli.Settings) (topology.Provisioning, error) {
	switch p.Replicas {
	case 0, 1, 3, 5:
	default:
		return topology.Provisioning{}, cli.Usagef("%s: %d, expected 1, 3 or 5", s.Place("replicas"), p.Replicas)
	}
	for _, age := range []struct {
		flag  string
		value time.Duration
	}{{"retention", p.Retention}, {"dead-retention", p.DeadRetention}} {
		if age.value != 0 && age.value < 30*24*time.Hour {
			return topology.Provisioning{}, cli.Usagef("%s: %s, expected at least 30d", s.Place(age.flag), age.value)
		}
	}
	if p.AckWait != 0 && p.AckWait < time.Second {
		return topology.Provisioning{}, cli.Usagef("%s: %s, expected at least 1s", s.Place("ack-wait"), p.AckWait)
	}
	for _, name := range p.Force {
		if !slices.Contains(topology.Forcible, name) {
			return topology.Provisioning{}, cli.Usagef("--force: %q, expected some of %s", name, strings.Join(topology.Forcible, ", "))
		}
	}
	names, err := a.Names(s)
	return topology.Provisioning{
		Accounts: names, Replicas: p.Replicas, Retention: p.Retention, DeadRetention: p.DeadRetention, AckWait: p.AckWait,
		Force: p.Force, AcceptEmptyJournal: p.AcceptEmptyJournal,
	}, err
}
