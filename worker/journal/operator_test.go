package journal

import (
	"errors"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// What one operator did wrongly another can put right, while nothing has followed.
func TestCorrect(t *testing.T) {
	r := testRules()
	unresolved := giveUp(charging(), messages.ReasonIdempotencyWindowExpired, testRules()).State
	byHand := func(s State, v verdict) State {
		t.Helper()
		st, err := resolve(s, v)
		if err != nil {
			t.Fatal(err)
		}
		return st.State
	}
	paid := byHand(unresolved, verdict{kind: messages.KindPaid, made: "order-1"})
	authorised := byHand(unresolved, verdict{kind: messages.KindPaid, made: "order-1", authorised: leftToCapture()})
	notCharged := byHand(unresolved, verdict{kind: messages.KindDunning})
	second := first()
	second.Key, second.Nonce = "c0000000-0000-5000-8000-000000000002", "later"
	followed := Deliver(notCharged, second, noon, r).State
	cancelled, err := cancel(notCharged)
	if err != nil {
		t.Fatal(err)
	}
	rejected := Deliver(paid, second, noon, r).State

	for _, row := range []struct {
		name    string
		state   State
		verdict verdict
		want    Phase // "": refused
		order   bool  // something to capture
		over    messages.Kind
	}{
		{name: "another order", state: paid, verdict: verdict{kind: messages.KindPaid, made: "order-2"}, want: PhasePaid, over: messages.KindPaid},
		{name: "the same order, to be captured", state: paid, verdict: verdict{kind: messages.KindPaid, made: "order-1", authorised: leftToCapture()}, want: PhasePaid, order: true, over: messages.KindPaid},
		{name: "the same order, captured after all", state: authorised, verdict: verdict{kind: messages.KindPaid, made: "order-1"}, want: PhasePaid, over: messages.KindPaid},
		{name: "paid, and no order", state: paid, verdict: verdict{kind: messages.KindDunning}, want: PhaseDunning, over: messages.KindPaid},
		{name: "authorised, and no order", state: authorised, verdict: verdict{kind: messages.KindDunning}, want: PhaseDunning, over: messages.KindPaid},
		{name: "not charged, and an order", state: notCharged, verdict: verdict{kind: messages.KindPaid, made: "order-2"}, want: PhasePaid, over: messages.KindDunning},
		{name: "a job was turned away meanwhile", state: rejected, verdict: verdict{kind: messages.KindDunning}, want: PhaseDunning, over: messages.KindPaid},
		{name: "the same again", state: paid, verdict: verdict{kind: messages.KindPaid, made: "order-1"}},
		{name: "a charge as a capture", state: paid, verdict: verdict{kind: messages.KindCaptured, made: "capture-1"}},
		{name: "the next attempt has claimed", state: followed, verdict: verdict{kind: messages.KindPaid, made: "order-2"}},
		{name: "cancelled since", state: cancelled.State, verdict: verdict{kind: messages.KindPaid, made: "order-2"}},
		{name: "still unresolved", state: unresolved, verdict: verdict{kind: messages.KindPaid, made: "order-2"}},
		{name: "nobody's decision", state: Conclude(charging(), HeldClaim{Claim: *charging().Claim, SetsClock: true}, refused, noon, r).State, verdict: verdict{kind: messages.KindPaid, made: "order-2"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := correct(row.state, row.verdict)
			if row.want == "" {
				if refused := new(RefusedError); !errors.As(err, &refused) || got.Record != "" {
					t.Errorf("%+v, %v, want it refused", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s := got.State; s.Phase != row.want || got.Corrects != row.over || s.Claim.made() != row.verdict.made || (s.Order != nil) != row.order {
				t.Errorf("%+v, want %s over %s, something to capture: %t", got, row.want, row.over, row.order)
			}
			if err := got.State.Correctable(); err != nil {
				t.Errorf("a correction cannot be corrected: %v", err)
			}
		})
	}
}

// S23: an attempt that was not made is due at once, whatever its number, and nobody tells the customer. No guard refuses it then, and
// where the period was cancelled meanwhile none follows.
func TestNotChargedIsDueAtOnce(t *testing.T) {
	t.Parallel()
	decided := noon.Add(30 * time.Hour)
	expires := func(at time.Time) State {
		s := capturing(600)
		o := *s.Order
		o.CaptureBefore = at
		return s.ordered(o)
	}
	attempts := func(n int64) State {
		s := charging()
		s.Attempts = n
		return s
	}
	cancelled := charging()
	cancelled.Cancelled = true
	recent := charging()
	recent.LastAttemptAt = decided.Add(-time.Minute)
	for _, row := range []struct {
		name  string
		state State
		kind  messages.Kind
		want  time.Time // zero: none
	}{
		{name: "the first attempt", state: charging(), kind: messages.KindDunning, want: decided},
		{name: "the last of the schedule: it was not made", state: attempts(5), kind: messages.KindDunning, want: decided},
		{name: "one more would be one too many", state: attempts(20), kind: messages.KindDunning},
		{name: "sooner than a guard allows", state: recent, kind: messages.KindDunning, want: decided.Add(59 * time.Minute)},
		{name: "cancelled meanwhile", state: cancelled, kind: messages.KindDunning},
		{name: "a capture", state: capturing(600), kind: messages.KindCaptureFailed, want: decided},
		{name: "a capture while the authorisation lasts", state: expires(decided.Add(time.Hour)), kind: messages.KindCaptureFailed, want: decided},
		{name: "a capture after the authorisation", state: expires(decided), kind: messages.KindCaptureFailed},
	} {
		st, err := resolve(giveUp(row.state, messages.ReasonIdempotencyWindowExpired, testRules()).State, verdict{kind: row.kind, at: decided})
		if err != nil {
			t.Fatal(err)
		}
		a := st.Advice
		if a.Category != messages.CategoryMerchantError || a.FixBy != messages.FixByMerchant || !a.Retryable || a.NotifyCustomer {
			t.Errorf("%s: %+v, want our own mistake, worth another attempt, and no word to the customer", row.name, a.Decision)
		}
		if a.Final != row.want.IsZero() || (a.NextAttemptAt == nil) != row.want.IsZero() || a.NextAttemptAt != nil && !a.NextAttemptAt.Equal(row.want) {
			t.Errorf("%s: the next at %v, final %t, want %v", row.name, a.NextAttemptAt, a.Final, row.want)
		}
	}
}

// A capture's money is counted once, however often an operator changes his mind.
func TestCorrectCapture(t *testing.T) {
	unresolved := giveUp(capturing(600), messages.ReasonIdempotencyWindowExpired, testRules()).State
	before := unresolved.Order.Captured
	yes, no := verdict{kind: messages.KindCaptured, made: "capture-9"}, verdict{kind: messages.KindCaptureFailed}
	st, err := resolve(unresolved, yes)
	if err != nil {
		t.Fatal(err)
	}
	taken := st.State.Order.Captured
	for i, v := range []verdict{no, yes, no} {
		if st, err = correct(st.State, v); err != nil {
			t.Fatal(err)
		}
		want := before
		if v.kind == messages.KindCaptured {
			want = taken
		}
		if got := st.State.Order.Captured; got != want || st.State.Phase != Phase(v.kind) {
			t.Errorf("correction %d: %d captured and %s, want %d and %s", i, got, st.State.Phase, want, v.kind)
		}
	}
}

func TestReinstate(t *testing.T) {
	r := testRules()
	dunning := Conclude(charging(), HeldClaim{Claim: *charging().Claim, SetsClock: true}, refused, noon, r).State
	for _, row := range []struct {
		name string
		from State
		want Phase
	}{
		{"a period that nobody had heard of", State{Phase: PhaseNone}, PhaseNone},
		{"between two attempts", dunning, PhaseDunning},
	} {
		t.Run(row.name, func(t *testing.T) {
			cancelled, err := cancel(row.from)
			if err != nil {
				t.Fatal(err)
			}
			late := first()
			late.Key, late.Nonce = "c0000000-0000-5000-8000-000000000002", "later"
			turnedAway := Deliver(cancelled.State, late, noon.Add(time.Hour), r)
			if turnedAway.Reason != messages.ReasonCancelled {
				t.Fatalf("%+v, want the job turned away", turnedAway)
			}
			for _, s := range []State{cancelled.State, turnedAway.State} {
				got, err := reinstate(s)
				if err != nil || got.State.Phase != row.want || got.State.Cancelled || got.Record != messages.KindCancelled {
					t.Errorf("%+v, %v, want %s", got, err, row.want)
				}
				next := late
				next.Key = "c0000000-0000-5000-8000-000000000003"
				if st := Deliver(got.State, next, noon.Add(time.Hour), r); st.Then != Try {
					t.Errorf("%+v, want the next job charged", st)
				}
				if _, err := reinstate(got.State); err == nil {
					t.Error("reinstated twice")
				}
			}
		})
	}
	if _, err := reinstate(charging()); err == nil {
		t.Error("what is being charged is reinstated")
	}
}
