package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
)

type resolveCmd struct {
	NATS     natsSettings     `embed:""`
	Log      logSettings      `embed:""`
	Decision decisionSettings `embed:""`

	ID         string        `arg:"" help:"SUBSCRIPTION/PERIOD, or the message ID of its job."`
	Paid       bool          `xor:"verdict" required:"" help:"Klarna has an order for it."`
	NotCharged bool          `xor:"verdict" required:"" help:"Klarna has none: the attempt failed, the next may be made."`
	OrderID    string        `name:"order-id" help:"With --paid: the order, as Klarna's portal shows it."`
	Captured   *bool         `help:"With --paid: whether the money is captured. Default: the auto_capture of the job, from its dead letter."`
	JSON       bool          `name:"json" help:"The record that settles it, as JSON."`
	KeyWindow  time.Duration `default:"${key_window}" hidden:""`
}

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
	defer f.js.Conn().Close()
	h, err := f.one(ctx, c.ID)
	if err != nil {
		return err
	}
	aside := t.stdout
	if c.JSON {
		aside = t.stderr
	}
	h.print(aside, time.Now(), c.KeyWindow)
	if err := h.state.Resolvable(); err != nil {
		return fmt.Errorf("resolve: %w", err)
	}
	dead, err := openDeadLetters(ctx, f.js)
	if err != nil {
		return err
	}
	key := h.state.Claim.Key
	letters, err := dead.of(ctx, key)
	if err != nil {
		return err
	}
	captured, err := c.captured(letters)
	if err != nil {
		return err
	}

	question := fmt.Sprintf("Record that %s was not charged? Its next attempt may then be made.", h.name())
	if c.Paid {
		question = fmt.Sprintf("Record %s as paid with order %s, captured: %t?", h.name(), printable(c.OrderID), captured)
	}
	if err := t.agreed(c.Decision.Yes, question); err != nil {
		return err
	}
	if err := f.unchanged(ctx, h); err != nil {
		return err
	}
	decision := c.Decision.decision(time.Now())
	writing, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	if c.Paid {
		err = f.journal.ResolvePaid(writing, h.renewal, c.OrderID, captured, decision)
	} else {
		err = f.journal.ResolveNotCharged(writing, h.renewal, decision)
	}
	if err != nil {
		return decisionProblem("resolve", err)
	}
	if err := f.announce(ctx, t.stdout, h.renewal, c.JSON); err != nil {
		return err
	}
	for _, l := range letters {
		if !l.unresolved() {
			continue // of another day, or about another order
		}
		if err := dead.drop(ctx, l.sequence); err != nil {
			return fmt.Errorf("resolved, but its dead letter is still there: %w; run `renewals dead drop %d`", err, l.sequence)
		}
		fmt.Fprintf(aside, "dead letter %d dropped\n", l.sequence)
	}
	return dead.blocked(ctx, aside, h.state, c.Paid)
}

func (c *resolveCmd) check() error {
	switch {
	case c.ID == "":
		return usagef("ID: found nothing, expected SUBSCRIPTION/PERIOD or a message ID")
	case c.Paid && c.OrderID == "":
		return usagef("--order-id: not set, expected the order that Klarna's portal shows")
	case c.NotCharged && (c.OrderID != "" || c.Captured != nil):
		return usagef("--order-id, --captured: for --paid only")
	case len(c.OrderID) > 255 || strings.ContainsFunc(c.OrderID, func(r rune) bool { return r <= ' ' || r > '~' }):
		return usagef("--order-id: %q, expected an order ID of Klarna's, without spaces", c.OrderID)
	}
	return nil
}

// captured is what the operator says, or else what the job asked for.
func (c *resolveCmd) captured(letters []letter) (bool, error) {
	if !c.Paid || c.Captured != nil {
		return c.Captured != nil && *c.Captured, nil
	}
	for _, l := range letters {
		if l.unresolved() {
			return l.reading.Facts.AutoCapture, nil
		}
	}
	return false, usagef("--captured: not set, and there is no dead letter whose job would tell; expected --captured=true or --captured=false")
}

// one finds the one renewal that is meant.
func (f finder) one(ctx context.Context, name string) (history, error) {
	renewals, err := f.renewals(ctx, name)
	if err != nil {
		return history{}, err
	}
	var found, unresolved []history
	for _, r := range renewals {
		h, err := f.history(ctx, r)
		if err != nil {
			return h, err
		}
		if h.last == 0 {
			continue
		}
		found = append(found, h)
		if h.state.Phase == worker.PhaseUnresolved {
			unresolved = append(unresolved, h)
		}
	}
	switch {
	case len(unresolved) == 1:
		return unresolved[0], nil
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return history{}, fmt.Errorf("%s: no record of it in %s", printable(name), worker.StreamJournal)
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
func (f finder) unchanged(ctx context.Context, h history) error {
	at, err := f.journal.Last(ctx, h.renewal)
	if err == nil && at.Sequence != h.last {
		return errors.New("the renewal has moved on meanwhile: nothing was changed, look again")
	}
	return err
}

// decisionProblem says what an error of the journal means for a decision.
func decisionProblem(what string, err error) error {
	var refused *worker.RefusedError
	if errors.As(err, &refused) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w; it may be recorded all the same: look with `renewals show`, then repeat it", what, err)
}

// announce shows the record that a decision led to.
func (f finder) announce(ctx context.Context, w io.Writer, r messages.RenewalKey, asJSON bool) error {
	h, err := f.history(ctx, r)
	if err != nil {
		return fmt.Errorf("recorded, but not read again: %w", err)
	}
	last := h.records[len(h.records)-1]
	if asJSON {
		return printRecord(w, last.record, true)
	}
	_, err = fmt.Fprintf(w, "recorded: %s %s\n", last.Kind, last.told())
	return err
}

// blocked points to the jobs that were turned away because the renewal was unresolved.
func (d deadLetters) blocked(ctx context.Context, w io.Writer, s worker.State, paid bool) error {
	var sequences []string
	for key, e := range s.Settled {
		if e.Reason != messages.ReasonBlockedByUnresolved {
			continue
		}
		letters, err := d.of(ctx, key)
		if err != nil {
			return err
		}
		for _, l := range letters {
			if l.Reason == messages.ReasonBlockedByUnresolved {
				sequences = append(sequences, fmt.Sprint(l.sequence))
			}
		}
	}
	if len(sequences) > 0 {
		what := "replay"
		if paid {
			what = "drop"
		}
		fmt.Fprintf(w, "jobs that it blocked are in the dead letters: renewals dead %s %s\n", what, strings.Join(sequences, " "))
	}
	return nil
}
