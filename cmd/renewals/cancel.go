package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

type cancelCmd struct {
	NATS     cli.NATSSettings     `embed:""`
	Log      cli.LogSettings      `embed:""`
	Decision cli.DecisionSettings `embed:""`

	Subscription string        `arg:"" help:"The subscription."`
	Period       string        `arg:"" help:"The period that is not to be charged."`
	Account      string        `setting:"KLARNA_ACCOUNT" help:"The account that it would be charged on. Default: that of its last record, else of a job of it that waits, else \"default\"."`
	Unknown      bool          `help:"Cancel although nobody has heard of the period: nothing is recorded of it and no job of it waits." from:"command-line"`
	Undo         bool          `help:"Take a cancellation back, while nothing has followed: the period may be charged again." from:"command-line"`
	JSON         bool          `name:"json" help:"The record of it, as JSON."`
	KeyWindow    time.Duration `default:"${key_window}" hidden:""`
}

func (c *cancelCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if err := c.check(s); err != nil {
		return err
	}
	ctx, f, err := finder(ctx, c.NATS, s, t, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	defer f.JetStream.Conn().Close()
	subscription, period := messages.SubscriptionID(c.Subscription), messages.Period(c.Period)
	h, err := historyOf(ctx, f, messages.NewRenewal(subscription, period))
	switch {
	case h.stuck():
		return fmt.Errorf("cancel: nothing was changed\n%s", strings.Join(h.leftOut(), "\n"))
	case err != nil && len(h.unreadable) == 0:
		return err
	}
	aside := t.beside(c.JSON)
	account, err := c.meant(ctx, s, f, aside, h)
	if err != nil {
		return err
	}
	question, write, err := c.act(f.Journal, h)
	if err != nil {
		return err
	}
	if err := t.agreed(ctx, c.Decision.Yes, fmt.Sprintf(question, cli.Printable(c.Period), cli.Printable(c.Subscription), account)); err != nil {
		return err
	}
	if err := unchanged(ctx, f, h); err != nil {
		return err
	}
	one, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	if err := write(one, account, subscription, period, c.Decision.Decision(time.Now())); err != nil {
		return decisionProblem("cancel", err)
	}
	after, err := announce(ctx, f, t, h.renewal, c.JSON)
	if err != nil || !c.Undo {
		return err
	}
	dead, err := desk.OpenDeadLetters(ctx, f.JetStream)
	if err != nil {
		return err
	}
	return printBlocked(ctx, aside, dead, after.state, messages.ReasonCancelled)
}

// meant shows what there is of the period, and says on which account it is cancelled. A period of which there is nothing is refused without
// --unknown.
func (c *cancelCmd) meant(ctx context.Context, s *cli.Settings, f desk.Finder, aside *cli.Page, h history) (messages.Account, error) {
	instead, err := periodsInstead(ctx, f, c.Subscription)
	if err != nil {
		return "", err
	}
	var jobs []desk.WaitingJob
	complete := true
	if len(h.records) == 0 {
		if jobs, complete, err = f.Waiting(ctx, desk.Sought{Renewals: []messages.Renewal{h.renewal}, Quick: true}); err != nil {
			return "", err
		}
	}
	account, err := c.account(s, aside, h, jobs, instead)
	if err != nil {
		return "", err
	}
	parked, err := printParked(ctx, f, aside, messages.SubscriptionID(c.Subscription), messages.Period(c.Period))
	if err != nil {
		return "", err
	}
	if len(h.records)+len(jobs)+parked == 0 && !c.Undo {
		if err := c.heardOf(aside, complete, account, instead); err != nil {
			return "", err
		}
	}
	return account, nil
}

// act is what is asked of a person and then written, where the renewal still allows it.
func (c *cancelCmd) act(records *journal.Journal, h history) (question string, write writing, err error) {
	if c.Undo {
		if err := h.state.Reinstatable(); err != nil {
			return "", nil, fmt.Errorf("cancel --undo: %w", err)
		}
		return "Take back the cancellation of period %s of subscription %s on account %s? It may then be charged.", records.Reinstate, nil
	}
	if err := h.state.Cancellable(); err != nil {
		return "", nil, h.tooLate(err)
	}
	return "Cancel period %s of subscription %s on account %s? It will not be charged, whatever is published.", records.Cancel, nil
}

// writing writes a decision about a period.
type writing func(context.Context, messages.Account, messages.SubscriptionID, messages.Period, journal.Decision) error

// check says what is wrong with the arguments.
func (c *cancelCmd) check(s *cli.Settings) error {
	for _, one := range []struct{ name, value string }{{"SUBSCRIPTION", c.Subscription}, {"PERIOD", c.Period}} {
		_, err := messages.ParseMessageID(one.value)
		if err == nil && len(one.value) > 64 {
			err = fmt.Errorf("found %d bytes, expected 1 to 64", len(one.value))
		}
		if err != nil {
			return cli.Usagef("%s: %s", one.name, strings.TrimPrefix(err.Error(), "message ID: "))
		}
	}
	if c.Account != "" {
		if _, err := messages.ParseAccount(c.Account); err != nil {
			return cli.Usagef("%s: %w", s.Place("account"), err)
		}
	}
	return nil
}

// account is that of the renewal, of which what is known is shown.
func (c *cancelCmd) account(s *cli.Settings, w *cli.Page, h history, jobs []desk.WaitingJob, instead string) (messages.Account, error) {
	account := messages.Account(c.Account)
	if len(h.records) > 0 {
		h.print(w, time.Now(), c.KeyWindow)
		if of := h.about().Account; account == "" {
			account = of
		} else if account != of {
			return "", cli.Usagef("%s: %s, but the records of this renewal are of account %s", s.Place("account"), account, of)
		}
		return account, nil
	}
	fmt.Fprintf(w, "nothing is recorded of this renewal yet%s\n", instead)
	var waits []messages.Account
	for _, j := range jobs {
		if j.Account != "" && !slices.Contains(waits, j.Account) {
			waits = append(waits, j.Account)
		}
	}
	switch {
	case len(waits) > 0 && account != "" && !slices.Contains(waits, account):
		return "", cli.Usagef("%s: %s, but what waits of this renewal is of account %s", s.Place("account"), account, join(waits))
	case len(waits) > 1 && account == "":
		return "", cli.Usagef("--account: not set, and jobs of this renewal wait on several accounts, expected one of %s", join(waits))
	case len(waits) > 0:
		return cmp.Or(account, waits[0]), nil
	case account == "":
		entry, err := accountOf(s, "")
		return messages.Account(entry.Name), err
	}
	return account, nil
}

// tooLate says why a renewal that is paid cannot be cancelled, and what can be done about its money; any other gets the
// journal's own reason.
func (h history) tooLate(why error) error {
	o := h.state.Order
	switch {
	case o != nil:
	case h.state.Phase == journal.PhasePaid:
		return fmt.Errorf("cancel: too late: the renewal is paid with order %s: refund it in Klarna's portal", cli.Printable(h.state.Claim.OrderID))
	default:
		return fmt.Errorf("cancel: %w", why)
	}
	captures := "nothing of it is captured: cancel the order in Klarna's portal"
	switch {
	case h.state.Phase == journal.PhaseUnresolved:
		captures = "a capture of it is unresolved"
	case h.state.Phase == journal.PhaseCapturing:
		captures = "a capture of it is under way"
	case o.Captured > 0:
		captures = cli.Amount(o.Captured, o.Currency) + " of it are captured: refund them in Klarna's portal"
	}
	return fmt.Errorf("cancel: too late: the renewal is paid with order %s, %s", cli.Printable(o.ID), captures)
}

// heardOf refuses a period of which there is neither a record nor a job: a typing error would be recorded, and the period that was meant
// charged. Of one that is meant it says where a job of it may still wait on another account.
func (c *cancelCmd) heardOf(w *cli.Page, complete bool, account messages.Account, instead string) error {
	waits := "no job of it waits"
	if !complete {
		waits = "the queue is too long to be searched for a job of it"
	}
	switch {
	case !c.Unknown:
		return fmt.Errorf("cancel: nothing is recorded of period %s of subscription %s, and %s%s; if both are right, --unknown cancels it before anybody publishes it",
			cli.Printable(c.Period), cli.Printable(c.Subscription), waits, instead)
	case !complete:
		fmt.Fprintf(w, "%s: those who follow another account than %s do not hear of it\n", waits, account)
	}
	return nil
}

// printParked tells of the early jobs of a period that is about to be cancelled, and says how many there are.
func printParked(ctx context.Context, f desk.Finder, w io.Writer, subscription messages.SubscriptionID, period messages.Period) (int, error) {
	parked, err := f.Parked(ctx, subscription, period)
	for _, j := range parked {
		fmt.Fprintf(w, "job %s of it is parked until %s; once the period is cancelled it is rejected then\n", cli.Printable(string(j.ID)), clock(j.ParkedUntil))
	}
	return len(parked), err
}
