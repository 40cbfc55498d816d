package journal

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// unread is an answer without a word of Klarna's, while the canary was that well.
func unread(canary Canary) Outcome {
	return Outcome{Tries: 1, Unsent: true, NotEvaluated: true, Canary: canary}
}

// S51, S94, S49: what a row of answers that nobody at Klarna gave comes to.
func TestUnread(t *testing.T) {
	type at struct {
		after time.Duration
		o     Outcome
	}
	const never = 30 * 24 * time.Hour
	witness := func(after time.Duration) Outcome {
		o := unread(CanaryWell)
		o.EvaluatedAt = noon.Add(after)
		return o
	}
	row := func(o Outcome, after ...time.Duration) (all []at) {
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
		{name: "three times in a quarter of an hour, Klarna's canary", row: row(unread(CanaryWellKlarna), 0, minute, 15*minute), want: decided, reason: messages.ReasonRefusedWithoutCode},
		{name: "three times, but sooner", row: row(unread(CanaryWellKlarna), 0, minute, 15*minute-time.Second), want: open},
		{name: "twice", row: row(unread(CanaryWellKlarna), 0, 16*minute), want: open},
		{name: "another charge was evaluated meanwhile", row: []at{{0, unread(CanaryWell)}, {5 * minute, witness(3 * minute)}, {15 * minute, witness(3 * minute)}}, want: decided, reason: messages.ReasonRefusedWithoutCode},
		{name: "another charge was evaluated before", row: []at{{0, unread(CanaryWell)}, {5 * minute, witness(-minute)}, {15 * minute, witness(-minute)}}, want: open},
		{name: "another charge was evaluated within the clocks' margin", row: []at{{0, unread(CanaryWell)}, {5 * minute, witness(2 * minute)}, {15 * minute, witness(2 * minute)}}, want: open},
		{name: "S94: the proxy is mended before the canary is asked", row: append(row(unread(CanaryWell), 0, minute), at{15 * minute, unread(CanaryWellKlarna)}), want: open},
		{name: "S94: and before another charge is evaluated", row: append(row(unread(CanaryWell), 0, minute), at{15 * minute, witness(14 * minute)}), want: open},
		{name: "S94: the proxy was mended, the answer stays", row: append(row(unread(CanaryWell), 0, minute), row(unread(CanaryWellKlarna), 14*minute, 15*minute)...), want: decided, reason: messages.ReasonRefusedWithoutCode},
		{name: "S94: a proxy that answers 404 to everything", row: row(unread(CanaryWell), 0, minute, 15*minute, 5*time.Hour, 22*time.Hour), want: open},
		{name: "S94: for a day", row: row(unread(CanaryWell), 0, minute, 15*minute, 23*time.Hour), want: unresolved, reason: messages.ReasonNotEvaluated},
		{name: "the canary was not well once", row: append(row(unread(CanaryWellKlarna), 0, minute), at{15 * minute, unread(CanaryUnwell)}, at{16 * minute, unread(CanaryWellKlarna)}), want: open},
		{name: "the canary was not heard once", row: append(row(unread(CanaryWellKlarna), 0, minute), at{15 * minute, unread(CanaryUnheard)}), want: open},
		{
			name: "an answer of Klarna's came between", row: append(row(unread(CanaryWellKlarna), 0, minute), at{14 * minute, Outcome{Tries: 1, Unsent: true}}, at{15 * minute, unread(CanaryWellKlarna)}),
			want: open,
		},
		{name: "a try of the key is undecided", before: func(c *Claim) { c.UndecidedTries = 1 }, row: row(unread(CanaryWellKlarna), 0, minute, 15*minute), want: open},
		{name: "Klarna said yes to the key once", before: func(c *Claim) { c.Answered2xx = true }, row: row(unread(CanaryWellKlarna), 0, minute, 15*minute), want: open},
		{name: "S49: the account is paused", paused: true, row: row(unread(CanaryWell), 0, minute, 15*minute, 48*time.Hour), want: open},
		{name: "S49: the password is wrong for two days", row: row(unread(CanaryUnwell), 0, minute, 15*minute, 48*time.Hour), want: open},
		{name: "S49: two answers, two days, and one", row: row(unread(CanaryWell), 0, 48*time.Hour), want: open},
		{name: "kept by an older worker", before: func(c *Claim) { c.NotEvaluatedSince = noon.Add(-never) }, row: row(unread(CanaryWellKlarna), 0, minute), want: open},
		{
			name: "kept by an older worker, three times since", before: func(c *Claim) { c.NotEvaluatedSince = noon.Add(-never) }, row: row(unread(CanaryWellKlarna), 0, minute, 2*minute), want: decided,
			reason: messages.ReasonRefusedWithoutCode,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := testRules()
			r.Paused, r.ClockMargin = tt.paused, minute
			s := charging()
			if tt.before != nil {
				s = with(s, tt.before)
			}
			var got Transition
			for _, a := range tt.row {
				now := noon.Add(a.after)
				got = Conclude(s, HeldClaim{Claim: *s.Claim, SetsClock: true}, a.o, now, r)
				s = got.State
			}
			if got.Record != tt.want || got.Reason != tt.reason || (got.Then == Ack) != (tt.want != open) || got.Dead != (tt.want == unresolved) {
				t.Errorf("record %q, reason %q, then %d, dead %t, count %+v; want %q, %q", got.Record, got.Reason, got.Then, got.Dead, s.NotEvaluated, tt.want, tt.reason)
			}
			if got.Reason != "" && !got.ByTheClock() {
				t.Error("recorded whatever the clock says")
			}
			if tt.want == decided { // another attempt begins anew
				if next := Deliver(s, second(), noon.Add(20*minute), r); next.Then != Try || next.State.NotEvaluated.N != 0 {
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
		if got := n.comesTo(n, Claim{FirstSentAt: tt.sent}, unread(CanaryWell), noon.Add(notEvaluatedLimit), testRules()); got != tt.want {
			t.Errorf("first sent at %s: %q, want %q", tt.sent, got, tt.want)
		}
	}
}

// S49: while the account is paused nobody gives up a claim under which nothing was sent, and another attempt least of all.
func TestNothingIsGivenUpWhilePaused(t *testing.T) {
	r := testRules()
	s := Conclude(charging(), HeldClaim{Claim: *charging().Claim, SetsClock: true}, unread(CanaryUnwell), noon, r).State
	for _, tt := range []struct {
		paused bool
		after  time.Duration
		want   messages.Kind
	}{{true, unsentLimit + StaleAfter, ""}, {false, 48 * time.Hour, ""}, {false, unsentLimit + StaleAfter, messages.KindUnresolved}} {
		r.Paused = tt.paused
		if got := Deliver(s, second(), noon.Add(tt.after), r); got.Record != tt.want || got.Then != Nak {
			t.Errorf("paused %t, after %s: record %q, then %d; want %q and to wait", tt.paused, tt.after, got.Record, got.Then, tt.want)
		}
	}
}

// S52: the look at an order before a capture follows the same rule, and its claim only counts.
func TestLookTurnedAway(t *testing.T) {
	r := testRules()
	s, q := authorised(), captureJob(0)
	for n, after := range []time.Duration{0, time.Minute} {
		got := LookedInVain(s, q, unread(CanaryWellKlarna), noon.Add(after), r)
		c := got.State.Claim
		if got.Record != messages.KindCapturing || got.Then != Nak || !c.Released || !c.FirstSentAt.IsZero() || c.Capture.Amount != 0 || got.State.NotEvaluated.N != n+1 {
			t.Fatalf("after %s: %+v, claim %+v; want it counted", after, got, c)
		}
		if err := got.State.check(); err != nil {
			t.Fatal(err)
		}
		s, q = got.State, q.again()
	}
	if got := LookedInVain(s, q, unread(CanaryUnwell), noon.Add(time.Hour), r); got.State.NotEvaluated.N != 0 || got.Then != Nak {
		t.Errorf("the canary is not well: %+v, want the row to end", got)
	}
	if got := LookedInVain(s, q, unread(CanaryWell), noon.Add(24*time.Hour), r); got.Record != messages.KindUnresolved || got.Reason != messages.ReasonNotEvaluated {
		t.Errorf("after a day: %+v, want unresolved", got)
	}
	got := LookedInVain(s, q, unread(CanaryWellKlarna), noon.Add(time.Hour), r)
	if got.Record != messages.KindCaptureFailed || got.Reason != messages.ReasonRefusedWithoutCode || got.Then != Ack || got.State.Phase != PhaseCaptureFailed || !got.State.Uncaptured() {
		t.Fatalf("after an hour: %+v, want the capture failed, and the money still to be captured", got)
	}
	if again := Deliver(got.State, q.again(), noon.Add(2*time.Hour), r); !again.Duplicate {
		t.Errorf("delivered again: %+v, want a duplicate", again)
	}
	if fresh := LookedInVain(authorised(), captureJob(0), unread(CanaryUnwell), noon, r); fresh.Record != "" || fresh.Then != Nak {
		t.Errorf("the account's trouble: %+v, want no record", fresh)
	}
}
