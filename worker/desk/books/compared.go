package books

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
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
	return c.found(ctx, `r.stands_in = 0 AND r.id IN (SELECT renewal_id FROM records WHERE order_id = ? AND kind <> 'capturing')`, orderID)
}

func (c Compared) ByReference(ctx context.Context, account messages.Account, reference string) ([]reconcile.Renewal, error) {
	return c.found(ctx, "r.account = ?2 AND r.stands_in = 0 AND r.id IN ("+referring+")", reference, account)
}

// referring are the renewals that have a text as a reference or as a message ID: of an attempt that has a result, or of a charge that is under
// way, whose worker may have gone while Klarna made the order.
const referring = "SELECT renewal_id FROM records WHERE merchant_reference1 = ?1 AND " + results +
	" UNION SELECT renewal_id FROM records WHERE merchant_reference2 = ?1 AND " + results +
	" UNION SELECT renewal_id FROM records WHERE message_id = ?1 AND " + results +
	" UNION SELECT id FROM renewals WHERE merchant_reference1 = ?1 AND phase = 'charging' AND " + underWay +
	" UNION SELECT id FROM renewals WHERE merchant_reference2 = ?1 AND phase = 'charging' AND " + underWay +
	" UNION SELECT id FROM renewals WHERE open_message_id = ?1 AND phase = 'charging'"

func (c Compared) Paid(ctx context.Context, account messages.Account, from, to time.Time) iter.Seq2[reconcile.Renewal, error] {
	within := func(at time.Time) bool { return !at.Before(from) && at.Before(to) }
	return func(yield func(reconcile.Renewal, error) bool) {
		for r, err := range c.renewals(ctx, "r.account = ?3 AND r.stands_in = 0 AND r.id IN ("+paid+")", instant(from), instant(to), account) {
			wanted := err != nil || r.OrderID != "" && within(r.MadeAt()) || slices.ContainsFunc(r.Captures, func(c reconcile.Capture) bool { return within(c.MadeAt()) })
			if wanted && !yield(r, err) {
				return
			}
		}
	}
}

// paid are the renewals that may have an order or a capture of a time: a result of then, or a decision of any time, which tells of what was made
// before.
const paid = "SELECT renewal_id FROM records WHERE " + results + " AND kind IN ('paid', 'pending', 'captured') AND at >= ?1 AND at < ?2" +
	" UNION ALL SELECT renewal_id FROM records WHERE corrects > '' AND kind IN ('paid', 'captured')"

func (c Compared) Neighbours(ctx context.Context, r reconcile.Renewal, within time.Duration) ([]reconcile.Renewal, error) {
	return c.found(ctx, `r.subscription_id = ? AND r.period <> ? AND r.order_id IS NOT NULL AND r.stands_in = 0 AND r.due_at > ? AND r.due_at < ?`,
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

// found are the few renewals of a condition.
func (c Compared) found(ctx context.Context, which string, arguments ...any) (all []reconcile.Renewal, err error) {
	for r, err := range c.renewals(ctx, which, arguments...) {
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// selectFacts gives the records of renewals, each renewal's together and in the order of the journal.
const selectFacts = `SELECT r.id, r.phase, r.account, r.subscription_id, r.period, coalesce(r.due_at, ''), e.kind, e.at, coalesce(e.message_id, ''), coalesce(e.idempotency_key, ''),
	coalesce(e.order_amount, 0), coalesce(e.purchase_currency, ''), coalesce(e.merchant_reference1, ''), coalesce(e.merchant_reference2, ''), coalesce(e.order_id, ''), coalesce(e.captured, 0),
	coalesce(e.capture_id, ''), coalesce(e.captured_amount, 0), coalesce(e.total_captured_amount, 0), coalesce(e.corrects, ''), coalesce(e.first_sent_at, ''), coalesce(e.search_until, '')
	FROM renewals r JOIN records e ON e.renewal_id = r.id WHERE %s ORDER BY r.id, e.sequence`

// renewals reads those of a condition, one at a time: there may be a year's.
func (c Compared) renewals(ctx context.Context, which string, arguments ...any) iter.Seq2[reconcile.Renewal, error] {
	return func(yield func(reconcile.Renewal, error) bool) {
		question, err := c.prepare(ctx, fmt.Sprintf(selectFacts, which))
		var rows *sql.Rows
		if err == nil {
			rows, err = question.QueryContext(ctx, arguments...)
		}
		if err != nil {
			yield(reconcile.Renewal{}, fmt.Errorf("read books: %w", err))
			return
		}
		defer rows.Close()
		var one told
		for rows.Next() {
			var next told
			f, err := next.scan(rows)
			if err != nil {
				yield(reconcile.Renewal{}, fmt.Errorf("read books: %w", err))
				return
			}
			if next.id != one.id {
				if one.id != 0 && !yield(one.renewal(), nil) {
					return
				}
				one = next
			}
			if e := f.event(); e != nil {
				one.events = append(one.events, e)
			}
		}
		if err := rows.Err(); err != nil {
			yield(reconcile.Renewal{}, fmt.Errorf("read books: %w", err))
		} else if one.id != 0 {
			yield(one.renewal(), nil)
		}
	}
}

// told is a renewal with its records so far.
type told struct {
	id     int64
	of     reconcile.Renewal // what the renewal's own row says
	due    string
	events []messages.Event
}

// scan reads a row: of which renewal it is, and a record of it.
func (t *told) scan(rows *sql.Rows) (f facts, err error) {
	err = rows.Scan(&t.id, &t.of.Phase, &t.of.Account, &t.of.SubscriptionID, &t.of.Period, &t.due, &f.kind, &f.at, &f.ID, &f.IdempotencyKey, &f.OrderAmount, &f.PurchaseCurrency,
		&f.MerchantReference1, &f.MerchantReference2, &f.orderID, &f.captured, &f.captureID, &f.amount, &f.total, &f.corrects, &f.firstSent, &f.searchUntil)
	f.Account, f.SubscriptionID, f.Period, f.At = t.of.Account, t.of.SubscriptionID, t.of.Period, moment(f.at)
	return f, err
}

func (t *told) renewal() reconcile.Renewal {
	r := reconcile.Fold(t.events)
	r.Account, r.SubscriptionID, r.Period, r.Phase, r.DueAt = t.of.Account, t.of.SubscriptionID, t.of.Period, t.of.Phase, moment(t.due)
	return r
}

// facts are what the books have of a record and a comparison needs.
type facts struct {
	messages.Record
	kind                         messages.Kind
	at                           string
	orderID, captureID, corrects string
	captured                     bool
	amount, total                int64 // captured
	firstSent, searchUntil       string
}

// event is the record as far as money is concerned; nil where it is not about any.
func (f facts) event() messages.Event {
	switch f.kind {
	case messages.KindCharging:
		return messages.Charging{Record: f.Record}
	case messages.KindCapturing:
		return messages.Capturing{Record: f.Record}
	case messages.KindPending:
		return messages.Pending{Record: f.Record, OrderID: f.orderID}
	case messages.KindPaid:
		return messages.Paid{Record: f.Record, OrderID: f.orderID, Captured: f.captured, Corrects: f.corrects}
	case messages.KindDunning:
		return messages.Dunning{Record: f.Record, Corrects: f.corrects}
	case messages.KindUnresolved:
		return messages.Unresolved{Record: f.Record, OrderID: f.orderID, CapturedAmount: f.amount, FirstSentAt: moment(f.firstSent), SearchUntil: moment(f.searchUntil)}
	case messages.KindCaptured:
		return messages.Captured{Record: f.Record, OrderID: f.orderID, CaptureID: f.captureID, CapturedAmount: f.amount, TotalCapturedAmount: f.total, Corrects: f.corrects}
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
