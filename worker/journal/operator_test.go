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
	unresolved := giveUp(charging(), messages.ReasonIdempotencyWindowExpired).State
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
		{"another order", paid, verdict{kind: messages.KindPaid, made: "order-2"}, PhasePaid, false, messages.KindPaid},
		{"the same order, to be captured", paid, verdict{kind: messages.KindPaid, made: "order-1", authorised: leftToCapture()}, PhasePaid, true, messages.KindPaid},
		{"the same order, captured after all", authorised, verdict{kind: messages.KindPaid, made: "order-1"}, PhasePaid, false, messages.KindPaid},
		{"paid, and no order", paid, verdict{kind: messages.KindDunning}, PhaseDunning, false, messages.KindPaid},
		{"authorised, and no order", authorised, verdict{kind: messages.KindDunning}, PhaseDunning, false, messages.KindPaid},
		{"not charged, and an order", notCharged, verdict{kind: messages.KindPaid, made: "order-2"}, PhasePaid, false, messages.KindDunning},
		{"a job was turned away meanwhile", rejected, verdict{kind: messages.KindDunning}, PhaseDunning, false, messages.KindPaid},
		{"the same again", paid, verdict{kind: messages.KindPaid, made: "order-1"}, "", false, ""},
		{"a charge as a capture", paid, verdict{kind: messages.KindCaptured, made: "capture-1"}, "", false, ""},
		{"the next attempt has claimed", followed, verdict{kind: messages.KindPaid, made: "order-2"}, "", false, ""},
		{"cancelled since", cancelled.State, verdict{kind: messages.KindPaid, made: "order-2"}, "", false, ""},
		{"still unresolved", unresolved, verdict{kind: messages.KindPaid, made: "order-2"}, "", false, ""},
		{"nobody's decision", Conclude(charging(), HeldClaim{Claim: *charging().Claim, SetsClock: true}, refused, noon, r).State, verdict{kind: messages.KindPaid, made: "order-2"}, "", false, ""},
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

// A capture's money is counted once, however often an operator changes his mind.
func TestCorrectCapture(t *testing.T) {
	unresolved := giveUp(capturing(600), messages.ReasonIdempotencyWindowExpired).State
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
