package journal

import (
	"github.com/klarna-renewals/renewals/messages"
)

// binds says whether a settled key speaks for this message. It does not after a
// replay that an operator asked for, nor for corrected bytes under the ID of a job that was rejected
// as invalid or not due: that rejection was about those bytes only.
func (e Settlement) binds(q Request) bool { return e.Binds(q.Hash, q.payloadHash, q.Replay) }

// Binds is the same for whoever has the message's hashes only: hash is that of what its key stands for, see [HashCharge], payload that of the
// whole message, see [HashPayload], and replay the dead letter that it repeats, 0 for none.
func (e Settlement) Binds(hash string, payload func() string, replay uint64) bool {
	if e.Kind != messages.KindRejected {
		return true
	}
	if rebindable(e) {
		if hash = payload(); e.SHA256 != hash {
			return false
		}
	}
	return replay == 0 || replay == e.Replay || e.SHA256 != hash
}

func (e Settlement) deadReason() messages.Reason {
	if e.Reason != "" {
		return e.Reason
	}
	return messages.Reason(e.Kind)
}

// settlementHash is the hash by which a settlement knows its message again.
func (q Request) settlementHash(e Settlement) string {
	if rebindable(e) {
		return q.payloadHash()
	}
	return q.Hash
}

// filed decides for a message that goes by its stand-in, where it ends whatever is
// there: a conflict has no further place to go to.
func filed(s State, q Request) Transition {
	if e, ok := s.Settled[q.Key]; ok && e.SHA256 == q.settlementHash(e) {
		return duplicate(s, q, e)
	}
	if s.Open() {
		s.Phase = s.before() // that claim only counted panics, as earlier versions did
	}
	return reject(s, q, q.Verdict)
}

// duplicate says that the message has its result. The dead letter may be missing.
func duplicate(s State, q Request, e Settlement) Transition {
	return Transition{Then: Ack, Duplicate: true, Dead: deadAgain(e), Reason: e.deadReason(), State: s, Key: q.Key}
}

func conflict(q Request) Transition {
	return Transition{Then: FileApart, Reason: messages.ReasonConflict, Conflicts: q.Key}
}

// giveUp settles the open claim as unresolved: from here on only an operator
// decides. The dead letter keeps the job.
func giveUp(s State, why messages.Reason, r Rules) Transition {
	c := *s.Claim
	c.suppose(r)
	if c.distrust(s, Request{}, r); c.Restored && (why == messages.ReasonIdempotencyWindowExpired || why == messages.ReasonNotEvaluated) {
		why = messages.ReasonJournalRestored // what else was done under this key, or another, may be forgotten
	}
	if !c.Released { // a try of its holder may have been cut
		c.UndecidedTries++
	}
	c.Released = true
	next := s.Claimed(c).Settle(c.Key, Settlement{Kind: messages.KindUnresolved, SHA256: c.SHA256, Reason: why})
	next.Phase = PhaseUnresolved
	return Transition{Record: messages.KindUnresolved, Key: c.Key, Reason: why, State: next, Then: Ack, Dead: true, Corrects: c.Corrects}
}

// reject records that a job will not be charged. The renewal goes on as it was:
// the state is carried, only the key is settled.
func reject(s State, q Request, why messages.Reason) Transition {
	if s.full(q.Key) {
		return Transition{Then: FileApart, Reason: why}
	}
	e := Settlement{Kind: messages.KindRejected, Reason: why, Replay: q.Replay}
	e.SHA256 = q.settlementHash(e)
	if s.Phase == "" {
		s.Phase = PhaseNone
	}
	return Transition{Record: messages.KindRejected, Key: q.Key, Reason: why, State: s.Settle(q.Key, e), Then: Ack, Dead: buried(why)}
}
