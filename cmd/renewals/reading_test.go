package main

import (
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	testbroker "github.com/klarna-renewals/renewals/test/broker"
)

// S80: whoever looks makes the broker search nothing. With a million renewals it would read every block of the journal for it, under the
// lock that claims wait for.
func TestReadersSearchNothing(t *testing.T) {
	o := newOffice(t)
	o.customer()
	o.publish(o.job("gave-up", "500", "", 1))
	o.work()
	o.publish(o.job("gave-up", "ok", "", 2), o.job("gave-up", "ok", "", 3)) // they become dead letters
	o.work()
	letter := o.letterFor("gave-up/2026-12/2")
	journal := testbroker.Searches(t, o.js, messages.StreamJournal)
	dead := testbroker.Searches(t, o.js, messages.StreamDead)
	for _, row := range []struct {
		args []string
		code int
	}{
		{args: []string{"show", "acme.4711"}},
		{args: []string{"show", "acme.4711/2026-10"}},
		{args: []string{"show", "acme.4711/2026-11/1"}},
		{args: []string{"show", "gave-up/2026-12", "--json"}},
		{args: []string{"show", "another job for it"}},
		{args: []string{"show", "nobody"}, code: cli.ExitFailed},
		{args: []string{"show", "nobody/2026-10"}, code: cli.ExitFailed},
		{args: []string{"status"}, code: cli.ExitFailed}, // somebody has to look
		{args: []string{"status", "--json"}, code: cli.ExitFailed},
		{args: []string{"status", "--unresolved"}},
		{args: []string{"resolve", "nobody", "--not-charged", "--yes"}, code: cli.ExitFailed},
		{args: []string{"resolve", "gave-up/2026-12", "--paid", "--order-id=X", "--captured", "--unverified"}, code: cli.ExitUsage}, // nobody is there to ask
	} {
		o.run(row.code, row.args...)
		testbroker.Asked(t, strings.Join(row.args, " "), journal)
	}
	for _, args := range [][]string{
		{"--since=1h"},
		{"--since=1h", "--kind=paid"},
		{"--since=1h", "--kind=paid,dunning", "--account=" + string(devAccount)},
		{"--since=1h", "--subscription=acme.4711"},
		{"--since=1h", "--subscription=acme.4711", "--kind=paid"},
	} {
		watch := start(t, o.env, "", append([]string{"watch", "--json"}, args...)...)
		eventually(t, "a result on watch", func() bool { return strings.Contains(watch.stdout.String(), "\n") })
		watch.stop()
		watch.wait(t)
		testbroker.Asked(t, "watch "+strings.Join(args, " "), journal)
	}
	o.publish(o.job("waits", "ok", "", 1))
	jobs := testbroker.Searches(t, o.js, messages.StreamJobs)
	o.run(cli.ExitFailed, "status")
	testbroker.Asked(t, "status, of the oldest jobs", jobs)
	dead() // what was asked for so far is not about dead letters alone
	o.run(cli.ExitDone, "dead", "list")
	o.run(cli.ExitDone, "dead", "show", letter)
	o.run(cli.ExitDone, "resolve", "gave-up/2026-12", "--not-charged", "--yes") // looks for those that it has blocked
	testbroker.Asked(t, "dead letters", dead)
	testbroker.Asked(t, "resolve", journal)
}

// A subscription's past comes in the order in which it happened, and what happens next follows, once.
func TestWatchSubscriptionFromBefore(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("sub", "soft-decline", "", 1), o.job("other", "ok", "", 1))
	o.work()
	o.publish(in("2027-01", o.due.AddDate(0, 0, -30), o.job("sub", "ok", "", 1)))
	o.work()
	watch := start(t, o.env, "", "watch", "--json", "--since=1h", "--subscription=sub")
	eventually(t, "the past on watch", func() bool { return strings.Count(watch.stdout.String(), "\n") == 2 })
	o.publish(o.job("sub", "ok", "", 2), in("2027-01", o.due.AddDate(0, 0, -30), o.job("other", "ok", "", 1)))
	o.work()
	eventually(t, "the present on watch", func() bool { return strings.Count(watch.stdout.String(), "\n") > 2 })
	watch.stop()
	watch.wait(t)
	var got []string
	for _, line := range o.lines(watch.stdout.String()) {
		got = append(got, line["kind"].(string)+" "+line["id"].(string))
	}
	if want := "dunning sub/2026-12/1, paid sub/2027-01/1, paid sub/2026-12/2"; strings.Join(got, ", ") != want {
		t.Errorf("watched %q, want %q", got, want)
	}
}
