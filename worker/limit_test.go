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
func TestShareOfTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := DefaultOptions()
		o.Name, o.Accounts = "me", []Account{{Name: "se", Rate: 90}}
		a := accountOf(t, nil, o, nil)
		p := &presence{name: "me", ahead: func() time.Duration { return 0 }, clock: a.shared.clock, pauses: a.shared.pauses, metrics: a.shared.metrics, accounts: []*account{a}, seen: map[string]sighting{}}
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
func TestStaleJobGoesBack(t *testing.T) {
	a, _, _ := compared(t)
	for _, tt := range []struct {
		waited time.Duration
		want   bool
	}{{gate.Freshness - time.Millisecond, true}, {gate.Freshness, false}, {time.Hour, false}} {
		s := gate.NewSemaphore(1)
		if _, _, ok := a.handler.turns.take(t.Context(), gate.Delivery{Semaphore: s, Received: a.shared.clock.now().Add(-tt.waited)}); ok != tt.want || (s.InUse() == 1) != tt.want {
			t.Errorf("after %s: its turn %t, has a permit %t; want %t", tt.waited, ok, s.InUse() == 1, tt.want)
		}
	}
}

// permitted is the turn of a job that waits for nothing.
func permitted(t *testing.T) *turn {
	t.Helper()
	permit, ok := gate.NewSemaphore(1).Acquire(t.Context(), 0)
	if !ok {
		t.Fatal("the only permit was not given")
	}
	return &turn{permit: permit}
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
	o := DefaultOptions()
	client, err := klarna.New(klarna.Config{Endpoint: endpoint, Timeout: 10 * time.Second, Credentials: klarna.StaticCredentials("merchant", "secret")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdle)
	o.Accounts = []Account{{Name: "default", Klarna: client}}
	began, at := time.Now(), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	o.Now = func() time.Time { return at.Add(time.Since(began)) }
	o.Monotonic = func() time.Duration { return time.Hour + time.Since(began) }
	a := accountOf(t, nil, o, nil)
	a.rules.base = journal.Rules{Timing: o.timing(), ClockMargin: time.Second}
	a.shared.clock.compared.Store(&comparison{broker: at, wall: at, monotonic: time.Hour})
	now := a.shared.clock.now()
	claim := journal.Claim{Key: "key", FirstSentAt: now, LeaseUntil: now.Add(2 * time.Minute)}
	j := &job{service: charge, reading: messages.Read([]byte(`{"id":"1","customer_token":"token-1","order":{}}`), nil)}
	j.request.Key = "key"
	return a, j, journal.HeldClaim{Claim: claim}
}

// S27: within a delivery the next try waits for as long as Klarna says, and
// where that is too long the job comes again, a minute later at most.
func TestRetryAfterWithinADelivery(t *testing.T) {
	for _, tt := range []struct {
		status int
		after  string
		tries  int
		want   journal.Answer
		delay  time.Duration
	}{
		{status: http.StatusTooManyRequests, after: "1", tries: 2, want: journal.Accepted},
		{status: http.StatusTooManyRequests, after: "3600", tries: 1, want: journal.NoAnswer, delay: time.Minute},
		{status: http.StatusServiceUnavailable, after: "1", tries: 2, want: journal.Accepted}, // closes the account to nobody else
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
			got := a.handler.asker.ask(t.Context(), j, h, permitted(t))
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
func TestEveryRequestCounts(t *testing.T) {
	refusal := journal.TryResult{Refusal: &klarna.Error{StatusCode: 403, Code: "TOKEN_CANCELLED", HasErrorObject: true}}
	accepted := journal.TryResult{Outcome: journal.Outcome{Answer: journal.Accepted, Made: "order-1"}, Created: journal.Created{ID: "order-1"}}
	for _, tt := range []struct {
		name string
		ask  func(*account, *job)
		turn bool // is its own: not the delivery's
	}{
		{"the status of a token", func(a *account, j *job) { a.handler.asker.tokenStatus(j, refusal) }, true},
		{"the end of an authorisation", func(a *account, j *job) {
			j.request.Authorised = &journal.Order{}
			a.handler.asker.authorised(j, accepted)
		}, true},
		{"the canary", func(a *account, _ *job) {
			a.canary.TurnedAway(context.Background())
		}, true},
		{"a look before a capture", func(a *account, j *job) {
			j.request.Capture = &journal.CaptureWanted{}
			a.handler.asker.look(context.Background(), j, &journal.Order{ID: "order-1"})
		}, true},
		{"a fraud status", func(a *account, j *job) { a.handler.asker.fraudStatus(j, "order-1") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked atomic.Int64
			a, j, _ := accountAsking(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("Retry-After", "30")
				w.WriteHeader(http.StatusTooManyRequests)
			})
			limit := func(requestsPerSecond float64) {
				a.limiter = gate.NewLimiter(requestsPerSecond)
				a.handler.asker.limiter = a.limiter
				a.canary = gate.NewCanary(a.config.Klarna, a.limiter, a.breaker, time.Second, a.log)
			}
			limit(0.001)
			if tt.turn {
				a.limiter.Wait(t.Context(), 0) // somebody took the turn
				tt.ask(a, j)
				if n := asked.Load(); n != 0 {
					t.Errorf("requests without a turn: %d", n)
				}
				limit(0)
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
