package gate

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
)

func TestBreaker(t *testing.T) {
	open := func(*testing.T) (*Breaker, *[]string) {
		var said []string
		c := NewBreaker(func(reason string, open bool, _ string) {
			said = append(said, reason+" "+strconv.FormatBool(open))
		})
		return c, &said
	}
	t.Run("a run of nothing opens the breaker, an answer closes it", func(t *testing.T) {
		c, said := open(t)
		for range breakerRun - 1 {
			c.Hear(klarna.ClassUnknown)
		}
		c.Hear(klarna.ClassOK)
		for range breakerRun - 1 {
			c.Hear(klarna.ClassCut)
		}
		if c.pauses.Any() {
			t.Fatal("open after a run that an answer broke")
		}
		c.Hear(klarna.ClassNotSent)
		c.Hear(klarna.ClassUnknown) // of a job that was at work already
		if !c.pauses.Has(PauseBreaker) {
			t.Fatal("not open")
		}
		if c.probe(t.Context()); !c.pauses.Any() {
			t.Error("closed by nothing")
		}
		c.Hear(klarna.ClassRefused)
		if c.pauses.Any() || len(*said) != 2 {
			t.Errorf("not closed: %v", *said)
		}
	})
	t.Run("S55: no job is the probe while the canary is not well", func(t *testing.T) {
		c, _ := open(t)
		c.Open(PauseBreaker, "")
		c.Open(PauseNotEvaluated, "")
		c.ticket.Store(true)
		c.Retry() // a probe may go, were it not for that
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if c.probe(ctx) || c.Admit() {
			t.Error("a job is pulled, or let through")
		}
		c.Close(PauseNotEvaluated)
		if !c.probe(t.Context()) || !c.Admit() || c.Admit() {
			t.Error("not one job afterwards, while the breaker is open")
		}
	})
	t.Run("rate limits and waiting end with the worker", func(t *testing.T) {
		c, _ := open(t)
		c.Open(PauseNotEvaluated, "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if c.probe(ctx) {
			t.Error("probe after the end")
		}
	})
}
