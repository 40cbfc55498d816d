package worker

import (
	"fmt"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// Two more reasons for which the whole worker is paused.
const (
	pauseSetBack   = "journal_set_back"  // the journal has forgotten what it knew; an operator has to accept it
	pauseUnchecked = "journal_unchecked" // the journal was not compared with its mark for a while
)

// newMarks binds the marks to the worker's pauses.
func (w *Worker) newMarks() *journal.Marks {
	m := journal.NewMarks(w.js, w.opts.Log, w.markEvery)
	m.Noticed = w.journalSetBack
	m.Agreed = w.journalAgrees
	return m
}

const restoredHint = "see what it has forgotten, then run `renewals provision --accept-restored-journal`"

// journalSetBack stops all claiming until an operator has looked.
func (w *Worker) journalSetBack(how string) {
	sentence := messages.StreamJournal + " was set back: " + how + "; " + restoredHint
	if w.setPause(pauseSetBack, sentence) {
		w.opts.Log.Error().Msg("nothing is charged: " + sentence)
	}
}

// journalAgrees takes in a mark that the journal agrees with. Until settled others may not know of an operator's word yet.
func (w *Worker) journalAgrees(m journal.Mark, settled bool) {
	if !m.Restored.IsZero() {
		w.restored.Store(m.Restored.UnixNano())
	}
	w.liftPause(pauseUnchecked)
	if !settled {
		w.setPause(pauseSetBack, messages.StreamJournal+" was accepted as it is a moment ago: waiting until every worker knows")
		return
	}
	if w.liftPause(pauseSetBack) {
		w.opts.Log.Info().Msg("the journal was accepted as it is: charging goes on")
	}
}

// journalUnchecked stops claiming while the marks cannot be read.
func (w *Worker) journalUnchecked(err error) {
	if w.setPause(pauseUnchecked, fmt.Sprintf("the journal was not compared with its mark for %s: %v", w.marks.Patience(), err)) {
		w.opts.Log.Warn().Err(err).Msg("nothing is claimed until the journal was compared with its mark again")
	}
}
