package worker

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// What waking rests on: a message that was naked with a delay is handed out again at once when its delivery is naked again without
// one, and such a nak never brings back what was acknowledged. Where the message is out again already, it is handed out once more,
// and that is all.
func TestNakOfAWaitingMessage(t *testing.T) {
	js := broker.JetStream(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	jobs, err := js.CreateConsumer(t.Context(), "JOBS", jetstream.ConsumerConfig{Durable: "jobs", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	next := func(delivery uint64) jetstream.Msg {
		t.Helper()
		m, err := jobs.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatalf("delivery %d: %v", delivery, err)
		}
		if meta, err := m.Metadata(); err != nil || meta.NumDelivered != delivery || meta.Sequence.Stream != 1 {
			t.Fatalf("delivery %+v (%v), want number %d of the first message", meta, err, delivery)
		}
		return m
	}
	// A nak is asked for an answer here, so that the server is known to have it.
	wake := func(m jetstream.Msg) {
		t.Helper()
		if _, err := js.Conn().RequestWithContext(t.Context(), m.Reply(), nak); err != nil {
			t.Fatal(err)
		}
	}
	none := func(when string) {
		t.Helper()
		batch, err := jobs.FetchNoWait(1)
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			t.Errorf("%s: %s is handed out again", when, m.Reply())
		}
	}
	if _, err := js.Publish(t.Context(), "jobs", nil); err != nil {
		t.Fatal(err)
	}

	first := next(1)
	if err := first.NakWithDelay(time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := first.Nak(); !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		t.Errorf("the client's own second nak: %v; if it sends one now, use it", err)
	}
	none("before the delay is over")
	wake(first)
	second := next(2)

	wake(first) // it is out already
	wake(first)
	third := next(3)
	none("after one nak too many")

	if err := third.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range []jetstream.Msg{first, second, third} {
		wake(m)
	}
	none("after its ack")
	info, err := jobs.Info(t.Context())
	if err != nil || info.NumAckPending != 0 || info.NumPending != 0 || info.NumRedelivered != 0 {
		t.Errorf("consumer %+v (%v), want nothing pending", info, err)
	}
}

// acks are all acknowledgements that the workers of a world send.
type acks struct {
	mu  sync.Mutex
	all []*nats.Msg
}

func (w *world) acks() *acks {
	w.t.Helper()
	a := new(acks)
	sub, err := w.js.Conn().Subscribe("$JS.ACK.>", func(m *nats.Msg) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.all = append(a.all, m)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return a
}

// delayed are the naks with a delay, by the reply subject of the delivery.
func (a *acks) delayed(t *testing.T) map[string]time.Duration {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	delays := map[string]time.Duration{}
	for _, m := range a.all {
		options, ok := strings.CutPrefix(string(m.Data), string(nak)+" ")
		if !ok {
			continue
		}
		var asked struct{ Delay time.Duration }
		if err := json.Unmarshal([]byte(options), &asked); err != nil {
			t.Fatalf("%s: %v", m.Data, err)
		}
		delays[m.Subject] = asked.Delay
	}
	return delays
}

// unhurried is a ladder on which a job that waits has its second delivery after the end of any test.
func unhurried(o *Options) { o.RetryDelays = []time.Duration{20 * time.Minute} }

// S95: a job that waits for the claim of another has its result as soon as that is settled, whoever settles it here.
func TestWokenWhenTheClaimEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, token string
		first       messages.Kind // the record that ends the claim
	}{
		{name: "paid", token: "ok-1", first: messages.KindPaid},
		{name: "refused", token: "soft-decline-1", first: messages.KindDunning},
		{name: "swept up", token: "500-bare-1", first: messages.KindUnresolved},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			acks, ends := w.acks(), make(chan struct{})
			w.startOn(tap{before: func(m *nats.Msg) error {
				if is(m, tt.first) {
					w.hold(ends)
				}
				return nil
			}}, unhurried)
			w.publish(w.due("s95", tt.token, 1))
			w.await("the claim", func() bool { return len(w.records()) > 0 })
			before := 0
			if tt.first == messages.KindUnresolved { // its job waits for the ladder, too
				w.await("its job to go back", func() bool { return len(acks.delayed(t)) == 1 })
				before = 1
			}
			w.publish(w.due("s95", "ok-2", 2))
			w.await("the second to go back", func() bool { return len(acks.delayed(t)) == before+1 })
			if results := w.results(); len(results) != 0 {
				t.Errorf("results while the claim is open: %v", results)
			}
			if tt.first == messages.KindUnresolved {
				w.advance(26 * time.Hour)
			}
			close(ends)
			w.await("both results", func() bool { return len(w.results()) == 2 })
			if results := w.results(); results[0].Kind != tt.first || results[0].ID != "s95/2026-12/1" || results[1].ID != "s95/2026-12/2" {
				t.Errorf("results: %v", results)
			}
		})
	}
}

// S95: a job that waits for what another worker settles asks again within a minute, however high on the ladder it is.
func TestAsksAgainWithinAMinute(t *testing.T) {
	w := newWorld(t)
	acks, ends := w.acks(), make(chan struct{})
	w.startOn(tap{before: func(m *nats.Msg) error {
		if is(m, messages.KindPaid) {
			w.hold(ends)
		}
		return nil
	}}, oneHand, unhurried)
	w.publish(w.due("s95", "ok-1", 1))
	w.await("the claim", func() bool { return len(w.records()) == 1 })
	var other *Worker
	w.startWith(&other, unhurried)
	w.publish(w.due("s95", "ok-1", 2))
	w.await("the second to go back", func() bool { return len(acks.delayed(t)) == 1 })
	close(ends)
	w.await("the first result", func() bool { return len(w.results()) == 1 })
	for reply, delay := range acks.delayed(t) {
		if delay <= 0 || delay > journal.MaxWait {
			t.Errorf("it asks again after %s, want at most %s", delay, journal.MaxWait)
		}
		if err := w.js.Conn().Publish(reply, nak); err != nil { // so the minute is over
			t.Fatal(err)
		}
	}
	w.awaitEmpty()
	w.expect(1, "paid", "rejected already_paid")
}

// The claim may end after the machine has seen it and before the job is remembered: it is looked at once more.
func TestClaimEndsBeforeItsWaiterIsRemembered(t *testing.T) {
	w := newWorld(t)
	var worker *Worker
	w.startWith(&worker, unhurried)
	w.await("the worker", func() bool { return worker.Ready() == nil })
	if _, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "APART", Subjects: []string{"apart"}}); err != nil {
		t.Fatal(err)
	}
	sub, err := w.js.Conn().SubscribeSync("handed")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.js.CreatePushConsumer(t.Context(), "APART", jetstream.ConsumerConfig{DeliverSubject: "handed", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.js.Publish(t.Context(), "apart", nil); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsgWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	back := journal.Later(time.Hour)
	back.Waits = messages.NewRenewal("s95", "2026-12") // which has no claim by now
	(*worker.running.Load())[0].handler.finisher.finish(&job{delivery: delivery{msg: m}}, back, nil)
	if again, err := sub.NextMsg(10 * time.Second); err != nil || !strings.HasPrefix(again.Reply, "$JS.ACK.APART.") {
		t.Errorf("handed out again: %v, %v", again, err)
	}
}

// A worker remembers so many waiting jobs and no more, each until its delay is over.
func TestWakerForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var woken []string
		w := newWaker(func(reply string, data []byte) error {
			if string(data) != "-NAK" {
				t.Errorf("%s: %q", reply, data)
			}
			woken = append(woken, reply)
			return nil
		})
		held := func(n int) {
			t.Helper()
			sum := 0
			for _, all := range w.waiting {
				sum += len(all)
			}
			if w.n != n || sum != n {
				t.Errorf("remembered: %d, counted as %d, want %d", sum, w.n, n)
			}
		}
		for n := range maxWoken {
			if !w.remember(messages.Renewal(strconv.Itoa(n/3)), strconv.Itoa(n), journal.MaxWait-time.Duration(n%2)*50*time.Second) {
				t.Fatalf("job %d is not remembered", n)
			}
		}
		if w.remember("one too many", "x", time.Minute) {
			t.Error("one job too many is remembered")
		}
		held(maxWoken)
		open, ended := journal.State{Phase: journal.PhaseCharging}, journal.State{Phase: journal.PhasePaid}
		w.ended("0", open)
		w.ended("one too many", ended)
		if len(woken) != 0 {
			t.Errorf("woken: %v, want none", woken)
		}
		w.ended("0", ended)
		if got := strings.Join(woken, " "); got != "0 1 2" {
			t.Errorf("woken: %s, want all three of the renewal", got)
		}
		w.ended("0", ended)
		if len(woken) != 3 {
			t.Errorf("woken twice: %v", woken)
		}
		held(maxWoken - 3)

		gate.Sleep(t.Context(), 20*time.Second) // half of the delays are over
		woken = nil
		if w.ended("1", ended); strings.Join(woken, " ") != "4" {
			t.Errorf("woken: %v, want the one that still waits", woken)
		}
		if !w.remember("later", "y", time.Minute) {
			t.Error("a job is not remembered although others are out again")
		}
		held(maxWoken/2 - 2) // 0, 2 and 4 are woken, "later" has come
		gate.Sleep(t.Context(), journal.MaxWait)
		w.ended("nobody waits for this", ended)
		held(0)

		w.remember("short", "z", time.Second)
		gate.Sleep(t.Context(), 2*time.Second) // it is out again, and not forgotten yet
		held(1)
		woken = nil
		if w.ended("short", ended); len(woken) != 0 {
			t.Errorf("woken: %v, which was out again by itself", woken)
		}
		held(0)
		if len(w.waiting) != 0 {
			t.Errorf("renewals that nobody waits for: %d", len(w.waiting))
		}
	})
}
