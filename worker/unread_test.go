package worker

import (
	"strconv"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// unread is an answer without a word of Klarna's, while the canary was that well.
func unread(canary condition) outcome {
	return outcome{Tries: 1, Unsent: true, NotEvaluated: true, Canary: canary}
}

// S51, S94, S49: what a row of answers that nobody at Klarna gave comes to.
func TestUnread(t *testing.T) {
	type at struct {
		after time.Duration
		o     outcome
	}
	const never = 30 * 24 * time.Hour
	witness := func(after time.Duration) outcome {
		o := unread(well)
		o.EvaluatedAt = noon.Add(after)
		return o
	}
	row := func(o outcome, after ...time.Duration) (all []at) {
		for _, d := range after {
			all = append(all, at{d, o})
		}
		return all
	}
	const minute = time.Minute
	decided, open, unresolved := messages.KindDunning, messages.KindCharging, messages.KindUnresolved
	for _, tt := range []struct {
		name   string
		before func(*Claim)
		paused bool
		row    []at
		want   messages.Kind
		reason messages.Reason
	}{
		{"three times in a quarter of an hour, Klarna's canary", nil, false, row(unread(wellKlarna), 0, minute, 15*minute), decided, messages.ReasonRefusedWithoutCode},
		{"three times, but sooner", nil, false, row(unread(wellKlarna), 0, minute, 15*minute-time.Second), open, ""},
		{"twice", nil, false, row(unread(wellKlarna), 0, 16*minute), open, ""},
		{"another charge was evaluated meanwhile", nil, false, append(row(unread(well), 0, minute), at{15 * minute, witness(2 * minute)}), decided, messages.ReasonRefusedWithoutCode},
		{"another charge was evaluated before", nil, false, append(row(unread(well), 0, minute), at{15 * minute, witness(-minute)}), open, ""},
		{"S94: a proxy that answers 404 to everything", nil, false, row(unread(well), 0, minute, 15*minute, 5*time.Hour, 22*time.Hour), open, ""},
		{"S94: for a day", nil, false, row(unread(well), 0, minute, 15*minute, 23*time.Hour), unresolved, messages.ReasonNotEvaluated},
		{"the canary was not well once", nil, false, append(row(unread(wellKlarna), 0, minute), at{15 * minute, unread(unwell)}, at{16 * minute, unread(wellKlarna)}), open, ""},
		{"the canary was not heard once", nil, false, append(row(unread(wellKlarna), 0, minute), at{15 * minute, unread(unheard)}), open, ""},
		{"an answer of Klarna's came between", nil, false, append(row(unread(wellKlarna), 0, minute), at{14 * minute, outcome{Tries: 1, Unsent: true}}, at{15 * minute, unread(wellKlarna)}), open, ""},
		{"a try of the key is undecided", func(c *Claim) { c.UndecidedTries = 1 }, false, row(unread(wellKlarna), 0, minute, 15*minute), open, ""},
		{"Klarna said yes to the key once", func(c *Claim) { c.Answered2xx = true }, false, row(unread(wellKlarna), 0, minute, 15*minute), open, ""},
		{"S49: the account is paused", nil, true, row(unread(well), 0, minute, 15*minute, 48*time.Hour), open, ""},
		{"S49: the password is wrong for two days", nil, false, row(unread(unwell), 0, minute, 15*minute, 48*time.Hour), open, ""},
		{"S49: two answers, two days, and one", nil, false, row(unread(well), 0, 48*time.Hour), open, ""},
		{"kept by an older worker", func(c *Claim) { c.NotEvaluatedSince = noon.Add(-never) }, false, row(unread(wellKlarna), 0, minute), open, ""},
		{"kept by an older worker, three times since", func(c *Claim) { c.NotEvaluatedSince = noon.Add(-never) }, false, row(unread(wellKlarna), 0, minute, 2*minute), decided, messages.ReasonRefusedWithoutCode},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := testRules()
			r.paused = tt.paused
			s := charging()
			if tt.before != nil {
				s = with(s, tt.before)
			}
			var got step
			for _, a := range tt.row {
				now := noon.Add(a.after)
				got = conclude(s, holding{Claim: *s.Claim, SetsClock: true}, a.o, now, r)
				s = got.State
			}
			if got.Record != tt.want || got.Reason != tt.reason || (got.Then == actAck) != (tt.want != open) || got.Dead != (tt.want == unresolved) {
				t.Errorf("record %q, reason %q, then %d, dead %t, count %+v; want %q, %q", got.Record, got.Reason, got.Then, got.Dead, s.NotEvaluated, tt.want, tt.reason)
			}
			if got.Reason != "" && !got.byTheClock() {
				t.Error("recorded whatever the clock says")
			}
			if tt.want == decided { // another attempt begins anew
				if next := deliver(s, second(), noon.Add(20*minute), r); next.Then != actCharge || next.State.NotEvaluated.N != 0 {
					t.Errorf("the next attempt: then %d, count %+v", next.Then, next.State.NotEvaluated)
				}
			}
		})
	}
}

// S51: a key whose clock runs ends with its window, not sooner.
func TestUnreadWhileTheClockRuns(t *testing.T) {
	n := NotEvaluated{N: unreadTries, Since: noon}
	for _, tt := range []struct {
		sent time.Time
		want messages.Reason
	}{{time.Time{}, messages.ReasonNotEvaluated}, {noon.Add(time.Hour), ""}} {
		if got := n.comesTo(Claim{FirstSentAt: tt.sent}, unread(well), noon.Add(notEvaluatedLimit), testRules()); got != tt.want {
			t.Errorf("first sent at %s: %q, want %q", tt.sent, got, tt.want)
		}
	}
}

// S49: while the account is paused nobody gives up a claim under which nothing was sent, and another attempt least of all.
func TestS49NothingIsGivenUpWhilePaused(t *testing.T) {
	r := testRules()
	s := conclude(charging(), holding{Claim: *charging().Claim, SetsClock: true}, unread(unwell), noon, r).State
	for _, tt := range []struct {
		paused bool
		after  time.Duration
		want   messages.Kind
	}{{true, unsentLimit + staleAfter, ""}, {false, 48 * time.Hour, ""}, {false, unsentLimit + staleAfter, messages.KindUnresolved}} {
		r.paused = tt.paused
		if got := deliver(s, second(), noon.Add(tt.after), r); got.Record != tt.want || got.Then != actNak {
			t.Errorf("paused %t, after %s: record %q, then %d; want %q and to wait", tt.paused, tt.after, got.Record, got.Then, tt.want)
		}
	}
}

// S52: the look at an order before a capture follows the same rule, and its claim only counts.
func TestS52LookTurnedAway(t *testing.T) {
	r := testRules()
	s, q := authorised(), captureJob(0)
	for n, after := range []time.Duration{0, time.Minute} {
		got := lookedInVain(s, q, unread(wellKlarna), noon.Add(after), r)
		c := got.State.Claim
		if got.Record != messages.KindCapturing || got.Then != actNak || !c.Released || !c.FirstSentAt.IsZero() || c.Capture.Amount != 0 || got.State.NotEvaluated.N != n+1 {
			t.Fatalf("after %s: %+v, claim %+v; want it counted", after, got, c)
		}
		if err := got.State.check(); err != nil {
			t.Fatal(err)
		}
		s, q = got.State, q.again()
	}
	if got := lookedInVain(s, q, unread(unwell), noon.Add(time.Hour), r); got.State.NotEvaluated.N != 0 || got.Then != actNak {
		t.Errorf("the canary is not well: %+v, want the row to end", got)
	}
	if got := lookedInVain(s, q, unread(well), noon.Add(24*time.Hour), r); got.Record != messages.KindUnresolved || got.Reason != messages.ReasonNotEvaluated {
		t.Errorf("after a day: %+v, want unresolved", got)
	}
	got := lookedInVain(s, q, unread(wellKlarna), noon.Add(time.Hour), r)
	if got.Record != messages.KindCaptureFailed || got.Reason != messages.ReasonRefusedWithoutCode || got.Then != actAck || got.State.Phase != PhaseCaptureFailed || !got.State.uncaptured() {
		t.Fatalf("after an hour: %+v, want the capture failed, and the money still to be captured", got)
	}
	if again := deliver(got.State, q.again(), noon.Add(2*time.Hour), r); !again.Duplicate {
		t.Errorf("delivered again: %+v, want a duplicate", again)
	}
	if fresh := lookedInVain(authorised(), captureJob(0), unread(unwell), noon, r); fresh.Record != "" || fresh.Then != actNak {
		t.Errorf("the account's trouble: %+v, want no record", fresh)
	}
}

// S51: an order that is refused without a code again and again ends as the merchant's trouble; the customer hears nothing.
func TestS51RefusedWithoutCode(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("odd", "403-bare-1", 1))
	w.publish(w.due("unsure", "500x1-403-bare-1", 1))
	w.start()
	row := func(id string, n int) func() bool {
		return func() bool {
			for _, r := range w.records() {
				if r.ID == messages.MessageID(id) && r.State.NotEvaluated.N >= n {
					return true
				}
			}
			return false
		}
	}
	w.await("two odd answers", row("odd/2026-12/1", 2))
	w.await("two odd answers after one that leaves it open", row("unsure/2026-12/1", 2))
	w.expect(0)
	w.advance(unreadFor)
	w.await("its end", func() bool { return len(w.results()) > 0 })
	w.await("more odd answers", row("unsure/2026-12/1", 8))
	w.expect(0, "dunning refused_without_code")
	w.advance(24 * time.Hour)
	w.awaitEmpty()
	w.expect(0, "dunning refused_without_code", "unresolved idempotency_window_expired")
	r := w.results()[0]
	if r.Status != 403 || r.Category != messages.CategoryMerchantError || r.Notify || r.Retryable || r.Next != nil {
		t.Errorf("result: %+v, want 403, the merchant's, no notice, no retry", r)
	}
}

// S94: a proxy answers 404 to everything, the canary included. Nobody is dunned, and nobody is paused for good: after a day
// a person looks at it.
func TestS94ProxyThatKnowsNoPath(t *testing.T) {
	w := newWorld(t)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "404-bare" })
	for n := range 3 {
		w.publish(w.due("s94-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	w.start()
	turned := func(n int) bool {
		rows := map[messages.MessageID]int{}
		for _, r := range w.records() {
			rows[r.ID] = r.State.NotEvaluated.N
		}
		return len(rows) == 3 && min(rows["s94-0/2026-12/1"], rows["s94-1/2026-12/1"], rows["s94-2/2026-12/1"]) >= n
	}
	w.await("some answers", func() bool { return turned(2) })
	w.advance(time.Hour)
	w.await("more answers", func() bool { return turned(5) })
	w.expect(0)
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "" })
	w.awaitEmpty()
	w.expect(3, "paid", "paid", "paid")
}

// S52: the order of a capture has expired, and Klarna answers the look at it, or the capture, 404 without a word.
func TestS52NoSuchOrder(t *testing.T) {
	for _, reference := range []string{"404-bare-1", "403-bare-1"} {
		t.Run(reference, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			order := w.authorise("s52", "ok-s52")
			w.capture(messages.Capture{ID: "s52/capture", SubscriptionID: "s52", Period: "2026-12", OrderID: order, Reference: reference})
			w.await("two odd answers", func() bool {
				all := w.records()
				return all[len(all)-1].State.NotEvaluated.N >= 2
			})
			w.advance(unreadFor)
			w.awaitEmpty()
			want := "capture_failed refused_without_code"
			if reference == "404-bare-1" {
				want = "capture_failed no_such_order"
			}
			w.expect(1, "paid", want)
		})
	}
}

// S94: captures and charges go different ways to Klarna: what is heard of the one is no witness for the other, and what
// nobody there evaluated is none at all.
func TestS94Witnesses(t *testing.T) {
	o := DefaultOptions()
	o.Name, o.Accounts, o.Now = "w", []Account{{Name: "default"}}, func() time.Time { return noon }
	w, err := New(nil, o)
	if err != nil {
		t.Fatal(err)
	}
	a := &account{Account: w.accounts[0], Worker: w}
	now := a.now()
	for _, tt := range []struct {
		capture bool
		err     error
		want    bool
	}{
		{false, answered(403, ""), false}, {true, answered(404, ""), false}, {false, answered(500, ""), false}, {false, answered(429, ""), false},
		{true, nil, true}, {false, answered(403, ""), false}, {true, answered(404, ""), true},
		{false, answered(403, "TOKEN_CANCELLED"), true}, {false, answered(403, ""), true},
	} {
		at := a.evaluated(tt.capture, tt.err)
		if at.IsZero() == tt.want || tt.want && at.Sub(now).Abs() > time.Minute {
			t.Errorf("capture %t, answer %v: last evaluated at %s, want %t", tt.capture, tt.err, at, tt.want)
		}
	}
}
