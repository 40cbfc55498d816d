package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
)

// The journal cannot say of itself that it was set back: made anew, restored from a copy or cut short, it
// answers as if nothing had been. So the workers remember outside of it how far it had come: the highest
// sequence that the broker confirmed, what was stored there, and when the stream was made. Both streams that
// keep this are like the others, so that no feature of a bucket is relied on: AllowDirect is off, since a
// replica that is behind would tell of an older mark, and they are two, so that neither the journal's loss nor
// one more loss beside it takes the memory away.
var markPlaces = [...]struct{ stream, subject string }{{messages.StreamMarks, messages.SubjectMark}, {messages.StreamMarksCopy, messages.SubjectMarkCopy}}

const (
	// MarkEvery is how often a worker writes the mark and compares the journal with it.
	MarkEvery = 5 * time.Second
	// markSilence is after how long without a confirmed write the next one goes alone: were the journal
	// set back meanwhile, the first write must show it before others follow.
	markSilence = time.Second
)

// A mark says how far the journal had come.
type Mark struct {
	Created  time.Time `json:"created"`          // when the journal's stream was made
	Sequence uint64    `json:"sequence"`         // the highest that a PubAck named; 0: none yet
	SHA256   string    `json:"sha256,omitempty"` // of what is stored there, see recordHash

	// Accepted counts how often an operator has accepted a journal that was set back; of two marks the
	// one with the higher count holds, whatever its sequence.
	Accepted   int       `json:"accepted,omitempty"`
	AcceptedAt time.Time `json:"accepted_at,omitzero"` // by the broker's clock
	// Restored is the moment before which the journal may have forgotten what it knew; zero where it never did.
	Restored time.Time `json:"restored,omitzero"`
	// SetBack says how it was noticed that the journal was set back. It holds until an operator accepts it.
	SetBack string `json:"set_back,omitempty"`
}

// with is the mark that two of them come to. It never lowers.
func (m Mark) with(o Mark) Mark {
	switch {
	case o.Created.IsZero() || o.Accepted < m.Accepted:
		return m
	case m.Created.IsZero() || m.Accepted < o.Accepted:
		return o
	}
	higher := m
	if o.Sequence > m.Sequence {
		higher.Sequence, higher.SHA256 = o.Sequence, o.SHA256
	}
	if higher.SetBack == "" {
		higher.SetBack = o.SetBack
	}
	return higher
}

// Marks compares the journal with the mark: every PubAck, and every few seconds what is stored.
// A nil *marks, as operators have, compares nothing.
type Marks struct {
	js      jetstream.JetStream
	log     zerolog.Logger
	every   time.Duration
	Noticed func(sentence string)      // is told once that the journal was set back
	Agreed  func(m Mark, settled bool) // is told of every look that found nothing wrong
	single  chan struct{}              // one write, while the next is to go alone
	now     func() time.Time

	telling sync.Mutex // orders what noticed and agreed are told

	mu         sync.Mutex
	known      Mark
	last       *nats.Msg // what is stored at known.Sequence, while its hash was not taken
	confirmed  time.Time // the last PubAck above the mark
	suspicious bool      // a write failed, the connection broke, or a read showed less than the mark
	reconnects uint64
	looked     time.Time // when the marks were last read and found right
	lookedOn   uint64    // the connection they were read on, see connection

	soon chan struct{} // a look is due at once
}

func NewMarks(js jetstream.JetStream, log zerolog.Logger, every time.Duration) *Marks {
	return &Marks{
		js: js, log: log, every: every, single: make(chan struct{}, 1), soon: make(chan struct{}, 1), now: time.Now,
		Noticed: func(string) {}, Agreed: func(Mark, bool) {}, suspicious: true,
	}
}

// A turn is one publish to the journal.
type turn struct {
	mark  Mark // held when the publish was sent
	alone bool
}

// begin says that a publish is about to be sent. After silence, a failure or a new connection it waits until
// no other write that goes alone is under way, so that the first PubAck is judged before a second write is
// sent. Every turn must end. It costs no round trip.
func (m *Marks) begin(ctx context.Context) turn {
	if m == nil {
		return turn{}
	}
	if t, ok := m.together(); ok {
		return t
	}
	select {
	case m.single <- struct{}{}:
	case <-ctx.Done():
		return m.held() // the publish fails by the same context
	}
	if t, ok := m.together(); ok { // the one before was judged meanwhile
		<-m.single
		return t
	}
	t := m.held()
	t.alone = true
	return t
}

// together is a turn beside others; ok is false while the next is to go alone.
func (m *Marks) together() (t turn, ok bool) {
	reconnects := m.connection()
	m.mu.Lock()
	defer m.mu.Unlock()
	if reconnects != m.reconnects {
		m.reconnects, m.suspicious = reconnects, true
	}
	return turn{mark: m.known}, !m.suspicious && m.now().Sub(m.confirmed) <= markSilence
}

// connection counts the connections to the broker.
func (m *Marks) connection() uint64 {
	if nc := m.js.Conn(); nc != nil {
		return nc.Stats().Reconnects
	}
	return 0
}

func (m *Marks) held() turn {
	if m == nil {
		return turn{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return turn{mark: m.known}
}

// end judges what became of a publish. Answers of publishes under way together come in any order: a PubAck
// is compared with the mark that was held when its own publish was sent.
func (m *Marks) end(t turn, msg *nats.Msg, sequence uint64, err error) {
	m.endBatch(t, msg, sequence, sequence, err)
}

// endBatch is end for records that were published in one: its PubAck names the last of them, msg, and it is the first that has to be
// above the mark. A journal that was set back by less than the batch is long would else hide behind it.
func (m *Marks) endBatch(t turn, msg *nats.Msg, first, sequence uint64, err error) {
	if m == nil {
		return
	}
	if t.alone {
		defer func() { <-m.single }()
	}
	if err != nil {
		if !overtaken(err) {
			m.suspect()
		}
		return
	}
	m.mu.Lock()
	if t.mark.Accepted != m.known.Accepted || m.known.SetBack != "" {
		m.mu.Unlock()
		return
	}
	if first <= t.mark.Sequence {
		m.mu.Unlock()
		m.setBack(t.mark.Accepted, fmt.Sprintf("a record was stored as number %d, but the journal had %d before", first, t.mark.Sequence))
		return
	}
	m.confirmed = m.now()
	if t.alone {
		m.suspicious = false
	}
	if sequence > m.known.Sequence {
		m.known.Sequence, m.known.SHA256, m.last = sequence, "", msg
	}
	m.mu.Unlock()
}

func (m *Marks) suspect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.suspicious = true
}

// setBack notes a proof, found under a mark of that count.
func (m *Marks) setBack(accepted int, how string) {
	m.mu.Lock()
	fresh := m.known.Accepted == accepted && m.known.SetBack == ""
	if fresh {
		m.known.SetBack = how
	}
	m.mu.Unlock()
	if fresh {
		m.lookSoon() // so that others hear of it
		m.telling.Lock()
		defer m.telling.Unlock()
		m.Noticed(how)
	}
}

func (m *Marks) lookSoon() {
	select {
	case m.soon <- struct{}{}:
	default:
	}
}

// Doubtful says that nothing may be sent under a claim: the journal was set back, or the marks were not read for
// so long that others may work by an operator's word that is not known here. They were not read either on a new connection: the broker
// may have come back with an older journal, and what others have written since the last look is above the mark that is held here.
func (m *Marks) Doubtful() bool {
	if m == nil {
		return false
	}
	if m.Unread() {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.SetBack != "" || m.stale()
}

// Unread says that the marks were not read on this connection yet.
func (m *Marks) Unread() bool {
	on := m.connection()
	m.mu.Lock()
	defer m.mu.Unlock()
	return on != m.lookedOn
}

// stale is for a caller that holds the lock. Both clocks count: the monotonic one stops while a machine is suspended.
func (m *Marks) stale() bool {
	now := m.now()
	return max(now.Sub(m.looked), now.Round(0).Sub(m.looked.Round(0))) > m.Patience()
}

// Patience is how long a worker may not have read the marks, and how long after an operator's word nobody
// claims: whoever has not read them by then has stopped.
func (m *Marks) Patience() time.Duration { return 3 * m.every }

// snapshot is the mark with the hash of its record.
func (m *Marks) snapshot() Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last != nil {
		m.known.SHA256, m.last = recordHash(m.last.Subject, m.last.Header, m.last.Data), nil
	}
	return m.known
}

// Look reads the marks of all workers, compares the journal with them, and writes them where they have become
// higher. An error says nothing about the journal.
func (m *Marks) Look(ctx context.Context) error {
	began, on := m.now(), m.connection()
	journal, err := m.js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return fmt.Errorf("stream %s: %w", messages.StreamJournal, err)
	}
	info := journal.CachedInfo()
	kept, err := ReadMarks(ctx, m.js)
	if err != nil {
		return err
	}
	own := m.snapshot()
	merged := own
	for _, k := range kept {
		merged = merged.with(k.Mark)
	}
	if merged.Created.IsZero() {
		merged.Created = info.Created.UTC() // the first worker of all
	}
	m.adopt(merged)
	if merged.SetBack == "" {
		if err := m.compare(ctx, journal, merged); err != nil {
			return err
		}
	}
	current := m.snapshot()
	for _, k := range kept {
		if next := k.Mark.with(current); next != k.Mark {
			err := k.write(ctx, m.js, next)
			if err != nil && !errors.Is(err, errMarkMoved) && ctx.Err() == nil { // what could be read was: it holds, in memory
				m.log.Warn().Err(err).Msg("the journal's mark stays behind, trying again")
			}
		}
	}
	m.telling.Lock()
	defer m.telling.Unlock()
	m.mu.Lock()
	m.looked, m.lookedOn = began, on
	wrong := m.known.SetBack != ""
	m.mu.Unlock()
	if !wrong {
		m.Agreed(current, current.AcceptedAt.IsZero() || info.TimeStamp.Sub(current.AcceptedAt) > m.Patience())
	}
	return nil
}

// adopt takes over what all workers know together.
func (m *Marks) adopt(merged Mark) {
	m.telling.Lock()
	defer m.telling.Unlock()
	m.mu.Lock()
	noticed := merged.SetBack != "" && (m.known.SetBack == "" || m.known.Accepted != merged.Accepted)
	other := merged.Accepted != m.known.Accepted
	m.mu.Unlock()
	if other {
		m.Agreed(merged, false) // first: what was claimed by the former mark must not be sent
	}
	m.mu.Lock()
	m.suspicious = m.suspicious || other
	next := m.known.with(merged)
	if next.Sequence != m.known.Sequence || next.Accepted != m.known.Accepted {
		m.last = nil
	}
	m.known = next
	m.mu.Unlock()
	if noticed {
		m.Noticed(merged.SetBack)
	}
}

// compare looks for proof in what is stored.
func (m *Marks) compare(ctx context.Context, journal jetstream.Stream, known Mark) error {
	proof, short, err := known.disproves(ctx, journal)
	switch {
	case err != nil:
		return err
	case proof != "":
		m.setBack(known.Accepted, proof)
	case short:
		m.suspect()
	}
	return nil
}

// disproves says by what the journal, as it answers, was set back behind the mark: "" where there is no proof. That it ends before the
// mark (short) proves nothing: a leader that was deposed and does not know answers from its past. Another record at the mark, or
// another stream, no past can show.
func (m Mark) disproves(ctx context.Context, journal jetstream.Stream) (proof string, short bool, err error) {
	info := journal.CachedInfo()
	if !info.Created.Equal(m.Created) {
		return fmt.Sprintf("the stream was made at %s, before it was one made at %s", info.Created.Format(time.RFC3339Nano), m.Created.Format(time.RFC3339Nano)), false, nil
	}
	if m.Sequence == 0 || m.SHA256 == "" {
		return "", false, nil
	}
	stored, err := journal.GetMsg(ctx, m.Sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return "", m.Sequence >= info.State.FirstSeq, nil // else it has aged
	case err != nil:
		return "", false, fmt.Errorf("read record %d of %s: %w", m.Sequence, messages.StreamJournal, err)
	case recordHash(stored.Subject, stored.Header, stored.Data) != m.SHA256:
		return fmt.Sprintf("record %d is not the one that was stored there", m.Sequence), false, nil
	}
	return "", false, nil
}

// Run looks every few seconds, and at once on a new connection or after a set-back was noticed, until ctx ends.
func (m *Marks) Run(ctx context.Context, unread func(error)) {
	var connected chan nats.Status
	if nc := m.js.Conn(); nc != nil {
		connected = nc.StatusChanged(nats.CONNECTED)
		defer nc.RemoveStatusListener(connected)
	}
	for {
		wait := m.every
		if m.Unread() {
			wait /= 10
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-m.soon:
		case _, open := <-connected:
			if !open {
				connected = nil
			}
		}
		timer.Stop()
		one, cancel := context.WithTimeout(ctx, m.every)
		err := m.Look(one)
		cancel()
		if err != nil && ctx.Err() == nil {
			m.log.Debug().Err(err).Msg("the journal was not compared with its mark")
			m.mu.Lock()
			stale := m.stale()
			m.mu.Unlock()
			if stale {
				unread(err)
			}
		}
	}
}

// recordHash is over what tells a record from every other: its subject, its headers, its body.
func recordHash(subject string, header nats.Header, data []byte) string {
	h := sha256.New()
	part := func(s string) { _, _ = io.WriteString(h, strconv.Itoa(len(s))+":"+s) }
	part(subject)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		part(name)
		for _, value := range header[name] {
			part(value)
		}
	}
	part(string(data))
	return hex.EncodeToString(h.Sum(nil))
}

// A keptMark is the mark as one of the streams keeps it.
type keptMark struct {
	Mark
	place    int
	sequence uint64 // in its stream; 0: none
}

// ReadMarks reads the mark from both streams' leaders.
func ReadMarks(ctx context.Context, js jetstream.JetStream) (kept [len(markPlaces)]keptMark, err error) {
	for i, p := range markPlaces {
		kept[i].place = i
		stream, err := js.Stream(ctx, p.stream)
		if err != nil {
			return kept, fmt.Errorf("stream %s: %w", p.stream, err)
		}
		stored, err := stream.GetLastMsgForSubject(ctx, p.subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return kept, fmt.Errorf("read the journal's mark in %s: %w", p.stream, err)
		}
		if err := json.Unmarshal(stored.Data, &kept[i].Mark); err != nil {
			return kept, fmt.Errorf("read the journal's mark in %s: %w", p.stream, err)
		}
		kept[i].sequence = stored.Sequence
	}
	return kept, nil
}

// write replaces the mark that was read, or fails with errMarkMoved.
func (k keptMark) write(ctx context.Context, js jetstream.JetStream, next Mark) error {
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encode the journal's mark: %w", err)
	}
	p := markPlaces[k.place]
	_, err = js.PublishMsg(ctx, &nats.Msg{Subject: p.subject, Data: data},
		jetstream.WithExpectStream(p.stream), jetstream.WithExpectLastSequencePerSubject(k.sequence))
	if overtaken(err) {
		return errMarkMoved
	}
	if err != nil {
		return fmt.Errorf("write the journal's mark to %s: %w", p.stream, err)
	}
	return nil
}

// errMarkMoved means that another worker has written the mark meanwhile.
var errMarkMoved = errors.New("the journal's mark has moved on")

// AcceptRestored takes the journal as it is from now on: an operator's word, after it was restored, made
// anew or cut short. It returns the moment T before which the journal may have forgotten what it knew. Renewals that fell due before T are
// claimed only while no key of theirs can have been used too long ago, see [State]. It is safe beside running workers, which charge again
// some seconds after it, and may be repeated.
func AcceptRestored(ctx context.Context, js jetstream.JetStream) (time.Time, error) {
	return AcceptRestoredAhead(ctx, js, 0)
}

// AcceptRestoredAhead is AcceptRestoredJournal where the broker's clock is ahead of the time that a test lives in.
func AcceptRestoredAhead(ctx context.Context, js jetstream.JetStream, ahead time.Duration) (time.Time, error) {
	for {
		next, kept, err := acceptance(ctx, js, ahead)
		for i := 0; i < len(kept) && err == nil; i++ {
			err = kept[i].write(ctx, js, next)
		}
		if err == nil {
			return next.Restored, nil
		}
		if !errors.Is(err, errMarkMoved) || ctx.Err() != nil {
			return time.Time{}, fmt.Errorf("accept the journal as it is: %w", err)
		}
	}
}

// acceptance is the mark that takes the place of the kept ones.
func acceptance(ctx context.Context, js jetstream.JetStream, ahead time.Duration) (next Mark, kept [len(markPlaces)]keptMark, err error) {
	journal, err := js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return next, kept, fmt.Errorf("stream %s: %w", messages.StreamJournal, err)
	}
	info := journal.CachedInfo()
	if kept, err = ReadMarks(ctx, js); err != nil {
		return next, kept, err
	}
	next = Mark{Created: info.Created.UTC(), Sequence: info.State.LastSeq, AcceptedAt: info.TimeStamp.UTC(), Restored: info.TimeStamp.Add(ahead + MaxSkew).UTC()}
	for _, k := range kept {
		next.Accepted = max(next.Accepted, k.Accepted+1)
	}
	if next.Sequence > 0 {
		stored, err := journal.GetMsg(ctx, next.Sequence)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return next, kept, fmt.Errorf("read record %d of %s: %w", next.Sequence, messages.StreamJournal, err)
		}
		if err == nil {
			next.SHA256 = recordHash(stored.Subject, stored.Header, stored.Data)
		}
	}
	return next, kept, nil
}
