package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/klarna-renewals/renewals/messages"
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
// books lag behind it, and another may have settled the renewal, Klarna's own late answer among them. A crash in the middle leaves
// some settled and the others as they were; another run goes on. The error is that of the journal: what was applied before it stands.
func Apply(ctx context.Context, settler Settler, report *Report, now func() time.Time) (all []Applied, err error) {
	for _, id := range slices.Sorted(maps.Keys(report.Evidence)) {
		e := report.Evidence[id]
		done := Applied{Break: id, Renewal: e.Renewal.name(), OrderID: e.OrderID, Why: e.Against}
		if e.Against == "" {
			if done.Why, err = e.settle(ctx, settler, now()); err != nil {
				return all, fmt.Errorf("settle %s: %w", done.Renewal, err)
			}
			done.Recorded = done.Why == ""
		}
		all = append(all, done)
	}
	return all, nil
}

// settle records that a renewal is paid, or says why not.
func (e Evidence) settle(ctx context.Context, settler Settler, now time.Time) (why string, err error) {
	r := messages.NewRenewal(e.Renewal.SubscriptionID, e.Renewal.Period)
	at, err := settler.Last(ctx, r)
	if err != nil {
		return "", err
	}
	if err = at.State.Provable(messages.NewIdempotencyKey(r.Key(), e.Renewal.MessageID), e.OrderID); err == nil {
		err = settler.ResolvePaid(ctx, r, e.OrderID, true, journal.Decision{Actor: Actor, Note: e.Note, At: now, Rev: at.State.Rev})
	}
	var refused *journal.RefusedError
	if errors.As(err, &refused) {
		return refused.Why, nil
	}
	return "", err
}
