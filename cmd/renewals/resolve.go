package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

type resolveCmd struct {
	NATS     cli.NATSSettings     `embed:""`
	Account  cli.AccountSettings  `embed:""`
	Log      cli.LogSettings      `embed:""`
	Decision cli.DecisionSettings `embed:""`

	ID          string        `arg:"" optional:"" help:"SUBSCRIPTION/PERIOD, or the message ID of its job."`
	From        string        `placeholder:"FILE" help:"Settle many: CSV with a header, or JSON Lines, with verdict, order_id, capture_id and note for each id, or subscription and period; renewals status --unresolved --csv makes one. - is standard input." from:"command-line"`
	Paid        bool          `xor:"verdict" help:"Of a charge: Klarna has an order for it." from:"command-line"`
	NotCharged  bool          `xor:"verdict" help:"Of a charge: Klarna has none; the attempt failed, the next may be made." from:"command-line"`
	NotCaptured bool          `xor:"verdict" help:"Of a capture: Klarna has none; the order can still be captured." from:"command-line"`
	Captured    *bool         `help:"Of a capture: Klarna has it. With --paid: whether the money is captured, which has to be what Klarna says; needed with --unverified where Klarna was not asked." from:"command-line"`
	OrderID     string        `name:"order-id" help:"With --paid: the order, as Klarna's portal shows it." from:"command-line"`
	CaptureID   string        `name:"capture-id" help:"With --captured: the capture, as Klarna's portal shows it." from:"command-line"`
	Unverified  bool          `help:"Record it although Klarna shows something else, or cannot be asked: on your word alone, which the record says." from:"command-line"`
	Correct     bool          `help:"Settle otherwise what an operator settled wrongly, while nothing has followed; both decisions stay on the record." from:"command-line"`
	JSON        bool          `name:"json" help:"The record that settles it, as JSON."`
	KeyWindow   time.Duration `default:"${key_window}" hidden:""`
}

// verdict reads the flags. --captured is one by itself, and a detail beside --paid.
func (c *resolveCmd) verdict() desk.Verdict {
	switch {
	case c.Paid:
		return desk.VerdictPaid
	case c.NotCharged:
		return desk.VerdictNotCharged
	case c.NotCaptured:
		return desk.VerdictNotCaptured
	case c.Captured != nil && *c.Captured:
		return desk.VerdictCaptured
	}
	return ""
}

func (c *resolveCmd) ruling() desk.Ruling {
	r := desk.Ruling{Verdict: c.verdict(), OrderID: c.OrderID, CaptureID: c.CaptureID}
	if c.Paid {
		r.Captured = c.Captured
	}
	return r
}

// decisionTimeout bounds the writing of a decision: somebody is waiting for it.
const decisionTimeout = 30 * time.Second

func (c *resolveCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx, f, err := finder(ctx, c.NATS, s, t, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	defer f.JetStream.Conn().Close()
	dead, err := desk.OpenDeadLetters(ctx, f.JetStream)
	if err != nil {
		return err
	}
	acts := &settling{
		finder: f, dead: dead, decision: c.Decision, correct: c.Correct, t: t, aside: t.beside(c.JSON), asJSON: c.JSON,
		checker: desk.Checker{Now: time.Now, Merchant: merchants(c.Account, s, c.Log.Logger(t.logs()))},
	}
	if c.From != "" {
		return c.many(ctx, acts, t)
	}
	return c.one(ctx, acts, t)
}

// one settles one renewal.
func (c *resolveCmd) one(ctx context.Context, acts *settling, t *terminal) error {
	h, err := one(ctx, acts.finder, c.ID)
	if err != nil {
		return err
	}
	h.print(acts.aside, time.Now(), c.KeyWindow)
	if err := c.allowed(h.state); err != nil {
		return fmt.Errorf("resolve: %w", err)
	}
	ruling := c.ruling()
	if err := h.takes(ruling.Verdict); err != nil {
		return err
	}
	unresolved, err := h.unresolved()
	if err != nil {
		return fmt.Errorf("resolve: %w", err)
	}
	comparison, mentions, err := c.look(ctx, acts, unresolved, ruling)
	if err != nil {
		return err
	}
	captured := comparison.Captured
	if comparison.Seen == nil {
		captured = ruling.Captured != nil && *ruling.Captured
	}
	if err := t.agreed(ctx, c.Decision.Yes, c.question(h, comparison, captured)); err != nil {
		return err
	}
	_, err = acts.write(ctx, unresolved, ruling, comparison, mentions, captured, "")
	return err
}

// look asks Klarna about what the operator says, shows the comparison, and fails where that does not fit, or Klarna cannot be asked. With
// --unverified neither is an error.
func (c *resolveCmd) look(ctx context.Context, acts *settling, unresolved desk.Case, r desk.Ruling) (desk.Comparison, *desk.Mentions, error) {
	comparison, err := acts.checker.Look(ctx, unresolved, r)
	var usage cli.UsageError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return comparison, nil, err
	case c.Unverified:
		fmt.Fprintln(acts.aside, "not looked up:", cli.Printable(err.Error()))
		if c.Paid && c.Captured == nil && comparison.Seen == nil {
			return comparison, nil, cli.Usagef("--captured: not set, and Klarna was not asked; expected --captured=true or --captured=false")
		}
	case errors.As(err, &usage):
		return comparison, nil, err
	default:
		return comparison, nil, fmt.Errorf("resolve: %w; nothing was recorded", err)
	}
	mentions, err := acts.named(ctx, unresolved, r, &comparison)
	if err != nil {
		return comparison, nil, err
	}
	printComparison(acts.aside, comparison, unresolved.GaveUp.Account)
	if no := comparison.Differences(); len(no) > 0 && !c.Unverified {
		return comparison, nil, fmt.Errorf("resolve: nothing was recorded, since Klarna does not bear it out:\n  %s\nsettle it as it is at Klarna; or with --unverified on your word alone%s", cli.Printable(strings.Join(no, "; ")), again(r.Verdict))
	}
	return comparison, mentions, nil
}

// again is what may come of a wrong verdict that nothing was made.
func again(v desk.Verdict) string {
	switch v {
	case desk.VerdictNotCharged:
		return ", and the customer may be charged a second time"
	case desk.VerdictNotCaptured:
		return ", and the money may be captured a second time"
	}
	return ""
}

// question is what a person agrees to, with what has to be looked for at Klarna before.
func (c *resolveCmd) question(h history, comparison desk.Comparison, captured bool) string {
	var question string
	switch c.verdict() {
	case desk.VerdictPaid:
		question = fmt.Sprintf("Record %s as paid with order %s, captured: %t?", h.name(), cli.Printable(c.OrderID), captured)
	case desk.VerdictNotCharged:
		question = fmt.Sprintf("Record that %s was not charged? Its next attempt may then be made.", h.name())
	case desk.VerdictCaptured:
		question = fmt.Sprintf("Record that capture %s took %s, for %s?", cli.Printable(c.CaptureID), h.capture(), h.name())
	case desk.VerdictNotCaptured:
		question = fmt.Sprintf("Record that %s were not captured, for %s? They may then be captured by another job.", h.capture(), h.name())
	}
	say := "Sought at Klarna: " + strings.Join(h.sought(), "; ") + "\n"
	if v := c.verdict(); v == desk.VerdictNotCharged || v == desk.VerdictNotCaptured {
		say += early(h.of(messages.KindUnresolved).SearchUntil, time.Now())
	}
	if !comparison.Verified() {
		say += "Nothing at Klarna bears this out: it is recorded as your word alone.\n"
	}
	return say + question
}

// early warns of a verdict that nothing was made while Klarna may still make it; "" once it cannot.
func early(until, now time.Time) string {
	if !now.Before(until) {
		return ""
	}
	return fmt.Sprintf("Too early: Klarna may be at work on it until %s. What is not there now may be there then.\n", second(until.Add(time.Second-1)))
}

// allowed says why the renewal cannot be settled by hand as it stands.
func (c *resolveCmd) allowed(s journal.State) error {
	if c.Correct {
		return s.Correctable()
	}
	err := s.Resolvable()
	if err != nil && s.Correctable() == nil {
		return fmt.Errorf("%w; an operator decided that: put it right with --correct", err)
	}
	return err
}

func (c *resolveCmd) check() error {
	v := c.verdict()
	switch {
	case strings.TrimSpace(c.Decision.Actor) == reconcile.Actor:
		return cli.Usagef("--actor: %s is the program that settles by Klarna's settlements, expected your name", reconcile.Actor)
	case c.From != "" && (c.ID != "" || v != "" || c.Captured != nil || c.OrderID != "" || c.CaptureID != ""):
		return cli.Usagef("--from: the file says which renewals and what became of them, expected neither ID nor verdict beside it")
	case c.From != "" && (c.Unverified || c.Correct):
		return cli.Usagef("--from: what Klarna does not bear out, and what was decided wrongly, is settled one by one, expected neither --unverified nor --correct beside it")
	case c.From != "":
		return nil
	case c.ID == "":
		return cli.Usagef("ID: found nothing, expected SUBSCRIPTION/PERIOD or a message ID, or --from FILE")
	case v == "" && c.Captured != nil:
		return cli.Usagef("--captured: false without --paid, expected --not-captured")
	case v == "":
		return cli.Usagef("missing flags: --paid or --not-charged of a charge, --captured or --not-captured of a capture")
	case v != desk.VerdictPaid && v != desk.VerdictCaptured && c.Captured != nil:
		return cli.Usagef("--captured: with %s, expected one of them", v.Flag())
	case v == desk.VerdictPaid && c.OrderID == "":
		return cli.Usagef("--order-id: not set, expected the order that Klarna's portal shows")
	case v != desk.VerdictPaid && c.OrderID != "":
		return cli.Usagef("--order-id: for --paid only")
	case v == desk.VerdictCaptured && c.CaptureID == "":
		return cli.Usagef("--capture-id: not set, expected the capture that Klarna's portal shows")
	case v != desk.VerdictCaptured && c.CaptureID != "":
		return cli.Usagef("--capture-id: for --captured without --paid only")
	}
	for _, one := range []struct{ flag, id string }{{"--order-id", c.OrderID}, {"--capture-id", c.CaptureID}} {
		if err := desk.CheckID(one.id); err != nil {
			return cli.Usagef("%s: %w", one.flag, err)
		}
	}
	return nil
}

// takes says which verdicts an unresolved renewal needs, where it is given one of the others.
func (h history) takes(v desk.Verdict) error {
	switch {
	case h.state.Capturing() && !v.OfCapture():
		return cli.Usagef("%s: the renewal is paid, what is unresolved is a capture of %s; expected --captured --capture-id CAPTURE, or --not-captured", v.Flag(), h.capture())
	case !h.state.Capturing() && v.OfCapture():
		return cli.Usagef("%s: what is unresolved is a charge, not a capture; expected --paid --order-id ORDER, or --not-charged", v.Flag())
	}
	return nil
}
