package klarna_test

import (
	"context"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// BenchmarkCreateOrder is one charge over loopback, client and simulator in one process.
func BenchmarkCreateOrder(b *testing.B) {
	server, err := klarnasim.Start(klarnasim.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	endpoint, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	client, err := klarna.New(klarna.Config{Endpoint: endpoint, Credentials: klarna.StaticCredentials("user", "password")})
	if err != nil {
		b.Fatal(err)
	}
	defer client.CloseIdle()
	var keys atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, err := client.CreateOrder(context.Background(), klarna.CreateOrderRequest{
				CustomerToken: klarna.NewCustomerToken("ok-1"), IdempotencyKey: strconv.FormatInt(keys.Add(1), 10),
				Body: []byte(monthly), BeforeSend: func() error { return nil },
			})
			if err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
}

const monthly = `{"purchase_currency":"EUR","order_amount":1599,"order_tax_amount":255,"auto_capture":true,"merchant_reference1":"1234834-2026-12",` +
	`"order_lines":[{"type":"digital","reference":"19-402","name":"Streaming Service Monthly","quantity":1,"unit_price":1599,"tax_rate":1900,` +
	`"total_amount":1599,"total_discount_amount":0,"total_tax_amount":255,"subscription":{"name":"Premium Monthly {{1234834}}","interval":"MONTH","interval_count":1}}]}`
