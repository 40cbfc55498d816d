package test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// On three nodes ten writers, each on a connection of its own, want to be the first of one renewal, and again to follow its first
// record. Each time one of them is stored, whatever kinds, due moments and accounts stand in their subjects: the filter of the
// compare-and-set is one string per renewal, and two different ones would not exclude each other.
func TestTenWritersOneRecord(t *testing.T) {
	t.Parallel()
	const writers = 10
	w, nodes := clusterWorld(t, 3, klarnasim.Options{})
	await(t, 30*time.Second, "the streams", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return worker.Provision(ctx, w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, Replicas: 3}) == nil
	})
	journals := make([]*journal.Journal, writers)
	for i := range journals {
		nc, err := nats.Connect("nats://" + nodes[i%len(nodes)].addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if journals[i], err = journal.Open(t.Context(), js, zerolog.Nop()); err != nil {
			t.Fatal(err)
		}
	}
	kinds := messages.Kinds()
	race := func(r messages.Renewal, last uint64) (won uint64) {
		t.Helper()
		var (
			together sync.WaitGroup
			ready    = make(chan struct{})
			sequence [writers]uint64
			problem  [writers]error
		)
		for i, j := range journals {
			address := messages.RecordAddress{Kind: kinds[i], Renewal: r, Due: int64(1796083200 + i), Account: messages.Account(fmt.Sprintf("account-%d", i%3))}
			together.Go(func() {
				<-ready
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				sequence[i], problem[i] = j.Write(ctx, &nats.Msg{Subject: address.Subject(), Header: nats.Header{}, Data: []byte("{}")}, r, last)
			})
		}
		close(ready)
		together.Wait()
		for i, err := range problem {
			switch {
			case err == nil && won != 0:
				t.Errorf("%s after %d: %d and %d are stored", r, last, won, sequence[i])
			case err == nil:
				won = sequence[i]
			case !errors.Is(err, journal.ErrLost):
				t.Errorf("%s after %d: %v, want it lost", r, last, err)
			}
		}
		return won
	}
	const renewals = 100
	for n := range renewals {
		name := hostile[n%len(hostile)]
		r := messages.NewRenewal(messages.SubscriptionID(name), messages.Period(fmt.Sprintf("%s %d", name[:min(len(name), 40)], n)))
		first := race(r, 0)
		if first == 0 {
			t.Fatalf("%s: none of %d is stored", r, writers)
		}
		if second := race(r, first); second <= first {
			t.Errorf("%s: none of %d follows record %d", r, writers, first)
		}
	}
	if stored := w.journalInfo(func(*jetstream.StreamInfo) bool { return true }).State.Msgs; stored != 2*renewals {
		t.Errorf("records of %d races: %d", 2*renewals, stored)
	}
}
