package test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// S8: TestKilledInABatch kills a worker with SIGKILL while it commits many records together, in the middle of it and before it hears
// what became of them: every job still ends in one result, and Klarna has one order for each.
func TestKilledInABatch(t *testing.T) {
	t.Parallel()
	const jobs = 48
	together := []string{"RENEWALS_BATCHES=sync-always"}
	for _, tt := range []struct {
		step    string
		pattern string // of what the worker sends
		stored  bool
	}{
		{"claims, some of them sent", "Nats-Batch-Sequence: 9\r\n", false},
		{"claims, all sent but the last", "Nats-Batch-Commit: 1\r\n", false},
		{"claims stored, the answer lost", "Nats-Batch-Commit: 1\r\n", true},
		{"the first results not sent", "HPUB renewals.paid.", false},
		{"the first results stored, the answers lost", "HPUB renewals.paid.", true},
	} {
		t.Run(tt.step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, klarnasim.Options{})
			w.provision()
			for n := range jobs {
				w.publish(job(n, fmt.Sprint("ok-", n)))
			}
			g := newGate(t, w.broker.Addr().String(), tt.pattern, tt.stored)
			p := w.start(append(together, "NATS_URL=nats://"+g.addr), "work")
			g.await(t, p)
			p.kill()

			w.start(together, "work")
			await(t, time.Minute, "the jobs to leave the stream", func() bool { return w.left() == 0 })
			w.settledOnce(jobs)
			if w.inBatches() == 0 {
				t.Error("no record was committed in a batch")
			}
		})
	}
}

// inBatches counts the journal's records that were committed together with others.
func (w *world) inBatches() (n int) {
	w.t.Helper()
	for _, r := range w.records() {
		if r.Batch != "" {
			n++
		}
	}
	return n
}

// TestLeaderKilledInABatch has four workers' journals commit batches on three nodes while the leader is killed, twice: whatever a writer
// was told is stored is stored, once, where it was told, and what it was not told is stored at most once.
func TestLeaderKilledInABatch(t *testing.T) {
	long(t)
	t.Parallel()
	w, nodes := clusterWorld(t, 3, klarnasim.Options{})
	await(t, 30*time.Second, "the streams", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return worker.Provision(ctx, w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, Replicas: 3}) == nil
	})
	const writers, hands, renewals = 4, 30, 8
	var confirmed, together atomic.Int64
	var all sync.WaitGroup
	for i := range writers {
		o := newBatchWriter(t, urls(nodes), &together)
		for h := range hands {
			all.Go(func() {
				for n := range renewals {
					o.chain(messages.NewRenewal(messages.SubscriptionID(fmt.Sprintf("%d-%d", i, h)), messages.Period(fmt.Sprint(n))), &confirmed)
				}
			})
		}
	}
	const records = writers * hands * renewals * 2
	for kill := range int64(2) {
		await(t, 2*time.Minute, "records", func() bool { return confirmed.Load() > (kill+1)*records/4 })
		leader := w.journalInfo(func(info *jetstream.StreamInfo) bool { return info.Cluster != nil && info.Cluster.Leader != "" }).Cluster.Leader
		node := nodes[int(leader[1]-'0')]
		node.kill()
		node.start()
		node.awaitListening()
	}
	all.Wait()
	if together.Load() == 0 {
		t.Error("no record was committed in a batch")
	}
	var info *jetstream.StreamInfo
	await(t, 30*time.Second, "the journal", func() bool {
		info = w.journalInfo(func(*jetstream.StreamInfo) bool { return true })
		return info.State.Msgs >= records
	})
	if info.State.Msgs != records || confirmed.Load() != records {
		t.Errorf("%d records stored, %d confirmed, want %d of each", info.State.Msgs, confirmed.Load(), records)
	}
	t.Logf("%d of %d records were committed together with others", together.Load(), records)
}

// A batchWriter is a worker's journal.
type batchWriter struct {
	*journal.Journal
	t *testing.T
}

func newBatchWriter(t *testing.T, urls string, together *atomic.Int64) batchWriter {
	t.Helper()
	nc, err := nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	b := journal.NewBatches(journal.BatchAuto, func(batch bool, n int) {
		if batch {
			together.Add(int64(n))
		}
	})
	b.Learn(jetstream.StreamConfig{Replicas: 3, AllowAtomicPublish: true})
	return batchWriter{Journal: j.Observed(nil, b, func() {}, func(string, error) {}), t: t}
}

// unanswered says that asking again may help: not where a record cannot be read.
func unanswered(err error) bool {
	_, unreadable := errors.AsType[*journal.UnreadableError](err)
	return err != nil && !unreadable
}

// chain writes a renewal's two records, one on top of the other, each as often as it takes.
func (o batchWriter) chain(r messages.Renewal, confirmed *atomic.Int64) {
	last := uint64(0)
	state, err := journal.State{Phase: journal.PhaseNone}.Encode()
	if err != nil {
		o.t.Error(err)
		return
	}
	for range 2 {
		m := &nats.Msg{
			Subject: messages.RecordAddress{Kind: messages.KindCharging, Renewal: r, Due: 1796083200, Account: "default"}.Subject(),
			Header:  nats.Header{"ce-id": {uuid.NewString()}, messages.HeaderState: {state}}, Data: make([]byte, 400),
		}
		sequence, err := o.Write(o.t.Context(), m, r, last)
		if err != nil && !errors.Is(err, journal.ErrLost) {
			o.t.Errorf("%s: %v", r, err)
			return
		}
		var at journal.Entry
		for at, err = o.Last(o.t.Context(), r); (unanswered(err) || err == nil && at.Sequence <= last) && o.t.Context().Err() == nil; at, err = o.Last(o.t.Context(), r) {
			pause(50 * time.Millisecond)
		}
		if at.Header.Get("ce-id") != m.Header.Get("ce-id") || sequence != 0 && sequence != at.Sequence {
			o.t.Errorf("%s: told %d, and the last record is %d, of another writer or another write", r, sequence, at.Sequence)
		}
		last = at.Sequence
		confirmed.Add(1)
	}
}
