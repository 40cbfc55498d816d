package worker

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// TestPauseWhileWaitingForATurn: a job that waits, for a permit or for the account's rate, while the account is paused
// goes back; only the probe may go on. Who came before the pause is none.
func TestPauseWhileWaitingForATurn(t *testing.T) {
	for name, tt := range map[string]struct {
		rate    float64
		permits int
	}{"a permit": {0, 1}, "the rate": {1, 8}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				breaker, pauses := gate.NewBreaker(func(string, bool, string) {}), new(pausing)
				turns := &turns{
					limiter: gate.NewLimiter(tt.rate), breaker: breaker, unfit: new(gate.Pauses), pauses: pauses, outage: gate.NewOutage(&pauses.reasons, nil, nil),
					clock: &clock{wall: time.Now},
				}
				s := gate.NewSemaphore(tt.permits)
				first, _, ok := turns.take(t.Context(), gate.Delivery{Semaphore: s, Received: time.Now()})
				if !ok {
					t.Fatal("a free turn was not given")
				}
				waiting := make(chan *turn)
				const waiters = 3
				for range waiters {
					go func() {
						mine, _, ok := turns.take(t.Context(), gate.Delivery{Semaphore: s, Received: time.Now()})
						if ok {
							t.Error("a job that waited may be claimed though the account is paused")
						}
						waiting <- mine
					}()
				}
				synctest.Wait()
				breaker.Open(gate.PauseBreaker, "")
				first.permit.Release()
				for range waiters {
					(<-waiting).permit.Release()
				}
				former, _, ok := turns.take(t.Context(), gate.Delivery{Semaphore: s, Received: time.Now()})
				if former.permit.Release(); ok {
					t.Error("a job that was let through before the pause takes itself for the probe")
				}
				probe, _, ok := turns.take(t.Context(), gate.Delivery{Semaphore: s, Received: time.Now(), Probe: true})
				if !ok || !probe.probe {
					t.Error("the probe may not be claimed")
				}
				probe.permit.Release()
				breaker.Open(gate.PauseNotEvaluated, "")
				if _, _, ok := turns.take(t.Context(), gate.Delivery{Semaphore: s, Received: time.Now(), Probe: true}); ok {
					t.Error("S55: a job may be claimed while the canary is not well")
				}
			})
		})
	}
}

// TestPermitIsFreeWhileAResultIsRecorded: what Klarna has answered keeps no other job from asking Klarna.
func TestPermitIsFreeWhileAResultIsRecorded(t *testing.T) {
	w := newWorld(t)
	for n := range 12 {
		w.publish(w.due("recorded-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	release := make(chan struct{})
	w.startOn(tap{before: func(m *nats.Msg) error {
		if is(m, messages.KindPaid) {
			w.hold(release)
		}
		return nil
	}}, func(o *Options) { o.Accounts[0].Concurrency = 4 })
	w.await("five charges with four permits and no result", func() bool { return len(w.orders()) == 5 })
	w.expect(5)
	close(release)
	w.awaitEmpty()
	if n := len(w.orders()); n != 12 {
		t.Errorf("requests: %d, want 12", n)
	}
}

// inFlight has a charge in flight for each of the permits, which are some of those that quick charges have had before.
func inFlight(t *testing.T, s *gate.Semaphore, permits int) []*turn {
	t.Helper()
	flying := make([]*turn, permits)
	for round := range 2 { // the first one is quick
		for n := range flying {
			flying[n] = claimable(t, s)
			if !flying[n].permit.Send(t.Context(), 0) {
				t.Fatalf("round %d: permit %d may not be used", round, n+1)
			}
		}
		if round == 0 {
			gate.Sleep(t.Context(), 5*time.Millisecond)
			for _, mine := range flying {
				mine.permit.Release()
			}
		}
	}
	return flying
}

func claimable(t *testing.T, s *gate.Semaphore) *turn {
	t.Helper()
	permit, ok := s.Acquire(t.Context(), 0)
	if !ok {
		t.Fatalf("no permit, with %d in use", s.InUse())
	}
	permit.Begin()
	return &turn{permit: permit}
}

// wantUnsent checks that a claimed job goes back as if it had not been claimed.
func wantUnsent(t *testing.T, got journal.TryResult) {
	t.Helper()
	if !got.Unsent || !got.HandBack || got.Answer != journal.NoAnswer || got.Tries != 0 {
		t.Errorf("the job goes on with %+v, want it handed back unsent", got.Outcome)
	}
}

// TestClaimedAheadInVain: a job that was claimed ahead sends nothing until another is answered. Where Klarna has fallen silent,
// or the worker is told to stop, it goes back with its claim, as if it had not been claimed.
func TestClaimedAheadInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const permits = 16
		a, _, claim := compared(t)
		h := journal.HeldClaim{Claim: claim, SetsClock: true}
		s := gate.NewSemaphore(permits)
		inFlight(t, s, permits)
		ask := func(ctx context.Context, want time.Duration) {
			t.Helper()
			began := time.Now()
			wantUnsent(t, a.handler.asker.ask(ctx, nil, h, claimable(t, s))) // without a job: it would panic if it went on
			if took := time.Since(began); took != want {
				t.Errorf("waited for %s, want %s", took, want)
			}
			if s.InUse() != permits {
				t.Errorf("%d permits in use, want %d", s.InUse(), permits)
			}
		}
		stopped, stop := context.WithCancel(t.Context())
		stop()
		ask(stopped, 0)
		ask(t.Context(), sendPatience)
		if _, ok := s.Acquire(t.Context(), time.Hour); ok {
			t.Error("another job is claimed ahead while Klarna is silent")
		}
	})
}

// TestPauseAfterTheClaim: what pauses the account holds for those that were claimed before it and have sent nothing, since each could
// cost its renewal: Klarna may repeat a refusal. They go back, as those do that wait before their claim.
func TestPauseAfterTheClaim(t *testing.T) {
	for _, reason := range []string{gate.PauseBreaker, gate.PauseNotEvaluated, gate.PauseRefusedByConfig} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const permits = 16
				a, _, claim := compared(t)
				h := journal.HeldClaim{Claim: claim, SetsClock: true}
				s := gate.NewSemaphore(permits)
				flying := inFlight(t, s, permits)
				told := make(chan journal.TryResult)
				go func() { told <- a.handler.asker.ask(t.Context(), nil, h, claimable(t, s)) }() // without a job: it would panic if it went on
				synctest.Wait()
				a.handler.asker.breaker.Open(reason, "")
				flying[0].permit.Release()
				wantUnsent(t, <-told)
				if s.InUse() != permits-1 {
					t.Errorf("%d permits in use, want %d", s.InUse(), permits-1)
				}
			})
		})
	}
}

// TestConcurrency: however many jobs are at hand, and some of them claimed ahead, Klarna never sees more charges at once than
// the account may have. What is looked at beside them, see [asker.authorised], is no charge.
func TestConcurrency(t *testing.T) {
	const jobs, slots = 300, 32
	w := newWorld(t)
	var now, most atomic.Int64
	full := make(chan struct{})
	isFull := sync.OnceFunc(func() { close(full) })
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.klarna.Simulator.ServeHTTP(rw, r)
			return
		}
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == slots {
			isFull()
		}
		w.klarna.Simulator.ServeHTTP(rw, r)
	}))
	t.Cleanup(front.Close)
	endpoint, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	for n := range jobs {
		w.publish(w.due("many-"+strconv.Itoa(n), "slow-200-ok-"+strconv.Itoa(n), 1))
	}
	w.start(w.patient, func(o *Options) {
		client, err := klarna.New(klarna.Config{Endpoint: endpoint, Timeout: o.TryTimeout, Credentials: klarna.StaticCredentials("merchant", "secret-password")})
		if err != nil {
			t.Fatal(err)
		}
		o.Accounts[0].Klarna, o.Accounts[0].Concurrency = client, slots
	})
	w.awaitEmpty()
	select {
	case <-full:
	default:
		t.Errorf("never more than %d at once, want %d", most.Load(), slots)
	}
	if n := most.Load(); n > slots {
		t.Errorf("%d requests at once, want at most %d", n, slots)
	}
	if n := len(w.orders()); n != jobs {
		t.Errorf("requests: %d, want %d", n, jobs)
	}
}
