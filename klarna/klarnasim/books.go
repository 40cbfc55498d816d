package klarnasim

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"time"
)

// Books are everything that the simulator remembers: what Klarna would know of the merchant's charges.
type Books struct {
	Counts
	Orders []Order `json:"orders"` // in the order in which they were made
	Keys   []Key   `json:"keys"`   // in no order
}

// Order is one charge in the books. Amounts are in minor units.
type Order struct {
	OrderID            string    `json:"order_id"`
	IdempotencyKey     string    `json:"idempotency_key"`
	Username           string    `json:"username"`
	TokenFingerprint   string    `json:"token_fingerprint"`
	OrderAmount        int64     `json:"order_amount"`
	PurchaseCurrency   string    `json:"purchase_currency"`
	MerchantReference1 string    `json:"merchant_reference1"`
	FraudStatus        string    `json:"fraud_status"`    // by now
	Captured           bool      `json:"captured"`        // in full
	CapturedAmount     int64     `json:"captured_amount"` // by now, with auto_capture as well
	Captures           []Capture `json:"captures"`        // those that were asked for: two of one key are money taken twice
	RefundedAmount     int64     `json:"refunded_amount,omitempty"`
	Cancelled          bool      `json:"cancelled,omitempty"`
	CreatedAt          time.Time `json:"created_at"`
	Body               Text      `json:"body,omitempty"` // as received, with Options.KeepBodies
}

// Capture is money taken for an order.
type Capture struct {
	CaptureID      string    `json:"capture_id"`
	IdempotencyKey string    `json:"idempotency_key"`
	CapturedAmount int64     `json:"captured_amount"`
	Reference      string    `json:"reference"`
	CapturedAt     time.Time `json:"captured_at"`
	Body           Text      `json:"body,omitempty"` // as received, with Options.KeepBodies
}

// Key is what is remembered of an idempotency key.
type Key struct {
	Operation        string    `json:"operation"` // order, capture or refund
	IdempotencyKey   string    `json:"idempotency_key"`
	TokenFingerprint string    `json:"token_fingerprint,omitempty"`
	FirstAt          time.Time `json:"first_at"`
	Tries            int       `json:"tries"`
	OtherBodies      int       `json:"other_bodies"` // tries whose body differed from the first
	BodySHA256       string    `json:"body_sha256"`  // of the first, in hex
	// OrderID of the order that the key made or captured, or ErrorCode of the refusal that it is answered with; both ""
	// while nothing is decided.
	OrderID   string `json:"order_id,omitempty"`
	CaptureID string `json:"capture_id,omitempty"`
	ErrorCode string `json:"error_code,omitempty"`
}

// Text is bytes that marshal as a JSON string.
type Text []byte

// MarshalText returns the bytes.
func (t Text) MarshalText() ([]byte, error) { return t, nil }

// UnmarshalText copies the bytes.
func (t *Text) UnmarshalText(text []byte) error {
	*t = append((*t)[:0], text...)
	return nil
}

// Books returns a copy of the books as they are now. For the numbers alone, [Simulator.Counts] is cheaper.
func (s *Simulator) Books() Books {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.settleLate(now)
	books := Books{Counts: s.copyCounts(), Orders: make([]Order, 0, len(s.orders)), Keys: make([]Key, 0, len(s.records))}
	options := s.options.Load()
	for _, o := range s.orders {
		books.Orders = append(books.Orders, o.entry(options, now))
	}
	for _, rec := range s.records {
		books.Keys = append(books.Keys, rec.entry(options))
	}
	return books
}

// Counts returns the numbers of the books as they are now.
func (s *Simulator) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settleLate(s.now())
	return s.copyCounts()
}

func (o *order) entry(options *Options, now moment) Order {
	entry := Order{
		OrderID: o.id(options), IdempotencyKey: o.key, Username: o.username, TokenFingerprint: o.token.String(),
		OrderAmount: o.amount, PurchaseCurrency: string(o.currency[:]), MerchantReference1: o.reference1,
		FraudStatus: o.fraudStatus(now), Captured: o.captured(now) == o.amount, CapturedAmount: o.captured(now), Cancelled: o.cancelled, RefundedAmount: o.refunded(),
		Captures: make([]Capture, 0, len(o.captures)), CreatedAt: o.createdAt.time(), Body: o.body,
	}
	for _, c := range o.captures {
		entry.Captures = append(entry.Captures, Capture{
			CaptureID: c.id, IdempotencyKey: c.key, CapturedAmount: c.amount, Reference: c.reference, CapturedAt: c.at.time(), Body: c.body,
		})
	}
	return entry
}

func (rec *record) entry(options *Options) Key {
	key := Key{
		Operation: "order", IdempotencyKey: rec.key, TokenFingerprint: rec.token.String(), FirstAt: rec.firstAt.time(),
		Tries: rec.tries, OtherBodies: rec.others, BodySHA256: hex.EncodeToString(rec.sha256[:]),
	}
	if rec.operation == captureOperation {
		key.Operation = "capture"
	} else if rec.operation == refundOperation {
		key.Operation = "refund"
	}
	if rec.result != nil {
		key.ErrorCode, key.CaptureID = rec.result.code, rec.result.capture
	}
	if rec.order != nil {
		key.OrderID = rec.order.id(options)
	}
	return key
}

// writeBooks streams the books as JSON, a thousand entries at a time, so that a reader of large books neither stops the
// simulator nor doubles its memory.
func (s *Simulator) writeBooks(w io.Writer) error {
	counts, err := json.Marshal(s.Counts())
	if err != nil {
		return err
	}
	if _, err := w.Write(append(counts[:len(counts)-1], `,"orders":[`...)); err != nil {
		return err
	}
	const page = 1000
	options := s.options.Load()
	err = writePages(w, page, func(from int) []Order {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := s.now()
		entries := make([]Order, 0, page)
		for _, o := range s.orders[min(from, len(s.orders)):min(from+page, len(s.orders))] {
			entries = append(entries, o.entry(options, now))
		}
		return entries
	})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, `],"keys":[`); err != nil {
		return err
	}
	s.mu.Lock()
	records := make([]*record, 0, len(s.records))
	for _, rec := range s.records {
		records = append(records, rec)
	}
	s.mu.Unlock()
	err = writePages(w, page, func(from int) []Key {
		s.mu.Lock()
		defer s.mu.Unlock()
		entries := make([]Key, 0, page)
		for _, rec := range records[min(from, len(records)):min(from+page, len(records))] {
			entries = append(entries, rec.entry(options))
		}
		return entries
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, "]}\n")
	return err
}

// writePages writes the elements of a JSON array, page by page, until an empty page.
func writePages[E any](w io.Writer, page int, read func(from int) []E) error {
	for from := 0; ; from += page {
		entries := read(from)
		if len(entries) == 0 {
			return nil
		}
		text, err := json.Marshal(entries)
		if err != nil {
			return err
		}
		text = text[1 : len(text)-1]
		if from > 0 {
			text = append([]byte{','}, text...)
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
}
