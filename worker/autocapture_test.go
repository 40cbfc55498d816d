package worker

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// looks are the times that Klarna was asked for an order.
func (w *world) looks() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.seen {
		if e.Method == http.MethodGet && strings.HasPrefix(e.Path, "/ordermanagement/v1/orders/") {
			n++
		}
	}
	return n
}

// charged charges a renewal whose order Klarna is asked to capture, and returns what was told.
func (w *world) charged(token string) messages.Paid {
	w.t.Helper()
	w.publish(w.due("sub", token, 1))
	w.awaitEmpty()
	w.expect(1, "paid")
	return last[messages.Paid](w)
}

// unsampled makes the orders of a worker those that nobody looks at by the way.
func (w *world) unsampled(started *Worker) {
	w.t.Helper()
	w.await("the worker to run", func() bool { return started.running.Load() != nil })
	for _, a := range *started.running.Load() {
		a.handler.asker.autoCaptures.made.Store(sampledFirst)
	}
}

// behind is a client of the simulator whose requests go through h.
func (w *world) behind(o *Options, h http.Handler) *klarna.Client {
	w.t.Helper()
	server := httptest.NewServer(h)
	w.t.Cleanup(server.Close)
	endpoint, err := url.Parse(server.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	client, err := klarna.New(klarna.Config{Endpoint: endpoint, Timeout: o.TryTimeout, Credentials: klarna.StaticCredentials("merchant", "secret-password")})
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}

// A logbook is a log that tests read while it is written.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

const ignoredName = "renewals_auto_capture_ignored"

// S66: Klarna has not approved auto_capture and leaves the orders authorised. The look at the first orders finds out: the results
// say that the money is still to be captured, the metric counts them, the log tells it once, they count as uncaptured, and a
// capture job takes the money.
func TestAutoCaptureIgnored(t *testing.T) {
	w := newWorld(t)
	r, log := prometheus.NewRegistry(), new(logbook)
	var worker *Worker
	w.startWith(&worker, func(o *Options) { o.Metrics, o.Log = NewMetrics(r), zerolog.New(log) })
	paid := w.charged("uncaptured-1")
	if left := paid.CaptureBefore.Sub(w.now()); paid.Captured || left < 27*24*time.Hour || left > 28*24*time.Hour {
		t.Errorf("captured %t, to be captured within %v, want false, and 28 days", paid.Captured, left)
	}
	order := w.results()[0].State.Order
	want := journal.Order{ID: paid.OrderID, Amount: 1599, Currency: "EUR", MerchantReference1: "sub", CaptureBefore: paid.CaptureBefore}
	if order == nil {
		t.Fatal("no order in the state, want it there to be captured")
	}
	if order.CaptureBefore = order.CaptureBefore.Truncate(time.Millisecond); *order != want {
		t.Errorf("order in the state: %+v, want %+v", *order, want)
	}
	w.publish(w.due("other", "uncaptured-2", 1))
	w.awaitEmpty()
	if n := metric(t, r, ignoredName, ""); n != 2 {
		t.Errorf("%s %v, want 2", ignoredName, n)
	}
	if n := log.count("although auto_capture asked for it"); n != 1 {
		t.Errorf("the log tells it %d times, want once", n)
	}

	w.advance(26 * 24 * time.Hour)
	counted := func(n int) func() bool {
		return func() bool {
			e := worker.expiring.Load()
			return e != nil && (*e)["default"] == n
		}
	}
	w.await("both to be counted as about to expire", counted(2))
	looks := w.looks()
	w.capture(part("c1", 0))
	w.awaitEmpty()
	w.await("the other to be counted", counted(1))
	w.expect(2, "paid", "paid", "captured")
	w.expectTaken(1599)
	if n := w.looks() - looks; n != 1 {
		t.Errorf("%d looks at the order of a capture, want one", n)
	}
	if n := metric(t, r, ignoredName, ""); n != 2 {
		t.Errorf("%s %v after the capture, want 2 as before", ignoredName, n)
	}
}

// S66: of an order that was captured in part by Klarna itself the rest is left.
func TestAutoCaptureInPart(t *testing.T) {
	w := newWorld(t)
	w.start()
	paid := w.charged("partly-captured-1")
	if s := w.results()[0].State; paid.Captured || s.Order == nil || s.Order.Captured != 799 {
		t.Errorf("captured %t, order %+v, want false, and 799 of it", paid.Captured, s.Order)
	}
	w.capture(part("c1", 801))
	w.awaitEmpty()
	w.capture(part("c2", 0))
	w.awaitEmpty()
	w.expect(1, "paid", "rejected amount_too_high", "captured")
	w.expectTaken(799, 800)
	if c := last[messages.Captured](w); c.CapturedAmount != 800 || c.TotalCapturedAmount != 1599 || c.RemainingAmount != 0 || c.Attempt != 1 {
		t.Errorf("captured = %+v, want the rest", c)
	}
}

// The first orders after the start are looked at, and then one of very many. Those that Klarna captured are paid as ever.
func TestAutoCaptureIsSampled(t *testing.T) {
	w := newWorld(t)
	r := prometheus.NewRegistry()
	stop := w.start(func(o *Options) { o.Metrics = NewMetrics(r) })
	const more = 5
	for n := range sampledFirst + more {
		w.publish(w.due(fmt.Sprint("sub-", n), "ok-1", 1))
	}
	w.awaitEmpty()
	if n := w.looks(); n != sampledFirst {
		t.Errorf("%d orders looked at, want the first %d", n, sampledFirst)
	}
	for _, result := range w.results() {
		if result.Kind != messages.KindPaid || result.State.Order != nil {
			t.Errorf("%s, order to capture %+v, want paid, and none", result, result.State.Order)
		}
	}
	if n := metric(t, r, ignoredName, ""); n != 0 {
		t.Errorf("%s %v, want it there at 0", ignoredName, n)
	}
	stop()
	w.start()
	w.publish(w.due("after the start", "ok-1", 1))
	w.awaitEmpty()
	if n := w.looks(); n != sampledFirst+1 {
		t.Errorf("%d orders looked at after another start, want one more", n)
	}
}

func TestWhichOrdersAreSampled(t *testing.T) {
	var c autoCaptures
	var got []int
	for n := range 3*sampledEvery + 1 {
		if c.sample() {
			got = append(got, n+1)
		}
	}
	if len(got) != sampledFirst+3 || got[0] != 1 || got[sampledFirst-1] != sampledFirst || fmt.Sprint(got[sampledFirst:]) != "[1000 2000 3000]" {
		t.Errorf("looked at: %v, want the first %d and every %dth", got, sampledFirst, sampledEvery)
	}
}

// What the look does not tell is not known, and it holds no result up for long: neither of a Klarna that does not answer it nor of
// one that answers it with an error.
func TestAutoCaptureNotLookedAt(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"an error":  func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) },
		"no order":  func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(`{}`)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var asked atomic.Int64
			w.start(func(o *Options) {
				o.Accounts[0].Klarna = w.behind(o, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/orders/") {
						asked.Add(1)
						answer(rw, r)
						return
					}
					w.klarna.Simulator.ServeHTTP(rw, r)
				}))
			})
			began := time.Now()
			if paid := w.charged("uncaptured-1"); !paid.Captured || !paid.CaptureBefore.IsZero() || asked.Load() != 1 {
				t.Errorf("captured %t, before %v, after %d looks, want what was asked for, after one", paid.Captured, paid.CaptureBefore, asked.Load())
			}
			if s := w.results()[0].State; s.Order != nil {
				t.Errorf("order to capture %+v, want none", s.Order)
			}
			t.Logf("the result came after %s", time.Since(began).Round(time.Millisecond))
		})
	}
}

// S66: nobody has looked at the order, and a capture job does: it takes what Klarna left.
func TestCaptureOfAnOrderThatKlarnaLeft(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		token string
		job   messages.Capture
		want  string
		taken []int64
	}{
		{token: "uncaptured-1", job: part("c1", 0), want: "captured", taken: []int64{1599}},
		{token: "uncaptured-1", job: part("c1", 500), want: "captured", taken: []int64{500}},
		{token: "uncaptured-1", job: part("c1", 1600), want: "rejected amount_too_high"},
		{token: "partly-captured-1", job: part("c1", 0), want: "captured", taken: []int64{799, 800}},
		{token: "partly-captured-1", job: part("c1", 801), want: "rejected amount_too_high", taken: []int64{799}},
	} {
		t.Run(fmt.Sprint(row.token, " ", row.job.CapturedAmount), func(t *testing.T) {
			w := newWorld(t)
			r := prometheus.NewRegistry()
			var worker *Worker
			w.startWith(&worker, func(o *Options) { o.Metrics = NewMetrics(r) })
			w.unsampled(worker)
			if paid := w.charged(row.token); !paid.Captured || w.looks() != 0 {
				t.Fatalf("captured %t after %d looks, want what was asked for, and none", paid.Captured, w.looks())
			}
			w.capture(row.job)
			w.awaitEmpty()
			told := toldOf(w, messages.Kind(strings.Fields(row.want)[0]))
			if told.OrderAmount != 1599 || told.PurchaseCurrency != "EUR" || told.MerchantReference1 != "sub" || told.Attempt != 1 {
				t.Errorf("the result of the capture is about %+v, want the order", told)
			}
			w.publish(w.due("sub", "ok-2", 2))
			w.awaitEmpty()
			after := "rejected order_exists"
			if strings.HasPrefix(row.want, "rejected") {
				after = "rejected already_paid"
			}
			w.expect(1, "paid", row.want, after)
			w.expectTaken(row.taken...)
			if n := metric(t, r, ignoredName, ""); n != 1 {
				t.Errorf("%s %v, want 1", ignoredName, n)
			}
		})
	}
}

// toldOf is what the newest record of a kind says of its renewal.
func toldOf(w *world, k messages.Kind) messages.Record {
	w.t.Helper()
	switch k {
	case messages.KindCaptured:
		return last[messages.Captured](w).Record
	case messages.KindCaptureFailed:
		return last[messages.CaptureFailed](w).Record
	case messages.KindCapturing:
		return last[messages.Capturing](w).Record
	}
	return last[messages.Rejected](w).Record
}

// A capture job that comes right after paid, for an order that Klarna captured as it was asked to: one look, no capture, and
// the renewal stays as it was.
func TestCaptureRightAfterPaid(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.charged("ok-1")
	before, looks, orders := w.results()[0].State, w.looks(), len(w.orders())
	w.capture(part("c1", 0))
	w.awaitEmpty()
	w.expect(1, "paid", "rejected already_captured")
	w.expectTaken()
	if looked, asked := w.looks()-looks, len(w.orders())-orders; looked != 1 || asked != 0 {
		t.Errorf("%d looks and %d captures asked for, want one look", looked, asked)
	}
	rejected := last[messages.Rejected](w)
	if rejected.OrderAmount != 1599 || rejected.PurchaseCurrency != "EUR" || rejected.MerchantReference1 != "sub" || rejected.Attempt != 1 {
		t.Errorf("rejected = %+v, want it about the order", rejected)
	}
	after := w.results()[1].State
	if after.Phase != before.Phase || after.Order != nil || after.Claim.Key != before.Claim.Key || after.Claim.OrderID != before.Claim.OrderID {
		t.Errorf("state after the rejection: %+v, want it as before: %+v", after, before)
	}
}

// A capture of an order that Klarna was asked to capture, where nothing is learned from the look, or the worker breaks before it:
// what is recorded has the amounts of the result that it was paid with.
func TestCaptureOfAnOrderThatIsNotTold(t *testing.T) {
	t.Parallel()
	for name, turnsAway := range map[string]bool{"Klarna knows no such order": false, "Klarna turns the look away": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start(func(o *Options) {
				o.Accounts[0].Klarna = w.behind(o, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if turnsAway && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/orders/") {
						rw.WriteHeader(http.StatusForbidden)
						return
					}
					w.klarna.Simulator.ServeHTTP(rw, r)
				}))
			})
			order := w.charged("ok-1").OrderID
			want, kinds := "capture_failed no_such_order", []messages.Kind{messages.KindCaptureFailed}
			if turnsAway {
				want, kinds = "capture_failed refused_without_code", append(kinds, messages.KindCapturing)
			} else {
				w.forgets()
			}
			w.capture(part("c1", 0))
			if turnsAway {
				w.await("two odd answers", func() bool {
					all := w.records()
					return all[len(all)-1].State.NotEvaluated.N >= 2
				})
				w.advance(15 * time.Minute)
			}
			w.awaitEmpty()
			if results := w.results(); len(results) != 2 || results[1].String() != want || results[1].Order != order {
				t.Errorf("results: %v, want %s of order %s", results, want, order)
			}
			for _, k := range kinds {
				if told := toldOf(w, k); told.OrderAmount != 1599 || told.PurchaseCurrency != "EUR" || told.MerchantReference1 != "sub" {
					t.Errorf("%s is about %+v, want the order as it was paid", k, told)
				}
			}
			if failed := last[messages.CaptureFailed](w); failed.CapturedAmount != 1599 {
				t.Errorf("capture_failed = %+v, want all that was asked for", failed)
			}
			w.expectTaken()
		})
	}
}

// forgets lets Klarna lose its books.
func (w *world) forgets() {
	w.t.Helper()
	request := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/sim/reset", nil)
	answer := httptest.NewRecorder()
	w.klarna.Simulator.ServeHTTP(answer, request)
	if answer.Code >= 300 {
		w.t.Fatalf("reset: %d %s", answer.Code, answer.Body)
	}
}

// S35: a capture of an order that Klarna left makes the worker panic before it is claimed: counted, rejected in the end, and the
// renewal stays as it was.
func TestCaptureOfAnOrderThatKlarnaLeftPanics(t *testing.T) {
	w := newWorld(t)
	var broken atomic.Bool
	broken.Store(true)
	var worker *Worker
	js := w.js
	w.js = tap{JetStream: js, before: func(m *nats.Msg) error {
		if broken.Load() && is(m, messages.KindCapturing) && claims(m) {
			panic("poison")
		}
		return nil
	}}
	w.startWith(&worker)
	w.js = js
	w.unsampled(worker)
	order := w.charged("uncaptured-1").OrderID
	w.capture(part("c1", 500))
	w.awaitEmpty()
	w.expect(1, "paid", "rejected poison")
	counted := last[messages.Capturing](w)
	if counted.OrderID != order || counted.CapturedAmount != 500 || counted.OrderAmount != 1599 || counted.PurchaseCurrency != "EUR" {
		t.Errorf("the last panic is recorded as %+v, want 500 wanted of order %s", counted, order)
	}
	broken.Store(false)
	w.capture(part("c2", 0))
	w.awaitEmpty()
	w.expect(1, "paid", "rejected poison", "captured")
	w.expectTaken(1599)
}
