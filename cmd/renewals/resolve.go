package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

type resolveCmd struct {
	NATS     natsSettings     `embed:""`
	Log      logSettings      `embed:""`
	Decision decisionSettings `embed:""`

	ID          string        `arg:"" help:"SUBSCRIPTION/PERIOD, or the message ID of its job."`
	Paid        bool          `xor:"verdict" help:"Of a charge: Klarna has an order for it." from:"command-line"`
	NotCharged  bool          `xor:"verdict" help:"Of a charge: Klarna has none; the attempt failed, the next may be made." from:"command-line"`
	NotCaptured bool          `xor:"verdict" help:"Of a capture: Klarna has none; the order can still be captured." from:"command-line"`
	Captured    *bool         `help:"Of a capture: Klarna has it. With --paid: whether the money is captured; default: the auto_capture of the job, from its dead letter." from:"command-line"`
	OrderID     string        `name:"order-id" help:"With --paid: the order, as Klarna's portal shows it." from:"command-line"`
	CaptureID   string        `name:"capture-id" help:"With --captured: the capture, as Klarna's portal shows it." from:"command-line"`
	Correct     bool          `help:"Settle otherwise what an operator settled wrongly, while nothing has followed; both decisions stay on the record." from:"command-line"`
	JSON        bool          `name:"json" help:"The record that settles it, as JSON."`
	KeyWindow   time.Duration `default:"${key_window}" hidden:""`
}

// verdict is what an operator found at Klarna, by the name of its flag.
type verdict string

const (
	verdictPaid        verdict = "--paid"
	verdictNotCharged  verdict = "--not-charged"
	verdictCaptured    verdict = "--captured"
	verdictNotCaptured verdict = "--not-captured"
)

// verdict reads the flags. --captured is one by itself, and a detail beside --paid.
func (c *resolveCmd) verdict() verdict {
	switch {
	case c.Paid:
		return verdictPaid
	case c.NotCharged:
		return verdictNotCharged
	case c.NotCaptured:
		return verdictNotCaptured
	case c.Captured != nil && *c.Captured:
		return verdictCaptured
	}
	return ""
}

func (v verdict) ofCapture() bool { return v == verdictCaptured || v == verdictNotCaptured }

// decisionTimeout bounds the writing of a decision: somebody is waiting for it.
const decisionTimeout = 30 * time.Second

func (c *resolveCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx, f, err := c.NATS.finder(ctx, s, t, c.Log.logger(t))
	if err != nil {
		return err
	}
	defer f.JetStream.Conn().Close()
	h, err := one(ctx, f, c.ID)
	if err != nil {
		return err
	}
	aside := t.stdout
	if c.JSON {
		aside = t.stderr
	}
	h.print(aside, time.Now(), c.KeyWindow)
	if err := c.allowed(h.state); err != nil {
		return fmt.Errorf("resolve: %w", err)
	}
	if err := h.takes(c.verdict()); err != nil {
		return err
	}
	dead, err := desk.OpenDeadLetters(ctx, f.JetStream)
	if err != nil {
		return err
	}
	key := h.state.Claim.Key
	letters, err := dead.Of(ctx, key)
	if err != nil {
		return err
	}
	captured, err := c.captured(letters)
	if err != nil {
		return err
	}

	if err := t.agreed(c.Decision.Yes, c.question(h, captured)); err != nil {
		return err
	}
	if err := unchanged(ctx, f, h); err != nil {
		return err
	}
	decision := c.Decision.decision(time.Now())
	decision.Corrects = c.Correct
	writing, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	err = c.settle(writing, f.Journal, h.renewal, captured, decision)
	if err != nil {
		return decisionProblem("resolve", err)
	}
	after, err := announce(ctx, f, t.stdout, h.renewal, c.JSON)
	if err != nil {
		return err
	}
	return settled(ctx, dead, aside, letters, after.state)
}

// question is what a person agrees to, with what has to be looked for at Klarna before.
func (c *resolveCmd) question(h history, captured bool) string {
	var question string
	switch c.verdict() {
	case verdictPaid:
		question = fmt.Sprintf("Record %s as paid with order %s, captured: %t?", h.name(), printable(c.OrderID), captured)
	case verdictNotCharged:
		question = fmt.Sprintf("Record that %s was not charged? Its next attempt may then be made.", h.name())
	case verdictCaptured:
		question = fmt.Sprintf("Record that capture %s took %s, for %s?", printable(c.CaptureID), h.capture(), h.name())
	case verdictNotCaptured:
		question = fmt.Sprintf("Record that %s were not captured, for %s? They may then be captured by another job.", h.capture(), h.name())
	}
	return "Sought at Klarna: " + strings.Join(h.sought(), "; ") + "\n" + question
}

// settle writes what the operator found.
func (c *resolveCmd) settle(ctx context.Context, records *journal.Journal, r messages.Renewal, captured bool, decision journal.Decision) (err error) {
	switch c.verdict() {
	case verdictPaid:
		err = records.ResolvePaid(ctx, r, c.OrderID, captured, decision)
	case verdictNotCharged:
		err = records.ResolveNotCharged(ctx, r, decision)
	case verdictCaptured:
		err = records.ResolveCaptured(ctx, r, c.CaptureID, decision)
	case verdictNotCaptured:
		err = records.ResolveNotCaptured(ctx, r, decision)
	}
	return err
}

// settled drops the dead letters of what was settled, and points to the jobs that it was in the way of.
func settled(ctx context.Context, d desk.DeadLetters, aside io.Writer, letters []desk.Letter, s journal.State) error {
	for _, l := range letters {
		if !l.Unresolved() {
			continue // of another day, or about another order or capture
		}
		if err := d.Drop(ctx, l.Number); err != nil {
			return fmt.Errorf("resolved, but its dead letter is still there: %w; run `renewals dead drop %d`", err, l.Number)
		}
		fmt.Fprintf(aside, "dead letter %d dropped\n", l.Number)
	}
	return printBlocked(ctx, aside, d, s, messages.ReasonBlockedByUnresolved)
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
	foreign := func(id string) bool {
		return len(id) > 255 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
	}
	v := c.verdict()
	switch {
	case c.ID == "":
		return usagef("ID: found nothing, expected SUBSCRIPTION/PERIOD or a message ID")
	case v == "" && c.Captured != nil:
		return usagef("--captured: false without --paid, expected --not-captured")
	case v == "":
		return usagef("missing flags: --paid or --not-charged of a charge, --captured or --not-captured of a capture")
	case v != verdictPaid && v != verdictCaptured && c.Captured != nil:
		return usagef("--captured: with %s, expected one of them", v)
	case v == verdictPaid && c.OrderID == "":
		return usagef("--order-id: not set, expected the order that Klarna's portal shows")
	case v != verdictPaid && c.OrderID != "":
		return usagef("--order-id: for --paid only")
	case v == verdictCaptured && c.CaptureID == "":
		return usagef("--capture-id: not set, expected the capture that Klarna's portal shows")
	case v != verdictCaptured && c.CaptureID != "":
		return usagef("--capture-id: for --captured without --paid only")
	case foreign(c.OrderID):
		return usagef("--order-id: %q, expected an order ID of Klarna's, without spaces", c.OrderID)
	case foreign(c.CaptureID):
		return usagef("--capture-id: %q, expected a capture ID of Klarna's, without spaces", c.CaptureID)
	}
	return nil
}

// takes says which verdicts an unresolved renewal needs, where it is given one of the others.
func (h history) takes(v verdict) error {
	switch {
	case h.state.Capturing() && !v.ofCapture():
		return usagef("%s: the renewal is paid, what is unresolved is a capture of %s; expected --captured --capture-id CAPTURE, or --not-captured", v, h.capture())
	case !h.state.Capturing() && v.ofCapture():
		return usagef("%s: what is unresolved is a charge, not a capture; expected --paid --order-id ORDER, or --not-charged", v)
	}
	return nil
}

// captured is what the operator says, or else what the job asked for.
func (c *resolveCmd) captured(letters []desk.Letter) (bool, error) {
	if !c.Paid || c.Captured != nil { // of another verdict nobody asks
		return c.Captured != nil && *c.Captured, nil
	}
	for _, l := range letters {
		if l.Unresolved() {
			return l.Reading.Facts.AutoCapture, nil
		}
	}
	return false, usagef("--captured: not set, and there is no dead letter whose job would tell; expected --captured=true or --captured=false")
}

// one finds the one renewal that is meant.
func one(ctx context.Context, f desk.Finder, name string) (history, error) {
	renewals, err := f.Renewals(ctx, name)
	if err != nil {
		return history{}, err
	}
	var found, unresolved []history
	for _, r := range renewals {
		h, err := historyOf(ctx, f, r)
		if err != nil {
			return h, err
		}
		if h.last == 0 {
			continue
		}
		found = append(found, h)
		if h.state.Phase == journal.PhaseUnresolved {
			unresolved = append(unresolved, h)
		}
	}
	switch {
	case len(unresolved) == 1:
		return unresolved[0], nil
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		instead, err := periodsInstead(ctx, f, name)
		if err != nil {
			return history{}, err
		}
		return history{}, fmt.Errorf("%s: no record of it in %s%s", printable(name), messages.StreamJournal, instead)
	}
	names := make([]string, len(found))
	for i, h := range found {
		names[i] = h.name()
	}
	return history{}, fmt.Errorf("%s: %d renewals go by it: %s", printable(name), len(found), strings.Join(names, "; "))
}

// name is the renewal as a person says it.
func (h history) name() string {
	about := h.about()
	return fmt.Sprintf("period %s of subscription %s (%s)", printable(string(about.Period)), printable(string(about.SubscriptionID)), amount(about.OrderAmount, about.Currency))
}

// unchanged makes sure that a decision is about what was shown: a question can stay open for hours.
func unchanged(ctx context.Context, f desk.Finder, h history) error {
	at, err := f.Journal.Last(ctx, h.renewal)
	if err == nil && at.Sequence != h.last {
		return errors.New("the renewal has moved on meanwhile: nothing was changed, look again")
	}
	return err
}

// decisionProblem says what an error of the journal means for a decision.
func decisionProblem(what string, err error) error {
	var refused *journal.RefusedError
	if errors.As(err, &refused) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w; it may be recorded all the same: look with `renewals show`, then repeat it", what, err)
}

// announce shows the record that a decision led to, and returns how the renewal stands with it.
func announce(ctx context.Context, f desk.Finder, w io.Writer, r messages.Renewal, asJSON bool) (history, error) {
	h, err := historyOf(ctx, f, r)
	if err != nil {
		return h, fmt.Errorf("recorded, but not read again: %w", err)
	}
	last := h.records[len(h.records)-1]
	if asJSON {
		return h, printRecord(w, last.record, true)
	}
	_, err = fmt.Fprintf(w, "recorded: %s %s\n", last.Kind, last.told())
	return h, err
}

// printBlocked points to the jobs that were turned away for a reason which a decision has just taken away.
func printBlocked(ctx context.Context, w io.Writer, d desk.DeadLetters, s journal.State, why messages.Reason) error {
	blocked, err := d.Blocked(ctx, s, why)
	for _, now := range slices.Sorted(maps.Keys(blocked)) {
		var sequences []string
		for _, l := range blocked[now] {
			sequences = append(sequences, fmt.Sprint(l.Number))
		}
		fmt.Fprintf(w, "jobs that were turned away are in the dead letters: %s %s\n", now, strings.Join(sequences, " "))
	}
	return err
}
