package books

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
)

// Compared is the books as a comparison with Klarna's settlements asks them. The cadence of a renewal is not in them: Rhythm
// reads it.
type Compared struct {
	*Books
	// Rhythm reads from the journal how often a renewal's subscription is charged, and whether the renewal is meant to fall between two periods.
	Rhythm func(ctx context.Context, r messages.Renewal) (cadence messages.Cadence, offCycle bool, err error)
}

var _ reconcile.Books = Compared{}

// ByOrder is that of [reconcile.Books], as the other methods are.
func (c Compared) ByOrder(ctx context.Context, orderID string) ([]reconcile.Renewal, error) {
	return c.found(ctx, `SELECT DISTINCT r.id FROM records e JOIN renewals r ON r.id = e.renewal_id
		WHERE e.order_id = ? AND e.kind <> 'capturing' AND r.stands_in = 0 ORDER BY r.id`, orderID)
}

func (c Compared) ByReference(ctx context.Context, account messages.Account, reference string) ([]reconcile.Renewal, error) {
	return c.found(ctx, `SELECT r.id FROM renewals r WHERE r.account = ?2 AND r.stands_in = 0 AND r.id IN (
		SELECT renewal_id FROM records WHERE merchant_reference1 = ?1 AND kind NOT IN ('charging', 'capturing')
		UNION SELECT renewal_id FROM records WHERE merchant_reference2 = ?1 AND kind NOT IN ('charging', 'capturing')
		UNION SELECT renewal_id FROM records WHERE message_id = ?1 AND kind NOT IN ('charging', 'capturing')) ORDER BY r.id`, reference, account)
}

func (c Compared) Paid(ctx context.Context, account messages.Account, from, to time.Time) iter.Seq2[reconcile.Renewal, error] {
	return func(yield func(reconcile.Renewal, error) bool) {
		ids, err := c.ids(ctx, `SELECT DISTINCT e.renewal_id FROM records e JOIN renewals r ON r.id = e.renewal_id
			WHERE e.kind NOT IN ('charging', 'capturing') AND e.kind IN ('paid', 'pending', 'captured') AND e.at >= ? AND e.at < ? AND r.account = ? AND r.stands_in = 0`,
			instant(from), instant(to), account)
		if err != nil {
			yield(reconcile.Renewal{}, err)
			return
		}
		for _, id := range ids {
			r, err := c.renewal(ctx, id)
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func (c Compared) Neighbours(ctx context.Context, r reconcile.Renewal, within time.Duration) ([]reconcile.Renewal, error) {
	return c.found(ctx, `SELECT id FROM renewals WHERE subscription_id = ? AND period <> ? AND order_id IS NOT NULL AND stands_in = 0 AND due_at > ? AND due_at < ? ORDER BY id`,
		r.SubscriptionID, r.Period, instant(r.DueAt.Add(-within)), instant(r.DueAt.Add(within)))
}

func (c Compared) Knows(ctx context.Context, account messages.Account, subscription messages.SubscriptionID) (bool, error) {
	var known bool
	err := c.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM renewals WHERE subscription_id = ? AND account = ? AND stands_in = 0)`, subscription, account).Scan(&known)
	return known, err
}

func (c Compared) Cadence(ctx context.Context, r reconcile.Renewal) (messages.Cadence, bool, error) {
	return c.Rhythm(ctx, messages.NewRenewal(r.SubscriptionID, r.Period))
}

func (c Compared) ids(ctx context.Context, query string, arguments ...any) (ids []int64, err error) {
	rows, err := c.QueryContext(ctx, query, arguments...)
	if err != nil {
		return nil, fmt.Errorf("read books: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read books: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func (c Compared) found(ctx context.Context, query string, arguments ...any) (all []reconcile.Renewal, err error) {
	ids, err := c.ids(ctx, query, arguments...)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		r, err := c.renewal(ctx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// renewal reads one with its records.
func (c Compared) renewal(ctx context.Context, id int64) (reconcile.Renewal, error) {
	rows, err := c.QueryContext(ctx, `SELECT r.phase, r.account, r.subscription_id, r.period, coalesce(r.due_at, ''), e.kind, e.at, coalesce(e.message_id, ''), coalesce(e.idempotency_key, ''),
		coalesce(e.order_amount, 0), coalesce(e.purchase_currency, ''), coalesce(e.merchant_reference1, ''), coalesce(e.merchant_reference2, ''), coalesce(e.order_id, ''), coalesce(e.captured, 0),
		coalesce(e.capture_id, ''), coalesce(e.captured_amount, 0), coalesce(e.corrects, ''), coalesce(e.first_sent_at, ''), coalesce(e.search_until, '')
		FROM renewals r JOIN records e ON e.renewal_id = r.id WHERE r.id = ? ORDER BY e.sequence`, id)
	if err != nil {
		return reconcile.Renewal{}, fmt.Errorf("read books: %w", err)
	}
	defer rows.Close()
	var events []messages.Event
	var about messages.Record
	var last reconcile.Renewal
	var due string
	for rows.Next() {
		var f facts
		if err := rows.Scan(&last.Phase, &about.Account, &about.SubscriptionID, &about.Period, &due, &f.kind, &f.at, &f.ID, &f.IdempotencyKey, &f.OrderAmount, &f.PurchaseCurrency,
			&f.MerchantReference1, &f.MerchantReference2, &f.orderID, &f.captured, &f.captureID, &f.amount, &f.corrects, &f.firstSent, &f.searchUntil); err != nil {
			return reconcile.Renewal{}, fmt.Errorf("read books: %w", err)
		}
		f.Account, f.SubscriptionID, f.Period, f.At = about.Account, about.SubscriptionID, about.Period, moment(f.at)
		if e := f.event(); e != nil {
			events = append(events, e)
		}
	}
	if err := rows.Err(); err != nil {
		return reconcile.Renewal{}, fmt.Errorf("read books: %w", err)
	}
	if last.Phase == "" {
		return reconcile.Renewal{}, fmt.Errorf("read books: %w", errors.Join(sql.ErrNoRows, fmt.Errorf("renewal %d", id)))
	}
	r := reconcile.Fold(events)
	r.Account, r.SubscriptionID, r.Period, r.Phase, r.DueAt = about.Account, about.SubscriptionID, about.Period, last.Phase, moment(due)
	return r, nil
}

// facts are what the books have of a record and a comparison needs.
type facts struct {
	messages.Record
	kind                         messages.Kind
	at                           string
	orderID, captureID, corrects string
	captured                     bool
	amount                       int64
	firstSent, searchUntil       string
}

// event is the record as far as money is concerned; nil where it is not about any.
func (f facts) event() messages.Event {
	switch f.kind {
	case messages.KindCharging:
		return messages.Charging{Record: f.Record}
	case messages.KindPending:
		return messages.Pending{Record: f.Record, OrderID: f.orderID}
	case messages.KindPaid:
		return messages.Paid{Record: f.Record, OrderID: f.orderID, Captured: f.captured, Corrects: f.corrects}
	case messages.KindDunning:
		return messages.Dunning{Record: f.Record, Corrects: f.corrects}
	case messages.KindUnresolved:
		return messages.Unresolved{Record: f.Record, OrderID: f.orderID, CapturedAmount: f.amount, FirstSentAt: moment(f.firstSent), SearchUntil: moment(f.searchUntil)}
	case messages.KindCaptured:
		return messages.Captured{Record: f.Record, OrderID: f.orderID, CaptureID: f.captureID, CapturedAmount: f.amount, Corrects: f.corrects}
	case messages.KindCaptureFailed:
		return messages.CaptureFailed{Record: f.Record, OrderID: f.orderID, CapturedAmount: f.amount, Corrects: f.corrects}
	}
	return nil
}

// moment reads an [Instant]; zero where there is none.
func moment(text string) time.Time {
	t, err := time.Parse(Instant, text)
	if err != nil {
		return time.Time{}
	}
	return t
}
