package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// LookedInVain decides for a capture whose order could not be looked at, since the question was turned away unread. Nothing
// was sent under its key: the claim only counts.
func LookedInVain(s State, q Request, o Outcome, now time.Time, r Rules) Transition {
	st := Deliver(s, q, now, r)
	if st.Then != Look {
		return st
	}
	own := s.Open() && s.Holds(q.Key)
	var was NotEvaluated
	if own {
		was = s.unread()
	}
	n := was.after(o, now, r)
	if !own && n.N == 0 {
		return Later(r.Delay(q.Delivered))
	}
	if !own {
		s = claimCapture(st.State, q, 0, now, r).State
		c := *s.Claim
		if !c.Restored {
			c.FirstSentAt = time.Time{}
		}
		s = s.Claimed(c)
	}
	c := *s.Claim
	if own {
		c.Deliveries++
	}
	c.Nonce, c.Worker, c.Released, c.LeaseUntil, c.NotEvaluatedSince = q.Nonce, q.Worker, true, now, time.Time{}
	c.LastError = o.LastError[:min(len(o.LastError), maxLastError)]
	next := s.Claimed(c)
	next.NotEvaluated = n
	switch why := n.comesTo(was, c, o, now, r); why {
	case messages.ReasonRefusedWithoutCode:
		next = next.Settle(q.Key, Settlement{Kind: messages.KindCaptureFailed, SHA256: q.Hash})
		next.Phase = PhaseCaptureFailed
		return Transition{Record: messages.KindCaptureFailed, Key: q.Key, State: next, Then: Ack, Corrects: c.Corrects, unread: true}.advised(o.notCaptured(why), Guards{})
	case messages.ReasonNotEvaluated:
		return giveUp(next, why, r)
	}
	return Transition{Record: messages.KindCapturing, Key: q.Key, State: next, Then: Nak, Delay: r.Delay(max(c.Deliveries, q.Delivered))}
}
