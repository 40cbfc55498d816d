package worker

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// entryOf is a presence that somebody announced.
type entryOf struct {
	jetstream.KeyValueEntry
	name, value string
}

func (e entryOf) Key() string                     { return topology.PresenceKey + e.name }
func (e entryOf) Created() time.Time              { return time.Now() }
func (e entryOf) Value() []byte                   { return []byte(e.value) }
func (e entryOf) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }

// S27: the rate is shared by the workers that serve the account and live.
func TestS27ShareOfTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := DefaultOptions()
		o.Name, o.Accounts = "me", []Account{{Name: "se", Rate: 90}}
		w, err := New(nil, o)
		if err != nil {
			t.Fatal(err)
		}
		a := &account{Account: w.accounts[0], Worker: w, limiter: gate.NewLimiter(90), breaker: gate.NewBreaker(func(string, bool, string) {})}
		p := &presence{Worker: w, accounts: []*account{a}, seen: map[string]sighting{}}
		expect := func(when string, want float64) {
			t.Helper()
			p.share()
			if got := a.limiter.Rate(); got != want {
				t.Errorf("%s: %v requests/s, want %v", when, got, want)
			}
		}
		expect("alone and not seen yet", 90)
		for _, name := range []string{"me", "another", "third"} {
			p.see(entryOf{name: name, value: `{"name":"` + name + `","accounts":{"se":{}}}`})
		}
		p.see(entryOf{name: "of others", value: `{"name":"of others","accounts":{"de":{}}}`})
		expect("three of four serve it", 30)
		<-time.After(topology.PresenceTTL)
		p.see(entryOf{name: "me", value: `{"name":"me","accounts":{"se":{}}}`})
		<-time.After(time.Second)
		expect("the others were not seen for their time", 90)
	})
}

// S30: a job that has waited here for its freshness goes back without a turn.
func TestS30StaleJobGoesBack(t *testing.T) {
	a, _, _, _ := compared(t)
	a.limiter, a.breaker = gate.NewLimiter(0), gate.NewBreaker(func(string, bool, string) {})
	for _, tt := range []struct {
		waited time.Duration
		want   bool
	}{{gate.Freshness - time.Millisecond, true}, {gate.Freshness, false}, {time.Hour, false}} {
		s := gate.NewSemaphore(1)
		j := &job{semaphore: s, received: a.now().Add(-tt.waited)}
		if _, ok := a.myTurn(t.Context(), j); ok != tt.want || (s.InUse() == 1) != tt.want {
			t.Errorf("after %s: its turn %t, has a permit %t; want %t", tt.waited, ok, s.InUse() == 1, tt.want)
		}
	}
}

// accountAsking is an account whose Klarna is a function, with the claim of a job.
func accountAsking(t *testing.T, answer http.HandlerFunc) (*account, *job, journal.HeldClaim) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	endpoint, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	a, _, c, claim := compared(t)
	began, at := time.Now(), c.wall
	a.opts.Now = func() time.Time { return at.Add(time.Since(began)) }
	a.opts.Monotonic = func() time.Duration { return time.Hour + time.Since(began) }
	a.compared.Store(&comparison{broker: at, wall: at, monotonic: time.Hour})
	a.limiter, a.breaker = gate.NewLimiter(0), gate.NewBreaker(func(string, bool, string) {})
	a.finishing, a.recording = t.Context(), t.Context()
	if a.Klarna, err = klarna.New(klarna.Config{Endpoint: endpoint, Timeout: 10 * time.Second, Credentials: klarna.StaticCredentials("merchant", "secret")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Klarna.CloseIdle)
	a.canary = gate.NewCanary(a.Klarna, a.limiter, a.breaker, a.opts.TryTimeout, a.log)
	j := &job{reading: messages.Read([]byte(`{"id":"1","customer_token":"token-1","order":{}}`), nil)}
	j.request.Key = "key"
	claim.Key = "key"
	return a, j, journal.HeldClaim{Claim: claim}
}

// S27: within a delivery the next try waits for as long as Klarna says, and
// where that is too long the job comes again, a minute later at most.
func TestS27RetryAfterWithinADelivery(t *testing.T) {
	for _, tt := range []struct {
		status int
		after  string
		tries  int
		want   journal.Answer
		delay  time.Duration
	}{
		{http.StatusTooManyRequests, "1", 2, journal.Accepted, 0},
		{http.StatusTooManyRequests, "3600", 1, journal.NoAnswer, time.Minute},
		{http.StatusServiceUnavailable, "1", 2, journal.Accepted, 0}, // closes the account to nobody else
	} {
		t.Run(strconv.Itoa(tt.status)+" after "+tt.after, func(t *testing.T) {
			var first, second atomic.Int64
			a, j, h := accountAsking(t, func(w http.ResponseWriter, _ *http.Request) {
				if first.CompareAndSwap(0, time.Now().UnixNano()) {
					w.Header().Set("Retry-After", tt.after)
					w.WriteHeader(tt.status)
					_, _ = w.Write([]byte(`{"error_code":"BUSY","error_messages":["later"]}`))
					return
				}
				second.Store(time.Now().UnixNano())
				_, _ = w.Write([]byte(`{"order_id":"order-1","fraud_status":"ACCEPTED"}`))
			})
			got := a.ask(t.Context(), j, h)
			if got.Tries != tt.tries || got.Answer != tt.want || got.RetryAfter != tt.delay {
				t.Errorf("ask = %+v, want %d tries and to wait %s", got.Outcome, tt.tries, tt.delay)
			}
			if gap := time.Duration(second.Load() - first.Load()); tt.tries == 2 && gap < time.Second {
				t.Errorf("tried again after %s, want a second at least", gap)
			}
			if tt.tries == 1 && a.paused()[gate.PauseRateLimited] == "" {
				t.Errorf("paused: %v, want it to be seen", a.paused())
			}
		})
	}
}

// S27: everything that Klarna is asked counts against the rate, and everything
// that it answers tells of it.
func TestS27EveryRequestCounts(t *testing.T) {
	refusal := journal.TryResult{Refusal: &klarna.Error{StatusCode: 403, Code: "TOKEN_CANCELLED", HasErrorObject: true}}
	accepted := journal.TryResult{Outcome: journal.Outcome{Answer: journal.Accepted, Made: "order-1"}, Order: klarna.CreatedOrder{OrderID: "order-1"}}
	for _, tt := range []struct {
		name string
		ask  func(*account, *job)
		turn bool // is its own: not the delivery's
	}{
		{"the status of a token", func(a *account, j *job) { a.tokenStatus(j, refusal) }, true},
		{"the end of an authorisation", func(a *account, j *job) { j.request.Authorised = &journal.Order{}; a.authorised(j, accepted) }, true},
		{"the canary", func(a *account, _ *job) {
			gate.NewCanary(a.Klarna, a.limiter, a.breaker, time.Second, a.log).TurnedAway(context.Background())
		}, true},
		{"a look before a capture", func(a *account, j *job) {
			j.request.Capture = &journal.CaptureWanted{}
			a.look(context.Background(), j, &journal.Order{ID: "order-1"})
		}, true},
		{"a fraud status", func(a *account, j *job) { _, _, _ = a.poll(j, "order-1") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked atomic.Int64
			a, j, _ := accountAsking(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("Retry-After", "30")
				w.WriteHeader(http.StatusTooManyRequests)
			})
			a.limiter = gate.NewLimiter(0.001)
			if tt.turn {
				a.limiter.Wait(t.Context(), 0) // somebody took the turn
				tt.ask(a, j)
				if n := asked.Load(); n != 0 {
					t.Errorf("requests without a turn: %d", n)
				}
				a.limiter = gate.NewLimiter(0)
			}
			tt.ask(a, j)
			if n := asked.Load(); n != 1 || a.limiter.Closed() == "" {
				t.Errorf("requests: %d, limit closed: %q; want one, which was told to wait", n, a.limiter.Closed())
			}
		})
	}
}

// tooMany is Klarna's word that it was asked too often.
func tooMany(retryAfter time.Duration) error {
	return &klarna.Error{StatusCode: http.StatusTooManyRequests, RetryAfter: retryAfter}
}
