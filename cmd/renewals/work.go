package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/journal"
)

type workCmd struct {
	NATS    cli.ReachSettings   `embed:""`
	Account cli.AccountSettings `embed:""`
	Log     cli.LogSettings     `embed:""`
	Tries   trySettings         `embed:""`
	Ops     opsSettings         `embed:""`

	Batches string `default:"${batches}" enum:"${batchings}" help:"When claims and results are committed together: auto, where the journal has replicas or is placed on servers tagged sync:always; sync-always, which says that this broker's sync_interval is always, with one node, too; off."`

	Provision    bool                 `help:"Create or update streams, consumers and bucket first."`
	Provisioning provisioningSettings `embed:""`
}

// trySettings are the times of the worker.
type trySettings struct {
	TryTimeout      time.Duration   `default:"${try_timeout}" help:"For one request, its answer included; Klarna itself gives up at 59s."`
	TryBudget       time.Duration   `default:"${try_budget}" help:"For beginning tries within one delivery."`
	SettleDelay     time.Duration   `default:"${settle_delay}" help:"From a try that timed out or was cut to the next, so that Klarna has finished or dropped it."`
	RetryDelays     []time.Duration `default:"${retry_delays}" help:"Before each further delivery, the last repeating."`
	KeyWindow       time.Duration   `default:"${key_window}" help:"From the first request with an idempotency key to the last; Klarna forgets a key after 24h."`
	ShutdownTimeout time.Duration   `default:"${shutdown_timeout}" help:"For the requests in flight when the worker is told to stop."`
}

// defaults are the worker's own, for the tags above.
func defaults() kong.Option {
	o := worker.DefaultOptions()
	delays := make([]string, len(o.RetryDelays))
	for i, d := range o.RetryDelays {
		delays[i] = cli.DurationText(d)
	}
	return cli.Variables(map[string]string{
		"try_timeout": cli.DurationText(o.TryTimeout), "try_budget": cli.DurationText(o.TryBudget), "settle_delay": cli.DurationText(o.SettleDelay),
		"batches": string(o.Batching), "batchings": batchings(),
		"retry_delays": strings.Join(delays, ","), "key_window": cli.DurationText(o.KeyWindow), "shutdown_timeout": cli.DurationText(o.ShutdownTimeout),
	})
}

func batchings() string {
	var all []string
	for _, b := range journal.Batchings() {
		all = append(all, string(b))
	}
	return strings.Join(all, ",")
}

func (c *workCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) (err error) {
	cli.OutlivePipe() // charges are in flight
	ops := newOperations()
	ops.metrics = worker.NewMetrics(ops.registry)
	log, flush := c.Log.Gathered(t.logs(), ops.metrics.LogDropped)
	defer func() {
		if !flush() && err != nil {
			err = cli.UnreadError{Err: err}
		}
	}()
	defer collecting(ctx)()
	return c.work(ctx, s, ops, log)
}

// work runs a worker until it ends, with ops around it.
func (c *workCmd) work(ctx context.Context, s *cli.Settings, ops *operations, log zerolog.Logger) error {
	options, entries, err := c.options(s, log)
	if err != nil {
		return err
	}
	provisioning, err := c.Provisioning.provisioning(c.Account, s)
	if err != nil {
		return err
	}
	server, err := c.NATS.Server(s)
	if err != nil {
		return err
	}
	rotation, stop := newRotation(entries)
	defer stop()
	options.Metrics = ops.metrics
	if err := ops.listen(c.Ops, s.Place("ops-addr"), log); err != nil {
		return err
	}
	defer ops.close()
	told := ctx
	ctx, js, err := server.Connect(ctx, log)
	if told.Err() != nil {
		return nil // stopped before there was anything to do
	}
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	if warning := cli.InClear(js.Conn()); warning != "" {
		log.Error().Msg("INSECURE: " + warning)
	}
	w, err := worker.New(js, options)
	if err != nil {
		return cli.Usage(err)
	}
	if c.Provision {
		if err := w.Provision(ctx, provisioning); err != nil {
			return err
		}
	}
	ops.setReady(func() error {
		if told.Err() != nil {
			return errors.New("shutting down")
		}
		return w.Ready()
	})
	if err := rotation.beside(ctx, log, w); err != nil {
		return err
	}
	return leave(ctx, js, log)
}

// options are the worker's; entries are the accounts as they were configured.
func (c *workCmd) options(s *cli.Settings, log zerolog.Logger) (o worker.Options, entries []cli.AccountEntry, err error) {
	if err := c.Tries.check(s); err != nil {
		return o, nil, cli.Usage(err)
	}
	accounts, err := c.Account.Accounts(s, c.Tries.TryTimeout, log)
	if err != nil {
		return o, nil, err
	}
	if entries, err = c.Account.Entries(s); err != nil {
		return o, nil, err
	}
	o = worker.DefaultOptions()
	o.Name, o.Version, o.Accounts, o.Log = workerName(), cli.Version(), accounts, log
	o.TryTimeout, o.TryBudget, o.SettleDelay = c.Tries.TryTimeout, c.Tries.TryBudget, c.Tries.SettleDelay
	o.RetryDelays, o.KeyWindow, o.ShutdownTimeout = c.Tries.RetryDelays, c.Tries.KeyWindow, c.Tries.ShutdownTimeout
	o.Batching = journal.Batching(c.Batches)
	return o, entries, nil
}

// leave sends what is still to be sent.
func leave(ctx context.Context, js jetstream.JetStream, log zerolog.Logger) error {
	if err := cli.LostConnection(ctx); err != nil || !js.Conn().IsConnected() {
		return err
	}
	if err := js.Conn().FlushTimeout(2 * time.Second); err != nil {
		log.Warn().Err(err).Msg("the last acknowledgements may not have arrived; their jobs come again and are known to be done")
	}
	return nil
}

// check says what no worker can run with, before anything else is looked at.
func (t trySettings) check(s *cli.Settings) error {
	for _, c := range []struct {
		flag     string
		ok       bool
		value    any
		expected string
	}{
		{"try-timeout", t.TryTimeout > 0, t.TryTimeout, "more than 0"},
		{"try-budget", t.TryBudget > 0, t.TryBudget, "more than 0"},
		{"retry-delays", len(t.RetryDelays) > 0 && !slices.ContainsFunc(t.RetryDelays, func(d time.Duration) bool { return d <= 0 }), t.RetryDelays, "one or more durations, each more than 0"},
		{"key-window", t.KeyWindow > 0 && t.KeyWindow < 24*time.Hour, t.KeyWindow, "more than 0 and less than the 24h for which Klarna honours an idempotency key"},
		{"shutdown-timeout", t.ShutdownTimeout > 0, t.ShutdownTimeout, "more than 0"},
	} {
		if !c.ok {
			return fmt.Errorf("%s: %v, expected %s", s.Place(c.flag), c.value, c.expected)
		}
	}
	return nil
}

// workerName is unique among all workers that ever ran: results name it.
func workerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), strings.ToLower(rand.Text()[:6]))
}
