package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// in is a job for another period.
func in(period string, due time.Time, job messages.Job) messages.Job {
	job.Period, job.DueAt = messages.Period(period), due
	job.ID = messageID(job)
	return job
}

// store puts a record into the journal as a worker would, with no more in it than a list of periods shows.
func (o *office) store(subscription, period string, kind messages.Kind, due time.Time, state string) {
	o.Helper()
	if state == "" {
		encoded, err := journal.State{Version: 1, Phase: journal.PhaseNone}.Encode()
		if err != nil {
			o.Fatal(err)
		}
		state = encoded
	}
	address := messages.RecordAddress{
		Kind: kind, Renewal: messages.NewRenewal(messages.SubscriptionID(subscription), messages.Period(period)), Due: messages.DueToken(due), Account: devAccount,
	}
	body := fmt.Appendf(nil, `{"subscription_id":%q,"period":%q,"account":%q,"reason":"invalid"}`, subscription, period, devAccount)
	if _, err := o.js.PublishMsg(o.Context(), &nats.Msg{Subject: address.Subject(), Header: nats.Header{messages.HeaderState: {state}}, Data: body}); err != nil {
		o.Fatal(err)
	}
}

// records is how many of a renewal the server counts: on a busy machine a worker whose key window is this short hands a job back and
// claims it again.
func (o *office) records(subscription messages.SubscriptionID, period messages.Period) (n uint64) {
	o.Helper()
	stream, err := o.js.Stream(o.Context(), messages.StreamJournal)
	if err != nil {
		o.Fatal(err)
	}
	info, err := stream.Info(o.Context(), jetstream.WithSubjectFilter(messages.RenewalFilter(messages.NewRenewal(subscription, period))))
	if err != nil {
		o.Fatal(err)
	}
	for _, count := range info.State.Subjects {
		n += count
	}
	return n
}

// lines are what a command printed as JSON Lines.
func (o *office) lines(out string) (all []map[string]any) {
	o.Helper()
	for line := range strings.Lines(out) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			o.Fatalf("%v in %q", err, line)
		}
		all = append(all, one)
	}
	return all
}

// customer publishes what the subscription acme.4711 is made of: a period that is paid and had a second job, one that was declined, one
// that is parked, one that is cancelled unheard of, one in the queue; and others whose message IDs are names of subscriptions.
func (o *office) customer() (paid, declined, parked time.Time) {
	o.Helper()
	now := o.due.UTC().Truncate(time.Second)
	paid, declined, parked = now.AddDate(0, 0, -60), now.AddDate(0, 0, -30), now.Add(20*time.Hour)
	first := in("2026-10", paid, o.job("acme.4711", "ok", "", 1))
	again := first
	again.ID, again.Attempt = "another job for it", 2
	elsewhere := in("2026-12", now, o.job("other", "ok", "", 1))
	elsewhere.ID = "acme.4711" // somebody's message ID is our subscription
	own := in("2026-12", now, o.job("one-off", "ok", "", 1))
	own.ID = "one-off"
	o.publish(first, in("2026-11", declined, o.job("acme.4711", "soft-decline", "", 1)), in("2027-01", parked, o.job("acme.4711", "ok", "", 1)), elsewhere, own)
	o.work()
	o.publish(again)
	o.work()
	out, _ := o.run(cli.ExitDone, "cancel", "acme.4711", "2027-03", "--unknown", "--yes")
	o.expect(out, "nothing is recorded of this renewal yet; subscription acme.4711 has the periods 2026-11, 2026-10\n")
	o.publish(in("2026-12", now, o.job("acme.4711", "ok", "", 1)), in("2026-12", now, o.job("queued only", "ok", "", 1)))
	return paid, declined, parked
}

// A customer's periods in one list, the newest first, with what waits.
func TestShowSubscription(t *testing.T) {
	o := newOffice(t)
	paid, declined, parked := o.customer()
	out, _ := o.run(cli.ExitDone, "show", "acme.4711", "--as=subscription")
	rows := strings.Split(out, "\n")
	tries, refusals := o.records("acme.4711", "2026-10"), o.records("acme.4711", "2026-11")
	if tries < 3 || refusals < 2 { // a claim and a result, and of one the job that was turned away
		t.Errorf("%d and %d records, want 3 and 2 or more", tries, refusals)
	}
	want := [][]string{
		{"subscription acme.4711: periods with records: 3, the newest first"}, {}, {"PERIOD", "DUE (UTC)", "STATE", "AMOUNT", "OUTCOME", "RECORDS"},
		{"2026-11 ", declined.Format(time.DateOnly), "dunning", "15.99 EUR", "payment_method_failed, soft_decline, next attempt ", fmt.Sprintf(" %d", refusals)},
		{"2026-10 ", paid.Format(time.DateOnly), "paid", "15.99 EUR", "order ", fmt.Sprintf(" %d", tries)}, // and not the job that was turned away
		{"2027-03 ", " - ", "cancelled", " 1"}, {},
		{"queue: period 2026-12: job acme.4711/2026-12/1", "no worker has claimed it"},
		{"queue: period 2027-01: job acme.4711/2027-01/1", "parked, it waits outside the queue until " + clock(parked)},
	}
	if len(rows) != len(want)+1 {
		t.Errorf("%d lines, want %d:\n%s", len(rows)-1, len(want), out)
	}
	for i := range min(len(rows), len(want)) {
		o.expect(rows[i], want[i]...)
	}
	o.expect(out, "!ok-op", "!soft-decline-op")

	out, told := o.run(cli.ExitDone, "show", "acme.4711", "--as=subscription", "--json")
	lines := o.lines(out)
	if len(lines) != 5 || told != "" {
		t.Fatalf("%d lines, want 5 and nothing beside:\n%s\n%s", len(lines), out, told)
	}
	key := string(messages.NewRenewalKey("acme.4711", "2026-10"))
	if p := lines[1]; p["kind"] != "period" || p["period"] != "2026-10" || p["due_at"] != paid.Format(time.RFC3339) || p["phase"] != "paid" || p["order_amount"] != 1599.0 ||
		p["purchase_currency"] != "EUR" || p["order_id"] == nil || p["records"] != float64(tries) || p["renewal_key"] != key || p["account"] != string(devAccount) {
		t.Errorf("2026-10: %v", p)
	}
	if p := lines[0]; p["reason"] != "payment_method_failed" || p["next_attempt_at"] == nil {
		t.Errorf("2026-11: %v", p)
	}
	if lines[3]["kind"] != "due" || lines[4]["parked_until"] == nil {
		t.Errorf("jobs: %v", lines[3:])
	}
}

// What meant something before a subscription could be named means it still, and says so. What is not there says what is.
func TestShowByEveryName(t *testing.T) {
	o := newOffice(t)
	o.customer()
	for _, row := range []struct {
		name  string
		wants []string
	}{
		{"acme.4711", []string{"subscription other, period 2026-12", "state: paid", "acme.4711 is the name of a subscription, too: `renewals show --as=subscription acme.4711`"}},
		{"one-off", []string{"subscription one-off, period 2026-12", "state: paid", "one-off is the name of a subscription, too"}},
		{"acme.4711/2026-11", []string{"subscription acme.4711, period 2026-11", "state: dunning", "!is the name"}},
		{"acme.4711/2026-11/1", []string{"subscription acme.4711, period 2026-11", "state: dunning"}},
		{"another job for it", []string{"subscription acme.4711, period 2026-10", "state: paid"}},
		{"other", []string{"subscription other: periods with records: 1", "2026-12", "!may also"}},
		{"queued only", []string{"subscription queued only: nothing is recorded of it yet", "queue: period 2026-12: job queued only/2026-12/1"}},
	} {
		out, _ := o.run(cli.ExitDone, "show", row.name)
		o.expect(out, row.wants...)
	}
	out, told := o.run(cli.ExitDone, "show", "one-off", "--json")
	o.expect(told, "one-off is the name of a subscription, too")
	if lines := o.lines(out); len(lines) != 2 || lines[1]["kind"] != "paid" {
		t.Errorf("got %v, want the records of the message ID, as ever", lines)
	}
	out, _ = o.run(cli.ExitDone, "show", "acme.4711", "--as=message-id")
	o.expect(out, "subscription other", "!is the name")

	for _, row := range []struct {
		args  []string
		wants []string
	}{
		{[]string{"show", "acme.4711/2027-02"}, []string{"show acme.4711/2027-02: neither a record in RENEWAL_JOURNAL nor a job in RENEWALS or RENEWALS_LATER has it",
			"; subscription acme.4711 has the periods 2026-11, 2026-10, 2027-03"}},
		{[]string{"show", "nobody"}, []string{"has it as a period SUBSCRIPTION/PERIOD, a message ID or a subscription; a period is named with its subscription, as in nobody/2026-12", "!has the periods"}},
		{[]string{"show", "--as=subscription", "nobody"}, []string{"has it as a subscription;"}},
		{[]string{"show", "--as=message-id", "other"}, []string{"has it as a message ID; subscription other has the periods 2026-12"}},
		{[]string{"resolve", "acme.4711/2027-02", "--not-charged", "--yes"}, []string{"no record of it in RENEWAL_JOURNAL; subscription acme.4711 has the periods 2026-11,"}},
		{[]string{"resolve", "queued only", "--not-charged", "--yes"}, []string{"queued only: no record of it in RENEWAL_JOURNAL", "!has the periods"}},
		{[]string{"resolve", "other", "--not-charged", "--yes"}, []string{"other: no record of it in RENEWAL_JOURNAL; subscription other has the periods 2026-12"}},
	} {
		_, told := o.run(cli.ExitFailed, row.args...)
		o.expect(told, row.wants...)
	}
}

// Of its own periods a subscription's records tell, however long ago they had a job of this ID: nothing is searched for it.
func TestShowSearchesNoSubscription(t *testing.T) {
	o := newOffice(t)
	own := o.job("one-off", "ok", "one-off", 1)
	o.publish(own)
	o.work()
	c := showCmd{ID: "one-off"}
	records, err := journal.Open(t.Context(), o.js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	of, err := c.subscription(t.Context(), desk.Finder{JetStream: o.js, Journal: records, Progress: quietly})
	if err != nil {
		t.Fatal(err)
	}
	searchless := desk.Finder{Journal: records}
	if found, err := c.renewals(t.Context(), searchless, &of); err != nil || len(found) != 1 || found[0] != messages.NewRenewal("one-off", "2026-12") {
		t.Errorf("one-off is the message ID of %v, %v", found, err)
	}
}

// What is listed is bounded, and says so; a record that nobody can read hides no other.
func TestShowLongSubscription(t *testing.T) {
	o := newOffice(t)
	const periods = mostPeriods + 3
	for n := range periods {
		o.store("12", fmt.Sprintf("p%02d", n), messages.KindRejected, o.due.AddDate(0, 0, -n), "")
	}
	o.store("12", "p00", messages.KindPaid, o.due, "no state")
	out, _ := o.run(cli.ExitDone, "show", "12")
	o.expect(out, "subscription 12: periods with records: 53, the newest first", "p00     "+o.due.UTC().Format(time.DateOnly)+"  unreadable",
		"p01 ", "none", "invalid", "p49 ", "!p50 ", "3 more fell due before: `renewals show --all 12` lists them, too")
	out, _ = o.run(cli.ExitDone, "show", "12", "--all")
	o.expect(out, "p52 ", "!more fell due")
	out, told := o.run(cli.ExitDone, "show", "12", "--json")
	o.expect(told, "3 more fell due before")
	if lines := o.lines(out); len(lines) != mostPeriods || lines[0]["phase"] != "unreadable" || lines[0]["records"] != 2.0 {
		t.Errorf("got %d lines, the first %v, want %d, the first unreadable", len(lines), lines[0], mostPeriods)
	}
	_, told = o.run(cli.ExitFailed, "show", "12/2026-12")
	o.expect(told, "subscription 12 has the periods p00, p01, p02, p03, p04, p05, and 47 older ones")
}

// A subscription's results are seen, and nobody else's.
func TestWatchSubscription(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("acme.4711", "ok", "", 1), o.job("acme", "ok", "", 1), o.job("4711", "soft-decline", "", 1))
	o.work()
	for _, row := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--subscription=acme.4711"}, `{"kind":"paid","id":"acme.4711/2026-12/1"`},
		{[]string{"--subscription=4711", "--kind=paid,dunning", "--account=" + string(devAccount)}, `{"kind":"dunning","id":"4711/2026-12/1"`},
	} {
		watch := start(t, o.env, "", append([]string{"watch", "--json", "--since=1h"}, row.flags...)...)
		eventually(t, "the result on watch", func() bool { return strings.Contains(watch.stdout.String(), "\n") })
		watch.stop()
		watch.wait(t)
		if got := watch.stdout.String(); !strings.HasPrefix(got, row.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s shows\n%s\nwant one line, %s", row.flags, got, row.want)
		}
	}
	c := watchCmd{Subscription: "a.b >*", Kind: []string{"paid"}, Account: []string{"se"}}
	wanted, err := c.wish(o.due)
	own := messages.RecordAddress{Kind: messages.KindPaid, Renewal: messages.NewRenewal("a.b >*", "2026-12"), Account: "se"}
	claim, other, elsewhere := own, own, own
	claim.Kind, other.Renewal, elsewhere.Account = messages.KindCharging, messages.NewRenewal("a", "b >*.2026-12"), "no"
	if err != nil || !wanted.takes(own) || wanted.takes(claim) || wanted.takes(other) || wanted.takes(elsewhere) {
		t.Errorf("%+v, %v: takes %t, a claim %t, another subscription %t, another account %t", wanted, err, wanted.takes(own), wanted.takes(claim), wanted.takes(other), wanted.takes(elsewhere))
	}
}
