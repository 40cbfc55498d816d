package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

type deadCmd struct {
	List   deadListCmd   `cmd:"" help:"The jobs that no machine can finish."`
	Show   deadShowCmd   `cmd:"" help:"One of them, whole."`
	Replay deadReplayCmd `cmd:"" help:"Publish them again, past the same checks and under the same key."`
	Drop   deadDropCmd   `cmd:"" help:"Forget them."`
}

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

// entry is a dead letter as JSON.
type entry struct {
	Sequence       uint64                  `json:"sequence"`
	Account        messages.Account        `json:"account"`
	Reason         messages.Reason         `json:"reason"`
	Job            desk.JobKind            `json:"job"`
	ID             messages.MessageID      `json:"id,omitempty"`
	SubscriptionID messages.SubscriptionID `json:"subscription_id,omitempty"`
	Period         messages.Period         `json:"period,omitempty"`
	IdempotencyKey messages.IdempotencyKey `json:"idempotency_key,omitempty"`
	At             time.Time               `json:"at"`
	Errors         []messages.Problem      `json:"errors,omitempty"`
	JobSequence    uint64                  `json:"job_sequence,omitempty"` // in RENEWALS
	Fault          string                  `json:"fault,omitempty"`
}

func entryOf(l desk.Letter) entry {
	e := entry{
		Sequence: l.Number, Account: l.Account, Reason: l.Reason, Job: l.Kind, ID: l.Reading.Job.ID, SubscriptionID: l.Reading.Job.SubscriptionID,
		Period: l.Reading.Job.Period, IdempotencyKey: l.Key, At: l.At, Errors: l.Errors, JobSequence: l.Sequence,
	}
	if l.Fault != nil {
		e.Fault = l.Fault.Error()
	}
	return e
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

type deadListCmd struct {
	NATS   cli.NATSSettings `embed:""`
	Log    cli.LogSettings  `embed:""`
	Filter letterFilter     `embed:""`
	JSON   bool             `name:"json" help:"JSON Lines."`
}

func (c *deadListCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	takes, err := c.Filter.picks(time.Now())
	if err != nil {
		return err
	}
	ctx, d, err := deadLetters(ctx, c.NATS, s, t, c.Log)
	if err != nil {
		return err
	}
	defer d.JetStream.Conn().Close()
	n, now, table := 0, time.Now(), letterTable()
	err = d.All(ctx, takes, func(l desk.Letter) error {
		n++
		if c.JSON {
			return json.NewEncoder(t.stdout).Encode(entryOf(l))
		}
		table.add(cellsOf(l, now)...)
		return nil
	})
	if err == nil && n == 0 {
		fmt.Fprintln(t.stderr, "no dead letters")
	}
	if len(table.rows) > 0 {
		table.print(t.page())
	}
	return err
}

func letterTable() *table {
	t := newTable("SEQ", "AGE", "ACCOUNT", "JOB", "REASON", "ID", "WHY")
	t.prose = true
	return t
}

func cellsOf(l desk.Letter, now time.Time) []any {
	return []any{l.Number, age(now, l.At), cli.Printable(cmp.Or(string(l.Account), "-")), l.Kind, cli.Printable(cmp.Or(string(l.Reason), "-")),
		cli.Printable(cmp.Or(string(l.Reading.Job.ID), "-")), whyOf(l)}
}

// why is the first thing that is wrong.
func whyOf(l desk.Letter) string {
	switch {
	case l.Fault != nil:
		return cli.Printable("not written by a worker: " + l.Fault.Error())
	case len(l.Errors) == 0:
		return ""
	case len(l.Errors) > 1:
		return cli.Printable(fmt.Sprintf("%s: %s (and %d more)", l.Errors[0].Path, l.Errors[0].Message, len(l.Errors)-1))
	}
	return cli.Printable(l.Errors[0].Path + ": " + l.Errors[0].Message)
}

type deadShowCmd struct {
	NATS        cli.NATSSettings `embed:""`
	Log         cli.LogSettings  `embed:""`
	Sequence    uint64           `arg:"" name:"seq" help:"Its sequence, from renewals dead list."`
	RevealToken bool             `help:"Show the customer token: whoever has it can charge." from:"command-line"`
	JSON        bool             `name:"json" help:"As JSON, the payload as a string."`
}

func (c *deadShowCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	ctx, d, err := deadLetters(ctx, c.NATS, s, t, c.Log)
	if err != nil {
		return err
	}
	defer d.JetStream.Conn().Close()
	l, err := d.Get(ctx, c.Sequence)
	if errors.Is(err, desk.ErrGone) {
		return fmt.Errorf("dead letter %d is gone: %w", c.Sequence, err)
	}
	if err != nil {
		return asked(c.Sequence, err)
	}
	hide := redaction{}
	if !c.RevealToken {
		hide = redactionOf(l.Payload)
	}
	header := nats.Header{}
	for name, values := range l.Headers {
		for _, v := range values {
			header[name] = append(header[name], hide.text(v))
		}
	}
	payload := hide.payload(l.Payload)
	if c.JSON {
		encoder := json.NewEncoder(t.stdout)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(struct {
			entry
			Subject string      `json:"subject"`
			Stored  time.Time   `json:"stored_at"`
			Headers nats.Header `json:"headers"`
			Payload string      `json:"payload"`
		}{entryOf(l), l.Filed, l.Stored, header, string(payload)})
	}
	page := t.page()
	fmt.Fprintf(page, "sequence %d of %s, stored %s, %s ago\nsubject %s\n\n", l.Number, messages.StreamDead, clock(l.Stored), age(time.Now(), l.Stored), cli.Printable(l.Filed))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, v := range header[name] {
			fmt.Fprintf(page, "%s: %s\n", cli.Printable(name), cli.Printable(v))
		}
	}
	fmt.Fprintln(page)
	return printPayload(page, payload)
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
	case !c.All && c.Filter.narrows():
		return cli.Usagef("--account, --reason, --subscription, --since, --until: for --all only")
	}
	_, err := c.Filter.picks(time.Now())
	return err
}

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
	if len(sequences) > 0 && !c.Yes && cli.IsTerminal(t.stdin) && !t.confirm(fmt.Sprintf("Publish %d jobs again (%s)? What passes the checks is charged or captured.", len(sequences), counted(reasons))) {
		fmt.Fprintln(t.stderr, "nothing was changed")
		return cli.ErrReported
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

// asked is the error of a dead letter that was asked for.
func asked(sequence uint64, err error) error {
	if errors.Is(err, desk.ErrNoLetter) {
		return cli.Usagef("SEQ: %d, expected a sequence that `renewals dead list` shows", sequence)
	}
	return err
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
		if err := t.agreed(c.Yes, fmt.Sprintf("Drop %d dead letters (%s)? Their jobs are lost; what is unresolved stays so.", len(sequences), counted(reasons))); err != nil {
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

// printPayload writes a payload for a person, line by line so that nothing in it steers the terminal.
func printPayload(w io.Writer, payload []byte) error {
	for line := range strings.Lines(indented(payload)) {
		if _, err := fmt.Fprintln(w, cli.Printable(strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", "  "))); err != nil {
			return err
		}
	}
	return nil
}
