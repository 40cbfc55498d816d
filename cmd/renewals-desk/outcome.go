package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
)

// result is what a reconciliation came to.
type result struct {
	*reconcile.Report
	Applied []reconcile.Applied
	New     int // breaks that nobody had been told of
}

// print writes it as a table, or as JSON.
func (r result) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{
			"payouts": r.Payouts, "rows": r.Rows, "orders": r.Orders, "expected": r.Expected, "refunded": r.Refunded, "new": r.New,
			"breaks": filled(r.Breaks), "applied": filled(r.Applied), "unused": filled(r.Unused), "unanswered": filled(r.Unanswered),
		})
	}
	for _, a := range r.Applied {
		if a.Recorded {
			fmt.Fprintf(w, "recorded: %s is paid with order %s\n", cli.Printable(a.Renewal), cli.Printable(a.OrderID))
		} else {
			fmt.Fprintf(w, "not recorded: %s with order %s: %s\n", cli.Printable(a.Renewal), cli.Printable(a.OrderID), cli.Printable(a.Why))
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Breaks) > 0 {
		fmt.Fprintln(t, "BREAK\tPAYOUT\tLINE\tRENEWAL\tWHAT")
	}
	for _, b := range r.Breaks {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", b.Kind, dash(b.PaymentReference), number(b.Line), dash(name(b)), cli.Printable(b.Detail))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, u := range r.Unused {
		fmt.Fprintf(w, "unused: payout %s, line %d: %s of %s, order %s: %s\n", dash(u.PaymentReference), u.Line, u.Type, cli.Amount(u.Amount, u.Currency), dash(u.OrderID), cli.Printable(u.Reason))
	}
	for _, q := range r.Unanswered {
		fmt.Fprintf(w, "not answered: %s\n", cli.Printable(q))
	}
	_, err := fmt.Fprintf(w, "payouts %d, rows %d, orders of ours %d, breaks %d (new %d), captures not settled yet %d, refunds of your own %d, rows unused %d\n",
		r.Payouts, r.Rows, r.Orders, len(r.Breaks), r.New, r.Expected, r.Refunded, len(r.Unused))
	return err
}

// filled is a list that is [] where it is empty.
func filled[E any](list []E) []E {
	if list == nil {
		return []E{}
	}
	return list
}

func name(b messages.Break) string {
	if b.Period == "" {
		return string(b.SubscriptionID)
	}
	return string(b.SubscriptionID) + "/" + string(b.Period)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return cli.Printable(s)
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}
