package journal

import (
	"time"
)

// This file is the state machine's part for a journal that was set back: what may still be done about a renewal
// of which it may have forgotten something. T is the moment at which an operator accepted the journal as it is
// ([AcceptRestoredJournal]); what was recorded before T may be lost, what is recorded after it is not.

// forgotten says since when keys of this renewal may have been used without the journal's knowing: since it fell
// due, where that was before T. Whether the journal knows the renewal makes no difference. Where it does, it may know
// it as it was long ago: later attempts were claimed and paid, and their records are what was lost. Neither the time of a
// known record nor that of the job's publication bounds this better, since records may have been written between the
// restore and its discovery, and a job that was charged may be published again at any time.
//
// It ends with an operator's word after T on what became of a charge.
func (s State) forgotten(q Request, r Rules) (since time.Time, ok bool) {
	if r.Restored.IsZero() || !s.VouchedAt.Before(r.Restored) {
		return time.Time{}, false
	}
	since = s.DueAt
	if since.IsZero() || !q.DueAt.IsZero() && q.DueAt.Before(since) {
		since = q.DueAt
	}
	return since, since.Before(r.Restored)
}

// vouched is the state of a record that the broker stored at a moment: nobody has vouched for anything after it. What the record says is
// by the clock of the operator's machine, which nobody compares with the broker's, by which T goes: ahead of that, a word from before
// T would pass for one after it. One that is told too early is only asked for once more. It is done where records are read, so that no
// command that writes one has to know, and records of earlier versions are read so, too; the next record carries on what was read.
func (s State) vouched(stored time.Time) State {
	if s.VouchedAt.After(stored) {
		s.VouchedAt = stored
	}
	return s
}

// unseen says that the job follows attempts that the journal has forgotten: what became of them nobody here knows.
func (s State) unseen(q Request, r Rules) bool {
	_, ok := s.forgotten(q, r)
	return ok && q.Attempt > s.Attempts+1
}

// distrust starts the key's clock where the first use of the key may have been, and counts one try more that
// may have made an order: a refusal of the token may hide it.
func (c *Claim) distrust(s State, q Request, r Rules) {
	since, ok := s.forgotten(q, r)
	if !ok || c.Restored {
		return
	}
	c.FirstSentAt, c.Restored = since, true
	c.forgot(r)
	c.UndecidedTries++
}

// outdated says that a claim was written before the operator's word: the journal may not know it, so that nothing
// keeps others from charging beside it.
func (r Rules) outdated(c Claim) bool {
	return !r.Restored.IsZero() && c.LeaseUntil.Add(-r.AckWait).Before(r.Restored.Add(-MaxSkew))
}
