package worker

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
)

// S76: what goes on beside the jobs begins again after a panic, says so, and never quotes what it panicked with.
func TestBackgroundGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		var told bytes.Buffer
		s := survivor{metrics: NewMetrics(registry), log: zerolog.New(&told)}
		ctx, stop := context.WithCancel(t.Context())
		runs := 0
		s.run(ctx, "sweeper", func(context.Context) {
			if runs++; runs < 3 {
				panic("secret-token")
			}
			stop()
		})
		if n := metric(t, registry, "renewals_panics_total", ""); runs != 3 || n != 2 {
			t.Errorf("got %d runs and %v panics, want 3 and 2", runs, n)
		}
		if log := told.String(); !strings.Contains(log, `"task":"sweeper"`) || strings.Contains(log, "secret-token") {
			t.Errorf("got the log %s", log)
		}
	})
}

// S76: records whose state is valid JSON and nonsense, a day old: the sweeper
// lives, whoever looks is told which they are, and others flow.
func TestNonsenseState(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := newWorld(t)
	for id, state := range map[messages.SubscriptionID]string{
		"open": `{"v":1,"phase":"charging"}`, "pending": `{"v":1,"phase":"pending","claim":{"key":"k"}}`, "odd": `{"v":1,"phase":"refunded"}`,
	} {
		m := nats.NewMsg(messages.RecordAddress{Kind: messages.KindCharging, Renewal: messages.NewRenewal(id, "2026-12"), Account: "default"}.Subject())
		m.Header.Set(messages.HeaderState, state)
		if _, err := w.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		w.publish(w.due(string(id), "ok-1", 1))
	}
	w.advance(26 * 3600e9)
	w.publish(w.due("ours", "ok-2", 1))
	w.start(func(o *Options) { o.Metrics = NewMetrics(registry) })
	w.await("the other job's result", func() bool { return w.left() == 3 })
	o, err := desk.Look(t.Context(), w.js, w.now())
	if err != nil {
		t.Fatal(err)
	}
	if a := o.Accounts[0]; len(a.Unreadable) != 3 || a.Human() == "" {
		t.Errorf("got %q, want three unreadable records", a.Unreadable)
	}
	if n := metric(t, registry, "renewals_panics_total", ""); n != 0 {
		t.Errorf("got %v panics", n)
	}
	if n := len(w.klarna.Simulator.Books().Orders); n != 1 {
		t.Errorf("got %d orders, want the other job's alone", n)
	}
}
