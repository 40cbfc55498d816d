package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/cmd/internal/clitest"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/topology"
)

const someBreak = "1f0d3c6a-5b7e-5c21-9d0f-0e0d6f4e5d11"

// found is a break as reconcile finds it.
func found(kind messages.BreakKind, account messages.Account, order string) messages.Break {
	return messages.Break{
		ID: messages.NewBreakID(kind, account, order), Kind: kind, Status: messages.BreakOpen, Account: account, At: time.Now(), SubscriptionID: "1234834", Period: "2026-12",
		OrderID: order, Amount: 1598, Currency: "EUR", PaymentReference: "P1", Line: 7, Detail: "order " + order + " was settled with 15.98 EUR",
	}
}

// told is a stream with breaks, and what publishes more.
func told(t *testing.T, breaks ...messages.Break) (env map[string]string, tell func(...messages.Break)) {
	t.Helper()
	js := broker.JetStream(t)
	if _, err := js.CreateStream(t.Context(), topology.Provisioning{Replicas: 1}.News()); err != nil {
		t.Fatal(err)
	}
	tell = func(breaks ...messages.Break) {
		t.Helper()
		news, err := reconcile.OpenNews(t.Context(), js)
		if err == nil {
			_, err = news.Publish(t.Context(), breaks)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tell(breaks...)
	return map[string]string{"NATS_URL": js.Conn().ConnectedUrl()}, tell
}

// listed are breaks as programs read them.
func listed(t *testing.T, env map[string]string, flags ...string) (all []messages.Break) {
	t.Helper()
	code, out, told := asked(t, env, append([]string{"breaks", "--json"}, flags...)...)
	if code != cli.ExitDone || told != "" {
		t.Fatalf("breaks %v: %d, %s", flags, code, told)
	}
	for line := range strings.Lines(out) {
		var b messages.Break
		if err := json.Unmarshal([]byte(line), &b); err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// TestClose: a break is closed once, by whom and why is kept, and it opens again as another.
func TestClose(t *testing.T) {
	t.Parallel()
	wrong, missing := found(messages.BreakAmount, "se", "order-1"), found(messages.BreakMissing, "de", "order-2")
	env, tell := told(t, wrong, missing)
	if all := listed(t, env); len(all) != 2 || all[0].Kind != messages.BreakAmount || all[1].Kind != messages.BreakMissing {
		t.Fatalf("open: %+v", all)
	}
	for _, flags := range [][]string{{"--account=se"}, {"--kind=amount"}, {"--kind=amount", "--account=se", "--all"}} {
		if all := listed(t, env, flags...); len(all) != 1 || all[0].ID != wrong.ID {
			t.Errorf("%v: %+v", flags, all)
		}
	}
	code, out, said := asked(t, env, "close", string(wrong.ID), "--note=refunded", "--actor=ada")
	if code != cli.ExitUsage || !strings.Contains(said, "--yes: not set") || len(listed(t, env)) != 2 {
		t.Errorf("without a person to ask: %d, %s%s", code, out, said)
	}
	code, out, said = asked(t, env, "close", string(wrong.ID), "--note=refunded", "--actor=ada", "--yes")
	if code != cli.ExitDone || said != "" || !strings.Contains(out, "1234834/2026-12") || !strings.Contains(out, "1 break closed") {
		t.Errorf("closed: %d, %s%s", code, out, said)
	}
	closed := listed(t, env, "--all", "--kind=amount")
	if len(closed) != 1 || closed[0].Status != messages.BreakClosed || closed[0].Actor != "ada" || closed[0].Note != "refunded" || closed[0].Amount != 1598 {
		t.Errorf("closed as %+v", closed)
	}
	code, out, said = asked(t, env, "close", string(wrong.ID), "--note=twice", "--actor=bob", "--yes")
	if again := listed(t, env, "--all", "--kind=amount"); code != cli.ExitDone || !strings.Contains(out, "is closed already, by ada: refunded") || again[0] != closed[0] {
		t.Errorf("closed again: %d, %s%s, %+v", code, out, said, again)
	}
	tell(wrong)
	if all := listed(t, env); len(all) != 1 {
		t.Errorf("found again as it was closed: %+v", all)
	}
	wrong.Amount = 1
	tell(wrong)
	if all := listed(t, env, "--kind=amount"); len(all) != 1 || all[0].Amount != 1 || all[0].Actor != "" {
		t.Errorf("found as another: %+v", all)
	}
	code, out, said = asked(t, env, "close", "--json", "--yes", "--note=x", someBreak, string(wrong.ID))
	var b messages.Break
	if err := json.Unmarshal([]byte(out), &b); err != nil || code != cli.ExitFailed || b.ID != wrong.ID || b.Status != messages.BreakClosed || b.Actor == "" || !strings.Contains(said, someBreak+": nobody has told of such a break") {
		t.Errorf("one of two: %d, %q, %q, %v", code, out, said, err)
	}
	if code, _, said := asked(t, env, "breaks", "--account=se"); code != cli.ExitDone || said != "no open breaks\n" {
		t.Errorf("nothing left: %d, %q", code, said)
	}
}

// TestCloseFromSheet: what is filled in is closed, the rest stays open, and nothing is where the file cannot be read.
func TestCloseFromSheet(t *testing.T) {
	t.Parallel()
	formula := found(messages.BreakReversed, "se", "=cmd")
	env, _ := told(t, found(messages.BreakMissing, "se", "order-1"), found(messages.BreakMissing, "se", "order-2"), formula)
	_, sheet, _ := asked(t, env, "breaks", "--csv")
	if !strings.HasPrefix(sheet, "note,id,kind,status,") || strings.Count(sheet, "\n") != 4 || !strings.Contains(sheet, ",'=cmd,") {
		t.Fatalf("sheet:\n%s", sheet)
	}
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "breaks.csv")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := strings.Index(sheet, "\n,") + 1
	filled := "\ufeff" + strings.ReplaceAll(sheet[:first]+"dispute lost"+sheet[first:], ",", ";")
	for text, want := range map[string]string{
		sheet:                              "no line has a note",
		"note,id,colour\nx," + someBreak:   `unknown column "colour"`,
		"id,kind\n" + someBreak + ",x\n":   "no column note",
		"note,id\nx,*\n":                   `breaks.csv: line 2: id: "*"`,
		"note,id\nx," + someBreak + ",y\n": "found 3 cells",
	} {
		if code, _, said := asked(t, env, "close", "--yes", "--from="+file(text)); code != cli.ExitFailed || !strings.Contains(said, want) {
			t.Errorf("%q: %d, %s; want %s", text, code, said, want)
		}
	}
	code, out, said := asked(t, env, "close", "--yes", "--actor=ada", "--from="+file(filled))
	if code != cli.ExitDone || !strings.Contains(out, "1 break closed") {
		t.Errorf("%d, %s%s", code, out, said)
	}
	if all := listed(t, env, "--all"); len(listed(t, env)) != 2 || all[0].Note+all[1].Note+all[2].Note != "dispute lost" {
		t.Errorf("%+v", all)
	}
	left := string(listed(t, env)[0].ID)
	if code, _, said := asked(t, env, "close", "--yes", "--from="+file("note,id,status\nof an earlier list,"+left+",closed\n")); code != cli.ExitFailed || !strings.Contains(said, "no line has a note") || len(listed(t, env)) != 2 {
		t.Errorf("closed when the list was made, and open again: %d, %s", code, said)
	}
	if code, out, said := asked(t, env, "close", "--yes", "--note=x", left, left); code != cli.ExitDone || !strings.Contains(out, "1 break closed") || said != "" {
		t.Errorf("named twice: %d, %s%s", code, out, said)
	}
	if code, out, said := asked(t, env, "close", "--yes", "--from="+file("note,id\nx,"+someBreak+"\n")); code != cli.ExitFailed || !strings.Contains(said, "breaks.csv:2: "+someBreak) {
		t.Errorf("nobody has told of it: %d, %s%s", code, out, said)
	}
}

// TestBreaksAskedWrongly: each mistake is named, before anybody is asked.
func TestBreaksAskedWrongly(t *testing.T) {
	t.Parallel()
	env := map[string]string{"NATS_URL": "nats://127.0.0.1:1"}
	for want, args := range map[string][]string{
		"--kind: \"amounts\", expected some of second_order": {"breaks", "--kind=amounts"},
		"--account":                     {"breaks", "--account=S E"},
		"--json and --csv":              {"breaks", "--json", "--csv"},
		"ID: found nothing":             {"close", "--note=x"},
		"--note: not set":               {"close", someBreak},
		"--note: not set, ":             {"close", someBreak, "--note= "},
		"ID: \"*\", expected":           {"close", "*", "--note=x"},
		"ID: \"1F0D3C6A":                {"close", strings.ToUpper(someBreak), "--note=x"},
		"--from: the file says":         {"close", someBreak, "--from=x"},
		"--note: with --from":           {"close", "--note=x", "--from=x"},
		"--from: open /nowhere/x.csv: ": {"close", "--from=/nowhere/x.csv"},
	} {
		if code, out, said := asked(t, env, args...); code != cli.ExitUsage || out != "" || !strings.Contains(said, want) {
			t.Errorf("%v: %d, %q, %q; want %s", args, code, out, said, want)
		}
	}
	js := broker.JetStream(t)
	if code, _, said := asked(t, map[string]string{"NATS_URL": js.Conn().ConnectedUrl()}, "breaks"); code != cli.ExitFailed || !strings.Contains(said, "renewals provision") {
		t.Errorf("without the stream: %d, %s", code, said)
	}
	if code, _, said := asked(t, env, "breaks", "--timeout=10ms"); code != cli.ExitFailed || !strings.Contains(said, "no NATS server") {
		t.Errorf("without a server: %d, %s", code, said)
	}
}

// TestCloseBesideAnother: somebody else closes it between the look at it and the decision, and has the word.
func TestCloseBesideAnother(t *testing.T) {
	t.Parallel()
	js := broker.JetStream(t)
	if _, err := js.CreateStream(t.Context(), topology.Provisioning{Replicas: 1}.News()); err != nil {
		t.Fatal(err)
	}
	news, err := reconcile.OpenNews(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	b := found(messages.BreakMissing, "se", "order-1")
	if _, err := news.Publish(t.Context(), []messages.Break{b}); err != nil {
		t.Fatal(err)
	}
	var out, told strings.Builder
	w := &streams{stdin: strings.NewReader(""), stdout: &out, stderr: &told}
	d := closing{news: news, decision: cli.DecisionSettings{Actor: "bob", Yes: true}, streams: w, aside: w.page()}
	wishes, err := d.look(t.Context(), []wish{{id: b.ID, note: "refunded"}})
	if err != nil || len(wishes) != 1 {
		t.Fatal(wishes, err)
	}
	if err := news.Close(t.Context(), wishes[0].now, "ada", "faster", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := d.close(t.Context(), wishes); err != nil || d.refused != 1 || !strings.Contains(told.String(), "meanwhile") || !strings.Contains(out.String(), "0 breaks closed") {
		t.Errorf("%v, refused %d, %s%s", err, d.refused, out.String(), told.String())
	}
	if now, err := news.Find(t.Context(), b.ID); err != nil || now.Actor != "ada" {
		t.Errorf("%+v, %v", now, err)
	}
}

// Whatever the desk prints for people fits the terminal.
func TestEverythingFitsTheTerminal(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(26 * time.Hour)
	long, wide := strings.Repeat("subscription-", 5)[:64], strings.Repeat("定期購入🧾", 3)
	var all []reconcile.Standing
	var breaks []messages.Break
	for i, kind := range messages.BreakKinds() {
		b := found(kind, "default", "72f11fba-23a7-492d-a000-000000000008")
		b.SubscriptionID, b.Period = messages.SubscriptionID([]string{"1234834", long, wide}[i%3]), messages.Period([]string{"2026-12", long}[i%2])
		if i%2 > 0 {
			b.Status, b.Actor, b.Note = messages.BreakClosed, "somebody@"+long, wide
		}
		all, breaks = append(all, reconcile.Standing{Break: b}), append(breaks, b)
	}
	r := result{Report: &reconcile.Report{
		Breaks: breaks, Settled: []reconcile.Settled{{Break: breaks[1], Note: "settled in payout " + long + ", line 7: SALE of 15.99 EUR"}},
		Unused: []reconcile.Unused{{PaymentReference: long, Line: 100_000, Type: "SALE", OrderID: breaks[0].OrderID, Amount: 1599, Currency: "EUR", Reason: "its order is in no record, and its references are of no renewal"}},
	}, Applied: []reconcile.Applied{{Renewal: wide, OrderID: breaks[0].OrderID, Recorded: true}, {Renewal: long, OrderID: "x", Why: "not all of its references are those that were sent"}}}
	for name, print := range map[string]func(*cli.Page){
		"breaks":       func(p *cli.Page) { breakTable(all, false, now).Print(p) },
		"breaks --all": func(p *cli.Page) { breakTable(all, true, now).Print(p) },
		"reconcile":    func(p *cli.Page) { _ = r.text(p) },
		"report": func(p *cli.Page) {
			printTable(p, table{title: "Recovered after a first refusal, by its category", numbers: []bool{false, true, true, true, true, true, true, true, true}, rows: [][]string{
				{"category", "refused", "paid at 2nd", "3rd", "4th", "later", "recovered", "still open", "lost"}, {"customer_action", "12345", "1", "2", "3", "4", "100.0 %", "5", "6"}, {wide, "1", "1", "0", "0", "0", "100.0 %", "0", "0"},
			}})
		},
	} {
		clitest.Fits(t, name, print, "WHAT", "category", "refused", "paid", "at")
	}
}
