package worker

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// dueIn makes a job fall due so much later.
func (w *world) dueIn(d time.Duration) func(map[string]any) {
	return func(j map[string]any) { j["due_at"] = w.now().Add(d).UTC().Format(time.RFC3339Nano) }
}

// waiting are the subjects on which jobs are parked.
func (w *world) waiting() (all []string) {
	w.t.Helper()
	found, err := topology.Subjects(w.t.Context(), w.js, messages.StreamLater, messages.ParkedFilter("*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for subject := range found {
		all = append(all, subject)
	}
	slices.Sort(all)
	return all
}

// awaitParked waits until so many jobs are parked and none is left in RENEWALS.
func (w *world) awaitParked(n int) {
	w.t.Helper()
	w.await(strconv.Itoa(n)+" parked jobs", func() bool { return len(w.waiting()) == n && w.left() == 0 })
}

// awaitDone waits until neither stream holds a job.
func (w *world) awaitDone() {
	w.t.Helper()
	w.await("every job to be done", func() bool {
		later, err := w.js.Stream(w.t.Context(), messages.StreamLater)
		if err != nil {
			w.t.Fatal(err)
		}
		return w.left() == 0 && later.CachedInfo().State.Msgs == 0
	})
}

func parks(m *nats.Msg) bool { return strings.HasPrefix(m.Subject, "renewals.parked.") }

// S77: jobs that were published the evening before fill max_ack_pending five times over. What is
// due is charged all the same, and each of them when it falls due.
func TestEarlyJobsWaitOutside(t *testing.T) {
	const early, due, places = 100, 10, 20
	w := newWorld(t)
	consumer, err := w.js.Consumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default"))
	if err != nil {
		t.Fatal(err)
	}
	config := consumer.CachedInfo().Config
	config.MaxAckPending = places
	if _, err := w.js.UpdateConsumer(t.Context(), messages.StreamJobs, config); err != nil {
		t.Fatal(err)
	}
	// The worker would refuse so small a consumer, and 100,000 jobs take long to publish.
	ours := w.js
	w.js = says{ours, func(i *jetstream.ConsumerInfo) { i.Config.MaxAckPending = 100_000 }}
	for n := range early {
		w.publish(w.due("early-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1, w.dueIn(8*time.Second)))
	}
	for n := range due {
		w.publish(w.due("due-"+strconv.Itoa(n), "ok-due-"+strconv.Itoa(n), 1))
	}
	r := prometheus.NewRegistry()
	w.start(func(o *Options) { o.Metrics = NewMetrics(r) })
	w.js = ours
	w.awaitParked(early)
	w.await("what is due to be charged", func() bool { return len(w.results()) == due })
	for _, c := range w.orders() {
		if strings.Contains(c.Path, "ok-early") {
			t.Error("charged before it was due")
		}
	}
	o, err := desk.Look(t.Context(), w.js, w.now())
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Accounts) != 1 || o.Accounts[0].Parked != early || o.Accounts[0].ParkedUntil.IsZero() || o.Accounts[0].Backlog != 0 {
		t.Errorf("overview %+v, want %d parked, none in the queue", o.Accounts, early)
	}
	if n := w.gauge("renewals_parked"); n != early {
		t.Errorf("gauge: %v parked, want %d", n, early)
	}
	w.awaitDone()
	for _, r := range w.results() {
		if r.Kind != messages.KindPaid {
			t.Errorf("%s: %s", r.ID, r)
		}
	}
	if orders := len(w.klarna.Simulator.Books().Orders); orders != early+due {
		t.Errorf("orders: %d, want %d", orders, early+due)
	}
	if _, sum := endToEnd(t, r); sum > 300 {
		t.Errorf("end to end: %.0f s in all, want each counted from due_at on", sum)
	}
}

// endToEnd is how many results were counted, and the sum of their times in seconds.
func endToEnd(t *testing.T, r *prometheus.Registry) (results uint64, sum float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "renewals_end_to_end_seconds" {
			for _, m := range f.GetMetric() {
				results, sum = results+m.GetHistogram().GetSampleCount(), sum+m.GetHistogram().GetSampleSum()
			}
		}
	}
	return results, sum
}

// S77: what a job is read by survives the wait: an ID that only a header had, metadata, the
// trace, and that it is a replay. It is counted from when it fell due.
func TestParkedJobComesOutAsItWas(t *testing.T) {
	w := newWorld(t)
	noID := func(j map[string]any) { delete(j, "id"); j["metadata"] = map[string]string{"plan": "premium"} }
	header := nats.Header{
		"Nats-Msg-Id": {"só/1"}, "traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "Renewals-Id": {"a stranger's"},
		"Renewals-Published": {"2020-01-01T00:00:00Z"}, "Nats-Expected-Stream": {messages.StreamJobs},
	}
	w.publishTo("default", w.due("as-it-was", "ok-1", 1, noID, w.dueIn(4*time.Second)), header)
	r := prometheus.NewRegistry()
	w.start(func(o *Options) { o.Metrics = NewMetrics(r) })
	w.awaitParked(1)
	w.expect(0)
	w.awaitDone()
	w.expect(1, "paid")
	for _, p := range bodies[messages.Paid](w) {
		if p.ID != "só/1" || p.Metadata["plan"] != "premium" {
			t.Errorf("paid %+v, want the ID of the header and the metadata", p)
		}
	}
	records, err := w.js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	paid, err := records.GetLastMsgForSubject(t.Context(), messages.RecordFilter(messages.KindPaid, "*"))
	if err != nil || paid.Header.Get("traceparent") != header["traceparent"][0] {
		t.Errorf("traceparent of the result: %q, %v", paid.Header.Get("traceparent"), err)
	}
	if n, sum := endToEnd(t, r); n != 1 || sum > 3 {
		t.Errorf("%d results in %.1f s, want one counted from due_at", n, sum)
	}
}

// S77: whatever goes wrong while a job is parked, it is charged once when it is due.
func TestParkingBreaks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		before, after error
	}{
		{"never stored", nats.ErrTimeout, nil},
		{"no stream answers", jetstream.ErrNoStreamResponse, nil},
		{"refused", &jetstream.APIError{Code: 400, ErrorCode: 10047}, nil},
		{"stored, the answer lost", nil, nats.ErrTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.publish(w.due("breaks", "ok-1", 1, w.dueIn(5*time.Second)))
			var tries atomic.Int64
			fails := func(err error) func(*nats.Msg) error {
				return func(m *nats.Msg) error {
					if parks(m) && err != nil && tries.Add(1) <= 3 {
						if w.left() != 1 {
							t.Error("acknowledged before it was stored")
						}
						return err
					}
					return nil
				}
			}
			w.startOn(tap{before: fails(tt.before), after: fails(tt.after)})
			w.awaitParked(1)
			w.awaitDone()
			w.expect(1, "paid")
			if tries.Load() < 3 {
				t.Errorf("tries to park: %d", tries.Load())
			}
		})
	}
}

// S89: a schedule that carries a message ID which the stream has seen is confirmed, and not stored.
func TestNotAcknowledgedOnADuplicate(t *testing.T) {
	w := newWorld(t)
	const seen = "seen within the window"
	if _, err := w.js.Publish(t.Context(), messages.LaterSubject("nobody"), nil, jetstream.WithMsgID(seen)); err != nil {
		t.Fatal(err)
	}
	var duplicates atomic.Int64
	var healed atomic.Bool
	w.publishTo("default", w.due("s89", "ok-1", 1, w.dueIn(5*time.Second)), nats.Header{"Nats-Msg-Id": {"s89/2026-12/1"}})
	w.startOn(tap{before: func(m *nats.Msg) error {
		if !parks(m) {
			return nil
		}
		if m.Header.Get(nats.MsgIdHdr) != "" {
			t.Error("the job's own message ID is copied")
		}
		if !healed.Load() {
			m.Header.Set(nats.MsgIdHdr, seen)
			duplicates.Add(1)
		}
		return nil
	}})
	w.await("three answers", func() bool { return duplicates.Load() >= 3 })
	if w.left() != 1 || len(w.waiting()) != 0 {
		t.Errorf("jobs left %d, parked %v: acknowledged though it is stored nowhere", w.left(), w.waiting())
	}
	healed.Store(true)
	w.await("the job to be done", func() bool { return w.left() == 0 && len(w.results()) == 1 })
	w.expect(1, "paid")
}

// S90: two early jobs of one renewal wait on subjects of their own, and each gets its result.
func TestTwoEarlyJobsOfOneRenewal(t *testing.T) {
	w := newWorld(t)
	for n := 1; n <= 2; n++ {
		w.publish(w.due("s90", "ok-1", n, w.dueIn(5*time.Second)))
	}
	w.start()
	w.awaitParked(2)
	w.expect(0)
	w.awaitDone()
	w.expect(1, "paid", "rejected already_paid")
}

// TestParkedConflict: the same ID with other bytes waits on a subject of its own, too, and ends as a conflict under a
// stand-in of the stream that it came from (S90).
func TestParkedConflict(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("twice", "ok-1", 1, w.dueIn(4*time.Second)))
	w.publish(w.due("twice", "ok-2", 1, w.dueIn(4*time.Second)))
	w.start()
	w.awaitParked(2)
	w.awaitDone()
	got := []string{}
	for _, r := range w.results() {
		got = append(got, r.String())
	}
	slices.Sort(got) // the conflict is seen while the charge is under way, or after it
	if !slices.Equal(got, []string{"paid", "rejected conflict"}) || len(w.klarna.Simulator.Books().Orders) != 1 {
		t.Errorf("results %v, want one of each and one order", got)
	}
	letters, _ := w.deadLetters()
	if len(letters) != 1 || letters[0].Stream != messages.StreamLater || letters[0].Subject != messages.DueSubject("default") {
		t.Errorf("dead letters: %+v, want one from %s that is replayed where jobs are published", letters, messages.StreamLater)
	}
}

// TestParkedRenewalCancelled: a period may be cancelled while its job is parked (S15, S77).
func TestParkedRenewalCancelled(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("cancelled", "ok-1", 1, w.dueIn(4*time.Second)))
	w.start()
	w.awaitParked(1)
	records, err := journal.Open(t.Context(), w.js, DefaultOptions().Log)
	if err != nil {
		t.Fatal(err)
	}
	if err := records.Cancel(t.Context(), "default", "cancelled", "2026-12", journal.Decision{Actor: "anna", At: w.now()}); err != nil {
		t.Fatal(err)
	}
	w.awaitDone()
	w.expect(0, "cancelled", "rejected cancelled")
}

// TestParkedTooEarlyAgain: a job that comes out long before it is due, since a clock was wrong, is parked where it was (S77, S78).
func TestParkedTooEarlyAgain(t *testing.T) {
	w := newWorld(t)
	payload := w.due("again", "ok-1", 1, w.dueIn(5*time.Second))
	subject := messages.ParkedSubject(messages.NewRenewal("again", "2026-12"), 7, payload, "default")
	header := messages.Parked{ID: "again/2026-12/1", Account: "default", Published: w.now(), DueAt: w.now().Add(-time.Second)}.Header()
	if _, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: header, Data: payload}); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.await("the job to be parked again", func() bool { return slices.Equal(w.waiting(), []string{subject}) })
	w.awaitDone()
	w.expect(1, "paid")
}

// S91: what a publisher writes into headers for the server moves nothing of others, on RENEWALS as it is provisioned.
func TestPublishersHeadersMoveNothing(t *testing.T) {
	w := newWorld(t, "default", "other")
	w.publishTo("other", w.due("of-others", "ok-1", 1), nil)
	parkedByOthers := messages.ParkedSubject(messages.NewRenewal("of-others", "2027-01"), 1, nil, "other")
	others := messages.Parked{ID: "of-others/2027-01/1", Account: "other", DueAt: w.now().Add(time.Hour)}
	if _, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: parkedByOthers, Header: others.Header()}); err != nil {
		t.Fatal(err)
	}
	at := "@at " + time.Now().Add(4*time.Second).UTC().Format(time.RFC3339)
	hostile := []nats.Header{
		{"Nats-Rollup": {"all"}}, {"Nats-Rollup": {"sub"}},
		{"Nats-Schedule": {at}, "Nats-Schedule-Target": {messages.DueSubject("other")}},
		{"Nats-Schedule-Target": {messages.LaterSubject("other")}},
		{"Nats-Schedule-Next": {"purge"}, "Nats-Scheduler": {parkedByOthers}},
		{"Nats-Schedule-Next": {"purge"}, "Nats-Scheduler": {messages.DueSubject("other")}},
	}
	accepted := 0
	for n, header := range hostile {
		name := "hostile-" + strconv.Itoa(n)
		if _, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: messages.DueSubject("default"), Header: header, Data: w.due(name, "ok-"+name, 1, w.dueIn(4*time.Second))}); err == nil {
			accepted++
		}
	}
	stream, err := w.js.Stream(t.Context(), messages.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.GetLastMsgForSubject(t.Context(), messages.DueSubject("other")); err != nil {
		t.Errorf("another account's job: %v", err)
	}
	w.start() // only serves account default
	w.await("the early jobs to be parked", func() bool { return w.left() == 1 && len(w.waiting()) == accepted+1 })
	w.await("their results", func() bool { return len(w.results()) == accepted })
	if left := w.waiting(); !slices.Equal(left, []string{parkedByOthers}) || w.left() != 1 {
		t.Errorf("of others are left: %d jobs, parked %v; want one of each", w.left(), left)
	}
	for _, r := range w.results() {
		if r.Kind != messages.KindPaid {
			t.Errorf("%s: %s", r.ID, r)
		}
	}
	t.Logf("%d of %d accepted", accepted, len(hostile))
}

// counting is a client of the simulator; most is how many requests it had at once.
func (w *world) counting(o *Options, now, most *atomic.Int64) *klarna.Client {
	w.t.Helper()
	gate := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		w.klarna.Simulator.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(gate.Close)
	endpoint, err := url.Parse(gate.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	client, err := klarna.New(klarna.Config{Endpoint: endpoint, Timeout: o.TryTimeout, Credentials: klarna.StaticCredentials("merchant", "secret-password")})
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}

// TestConcurrencyIsSharedWithParkedJobs: Klarna does not see where a charge waited.
func TestConcurrencyIsSharedWithParkedJobs(t *testing.T) {
	const jobs, slots = 12, 3
	w := newWorld(t)
	var now, most atomic.Int64
	w.start(func(o *Options) {
		o.Accounts[0].Concurrency = slots
		o.Accounts[0].Klarna = w.counting(o, &now, &most)
	})
	for n := range jobs {
		w.publish(w.due("early-"+strconv.Itoa(n), "slow-200-ok-"+strconv.Itoa(n), 1, w.dueIn(4*time.Second)))
	}
	w.awaitParked(jobs)
	for n := range 8 * jobs { // for longer than the others wait
		w.publish(w.due("due-"+strconv.Itoa(n), "slow-200-ok-due-"+strconv.Itoa(n), 1))
	}
	w.awaitDone()
	if n := most.Load(); n != slots {
		t.Errorf("%d requests at once, want %d", n, slots)
	}
	if n := len(w.klarna.Simulator.Books().Orders); n != 9*jobs {
		t.Errorf("orders: %d, want %d", n, 9*jobs)
	}
}

// oldServer is a server of before schedules: it leaves out what it does not know.
type oldServer struct{ jetstream.JetStream }

func (s oldServer) CreateStream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	c.AllowMsgSchedules = false
	return s.JetStream.CreateStream(ctx, c)
}

// TestServerWithoutSchedules: a server that cannot park is refused by name, before there is anything to lose.
func TestServerWithoutSchedules(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{messages.StreamLater, messages.StreamJobs} {
		if err := w.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	err := Provision(t.Context(), oldServer{w.js}, topology.Provisioning{Accounts: []messages.Account{"default"}})
	if err == nil || !strings.Contains(err.Error(), "message schedules") || !strings.Contains(err.Error(), "2.12") {
		t.Errorf("provision: %v, want the missing schedules by name", err)
	}
	if _, err := w.js.Stream(t.Context(), messages.StreamJobs); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("%s was made: %v", messages.StreamJobs, err)
	}
}

// says is a JetStream that tells something else of a consumer of charges.
type says struct {
	jetstream.JetStream
	change func(*jetstream.ConsumerInfo)
}

func (s says) Consumer(ctx context.Context, stream, name string) (jetstream.Consumer, error) {
	c, err := s.JetStream.Consumer(ctx, stream, name)
	if err != nil || name != topology.ConsumerName("default") {
		return c, err
	}
	info := *c.CachedInfo()
	s.change(&info)
	return consumerSays{c, &info}, nil
}

type consumerSays struct {
	jetstream.Consumer
	info *jetstream.ConsumerInfo
}

func (c consumerSays) CachedInfo() *jetstream.ConsumerInfo { return c.info }

// TestNearlyFull: a consumer of which waiting jobs take 80 % of max_ack_pending is told of, everywhere.
func TestNearlyFull(t *testing.T) {
	w := newWorld(t)
	r := prometheus.NewRegistry()
	var pending atomic.Int64
	pending.Store(79_999)
	ours := w.js
	w.js = says{ours, func(i *jetstream.ConsumerInfo) { i.NumAckPending = int(pending.Load()) }}
	w.start(func(o *Options) { o.Metrics = NewMetrics(r) })
	w.js = ours
	told := func() bool {
		o, err := desk.Look(t.Context(), w.js, w.now())
		return err == nil && len(o.Accounts) == 1 && o.Accounts[0].NearlyFull[topology.ConsumerName("default")] >= nearlyFull && strings.Contains(o.Accounts[0].Human(), "max_ack_pending")
	}
	w.await("the gauge", func() bool {
		return metric(t, r, "renewals_ack_pending_ratio", topology.ConsumerName("default")) == 0.79999
	})
	if told() {
		t.Error("told of at less than 80 %")
	}
	pending.Store(80_000)
	w.await("the gauge", func() bool {
		return metric(t, r, "renewals_ack_pending_ratio", topology.ConsumerName("default")) == 0.8
	})
	w.await("the worker's presence to say so", told)
}
