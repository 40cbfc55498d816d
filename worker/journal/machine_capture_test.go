package journal

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

const (
	c1 messages.IdempotencyKey = "c0000000-0000-5000-8000-000000000001"
	c2 messages.IdempotencyKey = "c0000000-0000-5000-8000-000000000002"
)

// leftToCapture is what the charge of these tests leaves to be captured.
func leftToCapture() *Order {
	return &Order{Amount: 1599, Currency: "EUR", MerchantReference1: "1234834-2026-12", CaptureBefore: noon.AddDate(0, 0, 28)}
}

// authorised is the renewal once its charge was accepted, with nothing captured.
func authorised() State {
	s := charging()
	return Conclude(s, HeldClaim{Claim: *s.Claim, SetsClock: true, Authorised: leftToCapture()}, accepted, noon.Add(time.Second), testRules()).State
}

// captureJob is a capture job as it comes from the stream, anotherCapture
// another; amount 0 is everything that is left.
func captureJob(amount int64) Request {
	return Request{
		Key: c1, Hash: "capture 1", Payload: []byte("capture payload 1"), Capture: &CaptureWanted{Amount: amount},
		Nonce: "c", Worker: "worker c", Host: "api.klarna.com", Delivered: 1,
	}
}

func anotherCapture(amount int64) Request {
	q := captureJob(amount)
	q.Key, q.Hash, q.Payload, q.Nonce = c2, "capture 2", []byte("capture payload 2"), "d"
	return q
}

// seen is the job once Klarna was asked about the order.
func (q Request) seen(f OrderFound) Request {
	if f.Status == "" {
		f.Status = "AUTHORIZED"
	}
	if f.Amount == 0 {
		f.Amount = 1599
	}
	w := *q.Capture
	w.Found = &f
	q.Capture = &w
	return q
}

// again is the job's next delivery.
func (q Request) again() Request {
	q.Nonce += "'"
	q.Delivered++
	return q
}

// capturing is the renewal after a capture was claimed at noon.
func capturing(amount int64) State {
	return Deliver(authorised(), captureJob(amount).seen(OrderFound{Remaining: 1599}), noon, testRules()).State
}

// capturedAs is the renewal once the claim of s has led to a capture.
func capturedAs(t *testing.T, s State, id string) State {
	t.Helper()
	return after(t, s, Outcome{Answer: Accepted, Made: id, Tries: 1})
}

var taken = Outcome{Answer: Accepted, Made: "capture-1", Tries: 1}

func TestDeliverCapture(t *testing.T) {
	r := testRules()
	whole := OrderFound{Remaining: 1599}
	invalid := captureJob(0)
	invalid.Verdict = messages.ReasonInvalid
	ofAnother := captureJob(0)
	ofAnother.Capture.OrderID = "order-9"
	ofThis := captureJob(0)
	ofThis.Capture.OrderID = "order-1"
	otherAmount := captureJob(700)
	otherAmount.Hash = "capture 1 of 700"
	elsewhere := captureJob(0).again()
	elsewhere.Host = "api.kustom.co"

	declined := after(t, charging(), refused)
	cancelled, err := cancel(declined)
	if err != nil {
		t.Fatal(err)
	}
	notPaid := reject(empty(), captureJob(0), messages.ReasonNotPaid).State
	notPaidThenPaid := authorised().Settle(c1, notPaid.Settled[c1])
	replay := captureJob(0)
	replay.Replay = 7

	open := capturing(0)
	released := after(t, open, undecided)
	part := capturedAs(t, capturing(500), "capture-1")
	full := capturedAs(t, capturing(0), "capture-1")
	failed := after(t, open, refused)
	unresolved := giveUp(open, messages.ReasonIdempotencyWindowExpired, testRules()).State
	neverSent := after(t, open, unsent)
	auto := after(t, charging(), accepted)
	lost := Deliver(auto, captureJob(0).seen(OrderFound{Refused: true}), noon, r).State
	partOfAuto := capturedAs(t, Deliver(auto, captureJob(500).seen(whole), noon, r).State, "capture-1")

	for _, tt := range []struct {
		name   string
		state  State
		job    Request
		at     time.Time
		record messages.Kind
		reason messages.Reason
		then   Action
		delay  time.Duration
		amount int64 // claimed
	}{
		// The renewal has no order to capture.
		{name: "nothing was charged", state: empty(), job: captureJob(0), at: noon, record: messages.KindRejected, reason: messages.ReasonNotPaid, then: Ack},
		{name: "the charge is under way: it waits", state: charging(), job: captureJob(0), at: noon, then: Nak, delay: 5 * time.Second},
		{name: "the charge is pending: it waits", state: after(t, charging(), Outcome{Answer: Pending, Made: "order-1"}), job: captureJob(0), at: noon, then: Nak, delay: 5 * time.Second},
		{name: "the charge was declined", state: declined, job: captureJob(0), at: noon, record: messages.KindRejected, reason: messages.ReasonNotPaid, then: Ack},
		{name: "the period is cancelled", state: cancelled.State, job: captureJob(0), at: noon, record: messages.KindRejected, reason: messages.ReasonNotPaid, then: Ack},
		{
			name: "the charge is unresolved", state: giveUp(charging(), messages.ReasonPoison, testRules()).State, job: captureJob(0), at: noon, record: messages.KindRejected, reason: messages.ReasonBlockedByUnresolved,
			then: Ack,
		},
		{
			name: "the charge was abandoned: given up by the capture that meets it", state: after(t, charging(), undecided), job: captureJob(0), at: noon.Add(25 * time.Hour), record: messages.KindUnresolved,
			reason: messages.ReasonIdempotencyWindowExpired, then: Nak, delay: time.Second,
		},

		// Klarna was asked to capture the order by itself.
		{name: "to be captured by itself: looked at", state: auto, job: captureJob(0), at: noon, then: Look},
		{name: "to be captured by itself, another order is named", state: auto, job: ofAnother, at: noon, record: messages.KindRejected, reason: messages.ReasonOrderMismatch, then: Ack},
		{name: "to be captured by itself, this order is named", state: auto, job: ofThis, at: noon, then: Look},
		{
			name: "captured by itself", state: auto, job: captureJob(0).seen(OrderFound{Status: "CAPTURED", Captured: 1599}), at: noon, record: messages.KindRejected, reason: messages.ReasonAlreadyCaptured,
			then: Ack,
		},
		{name: "left", state: auto, job: captureJob(0).seen(whole), at: noon, record: messages.KindCapturing, then: Try, amount: 1599},
		{name: "left, a part of it", state: auto, job: captureJob(500).seen(whole), at: noon, record: messages.KindCapturing, then: Try, amount: 500},
		{name: "left, a cent too much", state: auto, job: captureJob(1600).seen(whole), at: noon, record: messages.KindRejected, reason: messages.ReasonAmountTooHigh, then: Ack},
		{
			name: "captured in part by itself: the rest", state: auto, job: captureJob(0).seen(OrderFound{Status: "PART_CAPTURED", Remaining: 1099, Captured: 500}), at: noon, record: messages.KindCapturing,
			then: Try, amount: 1099,
		},
		{
			name: "captured in part by itself: a cent too much", state: auto, job: captureJob(1100).seen(OrderFound{Status: "PART_CAPTURED", Remaining: 1099, Captured: 500}), at: noon,
			record: messages.KindRejected, reason: messages.ReasonAmountTooHigh, then: Ack,
		},
		{
			name: "captured in part by itself, Klarna miscounts what is left", state: auto, job: captureJob(0).seen(OrderFound{Status: "PART_CAPTURED", Remaining: 1599, Captured: 500}), at: noon,
			record: messages.KindCapturing, then: Try, amount: 1099,
		},
		{name: "left, and expired", state: auto, job: captureJob(0).seen(OrderFound{Status: "EXPIRED"}), at: noon, record: messages.KindCaptureFailed, reason: messages.ReasonOrderExpired, then: Ack},
		{name: "left, and cancelled", state: auto, job: captureJob(0).seen(OrderFound{Status: "CANCELLED"}), at: noon, record: messages.KindCaptureFailed, reason: messages.ReasonOrderCancelled, then: Ack},
		{name: "to be captured by itself, Klarna has no such order", state: auto, job: captureJob(0).seen(OrderFound{Refused: true}), at: noon, record: messages.KindCaptureFailed, then: Ack},
		{
			name: "Klarna had no such order, and has it: the next", state: lost, job: anotherCapture(0).seen(OrderFound{Status: "PART_CAPTURED", Remaining: 1099, Captured: 500}), at: noon,
			record: messages.KindCapturing, then: Try, amount: 1099,
		},
		{name: "left, a capture came between: looked at again", state: partOfAuto, job: anotherCapture(0).seen(OrderFound{Remaining: 1599}), at: noon, then: Look},
		{name: "left, another charge", state: Deliver(auto, captureJob(0).seen(whole), noon, r).State, job: second(), at: noon, then: Nak, delay: 5 * time.Second},
		{name: "left, captured in part, another charge", state: partOfAuto, job: second(), at: noon, record: messages.KindRejected, reason: messages.ReasonOrderExists, then: Ack},

		// There is an order to capture.
		{name: "another order is named", state: authorised(), job: ofAnother, at: noon, record: messages.KindRejected, reason: messages.ReasonOrderMismatch, then: Ack},
		{name: "this order is named", state: authorised(), job: ofThis, at: noon, then: Look},
		{name: "invalid", state: authorised(), job: invalid, at: noon, record: messages.KindRejected, reason: messages.ReasonInvalid, then: Ack},

		// Klarna says what is left.
		{name: "not asked yet", state: authorised(), job: captureJob(0), at: noon, then: Look},
		{name: "everything", state: authorised(), job: captureJob(0).seen(whole), at: noon, record: messages.KindCapturing, then: Try, amount: 1599},
		{name: "a part", state: authorised(), job: captureJob(500).seen(whole), at: noon, record: messages.KindCapturing, then: Try, amount: 500},
		{name: "the last cent", state: authorised(), job: captureJob(1599).seen(whole), at: noon, record: messages.KindCapturing, then: Try, amount: 1599},
		{name: "a cent too much", state: authorised(), job: captureJob(1600).seen(whole), at: noon, record: messages.KindRejected, reason: messages.ReasonAmountTooHigh, then: Ack},
		{name: "less is left than the journal knows", state: authorised(), job: captureJob(0).seen(OrderFound{Remaining: 99}), at: noon, record: messages.KindCapturing, then: Try, amount: 99},
		{
			name: "more than is left of it", state: authorised(), job: captureJob(100).seen(OrderFound{Remaining: 99}), at: noon, record: messages.KindRejected, reason: messages.ReasonAmountTooHigh, then: Ack,
		},
		{
			name: "captured in Klarna's portal", state: authorised(), job: captureJob(0).seen(OrderFound{Status: "CAPTURED"}), at: noon, record: messages.KindRejected, reason: messages.ReasonAlreadyCaptured,
			then: Ack,
		},
		{
			name: "the authorisation has expired", state: authorised(), job: captureJob(0).seen(OrderFound{Status: "EXPIRED"}), at: noon, record: messages.KindCaptureFailed,
			reason: messages.ReasonOrderExpired, then: Ack,
		},
		{
			name: "the order was cancelled", state: authorised(), job: captureJob(0).seen(OrderFound{Status: "CANCELLED"}), at: noon, record: messages.KindCaptureFailed, reason: messages.ReasonOrderCancelled,
			then: Ack,
		},
		{name: "Klarna has no such order", state: authorised(), job: captureJob(0).seen(OrderFound{Refused: true}), at: noon, record: messages.KindCaptureFailed, then: Ack},

		// After other captures.
		{name: "a part is captured: asked again, what was left is old", state: part, job: anotherCapture(0).seen(whole), at: noon, then: Look},
		{name: "a part is captured: the rest", state: part, job: anotherCapture(0).seen(OrderFound{Remaining: 1099, Booked: 500}), at: noon, record: messages.KindCapturing, then: Try, amount: 1099},
		{
			name: "a part is captured, Klarna is behind: the rest", state: part, job: anotherCapture(0).seen(OrderFound{Remaining: 1599, Booked: 500}), at: noon, record: messages.KindCapturing, then: Try,
			amount: 1099,
		},
		{
			name: "a part is captured, Klarna is behind: no more than the rest", state: part, job: anotherCapture(1100).seen(OrderFound{Remaining: 1599, Booked: 500}), at: noon, record: messages.KindRejected,
			reason: messages.ReasonAmountTooHigh, then: Ack,
		},
		{
			name: "everything is captured", state: full, job: anotherCapture(0).seen(OrderFound{Status: "CAPTURED", Booked: 1599}), at: noon, record: messages.KindRejected,
			reason: messages.ReasonAlreadyCaptured, then: Ack,
		},
		{
			name: "everything is captured, Klarna is behind", state: full, job: anotherCapture(0).seen(OrderFound{Remaining: 1599, Booked: 1599}), at: noon, record: messages.KindRejected,
			reason: messages.ReasonAlreadyCaptured, then: Ack,
		},
		{name: "a capture failed: the next", state: failed, job: anotherCapture(0).seen(whole), at: noon, record: messages.KindCapturing, then: Try, amount: 1599},
		{name: "a capture is unresolved", state: unresolved, job: anotherCapture(0).seen(whole), at: noon, record: messages.KindRejected, reason: messages.ReasonBlockedByUnresolved, then: Ack},
		{name: "a capture is under way: it waits", state: open, job: anotherCapture(0), at: noon, then: Nak, delay: 5 * time.Second},
		{
			name: "a capture was abandoned: given up by the next", state: released, job: anotherCapture(0), at: noon.Add(25 * time.Hour), record: messages.KindUnresolved,
			reason: messages.ReasonIdempotencyWindowExpired, then: Nak, delay: time.Second,
		},

		// The same job again.
		{name: "captured and delivered again", state: full, job: captureJob(0).again(), at: noon, reason: "captured", then: Ack},
		{name: "failed and delivered again", state: failed, job: captureJob(0).again(), at: noon, reason: "capture_failed", then: Ack},
		{name: "unresolved and delivered again", state: unresolved, job: captureJob(0).again(), at: noon, reason: messages.ReasonIdempotencyWindowExpired, then: Ack},
		{name: "not paid, and delivered again when it is", state: notPaidThenPaid, job: captureJob(0).again(), at: noon, reason: messages.ReasonNotPaid, then: Ack},
		{name: "not paid, and replayed when it is", state: notPaidThenPaid, job: replay.seen(whole), at: noon, record: messages.KindCapturing, then: Try, amount: 1599},
		{name: "its ID with another amount, settled", state: full, job: otherAmount, at: noon, reason: messages.ReasonConflict, then: FileApart},
		{name: "its ID with another amount, open", state: open, job: otherAmount, at: noon, reason: messages.ReasonConflict, then: FileApart},
		{name: "open, its lease not over", state: open, job: captureJob(0).again(), at: noon.Add(time.Minute), then: Nak, delay: time.Minute + time.Second},
		{name: "open, its lease over: taken over, nothing looked at", state: open, job: captureJob(0).again(), at: noon.Add(2 * time.Minute), record: messages.KindCapturing, then: Try, amount: 1599},
		{name: "open, released: taken over at once", state: released, job: captureJob(0).again(), at: noon.Add(2 * time.Second), record: messages.KindCapturing, then: Try, amount: 1599},
		{
			name: "open, a newer worker calls it invalid", state: released, job: func() Request { q := invalid.again(); return q }(), at: noon.Add(time.Minute), record: messages.KindCapturing, then: Try,
			amount: 1599,
		},
		{name: "own claim, its answer was lost", state: open, job: captureJob(0), at: noon, then: Try, amount: 1599},
		{name: "claimed on another endpoint", state: released, job: elsewhere, at: noon.Add(time.Minute), then: Nak, delay: time.Minute},
		{name: "claimed on another endpoint, and nothing sent", state: neverSent, job: elsewhere, at: noon.Add(time.Minute), record: messages.KindCapturing, then: Try, amount: 1599},
		{
			name: "the window has closed", state: released, job: captureJob(0).again(), at: noon.Add(23 * time.Hour), record: messages.KindUnresolved, reason: messages.ReasonIdempotencyWindowExpired,
			then: Ack,
		},
		{name: "the window closes in a second", state: released, job: captureJob(0).again(), at: noon.Add(23*time.Hour - time.Second), record: messages.KindCapturing, then: Try, amount: 1599},

		// A charge for the same period.
		{name: "the charge again", state: full, job: first(), at: noon, reason: "paid", then: Ack},
		{name: "another charge, nothing captured", state: authorised(), job: second(), at: noon, record: messages.KindRejected, reason: messages.ReasonAlreadyPaid, then: Ack},
		{name: "another charge while a capture is under way: it waits", state: open, job: second(), at: noon, then: Nak, delay: 5 * time.Second},
		{name: "another charge, everything captured", state: full, job: second(), at: noon, record: messages.KindRejected, reason: messages.ReasonOrderExists, then: Ack},
		{name: "another charge, a part captured", state: part, job: second(), at: noon, record: messages.KindRejected, reason: messages.ReasonOrderExists, then: Ack},
		{name: "another charge, the capture failed", state: failed, job: second(), at: noon, record: messages.KindRejected, reason: messages.ReasonOrderExists, then: Ack},
		{name: "another charge, the capture unresolved", state: unresolved, job: second(), at: noon, record: messages.KindRejected, reason: messages.ReasonOrderExists, then: Ack},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Deliver(tt.state, tt.job, tt.at, r)
			if got.Record != tt.record || got.Reason != tt.reason || got.Then != tt.then || got.Delay != tt.delay {
				t.Errorf("deliver = %+v\nwant record %q reason %q then %d delay %s", got, tt.record, tt.reason, tt.then, tt.delay)
			}
			if dead := got.Then == Ack && (got.Record == messages.KindRejected || got.Record == messages.KindUnresolved || got.Duplicate && deadAgain(tt.state.Settled[tt.job.Key])); got.Dead != dead {
				t.Errorf("dead letter %t, want %t", got.Dead, dead)
			}
			if got.Duplicate != (got.Record == "" && got.Then == Ack) {
				t.Errorf("duplicate %t", got.Duplicate)
			}
			if got.Then == Try && (got.State.Claim.Capture.Amount != tt.amount || got.State.Claim.Capture.OrderID != "order-1") {
				t.Errorf("claims %+v, want %d of order-1", got.State.Claim.Capture, tt.amount)
			}
			if got.Record == messages.KindRejected && tt.state.Order == nil && got.State.Order != nil {
				t.Errorf("order %+v, want none in a state that a rejection leaves as it was", got.State.Order)
			}
			if got.Record != "" && tt.state.Order != nil && tt.state.Order.Amount > 0 && got.State.Order.Captured != tt.state.Order.Captured {
				t.Errorf("%d captured, want %d as before", got.State.Order.Captured, tt.state.Order.Captured)
			}
		})
	}
}

// TestCaptureOfWhatKlarnaLeft: the order of such a capture is what Klarna says of it, and what Klarna captured by itself adds up
// with what is captured then.
func TestCaptureOfWhatKlarnaLeft(t *testing.T) {
	r := testRules()
	before := noon.AddDate(0, 0, 28)
	seen := OrderFound{Status: "PART_CAPTURED", Remaining: 1099, Captured: 500, Currency: "EUR", MerchantReference1: "1234834-2026-12", CaptureBefore: before}
	auto := after(t, charging(), accepted)
	claimed := Deliver(auto, captureJob(99).seen(seen), noon, r).State
	want := Order{ID: "order-1", Amount: 1599, Currency: "EUR", MerchantReference1: "1234834-2026-12", CaptureBefore: before, Captured: 500, Captures: 1, FirstCaptureAt: noon}
	if o := claimed.Order; o == nil || *o != want {
		t.Fatalf("order %+v, want %+v", o, want)
	}
	if got := after(t, claimed, unsent); got.before() != PhasePaid {
		t.Errorf("the phase before is %s, want paid: no capture of the renewal's is recorded", got.before())
	}
	part := capturedAs(t, claimed, "capture-1")
	if o := part.Order; o.Captured != 599 || !part.Uncaptured() {
		t.Errorf("order %+v, want 599 captured", o)
	}
	if event := CapturedEvent(messages.Record{}, part, "", ""); event.CapturedAmount != 99 || event.TotalCapturedAmount != 599 || event.RemainingAmount != 1000 {
		t.Errorf("captured: %+v, want 99, and 1000 left", event)
	}
	rest := Deliver(part, anotherCapture(0).seen(OrderFound{Remaining: 1000, Captured: 599, Booked: 599}), noon, r)
	if rest.Then != Try || rest.State.Claim.Capture.Amount != 1000 {
		t.Errorf("the rest: %+v, want 1000 claimed", rest)
	}

	t.Run("looked at in vain", func(t *testing.T) {
		inVain := LookedInVain(auto, captureJob(0), Outcome{NotEvaluated: true, Canary: CanaryWellKlarna}, noon, r)
		if s := inVain.State; inVain.Record != messages.KindCapturing || *s.Order != (Order{ID: "order-1", Captures: 1, FirstCaptureAt: noon}) || s.check() != nil {
			t.Fatalf("%+v of order %+v, %v, want it counted on a claim of the order", inVain, s.Order, s.check())
		}
		again := captureJob(0).again()
		if got := Deliver(inVain.State, again, noon.Add(time.Minute), r); got.Then != Look {
			t.Fatalf("%+v, want another look", got)
		}
		if o := Deliver(inVain.State, again.seen(seen), noon.Add(time.Minute), r).State.Order; o.Captured != 500 || o.Amount != 1599 || o.Currency != "EUR" {
			t.Errorf("order %+v, want what Klarna says", o)
		}
		none := Deliver(inVain.State, again.seen(OrderFound{Status: "CAPTURED", Captured: 1599}), noon.Add(time.Minute), r)
		if none.Reason != messages.ReasonAlreadyCaptured || none.State.Phase != PhasePaid || !none.State.Order.Closed || none.State.check() != nil {
			t.Errorf("%+v of order %+v, want it rejected, the renewal paid as before", none, none.State.Order)
		}
	})
	t.Run("after the journal was set back", func(t *testing.T) {
		for name, tt := range map[string]struct {
			seen OrderFound
			then Action
		}{
			"nothing is captured: nothing is forgotten":               {OrderFound{Remaining: 1599}, Try},
			"a part is, which may be a capture that is forgotten":     {seen, Ack},
			"Klarna says that all is left of it, and a part captured": {OrderFound{Remaining: 1599, Captured: 500}, Ack},
		} {
			r := r
			r.Restored = noon.Add(25 * time.Hour)
			got := Deliver(auto, captureJob(99).seen(tt.seen), noon.Add(26*time.Hour), r)
			if got.Then != tt.then || (tt.then == Ack) != (got.Reason == messages.ReasonJournalRestored) {
				t.Errorf("%s: %+v, want action %d", name, got, tt.then)
			}
		}
	})
}

// TestIgnored: what a look at an order that Klarna was asked to capture says.
func TestIgnored(t *testing.T) {
	before := noon.AddDate(0, 0, 28)
	for _, tt := range []struct {
		name string
		seen OrderFound
		left *Order
	}{
		{name: "left", seen: OrderFound{Status: "AUTHORIZED", Amount: 1599, Remaining: 1599, CaptureBefore: before}, left: &Order{Amount: 1599, CaptureBefore: before}},
		{name: "left in part", seen: OrderFound{Status: "PART_CAPTURED", Amount: 1599, Remaining: 99, Captured: 1500}, left: &Order{Amount: 1599, Captured: 1500}},
		{name: "captured", seen: OrderFound{Status: "CAPTURED", Amount: 1599, Captured: 1599}},
		{name: "captured in part, the rest released", seen: OrderFound{Status: "PART_CAPTURED", Amount: 1599, Captured: 1500}},
		{name: "captured, Klarna miscounts what is left", seen: OrderFound{Status: "CAPTURED", Amount: 1599, Remaining: 1599, Captured: 1599}},
		{name: "cancelled", seen: OrderFound{Status: "CANCELLED", Amount: 1599}},
		{name: "expired", seen: OrderFound{Status: "EXPIRED", Amount: 1599, Remaining: 1599}},
		{name: "a status that Klarna adds", seen: OrderFound{Status: "SETTLING", Amount: 1599, Remaining: 1599}},
		{name: "no amount", seen: OrderFound{Status: "AUTHORIZED", Remaining: 1599}},
		{name: "not told", seen: OrderFound{Refused: true, Status: "AUTHORIZED", Amount: 1599, Remaining: 1599}},
	} {
		if got := tt.seen.Ignored(); !reflect.DeepEqual(got, tt.left) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.left)
		}
	}
}

func TestDeliverCaptureKeepsWhatIsKnown(t *testing.T) {
	r := testRules()
	t.Run("a crash counts as an undecided try, the amount stays", func(t *testing.T) {
		q := captureJob(0).again().seen(OrderFound{Remaining: 3})
		c := Deliver(capturing(0), q, noon.Add(3*time.Minute), r).State.Claim
		if c.UndecidedTries != 1 || c.Deliveries != 2 || c.Nonce != q.Nonce || !c.FirstSentAt.Equal(noon) || c.Capture.Amount != 1599 {
			t.Errorf("claim after takeover = %+v of %+v", c, c.Capture)
		}
	})
	t.Run("the charge and what it left are carried on", func(t *testing.T) {
		s := capturing(500)
		if s.Settled[K1].Kind != messages.KindPaid || s.Attempts != 1 || !s.FirstAttemptAt.Equal(noon) || s.Order.ID != "order-1" || s.Order.Currency != "EUR" {
			t.Errorf("state while capturing = %+v, order %+v", s, s.Order)
		}
	})
	t.Run("a rejection carries the order on", func(t *testing.T) {
		for name, s := range map[string]State{"authorised": authorised(), "capturing": capturing(500), "captured": capturedAs(t, capturing(500), "capture-1")} {
			bad := second()
			bad.Verdict = messages.ReasonInvalid
			got := Deliver(s, bad, noon, r)
			if got.Record != messages.KindRejected || got.State.Phase != s.Phase || *got.State.Order != *s.Order || got.State.Claim != s.Claim {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})
	t.Run("captures are counted when they are claimed", func(t *testing.T) {
		failed := after(t, capturing(0), refused)
		s := Deliver(failed, anotherCapture(0).seen(OrderFound{Remaining: 1599}), noon.Add(time.Hour), r).State
		if s.Order.Captures != 2 || !s.Order.FirstCaptureAt.Equal(noon) {
			t.Errorf("%d captures, the first at %s, want 2, noon", s.Order.Captures, s.Order.FirstCaptureAt)
		}
		again := Deliver(after(t, s, undecided), anotherCapture(0).again(), noon.Add(2*time.Hour), r).State
		if again.Order.Captures != 2 {
			t.Errorf("%d captures after a takeover, want 2", again.Order.Captures)
		}
	})
	t.Run("what Klarna says of the order is kept", func(t *testing.T) {
		until := noon.AddDate(0, 0, 7)
		s := Deliver(authorised(), captureJob(0).seen(OrderFound{Amount: 1200, Remaining: 1200, CaptureBefore: until}), noon, r).State
		if s.Order.Amount != 1200 || !s.Order.CaptureBefore.Equal(until) {
			t.Errorf("order = %+v, want 1200 until %s", s.Order, until)
		}
	})
	t.Run("what a replayed capture comes to corrects its rejection", func(t *testing.T) {
		s := authorised().Settle(c1, Settlement{Kind: messages.KindRejected, SHA256: "capture 1", Reason: messages.ReasonNotPaid})
		replay := captureJob(0).seen(OrderFound{Status: "EXPIRED"})
		replay.Replay = 7
		if got := Deliver(s, replay, noon, r); got.Record != messages.KindCaptureFailed || got.Corrects != messages.KindRejected {
			t.Errorf("%+v, want capture_failed, corrects rejected", got)
		}
		open := Deliver(s, replay.seen(OrderFound{Remaining: 1599}), noon, r).State
		if got := Conclude(open, HeldClaim{Claim: *open.Claim}, taken, noon, r); got.Record != messages.KindCaptured || got.Corrects != messages.KindRejected {
			t.Errorf("%+v, want captured, corrects rejected", got)
		}
	})
	t.Run("a failure at the look leaves the order to the next capture", func(t *testing.T) {
		failed := Deliver(authorised(), captureJob(0).seen(OrderFound{Status: "CANCELLED"}), noon, r).State
		if got := Deliver(failed, anotherCapture(0), noon, r); got.Then != Look {
			t.Errorf("the next capture: %+v, want Klarna asked", got)
		}
		if got := Deliver(failed, second(), noon, r); got.Reason != messages.ReasonOrderExists {
			t.Errorf("another charge: %+v, want order_exists", got)
		}
	})
	t.Run("many rejections end under the stand-in, the order stays", func(t *testing.T) {
		s := authorised()
		for len(s.Settled) < MaxSettled {
			q := anotherCapture(2000).seen(OrderFound{Remaining: 1599})
			q.Key += messages.IdempotencyKey(rune(len(s.Settled)))
			s = Deliver(s, q, noon, r).State
		}
		if got := Deliver(s, captureJob(0).seen(OrderFound{Remaining: 1599}), noon, r); got.Then != FileApart || got.Reason != messages.ReasonTooManyAttempts {
			t.Errorf("%+v, want the stand-in", got)
		}
	})
}

func TestConcludeCapture(t *testing.T) {
	r := testRules()
	now := noon.Add(3 * time.Minute)
	open := capturing(500)
	mine := HeldClaim{Claim: *open.Claim, SetsClock: true}
	takenOver := Deliver(open, captureJob(500).again(), noon.Add(2*time.Minute), r).State
	concluded := func(o Outcome) State {
		return Conclude(takenOver, HeldClaim{Claim: *takenOver.Claim}, o, now, r).State
	}
	failed, done := concluded(refused), concluded(taken)
	unresolved := giveUp(takenOver, messages.ReasonContradictoryAnswers, testRules()).State
	next := anotherCapture(0).seen(OrderFound{Remaining: 1599})
	nextOpen := Deliver(failed, next, now, r).State
	nextDone := after(t, nextOpen, Outcome{Answer: Accepted, Made: "capture-2", Tries: 1})
	nextAfterDone := Deliver(done, anotherCapture(0).seen(OrderFound{Remaining: 1099, Booked: 500}), now, r).State
	replayed := takenOver.Settle(c1, Settlement{Kind: messages.KindRejected, SHA256: "capture 1", Reason: messages.ReasonNotPaid})
	foundNone, err := resolve(unresolved, verdict{kind: messages.KindCaptureFailed})
	if err != nil {
		t.Fatal(err)
	}
	foundAnother, err := resolve(unresolved, verdict{kind: messages.KindCaptured, made: "capture-9"})
	if err != nil {
		t.Fatal(err)
	}
	// Klarna said yes and named nothing; a refusal afterwards contradicts that.
	contradicted := Outcome{Tries: 2, Answered2xx: true, Contradicted: true, Undecided: 1}

	for _, tt := range []struct {
		name     string
		state    State
		outcome  Outcome
		record   messages.Kind
		corrects messages.Kind
		reason   messages.Reason
		then     Action
		dead     bool
		captured int64 // of the order, afterwards
	}{
		{name: "a capture is captured", state: open, outcome: taken, record: messages.KindCaptured, then: Ack, captured: 500},
		{name: "a refusal is capture_failed", state: open, outcome: refused, record: messages.KindCaptureFailed, then: Ack},
		{name: "no answer is announced as nothing", state: open, outcome: undecided, record: messages.KindCapturing, then: Nak},
		{name: "a cut try is announced as nothing", state: open, outcome: wasCut, record: messages.KindCapturing, then: Nak},
		{name: "a yes that names no capture is announced as nothing", state: open, outcome: contradicted, record: messages.KindCapturing, then: Nak},
		{name: "a rejection came between: written again on top", state: reject(open, second(), messages.ReasonOrderExists).State, outcome: taken, record: messages.KindCaptured, then: Ack, captured: 500},
		{
			name: "a replayed capture corrects its rejection", state: with(replayed, func(c *Claim) { c.Nonce, c.Corrects = "c", messages.KindRejected }), outcome: taken, record: messages.KindCaptured,
			corrects: messages.KindRejected, then: Ack, captured: 500,
		},
		{name: "our record is there, its answer was lost", state: after(t, open, taken), outcome: taken, reason: "captured", then: Ack, captured: 500},
		{name: "our failure is there, its answer was lost", state: after(t, open, refused), outcome: refused, reason: "capture_failed", then: Ack},

		{name: "fenced with a capture, the other still at it", state: takenOver, outcome: taken, record: messages.KindCaptured, then: Ack, captured: 500},
		{name: "fenced with a capture, the other recorded the same", state: done, outcome: taken, then: Ack, captured: 500},
		{
			name: "fenced with a capture, the other recorded another", state: concluded(Outcome{Answer: Accepted, Made: "capture-9"}), outcome: taken, reason: messages.ReasonSecondOrder, then: Ack, dead: true,
			captured: 500,
		},
		{name: "fenced with a capture, the other failed", state: failed, outcome: taken, record: messages.KindCaptured, corrects: messages.KindCaptureFailed, then: Ack, captured: 500},
		{name: "fenced with a capture, given up meanwhile", state: unresolved, outcome: taken, record: messages.KindCaptured, corrects: messages.KindUnresolved, then: Ack, captured: 500},
		{name: "fenced with a capture, an operator found none", state: foundNone.State, outcome: taken, record: messages.KindCaptured, corrects: messages.KindCaptureFailed, then: Ack, captured: 500},
		{name: "fenced with a capture, an operator found another", state: foundAnother.State, outcome: taken, reason: messages.ReasonSecondOrder, then: Ack, dead: true, captured: 500},
		{name: "fenced with a capture of a replayed job", state: replayed, outcome: taken, record: messages.KindCaptured, corrects: messages.KindRejected, then: Ack, captured: 500},
		{name: "fenced with a capture, the next is open", state: nextOpen, outcome: taken, reason: messages.ReasonCaptureAfterFailure, then: Ack, dead: true},
		{name: "fenced with a capture, the next is done", state: nextDone, outcome: taken, reason: messages.ReasonCaptureAfterFailure, then: Ack, dead: true, captured: 1599},
		{name: "fenced with a capture on record, the next is open", state: nextAfterDone, outcome: taken, then: Ack, captured: 500},

		{name: "fenced with a refusal, the other still at it", state: takenOver, outcome: refused, then: Nak},
		{name: "fenced with a refusal, the other captured", state: done, outcome: refused, reason: "captured", then: Ack, captured: 500},
		{name: "fenced with nothing, the other failed", state: failed, outcome: undecided, reason: "capture_failed", then: Ack},
		{name: "fenced with nothing, given up meanwhile", state: unresolved, outcome: undecided, reason: messages.ReasonContradictoryAnswers, then: Ack, dead: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Conclude(tt.state, mine, tt.outcome, now, r)
			if got.Record != tt.record || got.Corrects != tt.corrects || got.Reason != tt.reason || got.Then != tt.then || got.Dead != tt.dead {
				t.Errorf("conclude = %+v\nwant record %q corrects %q reason %q then %d dead %t", got, tt.record, tt.corrects, tt.reason, tt.then, tt.dead)
			}
			s := tt.state
			if got.Record != "" {
				s = got.State
			}
			if s.Order.Captured != tt.captured {
				t.Errorf("%d captured, want %d", s.Order.Captured, tt.captured)
			}
			if got.Record == messages.KindCaptured && (s.Phase != PhaseCaptured || s.Claim.Capture.ID != "capture-1" || s.Settled[c1].Kind != messages.KindCaptured || s.Settled[c1].SHA256 != "capture 1") {
				t.Errorf("state = %+v of %+v, want captured as capture-1", s, s.Claim.Capture)
			}
		})
	}
}

func TestConcludeCaptureUndecided(t *testing.T) {
	r := testRules()
	t.Run("a cut try keeps its claim until Klarna has surely finished", func(t *testing.T) {
		s := after(t, capturing(0), wasCut)
		if c := s.Claim; s.Phase != PhaseCapturing || c.Released || !c.LeaseUntil.Equal(noon.Add(time.Second+r.SettleDelay)) {
			t.Errorf("%s, claim %+v, want capturing, leased for a minute", s.Phase, c)
		}
	})
	t.Run("an unsent capture does not start the key's clock", func(t *testing.T) {
		if c := after(t, capturing(0), unsent).Claim; !c.FirstSentAt.IsZero() || !c.Released || c.Capture.Amount != 1599 {
			t.Errorf("claim = %+v of %+v, want no first_sent_at, the amount kept", c, c.Capture)
		}
	})
	t.Run("a refusal after an undecided try decides only where money was declined", func(t *testing.T) {
		for code, want := range map[string]bool{"PAYMENT_METHOD_FAILED": true, "CAPTURE_NOT_ALLOWED": false, "NO_SUCH_ORDER": false} {
			undecided := TryResult{before: doubt{Tries: 1, EndedAt: noon.Add(-time.Hour)}}
			if undecided.Hear(Created{}, answered(403, code), noon, noon, r); (undecided.Answer == Refused) != want {
				t.Errorf("%s decides: %t, want %t", code, !want, want)
			}
		}
	})
	t.Run("contradicted until the window closes", func(t *testing.T) {
		s := after(t, capturing(0), Outcome{Tries: 1, Contradicted: true})
		got := Deliver(s, captureJob(0).again(), noon.Add(23*time.Hour), r)
		if got.Reason != messages.ReasonContradictoryAnswers || got.State.Phase != PhaseUnresolved || !got.State.Capturing() {
			t.Errorf("%+v, want unresolved, contradictory_answers", got)
		}
	})
}

// TestCapturesAddUp captures an order part by part, with everything that could
// count a part twice in between.
func TestCapturesAddUp(t *testing.T) {
	r := testRules()
	s := capturing(500)
	one := HeldClaim{Claim: *s.Claim, SetsClock: true}
	theirs := Deliver(s, captureJob(500).again(), noon.Add(2*time.Minute), r).State
	other := HeldClaim{Claim: *theirs.Claim}

	s = Conclude(theirs, one, taken, noon.Add(3*time.Minute), r).State
	for name, h := range map[string]HeldClaim{"who recorded it": one, "who held the claim": other} {
		if got := Conclude(s, h, taken, noon.Add(4*time.Minute), r); got.Record != "" || got.Then != Ack {
			t.Errorf("%s: %+v, want nothing written", name, got)
		}
	}
	s = Deliver(s, anotherCapture(0).seen(OrderFound{Remaining: 1099, Booked: 500}), noon.Add(5*time.Minute), r).State
	s = Conclude(s, HeldClaim{Claim: *s.Claim}, Outcome{Answer: Accepted, Made: "capture-2", Tries: 1}, noon.Add(6*time.Minute), r).State
	if s.Order.Captured != 1599 || s.Order.Captures != 2 {
		t.Errorf("%d captured in %d captures, want 1599 in 2", s.Order.Captured, s.Order.Captures)
	}
	if got := Conclude(s, other, taken, noon.Add(7*time.Minute), r); got.Record != "" || got.Dead {
		t.Errorf("the first capture after the second: %+v, want nothing", got)
	}
}

func TestResolveCapture(t *testing.T) {
	r := testRules()
	part := capturedAs(t, capturing(500), "capture-1")
	open := Deliver(part, anotherCapture(0).seen(OrderFound{Remaining: 1099, Booked: 500}), noon, r).State
	unresolved := giveUp(open, messages.ReasonIdempotencyWindowExpired, testRules()).State
	charge := giveUp(charging(), messages.ReasonIdempotencyWindowExpired, testRules()).State

	for _, tt := range []struct {
		name     string
		state    State
		verdict  verdict
		phase    Phase // "": refused
		captured int64
		left     bool // an order to capture
	}{
		{name: "captured", state: unresolved, verdict: verdict{kind: messages.KindCaptured, made: "capture-2"}, phase: PhaseCaptured, captured: 1599, left: true},
		{name: "not captured", state: unresolved, verdict: verdict{kind: messages.KindCaptureFailed}, phase: PhaseCaptureFailed, captured: 500, left: true},
		{name: "a capture as paid", state: unresolved, verdict: verdict{kind: messages.KindPaid, made: "order-1"}},
		{name: "a capture as not charged", state: unresolved, verdict: verdict{kind: messages.KindDunning}},
		{name: "a capture that is under way", state: open, verdict: verdict{kind: messages.KindCaptured, made: "capture-2"}},
		{name: "a capture that is done", state: part, verdict: verdict{kind: messages.KindCaptureFailed}},
		{name: "a charge as captured", state: charge, verdict: verdict{kind: messages.KindCaptured, made: "capture-1"}},
		{name: "a charge as not captured", state: charge, verdict: verdict{kind: messages.KindCaptureFailed}},
		{name: "a charge as paid, to be captured", state: charge, verdict: verdict{kind: messages.KindPaid, made: "order-1", authorised: leftToCapture()}, phase: PhasePaid, left: true},
		{name: "a charge as paid and captured", state: charge, verdict: verdict{kind: messages.KindPaid, made: "order-1"}, phase: PhasePaid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := resolve(tt.state, tt.verdict)
			var refused *RefusedError
			if tt.phase == "" {
				if !errors.As(err, &refused) || refused.Phase != tt.state.Phase || got.Record != "" {
					t.Errorf("%+v, %v, want it refused", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s := got.State
			if s.Phase != tt.phase || got.Corrects != messages.KindUnresolved || s.Settled[s.Claim.Key].Kind != tt.verdict.kind || s.Claim.made() != tt.verdict.made {
				t.Errorf("%+v, want %s, which corrects unresolved", got, tt.phase)
			}
			if (s.Order != nil) != tt.left || tt.left && (s.Order.Captured != tt.captured || s.Order.ID != "order-1") {
				t.Errorf("order %+v, want it %t with %d captured", s.Order, tt.left, tt.captured)
			}
		})
	}
	t.Run("afterwards the rest can be captured", func(t *testing.T) {
		st, err := resolve(unresolved, verdict{kind: messages.KindCaptureFailed})
		if err != nil {
			t.Fatal(err)
		}
		third := captureJob(0).seen(OrderFound{Remaining: 1099, Booked: 500})
		third.Key = "c0000000-0000-5000-8000-000000000003"
		if got := Deliver(st.State, third, noon, r); got.Record != messages.KindCapturing || got.State.Claim.Capture.Amount != 1099 {
			t.Errorf("%+v, want 1099 claimed", got)
		}
	})
	t.Run("too late to cancel", func(t *testing.T) {
		for _, s := range []State{authorised(), open, part, after(t, open, refused), unresolved} {
			if _, err := cancel(s); err == nil {
				t.Errorf("%s is cancelled", s.Phase)
			}
		}
	})
}

// TestOrderIsKeptForItsCaptures holds every way to paid of a charge without auto_capture.
func TestOrderIsKeptForItsCaptures(t *testing.T) {
	r := testRules()
	theirs := Deliver(charging(), func() Request { q := first(); q.Nonce = "b"; return q }(), noon.Add(2*time.Minute), r).State
	mine := HeldClaim{Claim: *charging().Claim, SetsClock: true, Authorised: leftToCapture()}
	declined := Conclude(theirs, HeldClaim{Claim: *theirs.Claim}, refused, noon.Add(3*time.Minute), r).State
	inDoubt := Outcome{Answer: Pending, Made: "order-1", Tries: 1}
	pending := Conclude(charging(), mine, inDoubt, noon, r).State
	poll := first()
	poll.Authorised = leftToCapture()
	for name, got := range map[string]Transition{
		"accepted":                          Conclude(charging(), mine, accepted, noon, r),
		"fenced, the other at it":           Conclude(theirs, mine, accepted, noon, r),
		"fenced, the other declined":        Conclude(declined, mine, accepted, noon, r),
		"fenced, given up":                  Conclude(giveUp(theirs, messages.ReasonPoison, testRules()).State, mine, accepted, noon, r),
		"fenced, pending there":             Conclude(Conclude(theirs, mine, inDoubt, noon, r).State, mine, accepted, noon, r),
		"pending, then accepted":            Polled(pending, poll, true, true, noon, r),
		"pending over dunning, then polled": Polled(Conclude(declined, mine, inDoubt, noon, r).State, poll, true, true, noon, r),
	} {
		want := *leftToCapture()
		want.ID = "order-1"
		if s := got.State; got.Record != messages.KindPaid || s.Phase != PhasePaid || s.Order == nil || *s.Order != want {
			t.Errorf("%s: %+v, order %+v, want paid, %+v left", name, got, got.State.Order, want)
		}
	}
	if pending.Order != nil {
		t.Errorf("pending: order %+v, want none to capture yet", pending.Order)
	}
	if s := Polled(pending, poll, false, true, noon, r).State; s.Phase != PhaseDunning || s.Order != nil {
		t.Errorf("rejected for fraud: %s, order %+v, want dunning, none", s.Phase, s.Order)
	}
	captured := capturing(0)
	if got := Conclude(captured, mine, Outcome{Answer: Accepted, Made: "order-2"}, noon, r); got.Reason != messages.ReasonSecondOrder || got.Made != "order-2" || !got.Dead {
		t.Errorf("another order once capturing began: %+v, want a dead letter about it", got)
	}
	if got := Conclude(captured, mine, accepted, noon, r); got.Record != "" || got.Dead || got.Then != Ack {
		t.Errorf("the same order once capturing began: %+v, want nothing", got)
	}
}

func TestPanickedCapture(t *testing.T) {
	r := testRules()
	part := capturedAs(t, capturing(500), "capture-1")
	another := anotherCapture(0)

	for name, s := range map[string]State{"authorised": authorised(), "a part captured": part, "a capture failed": after(t, capturing(0), refused)} {
		t.Run("before any claim: rejected in the end, "+name, func(t *testing.T) {
			before := s
			for n := 1; n < MaxPanics; n++ {
				st := Panicked(s, another, noon, r)
				if st.Record != messages.KindCapturing || st.Then != Nak || st.State.Phase != before.Phase || !reflect.DeepEqual(st.State.Claim, before.Claim) || !reflect.DeepEqual(st.State.Order, before.Order) {
					t.Fatalf("panic %d: %+v, want it counted and sent back", n, st)
				}
				s = st.State
			}
			st := Panicked(s, another, noon, r)
			if st.Record != messages.KindRejected || st.Reason != messages.ReasonPoison || st.State.Phase != before.Phase || !st.Dead || st.State.Order.Captured != before.Order.Captured {
				t.Errorf("the last panic: %+v, want rejected, the order as it was", st)
			}
		})
	}
	t.Run("a claim that only counts panics: Klarna is asked what is left, then it is claimed", func(t *testing.T) {
		counting := countedByAClaim(part, another, 1)
		if got := Deliver(counting, another.again(), noon.Add(time.Minute), r); got.Then != Look || got.Record != "" {
			t.Fatalf("%+v, want Klarna asked", got)
		}
		got := Deliver(counting, another.again().seen(OrderFound{Remaining: 1099, Booked: 500}), noon.Add(time.Minute), r)
		c := got.State.Claim
		if got.Record != messages.KindCapturing || c.Capture.Amount != 1099 || c.Panics != 1 || c.Deliveries != 2 || c.UndecidedTries != 0 || got.State.Order.Captures != 2 {
			t.Errorf("%+v of %+v, want 1099 claimed, the panic remembered", c, c.Capture)
		}
	})
	t.Run("a claim that only counts panics: what the look finds ends it", func(t *testing.T) {
		counting := countedByAClaim(part, another, 1)
		for phase, f := range map[Phase]OrderFound{PhaseCaptured: {Booked: 500}, PhaseCaptureFailed: {Status: "EXPIRED", Booked: 500}} {
			got := Deliver(counting, another.again().seen(f), noon.Add(time.Minute), r)
			if got.Then != Ack || got.State.Phase != phase || got.State.Order.Captured != 500 || !got.State.known(c2) {
				t.Errorf("%+v, want it settled, %s", got, phase)
			}
		}
	})
	t.Run("a claim that only counts panics keeps others waiting", func(t *testing.T) {
		counting := countedByAClaim(part, another, 1)
		third := captureJob(0)
		third.Key = "c0000000-0000-5000-8000-000000000003"
		if got := Deliver(counting, third, noon.Add(time.Minute), r); got.Then != Nak || got.Record != "" {
			t.Errorf("%+v, want it to wait", got)
		}
	})
	t.Run("with an open claim: unresolved in the end", func(t *testing.T) {
		st := Panicked(with(capturing(500), func(c *Claim) { c.Panics = MaxPanics - 1 }), captureJob(500), noon, r)
		if st.Record != messages.KindUnresolved || st.Reason != messages.ReasonPoison || !st.State.Capturing() || !st.Dead {
			t.Errorf("the last panic: %+v, want unresolved", st)
		}
	})
	t.Run("with an open claim under which nothing was sent: rejected in the end", func(t *testing.T) {
		s := after(t, capturing(500), unsent)
		st := Panicked(with(s, func(c *Claim) { c.Panics = MaxPanics - 1 }), captureJob(500).again(), noon, r)
		if st.Record != messages.KindRejected || st.State.Phase != PhasePaid {
			t.Errorf("the last panic: %+v, want rejected, the order as it was", st)
		}
	})
	t.Run("while a try was under way: the claim is kept", func(t *testing.T) {
		st := Panicked(capturing(500), captureJob(500), noon.Add(time.Second), r)
		if c := st.State.Claim; st.Record != messages.KindCapturing || c.Released || !c.LeaseUntil.Equal(noon.Add(time.Second+r.SettleDelay)) || c.Capture.Amount != 500 {
			t.Errorf("claim = %+v, want not released", c)
		}
	})
	t.Run("after the result: done", func(t *testing.T) {
		if st := Panicked(part, captureJob(500), noon, r); st.Record != "" || st.Then != Ack || !st.Duplicate {
			t.Errorf("step = %+v, want an acknowledgement", st)
		}
	})
	t.Run("where there is nothing to capture: what it gets without a panic", func(t *testing.T) {
		if st := Panicked(empty(), captureJob(0), noon, r); st.Reason != messages.ReasonNotPaid {
			t.Errorf("step = %+v, want it rejected as not paid", st)
		}
	})
	t.Run("another job with its ID: not counted on its claim", func(t *testing.T) {
		other := captureJob(700)
		other.Hash = "capture 1 of 700"
		s := with(capturing(500), func(c *Claim) { c.Panics = MaxPanics - 1 })
		if st := Panicked(s, other, noon, r); st.Then != FileApart || st.Reason != messages.ReasonConflict || st.Record != "" {
			t.Errorf("step = %+v, want the stand-in", st)
		}
		if st := Panicked(with(charging(), func(c *Claim) { c.Panics = MaxPanics - 1 }), func() Request { q := first(); q.Hash = "order 9"; return q }(), noon, r); st.Then != FileApart {
			t.Errorf("a charge: step = %+v, want the stand-in", st)
		}
	})
}

func TestSweepCapture(t *testing.T) {
	r := testRules()
	released := after(t, capturing(500), undecided)
	for _, tt := range []struct {
		name  string
		state State
		at    time.Time
		want  messages.Reason
	}{
		{name: "its own delivery still has its chance", state: released, at: noon.Add(24 * time.Hour)},
		{name: "the window is over and nobody came", state: released, at: noon.Add(25 * time.Hour), want: messages.ReasonIdempotencyWindowExpired},
		{name: "contradicted", state: after(t, capturing(500), Outcome{Tries: 1, Contradicted: true}), at: noon.Add(25 * time.Hour), want: messages.ReasonContradictoryAnswers},
		{name: "nothing was ever sent", state: after(t, capturing(500), unsent), at: noon.Add(8 * 24 * time.Hour)},
		{name: "only panics were counted", state: countedByAClaim(authorised(), captureJob(0), 1), at: noon.Add(8 * 24 * time.Hour)},
		{name: "authorised and never captured", state: authorised(), at: noon.Add(1000 * time.Hour)},
		{name: "captured", state: capturedAs(t, capturing(500), "capture-1"), at: noon.Add(1000 * time.Hour)},
		{name: "failed", state: after(t, capturing(500), refused), at: noon.Add(1000 * time.Hour)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st, ok := Sweep(tt.state, tt.at, r)
			if ok != (tt.want != "") || st.Reason != tt.want || st.Dead {
				t.Errorf("sweep = %v, %+v, want %q", ok, st, tt.want)
			}
			if ok && (st.State.Phase != PhaseUnresolved || !st.State.Capturing() || *st.State.Order != *tt.state.Order) {
				t.Errorf("state = %+v, want the capture unresolved, the order as it was", st.State)
			}
		})
	}
}
