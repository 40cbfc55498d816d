package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// printers are everything that is printed for people, each with names as long and as wide as they come.
func printers(now time.Time) map[string]func(*page) {
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
	return map[string]func(*page){
		"watch": func(p *page) {
			for _, r := range records {
				_ = p.lines(recordLayout().format(r.cells(p), p.width)...)
			}
		},
		"dev": func(p *page) {
			for _, r := range records {
				_ = p.lines(variantLayout().format(append([]string{"two products, one token: every two weeks"}, r.cells(p)...), p.width)...)
			}
			kept.summary(p, klarnasim.Books{})
		},
		"show":              func(p *page) { h.print(p, now, 23*time.Hour) },
		"show SUBSCRIPTION": func(p *page) { of.print(p, now) },
		"status":            func(p *page) { o := troubled(now); printStatus(p, o, needsHuman(o), 23*time.Hour) },
		"dead list": func(p *page) {
			letters := letterTable()
			for i, id := range []string{"1234834/2026-12/1", long, wide} {
				l := desk.Letter{Number: uint64(i), Kind: desk.ChargeJob}
				l.At, l.Account, l.Reason, l.Errors = now, "default", messages.ReasonBlockedByUnresolved, records[3].Errors
				l.Reading.Job.ID = messages.MessageID(id)
				letters.add(cellsOf(l, now)...)
			}
			letters.print(p)
		},
		"trigger --list": func(p *page) { _ = listCases(p) },
		"dunning-table":  printDunningTable,
		"a problem":      func(p *page) { fmt.Fprintln(p, "renewals: no result of", long, "within 2m;", wide) },
	}
}

// Whatever is printed fits the terminal, and says all that a file gets, with no word torn that a line has room for.
func TestEverythingFitsTheTerminal(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)
	for name, print := range printers(now) {
		var whole bytes.Buffer
		print(&page{Writer: &whole})
		if strings.Contains(whole.String(), "\x1b") {
			t.Errorf("%s: colour in a file", name)
		}
		for _, width := range []int{80, 100, 200} {
			var fitted bytes.Buffer
			print(&page{Writer: &fitted, width: width, colour: true})
			for line := range strings.Lines(fitted.String()) {
				if n := columns(strings.TrimSuffix(line, "\n")); n > width {
					t.Errorf("%s on %d columns: %d columns in %q", name, width, n, line)
				}
			}
			text := uncoloured(fitted.String())
			words := strings.Fields(text)
			for _, word := range strings.Fields(whole.String()) {
				if word == "OUTCOME" || word == "WHY" { // needs no name below its row
					continue
				}
				if columns(word) <= 64 && !slices.Contains(words, word) && !slices.Contains(words, strings.ToLower(word)) {
					t.Errorf("%s on %d columns: %q is missing or torn", name, width, word)
				}
			}
			squeezed := strings.Join(words, "")
			for _, word := range strings.Fields(whole.String()) {
				if columns(word) > 64 && !strings.Contains(squeezed, word) {
					t.Errorf("%s on %d columns: %q is missing", name, width, word)
				}
			}
		}
	}
}

func uncoloured(text string) string {
	var b strings.Builder
	for text != "" {
		if skip := sequence(text); skip > 0 {
			text = text[skip:]
			continue
		}
		b.WriteByte(text[0])
		text = text[1:]
	}
	return b.String()
}
