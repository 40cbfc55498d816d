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
	w, nodes := clusterWorld(t, 3, klarnasim.Options{})
	await(t, 30*time.Second, "the streams", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return worker.Provision(ctx, w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, Replicas: 3}) == nil
	})
	var r racers
	for i := range r {
		nc, err := nats.Connect("nats://" + nodes[i%len(nodes)].addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if r[i], err = journal.Open(t.Context(), js, zerolog.Nop()); err != nil {
			t.Fatal(err)
		}
	}
	const renewals = 100
	for n := range renewals {
		name := hostile[n%len(hostile)]
		renewal := messages.NewRenewal(messages.SubscriptionID(name), messages.Period(fmt.Sprintf("%s %d", name[:min(len(name), 40)], n)))
		first := r.race(t, renewal, 0)
		if first == 0 {
			t.Fatalf("%s: none of %d is stored", renewal, len(r))
		}
		if second := r.race(t, renewal, first); second <= first {
			t.Errorf("%s: none of %d follows record %d", renewal, len(r), first)
		}
	}
	if stored := w.journalInfo(func(*jetstream.StreamInfo) bool { return true }).State.Msgs; stored != 2*renewals {
		t.Errorf("records of %d races: %d", 2*renewals, stored)
	}
}

// racing is how many race.
const racing = 10

// racers write into one journal, each on a connection of its own.
type racers [racing]*journal.Journal

// race lets all of them write a record of one renewal at once, each under a subject of its own, and returns the sequence of the one.
func (r racers) race(t *testing.T, renewal messages.Renewal, last uint64) (won uint64) {
	t.Helper()
	var (
		together sync.WaitGroup
		ready    = make(chan struct{})
		sequence [racing]uint64
		problem  [racing]error
	)
	for i, j := range r {
		address := messages.RecordAddress{Kind: messages.Kinds()[i], Renewal: renewal, Due: int64(1796083200 + i), Account: messages.Account(fmt.Sprintf("account-%d", i%3))}
		together.Go(func() {
			<-ready
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			sequence[i], problem[i] = j.Write(ctx, &nats.Msg{Subject: address.Subject(), Header: nats.Header{}, Data: []byte("{}")}, renewal, last)
		})
	}
	close(ready)
	together.Wait()
	for i, err := range problem {
		switch {
		case err == nil && won != 0:
			t.Errorf("%s after %d: %d and %d are stored", renewal, last, won, sequence[i])
		case err == nil:
			won = sequence[i]
		case !errors.Is(err, journal.ErrLost):
			t.Errorf("%s after %d: %v, want it lost", renewal, last, err)
		}
	}
	return won
}
