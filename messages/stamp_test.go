package messages

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestStamped(t *testing.T) {
	for order, want := range map[string]string{
		`{"a":1}`:     `{"merchant_reference2":"s/p/1","a":1}`,
		`{ "a" : 1 }`: `{"merchant_reference2":"s/p/1", "a" : 1 }`,
		`{}`:          `{"merchant_reference2":"s/p/1"}`,
		`{"a":1.50,"merchant_reference2" : "", "b":{"merchant_reference2":"x"}}`: `{"a":1.50,"merchant_reference2" : "s/p/1", "b":{"merchant_reference2":"x"}}`,
		`{"merchant_reference2":null}`:                                           `{"merchant_reference2":"s/p/1"}`,
		`{"merchant_reference2":"mine"}`:                                         `{"merchant_reference2":"mine"}`,
		`{"merchant_reference2":7}`:                                              `{"merchant_reference2":7}`,
		`{"merchant_reference2":"","merchant_reference2":"mine"}`:                `{"merchant_reference2":"","merchant_reference2":"mine"}`,
		`[]`: `[]`, `{`: `{`, ``: ``,
	} {
		j := Job{ID: "s/p/1", Order: json.RawMessage(order)}
		if Stamped(&j); string(j.Order) != want {
			t.Errorf("%s becomes %s, want %s", order, j.Order, want)
		}
	}
}

// TestStampedOnce: what is stamped is still the order it was, and another stamp changes nothing: the bytes of a job that is published
// again are the same.
func TestStampedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := MessageID(rapid.StringMatching(`[a-z"\\/é]{1,20}`).Draw(t, "id"))
		before := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "members") {
			before[rapid.SampledFrom([]string{"a", "b", "merchant_reference1"}).Draw(t, "name")] = rapid.String().Draw(t, "value")
		}
		text, _ := json.Marshal(before)
		j := Job{ID: id, Order: text}
		Stamped(&j)
		once := string(j.Order)
		Stamped(&j)
		var after map[string]any
		if err := json.Unmarshal(j.Order, &after); err != nil || string(j.Order) != once || after["merchant_reference2"] != string(id) || len(after) != len(before)+1 {
			t.Fatalf("%s, %v", j.Order, err)
		}
		for name, value := range before {
			if strings.ToValidUTF8(value.(string), "\ufffd") != after[name] {
				t.Fatalf("%s is %v", name, after[name])
			}
		}
	})
}

func TestNewMessageStamped(t *testing.T) {
	job := Job{ID: "1234834/2026-12/1", SubscriptionID: "1234834", Period: "2026-12", DueAt: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), CustomerToken: NewCustomerToken("t-1"), Order: json.RawMessage(
		`{"purchase_currency":"EUR","order_amount":1599,"order_tax_amount":255,"auto_capture":true,"order_lines":[{"name":"Streaming","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,"total_tax_amount":255,"subscription":{"name":"Premium","interval":"MONTH","interval_count":1}}]}`)}
	plain, err := NewMessage("default", job)
	if err != nil || strings.Contains(string(plain.Data), "merchant_reference2") {
		t.Fatalf("without the option: %s, %v", plain.Data, err)
	}
	m, err := NewMessage("default", job, Stamped)
	if err != nil {
		t.Fatal(err)
	}
	if r := Read(m.Data, m.Header); len(r.Problems) > 0 || r.Facts.MerchantReference2 != "1234834/2026-12/1" || r.Job.ID != "1234834/2026-12/1" {
		t.Errorf("reads as %+v, %v", r.Facts, r.Problems)
	}
}
