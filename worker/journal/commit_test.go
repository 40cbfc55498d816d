package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
)

// What becomes of batches on real servers: on one node with fsync on every write, and on three nodes.
func TestBatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		connect func(*testing.T) func() jetstream.JetStream
		nodes   int
	}{
		{name: "one node", nodes: 1, connect: func(t *testing.T) func() jetstream.JetStream {
			s := broker.Synced(t)
			return func() jetstream.JetStream { return broker.Connect(t, s) }
		}},
		{name: "three nodes", nodes: 3, connect: func(t *testing.T) func() jetstream.JetStream {
			nodes, n := broker.Cluster(t), 0
			return func() jetstream.JetStream { n++; return broker.Connect(t, nodes[n%len(nodes)]) }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newBatchWorld(t, tt.nodes, tt.connect(t))
			t.Run("each record has its own expectation", func(t *testing.T) { w.on(t).testExpectations() })
			t.Run("one of them is too late", func(t *testing.T) { w.on(t).testLoser() })
			t.Run("two of one renewal at one moment", func(t *testing.T) { w.on(t).testTwins() })
			t.Run("the server compares only the first of a renewal", func(t *testing.T) { w.on(t).testUnchecked() })
			t.Run("two overlap", func(t *testing.T) { w.on(t).testOverlap() })
			t.Run("the journal was set back", func(t *testing.T) { w.on(t).testSetBack() })
			t.Run("abandoned", func(t *testing.T) { w.on(t).testAbandoned() })
			t.Run("stored, and the answer lost", func(t *testing.T) { w.on(t).testUnanswered() })
			t.Run("stored, and the worker asks its journal", func(t *testing.T) { w.on(t).testRecognised() })
		})
	}
}

// A batchWorld is a journal that takes batches, with writers on connections of their own.
type batchWorld struct {
	*testing.T
	connect func() jetstream.JetStream
	js      jetstream.JetStream
}

func newBatchWorld(t *testing.T, nodes int, connect func() jetstream.JetStream) *batchWorld {
	t.Helper()
	w := &batchWorld{T: t, connect: connect, js: connect()}
	for name, subject := range map[string]string{messages.StreamJournal: messages.RecordFilter("*", "*"), markPlaces[0].stream: markPlaces[0].subject, markPlaces[1].stream: markPlaces[1].subject} {
		config := jetstream.StreamConfig{Name: name, Subjects: []string{subject}, Replicas: nodes, AllowAtomicPublish: name == messages.StreamJournal}
		w.eventually("stream "+name, func() bool {
			_, err := w.js.CreateStream(t.Context(), config)
			return err == nil
		})
	}
	return w
}

// on is the world for a test of its own.
func (w *batchWorld) on(t *testing.T) *batchWorld {
	return &batchWorld{T: t, connect: w.connect, js: w.js}
}

// eventually waits for what may come with a leader's election.
func (w *batchWorld) eventually(what string, come func() bool) {
	w.Helper()
	for deadline := time.Now().Add(30 * time.Second); !come(); {
		if time.Now().After(deadline) {
			w.Fatalf("waited for %s in vain", what)
		}
		pause(w.Context(), 20*time.Millisecond)
	}
}

// A batchWriter is a worker's journal on a connection of its own.
type batchWriter struct {
	*Journal
	together int // records of a batch at least
	mu       sync.Mutex
	counts   map[bool]int
}

func (w *batchWorld) writer(together int) *batchWriter {
	w.Helper()
	js, o := w.connect(), &batchWriter{together: together, counts: map[bool]int{}}
	j, err := Open(w.Context(), js, zerolog.Nop())
	if err != nil {
		w.Fatal(err)
	}
	m := NewMarks(js, zerolog.Nop(), time.Hour)
	m.Noticed = func(how string) { w.Errorf("set back: %s", how) }
	o.Journal = j.Observed(m, NewBatches(BatchSynced, func(together bool, n int) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.counts[together] += n
	}), func() {}, func(string, error) {})
	return o
}

// hold keeps everybody waiting until release.
func (o *batchWriter) hold() {
	o.batches.mu.Lock()
	defer o.batches.mu.Unlock()
	o.batches.alone, o.batches.least = o.batches.alone+fewAlone, math.MaxInt
}

// release lets so many go at one moment, once they wait.
func (o *batchWriter) release(w *batchWorld, writers int) {
	w.Helper()
	w.eventually("the writers", func() bool {
		o.batches.mu.Lock()
		defer o.batches.mu.Unlock()
		return len(o.batches.waiting) == writers
	})
	o.batches.mu.Lock()
	defer o.batches.mu.Unlock()
	o.batches.alone, o.batches.least = o.batches.alone-fewAlone, o.together
	o.batches.next()
}

// renewals are so many that nobody else writes.
func (w *batchWorld) renewals(n int) (all []messages.Renewal) {
	for i := range n {
		all = append(all, messages.NewRenewal(messages.SubscriptionID(w.Name()), messages.Period(fmt.Sprint(i))))
	}
	return all
}

// record is one of a renewal that any reader can read.
func (w *batchWorld) record(r messages.Renewal) *nats.Msg {
	state, err := State{Phase: PhaseNone}.Encode()
	if err != nil {
		w.Fatal(err)
	}
	return &nats.Msg{
		Subject: messages.RecordAddress{Kind: messages.KindCharging, Renewal: r, Due: 1796083200, Account: "default"}.Subject(),
		Header:  nats.Header{messages.HeaderState: {state}, "ce-id": {uuid.NewString()}}, Data: []byte(`{}`),
	}
}

// write has each of the renewals get a record on top of last, all at one moment.
func (w *batchWorld) write(j *batchWriter, all []messages.Renewal, last func(i int) uint64) (got []outcome) {
	w.Helper()
	got = make([]outcome, len(all))
	var writers sync.WaitGroup
	j.hold()
	for i, r := range all {
		writers.Go(func() {
			ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
			defer cancel()
			got[i].sequence, got[i].err = j.Write(ctx, w.record(r), r, last(i))
		})
	}
	j.release(w, len(all))
	writers.Wait()
	return got
}

func nothing(int) uint64 { return 0 }

// stored is how many records there are of each renewal, and compares the last with what its writer was told.
func (w *batchWorld) stored(all []messages.Renewal, got []outcome) (records []uint64, together int) {
	w.Helper()
	j, err := Open(w.Context(), w.connect(), zerolog.Nop())
	if err != nil {
		w.Fatal(err)
	}
	for i, r := range all {
		var e Entry
		w.eventually("a leader", func() bool { e, err = j.Last(w.Context(), r); return err == nil })
		if got != nil && got[i].err == nil && got[i].sequence != e.Sequence {
			w.Errorf("%s: told %d, stored as %d", r, got[i].sequence, e.Sequence)
		}
		if e.Header.Get(headerBatchID) != "" {
			together++
		}
		info, err := j.stream.Info(w.Context(), jetstream.WithSubjectFilter(messages.RenewalFilter(r)))
		if err != nil {
			w.Fatal(err)
		}
		n := uint64(0)
		for _, count := range info.State.Subjects {
			n += count
		}
		records = append(records, n)
	}
	return records, together
}

func (w *batchWorld) testExpectations() {
	j := w.writer(20)
	all := w.renewals(20)
	first := w.write(j, all, nothing)
	second := w.write(j, all, func(i int) uint64 { return first[i].sequence })
	records, together := w.stored(all, second)
	for i, r := range all {
		if first[i].err != nil || second[i].err != nil || records[i] != 2 {
			w.Errorf("%s: %v, %v, records %d, want 2", r, first[i].err, second[i].err, records[i])
		}
	}
	if together != 20 || j.counts[true] != 40 {
		w.Errorf("%d of 20 in a batch, counted %v", together, j.counts)
	}
	mark := j.marks.snapshot()
	stored, err := j.stream.GetMsg(w.Context(), mark.Sequence)
	if err != nil || recordHash(stored.Subject, stored.Header, stored.Data) != mark.SHA256 {
		w.Errorf("the mark at %d is not of the record there: %v", mark.Sequence, err)
	}
}

func (w *batchWorld) testLoser() {
	j := w.writer(20)
	all := w.renewals(20)
	before := w.write(w.writer(1000), all[7:8], nothing)
	if before[0].err != nil {
		w.Fatal(before[0].err)
	}
	got := w.write(j, all, nothing)
	records, together := w.stored(all, got)
	for i, r := range all {
		if lost := i == 7; lost != errors.Is(got[i].err, ErrLost) || !lost && got[i].err != nil || records[i] != 1 {
			w.Errorf("%s: %v, records %d", r, got[i].err, records[i])
		}
	}
	if together != 0 || j.counts[true] != 0 || j.counts[false] != 19 {
		w.Errorf("%d in the refused batch, counted %v", together, j.counts)
	}
}

func (w *batchWorld) testTwins() {
	j := w.writer(10)
	all := w.renewals(10)
	got := w.write(j, append(all, all[0]), nothing)
	won := 0
	for i, o := range got {
		switch {
		case o.err == nil:
			won++
		case !errors.Is(o.err, ErrLost):
			w.Errorf("writer %d: %v", i, o.err)
		}
	}
	records, together := w.stored(all, nil)
	if won != 10 || records[0] != 1 || together == 0 {
		w.Errorf("%d of 11 were told that they are stored, of the renewal of two %d, in a batch %d", won, records[0], together)
	}
}

// testUnchecked is why no batch has two records of a renewal.
func (w *batchWorld) testUnchecked() {
	j := w.writer(2)
	all := w.renewals(1)
	var batch []*waiting
	for range 2 {
		m := w.record(all[0])
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		m.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, messages.RenewalFilter(all[0]))
		batch = append(batch, &waiting{renewal: all[0], record: m})
	}
	_, err := j.commit(w.Context(), batch)
	if records, _ := w.stored(all, nil); err != nil || records[0] != 2 {
		w.Errorf("%v, records %d: the server compares the second one, too, and a batch may hold both", err, records[0])
	}
}

func (w *batchWorld) testOverlap() {
	writers := [2]*batchWriter{w.writer(15), w.writer(15)}
	all := w.renewals(20)
	last := make([]uint64, len(all))
	for round := range 8 {
		var got [2][]outcome
		var both sync.WaitGroup
		for i, j := range writers {
			both.Go(func() { got[i] = w.write(j, all, func(i int) uint64 { return last[i] }) })
		}
		both.Wait()
		for i, r := range all {
			a, b := got[0][i], got[1][i]
			if (a.err == nil) == (b.err == nil) || a.err != nil && !errors.Is(a.err, ErrLost) || b.err != nil && !errors.Is(b.err, ErrLost) {
				w.Errorf("round %d, %s: %v and %v, want one winner", round, r, a.err, b.err)
			}
			last[i] = max(a.sequence, b.sequence)
		}
	}
	records, _ := w.stored(all, nil)
	for i, n := range records {
		if n != 8 {
			w.Errorf("%s: %d records of 8 rounds", all[i], n)
		}
	}
}

// testSetBack has the journal lack five records that the worker was told of: those of a batch take their place.
func (w *batchWorld) testSetBack() {
	j := w.writer(10)
	before := w.write(j, w.renewals(1), nothing)
	told := false
	j.marks.Noticed = func(string) { told = true }
	j.marks.known.Sequence = before[0].sequence + 5
	w.write(j, w.renewals(11)[1:], nothing)
	if !told || !j.marks.Doubtful() {
		w.Errorf("told %t, in doubt %t", told, j.marks.Doubtful())
	}
}

// testAbandoned has a worker die in the middle of sending a batch: nothing of it is there, and nothing comes after all.
func (w *batchWorld) testAbandoned() {
	j := w.writer(5)
	all := w.renewals(5)
	dying, id := w.connect().Conn(), uuid.NewString()
	send := func(i int, commit bool) *nats.Msg {
		m := w.record(all[i])
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		m.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, messages.RenewalFilter(all[i]))
		m.Header.Set(headerBatchID, id)
		m.Header.Set(headerBatchSequence, fmt.Sprint(i+1))
		if commit {
			m.Header.Set(headerBatchCommit, "1")
		}
		return m
	}
	for i := range 2 { // the server answers once it has staged each
		if _, err := dying.RequestMsg(send(i, false), 10*time.Second); err != nil {
			w.Fatal(err)
		}
	}
	if records, _ := w.stored(all, nil); records[0] != 0 || records[1] != 0 {
		w.Fatalf("records of a batch that was not committed: %v", records)
	}
	got := w.write(j, all, nothing)
	answer, err := dying.RequestMsg(send(2, true), 10*time.Second)
	if err != nil {
		w.Fatal(err)
	}
	if _, err := batchStored(answer.Data, id, 3); !overtaken(err) {
		w.Errorf("the batch comes late, and the answer is %s", answer.Data)
	}
	records, _ := w.stored(all, got)
	for i, r := range all {
		if got[i].err != nil || records[i] != 1 {
			w.Errorf("%s: %v, records %d", r, got[i].err, records[i])
		}
	}
}

// testUnanswered has every record of a batch stored and none of its writers told: each is then found, and known to be its writer's.
func (w *batchWorld) testUnanswered() {
	j := w.writer(6)
	all := w.renewals(6)
	j.hold()
	var writers sync.WaitGroup
	for _, r := range all {
		writers.Go(func() {
			m := w.record(r)
			m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
			m.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, messages.RenewalFilter(r))
			_, err := j.batches.store(w.Context(), r, m, func() (uint64, error) { return j.publish(w.Context(), m) }, func(batch []*waiting) (uint64, error) {
				if _, err := j.commit(w.Context(), batch); err != nil {
					w.Error(err)
				}
				return 0, nats.ErrTimeout
			})
			if !overtaken(err) {
				w.Errorf("%s, in the journal by a batch, written by itself: %v", r, err)
			}
			if at, err := j.Last(w.Context(), r); err != nil || !same(m, at) {
				w.Errorf("%s is not known to be one's own: %v", r, err)
			}
		})
	}
	j.release(w, len(all))
	writers.Wait()
	if records, _ := w.stored(all, nil); fmt.Sprint(records) != "[1 1 1 1 1 1]" {
		w.Errorf("records %v", records)
	}
}

// testRecognised: what was stored in a batch stays in the worker's mark as it is stored, with the batch's headers and a claim's brief body.
func (w *batchWorld) testRecognised() {
	j := w.writer(1000)
	r := w.renewals(1)[0]
	j.js = &unheard{JetStream: j.js}
	key := messages.NewIdempotencyKey(r.Key(), "1")
	subscription, period := r.Split()
	about := messages.Record{ID: "1", Account: "default", SubscriptionID: subscription, Period: period, Attempt: 1, IdempotencyKey: key, RenewalKey: r.Key(), At: noon}
	event := messages.Charging{Record: about, FirstSentAt: noon}
	at := Entry{State: State{Phase: PhaseNone}}
	_, e, err := j.Apply(w.Context(), at, Change{
		Renewal: r,
		Decide: func(s State) (Transition, error) {
			s.Phase, s.Attempts = PhaseCharging, 1
			return Transition{Record: messages.KindCharging, Key: key, State: s.Claimed(Claim{Key: key, Nonce: "n", FirstSentAt: noon})}, nil
		},
		Record: func(context.Context, Transition) (Record, error) {
			return Record{Event: event, About: event.Record}, nil
		},
	}, nil)
	if err != nil {
		w.Fatal(err)
	}
	if records, together := w.stored([]messages.Renewal{r}, nil); records[0] != 1 || together != 1 {
		w.Fatalf("records %v, in a batch %d", records, together)
	}
	stored, err := j.stream.GetMsg(w.Context(), e.Sequence)
	if err != nil || strings.Contains(string(stored.Data), string(key)) {
		w.Errorf("stored as %s, %v; want a brief body", stored.Data, err)
	}
	if mark := j.marks.snapshot(); err != nil || mark.Sequence != e.Sequence || mark.SHA256 != recordHash(stored.Subject, stored.Header, stored.Data) {
		w.Errorf("the mark at %d is not of record %d: %v", mark.Sequence, e.Sequence, err)
	}
}

// A server that knows nothing of batches stores each record by itself and answers for the last one.
func TestBatchAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		last         uint64
		want         error
	}{
		{name: "stored", answer: `{"stream":"RENEWAL_JOURNAL","seq":107,"batch":"b","count":3}`, last: 107},
		{name: "no word of a batch", answer: `{"stream":"RENEWAL_JOURNAL","seq":107}`, want: errNotBatched},
		{name: "another batch", answer: `{"stream":"RENEWAL_JOURNAL","seq":107,"batch":"a","count":3}`, want: errNotBatched},
		{name: "fewer records", answer: `{"stream":"RENEWAL_JOURNAL","seq":107,"batch":"b","count":2}`, want: errNotBatched},
		{name: "another stream", answer: `{"stream":"ELSEWHERE","seq":107,"batch":"b","count":3}`, want: errNotBatched},
		{name: "no number", answer: `{"stream":"RENEWAL_JOURNAL","batch":"b","count":3}`, want: errNotBatched},
		{name: "refused", answer: `{"stream":"RENEWAL_JOURNAL","error":{"code":400,"err_code":10176,"description":"incomplete"}}`, want: &jetstream.APIError{ErrorCode: 10176}},
		{name: "no answer at all", answer: ``, want: jetstream.ErrInvalidJSAck},
	} {
		if last, err := batchStored([]byte(tt.answer), "b", 3); last != tt.last || !errors.Is(err, tt.want) {
			t.Errorf("%s: %d, %v; want %d, %v", tt.name, last, err, tt.last, tt.want)
		}
	}
}

// unheard stores the first record in a batch, of which nobody hears.
type unheard struct {
	jetstream.JetStream
	once bool
}

func (u *unheard) PublishMsg(ctx context.Context, m *nats.Msg, o ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if u.once {
		return u.JetStream.PublishMsg(ctx, m, o...)
	}
	u.once = true
	one := batched(m)
	one.Header.Set(headerBatchID, uuid.NewString())
	one.Header.Set(headerBatchSequence, "1")
	one.Header.Set(headerBatchCommit, "1")
	if _, err := u.JetStream.PublishMsg(ctx, one); err != nil {
		return nil, err
	}
	return nil, nats.ErrTimeout
}
