package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// demonstration sends samples through one worker, and may keep a worker for whatever comes after them.
type demonstration struct {
	t         *terminal
	aside     *cli.Page // for what is not a result, which stays out of the JSON
	asJSON    bool
	jobs      int // 0: one of every variant
	log       zerolog.Logger
	js        jetstream.JetStream
	simulator *klarnasim.Server
	clock     *timelapse // the worker's and the simulator's

	position uint64 // in the journal: what was read of it
	kept     *promise
	bar      *cli.Progress
	out      *outbox
	quiet    *standby
}

// run compares what becomes of the samples with the simulator's books.
func (d *demonstration) run(ctx context.Context) error {
	if err := worker.Provision(ctx, d.js, topology.Provisioning{Accounts: []messages.Account{devAccount}}); err != nil {
		return err
	}
	stopWorker, err := d.startWorker(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = stopWorker() }()

	samples := variants(newRun(), time.Now())
	d.kept, d.bar = newPromise(), cli.NewProgress(io.Discard, "", 0)
	if d.jobs > 0 {
		samples = mixture(newRun(), d.jobs, time.Now())
		d.bar = cli.NewProgress(d.t.stderr, "results", int64(d.jobs))
	}
	if d.position, err = lastSequence(ctx, d.js); err != nil {
		return err
	}
	for _, s := range samples {
		d.kept.expect(s)
	}
	d.out = newOutbox(ctx, d.js, func(o outgoing, f fate) {
		if f.err != nil {
			d.bar.Printf("%s: not published: %v\n", o.id, f.err)
		}
	})
	published := make(chan error, 1)
	go func() { published <- d.publish(samples) }()
	err = d.untilSettled(ctx)
	d.bar.Done()
	err = errors.Join(err, <-published)
	d.out.close()
	if err != nil {
		return err
	}
	// The worker has to be quiet before one can say that no second result comes.
	if err := stopWorker(); err != nil {
		return err
	}
	if err := d.untilEnd(ctx); err != nil {
		return err
	}
	return d.verdict(d.simulator.Simulator.Books())
}

// keep runs a worker and shows what becomes of everybody's jobs, until ctx ends. It calls up once the worker runs.
func (d *demonstration) keep(ctx context.Context, up func()) error {
	stopWorker, err := d.startWorker(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = stopWorker() }()
	up()
	if d.clock.speed == 1 {
		err = follow(ctx, d.js, after(d.position), everyRecord, func(r record) error { return d.show(r, nil) })
		return errors.Join(err, stopWorker(), cli.LostConnection(ctx))
	}
	err = d.lapse(ctx)
	return errors.Join(err, stopWorker(), cli.LostConnection(ctx))
}

// lapse shows what becomes of everybody's jobs while months pass, and bills some subscribers in them.
func (d *demonstration) lapse(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	b := newBilling(d.clock, func(ctx context.Context, job messages.Job) error { return trigger(ctx, d.js, devAccount, job) })
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel(nil)
	beside.Go(func() { d.clock.run(ctx, b.next) })
	beside.Go(func() { cancel(b.bill(ctx)) })
	err := follow(ctx, d.js, after(d.position), everyRecord, func(r record) error {
		b.take(r)
		return d.show(r, nil)
	})
	return errors.Join(err, cli.LostConnection(ctx))
}

// verdict compares what was promised with Klarna's books.
func (d *demonstration) verdict(books klarnasim.Books) error {
	fmt.Fprintln(d.aside)
	d.kept.summary(d.aside, books)
	if broken := d.kept.broken(books); len(broken) > 0 {
		for _, b := range broken {
			fmt.Fprintln(d.t.margin(), d.t.margin().Paint(cli.Alarm, "PROMISE BROKEN:"), b)
		}
		return cli.ErrReported
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

// untilSettled shows results until every job has one.
func (d *demonstration) untilSettled(ctx context.Context) error {
	waiting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	patience := time.AfterFunc(devPatience, giveUp)
	defer patience.Stop()
	d.quiet = newStandby(d.t.margin())
	defer d.quiet.end()
	err := follow(waiting, d.js, after(d.position), everyRecord, func(r record) error {
		patience.Reset(devPatience)
		d.quiet.end()
		settled, err := d.take(r)
		defer func() { d.quiet.begin(d.kept.awaited()) }()
		if err != nil {
			return err
		}
		d.bar.Set(int64(len(d.kept.jobs) - d.kept.open))
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
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case d.kept.open > 0:
		return fmt.Errorf("%d of %d jobs have no result, and none came for %s", d.kept.open, len(d.kept.jobs), devPatience)
	}
	return nil
}

// untilEnd reads what else the journal holds.
func (d *demonstration) untilEnd(ctx context.Context) error {
	end, err := lastSequence(ctx, d.js)
	if err != nil || d.position >= end {
		return err
	}
	return follow(ctx, d.js, after(d.position), everyRecord, func(r record) error {
		if _, err := d.take(r); err != nil || r.sequence < end {
			return err
		}
		return desk.ErrStop
	})
}

// take keeps account of a record and shows it, but not those of many jobs to a person.
func (d *demonstration) take(r record) (*outcome, error) {
	d.position = r.sequence
	settled := d.kept.result(r)
	if d.jobs > 0 && !d.asJSON {
		return settled, nil
	}
	return settled, d.show(r, settled)
}

func (d *demonstration) show(r record, settled *outcome) error {
	if isClaim(r.Kind) {
		return nil
	}
	p := d.t.page()
	switch {
	case d.asJSON, settled == nil && d.clock.speed == 1:
		return printRecord(d.t, r, d.asJSON)
	case settled == nil:
		return p.Lines(datedLayout().Format(r.dated(p), p.Width)...)
	}
	return p.Lines(variantLayout().Format(append([]string{settled.about}, r.cells(p)...), p.Width)...)
}

// datedLayout is that of records of which the day matters more than the second.
func datedLayout() cli.Layout {
	l := recordLayout()
	l.Widths[0] = len(day)
	return l
}

const day = "2006-01-02 15:04"

func (r record) dated(p *cli.Page) []string {
	cells := r.cells(p)
	cells[0] = p.Paint(cli.Dim, r.At.Local().Format(day))
	return cells
}

// variantLayout is that of records with what they are about before them.
func variantLayout() cli.Layout {
	l := recordLayout()
	l.Widths, l.Indent = append([]int{40}, l.Widths...), 4 // the longest text about a variant has 40 characters
	return l
}

// startWorker runs a worker with the pauses that nobody wants to watch cut short. stop returns when it is quiet, and
// may be called again.
func (d *demonstration) startWorker(ctx context.Context) (stop func() error, err error) {
	entry := cli.AccountEntry{Name: string(devAccount), Endpoint: d.simulator.URL, Username: devUser, Password: devPassword, Where: func(key string) string { return key }}
	options := worker.DefaultOptions()
	account, err := entry.Client(options.TryTimeout, false, d.log)
	if err != nil {
		return nil, err
	}
	d.clock.set(&options)
	options.Batching = journal.BatchSynced // as brokerOptions has it
	options.Name, options.Accounts, options.Log = workerName(), []worker.Account{account}, d.log
	// What a lease leaves beside the tries is for clocks that are apart, and is waited for where an answer was lost: the broker's and
	// the worker's are one here.
	options.TryBudget = 44 * time.Second
	options.SettleDelay, options.RetryDelays = time.Second, []time.Duration{500 * time.Millisecond, time.Second}
	w, err := worker.New(d.js, options)
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
