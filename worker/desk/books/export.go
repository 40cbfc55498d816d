package books

import (
	"context"
	"database/sql"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
)

// A Filter is which records are meant. Its zero value means all but the claims.
type Filter struct {
	Since, Until time.Time // by the writer's clock; Until itself is not meant; zero: no bound
	Accounts     []messages.Account
	Kinds        []messages.Kind // none: all that announce something
}

// where is the filter in SQL.
func (f Filter) where() (clause string, args []any) {
	parts := []string{results}
	if len(f.Kinds) > 0 {
		parts[0] = among("kind", len(f.Kinds))
		for _, k := range f.Kinds {
			args = append(args, string(k))
		}
	}
	if len(f.Accounts) > 0 {
		parts = append(parts, among("records.account", len(f.Accounts)))
		for _, a := range f.Accounts {
			args = append(args, string(a))
		}
	}
	if !f.Since.IsZero() {
		parts, args = append(parts, "at >= ?"), append(args, instant(f.Since))
	}
	if !f.Until.IsZero() {
		parts, args = append(parts, "at < ?"), append(args, instant(f.Until))
	}
	return strings.Join(parts, " AND "), args
}

func among(column string, n int) string {
	return column + " IN (" + strings.TrimSuffix(strings.Repeat("?, ", n), ", ") + ")"
}

// exported are the columns of the file, beside the amount in the currency's own units, which stands before amount_minor.
var exported = []string{
	"sequence", "at", "kind", "account", "subscription_id", "period", "message_id", "attempt", "amount_minor", "currency", "order_id", "capture_id", "merchant_reference1",
	"merchant_reference2", "correlation_id", "idempotency_key", "token_fingerprint", "reason", "category", "error_code", "next_attempt_at", "final", "tries", "corrects", "actor", "note", "detail",
}

const exportColumns = `sequence, at, kind, records.account, subscription_id, period, message_id, attempt, amount, records.purchase_currency, records.order_id, capture_id,
	records.merchant_reference1, records.merchant_reference2, correlation_id, idempotency_key, token_fingerprint, records.reason, records.category, error_code,
	next_attempt_at, final, tries, corrects, actor, note, detail`

// Export writes the records that a filter means as CSV, a header first, in the journal's order, and says how many. Memory is bounded: rows
// go out as they are read. A cell that a spreadsheet would take for a formula begins with an apostrophe, see [Defused].
func (b *Books) Export(ctx context.Context, w io.Writer, f Filter) (n int64, err error) {
	clause, args := f.where()
	rows, err := b.QueryContext(ctx, "SELECT "+exportColumns+" FROM records JOIN renewals ON renewals.id = renewal_id WHERE "+clause+" ORDER BY sequence", args...)
	if err != nil {
		return 0, fmt.Errorf("read books %s: %w", b.path, err)
	}
	defer rows.Close()
	out := csv.NewWriter(w)
	amount, currency := slices.Index(exported, "amount_minor"), slices.Index(exported, "currency")
	if err := out.Write(slices.Insert(slices.Clone(exported), amount, "amount")); err != nil {
		return 0, err
	}
	cells := make([]sql.NullString, len(exported))
	into := make([]any, len(cells))
	for i := range cells {
		into[i] = &cells[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return n, fmt.Errorf("read books %s: %w", b.path, err)
		}
		line := make([]string, 0, len(cells)+1)
		for i, c := range cells {
			if i == amount {
				line = append(line, decimal(c.String, cells[currency].String), c.String)
				continue
			}
			line = append(line, Defused(c.String))
		}
		if err := out.Write(line); err != nil {
			return n, err
		}
		n++
	}
	out.Flush()
	if err := rows.Err(); err != nil {
		return n, fmt.Errorf("read books %s: %w", b.path, err)
	}
	return n, out.Error()
}

// decimal is an amount in the currency's own units, with a dot, as far as both are known.
func decimal(minor, currency string) string {
	n, err := strconv.ParseInt(minor, 10, 64)
	if err != nil || currency == "" {
		return ""
	}
	text, _, _ := strings.Cut(desk.Money(n, currency), " ")
	return text
}

// Defused is a cell that no spreadsheet runs: what begins with one of = + - @, a tab or a carriage return gets an apostrophe before it.
// https://owasp.org/www-community/attacks/CSV_Injection
func Defused(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}
