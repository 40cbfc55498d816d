package worker

import (
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// authorise charges a renewal whose order has to be captured.
func (w *world) authorise(subscription, token string) (orderID string) {
	w.t.Helper()
	before := len(w.results())
	w.publish(w.due(subscription, token, 1, func(j map[string]any) { j["order"].(map[string]any)["auto_capture"] = false }))
	w.awaitEmpty()
	results := w.results()
	if len(results) != before+1 || results[before].Kind != messages.KindPaid {
		w.t.Fatalf("results: %v, want one more, paid", results)
	}
	return results[before].Order
}

// capture publishes a capture job; what is not set in it is left out.
func (w *world) capture(c messages.Capture) {
	w.t.Helper()
	payload, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.publishCapture(payload)
}

func (w *world) publishCapture(payload []byte) {
	w.t.Helper()
	if _, err := w.js.PublishMsg(w.t.Context(), &nats.Msg{Subject: messages.CaptureSubject("default"), Data: payload}); err != nil {
		w.t.Fatal(err)
	}
}

// taken is what Klarna captured, by order.
func (w *world) taken() (amounts []int64) {
	w.t.Helper()
	for _, o := range w.klarna.Simulator.Books().Orders {
		for _, c := range o.Captures {
			amounts = append(amounts, c.CapturedAmount)
		}
	}
	return amounts
}

// expectTaken compares the amounts of the captures in Klarna's books.
func (w *world) expectTaken(want ...int64) {
	w.t.Helper()
	got := w.taken()
	if len(got) != len(want) {
		w.t.Fatalf("captures at Klarna: %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			w.t.Fatalf("captures at Klarna: %v, want %v", got, want)
		}
	}
}

func part(id string, amount int64) messages.Capture {
	return messages.Capture{ID: messages.MessageID(id), SubscriptionID: "sub", Period: "2026-12", CapturedAmount: amount}
}

// last decodes the newest record of a kind.
func last[E messages.Event](w *world) (e E) {
	w.t.Helper()
	j, err := journal.Open(w.t.Context(), w.js, DefaultOptions().Log)
	if err != nil {
		w.t.Fatal(err)
	}
	at, err := j.LastOf(w.t.Context(), e.Kind(), messages.NewRenewal("sub", "2026-12"))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(at.Body, &e); err != nil {
		w.t.Fatalf("the newest %s: %v", e.Kind(), err)
	}
	return e
}

// S35: a capture job makes the worker panic before it is claimed. What is counted meanwhile is no claim: the order stays as it
// is, and another capture takes its money.
func TestCaptureThatPanicsIsPutAside(t *testing.T) {
	w := newWorld(t)
	var broken atomic.Bool
	broken.Store(true)
	poison := tap{before: func(m *nats.Msg) error {
		if broken.Load() && strings.HasPrefix(m.Subject, "renewals.capturing.sub.") && claims(m) {
			panic("poison")
		}
		return nil
	}}
	w.startOn(poison, func(*Options) {})
	order := w.authorise("sub", "ok-1")
	w.capture(part("c1", 500))
	w.awaitEmpty()
	w.expect(1, "paid", "rejected poison")
	w.expectTaken()
	if counted := last[messages.Capturing](w); counted.OrderID != order || counted.CapturedAmount != 500 || !counted.FirstSentAt.IsZero() || counted.Tries != 0 {
		t.Errorf("the last panic is recorded as %+v, want 500 wanted of order %s, and nothing sent", counted, order)
	}

	broken.Store(false)
	w.capture(part("c2", 0))
	w.awaitEmpty()
	w.expect(1, "paid", "rejected poison", "captured")
	w.expectTaken(1599)
}

func TestCaptureOfEverything(t *testing.T) {
	w := newWorld(t)
	w.start()
	order := w.authorise("sub", "ok-1")
	paid := last[messages.Paid](w)
	if left := paid.CaptureBefore.Sub(w.now()); paid.Captured || left < 27*24*time.Hour || left > 28*24*time.Hour {
		t.Errorf("captured %v, to be captured within %v, want 28 days", paid.Captured, left)
	}
	if want := (messages.PaymentMethod{Type: "invoice", NumberOfDays: 30}); paid.AuthorizedPaymentMethod != want {
		t.Errorf("paid by %+v, want %+v, as the simulator says", paid.AuthorizedPaymentMethod, want)
	}
	w.capture(part("c1", 0))
	w.awaitEmpty()
	w.expect(1, "paid", "captured")
	w.expectTaken(1599)
	c := last[messages.Captured](w)
	books := w.klarna.Simulator.Books()
	if c.OrderID != order || c.CaptureID != books.Orders[0].Captures[0].CaptureID || c.CapturedAmount != 1599 || c.TotalCapturedAmount != 1599 || c.RemainingAmount != 0 || c.OrderAmount != 1599 || c.PurchaseCurrency != "EUR" || c.MerchantReference1 != "sub" || c.Attempt != 1 {
		t.Errorf("captured = %+v", c)
	}

	w.capture(part("c2", 0))
	w.awaitEmpty()
	w.publish(w.due("sub", "ok-1", 2))
	w.awaitEmpty()
	w.expect(1, "paid", "captured", "rejected already_captured", "rejected order_exists")
	w.expectTaken(1599)
}

func TestCapturesInParts(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.start()
	w.authorise("sub", "ok-1")
	for _, c := range []messages.Capture{part("c1", 1000), part("c2", 600), part("c3", 500), part("c3", 500), part("c4", 0)} {
		w.capture(c)
		w.awaitEmpty()
	}
	w.expect(1, "paid", "captured", "rejected amount_too_high", "captured", "captured")
	w.expectTaken(1000, 500, 99)
	if c := last[messages.Captured](w); c.TotalCapturedAmount != 1599 || c.RemainingAmount != 0 || c.Attempt != 3 {
		t.Errorf("captured = %+v, want the sum of three", c)
	}
}

// TestCapturesAtOnce: captures that together are more than what was authorised,
// at several workers at the same time.
func TestCapturesAtOnce(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.start()
	w.authorise("sub", "ok-1")
	for _, id := range []string{"c1", "c2", "c3", "c4", "c5"} {
		w.capture(part(id, 500))
	}
	w.awaitEmpty()
	w.expect(1, "paid", "captured", "captured", "captured", "rejected amount_too_high", "rejected amount_too_high")
	w.expectTaken(500, 500, 500)
}

func TestNothingToCapture(t *testing.T) {
	t.Parallel()
	other := part("c1", 0)
	other.OrderID = "another-order"
	for _, row := range []struct {
		name string
		set  func(*world)
		job  messages.Capture
		want string
	}{
		{name: "no such renewal", set: func(*world) {}, job: part("c1", 0), want: "rejected not_paid"},
		{name: "declined", set: func(w *world) { w.publish(w.due("sub", "soft-decline-1", 1)); w.awaitEmpty() }, job: part("c1", 0), want: "rejected not_paid"},
		{name: "captured automatically", set: func(w *world) { w.publish(w.due("sub", "ok-1", 1)); w.awaitEmpty() }, job: part("c1", 0), want: "rejected already_captured"},
		{name: "more than there is", set: func(w *world) { w.authorise("sub", "ok-1") }, job: part("c1", 1600), want: "rejected amount_too_high"},
		{name: "another order", set: func(w *world) { w.authorise("sub", "ok-1") }, job: other, want: "rejected order_mismatch"},
		{name: "expired", set: func(w *world) { w.authorise("sub", "ok-1"); w.advance(29 * 24 * time.Hour) }, job: part("c1", 0), want: "capture_failed order_expired"},
		{name: "cancelled at Klarna", set: func(w *world) { w.klarna.Simulator.CancelOrder(w.authorise("sub", "ok-1")) }, job: part("c1", 0), want: "capture_failed order_cancelled"},
		{name: "declined late (S14)", set: func(w *world) { w.authorise("sub", "capture-declined-1") }, job: part("c1", 0), want: "capture_failed payment_method_failed"},
		{name: "not valid", set: func(w *world) { w.authorise("sub", "ok-1") }, job: part("c1", -1), want: "rejected invalid"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			row.set(w)
			w.capture(row.job)
			w.awaitEmpty()
			results := w.results()
			if got := results[len(results)-1].String(); got != row.want {
				t.Errorf("results: %v, want %s at last", results, row.want)
			}
			if strings.HasPrefix(row.want, "capture_failed") && last[messages.CaptureFailed](w).CapturedAmount != 1599 {
				t.Errorf("capture_failed = %+v, want all that there was", last[messages.CaptureFailed](w))
			}
			w.expectTaken()
		})
	}
}

// S14: the order stays, nobody charges again, the billing
// system is told when to try, and the next capture may succeed.
func TestCaptureDeclined(t *testing.T) {
	w := newWorld(t)
	w.start()
	order := w.authorise("sub", "capture-declined-1")
	w.capture(part("c1", 0))
	w.awaitEmpty()
	f := last[messages.CaptureFailed](w)
	if f.OrderID != order || f.CapturedAmount != 1599 || f.Category != messages.CategorySoftDecline || f.NextAttemptAt == nil || f.Final || f.HTTPStatus != 403 || !f.NotifyCustomer {
		t.Errorf("capture_failed = %+v, want a soft decline that names the order", f)
	}
	w.publish(w.due("sub", "ok-1", 2))
	w.awaitEmpty()
	w.capture(part("c2", 0))
	w.awaitEmpty()
	w.expect(1, "paid", "capture_failed payment_method_failed", "rejected order_exists", "capture_failed payment_method_failed")
	if f := last[messages.CaptureFailed](w); f.Attempt != 2 {
		t.Errorf("attempt %d, want 2", f.Attempt)
	}
}

// TestCaptureIDOfACharge: a capture may even bear the ID of the charge.
func TestCaptureIDOfACharge(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.authorise("sub", "ok-1")
	w.capture(part("sub/2026-12/1", 0))
	w.awaitEmpty()
	w.capture(part("sub/2026-12/1", 5)) // and again, another one
	w.awaitEmpty()
	w.expect(1, "paid", "captured", "rejected conflict")
	w.expectTaken(1599)
}

// TestCaptureDeadLetter: a bad capture job lies in RENEWAL_DEAD with the subject it came on.
func TestCaptureDeadLetter(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.publishCapture([]byte(`{"id":"c1","subscription_id":"sub","period":"2026-12","captured_amount":"15.99"}`))
	w.publishCapture([]byte(`{"id":`))
	w.awaitEmpty()
	letters, payloads := w.deadLetters()
	if len(letters) != 2 || letters[0].Subject != messages.CaptureSubject("default") || !strings.Contains(payloads[0]+payloads[1], `"15.99"`) {
		t.Errorf("dead letters: %+v", letters)
	}
}

// TestCapturesExpire: the worker that sweeps counts the orders whose money is about to be lost.
func TestCapturesExpire(t *testing.T) {
	w := newWorld(t)
	var worker *Worker
	w.startWith(&worker)
	w.authorise("sub", "ok-1")
	other := w.authorise("other", "ok-2")
	w.authorise("third", "ok-3")
	counted := func(n int) func() bool {
		return func() bool {
			e := worker.expiring.Load()
			return e != nil && (*e)["default"] == n
		}
	}
	w.await("a sweep", counted(0))
	w.advance(26 * 24 * time.Hour)
	w.await("all to be counted", counted(3))
	w.capture(part("c1", 0))
	w.awaitEmpty()
	w.await("two to be counted", counted(2))
	w.klarna.Simulator.CancelOrder(other)
	late := part("c1", 0)
	late.SubscriptionID = "other"
	w.capture(late)
	w.awaitEmpty()
	w.await("one to be counted: Klarna has closed the other", counted(1))
	w.advance(3 * 24 * time.Hour)
	w.await("the last to be gone", counted(0))
}

// TestCaptureVariants: Klarna makes the capture and fails, is busy, refuses, or
// contradicts itself. The beginning of the reference says which.
func TestCaptureVariants(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		reference, want string
		taken           []int64
	}{
		{"created-500-c", "captured", []int64{1599}},
		{"created-cut-c", "captured", []int64{1599}},
		{"503x2-c", "captured", []int64{1599}},
		{"soft-decline-c", "capture_failed payment_method_failed", nil},
	} {
		t.Run(row.reference, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			w.authorise("sub", "ok-1")
			c := part("c1", 0)
			c.Reference = row.reference
			w.capture(c)
			w.awaitEmpty()
			results := w.results()
			if got := results[len(results)-1].String(); got != row.want {
				t.Errorf("results: %v, want %s at last", results, row.want)
			}
			w.expectTaken(row.taken...)
			if books := w.klarna.Simulator.Books(); books.OtherBodies != 0 || books.WithoutKey != 0 {
				t.Errorf("tries with other bytes: %d, without a key: %d", books.OtherBodies, books.WithoutKey)
			}
		})
	}
}

// TestCaptureUnresolved: Klarna makes the capture, does not say so, and refuses
// it from then on. Nothing is told until an operator has looked.
func TestCaptureUnresolved(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		resolve func(*journal.Journal, messages.Renewal, journal.Decision) error
		want    string
	}{
		{"captured", func(j *journal.Journal, r messages.Renewal, d journal.Decision) error {
			return j.ResolveCaptured(t.Context(), r, "capture-9", d)
		}, "captured"},
		{"not captured", func(j *journal.Journal, r messages.Renewal, d journal.Decision) error {
			return j.ResolveNotCaptured(t.Context(), r, d)
		}, "capture_failed not_captured"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			w.authorise("sub", "ok-1")
			c := part("c1", 599)
			c.Reference = "lost-cancelled-c"
			w.capture(c)
			w.await("Klarna to contradict itself", func() bool { return w.contradicted() })
			w.advance(24 * time.Hour)
			w.awaitEmpty()
			u := last[messages.Unresolved](w)
			if u.Reason != messages.ReasonContradictoryAnswers || u.CapturedAmount != 599 || u.OrderID == "" {
				t.Fatalf("unresolved = %+v", u)
			}
			w.capture(part("c2", 100)) // may not be made before it is known what became of the first
			w.awaitEmpty()

			j, err := journal.Open(t.Context(), w.js, DefaultOptions().Log)
			if err != nil {
				t.Fatal(err)
			}
			r, decision := messages.NewRenewal("sub", "2026-12"), journal.Decision{Actor: "ann", Note: "looked it up", At: w.now()}
			for _, wrong := range []error{j.ResolvePaid(t.Context(), r, "order-9", true, decision), j.ResolveNotCharged(t.Context(), r, decision)} {
				var refused *journal.RefusedError
				if !errors.As(wrong, &refused) {
					t.Errorf("a verdict on the charge: %v, want it refused", wrong)
				}
			}
			if err := row.resolve(j, r, decision); err != nil {
				t.Fatal(err)
			}
			w.capture(part("c3", 100))
			w.awaitEmpty()
			w.expect(1, "paid", "unresolved contradictory_answers", "rejected blocked_by_unresolved", row.want, "captured")
			left := int64(1499)
			if row.want == "captured" {
				left -= 599
			}
			if got := last[messages.Captured](w); got.RemainingAmount != left {
				t.Errorf("captured = %+v, want %d left", got, left)
			}
		})
	}
}

// contradicted says that Klarna refused the claim at hand after it may have said yes.
func (w *world) contradicted() bool {
	records := w.records()
	c := records[len(records)-1].State.Claim
	return c != nil && c.Contradicted
}
