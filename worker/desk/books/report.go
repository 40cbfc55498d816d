package books

import (
	"context"
	"fmt"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// Recovered is what became of the renewals whose first attempt was refused in one category.
type Recovered struct {
	Category string
	Refused  int64   // renewals
	Paid     []int64 // of them, by the attempt that was paid: the second first; the last counts all further ones
	Open     int64   // neither paid nor cancelled, and the last refusal suggests another attempt
}

// recoveredAttempts is how many attempts after the first are told apart.
const recoveredAttempts = 4

// Share is how many of 100 were paid after all.
func (r Recovered) Share() float64 {
	paid := int64(0)
	for _, n := range r.Paid {
		paid += n
	}
	return 100 * float64(paid) / float64(max(r.Refused, 1))
}

// stands says in SQL that a record has not been put right since: none of this kind says otherwise of the same attempt.
func stands(record string, otherwise messages.Kind) string {
	return fmt.Sprintf("NOT EXISTS (SELECT 1 FROM records AS later WHERE later.renewal_id = %[1]s.renewal_id AND later.sequence > %[1]s.sequence AND later.kind = '%[2]s' AND later.idempotency_key = %[1]s.idempotency_key)",
		record, otherwise)
}

// Recovery reports by category what further attempts brought in, the category with the most refusals first. The filter's times are about
// the first refusal. What was put right since, a refusal that was none or a payment, does not count.
func (b *Books) Recovery(ctx context.Context, f Filter) (report []Recovered, err error) {
	f.Kinds = nil
	clause, args := f.where()
	// Of several columns beside min() SQLite takes those of the row that has it: https://sqlite.org/lang_select.html#bareagg
	rows, err := b.QueryContext(ctx, `
		WITH first AS (SELECT renewal_id, category, attempt, min(sequence) AS sequence FROM records WHERE kind = 'dunning' AND `+stands("records", messages.KindPaid)+` AND `+clause+` GROUP BY renewal_id),
		paid AS (SELECT records.renewal_id, min(records.attempt) AS attempt FROM records JOIN first USING (renewal_id)
			WHERE kind = 'paid' AND records.sequence > first.sequence AND records.attempt > first.attempt AND `+stands("records", messages.KindDunning)+` GROUP BY records.renewal_id),
		last AS (SELECT records.renewal_id, final, max(records.sequence) FROM records JOIN first USING (renewal_id) WHERE kind = 'dunning' GROUP BY records.renewal_id)
		SELECT coalesce(first.category, 'unknown'), min(max(coalesce(paid.attempt, 0), 0), ?), count(*), sum(paid.attempt IS NULL AND phase IN ('dunning', 'charging', 'pending') AND last.final IS NOT 1)
		FROM first JOIN renewals ON renewals.id = first.renewal_id JOIN last ON last.renewal_id = first.renewal_id LEFT JOIN paid ON paid.renewal_id = first.renewal_id
		GROUP BY 1, 2 ORDER BY 1, 2`, append(args, recoveredAttempts+1)...)
	if err != nil {
		return nil, fmt.Errorf("read books %s: %w", b.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var category string
		var attempt, n, open int64
		if err := rows.Scan(&category, &attempt, &n, &open); err != nil {
			return nil, fmt.Errorf("read books %s: %w", b.path, err)
		}
		if len(report) == 0 || report[len(report)-1].Category != category {
			report = append(report, Recovered{Category: category, Paid: make([]int64, recoveredAttempts)})
		}
		r := &report[len(report)-1]
		r.Refused += n
		r.Open += open
		if attempt > 0 {
			r.Paid[max(attempt-2, 0)] += n
		}
	}
	return report, rows.Err()
}

// A Span is how long the time is that one line of a report is about.
type Span string

const (
	Days   Span = "day"
	Weeks  Span = "week" // beginning on Monday
	Months Span = "month"
)

// SpanFor is one that makes some twenty to sixty lines of a time.
func SpanFor(d time.Duration) Span {
	switch days := d.Hours() / 24; {
	case days <= 62:
		return Days
	case days <= 400:
		return Weeks
	}
	return Months
}

// day is the day on which the span of a record began, in SQL.
func (s Span) day() string {
	switch s {
	case Weeks:
		return "date(at, 'weekday 0', '-6 days')"
	case Months:
		return "date(at, 'start of month')"
	}
	return "substr(at, 1, 10)"
}

// A Count is how many of something there were in a span that began on a day, UTC, and what they come to.
type Count struct {
	Day   string // 2026-12-01
	Of    string // a reason, or a currency
	N     int64
	Minor int64 // sum of the amounts, minor units of the currency
}

// Refusals counts the refused attempts by reason over time, without those that were none.
func (b *Books) Refusals(ctx context.Context, f Filter, s Span) ([]Count, error) {
	clause, args := f.where()
	return b.counts(ctx, "SELECT "+s.day()+", coalesce(reason, 'unknown'), count(*), 0 FROM records WHERE kind = 'dunning' AND "+stands("records", messages.KindPaid)+" AND "+clause+" GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2", args)
}

// Money sums up by currency and time what was paid: the orders that Klarna accepted, each once, captured or not, without those that an operator
// found to be none.
func (b *Books) Money(ctx context.Context, f Filter, s Span) ([]Count, error) {
	clause, args := f.where()
	return b.counts(ctx, "SELECT "+s.day()+", coalesce(purchase_currency, '?'), count(*), coalesce(sum(order_amount), 0) FROM records WHERE kind = 'paid' AND "+stands("records", messages.KindDunning)+" AND "+clause+
		" AND NOT EXISTS (SELECT 1 FROM records AS before WHERE before.renewal_id = records.renewal_id AND before.kind = 'paid' AND before.sequence < records.sequence AND "+stands("before", messages.KindDunning)+
		") GROUP BY 1, 2 ORDER BY 1, 2", args)
}

func (b *Books) counts(ctx context.Context, query string, args []any) (counts []Count, err error) {
	rows, err := b.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read books %s: %w", b.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var c Count
		if err := rows.Scan(&c.Day, &c.Of, &c.N, &c.Minor); err != nil {
			return nil, fmt.Errorf("read books %s: %w", b.path, err)
		}
		counts = append(counts, c)
	}
	return counts, rows.Err()
}

// Range is from the first to the last record that a filter means; zero where there is none.
func (b *Books) Range(ctx context.Context, f Filter) (first, last time.Time, err error) {
	clause, args := f.where()
	var from, to string
	if err = b.QueryRowContext(ctx, "SELECT coalesce(min(at), ''), coalesce(max(at), '') FROM records WHERE "+clause, args...).Scan(&from, &to); err != nil || from == "" {
		return first, last, err
	}
	if first, err = time.Parse(Instant, from); err == nil {
		last, err = time.Parse(Instant, to)
	}
	return first, last, err
}
