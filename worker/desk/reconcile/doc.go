// Package reconcile compares Klarna's settlements with the journal: the only proof of "at most once" that does not come from
// ourselves. [Compare] is a pure function of what the books know and of what a report says.
//
// What callers get wrong: a row that is absent proves nothing. A renewal that is unresolved and has no SALE is not "not charged":
// it may be settled next week. And a report whose rows do not add up to its totals is no report: Compare refuses it whole.
package reconcile

import (
	"context"
	"iter"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// Renewal is what the books know of one period of one subscription, as far as money is concerned. Amounts are in minor units.
type Renewal struct {
	Account        messages.Account
	SubscriptionID messages.SubscriptionID
	Period         messages.Period
	Phase          journal.Phase
	MessageID      messages.MessageID // of the last attempt
	Amount         int64              // of the last attempt's order
	Currency       string             // upper case
	Reference1     string
	Reference2     string
	DueAt          time.Time

	// OrderID on record; "" where there is none.
	OrderID string
	PaidAt  time.Time // when that was recorded
	SentAt  time.Time // when it was sent to Klarna, where the record came later, by a decision; else zero
	// Captured: the money was asked for with the order.
	Captured bool
	Captures []Capture // by capture jobs, the oldest first
	// Looked: a capture job has seen how much of the order Klarna had taken by itself, which is Automatic, whatever was asked for.
	Looked    bool
	Automatic int64

	// Of an unresolved one: when its order can have been made, and whether it is a capture that is unknown.
	FirstSentAt, SearchUntil time.Time
	Capturing                bool
	CapturingAmount          int64
}

// Capture is money that a capture job has taken.
type Capture struct {
	ID     string
	Amount int64
	At     time.Time // when that was recorded
	SentAt time.Time // as of a renewal
}

// MadeAt is when the order was made, as near as the records tell.
func (r Renewal) MadeAt() time.Time { return made(r.PaidAt, r.SentAt) }

// MadeAt is when the money was taken, as near as the records tell.
func (c Capture) MadeAt() time.Time { return made(c.At, c.SentAt) }

func made(recorded, sent time.Time) time.Time {
	if sent.IsZero() {
		return recorded
	}
	return sent
}

// Key of the renewal.
func (r Renewal) Key() messages.RenewalKey { return messages.NewRenewalKey(r.SubscriptionID, r.Period) }

// Books are asked what they know. They answer for every account, save where one is named.
type Books interface {
	// ByOrder gives the renewals that have an order in any of their records.
	ByOrder(ctx context.Context, orderID string) ([]Renewal, error)
	// ByReference gives an account's renewals of whose attempts one has this text as a merchant reference or as its message ID.
	ByReference(ctx context.Context, account messages.Account, reference string) ([]Renewal, error)
	// Paid gives an account's renewals with an order or a capture that was made in [from, to), in any order.
	Paid(ctx context.Context, account messages.Account, from, to time.Time) iter.Seq2[Renewal, error]
	// Neighbours gives a subscription's other periods with an order that fall due less than a distance from this one.
	Neighbours(ctx context.Context, r Renewal, within time.Duration) ([]Renewal, error)
	// Cadence says how often a renewal's subscription is charged, "" where that is not known, and whether this charge is meant to fall
	// between two periods. It may be slow: few are asked for.
	Cadence(ctx context.Context, r Renewal) (cadence messages.Cadence, offCycle bool, err error)
	// Knows says whether there is any record of a subscription of the account.
	Knows(ctx context.Context, account messages.Account, subscription messages.SubscriptionID) (bool, error)
}
