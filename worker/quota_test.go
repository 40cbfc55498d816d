package worker

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// S59: a quota that is nearly taken is a warning with a metric, one that refuses the next record is named by Ready and Look
// before any record was refused; with room again the worker goes on, without a job to try it.
func TestQuotaIsNamedBeforeItRefuses(t *testing.T) {
	w := newWorld(t)
	w.verifyEvery = 50 * time.Millisecond
	registry := prometheus.NewRegistry()
	var worker *Worker
	w.startWith(&worker, func(o *Options) { o.Metrics = NewMetrics(registry) })
	w.await("the worker", func() bool { return worker.Ready() == nil })
	used := func() int64 {
		info, err := w.js.AccountInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return int64(info.Store)
	}
	// Enough that a few kilobytes are no tenth of it.
	for n := range 40 {
		if _, err := w.js.Publish(t.Context(), messages.DeadSubject("k", "default"), make([]byte, 100_000+n)); err != nil {
			t.Fatal(err)
		}
	}
	look := func() desk.Overview {
		o, err := desk.Look(t.Context(), w.js, w.now())
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	if o := look(); len(o.Warnings) != 0 || o.Deviation != "" {
		t.Errorf("without a quota: %v, %q", o.Warnings, o.Deviation)
	}
	w.store(used() * 100 / 93)
	w.await("the metric", func() bool { return metric(t, registry, "renewals_quota_ratio", "") >= 0.92 })
	if o := look(); len(o.Warnings) != 1 || !strings.Contains(o.Warnings[0], "93 % of the 4 MB that the NATS account may store are taken") || len(o.Deviations) != 0 {
		t.Errorf("nearly full: %v, %v", o.Warnings, o.Deviations)
	}
	if err := worker.Ready(); err != nil {
		t.Errorf("nearly full: %v", err)
	}

	w.store(used() + 4<<10)
	w.await("Ready to say it", func() bool {
		err := worker.Ready()
		return err != nil && strings.Contains(err.Error(), "journal: the journal takes no records: 100 % of the 4 MB that the NATS account may store")
	})
	if o := look(); len(o.Deviations) != 1 || !strings.Contains(o.Deviations[0], "raise its quota") {
		t.Errorf("full: %v, %v", o.Warnings, o.Deviations)
	}
	w.store(-1)
	w.await("the worker to go on", func() bool { return worker.Ready() == nil && metric(t, registry, "renewals_quota_ratio", "") == 0 })
}

// S59: a missing bucket is what Ready and Look name; that clocks cannot be compared without it is no other fault, and still
// nothing goes by the clock.
func TestBucketIsNamed(t *testing.T) {
	w := newWorld(t)
	var worker *Worker
	w.startWith(&worker)
	w.await("the worker", func() bool { return worker.Ready() == nil })
	if err := w.js.DeleteKeyValue(t.Context(), topology.BucketWorkers); err != nil {
		t.Fatal(err)
	}
	w.await("Ready to say it", func() bool {
		err := worker.Ready()
		return err != nil && strings.Contains(err.Error(), "bucket "+topology.BucketWorkers)
	})
	w.publish(w.due("sub", "ok-1", 1)) // waits
	w.advance(comparedFor + time.Second)
	if worker.clock.fault() == "" {
		t.Error("the clock is relied upon without a comparison")
	}
	if err := worker.Ready(); err == nil || strings.Contains(err.Error(), gate.PauseClock+":") {
		t.Errorf("Ready: %v, want the bucket alone", err)
	}
	if _, err := w.js.UpdateStream(t.Context(), func() jetstream.StreamConfig {
		s, err := w.js.Stream(t.Context(), messages.StreamDead)
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		c.MaxMsgs, c.MaxMsgsPerSubject = 5, 1
		return c
	}()); err != nil {
		t.Fatal(err)
	}
	o, err := desk.Look(t.Context(), w.js, w.now())
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(o.Deviations, "\n")
	if len(o.Deviations) != 3 || !strings.Contains(all, "bucket "+topology.BucketWorkers) || !strings.Contains(all, "setting max_msgs:") || !strings.Contains(all, "setting max_msgs_per_subject:") || !o.WorkersUnknown {
		t.Errorf("Look names %q, want the bucket and both settings", o.Deviations)
	}
	if len(o.Accounts) != 1 || o.Accounts[0].Backlog != 1 {
		t.Errorf("accounts %+v, want the one whose job waits", o.Accounts)
	}
	for _, a := range o.Accounts {
		if strings.Contains(a.Human(), "no worker") {
			t.Errorf("%s: %s, which nobody knows", a.Name, a.Human())
		}
	}
}

// Whoever opens the journal does not take reads that any replica may answer.
func TestOpenJournalWantsTheLeader(t *testing.T) {
	w := newWorld(t)
	w.changed(messages.StreamJournal, func(c *jetstream.StreamConfig) { c.AllowDirect = true })
	_, err := journal.Open(t.Context(), w.js, DefaultOptions().Log)
	if err == nil || !strings.Contains(err.Error(), "setting allow_direct: found true, expected false; run `renewals provision`") {
		t.Errorf("Open: %v, want a deviation of allow_direct", err)
	}
}

// A journal that is gone while jobs wait is not made anew in silence: not by Provision, and not by a worker that starts.
func TestMissingJournalIsNotMade(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("sub", "ok-1", 1))
	if err := w.js.DeleteStream(t.Context(), messages.StreamJournal); err != nil {
		t.Fatal(err)
	}
	there := func() bool {
		_, err := w.js.Stream(t.Context(), messages.StreamJournal)
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	for range 2 {
		if err := Provision(t.Context(), w.js, topology.Provisioning{Accounts: []messages.Account{"default"}}); !errors.Is(err, topology.ErrJournalMissing) || there() {
			t.Fatalf("Provision: %v, journal there %t", err, there())
		}
	}
	o := DefaultOptions()
	o.Name, o.Accounts = "alone", []Account{{Name: "default", Host: "klarna.example", Concurrency: 1}}
	worker, err := New(w.js, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Provision(t.Context(), topology.Provisioning{Accounts: []messages.Account{"default"}}); !errors.Is(err, topology.ErrJournalMissing) || there() {
		t.Errorf("the worker's Provision: %v, journal there %t", err, there())
	}
	if err := Provision(t.Context(), w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, AcceptEmptyJournal: true}); err != nil || !there() {
		t.Errorf("Provision that takes it on: %v", err)
	}
}
