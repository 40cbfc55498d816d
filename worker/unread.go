package worker

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// What it means for a job that its requests are turned away unread, though others are not. These functions are a part of
// the machine: pure.

const (
	// unreadTries over at least unreadFor are a refusal: it is about this token, order or payload, and it lasts.
	unreadTries = 3
	unreadFor   = 15 * time.Minute
	// notEvaluatedLimit is how long a job may be turned away before a person has to look at it.
	notEvaluatedLimit = 23 * time.Hour
)

// NotEvaluated counts the answers under one key that Klarna's application did not give, while the canary was well.
type NotEvaluated struct {
	N     int       `json:"n"`
	Since time.Time `json:"since"` // the first of them
}

// after is the count after the tries of a delivery. An answer of Klarna's application ends the row, and so does one for
// which the account was to blame.
func (n NotEvaluated) after(o outcome, now time.Time) NotEvaluated {
	switch {
	case o.Tries > 0 && !o.NotEvaluated, o.NotEvaluated && o.Canary == unwell:
		return NotEvaluated{}
	case o.NotEvaluated && o.Canary.listens():
		n.N++
		if n.Since.IsZero() {
			n.Since = now
		}
	}
	return n
}

// unread is the count so far. Older workers kept the moment of the first one with the claim, whatever the canary had said.
func (s State) unread() NotEvaluated {
	if s.NotEvaluated == (NotEvaluated{}) && s.Claim != nil {
		return NotEvaluated{Since: s.Claim.NotEvaluatedSince}
	}
	return s.NotEvaluated
}

// comesTo says what the last of these answers makes of the key: "" while there is hope.
//
// Nobody is told a refusal that was none. A request may have made an order before; a proxy that answers 404 to everything
// makes the canary look well, so that Klarna must have been heard, through another charge or the canary itself.
func (n NotEvaluated) comesTo(c Claim, o outcome, now time.Time, r rules) messages.Reason {
	if !o.NotEvaluated || !o.Canary.listens() || r.paused || n.N < unreadTries {
		return ""
	}
	klarna := o.Canary == wellKlarna || o.EvaluatedAt.After(n.Since.Add(2*r.clockMargin))
	switch {
	case klarna && c.UndecidedTries == 0 && !c.Answered2xx && !now.Before(n.Since.Add(unreadFor)):
		return messages.ReasonRefusedWithoutCode
	case c.FirstSentAt.IsZero() && !now.Before(n.Since.Add(notEvaluatedLimit)):
		return messages.ReasonNotEvaluated
	}
	return ""
}

// lookedInVain decides for a capture whose order could not be looked at, since the question was turned away unread. Nothing
// was sent under its key: the claim only counts.
func lookedInVain(s State, q request, o outcome, now time.Time, r rules) step {
	if st := deliver(s, q, now, r); st.Then != actLook {
		return st
	}
	own := s.open() && s.holds(q.Key)
	n := NotEvaluated{}
	if own {
		n = s.unread()
	}
	if n = n.after(o, now); !own && n.N == 0 {
		return nak(r.delay(q.Delivered))
	}
	if !own {
		s = claimCapture(s, q, 0, now, r).State
		c := *s.Claim
		if !c.Restored {
			c.FirstSentAt = time.Time{}
		}
		s = s.claimed(c)
	}
	c := *s.Claim
	if own {
		c.Deliveries++
	}
	c.Nonce, c.Worker, c.Released, c.LeaseUntil, c.NotEvaluatedSince = q.Nonce, q.Worker, true, now, time.Time{}
	c.LastError = o.LastError[:min(len(o.LastError), maxLastError)]
	next := s.claimed(c)
	next.NotEvaluated = n
	switch why := n.comesTo(c, o, now, r); why {
	case messages.ReasonRefusedWithoutCode:
		next = next.settle(q.Key, Settlement{Kind: messages.KindCaptureFailed, SHA256: q.Hash})
		next.Phase = PhaseCaptureFailed
		return step{Record: messages.KindCaptureFailed, Key: q.Key, Reason: why, State: next, Then: actAck, Corrects: c.Corrects}
	case messages.ReasonNotEvaluated:
		return giveUp(next, why)
	}
	return step{Record: messages.KindCapturing, Key: q.Key, State: next, Then: actNak, Delay: r.delay(max(c.Deliveries, q.Delivered))}
}
