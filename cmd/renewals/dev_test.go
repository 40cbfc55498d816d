package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

func streamMessages(t *testing.T, url string) uint64 {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), messages.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func TestDev(t *testing.T) {
	t.Parallel()
	out, told := finish(t, cli.ExitDone, variables{}, "", "dev", "--json")
	kinds := map[messages.MessageID]messages.Kind{}
	for line := range strings.Lines(out) {
		var r struct {
			Kind messages.Kind
			ID   messages.MessageID
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q is no JSON: %v", line, err)
		}
		if kinds[r.ID] != "" {
			t.Errorf("%s has two results", r.ID)
		}
		kinds[r.ID] = r.Kind
	}
	for _, want := range []struct {
		name string
		kind messages.Kind
	}{
		{"-trial/", messages.KindPaid}, {"-standard/20", messages.KindPaid}, {"-coffee/", messages.KindPaid}, {"-insurance/", messages.KindPaid},
		{"-declined/", messages.KindDunning}, {"-cancelled/", messages.KindDunning}, {"-maintenance/", messages.KindPaid},
		{"-created-500/", messages.KindPaid}, {"-created-cut/", messages.KindPaid}, {"-invalid/", messages.KindRejected}, {" 20", messages.KindRejected}, {"-delayed/", messages.KindPaid},
	} {
		found := false
		for id, kind := range kinds {
			if strings.Contains(string(id), want.name) && strings.HasSuffix(string(id), "/1") {
				found = kind == want.kind
			}
		}
		if !found {
			t.Errorf("no %s result for %s among %v", want.kind, want.name, kinds)
		}
	}
	captured := false
	for id, kind := range kinds {
		captured = captured || strings.Contains(string(id), "-delayed/") && strings.HasSuffix(string(id), "/c1") && kind == messages.KindCaptured
	}
	if !captured || !strings.Contains(told, "1 captured; 9 orders and 1 captures in Klarna's books") {
		t.Errorf("no delayed capture among %v, and %q", kinds, told)
	}
	if len(kinds) != 14 || !strings.Contains(told, "the promise holds") {
		t.Errorf("got %d results and %q", len(kinds), told)
	}
}

func TestDevLoadKeepsItsStore(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	for range 2 { // the second run finds what the first left
		out, told := finish(t, cli.ExitDone, variables{"RENEWALS_STORE": store}, "", "dev", "--json", "--jobs=100")
		if got := strings.Count(out, "\n"); got != 100 || !strings.Contains(told, "100 jobs, 92 paid") || !strings.Contains(told, "the promise holds") {
			t.Errorf("got %d results and %q", got, told)
		}
	}
	if entries, err := os.ReadDir(store); err != nil || len(entries) == 0 {
		t.Errorf("the store is empty: %v", err)
	}
}

// Another terminal uses what dev leaves up, its worker among it.
func TestDevKeepsRunning(t *testing.T) {
	t.Parallel()
	p := start(t, variables{}, "", "dev", "--json", "--keep-running", "--jobs=1")
	eventually(t, "dev says how to reach it", func() bool { return strings.Contains(p.stderr.String(), "renewals trigger --list") })
	env := variables{}
	for pair := range strings.FieldsSeq(p.stderr.String()) {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	watch := start(t, env, "", "watch", "--json", "--since=1h")
	finish(t, cli.ExitDone, env, jobLines(t, "g", 1), "publish")
	eventually(t, "a result in both terminals", func() bool {
		return strings.Contains(watch.stdout.String(), `"id":"g-0/`) && strings.Contains(p.stdout.String(), `"id":"g-0/`)
	})
	finish(t, cli.ExitDone, env, "", "trigger", "--wait", "soft-decline")
	p.stop()
	if code := p.wait(t); code != cli.ExitDone {
		t.Errorf("dev exited with %d: %s", code, p.stderr.String())
	}
}

// The check behind the demonstration, against every way to break the promise.
func TestPromise(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	p := product{"Premium Monthly", "MONTH", 1, 1599, "EUR"}
	first := sample{about: "standard renewal", job: charge("x", "1", "ok", p, now), want: messages.KindPaid}
	second := first
	second.job.Attempt = 2
	second.job.ID = messageID(second.job)
	renewal := messages.NewRenewalKey(first.job.SubscriptionID, first.job.Period)
	key := func(s sample) messages.IdempotencyKey { return s.key(renewal) }
	result := func(s sample, kind messages.Kind, order string) record {
		return record{Kind: kind, ID: s.job.ID, RenewalKey: renewal, IdempotencyKey: key(s), OrderID: order}
	}
	order := func(s sample, id string) klarnasim.Order {
		return klarnasim.Order{OrderID: id, IdempotencyKey: string(key(s))}
	}
	later := sample{about: "delayed capture", job: first.job, capture: &messages.Capture{ID: "c1"}, want: messages.KindCaptured}
	take := func(s sample, order, id string, amount int64) record {
		r := result(s, messages.KindCaptured, order)
		r.ID, r.CaptureID, r.Amount = s.id(), id, amount
		return r
	}
	taking := func(id string, captures ...klarnasim.Capture) klarnasim.Order {
		o := order(first, id)
		o.Captures = captures
		return o
	}
	paid := result(first, messages.KindPaid, "A")
	once := klarnasim.Capture{CaptureID: "C", IdempotencyKey: string(key(later)), CapturedAmount: 800}
	other := klarnasim.Capture{CaptureID: "D", IdempotencyKey: "another", CapturedAmount: 800}
	stray := result(first, messages.KindPaid, "A")
	stray.IdempotencyKey = "0"
	for _, row := range []struct {
		name    string
		jobs    []sample
		results []record
		orders  []klarnasim.Order
		want    string
	}{
		{name: "paid once", jobs: []sample{first}, results: []record{result(first, messages.KindCharging, ""), result(first, messages.KindPaid, "A")}, orders: []klarnasim.Order{order(first, "A")}},
		{name: "a stranger's order", jobs: []sample{first}, results: []record{result(first, messages.KindPaid, "A")}, orders: []klarnasim.Order{order(first, "A"), {OrderID: "S", IdempotencyKey: "s"}}},
		{name: "no result", jobs: []sample{first}, want: "0 results, expected 1"},
		{
			name: "two results", jobs: []sample{first}, results: []record{result(first, messages.KindDunning, ""), result(first, messages.KindPaid, "A")}, orders: []klarnasim.Order{order(first, "A")},
			want: "2 results, expected 1",
		},
		{
			name: "charged twice under one key", jobs: []sample{first}, results: []record{result(first, messages.KindPaid, "A")}, orders: []klarnasim.Order{order(first, "A"), order(first, "B")},
			want: "more than one order for the renewal",
		},
		{
			name: "charged by both attempts", jobs: []sample{first, second}, results: []record{result(first, messages.KindPaid, "A"), result(second, messages.KindPaid, "B")},
			orders: []klarnasim.Order{order(first, "A"), order(second, "B")}, want: "more than one order for the renewal",
		},
		{name: "announced without money", jobs: []sample{first}, results: []record{result(first, messages.KindPaid, "A")}, want: "paid with A, Klarna's books have []"},
		{
			name: "another order than the one announced", jobs: []sample{first}, results: []record{result(first, messages.KindPaid, "A")}, orders: []klarnasim.Order{order(first, "B")},
			want: `paid with A, Klarna's books have ["B"]`,
		},
		{name: "not the outcome of the variant", jobs: []sample{first}, results: []record{result(first, messages.KindDunning, "")}, orders: []klarnasim.Order{order(first, "A")}, want: "expected paid"},
		{name: "captured once", jobs: []sample{first, later}, results: []record{paid, take(later, "A", "C", 800)}, orders: []klarnasim.Order{taking("A", once)}},
		{
			name: "captured twice under one key", jobs: []sample{first, later}, results: []record{paid, take(later, "A", "C", 800)}, orders: []klarnasim.Order{taking("A", once, once)},
			want: "captured with capture C of 800 of order A, Klarna's books have",
		},
		{
			name: "captured for a job that nobody has", jobs: []sample{first, later}, results: []record{paid, take(later, "A", "C", 800)}, orders: []klarnasim.Order{taking("A", once, other)},
			want: "capture D of its order is of no job",
		},
		{
			name: "announced without a capture", jobs: []sample{first, later}, results: []record{paid, take(later, "A", "C", 800)}, orders: []klarnasim.Order{taking("A")},
			want: "captured with capture C of 800 of order A, Klarna's books have []",
		},
		{
			name: "another amount than the one announced", jobs: []sample{first, later}, results: []record{paid, take(later, "A", "C", 799)}, orders: []klarnasim.Order{taking("A", once)},
			want: "captured with capture C of 799 of order A, Klarna's books have",
		},
		{name: "filed under another key", jobs: []sample{first}, results: []record{stray}, orders: []klarnasim.Order{order(first, "A")}, want: "recorded under other keys"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			kept := newPromise()
			for _, s := range row.jobs {
				kept.expect(s)
			}
			for _, r := range row.results {
				kept.result(r)
			}
			got := strings.Join(kept.broken(klarnasim.Books{Orders: row.orders}), "\n")
			if row.want == "" && got != "" || !strings.Contains(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
	declined := sample{about: "soft decline", job: first.job, want: messages.KindDunning}
	kept := newPromise()
	kept.expect(declined)
	kept.result(result(declined, messages.KindDunning, ""))
	if got := kept.broken(klarnasim.Books{Orders: []klarnasim.Order{order(declined, "A")}}); len(got) != 1 || !strings.Contains(got[0], `dunning, Klarna's books have ["A"]`) {
		t.Errorf("a customer is dunned for an order that was made: got %q", got)
	}
}

func TestKlarnaSim(t *testing.T) {
	t.Parallel()
	p := start(t, variables{}, "", "klarna-sim", "--addr=127.0.0.1:0")
	eventually(t, "the endpoint", func() bool { return strings.HasSuffix(p.stdout.String(), "\n") })
	endpoint := strings.TrimPrefix(strings.TrimSpace(p.stdout.String()), "KLARNA_ENDPOINT=")
	out, _ := finish(t, cli.ExitDone, variables{"KLARNA_ENDPOINT": endpoint, "KLARNA_USERNAME": "anybody", "KLARNA_PASSWORD": "anything"}, "suspended-1", "token", "show")
	if !strings.HasPrefix(out, "status SUSPENDED") {
		t.Errorf("token show says %q", out)
	}
	p.stop()
	if code := p.wait(t); code != cli.ExitDone {
		t.Errorf("exit code %d, want 0", code)
	}
	finish(t, cli.ExitUsage, variables{}, "", "klarna-sim", "--faults=2")
	finish(t, cli.ExitUsage, variables{}, "", "klarna-sim", "--outage=nonsense")
}

// A demonstration that fails says how and exits with 1.
func TestDevBrokenPromise(t *testing.T) {
	t.Parallel()
	sim, err := klarnasim.Start(klarnasim.Options{Username: devUser, Password: devPassword, Outage: "403-TOKEN_CANCELLED"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	var out, told screen
	ctx, js, err := cli.NATSServer{URL: broker(t, nil).ClientURL()}.Connect(t.Context(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer js.Conn().Close()
	d := demonstration{t: &terminal{stdout: &out, stderr: &told}, aside: &cli.Page{Writer: &out}, log: zerolog.Nop(), js: js, simulator: sim, clock: newTimelapse(1)}
	err = d.run(ctx)
	if !errors.Is(err, cli.ErrReported) {
		t.Errorf("got %v, want %v", err, cli.ErrReported)
	}
	if !strings.Contains(told.String(), "(standard renewal): dunning token_cancelled, expected paid") || strings.Contains(out.String(), "the promise holds") {
		t.Errorf("got %s%s", out.String(), told.String())
	}
}

// What dev keeps holds tokens and a password, if only simulated ones: nobody else reads it.
func TestDevStoreIsPrivate(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	for _, c := range []devCmd{{Store: filepath.Join(parent, "a", "b")}, {}} {
		store, err := c.directory()
		if err != nil {
			t.Fatal(err)
		}
		if c.Store == "" {
			defer os.RemoveAll(store)
		}
		for path := store; path != parent && path != filepath.Dir(os.TempDir()) && path != filepath.Clean(os.TempDir()); path = filepath.Dir(path) {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%s: mode %v, %v; want 0700", path, info.Mode(), err)
			}
		}
	}
}
