package worker

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/worker/gate"
)

// TestSlowKlarnaCostsNoRate: where Klarna takes longer than was guessed, more charges are in flight, so that the rate is
// still used; a number that somebody has set stays.
func TestSlowKlarnaCostsNoRate(t *testing.T) {
	const rate, jobs = 100, 150
	limiter := gate.NewLimiter(rate)
	atFirst := gate.NewRatedSemaphore(limiter).Permits()
	for _, tt := range []struct {
		name        string
		concurrency int
		grows       bool
	}{
		{name: "it follows", grows: true},
		{name: "it is fixed", concurrency: atFirst},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			var now, most atomic.Int64
			front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				n := now.Add(1)
				defer now.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				w.klarna.Simulator.ServeHTTP(rw, r)
			}))
			t.Cleanup(front.Close)
			endpoint, err := url.Parse(front.URL)
			if err != nil {
				t.Fatal(err)
			}
			for n := range jobs {
				w.publish(w.due("slow-"+strconv.Itoa(n), "slow-1000-ok-"+strconv.Itoa(n), 1))
			}
			registry := prometheus.NewRegistry()
			w.start(w.patient, func(o *Options) {
				client, err := klarna.New(klarna.Config{Endpoint: endpoint, Timeout: o.TryTimeout, Credentials: klarna.StaticCredentials("merchant", "secret-password")})
				if err != nil {
					t.Fatal(err)
				}
				o.Accounts[0].Klarna, o.Accounts[0].Rate, o.Accounts[0].Concurrency, o.Metrics = client, rate, tt.concurrency, NewMetrics(registry)
			})
			permits := func() int { return int(metric(t, registry, "renewals_concurrency", "")) }
			w.awaitEmpty()
			w.await("the gauge", func() bool { return permits() > 0 && (permits() > atFirst) == tt.grows })
			if more := most.Load() > int64(atFirst); more != tt.grows {
				t.Errorf("%d charges at once, %d at first; want more: %t", most.Load(), atFirst, tt.grows)
			}
			if n := len(w.orders()); n < jobs {
				t.Errorf("requests: %d, want %d", n, jobs)
			}
		})
	}
}
