package gate

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
)

// TestBreaker: when the breaker opens and closes, and who may go meanwhile.
func TestBreaker(t *testing.T) {
	open := func(*testing.T) (*Breaker, *[]string) {
		var said []string
		b := NewBreaker(func(reason string, open bool, _ string) {
			said = append(said, reason+" "+strconv.FormatBool(open))
		})
		return b, &said
	}
	t.Run("a run of nothing opens the breaker, an answer closes it", func(t *testing.T) {
		b, said := open(t)
		for range breakerRun - 1 {
			b.Observe(klarna.ClassUnknown)
		}
		b.Observe(klarna.ClassOK)
		for range breakerRun - 1 {
			b.Observe(klarna.ClassCut)
		}
		if b.pauses.Any() {
			t.Fatal("open after a run that an answer broke")
		}
		b.Observe(klarna.ClassNotSent)
		b.Observe(klarna.ClassUnknown) // of a job that was at work already
		if !b.pauses.Has(PauseBreaker) {
			t.Fatal("not open")
		}
		if b.probe(t.Context()); !b.pauses.Any() {
			t.Error("closed by nothing")
		}
		b.Observe(klarna.ClassRefused)
		if b.pauses.Any() || len(*said) != 2 {
			t.Errorf("not closed: %v", *said)
		}
	})
	t.Run("S55: no job is the probe while the canary is not well", func(t *testing.T) {
		b, _ := open(t)
		b.Open(PauseBreaker, "")
		b.Open(PauseNotEvaluated, "")
		b.ticket.Store(true)
		b.Retry() // a probe may go, were it not for that
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, ok := b.Admit(); b.probe(ctx) || ok {
			t.Error("a job is pulled, or let through")
		}
		b.Close(PauseNotEvaluated)
		if !b.probe(t.Context()) {
			t.Error("no probe afterwards")
		}
		for n, want := range []bool{true, false} {
			if probe, ok := b.Admit(); probe != want || ok != want {
				t.Errorf("afterwards, while the breaker is open, job %d may go: %t, as the probe: %t", n, ok, probe)
			}
		}
		b.Close(PauseBreaker)
		if probe, ok := b.Admit(); probe || !ok {
			t.Errorf("with nothing paused a job may go: %t, as the probe: %t", ok, probe)
		}
	})
	t.Run("waiting ends with the worker", func(t *testing.T) {
		b, _ := open(t)
		b.Open(PauseNotEvaluated, "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if b.probe(ctx) {
			t.Error("probe after the end")
		}
	})
}
