package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

const (
	// sweepEvery is how often the sweeper looks for abandoned claims. They are a
	// day old: minutes do not matter.
	sweepEvery = 5 * time.Minute
	// sweepBack is how far back a new sweeper begins to read the journal.
	sweepBack = 30 * 24 * time.Hour
	sweepKey  = "sweeper" // in the bucket of the workers
	// leadEvery is how often the key is renewed, which lives for 15 s.
	leadEvery = 5 * time.Second
)

// errNotLeading ends what a worker does that is not the one that sweeps any more.
var errNotLeading = errors.New("another worker sweeps now")

// A sweeper settles claims that ran out of time although nobody delivers their
// job: the account is paused, or the job was purged. Without it the next attempt
// would wait for ever. One worker does it at a time, by a key in the workers' bucket that expires;
// a second one doing it too does no harm, since it writes like any other.
type sweeper struct {
	name     string // of this worker
	js       jetstream.JetStream
	journal  *journal.Journal
	rules    journal.Rules
	bucket   jetstream.KeyValue
	every    time.Duration
	clock    *clock
	marks    *journal.Marks
	pauses   *pausing
	restored *atomic.Int64 // see rulebook
	leading  *atomic.Bool
	expiring *atomic.Pointer[map[messages.Account]int] // what it found, for the others; nil while it does not lead
	waker    *waker
	metrics  *Metrics
	log      zerolog.Logger

	lease uint64        // revision of our key, 0 when it is not ours
	led   time.Duration // by the monotonic clock, when it was last renewed

	next uint64                         // sequence to read on from; 0 before the first sweep
	open map[messages.Renewal]time.Time // claims that were open a day ago, and when they are stale
	// authorised are orders that had money left to capture a day ago.
	authorised authorisations
}

func (s *sweeper) run(ctx context.Context) {
	refresh := time.NewTicker(leadEvery)
	defer refresh.Stop()
	due := time.Now().Add(min(s.every, time.Minute))
	for {
		select {
		case <-ctx.Done():
			return
		case <-refresh.C:
		}
		leading := s.lead(ctx)
		s.leading.Store(leading)
		if !leading {
			s.expiring.Store(nil)
		}
		if !leading || time.Now().Before(due) || s.clock.fault() != "" || s.forgetful() {
			continue
		}
		due = time.Now().Add(s.every)
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("abandoned claims not looked for, trying again later")
		}
	}
}

// forgetful says that the journal was set back, or may have been: a claim that it shows as open may have its result, and what the
// record of giving it up has to say depends on the moment that an operator names.
func (s *sweeper) forgetful() bool {
	return s.pauses.reasons.Has(pauseSetBack) || s.marks.Doubtful()
}

// lead says whether this worker is the one that sweeps.
func (s *sweeper) lead(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, journal.PublishTimeout)
	defer cancel()
	began := s.clock.monotonic()
	var err error
	if s.lease == 0 {
		s.lease, err = s.bucket.Create(ctx, sweepKey, []byte(s.name))
	} else {
		s.lease, err = s.bucket.Update(ctx, sweepKey, []byte(s.name), s.lease)
	}
	if err != nil {
		s.lease = 0
		return false
	}
	s.led = began
	return true
}

// leads is lead for between two reads of many: the key is renewed where it is time.
func (s *sweeper) leads(ctx context.Context) bool {
	return s.lease != 0 && s.clock.monotonic()-s.led < leadEvery || s.lead(ctx)
}

// sweep reads the journal up to a day ago, and settles what was left open then
// and still is.
func (s *sweeper) sweep(ctx context.Context) error {
	if err := s.read(ctx, s.clock.now().Add(-s.rules.KeyWindow-journal.StaleAfter)); err != nil {
		return err
	}
	for r, stale := range s.open {
		if s.clock.now().Before(stale) {
			continue
		}
		if !s.leads(ctx) {
			return errNotLeading
		}
		at, err := s.journal.Last(ctx, r)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.log.Error().Err(err).Msg("abandoned claim not read, trying again later")
			continue
		}
		at, err = s.settle(ctx, r, at)
		if fault := s.clock.fault(); fault != "" {
			return errors.New(fault)
		}
		if err != nil {
			s.log.Error().Err(err).Str("renewal_key", string(r.Key())).Msg("abandoned claim not settled, trying again later")
			continue
		}
		if at.State.Open() {
			s.open[r] = at.State.StaleAt(s.rules)
			continue
		}
		delete(s.open, r)
	}
	return s.countExpiring(ctx)
}

// read follows the journal up to the records of a certain time.
func (s *sweeper) read(ctx context.Context, until time.Time) error {
	from := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: s.next, HeadersOnly: true, InactiveThreshold: time.Minute}
	if s.next == 0 {
		begin := s.clock.now().Add(-sweepBack)
		from = jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &begin, HeadersOnly: true, InactiveThreshold: time.Minute}
	}
	records, err := s.js.OrderedConsumer(ctx, messages.StreamJournal, from)
	if err != nil {
		return fmt.Errorf("read %s: %w", messages.StreamJournal, err)
	}
	for ctx.Err() == nil {
		if !s.lead(ctx) { // a long journal takes longer than the key lives
			return errNotLeading
		}
		n, end, err := s.batch(ctx, records, until)
		if err != nil {
			return fmt.Errorf("read %s: %w", messages.StreamJournal, err)
		}
		if end || n == 0 {
			return nil
		}
	}
	return ctx.Err()
}

// batch reads some records; end says that the time until which to read has come.
func (s *sweeper) batch(ctx context.Context, records jetstream.Consumer, until time.Time) (n int, end bool, err error) {
	n, err = s.each(ctx, records, func(m jetstream.Msg, meta *jetstream.MsgMetadata) bool {
		if end = meta.Timestamp.After(until); !end {
			s.next = meta.Sequence.Stream + 1
			s.note(m, meta.Sequence.Stream)
		}
		return end
	})
	return n, end, err
}

// each takes some records until one says that it is the end; n is 0 when it did, or the broker says that there are no more. That it
// hands out none and says nothing is an error: whoever took it for the end would leave out what follows.
func (s *sweeper) each(ctx context.Context, records jetstream.Consumer, take func(jetstream.Msg, *jetstream.MsgMetadata) (end bool)) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	batch, err := records.Fetch(500, jetstream.FetchContext(ctx))
	if err != nil {
		return 0, err
	}
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return n, err
		}
		if take(m, meta) {
			return 0, nil
		}
		n++
	}
	if err := batch.Error(); err != nil && (n == 0 || ctx.Err() == nil) {
		return n, err
	}
	return n, nil
}

// note keeps the claims that a record leaves open.
func (s *sweeper) note(m jetstream.Msg, sequence uint64) {
	record, err := messages.ParseRecordSubject(m.Subject())
	if err != nil {
		return
	}
	state, err := journal.ParseState(m.Headers().Get(messages.HeaderState))
	if err != nil {
		s.log.Error().Err(err).Str("subject", m.Subject()).Msg("record not understood")
		return
	}
	if state.Open() {
		s.open[record.Renewal] = state.StaleAt(s.rules)
	} else {
		delete(s.open, record.Renewal)
	}
	s.authorised.note(record.Renewal, record.Account, state, sequence, s.clock.now())
}

// settle records a claim as unresolved that is abandoned by now, and returns what the renewal then is.
func (s *sweeper) settle(ctx context.Context, r messages.Renewal, at journal.Entry) (journal.Entry, error) {
	_, at, err := s.journal.Apply(ctx, at, journal.Change{
		Renewal: r,
		Decide: func(last journal.State) (journal.Transition, error) {
			rules := s.rules
			rules.Restored = moment(s.restored)
			next, due := journal.Sweep(last, s.clock.stamp(), rules)
			if due && s.forgetful() {
				return journal.Transition{}, errors.New(messages.StreamJournal + " may have been set back")
			}
			if fault := s.clock.fault(); due && fault != "" {
				return journal.Transition{}, errors.New(fault)
			}
			return next, nil
		},
		Record: func(ctx context.Context, next journal.Transition) (journal.Record, error) {
			return s.journal.Abandoned(ctx, r, next, s.name, s.clock.stamp())
		},
		Written: func(next journal.Transition, e messages.Event) {
			s.waker.ended(r, next.State)
			abandoned(s.metrics, s.log, r, next, e.(messages.Unresolved))
		},
	}, nil)
	return at, err
}

// abandoned tells the metrics and the log of a claim that was settled for nobody delivers its job.
func abandoned(m *Metrics, log zerolog.Logger, of messages.Renewal, next journal.Transition, about messages.Unresolved) {
	m.results.WithLabelValues(string(about.Account), string(messages.KindUnresolved), string(next.Reason)).Inc()
	log.Error().Str("account", string(about.Account)).Str("id", string(about.ID)).Str("renewal_key", string(of.Key())).
		Str("idempotency_key", string(next.Key)).Str("reason", string(next.Reason)).Msg("abandoned claim settled as unresolved")
}
