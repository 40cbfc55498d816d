package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// ordersAt are the orders in Klarna's books, by the subscription in their reference.
func (o *office) ordersAt() map[string]string {
	at := map[string]string{}
	for _, order := range o.sim.Simulator.Books().Orders {
		at[strings.Split(order.MerchantReference1, "-")[1]] = order.OrderID
	}
	return at
}

// fill writes verdicts into the list of status, by subscription: verdict, order, capture.
func (o *office) fill(verdicts map[string][3]string) string {
	o.Helper()
	out, _ := o.run(cli.ExitDone, "status", "--unresolved", "--csv")
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		o.Fatal(err)
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	for _, row := range rows[1:] {
		v := verdicts[row[column["subscription_id"]]]
		row[column["verdict"]], row[column["capture_id"]], row[column["note"]] = v[0], v[2], "from the list"
		if v[1] != "" {
			row[column["order_id"]] = v[1]
		}
	}
	return o.file(rows)
}

func (o *office) file(rows [][]string) string {
	o.Helper()
	path := filepath.Join(o.TempDir(), "verdicts.csv")
	f, err := os.Create(path)
	if err != nil {
		o.Fatal(err)
	}
	defer f.Close()
	if err := csv.NewWriter(f).WriteAll(rows); err != nil {
		o.Fatal(err)
	}
	return path
}

// The list of what is unresolved goes to a person as CSV, comes back with verdicts, and each is looked up.
func TestResolveFrom(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("1", "created-500x9-ok", "", 1), o.job("2", "created-500x9-ok", "", 1), o.job("3", "500", "", 1), o.job("4", "500", "", 1), o.job("5", "500", "", 1), o.authorised("6", "ok"))
	o.work()
	o.capture(messages.Capture{ID: "6/c1", SubscriptionID: "6", CapturedAmount: 500, Reference: "created-500x9-"})
	o.work()
	at := o.ordersAt()

	list, _ := o.run(cli.ExitDone, "status", "--unresolved")
	o.expect(list, "1/2026-12  charge  15.99 EUR  account default  idempotency_window_expired\n  an order of 15.99 EUR, merchant reference op-1-", ", made between ", "idempotency key ",
		", customer token with fingerprint ", "6/2026-12  capture  5.00 EUR  ", "a capture of 5.00 EUR of order "+at["6"], "Klarna's correlation ids: ", "renewals resolve --from FILE")
	lines, _ := o.run(cli.ExitDone, "status", "--unresolved", "--json")
	all := o.lines(lines)
	if len(all) != 6 || all[5]["subscription_id"] != "6" || all[5]["captured_amount"] != 500.0 || all[0]["kind"] != "unresolved" || all[0]["token_fingerprint"] == "" {
		t.Errorf("got %d lines, the last %v, want the capture last", len(all), all[len(all)-1])
	}

	capture := ""
	for _, order := range o.sim.Simulator.Books().Orders {
		for _, c := range order.Captures {
			capture = c.CaptureID
		}
	}
	path := o.fill(map[string][3]string{"1": {"paid", at["1"]}, "2": {"Paid", at["1"]}, "3": {"not-charged"}, "4": {"paid", "bogus"}, "6": {"captured", "", capture}})
	_, told := o.run(cli.ExitUsage, "resolve", "--from", path)
	o.expect(told, "--yes: not set, and standard input is no terminal to ask on; nothing was changed")
	if s := o.state("1"); s.Phase != journal.PhaseUnresolved {
		t.Fatalf("phase %s before anybody agreed", s.Phase)
	}
	out, told := o.run(cli.ExitFailed, "resolve", "--from", path, "--yes", "--actor=anna@billing")
	o.expect(out+told,
		"2/2026-12 refused: merchant_reference1: the job says op-2-", ", Klarna says op-1-",
		"4/2026-12 refused: account default has no order bogus at Klarna",
		"1/2026-12  paid         15.99 EUR  "+at["1"]+"  as Klarna shows it", "3/2026-12  not_charged  15.99 EUR", "on your word alone", "6/2026-12  captured     5.00 EUR   "+capture,
		"1/2026-12\nrecorded: paid order "+at["1"], "by anna@billing, verified at Klarna, note: from the list", "dead letter ",
		"3 settled, 2 refused, 1 left open, without a verdict\n")

	// Again, after the mistake is mended: what is settled stays.
	records := o.count(messages.StreamJournal)
	mended := o.file([][]string{
		{"subscription", "period", "verdict", "order_id", "capture_id"},
		{"1", "2026-12", "paid", at["1"], ""}, {"2", "2026-12", "paid", at["2"], ""}, {"3", "2026-12", "not_charged", "", ""},
		{"5", "2026-12", "", "", ""}, {"6", "2026-12", "captured", "", capture}, {"nobody", "2026-12", "not_charged", "", ""},
	})
	out, told = o.run(cli.ExitFailed, "resolve", "--from", mended, "--yes")
	o.expect(out+told, "verdicts.csv:7: nobody/2026-12 refused: no record of it in RENEWAL_JOURNAL", "1 settled, 3 already settled the same way, 1 refused, 1 left open, without a verdict\n")
	if n := o.count(messages.StreamJournal) - records; n != 1 {
		t.Errorf("%d records more, want 1", n)
	}
	other := o.file([][]string{{"id", "verdict", "order_id"}, {"1/2026-12/1", "not_charged", ""}, {"3/2026-12", "paid", "x"}, {"5/2026-12", "not_charged", ""}, {"5/2026-12/1", "not_charged", ""}})
	out, told = o.run(cli.ExitFailed, "resolve", "--from", other, "--yes")
	o.expect(out+told, "verdicts.csv:2: 1/2026-12/1 refused: it is settled as paid "+at["1"]+" already", "verdicts.csv:3: 3/2026-12 refused: it is settled as not_charged already", "verdicts.csv:5: 5/2026-12/1 refused: line 4 is about it, too", "1 settled, 3 refused\n")
	if n := o.count(messages.StreamJournal) - records; n != 2 {
		t.Errorf("%d records more, want one for each that was left", n)
	}
}

// Two lines that say different things of one charge are both refused before anything is recorded: the first would let its next attempt be
// charged, although the second names an order.
func TestResolveFromContradictsItself(t *testing.T) {
	o := newOffice(t)
	for i := range 5 {
		o.publish(o.job(fmt.Sprint(i), "created-500x9-ok", "", 1))
	}
	o.work()
	at := o.ordersAt()
	path := o.file([][]string{
		{"id", "verdict", "order_id"},
		{"0/2026-12", "not_charged", ""}, {"0/2026-12/1", "paid", at["0"]},
		{"1/2026-12", "paid", "bogus"}, {"1/2026-12", "not_charged", ""},
		{"2/2026-12", "paid", ""}, {"2/2026-12", "not_charged", ""},
		{"3/2026-12", "unpaid", ""}, {"3/2026-12", "not_charged", ""}, {"3/2026-12", "not_charged", ""},
		{"4/2026-12", "not_charged", ""}, {"4/2026-12", "", ""},
	})
	out, told := o.run(cli.ExitFailed, "resolve", "--from", path, "--yes")
	o.expect(out+told,
		"verdicts.csv:2: 0/2026-12 refused: line 3 says otherwise of it: paid "+at["0"]+"\n", "verdicts.csv:3: 0/2026-12/1 refused: line 2 says otherwise of it: not_charged\n",
		"verdicts.csv:4: 1/2026-12 refused: account default has no order bogus", "verdicts.csv:5: 1/2026-12 refused: line 4 says otherwise of it: paid bogus\n",
		"verdicts.csv:6: 2/2026-12 refused: order_id: nothing", "verdicts.csv:7: 2/2026-12 refused: line 6 is about it, too, and says nothing that can be taken\n",
		"verdicts.csv:9: 3/2026-12 refused: line 8 is about it, too, and says nothing that can be taken\n", "verdicts.csv:10: 3/2026-12 refused: line 8 is",
		"1 settled, 9 refused, 1 left open, without a verdict\n")
	for i := range 4 {
		if s := o.state(fmt.Sprint(i)); s.Phase != journal.PhaseUnresolved {
			t.Errorf("%d: phase %s, want it left as it was", i, s.Phase)
		}
	}
}

// tripwire is a screen that ends a context as soon as it shows a text.
type tripwire struct {
	screen
	text string
	trip context.CancelFunc
}

func (w *tripwire) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.trip()
	}
	return w.screen.Write(p)
}

// Whoever interrupts it knows what is recorded, and goes on with the same command.
func TestResolveFromInterrupted(t *testing.T) {
	o := newOffice(t)
	rows := [][]string{{"id", "verdict"}}
	for i := range 3 {
		o.publish(o.job(fmt.Sprint(i), "500", "", 1))
		rows = append(rows, []string{fmt.Sprintf("%d/2026-12", i), "not_charged"})
	}
	o.work()
	path := o.file(rows)
	ctx, cancel := context.WithCancel(t.Context())
	stdout, stderr := tripwire{text: "recorded: ", trip: cancel}, screen{}
	code := run(ctx, []string{"resolve", "--from", path, "--yes"}, strings.NewReader(""), &stdout, &stderr, o.env.lookup)
	if code != cli.ExitInterrupted {
		t.Errorf("exit code %d, want %d: %s", code, cli.ExitInterrupted, stderr.String())
	}
	o.expect(stdout.String(), "dead letter ", "1 settled, 2 not done: run the same command again\n")
	out, _ := o.run(cli.ExitDone, "resolve", "--from", path, "--yes")
	o.expect(out, "2 settled, 1 already settled the same way\n")
	if letters := o.letters(); len(letters) != 0 {
		t.Errorf("dead letters %+v, want none", letters)
	}
}
