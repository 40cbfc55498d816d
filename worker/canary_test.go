package worker

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
)

// canaries is how often Klarna was asked for the token that names no customer.
func (w *world) canaries() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	canary := messages.NewCustomerToken(gate.CanaryToken).Fingerprint()
	for _, e := range w.seen {
		if e.Method == http.MethodGet && e.TokenFingerprint == canary {
			n++
		}
	}
	return n
}

// S48, S51: many jobs that are turned away for their own sake pause nobody, and one canary serves those of one moment. In
// the end they are the merchant's trouble.
func TestOddAnswersPauseNobody(t *testing.T) {
	const odd, good = 15, 60
	w := newWorld(t)
	for n := range odd {
		w.publish(w.due("odd-"+strconv.Itoa(n), "403-bare-"+strconv.Itoa(n), 1))
	}
	var worker *Worker
	w.startWith(&worker, w.patient, func(o *Options) { o.Accounts[0].Concurrency = 16 })
	w.await("every odd job to be turned away", func() bool { return len(w.orders()) >= odd })
	for n := range good {
		w.publish(w.due("good-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	w.await("the good ones", func() bool { return len(w.results()) == good })
	if why := (*worker.running.Load())[0].paused(); len(why) > 0 {
		t.Errorf("paused: %v", why)
	}
	if n := w.canaries(); n == 0 || n > len(w.orders())/8 {
		t.Errorf("canaries: %d, while Klarna was asked for orders %d times", n, len(w.orders()))
	}
	w.advance(15 * time.Minute)
	w.awaitEmpty()
	ended := map[string]int{}
	for _, r := range w.results() {
		ended[r.String()]++
	}
	if ended["paid"] != good || ended["dunning refused_without_code"] != odd {
		t.Errorf("ended: %v, want %d paid and %d refused without a code", ended, good, odd)
	}
}

// S55: the host has moved. The canary pauses the account, no job goes out meanwhile, no key's clock runs, and nobody
// is unresolved; once it is mended everybody is charged.
func TestHostHasMoved(t *testing.T) {
	t.Parallel()
	const jobs = 20
	for _, outage := range []string{"301", "302", "307", "308", "403-html", "401"} {
		t.Run(outage, func(t *testing.T) {
			w := newWorld(t)
			w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = outage })
			for n := range jobs {
				w.publish(w.due("s55-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
			}
			var worker *Worker
			w.startWith(&worker)
			w.await("the pause", func() bool {
				running := worker.running.Load()
				return running != nil && (*running)[0].breaker.PausedFor(gate.PauseNotEvaluated) && (*running)[0].inFlight.Load() == 0
			})
			w.advance(48 * time.Hour)
			tried, asked := len(w.orders()), w.canaries()
			w.await("two canaries", func() bool { return w.canaries() > asked+1 })
			if n := len(w.orders()); n != tried || n > 8 {
				t.Errorf("requests for orders: %d, after %d when the account was paused; want no job to go out", n, tried)
			}
			for _, r := range w.records() {
				if c := r.State.Claim; r.Kind != messages.KindCharging || c.Released && !c.FirstSentAt.IsZero() {
					t.Errorf("%s: %s, first sent at %s, want nobody's clock to run", r.ID, r, c.FirstSentAt)
				}
			}
			w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "" })
			worker.Retry()
			w.awaitEmpty()
			for _, r := range w.results() {
				if r.Kind != messages.KindPaid {
					t.Errorf("%s: %s", r.ID, r)
				}
			}
			if orders := len(w.klarna.Simulator.Books().Orders); orders != jobs {
				t.Errorf("orders: %d, want %d", orders, jobs)
			}
		})
	}
}

// S52: Klarna answers the look at an expired order 404 without a word, as Kustom does. That capture waits, and ends; the
// account's charges go on.
func TestLookAtAnExpiredOrder(t *testing.T) {
	w := newWorld(t)
	client := clientOf(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/ordermanagement/") {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		w.klarna.Simulator.ServeHTTP(rw, r)
	})
	var worker *Worker
	w.startWith(&worker, func(o *Options) { o.Accounts[0].Klarna = client })
	order := w.authorise("s52", "ok-s52")
	w.capture(messages.Capture{ID: "s52/capture", SubscriptionID: "s52", Period: "2026-12", OrderID: order})
	last := func() told {
		all := w.records()
		return all[len(all)-1]
	}
	w.await("two looks", func() bool { return last().State.NotEvaluated.N >= 2 })
	if c := last().State.Claim; !c.FirstSentAt.IsZero() || !c.Released || c.Capture.Amount != 0 {
		t.Errorf("claim: %+v, want one that only counts", c)
	}
	if why := (*worker.running.Load())[0].paused(); len(why) > 0 {
		t.Errorf("paused: %v", why)
	}
	w.publish(w.due("s52-other", "ok-other", 1))
	w.await("another's charge", func() bool { return len(w.results()) == 2 })
	w.advance(15 * time.Minute)
	w.awaitEmpty()
	w.expect(2, "paid", "paid", "capture_failed no_such_order")
	w.expectTaken()
	if r := w.results()[2]; r.Status != http.StatusNotFound || r.Notify || r.Category != messages.CategoryMerchantError {
		t.Errorf("result: %+v, want the merchant's 404", r)
	}
}

// S52: odd answers to captures and to looks at orders pause no charges either.
func TestOddCapturesPauseNobody(t *testing.T) {
	w := newWorld(t)
	var worker *Worker
	stop := w.startWith(&worker)
	order := w.authorise("s52", "ok-s52")
	stop()
	w.startWith(&worker, func(o *Options) { o.RetryDelays = []time.Duration{time.Hour} })
	w.capture(messages.Capture{ID: "s52/capture", SubscriptionID: "s52", Period: "2026-12", OrderID: order, Reference: "404-bare-1"})
	asked := len(w.orders())
	w.await("the capture", func() bool { return len(w.orders()) > asked })
	w.publish(w.due("s52-other", "ok-other", 1))
	w.await("another's charge", func() bool { return len(w.results()) == 2 })
	if why := (*worker.running.Load())[0].paused(); len(why) > 0 {
		t.Errorf("paused: %v", why)
	}
}
