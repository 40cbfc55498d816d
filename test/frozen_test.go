package test

import (
	"syscall"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// S26: the result cannot be published for a while
// after Klarna has answered: no second charge, and the job is not acknowledged before.
func TestBrokerAwayAfterTheCharge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	w.publish(job(1, "ok-1"))
	g := newGate(t, w.broker.Addr().String(), "HPUB renewals.paid.", false)
	p := w.start([]string{"NATS_URL=nats://" + g.addr}, "work")
	g.await(t, p)
	pause(4 * time.Second) // more than AckWait
	if w.left() != 1 {
		t.Error("the job was acknowledged before its result was recorded")
	}
	g.reopen()
	await(t, 30*time.Second, "the job to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(1)
}

// S31, S33: a worker is stopped while Klarna works,
// longer than its lease; another takes over; the first wakes with an answer in hand.
func TestFrozenDuringTheRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	w.publish(job(1, "slow-700-1"))
	first := w.start(nil, "work")
	await(t, 20*time.Second, "the request", func() bool {
		return len(w.klarna.Simulator.Books().Keys) > 0
	})
	if err := first.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.start(nil, "work")
	await(t, 30*time.Second, "the job to leave the stream", func() bool { return w.left() == 0 })
	if err := first.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.publish(job(2, "ok-2")) // whoever takes it, the first has had time to do harm
	await(t, 30*time.Second, "the second job", func() bool { return w.left() == 0 })
	pause(time.Second)
	w.settledOnce(2)
}

// S40: a worker holds a 200 and cannot record it;
// another records dunning for the same key. The order is never dropped.
func TestOrderInHandOfAFrozenWorker(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		second bool // attempt 2 is charged meanwhile
	}{{"corrected", false}, {"attempt 2 has followed", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, klarnasim.Options{})
			w.provision()
			const token = "ok-1"
			w.publish(job(1, token))
			g := newGate(t, w.broker.Addr().String(), "HPUB renewals.paid.", false)
			first := w.start([]string{"NATS_URL=nats://" + g.addr}, "work")
			g.await(t, first)

			// Klarna has forgotten the key and declines.
			w.klarna.Simulator.Reset()
			w.klarna.Simulator.SetToken(token, klarnasim.TokenState{Behaviour: "soft-decline"})
			second := w.start([]string{w.noGap()}, "work")
			await(t, 30*time.Second, "dunning", func() bool { return len(w.results()) == 1 })
			if tt.second {
				w.klarna.Simulator.SetToken(token, klarnasim.TokenState{})
				w.publish(job(1, token, func(j map[string]any) { j["id"], j["attempt"] = "1234001/2026-12/2", 2 }))
				await(t, 30*time.Second, "attempt 2", func() bool { return len(w.results()) == 2 })
			}
			second.kill()
			g.reopen()
			if !tt.second {
				await(t, 30*time.Second, "the correction", func() bool { return len(w.results()) == 2 })
				last := w.results()[1]
				if last.Kind != "paid" || last.Event["corrects"] != "dunning" || last.Event["idempotency_key"] != w.results()[0].Event["idempotency_key"] {
					t.Errorf("after dunning: %s %v, want paid that corrects it", last.Kind, last.Event)
				}
				return
			}
			var letter messages.DeadLetter
			await(t, 30*time.Second, "the dead letter", func() bool {
				dead, err := w.js.Stream(t.Context(), messages.StreamDead)
				if err != nil || dead.CachedInfo().State.Msgs == 0 {
					return false
				}
				m, err := dead.GetMsg(t.Context(), 1)
				if err != nil {
					return false
				}
				letter, err = messages.ParseDeadLetter(m.Header)
				return err == nil
			})
			if letter.Reason != messages.ReasonOrderAfterDunning {
				t.Errorf("dead letter: %s, want %s", letter.Reason, messages.ReasonOrderAfterDunning)
			}
			if got := w.results(); len(got) != 2 || got[1].Kind != "paid" || got[1].Event["corrects"] != nil {
				t.Errorf("results: %v, want dunning and attempt 2 paid", got)
			}
		})
	}
}
