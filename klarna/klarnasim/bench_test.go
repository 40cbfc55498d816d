package klarnasim_test

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

func BenchmarkCreateOrder(b *testing.B) {
	sim := klarnasim.New(klarnasim.Options{})
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		r := httptest.NewRequest("POST", "/customer-token/v1/tokens/ok-1/order", strings.NewReader(monthly))
		r.SetBasicAuth("user", "password")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Klarna-Idempotency-Key", strconv.Itoa(n))
		sim.ServeHTTP(httptest.NewRecorder(), r)
	}
}

const monthly = `{"purchase_currency":"EUR","order_amount":1599,"order_tax_amount":255,"auto_capture":true,"merchant_reference1":"1234834-2026-12",` +
	`"order_lines":[{"type":"digital","reference":"19-402","name":"Streaming Service Monthly","quantity":1,"unit_price":1599,"tax_rate":1900,` +
	`"total_amount":1599,"total_discount_amount":0,"total_tax_amount":255,"subscription":{"name":"Premium Monthly {{1234834}}","interval":"MONTH","interval_count":1}}]}`
