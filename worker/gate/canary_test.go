package gate

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
)

// TestConditionOf: what each answer to the canary says of the account (S55, S94).
func TestConditionOf(t *testing.T) {
	object := func(status int, code string) error {
		return &klarna.Error{StatusCode: status, Code: code, HasErrorObject: true}
	}
	answered := func(status int) error { return &klarna.Error{StatusCode: status} }
	for _, tt := range []struct {
		name string
		err  error
		want Condition
	}{
		{"Klarna does not know the token", object(404, "NOT_FOUND"), WellKlarna},
		{"S94: anybody does not know the path", answered(404), Well},
		{"Klarna forbids the question", object(403, "FORBIDDEN"), Well},
		{"there is such a token", nil, Unwell},
		{"a password is wrong", object(401, "UNAUTHORIZED"), Unwell},
		{"a firewall", answered(403), Unwell},
		{"S55: the host has moved", answered(308), Unwell},
		{"a gate wants a password", answered(407), Unwell},
		{"Klarna is down", object(503, "SERVICE_UNAVAILABLE"), Unwell},
		{"not reachable", &klarna.NotSentError{Err: errors.New("dial")}, Unwell},
		{"no answer", &klarna.UnknownError{TimedOut: true}, Unwell},
		{"asked too often", object(429, "TOO_MANY_REQUESTS"), Unheard},
		{"no turn", ErrNoTurn, Unheard},
		{"the worker ends", &klarna.UnknownError{Cut: true, Err: context.Canceled}, Unheard},
	} {
		if got := ConditionOf(tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// S51: answers of one moment share one canary, those of the next have their own; what was not heard serves nobody. Whoever has
// mended something lets the next one go at once.
func TestOneCanaryForMany(t *testing.T) {
	var asked atomic.Int64
	var status atomic.Int64
	status.Store(http.StatusNotFound)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := "/customer-token/v1/tokens/" + CanaryToken; r.Method != http.MethodGet || r.URL.Path != want {
			t.Errorf("%s %s, want GET %s", r.Method, r.URL.Path, want)
		}
		asked.Add(1)
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(server.Close)
	endpoint, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client, err := klarna.New(klarna.Config{Endpoint: endpoint, Timeout: 10 * time.Second, Credentials: klarna.StaticCredentials("merchant", "secret")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdle)
	b := NewBreaker(func(string, bool, string) {})
	c := NewCanary(client, NewLimiter(0), b, 10*time.Second, zerolog.Nop())
	var asking sync.WaitGroup
	for range 50 {
		asking.Go(func() {
			if got := c.TurnedAway(t.Context()); got != Well {
				t.Errorf("condition %d, want well", got)
			}
		})
	}
	asking.Wait()
	c.TurnedAway(t.Context())
	if n := asked.Load(); n != 1 {
		t.Errorf("canaries: %d, want 1", n)
	}
	c.at = time.Now().Add(-canaryFresh)
	status.Store(http.StatusTooManyRequests)
	for range 2 {
		if got := c.TurnedAway(t.Context()); got != Unheard || b.Paused() {
			t.Errorf("told to wait: %d, paused %v", got, b.Reasons())
		}
		c.limiter = NewLimiter(0)
	}
	status.Store(http.StatusForbidden)
	if got := c.TurnedAway(t.Context()); got != Unwell || !b.PausedFor(PauseNotEvaluated) {
		t.Errorf("a firewall: %d, paused %v", got, b.Reasons())
	}
	before := asked.Load()
	if got := c.TurnedAway(t.Context()); got != Unwell || asked.Load() != before || before != 4 {
		t.Errorf("while paused: %d, canaries %d after %d, want 4 and none more", got, asked.Load(), before)
	}
	c.Retry()
	if len(c.again) != 1 {
		t.Error("a change lets no canary go")
	}
}
