package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/topology"
)

type devCmd struct {
	Jobs        int    `help:"A mixed load of this many jobs instead of one of every variant."`
	KeepRunning bool   `help:"Leave NATS and the simulator up until interrupted, for other terminals."`
	Store       string `type:"path" help:"Keep JetStream's files in this directory. Default: a temporary one, removed at the end."`
	JSON        bool   `name:"json" help:"JSON Lines also on a terminal."`
	LogLevel    string `enum:"debug,info,warn,error" default:"error" help:"debug, info, warn or error."`
}

const (
	devAccount  = messages.Account(defaultAccount)
	devUser     = "dev"
	devPassword = "dev"
	devPatience = 30 * time.Second // without a single further result
)

func (c *devCmd) Run(ctx context.Context, t *terminal) error {
	if c.Jobs < 0 {
		return usagef("--jobs: %d, expected 0 or more", c.Jobs)
	}
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
	simulator, err := klarnasim.Start(klarnasim.Options{Username: devUser, Password: devPassword, KeepBodies: c.Jobs == 0})
	if err != nil {
		return fmt.Errorf("start Klarna's simulator: %w", err)
	}
	defer simulator.Close()

	d := demonstration{t: t, aside: t.stdout, asJSON: c.JSON || !isTerminal(t.stdout), jobs: c.Jobs, log: logSettings{Level: c.LogLevel, Format: "auto"}.logger(t)}
	if d.asJSON {
		d.aside = t.stderr
	}
	reach := fmt.Sprintf("NATS_URL=%s KLARNA_ENDPOINT=%s KLARNA_USERNAME=%s KLARNA_PASSWORD=%s", broker.ClientURL(), simulator.URL, devUser, devPassword)
	fmt.Fprintf(d.aside, "%s\n\n", reach)
	err = d.run(ctx, natsServer{url: broker.ClientURL()}, simulator)
	if c.KeepRunning && ctx.Err() == nil {
		if err != nil && !errors.Is(err, errReported) {
			fmt.Fprintln(t.stderr, "renewals:", err)
			err = errReported
		}
		fmt.Fprintf(d.aside, "\nup until interrupted; in another terminal:\n  export %s\n  renewals work\n", reach)
		<-ctx.Done()
	}
	return err
}

func (c *devCmd) directory() (string, error) {
	if c.Store == "" {
		return os.MkdirTemp("", "renewals-dev-")
	}
	if err := os.MkdirAll(c.Store, 0o700); err != nil {
		return "", usagef("--store: %w", err)
	}
	return c.Store, nil
}

// demonstration is one run of the samples.
type demonstration struct {
	t      *terminal
	aside  io.Writer // for what is not a result, which stays out of the JSON
	asJSON bool
	jobs   int // 0: one of every variant
	log    zerolog.Logger

	kept *promise
	bar  *progress
	out  *outbox
}

// run sends the jobs through one worker and compares the results with the simulator's books.
func (d *demonstration) run(ctx context.Context, server natsServer, simulator *klarnasim.Server) error {
	ctx, js, err := server.connect(ctx, d.log)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	if err := worker.Provision(ctx, js, topology.Provisioning{Accounts: []messages.Account{devAccount}}); err != nil {
		return err
	}
	stopWorker, err := startWorker(ctx, js, simulator.URL, d.log)
	if err != nil {
		return err
	}
	defer func() { _ = stopWorker() }()

	samples := variants(newRun(), time.Now())
	d.kept, d.bar = newPromise(), newProgress(io.Discard, "", 0)
	if d.jobs > 0 {
		samples = mixture(newRun(), d.jobs, time.Now())
		d.bar = newProgress(d.t.stderr, "results", int64(d.jobs))
	}
	position, err := lastSequence(ctx, js)
	if err != nil {
		return err
	}
	for _, s := range samples {
		d.kept.expect(s)
	}
	d.out = newOutbox(ctx, js, func(o outgoing, f fate) {
		if f.err != nil {
			d.bar.printf("%s: not published: %v\n", o.id, f.err)
		}
	})
	published := make(chan error, 1)
	go func() { published <- d.publish(samples) }()
	position, err = d.untilSettled(ctx, js, position)
	d.bar.done()
	err = errors.Join(err, <-published)
	d.out.close()
	if err != nil {
		return err
	}
	// The worker has to be quiet before one can say that no second result comes.
	if err := stopWorker(); err != nil {
		return err
	}
	if err := d.untilEnd(ctx, js, position); err != nil {
		return err
	}
	return d.verdict(simulator.Simulator.Books())
}

// verdict compares what was promised with Klarna's books.
func (d *demonstration) verdict(books klarnasim.Books) error {
	fmt.Fprintln(d.aside)
	d.kept.summary(d.aside, books)
	if broken := d.kept.broken(books); len(broken) > 0 {
		for _, b := range broken {
			fmt.Fprintln(d.t.stderr, "PROMISE BROKEN:", b)
		}
		return errReported
	}
	fmt.Fprintln(d.aside, "every job has one result, no renewal has two orders, no money was taken twice: the promise holds")
	return nil
}

func (d *demonstration) publish(samples []sample) error {
	for _, s := range samples {
		msg, err := s.message()
		if err != nil {
			return fmt.Errorf("encode %s: %w", s.id(), err)
		}
		if err := d.out.put(0, s.id(), msg); err != nil {
			return err
		}
	}
	return nil
}

// untilSettled shows results until every job has one, and returns how far it has read.
func (d *demonstration) untilSettled(ctx context.Context, js jetstream.JetStream, position uint64) (uint64, error) {
	waiting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	patience := time.AfterFunc(devPatience, giveUp)
	defer patience.Stop()
	err := follow(waiting, js, after(position), everyRecord, func(r record) error {
		position = r.sequence
		patience.Reset(devPatience)
		settled := d.kept.result(r)
		if err := d.show(r, settled); err != nil {
			return err
		}
		d.bar.set(int64(len(d.kept.jobs) - d.kept.open))
		if settled != nil && settled.then != nil {
			d.kept.expect(*settled.then)
			return d.publish([]sample{*settled.then})
		}
		if d.kept.open == 0 {
			return desk.ErrStop
		}
		return nil
	})
	switch {
	case err != nil:
		return position, err
	case ctx.Err() != nil:
		return position, context.Cause(ctx)
	case d.kept.open > 0:
		return position, fmt.Errorf("%d of %d jobs have no result, and none came for %s", d.kept.open, len(d.kept.jobs), devPatience)
	}
	return position, nil
}

// untilEnd reads what else the journal holds.
func (d *demonstration) untilEnd(ctx context.Context, js jetstream.JetStream, position uint64) error {
	end, err := lastSequence(ctx, js)
	if err != nil || position >= end {
		return err
	}
	return follow(ctx, js, after(position), everyRecord, func(r record) error {
		if err := d.show(r, d.kept.result(r)); err != nil || r.sequence < end {
			return err
		}
		return desk.ErrStop
	})
}

func (d *demonstration) show(r record, settled *outcome) error {
	if isClaim(r.Kind) || d.jobs > 0 && !d.asJSON {
		return nil
	}
	if !d.asJSON {
		about := ""
		if settled != nil {
			about = settled.about
		}
		fmt.Fprintf(d.t.stdout, "%-42s", about)
	}
	return printRecord(d.t.stdout, r, d.asJSON)
}

// startWorker runs a worker with the pauses that nobody wants to watch cut short. stop returns when it is quiet, and
// may be called again.
func startWorker(ctx context.Context, js jetstream.JetStream, endpoint string, log zerolog.Logger) (stop func() error, err error) {
	entry := accountEntry{Name: string(devAccount), Endpoint: endpoint, Username: devUser, password: devPassword, where: func(key string) string { return key }}
	options := worker.DefaultOptions()
	account, err := entry.account(options.TryTimeout, false, log)
	if err != nil {
		return nil, err
	}
	options.Name, options.Accounts, options.Log = workerName(), []worker.Account{account}, log
	options.SettleDelay, options.RetryDelays = time.Second, []time.Duration{500 * time.Millisecond, time.Second}
	w, err := worker.New(js, options)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	}), nil
}

func lastSequence(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	stream, err := js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", messages.StreamJournal, err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// after begins with the record that follows a sequence.
func after(sequence uint64) jetstream.OrderedConsumerConfig {
	return jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: sequence + 1}
}
