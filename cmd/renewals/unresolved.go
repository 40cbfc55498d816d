package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// list writes everything that is unresolved, the newest last, with what a search at Klarna needs. Unlike the whole status it succeeds
// whatever there is: a list is what was asked for.
func (c *statusCmd) list(ctx context.Context, js jetstream.JetStream, log zerolog.Logger, t *terminal) error {
	records, err := journal.Open(ctx, js, log)
	if err != nil {
		return cli.JournalProblem(err)
	}
	all, err := records.Unresolved(ctx)
	if err != nil {
		return err
	}
	switch {
	case c.CSV:
		return desk.WriteSheet(t.stdout, all)
	case c.JSON:
		for _, u := range all {
			body, err := messages.Encode(u)
			if err != nil {
				return err
			}
			if _, err := t.stdout.Write(record{Kind: u.Kind(), body: body}.line()); err != nil {
				return err
			}
		}
		return nil
	}
	var list strings.Builder
	for _, u := range all {
		printSearch(&list, u)
	}
	if len(all) == 0 {
		list.WriteString("nothing is unresolved\n")
	} else {
		list.WriteString("look each up in Klarna's portal, then renewals resolve; many at once: renewals status --unresolved --csv, fill in the verdicts, renewals resolve --from FILE\n")
	}
	_, err = io.WriteString(t.page(), list.String())
	return err
}

// printSearch writes what one of them was about and what is to be looked for.
func printSearch(w io.Writer, u messages.Unresolved) {
	capture := ""
	if desk.What(u) == desk.CaptureJob {
		capture = cli.Amount(u.CapturedAmount, u.PurchaseCurrency) + " of order " + u.OrderID
	}
	fmt.Fprintf(w, "%s  %s  %s  account %s  %s\n", cli.Printable(desk.Argument(string(u.SubscriptionID)+"/"+string(u.Period))), desk.What(u), cli.Amount(desk.Asked(u), u.PurchaseCurrency), u.Account, cli.Printable(string(u.Reason)))
	for _, line := range sought(u, capture) {
		fmt.Fprintf(w, "  %s\n", line)
	}
	fmt.Fprintln(w)
}
