package test

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// TestParkedThroughAFullQuota: the account's quota is full at the moment when a parked job comes out. The server takes its schedule
// for done and never tries again; found by TestChaosCluster, where twenty jobs were still waiting a minute after they were due. S77.
func TestParkedThroughAFullQuota(t *testing.T) {
	t.Parallel()
	node := cluster(t, 1)[0]
	w := &world{t: t, store: t.TempDir(), port: node.port}
	var err error
	if w.klarna, err = klarnasim.Start(klarnasim.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.klarna.Close)
	w.connect()
	w.provision()
	w.start(nil, "work")
	w.awaitWorkers(1)

	due := time.Now().Add(6 * time.Second) // time for a busy machine to park it
	w.publish(job(1, "ok-1", func(j map[string]any) { j["due_at"] = due.UTC().Format(time.RFC3339) }))
	parked := func() int {
		stream, err := w.js.Stream(t.Context(), messages.StreamLater)
		if err != nil {
			return -1 // while the broker reads its configuration again it does not answer
		}
		return int(stream.CachedInfo().State.Msgs)
	}
	await(t, time.Until(due), "the job to be parked", func() bool { return parked() == 1 && w.left() == 0 })
	node.limit(exhausted)
	pause(time.Until(due) + 2*time.Second)
	node.limit(unlimited)
	await(t, time.Minute, "the result", func() bool { return parked() == 0 && len(w.results()) == 1 })
	if r := w.results()[0]; r.Kind != "paid" || len(w.klarna.Simulator.Books().Orders) != 1 {
		t.Errorf("%s with %d orders, want paid with one", r.Kind, len(w.klarna.Simulator.Books().Orders))
	}
}
