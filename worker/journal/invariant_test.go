package journal

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// S76: what is JSON of the right shape and still no state is not acted upon.
func TestParseStateChecksInvariants(t *testing.T) {
	const claim, order = `"claim":{"key":"k","lease_until":"2026-12-01T12:00:00Z"`, `"order":{"order_id":"o","order_amount":1}`
	for _, row := range []struct{ name, state, want string }{ // want: in the error; "": it is a state
		{"a charge without a claim", `{"v":1,"phase":"charging"}`, "claim"},
		{"pending without a claim", `{"v":1,"phase":"pending"}`, "claim"},
		{"pending without an order", `{"v":1,"phase":"pending",` + claim + `}}`, "order_id"},
		{"paid without a claim", `{"v":1,"phase":"paid"}`, "claim"},
		{"paid without an order", `{"v":1,"phase":"paid",` + claim + `}}`, "order_id"},
		{"unresolved without a claim", `{"v":1,"phase":"unresolved"}`, "claim"},
		{"capturing without a claim", `{"v":1,"phase":"capturing",` + order + `}`, "claim"},
		{"capturing without a capture", `{"v":1,"phase":"capturing",` + claim + `},` + order + `}`, "claim.capture"},
		{"capturing without an order", `{"v":1,"phase":"capturing",` + claim + `,"capture":{"order_id":"o"}}}`, "order"},
		{"captured without an order", `{"v":1,"phase":"captured",` + claim + `}}`, "order"},
		{"a failed capture without an order", `{"v":1,"phase":"capture_failed",` + claim + `}}`, "order"},
		{"a failed capture without a claim", `{"v":1,"phase":"capture_failed",` + order + `}`, "claim"},
		{"a charge with a capture", `{"v":1,"phase":"charging",` + claim + `,"capture":{"order_id":"o"}},` + order + `}`, "capture"},
		{"an unresolved capture without an order", `{"v":1,"phase":"unresolved",` + claim + `,"capture":{"order_id":"o"}}}`, "order"},
		{"a refused attempt's capture without an order", `{"v":1,"phase":"dunning",` + claim + `,"capture":{"order_id":"o"}}}`, "order"},
		{"a capture of no order", `{"v":1,"phase":"capturing",` + claim + `,"capture":{}},` + order + `}`, "capture.order_id"},
		{"a negative capture", `{"v":1,"phase":"capturing",` + claim + `,"capture":{"order_id":"o","captured_amount":-1}},` + order + `}`, "captured_amount"},
		{"an order without an ID", `{"v":1,"phase":"captured",` + claim + `},"order":{}}`, "order.order_id"},
		{"an order that nobody claimed", `{"v":1,"phase":"none",` + order + `}`, "claim"},
		{"a negative order", `{"v":1,"phase":"captured",` + claim + `},"order":{"order_id":"o","order_amount":-1}}`, "amount"},
		{"an unknown phase", `{"v":1,"phase":"refunded",` + claim + `}}`, "phase"},
		{"no phase", `{"v":1}`, "phase"},
		{"negative attempts", `{"v":1,"phase":"none","attempts":-1}`, "attempts"},
		{"negative tries", `{"v":1,"phase":"charging",` + claim + `,"tries":-1}}`, "tries"},
		{"negative deliveries", `{"v":1,"phase":"charging",` + claim + `,"deliveries":-1}}`, "deliveries"},
		{"negative undecided tries", `{"v":1,"phase":"charging",` + claim + `,"undecided_tries":-1}}`, "undecided_tries"},
		{"negative panics beside the claim", `{"v":1,"phase":"none","panics":{"a":-1}}`, "panics"},
		{"panics of nothing", `{"v":1,"phase":"none","panics":{"":1}}`, "panics"},
		{"negative panics", `{"v":1,"phase":"charging",` + claim + `,"panics":-1}}`, "panics"},
		{"a claim without a key", `{"v":1,"phase":"charging","claim":{}}`, "key"},
		{"a result without a kind", `{"v":1,"phase":"none","settled":{"k":{}}}`, "kind"},
		{"a capture that was paid", `{"v":1,"phase":"paid",` + claim + `,"capture":{"order_id":"o"}},` + order + `,"settled":{"k":{"kind":"paid"}}}`, "key of a capture"},
		{"a charge that was captured", `{"v":1,"phase":"captured",` + claim + `},` + order + `,"settled":{"k":{"kind":"captured"}}}`, "key of a charge"},
		{"null", `null`, "version"},
		{"an object", `{}`, "version"},

		{"cancelled before anybody charged", `{"v":1,"phase":"cancelled","cancelled":true,"attempts":0}`, ""},
		{"a rejection alone", `{"v":1,"phase":"none","settled":{"k":{"kind":"rejected","sha256":"x","reason":"invalid"}}}`, ""},
		{"not charged, by an operator", `{"v":1,"phase":"dunning",` + claim + `},"settled":{"k":{"kind":"dunning","by_hand":true}}}`, ""},
		{"fields of a newer version", `{"v":1,"phase":"charging",` + claim + `,"news":[1]},"news":{}}`, ""},
		{"a claim of an older version", `{"v":1,"phase":"charging","claim":{"key":"k","host":"api.klarna.com"}}`, ""},
	} {
		_, err := ParseState(row.state)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want an error about %q", row.name, err, row.want)
		}
	}
}

// FuzzParseState: whatever parses can be given to every function of the machine.
//
//	go test -run '^$' -fuzz '^FuzzParseState$' ./worker
func FuzzParseState(f *testing.F) {
	claim := Claim{Key: K1, SHA256: "order 1", Nonce: "a", LeaseUntil: noon, FirstSentAt: noon, OrderID: "o"}
	captures := claim
	captures.Capture = &Capture{OrderID: "o", Amount: 5}
	order := &Order{ID: "o", Amount: 1599}
	for _, phase := range []Phase{PhaseNone, PhaseCharging, PhasePending, PhasePaid, PhaseDunning, PhaseUnresolved, PhaseCancelled, PhaseCapturing, PhaseCaptured, PhaseCaptureFailed} {
		for _, c := range []*Claim{nil, &claim, &captures} {
			for _, o := range []*Order{nil, order} {
				for _, settled := range []map[messages.IdempotencyKey]Settlement{nil, {K1: {Kind: messages.KindPaid, SHA256: "order 1", ByHand: true}}, {K1: {Kind: messages.KindRejected}, k2: {Kind: messages.KindDunning}}} {
					text, err := State{Phase: phase, Claim: c, Order: o, Settled: settled}.Encode()
					if err != nil {
						f.Fatal(err)
					}
					f.Add(text)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseState(text); err == nil {
			survives(t, s)
		}
	})
}

// survives gives a state to every function of the machine, as a worker, the
// sweeper and an operator do, with jobs of the state's own keys among others.
func survives(t *testing.T, s State) {
	r := testRules()
	r.ClockMargin = time.Second
	requests := []Request{first(), second(), captureJob(0), captureJob(5)}
	if s.Claim != nil {
		for _, q := range slices.Clone(requests) {
			q.Key, q.Hash, q.Nonce = s.Claim.Key, s.Claim.SHA256, "another"
			requests = append(requests, q)
			q.Nonce = s.Claim.Nonce
			requests = append(requests, q)
		}
	}
	for k, e := range s.Settled {
		for _, q := range requests[:3] {
			q.Key, q.Hash = k, e.SHA256
			requests = append(requests, q)
		}
		break
	}
	for _, q := range requests {
		for _, now := range []time.Time{noon, noon.Add(100 * 24 * time.Hour)} {
			for _, restored := range []time.Time{{}, noon} {
				r.Restored = restored
				for _, verdict := range []messages.Reason{"", messages.ReasonInvalid} {
					q := q
					q.Verdict = verdict
					lives(t, s, q, now, r)
				}
			}
		}
	}
	_, _ = Sweep(s, noon.Add(100*24*time.Hour), r)
	_, _ = cancel(s)
	_, _ = reinstate(s)
	for _, v := range []verdict{{kind: messages.KindPaid, made: "o"}, {kind: messages.KindPaid, made: "p", authorised: &Order{ID: "p"}}, {kind: messages.KindDunning}, {kind: messages.KindCaptured, made: "c"}, {kind: messages.KindCaptureFailed}} {
		_, _ = resolve(s, v)
		_, _ = correct(s, v)
	}
	if _, err := s.Encode(); err != nil {
		t.Errorf("what was read cannot be written: %v", err)
	}
}

// lives lets one delivery go its ways.
func lives(t *testing.T, s State, q Request, now time.Time, r Rules) {
	st := Deliver(s, q, now, r)
	if st.Then == Look {
		_ = LookedInVain(s, q, Outcome{NotEvaluated: true, NoSuchOrder: true}, now, r)
		looked := *q.Capture
		looked.Found = &OrderFound{Amount: 1599, Remaining: 1599, Booked: st.State.Order.Captured}
		q.Capture = &looked
		st = Deliver(s, q, now, r)
	}
	_ = Panicked(s, q, now, r)
	for _, final := range []bool{false, true} {
		_ = Polled(s, q, final, final, now, r)
	}
	if st.Then != Try {
		return
	}
	h := HeldClaim{Claim: *st.State.Claim, SetsClock: true, Authorised: q.Authorised}
	for _, at := range []State{st.State, s} {
		for _, o := range []Outcome{{}, {Unsent: true, NotEvaluated: true}, {Answer: Accepted, Made: "o", Tries: 1}, {Answer: Pending, Made: "o", Tries: 1}, {Answer: Refused, Tries: 1}, {Answer: FraudRejected, Tries: 1}, {Cut: true, Tries: 1}} {
			_ = Conclude(at, h, o, now, r)
		}
	}
}
