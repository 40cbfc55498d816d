package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// A backup is a stream as `nats stream backup` saves it.
type backup struct {
	about struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}
	chunks [][]byte
}

// ask calls JetStream's API where nats.go has no function.
func (w *world) ask(subject string, body any, answer any) {
	w.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := w.js.Conn().Request(subject, data, 5*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	var refused struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := errors.Join(json.Unmarshal(m.Data, &refused), json.Unmarshal(m.Data, answer)); err != nil || refused.Error != nil {
		w.t.Fatal(subject, err, refused.Error)
	}
}

func (w *world) backUp(stream string) (b backup) {
	w.t.Helper()
	nc := w.js.Conn()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ask("$JS.API.STREAM.SNAPSHOT."+stream, map[string]any{"deliver_subject": inbox}, &b.about)
	for {
		m, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(m.Data) == 0 {
			return b
		}
		b.chunks = append(b.chunks, m.Data)
		if m.Reply != "" {
			_ = m.Respond(nil)
		}
	}
}

// restore puts a backup in the place of a stream, under running workers.
func (w *world) restore(stream string, b backup) {
	w.t.Helper()
	if err := w.js.DeleteStream(w.t.Context(), stream); err != nil {
		w.t.Fatal(err)
	}
	var place struct {
		Deliver string `json:"deliver_subject"`
	}
	w.ask("$JS.API.STREAM.RESTORE."+stream, b.about, &place)
	for _, chunk := range append(b.chunks, nil) {
		if _, err := w.js.Conn().Request(place.Deliver, chunk, 5*time.Second); err != nil {
			w.t.Fatal(err)
		}
	}
}

// makeAnew puts an empty journal in the place of the old one.
func (w *world) makeAnew() {
	w.t.Helper()
	if err := w.js.DeleteStream(w.t.Context(), StreamJournal); err != nil {
		w.t.Fatal(err)
	}
	p := Provisioning{Replicas: 1, Retention: defaultRetention}
	if _, err := w.js.CreateStream(w.t.Context(), p.journal()); err != nil {
		w.t.Fatal(err)
	}
}

// marked awaits that both streams remember the journal's last record.
func (w *world) marked() {
	w.t.Helper()
	w.await("the mark", func() bool {
		journal, err := w.js.Stream(w.t.Context(), StreamJournal)
		if err != nil {
			w.t.Fatal(err)
		}
		kept, err := readMarks(w.t.Context(), w.js)
		last := journal.CachedInfo().State.LastSeq
		return err == nil && kept[0].Sequence == last && kept[1].Sequence == last && kept[0].SHA256 != ""
	})
}

// pausedBy awaits that a live worker says that it is paused for the reason.
func (w *world) pausedBy(reason string) {
	w.t.Helper()
	w.await("the pause "+reason, func() bool {
		live, err := Workers(w.t.Context(), w.js)
		if err != nil {
			return false
		}
		for _, p := range live {
			if p.Paused[reason] != "" {
				return true
			}
		}
		return false
	})
}

// notPausedBy awaits that a worker lives and none is paused for the reason.
func (w *world) notPausedBy(reason string) {
	w.t.Helper()
	w.await("the end of the pause "+reason, func() bool {
		live, err := Workers(w.t.Context(), w.js)
		if err != nil || len(live) == 0 {
			return false
		}
		for _, p := range live {
			if p.Paused[reason] != "" {
				return false
			}
		}
		return true
	})
}

// accept is the operator's word, in the time that the test lives in.
func (w *world) accept() {
	w.t.Helper()
	if _, err := acceptRestoredJournal(w.t.Context(), w.js, time.Duration(w.ahead.Load())); err != nil {
		w.t.Fatal(err)
	}
}

// S71: the journal is made anew, restored or cut short, under a running worker or before one starts, and every job
// is published again. Nothing is sent before an operator has accepted the journal. After it, Klarna gives
// the same orders again within the key window; after the window nothing is sent at all (S92).
func TestS71JournalSetBack(t *testing.T) {
	const jobs = 6
	for _, how := range []struct {
		name  string
		knows int // how many renewals the journal knows afterwards; -1: it is made anew
	}{{"made anew", -1}, {"restored empty", 0}, {"restored from a copy", 2}, {"cut short by a renewal", jobs - 1}} {
		for _, restart := range []bool{false, true} {
			for _, later := range []time.Duration{0, 25 * time.Hour} {
				t.Run(fmt.Sprintf("%s/restart=%t/%s", how.name, restart, later), func(t *testing.T) {
					w := newWorld(t)
					w.markEvery = 100 * time.Millisecond
					stop := w.start()
					payloads := make([][]byte, jobs)
					var copied backup
					for i := range payloads {
						if i == how.knows {
							copied = w.backUp(StreamJournal)
						}
						payloads[i] = w.due(fmt.Sprintf("s71-%d", i), fmt.Sprintf("ok-%d", i), 1)
						w.publish(payloads[i])
						w.awaitEmpty()
					}
					w.marked()
					if restart {
						stop()
					}
					if how.knows < 0 {
						w.makeAnew()
					} else {
						w.restore(StreamJournal, copied)
					}
					w.advance(later)
					if restart {
						w.start()
					}
					for _, p := range payloads {
						w.publish(p)
					}
					w.pausedBy(pauseSetBack)
					if n := len(w.orders()); n != jobs {
						t.Errorf("requests before an operator has spoken: %d, want %d", n, jobs)
					}
					w.accept()
					w.awaitEmpty()
					w.notPausedBy(pauseSetBack)
					books := w.klarna.Simulator.Books()
					if n := len(books.Orders); n != jobs {
						t.Errorf("orders: %d, want %d", n, jobs)
					}
					forgotten := jobs - max(how.knows, 0)
					want := map[string]int{"paid": jobs}
					if later > 0 {
						want = map[string]int{"paid": jobs - forgotten, "unresolved journal_restored": forgotten}
						if n := len(w.orders()); n != jobs {
							t.Errorf("requests after the window: %d, want %d", n, jobs)
						}
					}
					got := map[string]int{"paid": 0}
					for _, r := range w.results() {
						got[r.String()]++
					}
					if fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("results: %v, want %v", got, want)
					}
					if letters, _ := w.deadLetters(); len(letters) != want["unresolved journal_restored"] {
						t.Errorf("dead letters: %d, want %d", len(letters), want["unresolved journal_restored"])
					}
				})
			}
		}
	}
}

// S71: publishes under way together are answered in any order, and another worker's are between one's own. None of
// that is a set-back.
func TestS71OutOfOrderIsNoSetBack(t *testing.T) {
	t.Parallel()
	m := &marks{single: make(chan struct{}, 1), now: time.Now, noticed: func(how string) { t.Error(how) }, js: notConnected{}}
	msg := &nats.Msg{Subject: "x"}
	var mu sync.Mutex
	var last uint64
	store := func(n uint64) uint64 {
		mu.Lock()
		defer mu.Unlock()
		last += n
		return last
	}
	var writers sync.WaitGroup
	for range 16 {
		writers.Go(func() {
			for range 500 {
				turn := m.begin(t.Context())
				stored := store(1 + uint64(rand.IntN(3)))
				_ = store(0)
				if rand.IntN(20) == 0 {
					m.end(turn, msg, 0, nats.ErrTimeout)
				} else {
					m.end(turn, msg, stored, nil)
				}
			}
		})
	}
	writers.Wait()
	if m.known.SetBack != "" || m.known.Sequence == 0 {
		t.Errorf("mark: %+v", m.known)
	}
}

// S71: a PubAck that is not above the mark that was held is a set-back, once, and raises nothing.
func TestS71PubAckNotAboveTheMark(t *testing.T) {
	t.Parallel()
	for _, sequence := range []uint64{7, 10} {
		var told []string
		m := &marks{single: make(chan struct{}, 1), now: time.Now, every: time.Hour, looked: time.Now(), js: notConnected{}, noticed: func(how string) { told = append(told, how) }, known: mark{Sequence: 10}}
		before := m.held()
		m.end(m.begin(t.Context()), &nats.Msg{}, 11, nil)
		if m.doubtful() {
			t.Fatal("in doubt after a record above the mark")
		}
		m.end(before, &nats.Msg{}, sequence, nil)
		m.end(before, &nats.Msg{}, sequence, nil)
		if len(told) != 1 || !m.doubtful() || m.known.Sequence != 11 {
			t.Errorf("record %d above mark 10: told %q, in doubt %t, mark %d", sequence, told, m.doubtful(), m.known.Sequence)
		}
	}
}

// S71: after silence, a failure or a new connection one write goes alone: were the journal set back, none
// of its fellows is beyond the mark before the first is judged.
func TestS71FirstWriteGoesAlone(t *testing.T) {
	t.Parallel()
	m := newMarks(notConnected{}, zerolog.Nop(), time.Hour)
	first := m.begin(t.Context())
	if !first.alone {
		t.Fatal("the first write goes with others")
	}
	second := make(chan turn)
	go func() { second <- m.begin(t.Context()) }()
	select {
	case <-second:
		t.Fatal("a second write was sent before the first was judged")
	case <-time.After(50 * time.Millisecond):
	}
	m.end(first, &nats.Msg{}, 1, nil)
	if next := <-second; next.alone || next.mark.Sequence != 1 {
		t.Errorf("the second write: %+v", next)
	}
	if next := m.begin(t.Context()); next.alone {
		t.Error("a write beside others goes alone")
	}
	m.end(m.held(), &nats.Msg{}, 0, nats.ErrTimeout)
	if next := m.begin(t.Context()); !next.alone {
		t.Error("after a failure the next write goes with others")
	} else {
		m.end(next, &nats.Msg{}, 2, nil)
	}
	m.now = func() time.Time { return time.Now().Add(2 * markSilence) }
	if next := m.begin(t.Context()); !next.alone {
		t.Error("after silence the next write goes with others")
	}
}

// S71: while this worker was idle, another has written beyond the mark that is held here. Then the broker comes back with
// an older journal. On a new connection nothing is sent before the marks of all were read.
func TestS71NothingOnANewConnectionBeforeTheMarksAreRead(t *testing.T) {
	w := newWorld(t)
	idle := newMarks(w.js, zerolog.Nop(), 3*time.Second)
	if err := idle.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	var told atomic.Value
	idle.noticed = func(how string) { told.Store(how) }
	if idle.doubtful() {
		t.Fatal("in doubt after the marks were read")
	}
	empty := w.backUp(StreamJournal)
	w.markEvery = 50 * time.Millisecond
	stop := w.start()
	w.publish(w.due("s71", "ok-1", 1))
	w.awaitEmpty()
	w.marked()
	stop()
	w.restore(StreamJournal, empty)
	reconnects := w.js.Conn().Stats().Reconnects
	if err := w.js.Conn().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	w.await("the new connection", func() bool { return w.js.Conn().IsConnected() && w.js.Conn().Stats().Reconnects > reconnects })
	if !idle.doubtful() {
		t.Fatal("not in doubt on a new connection")
	}
	ctx, end := context.WithCancel(t.Context())
	running := make(chan struct{})
	go func() { defer close(running); idle.run(ctx, func(error) {}) }()
	defer func() { end(); <-running }()
	w.await("the look", func() bool { return !idle.unread() })
	if idle.end(idle.begin(t.Context()), &nats.Msg{}, 1, nil); !idle.doubtful() || told.Load() == nil {
		t.Error("the first record of an older journal, which is not above the mark of all, is no set-back")
	}
}

// notConnected is a JetStream without a connection.
type notConnected struct{ jetstream.JetStream }

func (notConnected) Conn() *nats.Conn { return nil }

// S87: a leader that was deposed answers reads from its past. What a read shows below the mark makes the worker
// careful; it pauses nothing and the next PubAck clears it.
func TestS87ReadFromThePast(t *testing.T) {
	w := newWorld(t)
	w.markEvery = 50 * time.Millisecond
	stop := w.start()
	w.publish(w.due("s87", "ok-1", 1))
	w.awaitEmpty()
	w.marked()
	stop()

	past := pastReader{JetStream: w.js}
	m := newMarks(past, zerolog.Nop(), time.Hour)
	m.noticed = func(how string) { t.Errorf("set back: %s", how) }
	if err := m.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !m.suspicious || m.doubtful() {
		t.Errorf("suspicious %t, in doubt %t; want true, false", m.suspicious, m.doubtful())
	}
	turn := m.begin(t.Context())
	if !turn.alone {
		t.Error("in suspicion a write goes with others")
	}
	m.end(turn, &nats.Msg{}, m.known.Sequence+1, nil)
	if m.suspicious {
		t.Error("suspicious after a PubAck above the mark")
	}
}

// pastReader answers as a leader from before the journal's last record.
type pastReader struct{ jetstream.JetStream }

func (p pastReader) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := p.JetStream.Stream(ctx, name)
	if err != nil || name != StreamJournal {
		return s, err
	}
	return pastStream{s}, nil
}

type pastStream struct{ jetstream.Stream }

func (p pastStream) CachedInfo() *jetstream.StreamInfo {
	info := *p.Stream.CachedInfo()
	info.State.LastSeq--
	return &info
}

func (p pastStream) GetMsg(ctx context.Context, seq uint64, o ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	if seq > p.CachedInfo().State.LastSeq {
		return nil, jetstream.ErrMsgNotFound
	}
	return p.Stream.GetMsg(ctx, seq, o...)
}

// S71: the mark is never lowered, whoever writes it, but by an operator's word.
func TestMarkNeverLowers(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	high, low := mark{Created: made, Sequence: 9, SHA256: "nine"}, mark{Created: made, Sequence: 3, SHA256: "three"}
	back, word := mark{Created: made, Sequence: 3, SetBack: "seen"}, mark{Created: made.Add(time.Hour), Sequence: 1, Accepted: 1}
	for _, c := range []struct {
		name       string
		a, b, want mark
	}{
		{"nothing kept", high, mark{}, high},
		{"nothing known", mark{}, low, low},
		{"a lower one", high, low, high},
		{"a higher one", low, high, high},
		{"a set-back seen", high, back, mark{Created: made, Sequence: 9, SHA256: "nine", SetBack: "seen"}},
		{"an operator's word", back, word, word},
		{"from before an operator's word", word, high, word},
	} {
		if got := c.a.with(c.b); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// S71: what a mark knows of a record is what the broker has stored of it.
func TestRecordHashIsThatOfTheStoredRecord(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.publish(w.due("hash", "ok-1", 1))
	w.awaitEmpty()
	stream, err := w.js.Stream(t.Context(), StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	whole := recordHash(stored.Subject, stored.Header, stored.Data)
	for name, other := range map[string]string{
		"subject": recordHash(strings.ToUpper(stored.Subject), stored.Header, stored.Data),
		"header":  recordHash(stored.Subject, nats.Header{"A": {"b"}}, stored.Data),
		"body":    recordHash(stored.Subject, stored.Header, []byte("{}")),
	} {
		if other == whole {
			t.Errorf("another %s, the same hash", name)
		}
	}
}

// S71: a worker holds a claim from before the operator's word and has not sent yet. The journal may not know the
// claim any more and another may charge beside it: nothing is sent under it, whatever its lease says.
func TestS71ClaimFromBeforeTheOperatorsWord(t *testing.T) {
	t.Parallel()
	word := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	r := rules{ackWait: 2 * time.Minute, restored: word.Add(maxSkew)}
	for claimed, want := range map[time.Time]bool{word.Add(-time.Second): true, word: false, word.Add(time.Second): false} {
		if got := r.outdated(Claim{LeaseUntil: claimed.Add(r.ackWait)}); got != want {
			t.Errorf("claimed at %s: outdated %t, want %t", claimed, got, want)
		}
	}
	if (rules{ackWait: time.Minute}).outdated(Claim{}) {
		t.Error("outdated where the journal was never set back")
	}
}

// S71: what the stream says of itself is held against the mark: another stream, another record at its place, and one that is missing
// although nothing has aged that far.
func TestMarkIsComparedWithTheStream(t *testing.T) {
	made := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	record := &jetstream.RawStreamMsg{Sequence: 7, Subject: "renewals.paid.x.default", Header: nats.Header{"a": {"b"}}, Data: []byte("{}")}
	hash := recordHash(record.Subject, record.Header, record.Data)
	for _, tt := range []struct {
		name             string
		stream           stubStream
		setBack, suspect bool
	}{
		{"as it was", stubStream{created: made, first: 1, stored: record}, false, false},
		{"made anew with the same records", stubStream{created: made.Add(time.Hour), first: 1, stored: record}, true, false},
		{"another record at the mark", stubStream{created: made, first: 1, stored: &jetstream.RawStreamMsg{Sequence: 7, Subject: "renewals.dunning.x.default"}}, true, false},
		{"cut short, or read from the past", stubStream{created: made, first: 1}, false, true},
		{"aged beyond the mark", stubStream{created: made, first: 8}, false, false},
	} {
		setBack := false
		m := newMarks(nil, zerolog.Nop(), time.Hour)
		m.noticed, m.suspicious = func(string) { setBack = true }, false
		if err := m.compare(t.Context(), tt.stream, mark{Created: made, Sequence: 7, SHA256: hash}); err != nil {
			t.Fatal(err)
		}
		if setBack != tt.setBack || m.suspicious != tt.suspect {
			t.Errorf("%s: set back %t, suspicious %t; want %t, %t", tt.name, setBack, m.suspicious, tt.setBack, tt.suspect)
		}
	}
}

// stubStream is a stream with one record, or none.
type stubStream struct {
	jetstream.Stream
	created time.Time
	first   uint64
	stored  *jetstream.RawStreamMsg
}

func (s stubStream) CachedInfo() *jetstream.StreamInfo {
	return &jetstream.StreamInfo{Created: s.created, State: jetstream.StreamState{FirstSeq: s.first}}
}

func (s stubStream) GetMsg(context.Context, uint64, ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	if s.stored == nil {
		return nil, jetstream.ErrMsgNotFound
	}
	return s.stored, nil
}
