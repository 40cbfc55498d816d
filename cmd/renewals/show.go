package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
)

type showCmd struct {
	NATS cli.NATSSettings `embed:""`
	Log  cli.LogSettings  `embed:""`

	ID        string        `arg:"" help:"SUBSCRIPTION/PERIOD, the message ID of a job or a capture job, or SUBSCRIPTION for its periods."`
	As        string        `enum:",message-id,subscription" default:"" help:"What ID is, message-id or subscription, where it may be both. Default: what is found first, in the order above." from:"command-line"`
	All       bool          `help:"Of a subscription all periods, not the newest 50." from:"command-line"`
	JSON      bool          `name:"json" help:"The records, or the periods, as JSON Lines."`
	KeyWindow time.Duration `default:"${key_window}" help:"The workers' setting, for saying how long a key may still be used."`
}

// What showCmd.As may say.
const (
	asMessageID    = "message-id"
	asSubscription = "subscription"
)

func (c *showCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if c.ID == "" {
		return cli.Usagef("ID: found nothing, expected SUBSCRIPTION/PERIOD, a message ID or SUBSCRIPTION")
	}
	ctx, f, err := finder(ctx, c.NATS, s, t, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	defer f.JetStream.Conn().Close()
	return c.show(ctx, f, t)
}

func (c *showCmd) show(ctx context.Context, f desk.Finder, t *terminal) error {
	of, err := c.subscription(ctx, f)
	if err != nil {
		return err
	}
	renewals, err := c.renewals(ctx, f, &of)
	if err != nil {
		return err
	}
	sought := desk.Sought{ID: messages.MessageID(c.ID), Renewals: renewals, Quick: len(renewals) > 0 || of.known()}
	if c.As == asSubscription {
		sought.ID = ""
	}
	if c.As != asMessageID && len(renewals) == 0 {
		sought.Subscription = of.id
	}
	jobs, complete, err := f.Waiting(ctx, sought)
	if err != nil {
		return err
	}
	if len(renewals)+len(jobs) == 0 && !of.known() {
		if of, renewals, err = c.decided(ctx, f); err != nil {
			return err
		}
	}
	of.complete = complete
	for _, j := range jobs {
		switch {
		case j.SubscriptionID == sought.Subscription && string(j.ID) != c.ID && !slices.Contains(renewals, j.Renewal):
			of.jobs = append(of.jobs, j)
		case j.Renewal == "" || !slices.Contains(renewals, j.Renewal):
			renewals = append(renewals, j.Renewal)
		}
	}
	if len(renewals) == 0 && of.known() {
		return c.list(t, of)
	}
	shown, err := c.histories(ctx, f, t, renewals, jobs)
	switch {
	case err != nil:
		return err
	case shown == 0:
		return c.unknown(ctx, f)
	case of.known():
		fmt.Fprintf(t.beside(c.JSON), "  %s is the name of a subscription, too: `renewals show --as=%s %s` lists its periods\n", cli.Printable(c.ID), asSubscription, desk.Argument(c.ID))
	}
	if !complete && !c.JSON {
		fmt.Fprintf(t.page(), "  the queue holds more than %d jobs and was not searched for further ones of this renewal\n", desk.QuickQueue)
	}
	return nil
}

// mostPeriods are listed without --all: each is a read of the journal.
const mostPeriods = 50

// subscription is what ID means as one. Neither the journal's records nor the queue are searched for it.
func (c *showCmd) subscription(ctx context.Context, f desk.Finder) (of subscription, err error) {
	of = subscription{id: messages.SubscriptionID(c.ID), searched: c.As == asSubscription}
	if c.As == asMessageID {
		return of, nil
	}
	periods, err := f.Periods(ctx, of.id)
	if err != nil {
		return of, err
	}
	if len(periods) == 0 {
		parked, err := f.ParkedOf(ctx, of.id)
		of.parked = len(parked) > 0
		return of, err
	}
	if most := len(periods) - mostPeriods; most > 0 && !c.All {
		periods, of.older = periods[:mostPeriods], most
	}
	for _, p := range periods {
		s, err := f.Stands(ctx, p)
		if err != nil {
			return of, err
		}
		of.periods = append(of.periods, s)
	}
	return of, nil
}

// renewals finds those that are to be shown one by one. Where the name is known as a subscription's, a search of the whole journal
// for a message ID that is the same is left out.
func (c *showCmd) renewals(ctx context.Context, f desk.Finder, of *subscription) (found []messages.Renewal, err error) {
	switch c.As {
	case asSubscription:
		return nil, nil
	case asMessageID:
		return f.Search(ctx, c.ID, desk.SearchStep)
	}
	if found, err = f.Named(ctx, c.ID); err != nil || len(found) > 0 {
		return found, err
	}
	if !of.known() {
		return f.Search(ctx, c.ID, desk.SearchStep)
	}
	for _, p := range of.periods {
		if p.Took(messages.MessageID(c.ID)) {
			found = append(found, p.Renewal)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	found, of.searched, err = f.Recent(ctx, c.ID)
	return found, err
}

// decided looks in the journal again. What left the queue between the look there and the one in the queue was in neither, and its
// records are among the last.
func (c *showCmd) decided(ctx context.Context, f desk.Finder) (of subscription, found []messages.Renewal, err error) {
	if of, err = c.subscription(ctx, f); err != nil || c.As == asSubscription {
		return of, nil, err
	}
	if c.As != asMessageID {
		if found, err = f.Named(ctx, c.ID); err != nil || len(found) > 0 {
			return of, found, err
		}
	}
	found, _, err = f.Recent(ctx, c.ID)
	return of, found, err
}

// list shows the periods and what waits.
func (c *showCmd) list(t *terminal, of subscription) error {
	w := t.beside(c.JSON)
	if !c.JSON {
		of.print(w, time.Now())
	} else if err := of.printJSON(t.stdout); err != nil {
		return err
	}
	if of.older > 0 {
		fmt.Fprintf(w, "  %d more fell due before: `renewals show --all %s` lists them, too\n", of.older, desk.Argument(c.ID))
	}
	if !of.complete {
		fmt.Fprintf(w, "  the queue holds more than %d jobs and was not searched for those of this subscription\n", desk.QuickQueue)
	}
	if !of.searched {
		fmt.Fprintf(w, "  if %s is a message ID, too, none of the last %d records has it: `renewals show --as=%s %s` searches all\n",
			cli.Printable(c.ID), desk.SearchStep, asMessageID, desk.Argument(c.ID))
	}
	return nil
}

// histories shows renewals with their jobs, and says how many there were of which anything is known.
func (c *showCmd) histories(ctx context.Context, f desk.Finder, t *terminal, renewals []messages.Renewal, jobs []desk.WaitingJob) (shown int, err error) {
	for _, r := range desk.Compact(renewals) {
		h, err := historyOf(ctx, f, r)
		if err != nil && len(h.unreadable) == 0 {
			return shown, err
		}
		for _, j := range jobs {
			if j.Renewal == r {
				h.jobs = append(h.jobs, j)
			}
		}
		if len(h.records)+len(h.jobs)+len(h.unreadable) == 0 {
			continue
		}
		if c.JSON {
			for _, left := range h.leftOut() {
				fmt.Fprintln(t.margin(), left)
			}
			if err := h.printJSON(t.stdout); err != nil {
				return shown, err
			}
		} else {
			if shown > 0 {
				fmt.Fprintln(t.stdout)
			}
			h.print(t.page(), time.Now(), c.KeyWindow)
		}
		shown++
	}
	return shown, nil
}

// unknown says what was looked for, and what there is instead.
func (c *showCmd) unknown(ctx context.Context, f desk.Finder) error {
	what := "a period SUBSCRIPTION/PERIOD, a message ID or a subscription"
	switch c.As {
	case asMessageID:
		what = "a message ID"
	case asSubscription:
		what = "a subscription"
	}
	instead, err := periodsInstead(ctx, f, c.ID)
	if err != nil {
		return err
	}
	if instead == "" && c.As == "" && !strings.Contains(c.ID, "/") {
		instead = "; a period is named with its subscription, as in " + cli.Printable(desk.Argument(c.ID+"/2026-12"))
	}
	return fmt.Errorf("show %s: neither a record in %s nor a job in %s or %s has it as %s%s; the journal forgets a renewal after its retention",
		cli.Printable(c.ID), messages.StreamJournal, messages.StreamJobs, messages.StreamLater, what, instead)
}
