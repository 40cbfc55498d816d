package test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// TestDefaultsOutlastASlowKlarna: the worker as it is shipped, with no setting but where its broker and its Klarna are, by https and in real
// time. A try times out after 65 s, under a claim that then has too little left for another: an order may exist all the same, so the
// key's clock runs on, and the next try comes when Klarna has surely finished (S33, S38).
func TestDefaultsOutlastASlowKlarna(t *testing.T) {
	t.Parallel()
	long(t)
	w, nodes := clusterWorld(t, 1, klarnasim.Options{Latency: 70 * time.Second})
	if err := worker.Provision(t.Context(), w.js, topology.Provisioning{Accounts: []messages.Account{"default"}}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "work")
	cmd.Env = append(w.env(), "NATS_URL=nats://"+nodes[0].addr())
	launch(t, cmd)
	w.publish(job(1, "ok-1"))
	claims := func() (all []journal.State) {
		for _, r := range w.records() {
			s, err := journal.ParseState(r.State)
			if err != nil {
				t.Fatal(err)
			}
			if r.Kind == string(messages.KindCharging) {
				all = append(all, s)
			}
		}
		return all
	}
	await(t, 2*time.Minute, "the end of the first try", func() bool { return len(claims()) > 1 })
	w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Latency = 0 })
	all := claims()
	first, tried := all[0].Claim, all[1].Claim
	if d := worker.DefaultOptions(); tried.Tries != 1 || tried.Released || !tried.FirstSentAt.Equal(first.FirstSentAt) || all[1].UndecidedAt.IsZero() ||
		tried.LeaseUntil.Before(all[1].UndecidedAt.Add(d.SettleDelay)) {
		t.Errorf("after a try that timed out: %+v, undecided at %s; want the key's clock running since %s and the claim kept for %s",
			tried, all[1].UndecidedAt, first.FirstSentAt, d.SettleDelay)
	}
	await(t, 2*time.Minute, "the end of the job", func() bool { return w.left() == 0 })
	results := w.results()
	if len(results) != 1 || results[0].Kind != string(messages.KindPaid) || results[0].Event["tries"] != 2.0 {
		t.Errorf("results: %+v, want paid after two tries", results)
	}
	if orders := len(w.klarna.Simulator.Books().Orders); orders != 1 {
		t.Errorf("orders: %d, want 1", orders)
	}
}
