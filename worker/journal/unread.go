package journal

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

// after is the count after the tries of a delivery. An answer of Klarna's application ends the row, and so does one for
// which the account was to blame.
func (n NotEvaluated) after(o Outcome, now time.Time, r Rules) NotEvaluated {
	switch {
	case o.Tries > 0 && !o.NotEvaluated, o.NotEvaluated && o.Canary == CanaryUnwell:
		return NotEvaluated{}
	case o.NotEvaluated && o.Canary.Listens():
		n.N++
		if n.Since.IsZero() {
			n.Since = now
		}
		n.Heard = n.Heard || n.hears(o, r)
	}
	return n
}

// hears reports whether Klarna's application itself has spoken to the account since the first of these answers.
func (n NotEvaluated) hears(o Outcome, r Rules) bool {
	return o.Canary == CanaryWellKlarna || o.EvaluatedAt.After(n.Since.Add(2*r.ClockMargin))
}

// unread is the count so far. Older workers kept the moment of the first one with the claim, whatever the canary had said.
func (s State) unread() NotEvaluated {
	if s.NotEvaluated == (NotEvaluated{}) && s.Claim != nil {
		return NotEvaluated{Since: s.Claim.NotEvaluatedSince}
	}
	return s.NotEvaluated
}

// comesTo says what the last of these answers, after a row that was so, makes of the key: "" while there is hope.
//
// Nobody is told a refusal that was none. A request may have made an order before; a proxy that answers 404 to everything
// makes the canary look well, so that Klarna must have been heard, through another charge or the canary itself. It must
// have been heard at an answer before the last one, too: the proxy may have been mended between that and its canary, and
// then nobody at Klarna has ever seen the charge.
func (n NotEvaluated) comesTo(was NotEvaluated, c Claim, o Outcome, now time.Time, r Rules) messages.Reason {
	if !o.NotEvaluated || !o.Canary.Listens() || r.Paused || n.N < unreadTries {
		return ""
	}
	klarna := was.Heard && n.hears(o, r)
	switch {
	case klarna && c.UndecidedTries == 0 && !c.Answered2xx && !now.Before(n.Since.Add(unreadFor)):
		return messages.ReasonRefusedWithoutCode
	case c.FirstSentAt.IsZero() && !now.Before(n.Since.Add(notEvaluatedLimit)):
		return messages.ReasonNotEvaluated
	}
	return ""
}
