package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
)

type breaksCmd struct {
	NATS cli.NATSSettings `embed:""`
	Log  cli.LogSettings  `embed:""`

	Account []string `help:"Accounts. Default: all." from:"command-line"`
	Kind    []string `help:"Kinds of breaks, such as second_order or missing. Default: all." from:"command-line"`
	All     bool     `help:"Closed ones, too." from:"command-line"`
	JSON    bool     `name:"json" xor:"form" help:"JSON Lines, one break each." from:"command-line"`
	CSV     bool     `name:"csv" xor:"form" help:"CSV, whose note column is filled in for renewals-desk close --from." from:"command-line"`
}

func (c *breaksCmd) Run(ctx context.Context, s *cli.Settings, w *streams) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx, news, hangUp, err := openNews(ctx, c.NATS, c.Log, s, w)
	if err != nil {
		return err
	}
	defer hangUp()
	all, err := news.List(ctx, "*")
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(b reconcile.Standing) bool { return !c.takes(b.Break) })
	switch {
	case c.JSON:
		for _, b := range all {
			if err := json.NewEncoder(w.stdout).Encode(b); err != nil {
				return err
			}
		}
		return nil
	case c.CSV:
		return breakSheet(w.stdout, all)
	case len(all) == 0:
		fmt.Fprintln(w.margin(), "no open breaks"+map[bool]string{true: ", nor closed ones"}[c.All])
		return nil
	}
	breakTable(all, c.All, time.Now()).Print(w.page())
	return nil
}

func (c *breaksCmd) check() error {
	for _, name := range c.Account {
		if _, err := messages.ParseAccount(name); err != nil {
			return cli.Usagef("--account: %w", err)
		}
	}
	for _, kind := range c.Kind {
		if !slices.Contains(messages.BreakKinds(), messages.BreakKind(kind)) {
			return cli.Usagef("--kind: %q, expected some of %s", kind, joined(messages.BreakKinds()))
		}
	}
	return nil
}

func (c *breaksCmd) takes(b messages.Break) bool {
	return (c.All || b.Status != messages.BreakClosed) &&
		(len(c.Account) == 0 || slices.Contains(c.Account, string(b.Account))) &&
		(len(c.Kind) == 0 || slices.Contains(c.Kind, string(b.Kind)))
}

// openNews connects, and finds the stream of breaks; hangUp ends the connection.
func openNews(ctx context.Context, n cli.NATSSettings, l cli.LogSettings, s *cli.Settings, w *streams) (_ context.Context, news reconcile.News, hangUp func(), err error) {
	server, err := n.Server(s)
	if err != nil {
		return nil, news, nil, err
	}
	ctx, js, err := server.Connect(ctx, l.Logger(w.logs()))
	if err != nil {
		return nil, news, nil, err
	}
	if news, err = reconcile.OpenNews(ctx, js); err != nil {
		js.Conn().Close()
		return nil, news, nil, err
	}
	return ctx, news, js.Conn().Close, nil
}

// breakTable is for people. Of closed ones it says who did, and why.
func breakTable(all []reconcile.Standing, closed bool, now time.Time) *cli.Table {
	heads := []string{"ID", "BREAK", "SINCE", "ACCOUNT", "RENEWAL", "WHAT"}
	if closed {
		heads = slices.Insert(heads, 2, "STATUS")
	}
	t := cli.NewTable(heads...)
	t.Prose = true
	for _, b := range all {
		what := b.Detail
		if b.Status == messages.BreakClosed {
			what = fmt.Sprintf("by %s: %s (%s)", b.Actor, b.Note, b.Detail)
		}
		cells := []any{b.ID, b.Kind, cli.Lapse(max(now.Sub(b.At), 0)), b.Account, dash(name(b.Break)), cli.Printable(what)}
		if closed {
			cells = slices.Insert(cells, 2, any(b.Status))
		}
		t.Add(cells...)
	}
	return t
}

// breakColumns are those of the sheet, what is filled in first.
var breakColumns = []string{
	"note", "id", "kind", "status", "account", "at", "subscription_id", "period", "message_id", "order_id", "other_order_id", "capture_id", "refund_id",
	"amount", "currency", "expected_amount", "expected_currency", "payment_reference", "line", "settled_at", "conflicts_with", "actor", "detail",
}

// breakSheet writes breaks so that no spreadsheet takes a cell for a formula. Amounts are in minor units, times RFC 3339 in UTC.
func breakSheet(w io.Writer, all []reconcile.Standing) error {
	moment := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	number := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	return desk.WriteRows(w, breakColumns, func(yield func([]string) bool) {
		for _, b := range all {
			if !yield([]string{
				b.Note, string(b.ID), string(b.Kind), string(b.Status), string(b.Account), moment(b.At), string(b.SubscriptionID), string(b.Period), string(b.MessageID), b.OrderID, b.OtherOrderID, b.CaptureID, b.RefundID,
				number(b.Amount), b.Currency, number(b.ExpectedAmount), b.ExpectedCurrency, b.PaymentReference, number(int64(b.Line)), moment(b.SettledAt), string(b.ConflictsWith), b.Actor, b.Detail,
			}) {
				return
			}
		}
	})
}

// joined lists the words of a closed set.
func joined[Word ~string](words []Word) string {
	var names []string
	for _, w := range words {
		names = append(names, string(w))
	}
	return strings.Join(names, ", ")
}
