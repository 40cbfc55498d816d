package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
)

// letterFilter picks dead letters by what is in their headers.
type letterFilter struct {
	Account []string `help:"Accounts. Default: all." from:"command-line"`
	Reason  []string `help:"Reasons, such as invalid or already_paid. Default: all." from:"command-line"`

	Subscription string `help:"Those of one subscription, as far as their jobs can be read. Default: all." from:"command-line"`
	Since        string `help:"Those filed since then: a duration, 90m or 7d, or a time, 2026-12-01T00:00:00Z. Default: all." from:"command-line"`
	Until        string `help:"Those filed until then. Default: all." from:"command-line"`
}

// picks reads the flags.
func (f letterFilter) picks(now time.Time) (takes func(desk.Letter) bool, err error) {
	since, err := momentOf("--since", f.Since, now)
	if err != nil {
		return nil, cli.Usage(err)
	}
	until, err := momentOf("--until", f.Until, now)
	if err != nil {
		return nil, cli.Usage(err)
	}
	for _, name := range f.Account {
		if _, err := messages.ParseAccount(name); err != nil {
			return nil, cli.Usagef("--account: %w", err)
		}
	}
	known := slices.Concat(messages.Reasons(messages.KindRejected), messages.Reasons(messages.KindUnresolved), desk.NeedRefund())
	for _, reason := range f.Reason {
		if !slices.Contains(known, messages.Reason(reason)) {
			return nil, cli.Usagef("--reason: %q, expected one of %s", reason, join(known))
		}
	}
	return func(l desk.Letter) bool {
		return (f.Subscription == "" || string(l.Reading.Job.SubscriptionID) == f.Subscription) &&
			!l.At.Before(since) && (until.IsZero() || !l.At.After(until)) &&
			(len(f.Account) == 0 || slices.Contains(f.Account, string(l.Account))) &&
			(len(f.Reason) == 0 || slices.Contains(f.Reason, string(l.Reason)))
	}, nil
}

// narrows says that it does not take every letter.
func (f letterFilter) narrows() bool {
	return len(f.Account)+len(f.Reason) > 0 || f.Subscription+f.Since+f.Until != ""
}

// letterChoice says which dead letters are meant.
type letterChoice struct {
	Sequences []uint64     `arg:"" optional:"" name:"seq" help:"Sequences, from renewals dead list."`
	All       bool         `help:"All that --account, --reason and the other filters leave." from:"command-line"`
	Filter    letterFilter `embed:""`
	JSON      bool         `name:"json" help:"What became of each, as JSON Lines."`
}

func (c letterChoice) check() error {
	switch {
	case c.All && len(c.Sequences) > 0:
		return cli.Usagef("SEQ: given beside --all, expected one of them")
	case !c.All && len(c.Sequences) == 0:
		return cli.Usagef("SEQ: none, expected sequences of `renewals dead list`, or --all")
	case slices.Contains(c.Sequences, 0):
		return errNoSequence
	case !c.All && c.Filter.narrows():
		return cli.Usagef("--account, --reason, --subscription, --since, --until: for --all only")
	}
	_, err := c.Filter.picks(time.Now())
	return err
}

var errNoSequence = cli.Usagef("SEQ: 0, expected a sequence of `renewals dead list`: they begin with 1")

// read collects the sequences of what was chosen, counted by reason: what a replay brings forth is not among them.
// Payloads are read again one by one, since all of them may be more than memory holds.
func (c letterChoice) read(ctx context.Context, d desk.DeadLetters) (sequences []uint64, reasons map[string]int, err error) {
	reasons = map[string]int{}
	note := func(l desk.Letter) error {
		sequences = append(sequences, l.Number)
		reasons[cmp.Or(string(l.Reason), "unreadable")]++
		return nil
	}
	if c.All {
		takes, err := c.Filter.picks(time.Now())
		if err != nil {
			return nil, nil, err
		}
		return sequences, reasons, d.All(ctx, takes, note)
	}
	for _, sequence := range slices.Compact(slices.Sorted(slices.Values(c.Sequences))) {
		switch l, err := d.Get(ctx, sequence); {
		case errors.Is(err, desk.ErrGone):
			sequences = append(sequences, sequence) // to be reported in its turn
		case err != nil:
			return nil, nil, asked(sequence, err)
		default:
			_ = note(l)
		}
	}
	return sequences, reasons, nil
}

// asked is the error of a dead letter that was asked for.
func asked(sequence uint64, err error) error {
	if errors.Is(err, desk.ErrNoLetter) {
		return cli.Usagef("SEQ: %d, expected a sequence that `renewals dead list` shows", sequence)
	}
	return err
}

// deadLetters opens the dead letters for one command.
func deadLetters(ctx context.Context, n cli.NATSSettings, s *cli.Settings, t *terminal, l cli.LogSettings) (context.Context, desk.DeadLetters, error) {
	server, err := n.Server(s)
	if err != nil {
		return nil, desk.DeadLetters{}, err
	}
	ctx, js, err := server.Connect(ctx, l.Logger(t.logs()))
	if err != nil {
		return nil, desk.DeadLetters{}, err
	}
	d, err := desk.OpenDeadLetters(ctx, js)
	if err != nil {
		js.Conn().Close()
	}
	return ctx, d, err
}
