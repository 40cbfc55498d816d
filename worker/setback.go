package worker

import (
	"fmt"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A setBackWatch stops all claiming where the journal has forgotten what it knew.
type setBackWatch struct {
	marks    *journal.Marks
	pauses   *pausing
	restored *atomic.Int64 // see rulebook
	log      zerolog.Logger
}

// watch binds the marks to the pauses.
func (s *setBackWatch) watch() {
	s.marks.Noticed, s.marks.Agreed = s.noticed, s.agreed
}

const restoredHint = "see what it has forgotten, then run `renewals provision --accept-restored-journal`"

// noticed stops all claiming until an operator has looked.
func (s *setBackWatch) noticed(how string) {
	sentence := messages.StreamJournal + " was set back: " + how + "; " + restoredHint
	if s.pauses.set(pauseSetBack, sentence) {
		s.log.Error().Msg("nothing is charged: " + sentence)
	}
}

// agreed takes in a mark that the journal agrees with. Until settled others may not know of an operator's word yet.
func (s *setBackWatch) agreed(m journal.Mark, settled bool) {
	if !m.Restored.IsZero() {
		s.restored.Store(m.Restored.UnixNano())
	}
	s.pauses.lift(pauseUnchecked)
	if !settled {
		s.pauses.set(pauseSetBack, messages.StreamJournal+" was accepted as it is a moment ago: waiting until every worker knows")
		return
	}
	if s.pauses.lift(pauseSetBack) {
		s.log.Info().Msg("the journal was accepted as it is: charging goes on")
	}
}

// unchecked stops claiming while the marks cannot be read.
func (s *setBackWatch) unchecked(err error) {
	if s.pauses.set(pauseUnchecked, fmt.Sprintf("the journal was not compared with its mark for %s: %v", s.marks.Patience(), err)) {
		s.log.Warn().Err(err).Msg("nothing is claimed until the journal was compared with its mark again")
	}
}
