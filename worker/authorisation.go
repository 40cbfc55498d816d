package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

const (
	// expiresSoon is how long before its end an authorisation that was not captured
	// is somebody's business.
	expiresSoon = 3 * 24 * time.Hour
	// keptAhead is how long before its end the sweeper keeps one in memory.
	keptAhead = expiresSoon + 24*time.Hour
)

// authorisations are the orders with money left to capture whose authorisation
// ends within five days at most. Klarna gives four weeks: a merchant that captures late has a
// million of them open, so of those that end later only the records are known that
// they can be read from again, as one range for each day on which some end.
type authorisations struct {
	soon  map[messages.Renewal]authorisation
	later map[int64]span // by the day since 1970 on which they end
}

// An authorisation is an order's, and when it ends.
type authorisation struct {
	account messages.Account
	ends    time.Time
}

// A span is a range of sequences in RENEWAL_JOURNAL.
type span struct{ first, last uint64 }

func newAuthorisations() authorisations {
	return authorisations{soon: map[messages.Renewal]authorisation{}, later: map[int64]span{}}
}

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// near says whether those that end on this day are kept.
func near(day int64, now time.Time) bool { return day <= dayOf(now.Add(keptAhead)) }

// note takes in the last record of a renewal, as far as it was read.
func (a authorisations) note(r messages.Renewal, account messages.Account, s journal.State, sequence uint64, now time.Time) {
	delete(a.soon, r)
	if !s.Uncaptured() || s.Order.CaptureBefore.IsZero() {
		return
	}
	day := dayOf(s.Order.CaptureBefore)
	if near(day, now) {
		a.soon[r] = authorisation{account, s.Order.CaptureBefore}
		return
	}
	records, known := a.later[day]
	if !known {
		records.first = sequence
	}
	records.last = max(records.last, sequence)
	a.later[day] = records
}

// recall reads again what ends soon by now.
func (s *sweeper) recall(ctx context.Context) error {
	for day, records := range s.authorised.later {
		if !near(day, s.clock.now()) {
			continue
		}
		if err := s.reread(ctx, day, records); err != nil {
			return fmt.Errorf("read %s again: %w", messages.StreamJournal, err)
		}
		delete(s.authorised.later, day)
	}
	return nil
}

// reread finds the authorisations in a range of records that end on a day. Some
// of them have been captured since: that is asked before they are counted. After an error the day has to be read once more.
func (s *sweeper) reread(ctx context.Context, day int64, in span) error {
	records, err := s.js.OrderedConsumer(ctx, messages.StreamJournal, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: in.first, HeadersOnly: true, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return err
	}
	for read := false; !read; {
		if !s.lead(ctx) {
			return errNotLeading
		}
		n, err := s.each(ctx, records, func(m jetstream.Msg, meta *jetstream.MsgMetadata) (end bool) {
			if meta.Sequence.Stream <= in.last {
				s.remember(m, day)
			}
			read = meta.Sequence.Stream >= in.last
			return read
		})
		if err != nil {
			return err
		}
		if n == 0 && !read {
			return s.gone(ctx, in.last)
		}
	}
	return nil
}

// remember keeps what a record says of an authorisation that ends on a day.
func (s *sweeper) remember(m jetstream.Msg, day int64) {
	record, err := messages.ParseRecordSubject(m.Subject())
	if err != nil {
		return
	}
	state, err := journal.ParseState(m.Headers().Get(messages.HeaderState))
	if err == nil && state.Uncaptured() && dayOf(state.Order.CaptureBefore) == day {
		s.authorised.soon[record.Renewal] = authorisation{record.Account, state.Order.CaptureBefore}
	}
}

// gone fails where a record that the broker did not hand out is there all the same: a server that has yet to catch up was asked. Where
// it was removed, or the journal set back, there is nothing to wait for.
func (s *sweeper) gone(ctx context.Context, sequence uint64) error {
	records, err := s.js.Stream(ctx, messages.StreamJournal)
	if err == nil {
		_, err = records.GetMsg(ctx, sequence)
	}
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("look for record %d: %w", sequence, err)
	}
	return fmt.Errorf("record %d is there, and was not handed out", sequence)
}

// countExpiring tells how many authorisations end soon with money left to capture.
func (s *sweeper) countExpiring(ctx context.Context) error {
	if err := s.recall(ctx); err != nil {
		return err
	}
	expiring := map[messages.Account]int{}
	for r, a := range s.authorised.soon {
		switch left := a.ends.Sub(s.clock.now()); {
		case left <= 0:
			delete(s.authorised.soon, r) // too late
			continue
		case left > expiresSoon:
			continue
		}
		if !s.leads(ctx) { // many that were not read lately take longer than the key lives
			return errNotLeading
		}
		at, err := s.journal.Last(ctx, r)
		if _, odd := errors.AsType[*journal.UnreadableError](err); odd {
			s.log.Error().Err(err).Msg("record not understood")
			continue
		}
		if err != nil {
			return err
		}
		s.authorised.note(r, a.account, at.State, at.Sequence, s.clock.now())
		if at.State.Uncaptured() {
			expiring[a.account]++
		}
	}
	s.expiring.Store(&expiring)
	return nil
}
