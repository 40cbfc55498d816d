package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// This file keeps two periods of one subscription apart that fall due closer together than half the shorter of their cadences: a
// billing system that names one period twice, 2026-12 and December 2026, is the commonest real double charge.
//
// The order of steps is what makes it safe, whoever dies in between. A key is claimed first, and the periods beside it are looked at
// after that, before its first byte: of two that are claimed at once at least the later one then sees the other. The one that was claimed
// later in the stream yields, the earlier one need not see the later. Every delivery that takes a claim looks anew, since the one before
// may have died before it did.

// A Neighbour is another period of a subscription as its last record has it.
type Neighbour struct {
	Renewal messages.Renewal
	State   State
}

// Passage is the way of a claim among the periods beside it.
func (s State) Passage(beside []Neighbour) (way Way) {
	for _, n := range beside {
		blocks, holds := s.meets(n.State)
		if !blocks && (!holds || !way.Free()) {
			continue
		}
		way = Way{By: n.Renewal, Key: n.State.Claim.Key, DueAt: n.State.DueAt, Blocked: blocks, First: n.State.ClaimedSeq < s.ClaimedSeq && n.State.firsthand()}
		if blocks {
			return way
		}
	}
	return way
}

// meets says whether another period stands in the way of s, and whether for good.
func (s State) meets(o State) (blocks, holds bool) {
	if s.OffCycle || o.OffCycle || !s.tooClose(o) {
		return false, false
	}
	switch o.Phase {
	case PhaseNone, PhaseDunning, PhaseCancelled:
		return false, false
	case PhaseCharging:
		return false, o.ClaimedSeq < s.ClaimedSeq // else it is the other that yields
	}
	return true, false // an order exists, or may
}

// firsthand says that the last key that was claimed for a charge has not been something else in between: neither refused, nor given up
// and then found to be charged.
func (s State) firsthand() bool {
	return s.Claim.Capture == nil && s.Claim.Corrects == "" && !s.Settled[s.Claim.Key].ByHand
}

// tooClose says that two periods of one subscription are not both charged, by their due moments.
func (s State) tooClose(o State) bool {
	shorter := s.Cadence.Length()
	if other := o.Cadence.Length(); other > 0 && (shorter == 0 || other < shorter) {
		shorter = other
	}
	return !s.DueAt.IsZero() && !o.DueAt.IsZero() && s.DueAt.Sub(o.DueAt).Abs() < shorter/2
}

// near says whether a period may be too close to s, by what the subject of a record says of it.
func (s State) near(of messages.RecordAddress) bool {
	apart := time.Duration(of.Due-s.DueAt.Unix()) * time.Second
	return apart.Abs() <= s.Cadence.Length()/2+time.Second
}

// held decides for a job that comes again while its claim is kept for another period's sake: nothing is written before the way is free.
func (s State) held(q Request, now time.Time, r Rules) Transition {
	switch {
	case q.Way == nil:
		return Transition{Then: LookAround, State: s, Key: q.Key}
	case q.Way.Blocked && s.Claim.unsent(*q.Way):
		return tooClose(s, q, *q.Way)
	}
	return s.heldFor(q, *q.Way, now, r)
}

// unsent says that no byte can have gone out under the claim's key: either its clock does not run, or every delivery that held it has
// looked, or died before it could, and what stands in the way stood there then.
func (c Claim) unsent(way Way) bool {
	return c.FirstSentAt.IsZero() || way.First && c.Tries == 0 && !c.Unspaced && !c.Restored
}

// heldFor sends a job back whose way is not free.
func (s State) heldFor(q Request, way Way, now time.Time, r Rules) Transition {
	delay := r.Delay(max(s.Claim.Deliveries, q.Delivered))
	if sent := s.Claim.FirstSentAt; !sent.IsZero() { // be there when the window closes
		delay = min(delay, max(sent.Add(r.KeyWindow).Sub(now), 0))
	}
	if way.Blocked {
		return Later(delay) // an operator may still say that the other was not charged
	}
	return waitFor(way.By, delay)
}

// tooClose records that a period is not charged because of another one, and takes its claim back.
func tooClose(s State, q Request, way Way) Transition {
	c := *s.Claim
	c.Released, c.Held, c.FirstSentAt, c.Search = true, false, time.Time{}, nil // nothing was sent
	next := s.Claimed(c)
	next.UndecidedAt, next.NotEvaluated = time.Time{}, NotEvaluated{}
	if next.Phase = s.before(); next.Phase == PhaseNone { // as if it had never been heard of
		next.DueAt, next.FirstAttemptAt, next.LastAttemptAt, next.Attempts, next.Policy = time.Time{}, time.Time{}, time.Time{}, 0, nil
		next.Cadence, next.OffCycle, next.ClaimedSeq = "", false, 0
	}
	e := Settlement{Kind: messages.KindRejected, Reason: messages.ReasonTooClose, Replay: q.Replay, SHA256: q.Hash}
	return Transition{
		Record: messages.KindRejected, Key: q.Key, Reason: messages.ReasonTooClose, State: next.Settle(q.Key, e), Then: Ack, Dead: true,
		Conflicts: way.Key, Way: way,
	}
}

// Stale settles an open claim that has run out of time, for somebody who does not have its job and waits for its end. ok is
// false while there is nothing to do.
func Stale(s State, now time.Time, r Rules) (_ Transition, ok bool) {
	if !s.Open() || r.Paused && s.Claim.FirstSentAt.IsZero() || now.Before(s.StaleAt(r)) {
		return Transition{}, false
	}
	give := giveUp(s, s.expiredReason(), r)
	give.Then, give.Delay, give.Dead = Nak, time.Second, false // the dead letter is for whoever has its payload
	return give, true
}

// follows is the state as the record after last has it.
func (s State) follows(last State) State {
	s.Rev = last.Rev + 1
	return s
}

// stored is the state of a record that is stored at a sequence: that of a new claim knows its own place only now.
func (s State) stored(sequence uint64) State {
	if s.Open() && s.ClaimedSeq == 0 {
		s.ClaimedSeq = sequence
	}
	return s
}
