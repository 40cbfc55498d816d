//go:build linux

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"time"
)

// settlementsAPI serves a payout as Klarna does, 500 rows at most at a time. Once, in the middle, it is cut off; and for a while it refuses everything.
type settlementsAPI struct {
	payout payout

	mu       sync.Mutex
	asked    []time.Time
	cut      bool
	refusals int
}

const (
	mostRows     = 500
	mostRefusals = 6
	mostRequests = 5 // a second
)

func (a *settlementsAPI) serve() *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /settlements/v1/payouts", func(w http.ResponseWriter, _ *http.Request) {
		a.request()
		body := append(a.payout.json([]byte(`{"payouts":[`)), `],"pagination":{"count":1,"total":1,"offset":0}}`...)
		_, _ = w.Write(body)
	})
	mux.HandleFunc("GET /settlements/v1/transactions", a.transactions)
	return httptest.NewServer(mux)
}

func (a *settlementsAPI) transactions(w http.ResponseWriter, r *http.Request) {
	a.request()
	size, _ := strconv.Atoi(r.FormValue("size"))
	offset, err := strconv.Atoi(r.FormValue("offset"))
	rows := a.payout.rows
	if size < 1 || size > mostRows || err != nil || r.FormValue("payment_reference") != payoutReference {
		http.Error(w, `{"error_code":"BAD_VALUE","error_messages":["size, offset or payment_reference"],"correlation_id":"c-1"}`, http.StatusBadRequest)
		return
	}
	switch a.fault(offset, len(rows)) {
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
		http.Error(w, `{"error_code":"TOO_MANY_REQUESTS","error_messages":["Too many requests"],"correlation_id":"c-2"}`, http.StatusTooManyRequests)
		return
	case http.StatusBadGateway:
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write([]byte(`{"transactions":[{"amount":31`))
		_ = http.NewResponseController(w).Flush() // a connection that ends without an answer is made anew without a word
		panic(http.ErrAbortHandler)
	}
	page := rows[min(offset, len(rows)):min(offset+size, len(rows))]
	body := []byte(`{"transactions":[`)
	for n, row := range page {
		if n > 0 {
			body = append(body, ',')
		}
		body = row.json(body)
	}
	body = fmt.Appendf(body, `],"pagination":{"count":%d,"total":%d,"offset":%d`, len(page), len(rows), offset)
	if offset+size < len(rows) {
		body = fmt.Appendf(body, `,"next":"http://%s%s?payment_reference=%s&size=%d&offset=%d"`, r.Host, r.URL.Path, payoutReference, size, offset+size)
	}
	_, _ = w.Write(append(body, `}}`...))
}

func (a *settlementsAPI) request() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, time.Now())
}

// fault says how a request for these rows fails; 0 where it does not.
func (a *settlementsAPI) fault(offset, of int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case offset >= of*3/10 && a.refusals < mostRefusals:
		a.refusals++
		return http.StatusTooManyRequests
	case offset >= of*6/10 && !a.cut:
		a.cut = true
		return http.StatusBadGateway
	}
	return 0
}

// judge says what was wrong with the requests: too many of them in a second, or a fault that was not met.
func (a *settlementsAPI) judge() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	// A request that is held up on its way comes nearer to those behind it: many are looked at, and half a second is forgiven.
	const many, grace = 5 * mostRequests, time.Second / 2
	for n := many; n < len(a.asked); n++ {
		if within := a.asked[n].Sub(a.asked[n-many]); within < many*time.Second/mostRequests-grace {
			return fmt.Errorf("%d requests came within %s, Klarna allows %d a second", many+1, within, mostRequests)
		}
	}
	if !a.cut || a.refusals < mostRefusals {
		return fmt.Errorf("of %d requests none was cut off, or only %d were refused: not all rows were asked for", len(a.asked), a.refusals)
	}
	return nil
}
