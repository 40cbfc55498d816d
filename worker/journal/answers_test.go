package journal

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
)

// answered is an answer of Klarna with its error object.
func answered(status int, code string) error {
	return &klarna.Error{StatusCode: status, Code: code, HasErrorObject: code != ""}
}

func TestHear(t *testing.T) {
	order := Created{ID: "order-1", FraudStatus: "ACCEPTED"}
	with := func(status string) Created { o := order; o.FraudStatus = status; return o }
	undecided := Claim{UndecidedTries: 1}
	yes := Claim{Answered2xx: true}

	for _, tt := range []struct {
		name   string
		before Claim
		order  Created
		err    error
		want   Outcome
		again  bool
	}{
		{name: "accepted", before: Claim{}, order: order, want: Outcome{Answer: Accepted, Made: "order-1", Tries: 1}},
		{name: "accepted after an undecided try", before: undecided, order: order, want: Outcome{Answer: Accepted, Made: "order-1", Tries: 1}},
		{name: "pending", before: Claim{}, order: with("PENDING"), want: Outcome{Answer: Pending, Made: "order-1", Tries: 1}},
		{name: "no fraud status", before: Claim{}, order: with(""), want: Outcome{Answer: Pending, Made: "order-1", Tries: 1}},
		{name: "a fraud status of tomorrow", before: Claim{}, order: with("MAYBE"), want: Outcome{Answer: Pending, Made: "order-1", Tries: 1}},
		{name: "fraud rejected", before: Claim{}, order: with("REJECTED"), want: Outcome{Answer: FraudRejected, Made: "order-1", Tries: 1}},

		{name: "soft decline", before: Claim{}, order: Created{}, err: answered(403, "PAYMENT_METHOD_FAILED"), want: Outcome{Answer: Refused, Tries: 1}},
		{name: "token cancelled", before: Claim{}, order: Created{}, err: answered(403, "TOKEN_CANCELLED"), want: Outcome{Answer: Refused, Tries: 1}},
		{name: "our request is bad", before: Claim{}, order: Created{}, err: answered(400, "BAD_VALUE"), want: Outcome{Answer: Refused, Tries: 1}},
		{name: "soft decline after an undecided try", before: undecided, order: Created{}, err: answered(403, "PAYMENT_METHOD_FAILED"), want: Outcome{Answer: Refused, Tries: 1}},
		{name: "token cancelled after an undecided try (S39)", before: undecided, order: Created{}, err: answered(403, "TOKEN_CANCELLED"), want: Outcome{Tries: 1, Contradicted: true}},
		{name: "soft decline after a 2xx without an order", before: yes, order: Created{}, err: answered(403, "PAYMENT_METHOD_FAILED"), want: Outcome{Tries: 1, Contradicted: true}},

		{name: "password wrong", before: Claim{}, order: Created{}, err: answered(401, ""), want: Outcome{Tries: 1, Unsent: true, NotEvaluated: true}},
		{name: "firewall", before: Claim{}, order: Created{}, err: answered(403, ""), want: Outcome{Tries: 1, Unsent: true, NotEvaluated: true}},
		{
			name: "rate limit (S27)", before: Claim{}, order: Created{}, err: &klarna.Error{StatusCode: 429, RetryAfter: 3 * time.Second}, want: Outcome{Tries: 1, Unsent: true, RetryAfter: 3 * time.Second},
			again: true,
		},
		{name: "host unknown", before: Claim{}, order: Created{}, err: &klarna.NotSentError{Err: errors.New("no such host")}, want: Outcome{Unsent: true}, again: true},

		{name: "failed for sure", before: Claim{}, order: Created{}, err: answered(503, "SERVICE_UNAVAILABLE"), want: Outcome{Tries: 1}, again: true},
		{name: "maintenance page (S4)", before: Claim{}, order: Created{}, err: answered(503, ""), want: Outcome{Tries: 1, Undecided: 1}, again: true},
		{name: "internal error (S2)", before: Claim{}, order: Created{}, err: answered(500, "INTERNAL_SERVER_ERROR"), want: Outcome{Tries: 1, Undecided: 1}, again: true},
		{name: "in-flight duplicate", before: Claim{}, order: Created{}, err: answered(409, "CONFLICT"), want: Outcome{Tries: 1, Undecided: 1}, again: true},
		{
			name: "yes, without an order (S13)", before: Claim{}, order: Created{}, err: &klarna.UnknownError{StatusCode: 200, Answered2xx: true}, want: Outcome{Tries: 1, Undecided: 1, Answered2xx: true},
			again: true,
		},
		{name: "cut", before: Claim{}, order: Created{}, err: &klarna.UnknownError{Cut: true}, want: Outcome{Tries: 1, Cut: true}},
		{name: "timed out", before: Claim{}, order: Created{}, err: &klarna.UnknownError{TimedOut: true}, want: Outcome{Tries: 1, Cut: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			heard := TryResult{before: doubt{tt.before.UndecidedTries, noon.Add(-time.Hour), tt.before.Answered2xx}, Outcome: Outcome{Unsent: true}}
			again := heard.Hear(tt.order, tt.err, noon, noon.Add(time.Second), testRules())
			if tt.want.Undecided > 0 || tt.want.Cut {
				tt.want.UndecidedAt = noon.Add(time.Second)
			}
			if tt.err != nil {
				tt.want.LastError = tt.err.Error()
			}
			if (heard.Outcome.Refusal.Reason != "") != (tt.want.Answer == Refused) {
				t.Errorf("what it means: %+v", heard.Outcome.Refusal)
			}
			heard.Outcome.Refusal = dunning.Decision{} // its own tests are those of the table
			if tt.want.Tries > 0 {
				tt.want.SentAt = noon
			}
			if !reflect.DeepEqual(heard.Outcome, tt.want) || again != tt.again {
				t.Errorf("hear = %+v, again %t\nwant %+v, again %t", heard.Outcome, again, tt.want, tt.again)
			}
		})
	}
}

// TestRefusalAfterAnUndecidedTry: S68, S93. A 5xx or a 408 may still commit; a decline decides once the request before it is
// surely over, on whichever worker and by whichever clock.
func TestRefusalAfterAnUndecidedTry(t *testing.T) {
	r := testRules()
	r.ClockMargin = 10 * time.Second
	settled := r.SettleDelay + 2*r.ClockMargin
	for _, tt := range []struct {
		name   string
		before doubt
		judged bool
		began  time.Time
		want   standing
	}{
		{name: "nothing undecided", before: doubt{}, began: noon, want: refusalDecides},
		{name: "at once", before: doubt{Tries: 1, EndedAt: noon}, judged: true, began: noon.Add(500 * time.Millisecond), want: refusalTooSoon},
		{name: "after the settle delay, by a clock that may be ahead", before: doubt{Tries: 1, EndedAt: noon}, judged: true, began: noon.Add(r.SettleDelay), want: refusalTooSoon},
		{name: "an instant too soon", before: doubt{Tries: 1, EndedAt: noon}, judged: true, began: noon.Add(settled - time.Nanosecond), want: refusalTooSoon},
		{name: "once it is surely over", before: doubt{Tries: 1, EndedAt: noon}, judged: true, began: noon.Add(settled), want: refusalDecides},
		{name: "about the token, however late", before: doubt{Tries: 1, EndedAt: noon}, began: noon.Add(20 * time.Hour), want: refusalContradicts},
		{name: "after a yes, however late", before: doubt{Tries: 1, EndedAt: noon, Answered2xx: true}, judged: true, began: noon.Add(20 * time.Hour), want: refusalContradicts},
		{name: "written before the moment was kept", before: doubt{Tries: 1}, judged: true, began: noon, want: refusalDecides},
	} {
		if got := tt.before.refused(tt.judged, tt.began, r); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}

	rejected := Created{ID: "order-1", FraudStatus: klarna.FraudRejected}
	for _, tt := range []struct {
		name  string
		order Created
		err   error
	}{
		{"declined", Created{}, answered(403, "PAYMENT_METHOD_FAILED")},
		{"an order that Klarna rejected", rejected, nil},
		{"rejected without a code", Created{}, &klarna.Error{StatusCode: 400, HasErrorObject: true, FraudStatus: klarna.FraudRejected}},
	} {
		for _, status := range []int{500, 502, 504, 408} {
			heard := TryResult{Outcome: Outcome{Unsent: true}}
			if again := heard.Hear(Created{}, answered(status, ""), noon, noon.Add(time.Second), r); !again {
				t.Errorf("%d: no second try, want one at once", status)
			}
			heard.Hear(tt.order, tt.err, noon.Add(2*time.Second), noon.Add(3*time.Second), r)
			if heard.Answer != NoAnswer || !heard.TooSoon || heard.Contradicted || heard.Undecided != 1 || heard.Made != "" {
				t.Errorf("%s half a second after %d: %+v, want nothing decided and no further doubt", tt.name, status, heard.Outcome)
			}
			h := HeldClaim{Claim: *charging().Claim, SetsClock: true}
			st := Conclude(charging(), h, heard.Outcome, noon.Add(3*time.Second), r)
			if st.Record != messages.KindCharging || st.State.UndecidedAt != noon.Add(time.Second) || st.Then != Nak || st.Delay != settled-2*time.Second {
				t.Errorf("%s after %d: %+v, want the next delivery when a refusal can decide", tt.name, status, st)
			}

			// The next delivery, on another worker.
			q := first()
			q.Nonce = "b"
			next := Deliver(st.State, q, noon.Add(time.Second+settled), r)
			late := TryResult{before: HeldClaim{Claim: *next.State.Claim, UndecidedAt: next.State.UndecidedAt}.doubt(), Outcome: Outcome{Unsent: true}}
			late.Hear(tt.order, tt.err, noon.Add(time.Second+settled), noon.Add(2*time.Second+settled), r)
			if late.Answer == NoAnswer {
				t.Errorf("%s, once %d is surely over: %+v, want it decided", tt.name, status, late.Outcome)
			}
			// Klarna may also have made the order after all: a success decides at any time.
			late = TryResult{before: late.before, Outcome: Outcome{Unsent: true}}
			late.Hear(Created{ID: "order-1", FraudStatus: klarna.FraudAccepted}, nil, noon.Add(2*time.Second), noon.Add(3*time.Second), r)
			if late.Answer != Accepted {
				t.Errorf("an order after %d: %+v, want it accepted", status, late.Outcome)
			}
		}
	}

	t.Run("a holder that never said counts until its lease ends", func(t *testing.T) {
		q := first()
		q.Nonce = "b"
		open := charging()
		taken := Deliver(open, q, open.Claim.LeaseUntil.Add(time.Second), r)
		if taken.State.UndecidedAt != open.Claim.LeaseUntil || taken.State.Claim.UndecidedTries != 1 {
			t.Errorf("%+v, want one more undecided try that ended with the lease", taken.State)
		}
	})
	t.Run("another key starts without doubt", func(t *testing.T) {
		s := charging()
		s.UndecidedAt = noon
		s = Conclude(s, HeldClaim{Claim: *s.Claim}, refused, noon.Add(time.Hour), r).State
		q := first()
		q.Key, q.Nonce = "c0000000-0000-5000-8000-000000000002", "b"
		if next := Deliver(s, q, noon.Add(2*time.Hour), r).State; !next.UndecidedAt.IsZero() || next.Claim.UndecidedTries != 0 {
			t.Errorf("%+v, want nothing of the first key's doubt", next)
		}
	})
}

// TestUnknownNeverBecomesDunning: whatever was heard before, in whatever order,
// a refusal is believed only where no earlier try can have made an order, or where it is a
// decline of the money itself and that try is surely over; and never after a 2xx (S4, S39).
func TestUnknownNeverBecomesDunning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heard := TryResult{Outcome: Outcome{Unsent: true}, before: doubt{
			Tries: rapid.IntRange(0, 2).Draw(t, "undecided before"), EndedAt: noon,
			Answered2xx: rapid.Bool().Draw(t, "2xx before"),
		}}
		mayExist, said2xx := heard.before.Tries > 0, heard.before.Answered2xx
		r, now, over := testRules(), noon, noon
		for again := true; again; {
			began := now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "seconds until the try")) * time.Second)
			now = began.Add(time.Duration(rapid.IntRange(0, 70).Draw(t, "seconds for the answer")) * time.Second)
			status := rapid.SampledFrom([]int{100, 200, 302, 400, 401, 403, 404, 408, 409, 422, 425, 429, 500, 503, 504}).Draw(t, "status")
			code := rapid.SampledFrom([]string{"", "PAYMENT_METHOD_FAILED", "UNAVAILABLE_PAYMENT_METHOD", "TOKEN_CANCELLED", "BAD_VALUE", "TOMORROW"}).Draw(t, "code")
			err := answered(status, code)
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				err = &klarna.UnknownError{Cut: true}
			case 1:
				err = &klarna.UnknownError{StatusCode: 200, Answered2xx: true}
			case 2:
				err = &klarna.NotSentError{Err: errors.New("dial")}
			}
			again = heard.Hear(Created{}, err, began, now, r)
			if heard.Answer == Refused {
				if mayExist && began.Before(over.Add(r.SettleDelay+2*r.ClockMargin)) {
					t.Fatalf("%v is dunning %s after an undecided try", err, began.Sub(over))
				}
				money := code == "PAYMENT_METHOD_FAILED" || code == "UNAVAILABLE_PAYMENT_METHOD"
				if said2xx || mayExist && !money {
					t.Fatalf("%v is dunning although an order may exist", err)
				}
			} else if heard.Answer != NoAnswer {
				t.Fatalf("%v gives %v", err, heard.Answer)
			}
			switch klarna.ClassOf(err) {
			case klarna.ClassUnknown, klarna.ClassCut:
				mayExist, over = true, now
			case klarna.ClassAnswered2xx:
				said2xx, over = true, now
			}
		}
	})
}
