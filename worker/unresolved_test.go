package worker

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// referenced gives a job both merchant references.
func referenced(j map[string]any) {
	order := j["order"].(map[string]any)
	order["merchant_reference1"], order["merchant_reference2"] = j["id"], "NL-7"
}

// Whichever way leads to unresolved, whoever writes the record, and of charges and captures alike: it has what a search at Klarna needs.
func TestEveryUnresolvedSaysWhereToSearch(t *testing.T) {
	t.Parallel()
	purge := func(w *world) {
		w.t.Helper()
		stream, err := w.js.Stream(w.t.Context(), messages.StreamJobs)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := stream.Purge(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	// tried has a worker make some tries under a key, and ends.
	tried := func(w *world, change ...func(*Options)) {
		w.t.Helper()
		before := len(w.orders())
		stop := w.start(change...)
		w.await("tries", func() bool { return len(w.orders()) > before+2 })
		stop()
	}
	charge := func(token string, happens func(*world)) func(*world) {
		return func(w *world) {
			w.publish(w.due("sub", token, 1, referenced))
			happens(w)
		}
	}
	capture := func(reference string, happens func(*world)) func(*world) {
		return func(w *world) {
			stop := w.start()
			w.publish(w.due("sub", "ok-1", 1, referenced, func(j map[string]any) { j["order"].(map[string]any)["auto_capture"] = false }))
			w.awaitEmpty()
			stop()
			c := part("c1", 599)
			c.Reference = reference
			w.capture(c)
			happens(w)
		}
	}
	for _, row := range []struct {
		name    string
		happens func(*world)
		reason  messages.Reason
		capture string // its own reference
	}{
		{name: "the key's window closes", happens: charge("500-1", func(w *world) {
			tried(w)
			w.advance(23 * time.Hour)
			w.start()
		}), reason: messages.ReasonIdempotencyWindowExpired},
		{name: "Klarna contradicts itself", happens: charge("500x2-lost-cancelled-1", func(w *world) {
			w.start()
			w.await("a contradiction", func() bool { return len(w.records()) > 0 && w.contradicted() })
			w.advance(23 * time.Hour)
		}), reason: messages.ReasonContradictoryAnswers},
		{name: "an order that stays pending", happens: charge("500x1-pending-1", func(w *world) {
			w.start()
			w.await("the order", func() bool { return len(bodies[messages.Pending](w)) > 0 })
			w.advance(49 * time.Hour)
		}), reason: messages.ReasonPendingTooLong},
		{name: "the job is gone: the sweep", happens: charge("500-1", func(w *world) {
			tried(w)
			purge(w)
			w.advance(26 * time.Hour)
			w.start()
		}), reason: messages.ReasonIdempotencyWindowExpired},
		{name: "the job breaks the worker", happens: charge("500-1", func(w *world) {
			tried(w)
			var broken atomic.Bool
			broken.Store(true)
			w.start(func(o *Options) { o.Accounts[0].Klarna = w.panicking(&broken) })
		}), reason: messages.ReasonPoison},
		{name: "a capture: the key's window closes", happens: capture("500-parcel", func(w *world) {
			tried(w)
			w.advance(23 * time.Hour)
			w.start()
		}), reason: messages.ReasonIdempotencyWindowExpired, capture: "500-parcel"},
		{name: "a capture whose job is gone: the sweep", happens: capture("500-parcel", func(w *world) {
			tried(w)
			purge(w)
			w.advance(26 * time.Hour)
			w.start()
		}), reason: messages.ReasonIdempotencyWindowExpired, capture: "500-parcel"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			began := w.now()
			row.happens(w)
			w.await("the result", func() bool { return len(bodies[messages.Unresolved](w)) > 0 })
			u := bodies[messages.Unresolved](w)[0]
			if u.Reason != row.reason {
				t.Errorf("unresolved %s, want %s", u.Reason, row.reason)
			}
			if u.OrderAmount != 1599 || u.PurchaseCurrency != "EUR" || u.MerchantReference1 != "sub/2026-12/1" || u.MerchantReference2 != "NL-7" {
				t.Errorf("got %d %s, references %q and %q; want what the order is known by", u.OrderAmount, u.PurchaseCurrency, u.MerchantReference1, u.MerchantReference2)
			}
			if u.Reference != row.capture || row.capture != "" && (u.CapturedAmount != 599 || u.OrderID == "") {
				t.Errorf("got a capture of %d of order %q with reference %q, want %q", u.CapturedAmount, u.OrderID, u.Reference, row.capture)
			}
			sent := u.LastSentAt.Add(700 * time.Millisecond) // the try timeout and the settle delay
			if u.FirstSentAt.Before(began.Add(-time.Second)) || u.LastSentAt.Before(u.FirstSentAt) || u.SearchUntil.Before(sent) || u.SearchUntil.After(sent.Add(3*time.Second)) {
				t.Errorf("first sent at %v, last at %v, search until %v; the test began at %v", u.FirstSentAt, u.LastSentAt, u.SearchUntil, began)
			}
			if n := len(u.CorrelationIDs); n == 0 || n > u.Tries || slices.Contains(u.CorrelationIDs, "") || u.LastError == "" && row.reason != messages.ReasonPendingTooLong {
				t.Errorf("got correlation ids %q of %d tries, last error %q", u.CorrelationIDs, u.Tries, u.LastError)
			}
		})
	}
}

// S71: the journal was set back to a claim under which more was sent than it remembers, and the claim's job is gone. The sweep leaves it
// alone until an operator has spoken; the record then covers what may be forgotten.
func TestSweepOfAJournalSetBack(t *testing.T) {
	w := newWorld(t)
	w.markEvery = 100 * time.Millisecond
	tried := func() {
		t.Helper()
		before := len(w.orders())
		stop := w.start()
		w.await("tries", func() bool { return len(w.orders()) > before+2 })
		w.marked()
		stop()
	}
	w.publish(w.due("sub", "500-1", 1, referenced))
	tried()
	copied := w.backUp(messages.StreamJournal)
	w.advance(5 * time.Hour)
	tried()
	last := w.now()
	stream, err := w.js.Stream(t.Context(), messages.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.restore(messages.StreamJournal, copied)
	w.advance(26 * time.Hour)
	w.start()
	w.pausedBy(pauseSetBack)
	w.accept()
	w.await("the sweep", func() bool { return len(bodies[messages.Unresolved](w)) > 0 })
	u := bodies[messages.Unresolved](w)[0]
	if u.Reason != messages.ReasonJournalRestored || u.FirstSentAt.After(w.began) || u.SearchUntil.Before(last) || u.MerchantReference2 != "NL-7" {
		t.Errorf("got %+v, want what was forgotten until %v covered", u, last)
	}
}
