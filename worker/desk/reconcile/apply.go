package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// Actor is who settled what the settlements prove.
const Actor = "reconcile"

// Settler is what a renewal is settled by: the operator's own compare-and-set.
type Settler interface {
	Last(ctx context.Context, r messages.Renewal) (journal.Entry, error)
	ResolvePaid(ctx context.Context, r messages.Renewal, orderID string, captured bool, d journal.Decision) error
}

var _ Settler = (*journal.Journal)(nil)

// Applied is what became of one piece of evidence.
type Applied struct {
	Break   messages.BreakID `json:"break"`
	Renewal string           `json:"renewal"`
	OrderID string           `json:"order_id"`
	// Recorded: it is paid now, by this very call. Otherwise Why says why not.
	Recorded bool   `json:"recorded"`
	Why      string `json:"why,omitempty"`
}

// Apply settles as paid what is proven in each of its conditions, and nothing else. It looks at the journal once more before each: the
// books lag behind it, and another may have settled the renewal, Klarna's own late answer among them, or recorded the order for another
// renewal. A crash in the middle leaves some settled and the others as they were; another run goes on. The error is that of the journal:
// what was applied before it stands.
func Apply(ctx context.Context, settler Settler, finder desk.Finder, report *Report, now func() time.Time) (all []Applied, err error) {
	var orders []string
	for _, e := range report.Evidence {
		if e.Against == "" {
			orders = append(orders, e.OrderID)
		}
	}
	mentions := desk.NewMentions(finder, time.Time{}, orders...)
	for _, id := range slices.Sorted(maps.Keys(report.Evidence)) {
		e := report.Evidence[id]
		done := Applied{Break: id, Renewal: e.Renewal.name(), OrderID: e.OrderID, Why: e.Against}
		if e.Against == "" {
			if done.Why, err = e.settle(ctx, settler, mentions, now()); err != nil {
				return all, fmt.Errorf("settle %s: %w", done.Renewal, err)
			}
			done.Recorded = done.Why == ""
		}
		all = append(all, done)
	}
	return all, nil
}

// settle records that a renewal is paid, or says why not.
func (e Evidence) settle(ctx context.Context, settler Settler, mentions *desk.Mentions, now time.Time) (why string, err error) {
	r := messages.NewRenewal(e.Renewal.SubscriptionID, e.Renewal.Period)
	key := messages.NewIdempotencyKey(r.Key(), e.Renewal.MessageID)
	at, err := settler.Last(ctx, r)
	if err != nil {
		return "", err
	}
	if err = at.State.Provable(key, e.OrderID); err == nil {
		if other, err := elsewhere(ctx, mentions, e.OrderID, key); err != nil || other != "" {
			return other, err
		}
		err = settler.ResolvePaid(ctx, r, e.OrderID, true, journal.Decision{Actor: Actor, Note: e.Note, At: now, Rev: at.State.Rev})
	}
	if err == nil { // between the look and the record another may have recorded it, too
		other, err := elsewhere(ctx, mentions, e.OrderID, key)
		if err == nil && other != "" {
			err = fmt.Errorf("recorded, but %s: one of the two is wrong, put it right with `renewals resolve --correct`", other)
		}
		return "", err
	}
	var refused *journal.RefusedError
	if errors.As(err, &refused) {
		return refused.Why, nil
	}
	return "", err
}

// elsewhere says by which record the order is named for another key, as the journal is now; "" where by none.
func elsewhere(ctx context.Context, mentions *desk.Mentions, orderID string, key messages.IdempotencyKey) (string, error) {
	if err := mentions.Read(ctx); err != nil {
		return "", err
	}
	other := mentions.Elsewhere(orderID, key)
	if other == nil {
		return "", nil
	}
	return fmt.Sprintf("the order is named by another record: %s/%s, record %d", other.SubscriptionID, other.Period, other.Sequence), nil
}
