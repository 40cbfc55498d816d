package journal

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
)

// The moment of an operator's word is the broker's: on a machine whose clock is ahead, a word from before the journal was set back is
// none after it, neither in the record itself nor in what follows it.
func TestVouchedByTheBrokersClock(t *testing.T) {
	t.Parallel()
	js := emptyJournal(t)
	j, err := Open(t.Context(), js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, row := range []struct {
		name  string
		ahead time.Duration // the operator's clock
		until time.Duration // T
		want  messages.Reason
	}{
		{name: "a word before it", until: 6 * time.Minute, want: messages.ReasonJournalRestored},
		{name: "a word before it, by a clock that is ahead", ahead: 10 * time.Minute, until: 6 * time.Minute, want: messages.ReasonJournalRestored},
		{name: "a word after it", until: -time.Minute},
		{name: "a word after it, by a clock that is ahead", ahead: 10 * time.Minute, until: -time.Minute},
		{name: "a word after it, by a clock that is behind", ahead: -10 * time.Minute, until: -time.Minute, want: messages.ReasonJournalRestored},
	} {
		t.Run(row.name, func(t *testing.T) {
			subscription, rules := messages.SubscriptionID(row.name), testRules()
			r := messages.NewRenewal(subscription, "2026-12")
			attempt := func(n int64, q Request) Request {
				q.Attempt, q.DueAt = n, now.Add(-50*time.Hour)
				return q
			}
			claimed := Deliver(empty(), attempt(1, first()), now.Add(-49*time.Hour), rules)
			gaveUp := giveUp(claimed.State, messages.ReasonIdempotencyWindowExpired, rules)
			about := messages.Record{Account: "default", IdempotencyKey: K1, RenewalKey: r.Key()}
			text, err := gaveUp.State.Encode()
			if err != nil {
				t.Fatal(err)
			}
			body, err := messages.Encode(messages.Unresolved{Record: about, Reason: gaveUp.Reason})
			if err != nil {
				t.Fatal(err)
			}
			m := &nats.Msg{Subject: messages.RecordAddress{Kind: messages.KindUnresolved, Renewal: r, Account: "default"}.Subject(), Header: nats.Header{messages.HeaderState: {text}}, Data: body}
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if err := j.ResolveNotCharged(t.Context(), r, Decision{Actor: "anna", At: now.Add(row.ahead)}); err != nil {
				t.Fatal(err)
			}
			rules.Restored = now.Add(row.until)
			judged := func(after string) {
				t.Helper()
				at, err := j.Last(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if got := Deliver(at.State, attempt(2, second()), now.Add(time.Hour), rules); got.Reason != row.want {
					t.Errorf("attempt 2 after %s: %s, reason %q; want %q", after, got.State.Phase, got.Reason, row.want)
				}
			}
			judged("the word")
			for _, write := range []func(context.Context, messages.Account, messages.SubscriptionID, messages.Period, Decision) error{j.Cancel, j.Reinstate} {
				if err := write(t.Context(), "default", subscription, "2026-12", Decision{Actor: "anna", At: now}); err != nil {
					t.Fatal(err)
				}
			}
			judged("what followed it")
		})
	}
}
