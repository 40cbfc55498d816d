package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
)

// A Journal reads and writes the renewals' records. The last record of a
// renewal, of whatever kind, is its state; a record is written only on top of
// the one that the writer has read.
type Journal struct {
	js       jetstream.JetStream
	stream   jetstream.Stream
	subjects subjects
	log      zerolog.Logger

	retried func()                       // is told of every publish that is made again
	noticed func(part string, err error) // is told what every read and every publish came to
	marks   *Marks                       // judges every PubAck; nil where nobody charges
	batches *Batches                     // nil where every record goes by itself
}

// An Entry is the last record of a renewal. Its zero value stands for a renewal
// without any.
type Entry struct {
	Sequence uint64 // in RENEWAL_JOURNAL; 0 when there is no record
	State    State
	Subject  string
	Header   nats.Header
	Body     []byte    // whole, see [WholeBody]
	stored   []byte    // the body as it is stored
	Time     time.Time // when the broker stored it
}

// What a Journal needs of the broker, in the words for when it fails.
const (
	Reads  = "the journal cannot be read"
	Writes = "the journal takes no records"
)

// ErrLost means that another writer was faster, or that one's own write was
// stored and its answer lost: read the last record and decide again.
var ErrLost = errors.New("the journal has moved on")

// Open binds the journal for leader reads. It fails where the stream is
// missing, holds records of the contract's first edition, or lets anybody but the leader answer reads.
func Open(ctx context.Context, js jetstream.JetStream, log zerolog.Logger) (*Journal, error) {
	stream, err := js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return nil, fmt.Errorf("bind stream %s: %w", messages.StreamJournal, err)
	}
	for _, subject := range stream.CachedInfo().Config.Subjects {
		if messages.FirstEdition(subject) { // a read would find nothing of what was charged
			return nil, fmt.Errorf("stream %s: setting subjects: found %s, of the first edition of the contract, expected %s; run `renewals provision`, which says what to do",
				messages.StreamJournal, subject, messages.RecordFilter(messages.KindPaid, "*"))
		}
	}
	if stream.CachedInfo().Config.AllowDirect {
		return nil, fmt.Errorf("stream %s: setting allow_direct: found true, expected false; run `renewals provision`", messages.StreamJournal)
	}
	return &Journal{js: js, stream: stream, subjects: newSubjects(js), log: log, retried: func() {}, noticed: func(string, error) {}}, nil
}

// Observed is the journal of somebody who charges: marks judge every PubAck, records are gathered in batches, nil for none, retried is
// told of every publish that is made again, and noticed what every read and every publish came to.
func (j *Journal) Observed(m *Marks, b *Batches, retried func(), noticed func(part string, err error)) *Journal {
	o := *j
	o.marks, o.batches, o.retried, o.noticed = m, b, retried, noticed
	return &o
}

// Last reads the last record of a renewal from the stream's leader.
func (j *Journal) Last(ctx context.Context, r messages.Renewal) (Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, PublishTimeout)
	defer cancel()
	m, err := j.stream.GetLastMsgForSubject(ctx, messages.RenewalFilter(r))
	j.read(err)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Entry{State: State{Phase: PhaseNone}}, nil
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read the last record of renewal %s: %w", r, err)
	}
	return entry(m)
}

// LastOf reads the last record of one kind, or a zero Entry.
func (j *Journal) LastOf(ctx context.Context, k messages.Kind, r messages.Renewal) (Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, PublishTimeout)
	defer cancel()
	m, err := j.stream.GetLastMsgForSubject(ctx, messages.KindFilter(k, r))
	j.read(err)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Entry{}, nil
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read the last %s record of renewal %s: %w", k, r, err)
	}
	return entry(m)
}

// read tells what a read came to. That there is no record is an answer.
func (j *Journal) read(err error) {
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = nil
	}
	j.noticed(Reads, err)
}

func entry(m *jetstream.RawStreamMsg) (Entry, error) {
	e := Entry{Sequence: m.Sequence, Subject: m.Subject, Header: m.Header, stored: m.Data, Time: m.Time}
	var err error
	if e.State, err = ParseState(m.Header.Get(messages.HeaderState)); err != nil {
		return Entry{}, &UnreadableError{Sequence: m.Sequence, Subject: m.Subject, Err: err}
	}
	if e.Body, err = e.State.wholeBody(m.Subject, m.Data); err != nil {
		e.Body = m.Data // whoever reads it finds out; the state decides without it
	}
	e.State = e.State.stored(m.Sequence).vouched(m.Time)
	return e, nil
}

// An UnreadableError is a record that no worker wrote, or one of a newer
// version. While it is its renewal's last, nobody acts on the renewal.
type UnreadableError struct {
	Sequence uint64 // in RENEWAL_JOURNAL
	Subject  string
	Err      error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("record %d of %s, on %s: %v", e.Sequence, messages.StreamJournal, e.Subject, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }

// Write appends a record on top of the record with sequence last (0: none) of
// its renewal and returns its own sequence. ErrLost means that the record may or may not be there: read and
// look for it. Other than that Write tries until ctx ends, since a broker that does not answer may have
// stored the record; the error then is the last one met, and the record may be there as well.
func (j *Journal) Write(ctx context.Context, m *nats.Msg, r messages.Renewal, last uint64) (uint64, error) {
	var between *backoff.ExponentialBackOff
	for {
		sequence, refused, err := j.writeOnce(ctx, m, r, last)
		if err == nil || refused {
			return sequence, err
		}
		if between == nil {
			between = NewPause()
		}
		if !pause(ctx, between.NextBackOff()) {
			return 0, err
		}
		j.retried()
	}
}

// NewPause is between two calls of a broker that does not answer.
func NewPause() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(5*time.Millisecond),
		backoff.WithMaxInterval(2*time.Second),
		backoff.WithMaxElapsedTime(0),
	)
}

// writeOnce is Write without a second try. refused says that the broker has
// answered, and would so again for now; else the record may be stored or not, and the same expectation again tells.
func (j *Journal) writeOnce(ctx context.Context, m *nats.Msg, r messages.Renewal, last uint64) (sequence uint64, refused bool, err error) {
	expected := [2]string{strconv.FormatUint(last, 10), messages.RenewalFilter(r)}
	m.Header[jetstream.ExpectedLastSubjSeqHeader] = expected[:1:1]
	m.Header[jetstream.ExpectedLastSubjSeqSubjHeader] = expected[1:]
	sequence, err = j.batches.store(ctx, r, m,
		func() (uint64, error) { return j.publish(ctx, m) },
		func(batch []*waiting) (uint64, error) { return j.commit(ctx, batch) })
	j.noticed(Writes, err)
	if err == nil {
		return sequence, false, nil
	}
	answer, answered := errors.AsType[*jetstream.APIError](err)
	switch {
	case answered && answer.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
		return 0, true, ErrLost
	case answered && answer.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant: // passes in a cluster
	case answered && answer.Code == 400, Final(err):
		refused = true
	}
	if !refused {
		j.log.Debug().Err(err).Str("subject", m.Subject).Msg("journal write not confirmed")
	}
	return 0, refused, fmt.Errorf("write %s: %w", m.Subject, err)
}

// publish sends a record once, by itself, and lets the marks judge what became of it.
func (j *Journal) publish(ctx context.Context, m *nats.Msg) (sequence uint64, err error) {
	turn := j.marks.begin(ctx)
	one, cancel := context.WithTimeout(ctx, PublishTimeout)
	defer cancel()
	err = errPanicked
	defer func() { j.marks.end(turn, m, sequence, err) }()
	pub, err := j.js.PublishMsg(one, m)
	if err != nil {
		return 0, err
	}
	if pub.Stream != messages.StreamJournal { // an expectation of it would stand in every record for ever
		return 0, fmt.Errorf("stored in stream %s, expected %s: another stream has its subjects", pub.Stream, messages.StreamJournal)
	}
	return pub.Sequence, nil
}

// errPanicked is what became of a publish that did not return: others wait for its turn to end.
var errPanicked = errors.New("publishing panicked")

// PublishTimeout is how long one publish, or one read, may go unanswered before it is made
// again; a leader election takes a few seconds.
const PublishTimeout = 5 * time.Second

// pause waits for d and says whether it did: not when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
