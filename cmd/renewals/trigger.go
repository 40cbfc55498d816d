package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
)

type triggerCmd struct {
	NATS cli.NATSSettings `embed:""`
	Log  cli.LogSettings  `embed:""`

	Case    string        `arg:"" optional:"" help:"What the simulator shall do, such as ok, soft-decline or 503x2-soft-decline."`
	List    bool          `help:"List the cases." from:"command-line"`
	Wait    bool          `help:"Wait for the result and print it."`
	Within  time.Duration `default:"2m" help:"How long --wait waits."`
	Account string        `setting:"KLARNA_ACCOUNT" default:"default" help:"The account to charge."`
	JSON    bool          `name:"json" help:"As JSON Lines."`
}

func (c *triggerCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if c.List {
		if c.JSON {
			return writeCases(t.stdout)
		}
		return listCases(t.page())
	}
	account, err := messages.ParseAccount(c.Account)
	if err != nil {
		return cli.Usagef("%s: %w", s.Place("account"), err)
	}
	if c.Case == "" {
		return cli.Usagef("CASE: none, expected one of `renewals trigger --list`")
	}
	triggered, err := caseSample(newRun(), c.Case, time.Now())
	if err != nil {
		return cli.Usagef("CASE: %w; `renewals trigger --list` has all", err)
	}
	if err := forSimulator(s.Lookup("KLARNA_ENDPOINT")); err != nil {
		return cli.Usage(err)
	}
	server, err := c.NATS.Server(s)
	if err != nil {
		return err
	}
	server.Follows = c.Wait
	ctx, js, err := server.Connect(ctx, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	position := uint64(0)
	if c.Wait {
		if position, err = lastSequence(ctx, js); err != nil {
			return err
		}
	}
	if err := trigger(ctx, js, account, triggered.job); err != nil {
		return err
	}
	if err := c.tell(t, account, triggered); err != nil || !c.Wait {
		return err
	}
	return c.wait(ctx, js, position, triggered.job, t)
}

// forSimulator refuses Klarna itself, which knows none of the tokens.
func forSimulator(name string) error {
	endpoint, err := klarna.ResolveEndpoint(name, true)
	if err != nil {
		return nil // nothing is sent there
	}
	for _, domain := range []string{".klarna.com", ".kustom.co"} {
		if strings.HasSuffix(endpoint.Hostname(), domain) {
			return fmt.Errorf("KLARNA_ENDPOINT: %s is not the simulator, which alone knows the customer tokens of these jobs; `renewals dev --keep-running` prints what to export", endpoint.Hostname())
		}
	}
	return nil
}

func trigger(ctx context.Context, js jetstream.JetStream, account messages.Account, job messages.Job) error {
	msg, err := messages.NewMessage(account, job)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err = js.PublishMsg(ctx, msg)
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		return fmt.Errorf("publish to %s: no stream takes it; run `renewals provision`, or `renewals dev --keep-running`", msg.Subject)
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", msg.Subject, err)
	}
	return nil
}

// tell says what was published, and how to see what becomes of it.
func (c *triggerCmd) tell(t *terminal, account messages.Account, s sample) error {
	name := desk.Argument(string(s.job.SubscriptionID) + "/" + string(s.job.Period))
	if c.JSON {
		return json.NewEncoder(t.stdout).Encode(struct {
			Published      messages.MessageID      `json:"published"`
			Account        messages.Account        `json:"account"`
			SubscriptionID messages.SubscriptionID `json:"subscription_id"`
			Period         messages.Period         `json:"period"`
		}{s.job.ID, account, s.job.SubscriptionID, s.job.Period})
	}
	w := t.page()
	fmt.Fprintf(w, "published %s for account %s\n", s.job.ID, account)
	if r, known := rulingOn(c.Case); known {
		fmt.Fprintf(w, "  expected:  %s\n", r)
	}
	fmt.Fprintf(w, "  watch it:  renewals watch --since 5m --subscription %s\n  or:        renewals show %s\n", desk.Argument(string(s.job.SubscriptionID)), name)
	return nil
}

// wait prints what becomes of a job until that is final.
func (c *triggerCmd) wait(ctx context.Context, js jetstream.JetStream, position uint64, job messages.Job, t *terminal) error {
	waiting, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	final := false
	ours := func(a messages.RecordAddress) bool {
		return a.Renewal == messages.NewRenewal(job.SubscriptionID, job.Period) && !isClaim(a.Kind)
	}
	err := follow(waiting, js, after(position), ours, func(r record) error {
		if r.ID != job.ID {
			return nil
		}
		if err := printRecord(t, r, c.JSON); err != nil || r.Kind == messages.KindPending {
			return err
		}
		final = true
		return desk.ErrStop
	})
	switch {
	case err != nil || final:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("no result of %s within %s; `renewals status` says whether a worker runs, `renewals show %s` how far it has come", job.ID, cli.Lapse(c.Within),
		desk.Argument(string(job.SubscriptionID)+"/"+string(job.Period)))
}

// listCases prints what the simulator can be made to do.
func listCases(p *cli.Page) error {
	table := cli.NewTable("CASE", "RESULT", "KLARNA")
	table.Prose = true
	for _, c := range klarnasim.Cases() {
		r, _ := rulingOn(c.Name)
		table.Add(c.Name, p.Paint(tone(r.kind), string(r.kind)), c.Answers)
	}
	table.Print(p)
	_, err := fmt.Fprintln(p, "\nSeveral can be joined, and tries counted: 503x2-soft-decline, created-cutx3-ok, slow-5000-502x1-html-cancelled. "+
		"A result of unresolved comes once the key of the first request may not be used any more, after 23 h.")
	return err
}

// writeCases is listCases for programs.
func writeCases(w io.Writer) error {
	encoder := json.NewEncoder(w)
	for _, c := range klarnasim.Cases() {
		r, _ := rulingOn(c.Name)
		if err := encoder.Encode(struct {
			Case    string          `json:"case"`
			Answers string          `json:"answers"`
			Kind    messages.Kind   `json:"kind"`
			Reason  messages.Reason `json:"reason,omitempty"`
		}{c.Name, c.Answers, r.kind, r.reason}); err != nil {
			return err
		}
	}
	return nil
}

type sampleCmd struct {
	Case []string `arg:"" optional:"" help:"What the simulator shall do, as for trigger. Default: each case once."`
	Jobs int      `default:"0" help:"How many jobs, the cases in turn. Default: each case once."`
}

func (c *sampleCmd) Run(t *terminal) error {
	if c.Jobs < 0 {
		return cli.Usagef("--jobs: %d, expected 0 or more", c.Jobs)
	}
	cases := c.Case
	for _, one := range klarnasim.Cases() {
		if len(c.Case) == 0 {
			cases = append(cases, one.Name)
		}
	}
	run, now, printed := newRun(), time.Now(), map[string]int{}
	for i := range cmp.Or(c.Jobs, len(cases)) {
		name := cases[i%len(cases)]
		s, err := caseSample(fmt.Sprintf("%s-%d", run, printed[name]), name, now)
		if err != nil {
			return cli.Usagef("CASE: %w; `renewals trigger --list` has all", err)
		}
		printed[name]++
		line, err := s.job.Encode()
		if err != nil {
			return fmt.Errorf("encode %s: %w", s.job.ID, err)
		}
		if _, err := t.stdout.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}
