package main

import (
	"encoding/json"
	"fmt"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
)

// result is what a reconciliation came to.
type result struct {
	*reconcile.Report
	Applied      []reconcile.Applied
	New          int // breaks that nobody had been told of
	ClosedBefore int // found, and still what they were when somebody closed them
}

// settledBreak is a break that came right, as JSON.
type settledBreak struct {
	messages.Break
	Note string `json:"note"`
}

// print writes it as text, or as JSON.
func (r result) print(w *streams, asJSON bool) error {
	if asJSON {
		var settled []settledBreak
		for _, s := range r.Settled {
			settled = append(settled, settledBreak{s.Break, s.Note})
		}
		return json.NewEncoder(w.stdout).Encode(map[string]any{
			"payouts": r.Payouts, "rows": r.Rows, "orders": r.Orders, "expected": r.Expected, "refunded": r.Refunded, "new": r.New, "closed_before": r.ClosedBefore,
			"breaks": filled(r.Breaks), "applied": filled(r.Applied), "settled": filled(settled), "unused": filled(r.Unused), "unanswered": filled(r.Unanswered),
		})
	}
	return r.text(w.page())
}

// text is for people.
func (r result) text(p *cli.Page) error {
	for _, a := range r.Applied {
		if a.Recorded {
			fmt.Fprintf(p, "recorded: %s is paid with order %s\n", cli.Printable(a.Renewal), cli.Printable(a.OrderID))
		} else {
			fmt.Fprintf(p, "not recorded: %s with order %s: %s\n", cli.Printable(a.Renewal), cli.Printable(a.OrderID), cli.Printable(a.Why))
		}
	}
	for _, s := range r.Settled {
		fmt.Fprintf(p, "closed: %s of %s: %s\n", s.Break.Kind, dash(name(s.Break)), cli.Printable(s.Note))
	}
	if len(r.Breaks) > 0 {
		t := cli.NewTable("BREAK", "PAYOUT", "LINE", "RENEWAL", "WHAT")
		t.Prose = true
		for _, b := range r.Breaks {
			t.Add(b.Kind, dash(b.PaymentReference), number(b.Line), dash(name(b)), cli.Printable(b.Detail))
		}
		t.Print(p)
	}
	for _, u := range r.Unused {
		fmt.Fprintf(p, "unused: payout %s, line %d: %s of %s, order %s: %s\n", dash(u.PaymentReference), u.Line, u.Type, cli.Amount(u.Amount, u.Currency), dash(u.OrderID), cli.Printable(u.Reason))
	}
	for _, q := range r.Unanswered {
		fmt.Fprintf(p, "not answered: %s\n", cli.Printable(q))
	}
	_, err := fmt.Fprintf(p, "payouts %d, rows %d, orders of ours %d, breaks %d (new %d, closed before %d), captures not settled yet %d, refunds of your own %d, rows unused %d\n",
		r.Payouts, r.Rows, r.Orders, len(r.Breaks), r.New, r.ClosedBefore, r.Expected, r.Refunded, len(r.Unused))
	if len(r.Breaks) > 0 {
		fmt.Fprintln(p, "what each means: deploy/RUNBOOK.md; once one is dealt with: renewals-desk breaks, then renewals-desk close")
	}
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
