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
)

type deadCmd struct {
	List   deadListCmd   `cmd:"" help:"The jobs that no machine can finish."`
	Show   deadShowCmd   `cmd:"" help:"One of them, whole."`
	Replay deadReplayCmd `cmd:"" help:"Publish them again, past the same checks and under the same key."`
	Drop   deadDropCmd   `cmd:"" help:"Forget them."`
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
		table.Add(cellsOf(l, now)...)
		return nil
	})
	if err == nil && n == 0 {
		fmt.Fprintln(t.stderr, "no dead letters")
	}
	if n > 0 && !c.JSON {
		table.Print(t.page())
	}
	return err
}

func letterTable() *cli.Table {
	t := cli.NewTable("SEQ", "AGE", "ACCOUNT", "JOB", "REASON", "ID", "WHY")
	t.Prose = true
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
	if c.Sequence == 0 {
		return errNoSequence
	}
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

// printPayload writes a payload for a person, line by line so that nothing in it steers the terminal.
func printPayload(w io.Writer, payload []byte) error {
	for line := range strings.Lines(indented(payload)) {
		if _, err := fmt.Fprintln(w, cli.Printable(strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", "  "))); err != nil {
			return err
		}
	}
	return nil
}
