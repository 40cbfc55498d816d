package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/cmd/internal/clitest"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// printers are everything that is printed for people, each with names as long and as wide as they come.
func printers(now time.Time) map[string]func(*cli.Page) {
	long, wide := strings.Repeat("subscription-", 5)[:64], strings.Repeat("定期購入🧾", 3)
	order := "72f11fba-23a7-492d-a000-000000000008"
	var records []record
	for i, kind := range messages.Kinds() {
		r := record{
			Kind: kind, ID: messages.MessageID(long + "/2026-12/1"), SubscriptionID: messages.SubscriptionID([]string{"1234834", long, wide}[i%3]), Period: messages.Period([]string{"2026-12", "December 2026", long}[i%3]),
			Account: "default", OrderAmount: 159_900_000, Currency: "EUR", At: now, OrderID: order, CaptureID: order, Amount: 800, Reason: messages.ReasonPaymentMethodFailed, Category: messages.CategorySoftDecline,
			IdempotencyKey: "066fb987-94e8-5d9a-9b0b-0d279f430fd1",
		}
		if kind == messages.KindRejected {
			r.Errors = []messages.Problem{{Path: "order.order_lines[3].total_tax_amount", Message: "found 255, expected 256, by Klarna's formula " + strings.Repeat("x", 300)}}
		}
		records = append(records, r)
	}
	h := history{state: journal.State{Phase: journal.PhaseUnresolved}, jobs: []desk.WaitingJob{{ID: messages.MessageID(long), Account: "default", Published: now}}}
	of := subscription{id: messages.SubscriptionID(wide), older: 7, jobs: h.jobs}
	for _, r := range records {
		h.records = append(h.records, episode{record: r, Worker: "renewals-6f9c8d7b5-x2x9q-1-abcdef", Actor: "somebody@" + long, Note: wide, Reference: long})
		of.periods = append(of.periods, desk.Standing{Period: desk.Period{Renewal: messages.NewRenewal(r.SubscriptionID, r.Period), Due: now, Records: 3}, State: journal.State{Phase: journal.PhaseDunning},
			Record: journal.Entry{Subject: messages.RecordAddress{Kind: r.Kind, Renewal: messages.NewRenewal(r.SubscriptionID, r.Period), Account: "default"}.Subject(), Body: []byte(`{"reason":"payment_method_failed","purchase_currency":"EUR"}`)}})
	}
	kept := newPromise()
	for _, r := range records {
		kept.counts[[2]string{string(r.Kind), string(r.Reason)}]++
	}
	return map[string]func(*cli.Page){
		"watch": func(p *cli.Page) {
			for _, r := range records {
				_ = p.Lines(recordLayout().Format(r.cells(p), p.Width)...)
			}
		},
		"dev": func(p *cli.Page) {
			for _, r := range records {
				_ = p.Lines(variantLayout().Format(append([]string{"two products, one token: every two weeks"}, r.cells(p)...), p.Width)...)
			}
			kept.summary(p, klarnasim.Books{})
		},
		"show":              func(p *cli.Page) { h.print(p, now, 23*time.Hour) },
		"show SUBSCRIPTION": func(p *cli.Page) { of.print(p, now) },
		"status":            func(p *cli.Page) { o := troubled(now); printStatus(p, o, needsHuman(o), 23*time.Hour) },
		"dead list": func(p *cli.Page) {
			letters := letterTable()
			for i, id := range []string{"1234834/2026-12/1", long, wide} {
				l := desk.Letter{Number: uint64(i), Kind: desk.ChargeJob}
				l.At, l.Account, l.Reason, l.Errors = now, "default", messages.ReasonBlockedByUnresolved, records[3].Errors
				l.Reading.Job.ID = messages.MessageID(id)
				letters.Add(cellsOf(l, now)...)
			}
			letters.Print(p)
		},
		"trigger --list": func(p *cli.Page) { _ = listCases(p) },
		"dunning-table":  printDunningTable,
		"a problem":      func(p *cli.Page) { fmt.Fprintln(p, "renewals: no result of", long, "within 2m;", wide) },
	}
}

// Whatever is printed fits the terminal, and says all that a file gets, with no word torn that a line has room for.
func TestEverythingFitsTheTerminal(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)
	for name, print := range printers(now) {
		clitest.Fits(t, name, print, "OUTCOME", "WHY")
	}
}
