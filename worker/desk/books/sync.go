package books

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

const (
	// batch is how many records go into one transaction: what one costs is spread over them, and a killed process reads them again.
	batch = 5000
	// ahead is how many records are read while others are written: up to half a megabyte each, mostly two kilobytes.
	// A request asks for as many, which topology.MostBatch has to allow.
	ahead = 2000
	// identified is how often a journal that is followed is looked at for whether it is still the same.
	identified = time.Minute
)

// A Syncer brings books up to date with the journal. It reads with an ordered consumer without a filter, which a broker serves from the
// sequences alone: no claim waits for it.
type Syncer struct {
	JetStream jetstream.JetStream
	Writer    *Writer
	// Follow goes on after the last record, until the context ends.
	Follow bool
	// Doubt is for how long a journal that ends before the books do is asked again before that is believed: a leader that was cut off
	// answers from its past until it steps down, after 10 s. Zero: 12 s.
	Doubt time.Duration
	// Progress is told of a long reading: how many records there are, then of each that is written. Nil: nobody.
	Progress func(total int64) (set func(int64), done func())
	// Say is told, as a sentence, what is not usual. Nil: nobody.
	Say func(sentence string)

	size  int   // of a batch; 0: batch
	begin int64 // how many records begin a filling; 0: fillFrom
}

// Summary is what a sync did.
type Summary struct {
	Added   int64  // records
	Last    uint64 // sequence of the last record that the books have
	Anew    string // why everything was read anew; "" where it was not
	Kept    string // the file that holds what the books had before
	Missing uint64 // records that had aged out of the journal before they were read
}

// A missingError says that there is no journal: while it is being restored, a sync that follows waits for it.
type missingError struct{}

func (missingError) Error() string {
	return fmt.Sprintf("stream %s is missing; run `renewals provision`", messages.StreamJournal)
}

func (missingError) Unwrap() error { return jetstream.ErrStreamNotFound }

// errElsewhere ends a reading of a journal that may be another by now.
var errElsewhere = errors.New("the journal may be another")

// Run syncs. It returns when the books have every record that the journal had, or with Follow when ctx ends, which is no error then.
// What is written stays, whatever error there is: the next sync goes on behind it.
func (s Syncer) Run(ctx context.Context) (sum Summary, err error) {
	if s.Say == nil {
		s.Say = func(string) {}
	}
	if s.Progress == nil {
		s.Progress = func(int64) (func(int64), func()) { return func(int64) {}, func() {} }
	}
	s.size, s.begin = cmp.Or(s.size, batch), cmp.Or(s.begin, fillFrom)
	if s.Doubt == 0 {
		s.Doubt = 12 * time.Second
	}
	between := backoff.NewExponentialBackOff(backoff.WithMaxInterval(30*time.Second), backoff.WithMaxElapsedTime(0))
	said := ""
	for lost := 0; ; {
		before := sum.Added
		err = s.once(ctx, &sum)
		switch {
		case s.Follow && ctx.Err() != nil:
			return sum, nil
		case errors.Is(err, errElsewhere):
			continue
		case err == nil || !passing(err) || !s.Follow && (!readingLost(err) || lost == mostLost):
			return sum, err
		}
		lost++
		if sum.Added > before {
			between.Reset()
			said, lost = "", 0
		}
		if sentence := fmt.Sprintf("%v; trying again", err); sentence != said {
			s.Say(sentence)
			said = sentence
		}
		select {
		case <-ctx.Done():
			if s.Follow {
				err = nil
			}
			return sum, err
		case <-time.After(between.NextBackOff()):
		}
	}
}

// mostLost is how often in a row a sync that does not follow begins again whose reading was lost: that is over in a moment or is not.
const mostLost = 3

// readingLost says that a broker which answers has lost what was reading: with a server of its cluster, mostly.
func readingLost(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted) ||
		errors.Is(err, jetstream.ErrNoHeartbeat) || errors.Is(err, jetstream.ErrOrderedConsumerReset)
}

// passing says that a broker may be well again later. What the file or the user may not do stays as it is.
func passing(err error) bool {
	var answer *jetstream.APIError
	return errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, nats.ErrDisconnected) || readingLost(err) ||
		errors.As(err, &answer) && answer.Code == 503
}

// once reads from where the books stand.
func (s Syncer) once(ctx context.Context, sum *Summary) error {
	stream, err := s.JetStream.Stream(ctx, messages.StreamJournal)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return missingError{}
	}
	if err != nil {
		return fmt.Errorf("bind stream %s: %w", messages.StreamJournal, err)
	}
	at, err := s.Writer.Position()
	if err != nil {
		return s.Writer.failed(err)
	}
	why, err := s.differs(ctx, stream, at)
	if err != nil {
		return err
	}
	if why != "" {
		if sum.Kept, err = s.Writer.Anew(time.Now()); err != nil {
			return err
		}
		sum.Anew, at = why, Position{}
		s.Say(fmt.Sprintf("%s: the books are filled anew, what they held is kept in %s", why, sum.Kept))
	}
	state := stream.CachedInfo().State
	sum.Last = at.LastSequence
	if first := state.FirstSeq; first > at.LastSequence+1 && at.LastSequence > 0 {
		sum.Missing = first - at.LastSequence - 1
		s.Say(fmt.Sprintf("%d records, %d to %d, have aged out of the journal since the last sync and are in no books", sum.Missing, at.LastSequence+1, first-1))
	}
	if !s.Follow && state.LastSeq <= at.LastSequence {
		return s.Writer.index(ctx)
	}
	return s.read(ctx, stream, at, sum)
}

// read writes what follows in the journal.
func (s Syncer) read(ctx context.Context, stream jetstream.Stream, at Position, sum *Summary) error {
	consumer, err := s.consumer(ctx, stream, at)
	if err != nil {
		return err
	}
	created, pending := stamp(stream), int64(consumer.CachedInfo().NumPending)
	if err := s.prepare(ctx, at, pending); err != nil || pending == 0 && !s.Follow {
		return err
	}
	set, done := s.Progress(pending)
	defer done()

	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	rows := make(chan pendingRow, batch)
	read := make(chan error, 1)
	go func() {
		defer close(rows)
		read <- s.fetch(reading, consumer, rows)
	}()
	written := int64(0)
	write := func(rows []Row) error {
		if err := s.Writer.Add(reading, created, rows); err != nil {
			return err
		}
		written += int64(len(rows))
		sum.Added += int64(len(rows))
		sum.Last = rows[len(rows)-1].Sequence
		set(written)
		return nil
	}
	err = s.write(reading, stream, rows, write)
	stop(nil)
	for range rows { // the reader ends
	}
	if why := <-read; err == nil {
		err = why
	}
	if err != nil {
		return err
	}
	return s.Writer.index(ctx)
}

// consumer reads the journal from where the books stand. The journal may have been set back since it was looked at: once there is a
// consumer, it is looked at again.
func (s Syncer) consumer(ctx context.Context, stream jetstream.Stream, at Position) (jetstream.Consumer, error) {
	created := stamp(stream)
	consumer, err := s.JetStream.OrderedConsumer(ctx, messages.StreamJournal, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: at.LastSequence + 1, InactiveThreshold: 30 * time.Second,
		MaxResetAttempts: 2, // who waits for the broker, and tells of it, is Run
	})
	if err == nil {
		_, err = stream.Info(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", messages.StreamJournal, err)
	}
	if why, err := s.differs(ctx, stream, at); err != nil || why != "" || created != stamp(stream) {
		return nil, cmp.Or(err, errElsewhere)
	}
	return consumer, nil
}

// prepare leaves the indexes for the end where there is much to be filled in, and makes those that are missing where there is not.
func (s Syncer) prepare(ctx context.Context, at Position, pending int64) error {
	left, err := s.Writer.missing()
	switch {
	case err != nil:
		return err
	case pending >= s.begin && pending <= fillTo && at.LastSequence == 0:
		return s.Writer.fill()
	case pending >= s.begin && len(left) > 0: // a filling that did not come to its end goes on
		return nil
	}
	return s.Writer.index(ctx)
}

// write gathers rows into batches. A batch ends where the journal has no more for now, and with the first such one a filling.
func (s Syncer) write(ctx context.Context, stream jetstream.Stream, rows <-chan pendingRow, add func([]Row) error) error {
	look := time.NewTicker(identified)
	defer look.Stop()
	next := make([]Row, 0, s.size)
	for {
		select {
		case row, ok := <-rows:
			if ok {
				next = append(next, row.Row)
			}
			if len(next) == s.size || len(next) > 0 && (!ok || row.left == 0 && len(rows) == 0) {
				if err := add(next); err != nil {
					return err
				}
				next = next[:0]
				if ok && row.left == 0 {
					if err := s.Writer.index(ctx); err != nil {
						return err
					}
				}
			}
			if !ok {
				return nil
			}
		case <-look.C:
			at, err := s.Writer.Position()
			if err != nil {
				return s.Writer.failed(err)
			}
			if _, err := stream.Info(ctx); err != nil {
				return fmt.Errorf("read %s: %w", messages.StreamJournal, err)
			}
			if why, err := s.differs(ctx, stream, at); err != nil || why != "" {
				return errors.Join(err, errElsewhere)
			}
		}
	}
}

// pendingRow is a row, and how many records the journal has after it.
type pendingRow struct {
	Row
	left uint64
}

// fetch reads records until there are no more or, when they are followed, until ctx ends.
func (s Syncer) fetch(ctx context.Context, consumer jetstream.Consumer, rows chan<- pendingRow) error {
	name := consumer.CachedInfo().Name
	iterator, err := consumer.Messages(jetstream.PullMaxMessages(ahead))
	if err != nil {
		return fmt.Errorf("read %s: %w", messages.StreamJournal, err)
	}
	defer iterator.Stop()
	for {
		m, err := iterator.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", messages.StreamJournal, err)
		}
		r, meta, err := received(m)
		if err != nil {
			return fmt.Errorf("read %s: %w", messages.StreamJournal, err)
		}
		if name != meta.Consumer { // the client has made one anew, and with it may read another journal
			return errElsewhere
		}
		select {
		case rows <- pendingRow{Read(r), meta.NumPending}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if meta.NumPending == 0 && !s.Follow {
			return nil
		}
	}
}
