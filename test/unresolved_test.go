package test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// A gateway stands before the simulator and writes down what no client of ours has a hand in: when each try came in, and the
// correlation id that its answer carried.
type gateway struct {
	*httptest.Server
	came chan struct{} // when a try has come in, before it is answered; full: nobody waits for that
	mu   sync.Mutex
	ids  []string
	at   []time.Time
}

func (w *world) gateway() *gateway {
	w.t.Helper()
	behind, err := url.Parse(w.klarna.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	proxy, g := httputil.NewSingleHostReverseProxy(behind), &gateway{came: make(chan struct{}, 1)}
	proxy.ErrorHandler = func(answer http.ResponseWriter, _ *http.Request, _ error) { answer.WriteHeader(http.StatusBadGateway) }
	g.Server = httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		came := time.Now()
		if r.Method == http.MethodPost {
			select {
			case g.came <- struct{}{}:
			default:
			}
		}
		proxy.ServeHTTP(answer, r)
		if r.Method == http.MethodPost {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.at, g.ids = append(g.at, came), append(g.ids, answer.Header().Get("Klarna-Correlation-Id"))
		}
	}))
	w.t.Cleanup(g.Close)
	return g
}

func (g *gateway) tries() (ids []string, at []time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.ids), slices.Clone(g.at)
}

// unresolved is the one result there is, read as the contract says and checked with its published schema.
func (w *world) unresolved() (u messages.Unresolved) {
	w.t.Helper()
	results := w.results()
	if len(results) != 1 || results[0].Kind != "unresolved" {
		w.t.Fatalf("results %v, want one that is unresolved", results)
	}
	body, err := json.Marshal(results[0].Event)
	if err != nil {
		w.t.Fatal(err)
	}
	published, _ := messages.Schema("unresolved")
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(published))
	if err != nil {
		w.t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("unresolved", schema); err != nil {
		w.t.Fatal(err)
	}
	compiled, err := compiler.Compile("unresolved")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := compiled.Validate(any(results[0].Event)); err != nil {
		w.t.Errorf("%s: %v", body, err)
	}
	for _, field := range []string{
		"first_sent_at", "last_sent_at", "search_until", "order_amount", "purchase_currency", "merchant_reference1", "merchant_reference2",
	} {
		if results[0].Event[field] == nil {
			w.t.Errorf("%s: no %s, without which nobody finds the order", body, field)
		}
	}
	if err := json.Unmarshal(body, &u); err != nil {
		w.t.Fatal(err)
	}
	return u
}

// secondReference gives a job the other reference that the portal is searched by.
func secondReference(j map[string]any) { j["order"].(map[string]any)["merchant_reference2"] = "NL-7" }

// Fourteen tries under one key, by two workers, each answered with an error after which an order may exist, and a third worker that
// may not use the key any more: who searches for the order knows all fourteen, and between when.
func TestUnresolvedNamesEveryTry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	g := w.gateway()
	w.publish(job(1, "500-1", secondReference))
	for _, tries := range []int{5, 14} {
		p := w.start([]string{"KLARNA_ENDPOINT=" + g.URL}, "work")
		await(t, time.Minute, "tries", func() bool { ids, _ := g.tries(); return len(ids) >= tries })
		if code := p.stop(os.Interrupt); code != 0 {
			t.Fatalf("exit %d, want 0", code)
		}
	}
	w.start([]string{"KLARNA_ENDPOINT=" + g.URL, "RENEWALS_KEY_WINDOW=1s"}, "work")
	await(t, time.Minute, "the result", func() bool { return len(w.results()) > 0 })

	u := w.unresolved()
	ids, at := g.tries()
	if len(ids) < 14 || u.Tries != len(ids) || u.UndecidedTries != len(ids) || u.Reason != messages.ReasonIdempotencyWindowExpired {
		t.Errorf("%d tries, of which %d undecided, %s; want the %d that came in", u.Tries, u.UndecidedTries, u.Reason, len(ids))
	}
	if want := ids[max(len(ids)-20, 0):]; !slices.Equal(u.CorrelationIDs, want) {
		t.Errorf("correlation ids %v, want %v", u.CorrelationIDs, want)
	}
	first, last := at[0], at[len(at)-1]
	const apart = 100 * time.Millisecond // the worker goes by the broker's clock, which it measures
	if d := first.Sub(u.FirstSentAt); d < -apart || d > time.Second {
		t.Errorf("first sent at %v, the first try came in at %v", u.FirstSentAt, first)
	}
	if d := last.Sub(u.LastSentAt); d < -apart || d > time.Second {
		t.Errorf("last sent at %v, the last try came in at %v", u.LastSentAt, last)
	}
	if want := u.LastSentAt.Add(2 * time.Second); !u.SearchUntil.Equal(want) { // a try's second, and the second that Klarna may take on
		t.Errorf("search until %v, want %v", u.SearchUntil, want)
	}
	if u.OrderAmount != 1599 || u.PurchaseCurrency != "EUR" || u.MerchantReference1 != "1234001-2026-12" || u.MerchantReference2 != "NL-7" || u.LastError == "" {
		t.Errorf("got %+v, want what the order is known by", u)
	}
}

// A worker is killed while Klarna makes the order, and nobody heard when it sent what. What was made was made between the times that
// the record names, whoever writes it.
func TestOrderOfAKilledWorkerLiesInTheSearch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	g := w.gateway()
	w.publish(job(1, "slow-900-ok-1", secondReference))
	killed := w.start([]string{"KLARNA_ENDPOINT=" + g.URL}, "work")
	select {
	case <-g.came:
	case <-time.After(time.Minute):
		t.Fatal("no try came in")
	}
	killed.kill()
	await(t, time.Minute, "the order", func() bool { return len(w.klarna.Simulator.Books().Orders) == 1 })
	w.start([]string{"RENEWALS_KEY_WINDOW=1s"}, "work")
	await(t, time.Minute, "the result", func() bool { return len(w.results()) > 0 })

	u, made := w.unresolved(), w.klarna.Simulator.Books().Orders[0].CreatedAt
	if made.Before(u.FirstSentAt) || made.After(u.SearchUntil) {
		t.Errorf("the order was made at %v, to be searched for from %v to %v", made, u.FirstSentAt, u.SearchUntil)
	}
	// The lease of three seconds, and the second that Klarna may take on.
	if want := u.FirstSentAt.Add(4 * time.Second); !u.SearchUntil.Equal(want) || !u.LastSentAt.Equal(u.FirstSentAt) || u.UndecidedTries != 1 {
		t.Errorf("first sent at %v, last at %v, search until %v, %d undecided; want until %v, the try that nobody told of counted", u.FirstSentAt, u.LastSentAt, u.SearchUntil, u.UndecidedTries, want)
	}
}
