package klarnasim_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func post(ctx context.Context, t *testing.T, client *http.Client, url, token, key string) (int, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/customer-token/v1/tokens/"+token+"/order", strings.NewReader(monthly))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("u", "p")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Klarna-Idempotency-Key", key)
	response, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return response.StatusCode, nil
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// A client that does not wait for the answer gets the order all the same: Klarna finishes what it has begun.
func TestOrderIsMadeThoughTheClientLeft(t *testing.T) {
	t.Parallel()
	server, err := klarnasim.Start(klarnasim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	ctx, leave := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { _, _ = post(ctx, t, client, server.URL, "slow-500-1", "key") })
	eventually(t, "the order is at work", func() bool { return len(server.Simulator.Books().Keys) == 1 })
	leave()
	wait.Wait()
	eventually(t, "the order is made", func() bool { return server.Simulator.Counts().Orders == 1 })
	if status, err := post(t.Context(), t, client, server.URL, "slow-500-1", "key"); status != 200 || err != nil {
		t.Errorf("the same key again: %d, %v", status, err)
	}
	if n := len(server.Simulator.Books().Orders); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

// Close does not wait for an answer that takes an hour, and leaves nothing running.
func TestCloseEndsTheWaiting(t *testing.T) {
	t.Parallel()
	server, err := klarnasim.Start(klarnasim.Options{Latency: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var wait sync.WaitGroup
	for _, key := range []string{"one", "one", "two"} {
		wait.Go(func() {
			if status, err := post(t.Context(), t, client, server.URL, "ok-1", key); err == nil {
				t.Errorf("an answer: %d", status)
			}
		})
	}
	eventually(t, "both keys are at work", func() bool { return len(server.Simulator.Books().Keys) == 2 })
	server.Close()
	wait.Wait()
	if n := len(server.Simulator.Books().Orders); n != 0 {
		t.Errorf("%d orders were made by closing", n)
	}
	server.Close() // twice is harmless
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	server, err := klarnasim.Start(klarnasim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if second, err := klarnasim.Start(klarnasim.Options{Addr: strings.TrimPrefix(server.URL, "http://")}); err == nil {
		second.Close()
		t.Error("two servers on one address")
	}
}

func TestStartTLS(t *testing.T) {
	t.Parallel()
	server, err := klarnasim.StartTLS(klarnasim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	transport := &http.Transport{TLSClientConfig: server.ClientTLS, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	if status, err := post(t.Context(), t, &http.Client{Transport: transport}, server.URL, "ok-1", "key"); status != 200 || err != nil {
		t.Errorf("%d, %v, want 200", status, err)
	}
}
