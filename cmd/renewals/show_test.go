package main

import (
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// Where a renewal stands and what happens next, in every phase.
func TestStanding(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)
	const key = messages.IdempotencyKey("066fb987-94e8-5d9a-9b0b-0d279f430fd1")
	later := now.Add(72 * time.Hour)
	delayed := func(p journal.Phase, captured int64, before time.Time) journal.State {
		return journal.State{
			Phase: p, Claim: &journal.Claim{Key: key, Tries: 2, Deliveries: 1, Released: true, FirstSentAt: now, Capture: &journal.Capture{OrderID: "f3392f8b", Amount: 500}},
			Order: &journal.Order{ID: "f3392f8b", Amount: 1599, Currency: "EUR", Captured: captured, CaptureBefore: before},
		}
	}
	failed := func(edit func(*record)) []episode {
		e := episode{record: record{Kind: messages.KindCaptureFailed, SubscriptionID: "it's", Period: "2026-12", Currency: "EUR", Reason: messages.ReasonPaymentMethodFailed}}
		edit(&e.record)
		return []episode{e}
	}
	charging := func(edit func(*journal.Claim)) journal.State {
		c := journal.Claim{Key: key, Worker: "w1", FirstSentAt: now.Add(-2 * time.Hour), LeaseUntil: now.Add(time.Minute), Tries: 3, Deliveries: 2, UndecidedTries: 1}
		edit(&c)
		return journal.State{Phase: journal.PhaseCharging, Claim: &c}
	}
	settled := journal.State{Phase: journal.PhaseNone, Settled: map[messages.IdempotencyKey]journal.Settlement{key: {Kind: messages.KindRejected, Reason: messages.ReasonAlreadyPaid}}}
	invalid := journal.State{Phase: journal.PhaseNone, Settled: map[messages.IdempotencyKey]journal.Settlement{key: {Kind: messages.KindRejected, Reason: messages.ReasonInvalid}}}
	order := &journal.Claim{Key: "another", OrderID: "f3392f8b"}
	rec := func(k messages.Kind, edit func(*record)) []episode {
		e := episode{record: record{Kind: k, SubscriptionID: "it's", Period: "2026-12"}}
		edit(&e.record)
		return []episode{e}
	}
	sought := func(captured int64) episode {
		day := time.Date(2026, 12, 1, 2, 0, 0, 500_000_000, time.UTC)
		u := messages.Unresolved{
			Record: messages.Record{
				SubscriptionID: "1", Period: "2026-12", OrderAmount: 1599, PurchaseCurrency: "EUR", MerchantReference1: "1-2026-12", MerchantReference2: "NL-7",
				IdempotencyKey: key, TokenFingerprint: "b17f6e500d48",
			},
			Reason: messages.ReasonPoison, CapturedAmount: captured, Reference: "parcel 1",
			FirstSentAt: day, SearchUntil: day.Add(21*time.Hour + 2*time.Minute + 5*time.Second), CorrelationIDs: []string{"6b5c5c2f", "0a81d3e7"},
		}
		body, err := messages.Encode(u)
		if err != nil {
			t.Fatal(err)
		}
		return episode{record: record{Kind: messages.KindUnresolved, SubscriptionID: "1", Period: "2026-12", OrderAmount: 1599, Currency: "EUR", Amount: captured, Reason: u.Reason, body: body}}
	}
	due := []desk.WaitingJob{{ID: "j", Account: "default", Key: key, Published: now.Add(-time.Minute), DueAt: now}}
	for _, row := range []struct {
		situation string
		h         history
		want      []string
	}{
		{"claimed", history{state: charging(func(*journal.Claim) {})}, []string{"charging under key 066fb987", "3 tries in 2 deliveries, 1 of them undecided", "may be used for another 21h", "worker w1 holds the claim for another 1m"}},
		{"released", history{state: charging(func(c *journal.Claim) { c.Released = true })}, []string{"next: the next delivery of the job tries again under the same key"}},
		{"the worker is dead", history{state: charging(func(c *journal.Claim) { c.LeaseUntil = now.Add(-5 * time.Second) })}, []string{"the claim of worker w1 ended 5s ago"}},
		{"nothing has reached Klarna", history{state: charging(func(c *journal.Claim) { c.FirstSentAt = time.Time{} })}, []string{"has not read a request under it yet"}},
		{"past the window", history{state: charging(func(c *journal.Claim) { c.FirstSentAt = now.Add(-23 * time.Hour) })}, []string{"may no longer be used"}},
		{"a yes without an order", history{state: charging(func(c *journal.Claim) { c.Answered2xx, c.Contradicted, c.LastError = true, true, "timeout" })}, []string{"said yes without naming what it made", "refused it after a try", "last: timeout"}},
		{"pending", history{state: journal.State{Phase: journal.PhasePending, Claim: order}}, []string{"Klarna made order f3392f8b and is still deciding"}},
		{"paid", history{state: journal.State{Phase: journal.PhasePaid, Claim: order}}, []string{"paid with order f3392f8b"}},
		{"authorised", history{state: delayed(journal.PhasePaid, 0, later)}, []string{"paid with order f3392f8b: 15.99 EUR authorised, capture before 2026-12-04 03:00 UTC", "publish a capture job: `renewals publish --capture`"}},
		{"authorised, and Klarna tells no end", history{state: delayed(journal.PhasePaid, 0, time.Time{})}, []string{"15.99 EUR authorised, Klarna has not said until when", "publish a capture job"}},
		{"authorised too long ago", history{state: delayed(journal.PhasePaid, 0, now.Add(-time.Hour))}, []string{"next: the authorisation ended 1h ago: Klarna captures nothing more of it"}},
		{"capturing", history{state: delayed(journal.PhaseCapturing, 0, later), records: failed(func(*record) {})}, []string{"capturing 5.00 EUR of order f3392f8b, under key 066fb987", "2 tries in 1 deliveries, 0 of them undecided", "tries again under the same key"}},
		{"captured in part", history{state: delayed(journal.PhaseCaptured, 500, later)}, []string{"captured in part: 5.00 EUR of 15.99 EUR of order f3392f8b, 10.99 EUR remain, capture before 2026-12-04", "publish a capture job"}},
		{"captured in full", history{state: delayed(journal.PhaseCaptured, 1599, now.Add(-time.Hour))}, []string{"captured in full: 15.99 EUR of order f3392f8b; nothing more is charged or captured"}},
		{"capture declined", history{state: delayed(journal.PhaseCaptureFailed, 500, later), records: failed(func(r *record) { r.NextAttemptAt = &later })}, []string{"capture failed: payment_method_failed; of order f3392f8b 5.00 EUR of 15.99 EUR are captured, 10.99 EUR remain", "another capture under a new message ID, suggested at 2026-12-04 03:00 UTC"}},
		{"capture declined for good", history{state: delayed(journal.PhaseCaptureFailed, 0, later), records: failed(func(*record) {})}, []string{"no further capture is suggested; since the period has an order, nothing new is charged for it either"}},
		{"unresolved capture", history{state: delayed(journal.PhaseUnresolved, 0, later), records: append(failed(func(*record) {}), episode{record: record{Kind: messages.KindUnresolved, SubscriptionID: "it's", Period: "2026-12", Currency: "EUR", Reason: messages.ReasonContradictoryAnswers}})},
			[]string{"unresolved capture: contradictory_answers; whether Klarna captured 5.00 EUR of order f3392f8b is not known", `renewals resolve 'it'\''s/2026-12' --captured --capture-id CAPTURE`, "--not-captured"}},
		{"declined", history{state: journal.State{Phase: journal.PhaseDunning, Claim: order}, records: rec(messages.KindDunning, func(r *record) { r.Reason, r.NextAttemptAt = messages.ReasonPaymentMethodFailed, &later })}, []string{"dunning: payment_method_failed", "suggested at 2026-12-04 03:00 UTC"}},
		{"declined for good", history{state: journal.State{Phase: journal.PhaseDunning, Claim: order}, records: rec(messages.KindDunning, func(r *record) { r.Reason = messages.ReasonTokenCancelled })}, []string{"no further attempt is suggested"}},
		{"unresolved", history{state: journal.State{Phase: journal.PhaseUnresolved, Claim: order}, records: rec(messages.KindUnresolved, func(r *record) { r.Reason = messages.ReasonPendingTooLong })}, []string{"unresolved: pending_too_long", `renewals resolve 'it'\''s/2026-12' --paid`}},
		{"unresolved, in every detail", history{state: journal.State{Phase: journal.PhaseUnresolved, Claim: order}, records: []episode{sought(0)}}, []string{
			"search: an order of 15.99 EUR, merchant references 1-2026-12 and NL-7, made between 2026-12-01 02:00:00 UTC and 2026-12-01 23:02:06 UTC", "\n        Klarna's correlation ids: 6b5c5c2f, 0a81d3e7\n",
			"idempotency key 066fb987-94e8-5d9a-9b0b-0d279f430fd1, customer token with fingerprint b17f6e500d48",
		}},
		{"unresolved capture, in every detail", history{state: delayed(journal.PhaseUnresolved, 0, later), records: []episode{sought(500)}}, []string{
			"search: a capture of 5.00 EUR of order f3392f8b, merchant references 1-2026-12 and NL-7, reference parcel 1, made between ",
		}},
		{"cancelled", history{state: journal.State{Phase: journal.PhaseCancelled}}, []string{"will not be charged"}},
		{"rejected only", history{state: settled, records: rec(messages.KindRejected, func(*record) {})}, []string{"nothing was charged and nothing is being charged"}},
		{"waiting", history{jobs: due}, []string{"nothing recorded", "published 1m ago for account default: no worker has claimed it"}},
		{"early", history{jobs: []desk.WaitingJob{{DueAt: later}}}, []string{"job without a valid ID", "it is due at 2026-12-04 03:00 UTC"}},
		{"between deliveries", history{state: charging(func(*journal.Claim) {}), jobs: due}, []string{"it waits between deliveries"}},
		{"behind another attempt", history{state: journal.State{Phase: journal.PhasePending, Claim: order}, jobs: due}, []string{"it waits until the charge under way is decided"}},
		{"behind a capture", history{state: delayed(journal.PhaseCapturing, 0, later), records: failed(func(*record) {}), jobs: []desk.WaitingJob{{ID: "c", Job: desk.CaptureJob}}}, []string{"queue: capture job c, ", "it waits until the capture under way is decided"}},
		{"settled, its ack is lost", history{state: settled, jobs: due}, []string{"it has its result"}},
		{"replayed", history{state: settled, jobs: []desk.WaitingJob{{Key: key, Replay: "17"}}}, []string{"no worker has claimed it"}},
		{"corrected", history{state: invalid, jobs: due}, []string{"no worker has claimed it"}},
	} {
		got := strings.Join(row.h.standing(now, 23*time.Hour), "\n")
		for _, want := range row.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is not in:\n%s", row.situation, want, got)
			}
		}
	}
}

// A record says "claimed" where a delivery begins and what its tries came to where it ends.
func TestHistoryTable(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	one := func(kind messages.Kind, after time.Duration, deliveries int, edit func(*episode)) episode {
		e := episode{record: record{Kind: kind, ID: "1/2026-12/1", SubscriptionID: "1", Period: "2026-12", Account: "se", Attempt: 1, IdempotencyKey: "066fb987-94e8", OrderAmount: 1599, Currency: "EUR", At: at.Add(after)}, Deliveries: deliveries, Worker: "w\x1b[2J"}
		edit(&e)
		return e
	}
	h := history{state: journal.State{Phase: journal.PhaseCancelled}, records: []episode{
		one(messages.KindCharging, 0, 1, func(*episode) {}),
		one(messages.KindCharging, 340*time.Millisecond, 1, func(e *episode) { e.LastError, e.UndecidedTries = "connection cut", 1 }),
		one(messages.KindCharging, 65*time.Second, 2, func(e *episode) { e.LastError, e.UndecidedTries = "connection cut", 1 }),
		one(messages.KindDunning, 66*time.Second, 2, func(e *episode) { e.Reason, e.Category = "payment_method_failed", "soft_decline" }),
		one(messages.KindCancelled, 26*time.Hour, 0, func(e *episode) {
			e.Actor, e.Note, e.Currency, e.Worker, e.ID = "anna", "left us", "", "operator", ""
		}),
	}}
	var b strings.Builder
	h.print(&cli.Page{Writer: &b}, at, 23*time.Hour)
	want := `subscription 1, period 2026-12, 15.99 EUR, merchant reference -, account se
renewal key -
key 066fb987… is 066fb987-94e8 of message ID 1/2026-12/1

TIME (UTC)               SINCE   KIND       ATTEMPT  KEY       TRIES  DELIVERIES  WORKER    OUTCOME
2026-12-01 00:00:00.000          charging   1        066fb987  0      1           w�[2J     claimed
2026-12-01 00:00:00.340  +340ms  charging   1        066fb987  0      1           w�[2J     connection cut, undecided tries: 1
2026-12-01 00:01:05.000  +1m4s   charging   1        066fb987  0      2           w�[2J     claimed
2026-12-01 00:01:06.000  +1s     dunning    1        066fb987  0      2           w�[2J     payment_method_failed, soft_decline, final
2026-12-02 02:00:00.000  +1d1h   cancelled  1        066fb987  0      0           operator  by anna, note: left us

  state: cancelled: this period will not be charged
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLapse(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"}, {340 * time.Millisecond, "340ms"}, {1500 * time.Millisecond, "1.5s"}, {59900 * time.Millisecond, "59.9s"}, {time.Minute, "1m"}, {3*time.Minute + 5*time.Second, "3m5s"},
		{2*time.Hour + 7*time.Minute + 3*time.Second, "2h7m"}, {20 * time.Hour, "20h"}, {24 * time.Hour, "1d"}, {147 * time.Hour, "6d3h"}, {-90 * time.Second, "-1m30s"},
	} {
		if got := cli.Lapse(row.d); got != row.want {
			t.Errorf("lapse(%v) = %q, want %q", row.d, got, row.want)
		}
	}
}
