package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// troubled is an overview with something of everything.
func troubled(now time.Time) desk.Overview {
	o := desk.Overview{
		At: now, NewsUnread: 17,
		Deviations: []string{
			"stream RENEWAL_JOURNAL: setting deny_purge: found false, expected true; run `renewals provision` to put it right",
			"stream RENEWAL_DEAD: setting sealed: found true, expected none; no update changes it: the stream must be made anew from a backup",
		},
		Warnings: []string{"stream RENEWAL_JOURNAL has 1 of at least 3 replicas"},
		Accounts: []desk.AccountOverview{
			{Name: "de", Workers: 2, Parked: 7, ParkedUntil: now.Add(3 * time.Hour), NearlyFull: map[string]float64{"charge-de": 0.83}, Backlog: 1204, Captures: 12, InFlight: 64, Oldest: now.Add(-185 * time.Second)},
			{Name: "no", Workers: 2, Backlog: 500_000, Rate: 180, DrainedAt: now.Add(2778 * time.Second)},
			{Name: "pl", Workers: 1, Backlog: 500_000, Rate: 5, DrainedAt: now.Add(100_000 * time.Second)},
			{Name: "ro", Workers: 1, Backlog: 180, Rate: 180, DrainedAt: now.Add(time.Second)},
			{Name: "se", Backlog: 1, Oldest: now.Add(-26 * time.Hour), Undecided: now.Add(-22 * time.Hour), Unresolved: 12, Dead: 3, Expiring: 5, Breaks: map[messages.BreakKind]int{messages.BreakSecondOrder: 1, messages.BreakMissing: 2}, Paused: map[string]string{"breaker": "a run of \x1b[2Jtimeouts"}},
		},
		Workers: []topology.Presence{
			{Name: "w2", Started: now.Add(-time.Minute), Accounts: map[messages.Account]topology.AccountPresence{"de": {InFlight: 64, Rate: 90}}},
			{Name: "w1", Started: now.Add(-49 * time.Hour), Accounts: map[messages.Account]topology.AccountPresence{"de": {}, "fr": {}}},
		},
	}
	for n := range 12 {
		o.Unresolved = append(o.Unresolved, messages.Unresolved{
			Record: messages.Record{Account: "se", SubscriptionID: messages.SubscriptionID(fmt.Sprint(n)), Period: "2026-12", OrderAmount: 1599, PurchaseCurrency: "EUR", At: now.Add(-time.Hour)},
			Reason: messages.ReasonIdempotencyWindowExpired,
		})
	}
	o.Unresolved[0].CapturedAmount = 800
	return o
}

// What a person reads at 3 a.m.
func TestStatusForPeople(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)
	o := troubled(now)
	var b strings.Builder
	printStatus(&cli.Page{Writer: &b}, o, needsHuman(o), 23*time.Hour)
	got := b.String()
	for _, want := range []string{
		"2026-12-01 03:00:00 UTC  NEEDS A HUMAN\n  ! nothing is charged: stream RENEWAL_JOURNAL: setting deny_purge",
		"\n  ! nothing is charged: stream RENEWAL_DEAD: setting sealed",
		"\n  warning: stream RENEWAL_JOURNAL has 1 of at least 3 replicas\n",
		"  ! account de: waiting jobs fill the queue's max_ack_pending\n",
		"  ! account se: unresolved renewals, dead letters, authorisations that expire uncaptured, paused, open breaks, no worker serves it\n",
		"ACCOUNT  BACKLOG  CAPTURES  OLDEST  IN FLIGHT  WORKERS  PARKED  UNRESOLVED  DEAD LETTERS  EXPIRING  UNDECIDED  KEY LEFT  PAUSED\n",
		"de       1204     12        3m5s    64         2        7       0           0             0         -          -         -\n",
		"de parked: 7 jobs that came early wait outside the queue, the next comes back by 2026-12-01 06:00 UTC\n",
		"de: jobs that wait take 83 % of max_ack_pending of consumer charge-de; at 100 % nothing is handed out, whatever is due\n",
		"\nno: 500000 jobs at 180 requests a second are done by 03:47 UTC; one that comes now waits as long\n",
		"\npl: 500000 jobs at 5 requests a second are done by 2026-12-02 06:47 UTC; one that comes now waits as long\n",
		"se       1        0         1d2h    0          0        0       12          3             5         22h        1h        breaker\n",
		"\nse: open breaks between Klarna's settlements and the journal: 2 missing, 1 second_order; renewals-desk breaks --account se\n",
		"\n17 messages of RENEWAL_NEWS were not read",
		"se paused, breaker: a run of \uFFFD[2Jtimeouts\n",
		"w1      2d1h  de (0 in flight, no rate limit), fr (0 in flight, no rate limit)\nw2      1m    de (64 in flight, 90/s)\n",
		"  0/2026-12  se  capture  8.00 EUR   idempotency_window_expired  1h ago\n",
		"  1/2026-12  se  charge   15.99 EUR  idempotency_window_expired  1h ago\n",
		"  and 2 more: renewals status --json\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "10/2026-12") || strings.Contains(got, "ro: ") || strings.Contains(got, "\x1b") {
		t.Errorf("got\n%s", got)
	}

	b.Reset()
	o.Accounts[0].NearlyFull = nil
	calm := desk.Overview{At: now, Accounts: o.Accounts[:1], Workers: o.Workers}
	if human := needsHuman(calm); len(human) != 0 {
		t.Errorf("a long queue that is being worked on needs a human: %v", human)
	}
	printStatus(&cli.Page{Writer: &b}, desk.Overview{At: now}, nil, 23*time.Hour)
	if got := b.String(); !strings.Contains(got, "nothing needs a human") || !strings.Contains(got, "no jobs, ") || !strings.Contains(got, "no worker is live") {
		t.Errorf("an empty system: got\n%s", got)
	}
}

func TestStatus(t *testing.T) {
	o := newOffice(t)
	out, _ := o.run(cli.ExitDone, "status")
	o.expect(out, "nothing needs a human")
	watch := start(t, o.env, "", "status", "--watch", "--json")

	o.publish(o.job("1", "ok", "", 1))
	out, _ = o.run(cli.ExitFailed, "status")
	o.expect(out, "account default: no worker serves it", "default  1 ")
	p := start(t, o.env, "", "work")
	o.empty(p)
	eventually(t, "the worker is listed", func() bool {
		p := start(t, o.env, "", "status")
		return p.wait(t) == cli.ExitDone && strings.Contains(p.stdout.String(), "default (0 in flight, no rate limit)")
	})

	// A publisher has mistyped its account: no worker could be called so.
	for _, subject := range []string{"renewals.due.SE", "renewals.due.a_b", "renewals.due.a_b", "renewals.due.\x1b[2J", "renewals.capture.SE"} {
		payload, err := o.job("lost", "ok", "", 1).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.js.Publish(t.Context(), subject, payload); err != nil {
			t.Fatal(err)
		}
	}
	out, _ = o.run(cli.ExitFailed, "status")
	o.expect(out, `1 charge jobs wait for account "SE", and no account can be called so`, `2 charge jobs wait for account "a_b"`, `1 charge jobs wait for account "\x1b[2J"`, `1 capture jobs wait for account "SE"`)
	found, _ := o.run(cli.ExitDone, "doctor")
	o.expect(found, `warn      workers       5 jobs wait for what no account can be called: "SE", "\x1b[2J", "a_b": no worker takes them`)
	shown, _ := o.run(cli.ExitDone, "show", "lost")
	o.expect(shown, `for account "SE": no account can be called so, no worker takes it`, `for account "\x1b[2J": no account`)
	if seen := out + found + shown; strings.Contains(seen, "\x1b") {
		t.Errorf("a stranger's subject steers the terminal: %q", seen)
	}
	if _, told := o.run(cli.ExitFailed, "status", "--json"); strings.Contains(told, "\x1b") {
		t.Errorf("got %q", told)
	}

	// Somebody has touched the journal.
	stream, err := o.js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgsPerSubject = 1
	if _, err := o.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	out, _ = o.run(cli.ExitFailed, "status")
	o.expect(out, "NEEDS A HUMAN\n  ! nothing is charged: stream RENEWAL_JOURNAL: setting max_msgs_per_subject")

	eventually(t, "watch shows it too", func() bool { return strings.Contains(watch.stdout.String(), "max_msgs_per_subject") })
	watch.stop()
	if code := watch.wait(t); code != cli.ExitInterrupted {
		t.Errorf("watch exited with %d, want 130: %s", code, watch.stderr.String())
	}
	for line := range strings.Lines(watch.stdout.String()) {
		var one struct {
			At         time.Time
			Accounts   []desk.AccountOverview
			Workers    []topology.Presence
			NeedsHuman []string `json:"needs_human"`
		}
		if err := json.Unmarshal([]byte(line), &one); err != nil || one.At.IsZero() || one.Accounts == nil || one.Workers == nil || one.NeedsHuman == nil {
			t.Errorf("%v in %s", err, line)
		}
	}
	if err := o.js.DeleteStream(t.Context(), messages.StreamJournal); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"status"}, {"show", "1/2026-12"}, {"resolve", "1/2026-12", "--not-charged"}, {"cancel", "1", "2026-12"}} {
		_, told := o.run(cli.ExitFailed, command...)
		o.expect(told, "RENEWAL_JOURNAL", "run `renewals provision`")
	}
}

// TestStatusSaysWhenTheBacklogIsDone: whoever has an urgent job sees how long it waits behind the others.
func TestStatusSaysWhenTheBacklogIsDone(t *testing.T) {
	o := newOffice(t)
	const jobs, rate = 300, 0.5
	for n := range jobs {
		o.publish(o.job(fmt.Sprint(n), "ok", "", 1))
	}
	for range 2 { // who share the rate
		start(t, o.env, "", "work", "--klarna-rate", fmt.Sprint(rate))
	}
	eventually(t, "the moment, from what both workers may ask", func() bool {
		p := start(t, o.env, "", "status", "--json")
		var seen desk.Overview
		if p.wait(t) != cli.ExitDone || json.Unmarshal([]byte(p.stdout.String()), &seen) != nil || len(seen.Accounts) != 1 {
			return false
		}
		for _, w := range seen.Workers {
			if w.Accounts["default"].Rate != rate/2 {
				return false
			}
		}
		a := seen.Accounts[0]
		left := a.DrainedAt.Sub(seen.At).Seconds() * rate
		return a.Workers == 2 && a.Rate == rate && left > float64(a.Backlog)-1 && left <= float64(a.Backlog)
	})
	p := start(t, o.env, "", "status")
	p.wait(t)
	o.expect(p.stdout.String(), "jobs at 0.5 requests a second are done by ")
}
