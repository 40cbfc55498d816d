package books

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// A Renewal is one of the books, with what was found of it. What is not known is empty.
type Renewal struct {
	ID                 int64  `json:"-"`
	RenewalKey         string `json:"renewal_key"`
	SubscriptionID     string `json:"subscription_id,omitempty"`
	Period             string `json:"period,omitempty"`
	Account            string `json:"account"`
	Phase              string `json:"phase"`
	DueAt              string `json:"due_at,omitempty"`
	Attempts           int64  `json:"attempts"`
	OrderAmount        int64  `json:"order_amount,omitempty"` // minor units
	PurchaseCurrency   string `json:"purchase_currency,omitempty"`
	MerchantReference1 string `json:"merchant_reference1,omitempty"`
	MerchantReference2 string `json:"merchant_reference2,omitempty"`
	OrderID            string `json:"order_id,omitempty"`
	PaidAt             string `json:"paid_at,omitempty"`
	CapturedAmount     *int64 `json:"captured_amount,omitempty"`
	Reason             string `json:"reason,omitempty"`
	Category           string `json:"category,omitempty"`

	Records []Entry `json:"records"`
}

// An Entry is a record, as far as a person looks for it.
type Entry struct {
	Sequence         int64  `json:"sequence"`
	At               string `json:"at"`
	Kind             string `json:"kind"`
	MessageID        string `json:"id,omitempty"`
	IdempotencyKey   string `json:"idempotency_key,omitempty"`
	Attempt          int64  `json:"attempt,omitempty"`
	Amount           *int64 `json:"amount,omitempty"` // minor units
	PurchaseCurrency string `json:"purchase_currency,omitempty"`
	Reference1       string `json:"merchant_reference1,omitempty"`
	OrderID          string `json:"order_id,omitempty"`
	CaptureID        string `json:"capture_id,omitempty"`
	CorrelationID    string `json:"correlation_id,omitempty"`
	TokenFingerprint string `json:"token_fingerprint,omitempty"`
	Reason           string `json:"reason,omitempty"`
	Category         string `json:"category,omitempty"`
	ErrorCode        string `json:"error_code,omitempty"`
	NextAttemptAt    string `json:"next_attempt_at,omitempty"`
	Actor            string `json:"actor,omitempty"`
	Note             string `json:"note,omitempty"`
	Detail           string `json:"detail,omitempty"`
}

// A Hit is a renewal that a text names, and as what.
type Hit struct {
	By      string  `json:"found_by"` // like order id; with a prefix: order id, its beginning
	Renewal Renewal `json:"renewal"`
}

const (
	results  = "kind NOT IN ('charging', 'capturing')" // as the partial indexes have it, to the letter
	underWay = "open_message_id IS NOT NULL"           // likewise
	// leastPrefix is how many bytes the beginning of a name has at least. Fewer name everybody.
	leastPrefix = 3
)

// names are what a text may be, the likeliest first; each query gives renewals' ids and reads one index. %s is what the text is to the name.
var names = []struct{ what, query string }{
	{"order id", "SELECT renewal_id FROM records WHERE order_id %s AND kind <> 'capturing'"},
	{"message ID", "SELECT renewal_id FROM records WHERE message_id %s AND " + results},
	{"message ID", "SELECT id FROM renewals WHERE open_message_id %s"},
	{"merchant reference 1", "SELECT renewal_id FROM records WHERE merchant_reference1 %s AND " + results},
	{"merchant reference 2", "SELECT renewal_id FROM records WHERE merchant_reference2 %s AND " + results},
	{"merchant reference 1", "SELECT id FROM renewals WHERE merchant_reference1 %s AND " + underWay},
	{"merchant reference 2", "SELECT id FROM renewals WHERE merchant_reference2 %s AND " + underWay},
	{"subscription", "SELECT id FROM renewals WHERE subscription_id %s"},
	{"capture id", "SELECT renewal_id FROM records WHERE capture_id %s"},
	{"correlation ID", "SELECT renewal_id FROM records WHERE correlation_id %s"},
	{"correlation ID", "SELECT renewal_id FROM correlations JOIN records USING (sequence) WHERE correlations.correlation_id %s"},
	{"idempotency key", "SELECT renewal_id FROM records WHERE idempotency_key %s AND " + results},
	{"idempotency key", "SELECT id FROM renewals WHERE open_key %s"},
	{"renewal key", "SELECT id FROM renewals WHERE renewal_key %s"},
	{"token fingerprint", "SELECT renewal_id FROM records WHERE token_fingerprint %s AND " + results},
}

// Find finds the renewals that a text names, at most so many: by what is written to the letter, else by how it begins. more says that
// there are others. The text may be an order id, a capture id, a merchant reference, a correlation ID, a subscription, SUBSCRIPTION/PERIOD, a message
// ID, a key, a token's fingerprint, or an amount with its currency and day: 15.99 EUR 2026-12-01.
func (b *Books) Find(ctx context.Context, text string, most int) (hits []Hit, more bool, err error) {
	// One state of the books for all of it.
	tx, err := b.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, false, fmt.Errorf("read books %s: %w", b.path, err)
	}
	defer func() { _ = tx.Rollback() }()
	f := search{ctx: ctx, tx: tx, most: most, seen: map[int64]bool{}}
	if s, ok := parseSum(text); ok {
		err = f.sum(s)
	} else {
		err = f.named(text)
	}
	if err == nil {
		err = f.fill()
	}
	if err != nil {
		return nil, false, fmt.Errorf("read books %s: %w", b.path, err)
	}
	return f.hits, f.more, nil
}

type search struct {
	ctx  context.Context
	tx   *sql.Tx
	most int
	seen map[int64]bool
	hits []Hit
	more bool
}

// named looks for what is called so, and where nothing is, for what begins so.
func (f *search) named(text string) error {
	for i := range len(text) {
		if text[i] == '/' {
			if err := f.take("subscription and period", "SELECT id FROM renewals WHERE subscription_id = ? AND period = ?", text[:i], text[i+1:]); err != nil {
				return err
			}
		}
	}
	for _, n := range names {
		if err := f.take(n.what, fmt.Sprintf(n.query, "= ?"), text); err != nil {
			return err
		}
	}
	if len(f.hits) > 0 || len(text) < leastPrefix {
		return nil
	}
	for _, n := range names {
		if err := f.take(n.what+", its beginning", fmt.Sprintf(n.query, ">= ? AND "+column(n.query)+" < ?"), text, text+"\U0010ffff"); err != nil {
			return err
		}
	}
	return nil
}

// column is the one that a query of [names] compares.
func column(query string) string {
	before, _, _ := strings.Cut(query, " %s")
	return before[strings.LastIndexByte(before, ' ')+1:]
}

// take adds the renewals that a query gives.
func (f *search) take(by, query string, args ...any) error {
	rows, err := f.tx.QueryContext(f.ctx, "SELECT DISTINCT * FROM ("+query+") LIMIT ?", append(args, f.most+1)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		switch {
		case f.seen[id]:
		case len(f.hits) == f.most:
			f.more = true
		default:
			f.seen[id] = true
			f.hits = append(f.hits, Hit{By: by, Renewal: Renewal{ID: id}})
		}
	}
	return rows.Err()
}

// sum is an amount with its currency, and maybe the day.
type sum struct {
	minor    int64
	currency string
	day      time.Time // zero: any
}

var sumPattern = regexp.MustCompile(`^(\d{1,15})(?:[.,](\d{1,4}))?\s*([A-Za-z]{3})(?:\s+(\d{4}-\d{2}-\d{2}))?$`)

// parseSum reads an amount as a person writes it, without floating point. More decimals than the currency has are no amount.
func parseSum(text string) (s sum, ok bool) {
	part := sumPattern.FindStringSubmatch(strings.TrimSpace(text))
	if part == nil {
		return s, false
	}
	s.currency = strings.ToUpper(part[3])
	digits, known := messages.MinorUnits(s.currency)
	if !known || len(part[2]) > digits {
		return s, false
	}
	minor, err := strconv.ParseInt(part[1]+part[2]+strings.Repeat("0", digits-len(part[2])), 10, 64)
	if err != nil || minor == math.MaxInt64 {
		return s, false
	}
	s.minor = minor
	if part[4] != "" {
		if s.day, err = time.Parse(time.DateOnly, part[4]); err != nil {
			return s, false
		}
	}
	return s, true
}

func (f *search) sum(s sum) error {
	from, to, by := "", "9", "amount"
	if !s.day.IsZero() {
		from, to, by = instant(s.day), instant(s.day.AddDate(0, 0, 1)), "amount and day"
	}
	return f.take(by, "SELECT renewal_id FROM records WHERE amount = ? AND purchase_currency = ? AND at >= ? AND at < ? AND "+results, s.minor, s.currency, from, to)
}

const (
	renewalColumns = `renewal_key, coalesce(subscription_id, ''), coalesce(period, ''), account, phase, coalesce(due_at, ''), attempts, coalesce(order_amount, 0),
		coalesce(purchase_currency, ''), coalesce(merchant_reference1, ''), coalesce(merchant_reference2, ''), coalesce(order_id, ''), coalesce(paid_at, ''),
		captured_amount, coalesce(reason, ''), coalesce(category, '')`
	entryColumns = `sequence, at, kind, coalesce(message_id, ''), coalesce(idempotency_key, ''), coalesce(attempt, 0), amount, coalesce(purchase_currency, ''),
		coalesce(merchant_reference1, ''), coalesce(order_id, ''), coalesce(capture_id, ''), coalesce(correlation_id, ''), coalesce(token_fingerprint, ''),
		coalesce(reason, ''), coalesce(category, ''), coalesce(error_code, ''), coalesce(next_attempt_at, ''), coalesce(actor, ''), coalesce(note, ''), coalesce(detail, '')`
)

// fill reads the renewals that were found, with their records.
func (f *search) fill() error {
	for i := range f.hits {
		r := &f.hits[i].Renewal
		err := f.tx.QueryRowContext(f.ctx, "SELECT "+renewalColumns+" FROM renewals WHERE id = ?", r.ID).Scan(&r.RenewalKey, &r.SubscriptionID, &r.Period, &r.Account, &r.Phase,
			&r.DueAt, &r.Attempts, &r.OrderAmount, &r.PurchaseCurrency, &r.MerchantReference1, &r.MerchantReference2, &r.OrderID, &r.PaidAt, &r.CapturedAmount, &r.Reason, &r.Category)
		if err != nil {
			return err
		}
		if r.Records, err = f.entries(r.ID); err != nil {
			return err
		}
	}
	return nil
}

func (f *search) entries(renewal int64) (entries []Entry, err error) {
	rows, err := f.tx.QueryContext(f.ctx, "SELECT "+entryColumns+" FROM records WHERE renewal_id = ? ORDER BY sequence", renewal)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e Entry
		err := rows.Scan(&e.Sequence, &e.At, &e.Kind, &e.MessageID, &e.IdempotencyKey, &e.Attempt, &e.Amount, &e.PurchaseCurrency, &e.Reference1, &e.OrderID, &e.CaptureID,
			&e.CorrelationID, &e.TokenFingerprint, &e.Reason, &e.Category, &e.ErrorCode, &e.NextAttemptAt, &e.Actor, &e.Note, &e.Detail)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}
