package worker

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// S75: RENEWALS is made anew and counts from 1 again, and a job at a used sequence
// conflicts as the one before did: it gets its own result, once, and its dead letter is kept.
func TestConflictAtAUsedSequence(t *testing.T) {
	w := newWorld(t, "default", "other")
	both := func(o *Options) {
		other := o.Accounts[0]
		other.Name = "other"
		o.Accounts = append(o.Accounts, other)
	}
	larger := func(j map[string]any) {
		j["metadata"] = map[string]any{"plan": "premium"}
		j["customer_token"] = "ok-3"
	}
	stop := w.start(both)
	w.publish(w.due("s75", "ok-1", 1))
	w.awaitEmpty()
	w.publish(w.due("s75", "ok-2", 1)) // the ID with another token, at sequence 2
	w.awaitEmpty()

	for _, next := range []struct {
		account messages.Account
		payload []byte
	}{
		{"default", w.due("s75", "ok-3", 1, larger)}, // other bytes
		{"other", w.due("s75", "ok-2", 1)},           // the same bytes, which mean another charge there
	} {
		stop()
		if err := w.js.DeleteStream(t.Context(), messages.StreamJobs); err != nil {
			t.Fatal(err)
		}
		if err := Provision(t.Context(), w.js, topology.Provisioning{Accounts: []messages.Account{"default", "other"}}); err != nil {
			t.Fatal(err)
		}
		stop = w.start(both)
		w.publish(w.due("s75", "ok-1", 1))
		w.awaitEmpty()
		w.publishTo(next.account, next.payload, nil)
		w.awaitEmpty()
	}
	w.expect(1, "paid", "rejected conflict", "rejected conflict", "rejected conflict")
	if letters, payloads := w.deadLetters(); len(letters) < 2 || payloads[0] == payloads[1] {
		t.Errorf("got dead letters %+v", letters)
	}
}

// No loop is without a bound: a machine that finds no answer, and a journal that
// refuses every record although it has nothing newer, send the job back.
func TestDeciding(t *testing.T) {
	w := newWorld(t)
	records, err := journal.Open(t.Context(), w.js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions()
	o.Accounts = []Account{{Name: "default"}}
	a := accountOf(t, w.js, o, records)
	asked := 0
	_, _, _, err = a.handler.decide(t.Context(), &job{service: charge}, journal.Entry{}, func(*job, journal.State) journal.Transition {
		if asked++; asked > 100 {
			t.Fatal("asked a hundred times")
		}
		return journal.Transition{Then: journal.FileApart, Reason: messages.ReasonConflict}
	})
	if !errors.Is(err, errNoDecision) {
		t.Errorf("got %v after %d rounds", err, asked)
	}
}

func TestJournalThatRefusesItsLast(t *testing.T) {
	w := newWorld(t)
	var claims atomic.Int64
	var refuses atomic.Bool
	refuses.Store(true)
	stop := w.startOn(tap{before: func(m *nats.Msg) error {
		if strings.HasPrefix(m.Subject, "renewals.charging.") && refuses.Load() {
			claims.Add(1)
			return &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence, Description: "wrong last sequence: 0"}
		}
		return nil
	}})
	defer stop()
	w.publish(w.due("s75-behind", "ok-1", 1))
	w.await("several deliveries", func() bool { return claims.Load() >= 4 })
	if took := w.monotonic(); claims.Load() > 4+int64(took.Milliseconds()/10) {
		t.Errorf("claimed %d times within %s: nothing slows it", claims.Load(), took)
	}
	refuses.Store(false)
	w.awaitEmpty()
	w.expect(1, "paid")
}

// S40: what comes to light after a result is another dead letter than the result's: it
// is the only one that names the order.
func TestLetterAboutAnOrderAfterDunning(t *testing.T) {
	w := newWorld(t)
	payload := w.due("e01", "ok-1", 1)
	j := &job{delivery: delivery{data: payload, sequence: 7, account: "default"}, service: charge}
	for i, next := range []journal.Transition{
		{Reason: messages.ReasonIdempotencyWindowExpired, Key: messages.IdempotencyKey("a1")},
		{Reason: messages.ReasonOrderAfterDunning, Key: messages.IdempotencyKey("a1"), Made: "order-2"},
		{Reason: messages.ReasonOrderAfterDunning, Key: messages.IdempotencyKey("a1"), Made: "order-2"}, // again, after a crash
	} {
		ack, err := w.js.PublishMsg(t.Context(), deadLetter(j, next, w.now()))
		if err != nil || ack.Duplicate != (i == 2) {
			t.Errorf("letter %d, %s: got %+v, %v", i, next.Reason, ack, err)
		}
	}
}
