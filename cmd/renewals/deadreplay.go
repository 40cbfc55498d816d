package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

type deadReplayCmd struct {
	NATS   cli.NATSSettings `embed:""`
	Log    cli.LogSettings  `embed:""`
	Choice letterChoice     `embed:""`
	Yes    bool             `help:"Do not ask." from:"command-line"`
}

func (c *deadReplayCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if err := c.Choice.check(); err != nil {
		return err
	}
	ctx, f, err := finder(ctx, c.NATS, s, t, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	defer f.JetStream.Conn().Close()
	d, err := desk.OpenDeadLetters(ctx, f.JetStream)
	if err != nil {
		return err
	}
	sequences, reasons, err := c.Choice.read(ctx, d)
	if err != nil {
		return err
	}
	// Without a terminal nobody is asked: a replay passes every check of a fresh job and keeps its key, so a mistaken one
	// charges nothing that may not be charged.
	if len(sequences) > 0 && cli.IsTerminal(t.stdin) {
		if err := t.agreed(ctx, c.Yes, fmt.Sprintf("Publish %d jobs again (%s)? What passes the checks is charged or captured.", len(sequences), counted(reasons))); err != nil {
			return err
		}
	}
	told := newFates(t, c.Choice.JSON, "replayed", len(sequences))
	for _, sequence := range sequences {
		if err := c.replay(ctx, f.Journal, d, sequence, told); err != nil {
			return errors.Join(err, told.close("nothing was replayed"))
		}
	}
	return told.close("nothing to replay")
}

// replay replays one and tells what became of it.
func (c *deadReplayCmd) replay(ctx context.Context, records *journal.Journal, d desk.DeadLetters, sequence uint64, told *fates) error {
	l, refused, err := d.Replay(ctx, records, sequence)
	switch {
	case errors.Is(err, desk.ErrGone):
		told.tell(l, "gone", err.Error())
		return nil
	case err != nil:
		return asked(sequence, err)
	case refused != "":
		told.tell(l, "refused", refused)
		told.failed = true
		return nil
	}
	told.tell(l, "replayed", "")
	return nil
}

type deadDropCmd struct {
	NATS   cli.NATSSettings `embed:""`
	Log    cli.LogSettings  `embed:""`
	Choice letterChoice     `embed:""`
	Yes    bool             `help:"Do not ask." from:"command-line"`
}

func (c *deadDropCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if err := c.Choice.check(); err != nil {
		return err
	}
	ctx, d, err := deadLetters(ctx, c.NATS, s, t, c.Log)
	if err != nil {
		return err
	}
	defer d.JetStream.Conn().Close()
	sequences, reasons, err := c.Choice.read(ctx, d)
	if err != nil {
		return err
	}
	if len(sequences) > 0 {
		if err := t.agreed(ctx, c.Yes, fmt.Sprintf("Drop %d dead letters (%s)? Their jobs are lost; what is unresolved stays so.", len(sequences), counted(reasons))); err != nil {
			return err
		}
	}
	told := newFates(t, c.Choice.JSON, "dropped", len(sequences))
	for _, sequence := range sequences {
		l, err := d.Get(ctx, sequence)
		switch {
		case errors.Is(err, desk.ErrGone):
			told.tell(desk.Letter{Number: sequence}, "gone", err.Error())
			continue
		case err == nil:
			err = d.Drop(ctx, sequence)
		}
		if err != nil {
			return errors.Join(asked(sequence, err), told.close("nothing was dropped"))
		}
		told.tell(l, "dropped", "")
	}
	return told.close("nothing to drop")
}

// fates tells what became of each of many dead letters: the odd ones as they come, all of them as JSON, the sum in the end.
type fates struct {
	t      *terminal
	asJSON bool
	bar    *cli.Progress
	counts map[string]int
	seen   int64
	failed bool
}

func newFates(t *terminal, asJSON bool, label string, total int) *fates {
	return &fates{t: t, asJSON: asJSON, bar: cli.NewProgress(t.stderr, label, int64(total)), counts: map[string]int{}}
}

// tell notes one fate; why is there where it is not what was asked for.
func (f *fates) tell(l desk.Letter, fate, why string) {
	f.counts[fate]++
	f.seen++
	f.bar.Set(f.seen)
	if f.asJSON {
		encoder := json.NewEncoder(f.t.stdout)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(struct {
			Sequence uint64             `json:"sequence"`
			ID       messages.MessageID `json:"id,omitempty"`
			Fate     string             `json:"fate"`
			Why      string             `json:"why,omitempty"`
		}{l.Number, l.Reading.Job.ID, fate, why})
		return
	}
	if why != "" {
		f.bar.Printf("%d: %s: %s: %s\n", l.Number, cli.Printable(cmp.Or(string(l.Reading.Job.ID), "-")), fate, cli.Printable(why))
	}
}

func (f *fates) close(nothing string) error {
	f.bar.Done()
	if !f.asJSON {
		fmt.Fprintln(f.t.stdout, cmp.Or(counted(f.counts), nothing))
	}
	if f.failed {
		return cli.ErrReported
	}
	return nil
}
