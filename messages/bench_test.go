package messages_test

import (
	"encoding/json"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// twoLines is the job of the README with a discount line beside the product.
const twoLines = `{
  "id": "1234834/2026-12/1",
  "subscription_id": "1234834",
  "period": "2026-12",
  "attempt": 1,
  "due_at": "2026-12-01T00:00:00Z",
  "expires_at": "2026-12-08T00:00:00Z",
  "customer_token": "0b1d9815-165e-42e2-8867-35bc03789e00",
  "order": { "purchase_currency": "EUR", "order_amount": 1399, "order_tax_amount": 223, "auto_capture": true,
    "merchant_reference1": "1234834-2026-12",
    "order_lines": [
      { "type": "digital", "reference": "19-402", "name": "Streaming Service Monthly", "quantity": 1,
        "unit_price": 1599, "tax_rate": 1900, "total_amount": 1599, "total_discount_amount": 0, "total_tax_amount": 255,
        "subscription": { "name": "Premium Monthly {{1234834}}", "interval": "MONTH", "interval_count": 1 } },
      { "type": "discount", "reference": "loyal", "name": "Two years with us", "quantity": 1,
        "unit_price": -200, "tax_rate": 1900, "total_amount": -200, "total_tax_amount": -32 } ] },
  "metadata": { "plan": "premium" }
}`

var header = map[string][]string{"Nats-Msg-Id": {"1234834/2026-12/1"}, "traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}

// What a worker does with every delivery: decode, check everything, make both keys.
func BenchmarkRead(b *testing.B) {
	payload := []byte(twoLines)
	if r := messages.Read(payload, header); len(r.Problems)+len(r.Warnings) > 0 {
		b.Fatal(r.Problems, r.Warnings)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		messages.Read(payload, header)
	}
}

// Both keys alone, which are part of reading.
func BenchmarkKeys(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		renewal := messages.NewRenewalKey("1234834", "2026-12")
		messages.NewIdempotencyKey(renewal, "1234834/2026-12/1")
	}
}

// The two records of a charge are the claim, which is this one, and the result, see BenchmarkEncode.
func BenchmarkEncodeCharging(b *testing.B) {
	event := goldenEvents()["charging"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := messages.Encode(event); err != nil {
			b.Fatal(err)
		}
	}
}

// The measure: encoding/json alone, which checks next to nothing.
func BenchmarkEncodingJSON(b *testing.B) {
	type job struct {
		ID             string          `json:"id"`
		SubscriptionID string          `json:"subscription_id"`
		Period         string          `json:"period"`
		Attempt        int64           `json:"attempt"`
		DueAt          string          `json:"due_at"`
		ExpiresAt      string          `json:"expires_at"`
		CustomerToken  string          `json:"customer_token"`
		Order          json.RawMessage `json:"order"`
		Metadata       map[string]string
	}
	type order struct {
		PurchaseCurrency   string `json:"purchase_currency"`
		OrderAmount        int64  `json:"order_amount"`
		OrderTaxAmount     int64  `json:"order_tax_amount"`
		AutoCapture        bool   `json:"auto_capture"`
		MerchantReference1 string `json:"merchant_reference1"`
		OrderLines         []struct {
			Type                string `json:"type"`
			Reference           string `json:"reference"`
			Name                string `json:"name"`
			Quantity            int64  `json:"quantity"`
			UnitPrice           int64  `json:"unit_price"`
			TaxRate             int64  `json:"tax_rate"`
			TotalAmount         int64  `json:"total_amount"`
			TotalDiscountAmount int64  `json:"total_discount_amount"`
			TotalTaxAmount      int64  `json:"total_tax_amount"`
			Subscription        struct {
				Name          string `json:"name"`
				Interval      string `json:"interval"`
				IntervalCount int64  `json:"interval_count"`
			} `json:"subscription"`
		} `json:"order_lines"`
	}
	payload := []byte(twoLines)
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		var j job
		var o order
		if json.Unmarshal(payload, &j) != nil || json.Unmarshal(j.Order, &o) != nil {
			b.Fatal("invalid")
		}
	}
}
