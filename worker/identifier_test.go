package worker

import (
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// An order id that would not fit into a header is no order lost. The
// result has it whole, the state its hash, and everything that goes on from the state asks Klarna by the whole.
func TestLongOrderIDIsNoOrderLost(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("long", "long-id-70000-ok-1", 1))
	w.publish(w.due("cut", "created-cutx2-long-id-70000-ok-1", 1))
	w.start(oneHand)
	w.awaitEmpty()
	w.expect(2, "paid", "paid")
	books := w.klarna.Simulator.Books()
	for i, p := range bodies[messages.Paid](w) {
		if len(p.OrderID) != 70000 || p.OrderID != books.Orders[i].OrderID {
			t.Errorf("order id of %d characters, want the 70000 of Klarna's", len(p.OrderID))
		}
	}
	for _, r := range w.results() {
		if id := r.State.Claim.OrderID; !strings.HasPrefix(id, "sha256:") || len(id) != 7+64 {
			t.Errorf("the state has %.80q, want a hash", id)
		}
	}
}

func TestLongOrderIDIsPolledAndCaptured(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("poll", "long-id-3000-pending-accept-1", 1, func(j map[string]any) { j["order"].(map[string]any)["auto_capture"] = false }))
	w.start()
	w.awaitEmpty()
	w.expect(1, "paid")
	if _, err := w.js.Publish(t.Context(), messages.CaptureSubject("default"), []byte(`{"id":"c1","subscription_id":"poll","period":"2026-12","reference":"long-id-30000-"}`)); err != nil {
		t.Fatal(err)
	}
	w.await("the capture", func() bool { return len(bodies[messages.Captured](w)) == 1 })
	c := bodies[messages.Captured](w)[0]
	if taken := w.klarna.Simulator.Books().Orders[0].Captures; len(taken) != 1 || c.CaptureID != taken[0].CaptureID || len(c.CaptureID) != 30000 {
		t.Errorf("capture id of %d characters; Klarna's books: %d captures", len(c.CaptureID), len(taken))
	}
}
