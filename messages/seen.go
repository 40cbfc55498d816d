package messages

import (
	"bytes"
	"time"
)

// Seen is an order as Klarna showed it when somebody checked what an operator said of it. Amounts are in minor units, in
// PurchaseCurrency. What Klarna did not say is left out.
type Seen struct {
	OrderID            string `json:"order_id"`
	Status             string `json:"status,omitempty"`       // AUTHORIZED, PART_CAPTURED, CAPTURED, CANCELLED, EXPIRED, CLOSED or another
	FraudStatus        string `json:"fraud_status,omitempty"` // ACCEPTED, PENDING, REJECTED or another
	OrderAmount        int64  `json:"order_amount"`
	CapturedAmount     int64  `json:"captured_amount"` // by all captures together
	RefundedAmount     int64  `json:"refunded_amount,omitempty"`
	PurchaseCurrency   string `json:"purchase_currency,omitempty"`
	MerchantReference1 string `json:"merchant_reference1,omitempty"`
	MerchantReference2 string `json:"merchant_reference2,omitempty"`
	// CreatedAt is when Klarna made the order, CaptureBefore when its authorisation ends, while there is money left to capture.
	CreatedAt     time.Time `json:"created_at,omitzero"`
	CaptureBefore time.Time `json:"capture_before,omitzero"`
	// Capture is the one that the operator named, where the order has it.
	Capture  *SeenCapture `json:"capture,omitempty"`
	LookedAt time.Time    `json:"looked_at"`
}

// SeenCapture is one capture of an order.
type SeenCapture struct {
	CaptureID      string    `json:"capture_id"`
	CapturedAmount int64     `json:"captured_amount"` // minor units, by this capture
	CapturedAt     time.Time `json:"captured_at,omitzero"`
	Reference      string    `json:"reference,omitempty"`
}

// clean is the same with times in UTC and Klarna's words cut to a sane length.
func (s Seen) clean() *Seen {
	for _, word := range []*string{&s.OrderID, &s.Status, &s.FraudStatus, &s.PurchaseCurrency} {
		*word = cut(*word, maxWord)
	}
	s.MerchantReference1, s.MerchantReference2 = cut(s.MerchantReference1, maxSentence), cut(s.MerchantReference2, maxSentence)
	s.CreatedAt, s.CaptureBefore, s.LookedAt = instant(s.CreatedAt), instant(s.CaptureBefore), instant(s.LookedAt)
	if s.Capture != nil {
		c := *s.Capture
		c.CaptureID, c.Reference, c.CapturedAt = cut(c.CaptureID, maxWord), cut(c.Reference, maxSentence), instant(c.CapturedAt)
		s.Capture = &c
	}
	return &s
}

// append writes it as encoding/json does: no charge that a worker makes has one.
func (s *Seen) append(b []byte) []byte {
	var text bytes.Buffer
	_ = encode(&text, s) // strings, numbers and times of this era always can be
	return append(b, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
}
