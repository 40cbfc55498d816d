package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// twoAccounts starts a worker of two accounts; ready says why each waits.
func twoAccounts(w *world, change ...func(*Options)) *Worker {
	w.t.Helper()
	var worker *Worker
	w.startWith(&worker, append([]func(*Options){func(o *Options) {
		second := o.Accounts[0]
		second.Name = "other"
		o.Accounts = append(o.Accounts, second)
	}}, change...)...)
	return worker
}

// why an account waits for its settings.
func (w *Worker) why(name messages.Account) string {
	if running := w.running.Load(); running != nil {
		for _, a := range *running {
			if a.config.Name == name {
				return a.paused()[gate.PauseSettings]
			}
		}
	}
	return ""
}

// S82: an account whose consumer is changed to headers only, or deleted, waits by name; the other goes on, and nothing is
// rejected.
func TestOneAccountsConsumer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, says string
		spoil      func(w *world)
	}{
		{"headers only", "headers_only", func(w *world) {
			w.consumerChanged(topology.ConsumerName("default"), func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true })
		}},
		{"deleted", topology.ConsumerName("default"), func(w *world) {
			if err := w.js.DeleteConsumer(w.t.Context(), messages.StreamJobs, topology.ConsumerName("default")); err != nil {
				w.t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "default", "other")
			worker := twoAccounts(w)
			w.await("the worker", func() bool { return worker.Ready() == nil })
			tt.spoil(w)
			w.publish(w.due("a", "ok-1", 1)) // at once: no verification has run
			w.publishTo("other", w.due("b", "ok-2", 1), nil)
			w.await("the account's pause, by name", func() bool { return strings.Contains(worker.why("default"), tt.says) })
			w.await("the other account's result", func() bool { return w.left() == 1 })
			if err := worker.Ready(); err != nil {
				t.Errorf("Ready: %v, want the other account to be served", err)
			}
			w.expect(1, "paid")
			if _, err := w.provisions(topology.Provisioning{}); err != nil {
				t.Fatal(err)
			}
			w.awaitEmpty()
			w.expect(2, "paid", "paid")
			if why := worker.why("default"); why != "" {
				t.Errorf("still waits: %s", why)
			}
		})
	}
}

// S82: a job that comes without its body goes back, whenever the consumer was last looked at.
func TestHeadersOnlyBetweenTwoLooks(t *testing.T) {
	w := newWorld(t, "default", "other")
	w.verifyEvery = time.Hour
	worker := twoAccounts(w)
	w.await("the worker", func() bool { return worker.Ready() == nil })
	w.consumerChanged(topology.ConsumerName("default"), func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true })
	w.publish(w.due("a", "ok-1", 1))
	w.await("the account's pause", func() bool { return strings.Contains(worker.why("default"), "headers_only") })
	w.expect(0)
	// A publisher that writes the server's header gains nothing.
	w.publishTo("other", nil, nats.Header{msgSize: []string{"7"}})
	w.await("its verdict", func() bool { return w.left() == 1 })
	w.expect(0, "rejected invalid")
}

// S82: a consumer that is missing at the start stops its account alone; where none can work, the start fails and says
// what to do.
func TestConsumerMissingAtTheStart(t *testing.T) {
	w := newWorld(t)
	worker := twoAccounts(w)
	w.await("the worker", func() bool { return worker.Ready() == nil && worker.why("other") != "" })
	if why := worker.why("other"); !strings.Contains(why, "of account other") || !strings.Contains(why, "renewals provision") {
		t.Errorf("other waits: %q", why)
	}
	if err := w.js.DeleteConsumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default")); err != nil {
		t.Fatal(err)
	}
	alone, err := New(w.js, func() Options {
		o := DefaultOptions()
		o.Name, o.Accounts = "alone", worker.opts.Accounts[:1]
		return o
	}())
	if err != nil {
		t.Fatal(err)
	}
	if err := alone.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "renewals provision") {
		t.Errorf("Run: %v, want what to do", err)
	}
}

// S59, S73: what the server tells of is noticed at once, not within a minute, and told by metric, too.
func TestNoticedAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, stream, consumer, setting string
		spoil                           func(w *world)
	}{
		{name: "the journal's age", stream: messages.StreamJournal, setting: "max_age", spoil: func(w *world) {
			w.changed(messages.StreamJournal, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
		}},
		{name: "sealed", stream: messages.StreamJobs, setting: "sealed", spoil: func(w *world) {
			w.changed(messages.StreamJobs, func(c *jetstream.StreamConfig) { c.Sealed = true })
		}},
		{name: "paused", stream: messages.StreamJobs, consumer: topology.ConsumerName("default"), setting: "pause_until", spoil: func(w *world) {
			if _, err := w.js.PauseConsumer(w.t.Context(), messages.StreamJobs, topology.ConsumerName("default"), time.Now().Add(time.Hour)); err != nil {
				w.t.Fatal(err)
			}
		}},
		{name: "no bucket", setting: "missing", spoil: func(w *world) {
			if err := w.js.DeleteKeyValue(w.t.Context(), topology.BucketWorkers); err != nil {
				w.t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.verifyEvery = time.Hour
			var worker *Worker
			registry := prometheus.NewRegistry()
			w.startWith(&worker, func(o *Options) { o.Metrics = NewMetrics(registry) })
			w.await("the worker", func() bool { return worker.Ready() == nil })
			tt.spoil(w)
			w.await("Ready to say it", func() bool {
				err := worker.Ready()
				says := tt.setting
				if says == "missing" {
					says = "bucket " + topology.BucketWorkers
				}
				return err != nil && strings.Contains(err.Error(), says)
			})
			if v := metric(t, registry, "renewals_deviation", tt.setting); v != 1 {
				t.Errorf("renewals_deviation is %v, want 1", v)
			}
			if v := metric(t, registry, "renewals_account_paused", gate.PauseSettings); v != 1 {
				t.Errorf("renewals_account_paused is %v, want 1", v)
			}
		})
	}
}

// An age that is changed by hand, under a running worker, brings nothing back either.
func TestAgeChangedByHand(t *testing.T) {
	const before, after, margin = 30 * 24 * time.Hour, 120 * 24 * time.Hour, topology.RetentionMargin
	running, now := new(memory), time.Now()
	remembers := func(passed, retention, want time.Duration) {
		t.Helper()
		running.learn(now.Add(passed), retention)
		if got := running.reach(); got != want {
			t.Errorf("after %s, with an age of %s: periods of the last %s, want %s", passed, retention, got, want)
		}
	}
	const day = 24 * time.Hour
	remembers(0, before, before-margin)
	remembers(10*day, after, before-margin+10*day)
	remembers(200*day, after, after-margin)
	remembers(200*day, 3*time.Second, 0) // somebody emptied it
	remembers(201*day, after, day)       // what falls due from then on is charged
}
