package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/desk/books"
)

type findCmd struct {
	Books booksSettings `embed:""`

	Text  []string `arg:"" help:"An order id, a capture id, a merchant reference, a correlation ID, a subscription, SUBSCRIPTION/PERIOD, a message ID, an idempotency key, a token's fingerprint, or AMOUNT CURRENCY [DAY]: 15.99 EUR 2026-12-01. The beginning is enough where nothing is called exactly so."`
	Limit int      `default:"20" help:"Renewals at most." from:"command-line"`
	JSON  bool     `name:"json" help:"JSON Lines, one renewal each with its records." from:"command-line"`
}

func (c *findCmd) Run(ctx context.Context, s *cli.Settings, w *streams) error {
	text := strings.TrimSpace(strings.Join(c.Text, " "))
	if text == "" {
		return cli.Usagef("TEXT: empty, expected what to find")
	}
	if c.Limit < 1 || c.Limit > 10_000 {
		return cli.Usagef("--limit: %d, expected 1 to 10000", c.Limit)
	}
	b, err := c.Books.open(ctx, s)
	if err != nil {
		return err
	}
	defer b.Close()
	hits, more, err := b.Find(ctx, text, c.Limit)
	if err != nil {
		return err
	}
	at, err := b.Position(ctx)
	if err != nil {
		return err
	}
	if len(hits) == 0 {
		return fmt.Errorf("nothing in the books is called %s, or begins so; they know the journal up to %s (`renewals-desk sync` brings them up to date)",
			cli.Printable(text), cmp.Or(short(at.StoredAt), "nothing yet"))
	}
	for i, h := range hits {
		if c.JSON {
			err = json.NewEncoder(w.stdout).Encode(h)
		} else {
			err = printHit(w.page(), h, i > 0)
		}
		if err != nil {
			return err
		}
	}
	if more {
		fmt.Fprintf(w.stderr, "renewals-desk: there are more than these %d: name it more closely, or see more with --limit\n", c.Limit)
	}
	return nil
}

// printHit writes a renewal in lines that fit into 80 columns, but for names that are longer.
func printHit(w io.Writer, h books.Hit, again bool) error {
	r := h.Renewal
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", label, cli.Printable(fmt.Sprintf(format, args...)))
	}
	if again {
		b.WriteString("\n")
	}
	name := cmp.Or(r.SubscriptionID, "(a job without a valid identity)")
	if r.Period != "" {
		name += "/" + r.Period
	}
	fmt.Fprintf(&b, "%s  %s\n", cli.Printable(name), strings.TrimSpace(r.Phase+" "+r.Reason))
	line("found by", "%s", h.By)
	if r.PurchaseCurrency != "" {
		line("amount", "%s, account %s", cli.Amount(r.OrderAmount, r.PurchaseCurrency), r.Account)
	} else {
		line("account", "%s", r.Account)
	}
	if r.DueAt != "" {
		line("due", "%s", short(r.DueAt))
	}
	if r.OrderID != "" {
		line("order", "%s", r.OrderID)
	}
	if r.MerchantReference1 != "" {
		line("reference", "%s", strings.TrimSuffix(r.MerchantReference1+", "+r.MerchantReference2, ", "))
	}
	for _, e := range r.Records {
		printEntry(&b, e)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printEntry(b *strings.Builder, e books.Entry) {
	money := ""
	if e.Amount != nil {
		money = cli.Amount(*e.Amount, e.PurchaseCurrency)
	}
	told := []string{strings.TrimSpace(fmt.Sprintf("%s  %-14s  attempt %d  %s", short(e.At), e.Kind, e.Attempt, money))}
	add := func(label, text string) {
		if text != "" {
			told = append(told, "  "+label+" "+text)
		}
	}
	if e.Kind != "charging" && e.Kind != "capturing" {
		add("message ID", e.MessageID)
		add("capture", e.CaptureID)
		add("reason", strings.TrimSuffix(e.Reason+", "+e.Category, ", "))
		add("next attempt", short(e.NextAttemptAt))
		add("Klarna's correlation ID", e.CorrelationID)
		add("by", strings.TrimSuffix(e.Actor+": "+e.Note, ": "))
		add("said", e.Detail)
	}
	for _, line := range told {
		fmt.Fprintf(b, "  %s\n", cli.Printable(line))
	}
}

// short is a time of the books for a person.
func short(at string) string {
	t, err := time.Parse(books.Instant, at)
	if err != nil {
		return at
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
