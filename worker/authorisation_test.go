package worker

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// A merchant that captures late has many authorisations open: what the sweeper
// keeps of those that end later than in five days is one range of records a day.
func TestAuthorisationsAreBounded(t *testing.T) {
	const many = 200_000
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	authorised := newAuthorisations()
	before := used()
	for n := range many {
		s := journal.State{Phase: journal.PhasePaid, Order: &journal.Order{Amount: 1599, CaptureBefore: now.Add(6*24*time.Hour + time.Duration(n)*10*time.Second)}}
		authorised.note(messages.Renewal("renewal-"+strconv.Itoa(n)), "default", s, uint64(n+1), now)
	}
	if took := int64(used()) - int64(before); took > 1<<20 {
		t.Errorf("%d authorisations take %d bytes", many, took)
	}
	if len(authorised.soon) != 0 || len(authorised.later) > 25 {
		t.Errorf("kept: %d, and %d ranges; want one range for each of 24 days", len(authorised.soon), len(authorised.later))
	}
	covered := uint64(0)
	for _, s := range authorised.later {
		covered += s.last - s.first + 1
	}
	if covered != many {
		t.Errorf("records to be read again: %d, want each once", covered)
	}
	runtime.KeepAlive(authorised)
}

// What is in memory is what ends soon, and only while it is uncaptured.
func TestAuthorisationsThatEndSoon(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	a := newAuthorisations()
	order := journal.Order{Amount: 1599, CaptureBefore: now.Add(3 * 24 * time.Hour)}
	a.note("r", "default", journal.State{Order: &order}, 1, now)
	if len(a.soon) != 1 || len(a.later) != 0 {
		t.Errorf("one that ends in three days: %+v", a)
	}
	longer := order
	longer.CaptureBefore = now.Add(20 * 24 * time.Hour)
	a.note("r", "default", journal.State{Order: &longer}, 2, now)
	if len(a.soon) != 0 || len(a.later) != 1 {
		t.Errorf("one whose end was moved: %+v", a)
	}
	a.note("r", "default", journal.State{Order: &order}, 3, now)
	order.Captured = order.Amount
	a.note("r", "default", journal.State{Order: &order}, 4, now)
	if len(a.soon) != 0 {
		t.Errorf("one that was captured: %+v", a)
	}
}

// What ends later is read again when it ends soon; what was captured in between is not counted.
func TestAuthorisationsAreReadAgain(t *testing.T) {
	w := newWorld(t)
	var worker *Worker
	w.startWith(&worker)
	for _, s := range []string{"one", "two", "three"} {
		w.authorise(s, "ok-"+s)
	}
	w.advance(2 * 24 * time.Hour) // far enough for the sweeper to read, too early to keep
	counted := func(n int) func() bool {
		return func() bool {
			e := worker.expiring.Load()
			return e != nil && (*e)["default"] == n
		}
	}
	for range 2 { // the first may have begun before
		last := worker.expiring.Load()
		w.await("a sweep", func() bool { return worker.expiring.Load() != last })
	}
	if !counted(0)() {
		t.Error("counted before they end soon")
	}
	c := part("c1", 0)
	c.SubscriptionID = "one"
	w.capture(c)
	w.awaitEmpty()
	w.advance(24 * 24 * time.Hour)
	w.await("two to be counted", counted(2))
}

// hushed is a JetStream whose next consumer that is made hands out nothing the first time: it says so at once, or says nothing.
type hushed struct {
	jetstream.JetStream
	saying bool
	left   *atomic.Int64
}

func (h hushed) OrderedConsumer(ctx context.Context, stream string, config jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	c, err := h.JetStream.OrderedConsumer(ctx, stream, config)
	return hushedConsumer{c, h}, err
}

type hushedConsumer struct {
	jetstream.Consumer
	hushed
}

func (c hushedConsumer) Fetch(n int, options ...jetstream.FetchOpt) (jetstream.MessageBatch, error) {
	if c.left.Add(-1) < 0 {
		return c.Consumer.Fetch(n, options...)
	}
	b := nothing{messages: make(chan jetstream.Msg)}
	if c.saying {
		close(b.messages)
		return b, nil
	}
	b.err = context.DeadlineExceeded
	time.AfterFunc(2100*time.Millisecond, func() { close(b.messages) })
	return b, nil
}

// nothing is what a broker hands out.
type nothing struct {
	jetstream.MessageBatch
	messages chan jetstream.Msg
	err      error
}

func (b nothing) Messages() <-chan jetstream.Msg { return b.messages }
func (b nothing) Error() error                   { return b.err }

// sweeping is a sweeper that nobody runs, on a view of the broker.
func (w *world) sweeping(js jetstream.JetStream) *sweeper {
	w.t.Helper()
	records, err := journal.Open(w.t.Context(), js, zerolog.Nop())
	if err != nil {
		w.t.Fatal(err)
	}
	bucket, err := js.KeyValue(w.t.Context(), topology.BucketWorkers)
	if err != nil {
		w.t.Fatal(err)
	}
	pauses := new(pausing)
	return &sweeper{
		name: "sweeping", js: js, journal: records, bucket: bucket, clock: &clock{wall: w.now, monotonic: w.monotonic, pauses: pauses}, pauses: pauses, log: zerolog.Nop(),
		restored: new(atomic.Int64), expiring: new(atomic.Pointer[map[messages.Account]int]), open: map[messages.Renewal]time.Time{}, authorised: newAuthorisations(),
	}
}

// A broker that hands out nothing for a while has not come to the end of its journal: what is to be read again stays so, and what
// was counted before counts. A record that is not there is not waited for.
func TestAuthorisationsOutlastAHush(t *testing.T) {
	for _, row := range []struct {
		name   string
		hushes int64
		saying bool
		anew   bool
		failed bool
		want   int
	}{
		{name: "nothing is handed out, nor said", hushes: 1, failed: true, want: 1},
		{name: "a server has yet to catch up", hushes: 1, saying: true, failed: true, want: 1},
		{name: "all is handed out", want: 1},
		{name: "the journal was made anew", anew: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			stop := w.start()
			w.authorise("one", "ok-one")
			stop()
			records := w.records()
			last := len(records)
			left := new(atomic.Int64)
			left.Store(row.hushes)
			s := w.sweeping(hushed{w.js, row.saying, left})
			s.authorised.later[dayOf(records[last-1].State.Order.CaptureBefore)] = span{uint64(last), uint64(last)}
			if row.anew {
				w.makeAnew()
			}
			w.advance(26 * 24 * time.Hour)
			if row.failed {
				if err := s.countExpiring(t.Context()); err == nil || len(s.authorised.later) != 1 || s.expiring.Load() != nil {
					t.Fatalf("%v, to be read again: %d days, counted: %v; want an error, and the day kept", err, len(s.authorised.later), s.expiring.Load())
				}
			}
			if err := s.countExpiring(t.Context()); err != nil || len(s.authorised.later) != 0 || (*s.expiring.Load())["default"] != row.want {
				t.Fatalf("%v, to be read again: %d days, counted: %v; want %d counted", err, len(s.authorised.later), s.expiring.Load(), row.want)
			}
		})
	}
}

// What a sweeper has not read, for the broker was silent, it does not count either.
func TestSweepOutlastsAHush(t *testing.T) {
	w := newWorld(t)
	stop := w.start()
	w.authorise("one", "ok-one")
	stop()
	left := new(atomic.Int64)
	left.Store(1)
	s := w.sweeping(hushed{w.js, false, left})
	w.advance(26 * 24 * time.Hour)
	if err := s.sweep(t.Context()); err == nil || s.expiring.Load() != nil {
		t.Fatalf("%v, counted: %v; want an error", err, s.expiring.Load())
	}
	if err := s.sweep(t.Context()); err != nil || (*s.expiring.Load())["default"] != 1 {
		t.Errorf("%v, counted: %v; want one", err, s.expiring.Load())
	}
}

// slowReads is a JetStream that is told of every read of a last record.
type slowReads struct {
	jetstream.JetStream
	read func()
}

func (r slowReads) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := r.JetStream.Stream(ctx, name)
	return slowStream{s, r.read}, err
}

type slowStream struct {
	jetstream.Stream
	read func()
}

func (s slowStream) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	s.read()
	return s.Stream.GetLastMsgForSubject(ctx, subject)
}

// Many renewals take longer to read than the sweeper's key lives: it is renewed meanwhile, and who has lost it tells no number.
func TestSweeperKeepsItsKey(t *testing.T) {
	const many = 4
	for _, row := range []struct {
		name string
		fill func(*sweeper, messages.Renewal, time.Time)
		look func(*sweeper, context.Context) error
		lost bool
	}{
		{name: "authorisations", fill: (*sweeper).ends, look: (*sweeper).countExpiring},
		{name: "authorisations, and another worker leads", fill: (*sweeper).ends, look: (*sweeper).countExpiring, lost: true},
		{name: "claims", fill: (*sweeper).abandoned, look: (*sweeper).sweep},
		{name: "claims, and another worker leads", fill: (*sweeper).abandoned, look: (*sweeper).sweep, lost: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w, reads := newWorld(t), 0
			var s *sweeper
			s = w.sweeping(slowReads{w.js, func() {
				w.advance(leadEvery + time.Second)
				s.clock.compared.Store(&comparison{w.now(), w.now(), w.monotonic()})
				if reads++; reads == many/2 && row.lost {
					if _, err := s.bucket.Put(t.Context(), sweepKey, []byte("another")); err != nil {
						t.Error(err)
					}
				}
			}})
			for n := range many {
				row.fill(s, messages.NewRenewal(messages.SubscriptionID(strconv.Itoa(n)), "2026-12"), w.now())
			}
			if !s.lead(t.Context()) {
				t.Fatal("nobody else leads, and this one does not either")
			}
			first := s.lease
			err := row.look(s, t.Context())
			if row.lost {
				if !errors.Is(err, errNotLeading) || s.expiring.Load() != nil {
					t.Errorf("%v, counted: %v; want an error and no number", err, s.expiring.Load())
				}
				return
			}
			if renewed := s.lease - first; err != nil || s.expiring.Load() == nil || renewed < many-1 {
				t.Errorf("%v, renewed %d times in %d reads of %s; want it renewed between all", err, renewed, reads, leadEvery+time.Second)
			}
		})
	}
}

// ends is an authorisation that ends soon.
func (s *sweeper) ends(r messages.Renewal, now time.Time) {
	s.authorised.soon[r] = authorisation{"default", now.Add(expiresSoon - time.Hour)}
}

// abandoned is a claim that ran out of time.
func (s *sweeper) abandoned(r messages.Renewal, now time.Time) { s.open[r] = now }
