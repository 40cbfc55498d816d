package worker

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
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
func (s State) forgotten(q request, r rules) (since time.Time, ok bool) {
	if r.restored.IsZero() || !s.VouchedAt.Before(r.restored) {
		return time.Time{}, false
	}
	since = s.DueAt
	if since.IsZero() || !q.DueAt.IsZero() && q.DueAt.Before(since) {
		since = q.DueAt
	}
	return since, since.Before(r.restored)
}

// unseen says that the job follows attempts that the journal has forgotten: what became of them nobody here knows.
func (s State) unseen(q request, r rules) bool {
	_, ok := s.forgotten(q, r)
	return ok && q.Attempt > s.Attempts+1
}

// distrust starts the key's clock where the first use of the key may have been, and counts one try more that
// may have made an order: a refusal of the token may hide it.
func (c *Claim) distrust(s State, q request, r rules) {
	since, ok := s.forgotten(q, r)
	if !ok || c.Restored {
		return
	}
	c.FirstSentAt, c.Restored = since, true
	c.UndecidedTries++
}

// outdated says that a claim was written before the operator's word: the journal may not know it, so that nothing
// keeps others from charging beside it.
func (r rules) outdated(c Claim) bool {
	return !r.restored.IsZero() && c.LeaseUntil.Add(-r.ackWait).Before(r.restored.Add(-maxSkew))
}

// forgottenBy says that the journal does not know the claim any more under which an order was made, and that
// nobody charges under another one: the order can be recorded as if the claim were there.
func (h holding) forgottenBy(s State) bool {
	k := h.Claim.Key
	return h.Claim.Capture == nil && !s.holds(k) && !s.known(k) && (s.Phase == PhaseNone || s.Phase == PhaseDunning)
}

// distrustCapture decides about a capture of an order of which the journal may have forgotten captures. What
// Klarna has captured tells: where that is no more than the journal knows, nothing is forgotten. Where it is more, only
// the window counted as for charges makes the same key safe.
func distrustCapture(s State, q request, st step, now time.Time, r rules) step {
	if _, ok := s.forgotten(q, r); !ok {
		return st
	}
	c := *st.State.Claim
	if f := q.Capture.Found; f.Amount-f.Remaining <= s.Order.Captured {
		c.Restored = true // looked at: its clock starts now
	} else {
		c.distrust(s, q, r)
	}
	st.State = st.State.claimed(c)
	if st.State.windowClosed(now, r) {
		return giveUp(st.State, messages.ReasonJournalRestored)
	}
	return st
}
