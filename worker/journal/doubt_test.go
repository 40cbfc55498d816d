package journal

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// S93: a try that decides nothing on a worker whose clock is behind, the next one refused on a worker whose clock is ahead, 50 s
// between them. No refusal decides while the first request may still be at work, and one that comes later does.
func TestClocksApart(t *testing.T) {
	r := testRules()
	r.AckWait, r.SettleDelay, r.ClockMargin = 2*time.Minute, time.Minute, 25*time.Second
	behind := func(at time.Time) time.Time { return at.Add(-r.ClockMargin) }
	ahead := func(at time.Time) time.Time { return at.Add(r.ClockMargin) }

	q := first()
	claimed := Deliver(State{}, q, behind(noon), r)
	h := HeldClaim{Claim: *claimed.State.Claim, SetsClock: true}
	heard := TryResult{before: h.doubt(), Outcome: Outcome{Unsent: true}}
	ended := noon.Add(time.Second)
	heard.Hear(Created{}, answered(504, ""), behind(noon), behind(ended), r)
	left := Conclude(claimed.State, h, heard.Outcome, behind(ended), r).State

	q.Nonce = "b"
	for after, want := range map[time.Duration]Answer{
		500 * time.Millisecond:          NoAnswer,
		r.SettleDelay - r.ClockMargin:   NoAnswer, // a minute by these two clocks and one margin
		r.SettleDelay - time.Nanosecond: NoAnswer,
		r.SettleDelay:                   Refused,
		r.SettleDelay + 2*r.ClockMargin: Refused,
	} {
		began := ahead(ended.Add(after))
		taken := Deliver(left, q, began, r)
		if taken.Then != Try {
			t.Fatalf("%s after it: %+v, want the claim taken", after, taken)
		}
		late := TryResult{before: HeldClaim{Claim: *taken.State.Claim, UndecidedAt: taken.State.UndecidedAt}.doubt()}
		late.Hear(Created{}, answered(403, "PAYMENT_METHOD_FAILED"), began, began.Add(time.Second), r)
		if late.Answer != want {
			t.Errorf("refused %s after the try that decided nothing: answer %d, want %d", after, late.Answer, want)
		}
	}
}

// S68, during a rollout: the worker before wrote that a try decided nothing, and not when.
func TestDoubtOfAnOlderWorker(t *testing.T) {
	r := testRules()
	q := first()
	q.Nonce = "b"
	open := charging()
	open.Claim.Released, open.Claim.UndecidedTries, open.Claim.LeaseUntil = true, 1, noon
	began := noon.Add(5 * time.Second)
	taken := Deliver(open, q, began, r)
	if c := taken.State.Claim; !taken.State.UndecidedAt.Equal(noon) || c.UndecidedTries != 1 {
		t.Fatalf("%+v with %+v, want the one try, which ended no later than its delivery", taken.State, c)
	}
	late := TryResult{before: HeldClaim{Claim: *taken.State.Claim, UndecidedAt: taken.State.UndecidedAt}.doubt()}
	late.Hear(Created{}, answered(403, "PAYMENT_METHOD_FAILED"), began, began, r)
	if late.Answer != NoAnswer || !late.TooSoon {
		t.Errorf("%+v, want the decline five seconds later to come too soon", late.Outcome)
	}
	known := open
	known.UndecidedAt = noon.Add(-time.Hour)
	if got := Deliver(known, q, began, r).State.UndecidedAt; !got.Equal(known.UndecidedAt) {
		t.Errorf("undecided at %s, want the moment that is on record", got)
	}
}

// S79: a delivery that sent nothing says so of its own claim, and takes back no more than it brought.
func TestNothingSentTakesBackItsOwn(t *testing.T) {
	r := testRules()
	nothing := Outcome{Unsent: true, HandBack: true}
	q := first()

	t.Run("the key's first claim", func(t *testing.T) {
		claimed := Deliver(State{}, q, noon, r).State
		said := Conclude(claimed, HeldClaim{Claim: *claimed.Claim, SetsClock: true}, nothing, noon.Add(time.Hour), r).State
		if c := said.Claim; !c.Released || !c.FirstSentAt.IsZero() || c.UndecidedTries != 0 || !said.UndecidedAt.IsZero() {
			t.Fatalf("%+v, want nothing left of it", c)
		}
		next := q
		next.Nonce = "b"
		taken := Deliver(said, next, noon.Add(time.Hour), r).State
		only := TryResult{before: HeldClaim{Claim: *taken.Claim, UndecidedAt: taken.UndecidedAt}.doubt()}
		if only.Hear(Created{}, answered(403, "TOKEN_CANCELLED"), noon.Add(time.Hour), noon.Add(time.Hour), r); only.Answer != Refused {
			t.Errorf("%+v, want the refusal of the only try to decide", only.Outcome)
		}
	})
	t.Run("what earlier deliveries left stays", func(t *testing.T) {
		open := charging()
		next := q
		next.Nonce = "b"
		taken := Deliver(open, next, open.Claim.LeaseUntil.Add(time.Second), r).State
		said := Conclude(taken, HeldClaim{Claim: *taken.Claim, UndecidedAt: taken.UndecidedAt}, nothing, noon.Add(time.Hour), r).State
		if c := said.Claim; c.UndecidedTries != 1 || !said.UndecidedAt.Equal(open.Claim.LeaseUntil) || !c.FirstSentAt.Equal(open.Claim.FirstSentAt) {
			t.Errorf("%+v with %+v, want the try of the delivery before kept", said, c)
		}
	})
	t.Run("a claim that another has taken over stays as it is", func(t *testing.T) {
		mine := charging()
		next := q
		next.Nonce = "b"
		taken := Deliver(mine, next, mine.Claim.LeaseUntil.Add(time.Second), r).State
		st := Conclude(taken, HeldClaim{Claim: *mine.Claim, SetsClock: true}, nothing, noon.Add(time.Hour), r)
		if st.Record != "" || st.Then != Nak {
			t.Errorf("%+v, want nothing written", st)
		}
	})
	t.Run("a claim that turns up unreleased counts", func(t *testing.T) {
		next := q
		next.Nonce = "b"
		taken := Deliver(charging(), next, charging().Claim.LeaseUntil, r)
		if c := taken.State.Claim; taken.Record != messages.KindCharging || c.UndecidedTries != 1 {
			t.Errorf("%+v, want one more undecided try", c)
		}
	})
}
