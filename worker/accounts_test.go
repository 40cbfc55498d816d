package worker

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// S81: many accounts in one worker, with a job each. They cost the broker no question each, and the worker one goroutine for each consumer
// that waits and one for the account. make long has six hundred of them.
func TestManyAccounts(t *testing.T) {
	w := newWorldAlone(t) // other tests' goroutines would be taken for its own
	w.verifyEvery = time.Minute
	many := 150 // whose consumers do not fit one page of the broker's list
	if os.Getenv("LONG") != "" {
		many = 600
	}
	accounts := make([]messages.Account, many)
	for i := range accounts {
		accounts[i] = messages.Account(fmt.Sprintf("shop-%03d", i))
	}
	provision := func() (changes int) {
		err := Provision(t.Context(), w.js, topology.Provisioning{Accounts: accounts, AckWait: time.Minute, Tell: func(topology.Change) { changes++ }})
		if err != nil {
			t.Fatal(err)
		}
		return changes
	}
	if changes := provision(); changes != 3*many {
		t.Errorf("changes: %d, want 3 consumers for each account", changes)
	}
	for _, a := range accounts {
		w.publishTo(a, w.due(string(a), "ok-"+string(a), 1), nil)
	}
	var asked atomic.Int64
	sub, err := w.js.Conn().Subscribe("$JS.API.CONSUMER.INFO.>", func(*nats.Msg) { asked.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if changes := provision(); changes != 0 {
		t.Errorf("changes: %d, want none the second time", changes)
	}

	registry := prometheus.NewRegistry()
	others := goroutinesIn(t, "renewals/worker") // of tests that wait for their turn
	stop := w.start(func(o *Options) {
		o.TryTimeout, o.TryBudget, o.Metrics = 10*time.Second, 10*time.Second, NewMetrics(registry)
		one := o.Accounts[0]
		one.Concurrency = 64
		o.Accounts = nil
		for _, a := range accounts {
			one.Name = a
			o.Accounts = append(o.Accounts, one)
		}
	})
	for left := many - many/3; left >= 0; left -= many / 3 { // each in its time, for a machine that is busy
		w.await("the jobs to leave the stream", func() bool { return w.left() <= left })
	}
	paid := 0
	for _, r := range w.results() {
		if r.Kind == messages.KindPaid {
			paid++
		}
	}
	if orders := len(w.klarna.Simulator.Books().Orders); paid != many || orders != many {
		t.Errorf("%d paid and %d orders at Klarna, want %d each", paid, orders, many)
	}
	w.await("the last jobs to be done", func() bool { return metric(t, registry, "renewals_in_flight", "") == 0 })
	if n := goroutinesIn(t, "renewals/worker") - others; n > 4*many+100 {
		t.Errorf("goroutines: %d, want no more than one for each consumer and account", n)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("consumers asked for one by one: %d, want none", n)
	}
	stop()
}

// goroutinesIn counts those whose stack goes through a package.
func goroutinesIn(t *testing.T, path string) (n int) {
	t.Helper()
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(&profile)
	lines.Buffer(nil, 1<<20)
	alike, counted := 0, false
	for lines.Scan() {
		if count, _, ok := strings.Cut(lines.Text(), " @ "); ok {
			alike, _ = strconv.Atoi(count)
			counted = false
		}
		if !counted && strings.Contains(lines.Text(), path) {
			n, counted = n+alike, true
		}
	}
	return n
}
