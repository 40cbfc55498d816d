package journal

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
)

// S71: publishes under way together are answered in any order, and another worker's are between one's own. None of
// that is a set-back.
func TestOutOfOrderIsNoSetBack(t *testing.T) {
	t.Parallel()
	m := &Marks{single: make(chan struct{}, 1), now: time.Now, Noticed: func(how string) { t.Error(how) }, js: notConnected{}}
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
func TestPubAckNotAboveTheMark(t *testing.T) {
	t.Parallel()
	for _, sequence := range []uint64{7, 10} {
		var told []string
		m := &Marks{single: make(chan struct{}, 1), now: time.Now, every: time.Hour, looked: time.Now(), js: notConnected{}, Noticed: func(how string) { told = append(told, how) }, known: Mark{Sequence: 10}}
		before := m.held()
		m.end(m.begin(t.Context()), &nats.Msg{}, 11, nil)
		if m.Doubtful() {
			t.Fatal("in doubt after a record above the mark")
		}
		m.end(before, &nats.Msg{}, sequence, nil)
		m.end(before, &nats.Msg{}, sequence, nil)
		if len(told) != 1 || !m.Doubtful() || m.known.Sequence != 11 {
			t.Errorf("record %d above mark 10: told %q, in doubt %t, mark %d", sequence, told, m.Doubtful(), m.known.Sequence)
		}
	}
}

// S71: the PubAck of a batch names its last record. A journal that was set back by less than the batch is long shows in the first.
func TestBatchBeginsAboveTheMark(t *testing.T) {
	t.Parallel()
	for first, want := range map[uint64]bool{5: true, 10: true, 11: false} {
		setBack := false
		m := &Marks{single: make(chan struct{}, 1), now: time.Now, js: notConnected{}, Noticed: func(string) { setBack = true }, known: Mark{Sequence: 10}}
		m.endBatch(m.held(), &nats.Msg{}, first, first+20, nil)
		if setBack != want || !want && m.known.Sequence != 31 {
			t.Errorf("a batch from %d to %d above mark 10: set back %t, mark %d", first, first+20, setBack, m.known.Sequence)
		}
	}
}

// S71: after silence, a failure or a new connection one write goes alone: were the journal set back, none
// of its fellows is beyond the mark before the first is judged.
func TestFirstWriteGoesAlone(t *testing.T) {
	t.Parallel()
	m := NewMarks(notConnected{}, zerolog.Nop(), time.Hour)
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

// notConnected is a JetStream without a connection.
type notConnected struct{ jetstream.JetStream }

func (notConnected) Conn() *nats.Conn { return nil }

// S71: the mark is never lowered, whoever writes it, but by an operator's word.
func TestMarkNeverLowers(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	high, low := Mark{Created: made, Sequence: 9, SHA256: "nine"}, Mark{Created: made, Sequence: 3, SHA256: "three"}
	back, word := Mark{Created: made, Sequence: 3, SetBack: "seen"}, Mark{Created: made.Add(time.Hour), Sequence: 1, Accepted: 1}
	for _, c := range []struct {
		name       string
		a, b, want Mark
	}{
		{name: "nothing kept", a: high, b: Mark{}, want: high},
		{name: "nothing known", a: Mark{}, b: low, want: low},
		{name: "a lower one", a: high, b: low, want: high},
		{name: "a higher one", a: low, b: high, want: high},
		{name: "a set-back seen", a: high, b: back, want: Mark{Created: made, Sequence: 9, SHA256: "nine", SetBack: "seen"}},
		{name: "an operator's word", a: back, b: word, want: word},
		{name: "from before an operator's word", a: word, b: high, want: word},
	} {
		if got := c.a.with(c.b); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// S71: what a mark knows of a record is what the broker has stored of it.
func TestRecordHashIsThatOfTheStoredRecord(t *testing.T) {
	js := emptyJournal(t)
	m := &nats.Msg{Subject: "renewals.paid.s.p.0.default", Header: nats.Header{"ce-id": {"1"}, messages.HeaderState: {"{}"}}, Data: []byte(`{"id":"1"}`)}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	whole := recordHash(stored.Subject, stored.Header, stored.Data)
	if sent := recordHash(m.Subject, m.Header, m.Data); sent != whole {
		t.Error("what was sent and what is stored have different hashes")
	}
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
func TestClaimFromBeforeTheOperatorsWord(t *testing.T) {
	t.Parallel()
	word := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	r := Rules{AckWait: 2 * time.Minute, Restored: word.Add(MaxSkew)}
	for claimed, want := range map[time.Time]bool{word.Add(-time.Second): true, word: false, word.Add(time.Second): false} {
		if got := r.outdated(Claim{LeaseUntil: claimed.Add(r.AckWait)}); got != want {
			t.Errorf("claimed at %s: outdated %t, want %t", claimed, got, want)
		}
	}
	if (Rules{AckWait: time.Minute}).outdated(Claim{}) {
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
		{name: "as it was", stream: stubStream{created: made, first: 1, stored: record}},
		{name: "made anew with the same records", stream: stubStream{created: made.Add(time.Hour), first: 1, stored: record}, setBack: true},
		{name: "another record at the mark", stream: stubStream{created: made, first: 1, stored: &jetstream.RawStreamMsg{Sequence: 7, Subject: "renewals.dunning.x.default"}}, setBack: true},
		{name: "cut short, or read from the past", stream: stubStream{created: made, first: 1}, suspect: true},
		{name: "aged beyond the mark", stream: stubStream{created: made, first: 8}},
	} {
		setBack := false
		m := NewMarks(nil, zerolog.Nop(), time.Hour)
		m.Noticed, m.suspicious = func(string) { setBack = true }, false
		if err := m.compare(t.Context(), tt.stream, Mark{Created: made, Sequence: 7, SHA256: hash}); err != nil {
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

// S87: a leader that was deposed answers reads from its past. What a read shows below the mark makes the worker
// careful; it pauses nothing and the next PubAck clears it.
func TestReadFromThePast(t *testing.T) {
	js := emptyJournal(t)
	before := NewMarks(js, zerolog.Nop(), time.Hour)
	record := &nats.Msg{Subject: "renewals.paid.s87.2026-12.0.default", Header: nats.Header{messages.HeaderState: {"{}"}}, Data: []byte(`{}`)}
	ack, err := js.PublishMsg(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	before.end(before.begin(t.Context()), record, ack.Sequence, nil)
	if err := before.Look(t.Context()); err != nil {
		t.Fatal(err)
	}

	past := pastReader{JetStream: js}
	m := NewMarks(past, zerolog.Nop(), time.Hour)
	m.Noticed = func(how string) { t.Errorf("set back: %s", how) }
	if err := m.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !m.suspicious || m.Doubtful() {
		t.Errorf("suspicious %t, in doubt %t; want true, false", m.suspicious, m.Doubtful())
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
	if err != nil || name != messages.StreamJournal {
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
