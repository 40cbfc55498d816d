package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// Answer is what Klarna's words of one delivery come to.
type Answer uint8

const (
	NoAnswer      Answer = iota // not known
	Accepted                    // an order, its fraud status ACCEPTED: money, or an authorisation; or a capture
	Pending                     // an order, its fraud status not final
	FraudRejected               // an order that Klarna rejected
	Refused                     // a definite no
)

// made says that Klarna made an order, or a capture: never dropped.
func (a Answer) made() bool { return a == Accepted || a == Pending }

// Outcome is what the tries of one delivery came to.
type Outcome struct {
	Answer Answer
	Made   string // the order or capture that Klarna made

	Tries       int
	Undecided   int       // tries after which an order may exist, without one that was cut last
	UndecidedAt time.Time // when the last of them ended, one that was cut among them

	// Unsent: none of the tries can have been evaluated, so the key's clock need not run.
	Unsent       bool
	Refusal      dunning.Decision // when Answer is Refused
	NotEvaluated bool             // the last try was turned away unread
	Canary       Canary           // of the way to Klarna, where NotEvaluated
	NoSuchOrder  bool             // and it was a 404
	EvaluatedAt  time.Time        // when Klarna's application last gave its word on another job, as far as this worker knows
	Answered2xx  bool
	Contradicted bool
	TooSoon      bool // refused while an undecided try may still be at work: see doubt
	Cut          bool // the last try broke or timed out: it may still be under way at Klarna
	HandBack     bool // ended by a shutdown or a late start, not by Klarna
	RetryAfter   time.Duration
	LastError    string

	SentAt         time.Time // when the last try began that was sent, whatever came of it
	CorrelationIDs []string  // of the answers that may leave something to search for, see Search
}

// A doubt is what the tries under a key have left open: an order may exist, or come
// to exist. After a 5xx or a 408 Klarna may still be at work on the request that it answered, as on one that was cut.
type doubt struct {
	Tries       int       // undecided ones, over all deliveries
	EndedAt     time.Time // the last of them, by the broker's clock
	Answered2xx bool      // Klarna said yes without naming the order
}

// standing is what a refusal is worth.
type standing uint8

const (
	refusalDecides     standing = iota
	refusalTooSoon              // the try before it may yet make an order: ask again once that is over
	refusalContradicts          // it says nothing of the order that an earlier try may have made
)

// refused says what a refusal is worth, one of an order that Klarna made and
// rejected among them. began is when its try was begun; judged says that the refusal is about this very order. Without
// doubt any refusal decides. A yes, or the token's or the request's fault, is never overruled; and a decline of the
// money decides once Klarna has surely finished or dropped the undecided try, by anybody's clock.
func (d doubt) refused(judged bool, began time.Time, r Rules) standing {
	switch {
	case d.Answered2xx:
		return refusalContradicts
	case d.Tries == 0:
		return refusalDecides
	case !judged:
		return refusalContradicts
	case began.Before(d.EndedAt.Add(r.settled())):
		return refusalTooSoon
	}
	return refusalDecides
}

// settled is how long after the end of an undecided try its request is surely over:
// the moment was read on one clock and is compared on another, each up to a margin off.
func (r Rules) settled() time.Duration { return r.SettleDelay + 2*r.ClockMargin }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Canary is what the canary tells of the way to Klarna.
type Canary uint8

const (
	CanaryUnheard    Canary = iota // not asked, or told to wait
	CanaryUnwell                   // nobody listens who would know of tokens
	CanaryWell                     // somebody listens who does not know the token
	CanaryWellKlarna               // and it is Klarna's application, by the object that it sends
)

// Listens says that the account's requests arrive.
func (c Canary) Listens() bool { return c == CanaryWell || c == CanaryWellKlarna }

// HeldClaim is what a delivery knows of the claim it won.
type HeldClaim struct {
	Claim       Claim     // as it was written
	UndecidedAt time.Time // as it was written
	DueAt       time.Time // this and the next two: of the renewal
	Cadence     messages.Cadence
	OffCycle    bool
	SetsClock   bool   // this delivery started the key's clock, so it may clear it
	Authorised  *Order // what the charge leaves to be captured; nil where that is automatic
	Token       string // fingerprint of the customer token, for a refusal that it is dead; "" for a capture
}

// doubt is what the deliveries before have left open.
func (h HeldClaim) doubt() doubt {
	return doubt{Tries: h.Claim.UndecidedTries, EndedAt: h.UndecidedAt, Answered2xx: h.Claim.Answered2xx}
}
