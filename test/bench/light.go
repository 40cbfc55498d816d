//go:build linux

package main

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// lightKlarna answers every charge with an order of its own and validates nothing, so that the processor time of a simulator
// that is as strict as Klarna does not hide differences between those who call it. Its answers are those of the strict one.
type lightKlarna struct {
	latency time.Duration
	orders  atomic.Uint64
}

// serve answers until the process ends.
func (k *lightKlarna) serve(addr string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /customer-token/v1/tokens/{token}/order", k.create)
	mux.HandleFunc("GET /ordermanagement/v1/orders/{order}", k.read)
	mux.HandleFunc("GET /sim/counts", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"order_count":%d}`, k.orders.Load())
	})
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

func (k *lightKlarna) create(w http.ResponseWriter, r *http.Request) {
	if k.latency > 0 {
		timer := time.NewTimer(k.latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	number := strconv.FormatUint(1_000_000_000_000+k.orders.Add(1), 10)[1:] // twelve digits
	const start = "72f11fba-23a7-492d-a000-"
	body := append(make([]byte, 0, 256), `{"order_id":"`+start...)
	body = append(append(body, number...), `","fraud_status":"ACCEPTED","redirect_url":"https://credit.klarna.example/v1/sessions/`+start...)
	body = append(append(body, number...), `/redirect","authorized_payment_method":{"type":"invoice","number_of_days":30}}`...)
	header := w.Header()
	header["Content-Type"] = []string{"application/json"}
	header["Klarna-Correlation-Id"] = []string{"5a1c3d2e-77a0-4f3b-b000-" + number}
	_, _ = w.Write(body) // who has gone does not hear it
}

// read knows every order, captured as it was asked for.
func (k *lightKlarna) read(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"order_id":%q,"status":"CAPTURED","fraud_status":"ACCEPTED","purchase_currency":"EUR",`+
		`"order_amount":%[2]d,"captured_amount":%[2]d,"remaining_authorized_amount":0}`, r.PathValue("order"), orderAmount)
}
