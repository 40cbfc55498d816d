package klarnasim_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// said is what a client gets to read.
type said struct {
	Status int // 0: cut without an answer
	Cut    bool
	Code   string `json:"error_code"`
	Header http.Header
	Body   string

	OrderID     string   `json:"order_id"`
	FraudStatus string   `json:"fraud_status"`
	Messages    []string `json:"error_messages"`
}

// ask makes one request without a network.
func ask(sim http.Handler, method, path, key, body string, alter ...func(*http.Request)) (answer said) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.SetBasicAuth("merchant", "secret")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Klarna-Idempotency-Key", key)
	}
	for _, a := range alter {
		a(r)
	}
	w := httptest.NewRecorder()
	w.Code = 0
	defer func() {
		p := recover()
		if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // what net/http compares
			panic(p)
		}
		answer.Cut = p != nil
		answer.Status, answer.Header, answer.Body = w.Code, w.Header(), w.Body.String()
		_ = json.Unmarshal(w.Body.Bytes(), &answer)
	}()
	sim.ServeHTTP(w, r)
	return answer
}

func order(sim http.Handler, token, key string) said {
	return ask(sim, "POST", "/customer-token/v1/tokens/"+token+"/order", key, monthly)
}

// Each beginning of a token, try by try of the same key.
func TestTokens(t *testing.T) {
	t.Parallel()
	const ok = "200 ACCEPTED"
	for _, row := range []struct {
		token  string
		tries  []string
		orders int
	}{
		{"ok-1", []string{ok, ok}, 1},
		{"0b1d9815-165e-42e2-8867-35bc03789e00", []string{ok, ok}, 1},
		{"ok-503-cut-cancelled-1", []string{ok}, 1},
		{"soft-decline-1", []string{"403 PAYMENT_METHOD_FAILED", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"soft-decline-once-1", []string{"403 PAYMENT_METHOD_FAILED", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"unavailable-1", []string{"403 UNAVAILABLE_PAYMENT_METHOD"}, 0},
		{"suspended-1", []string{"403 TOKEN_SUSPENDED"}, 0},
		{"cancelled-1", []string{"403 TOKEN_CANCELLED"}, 0},
		{"canceled-1", []string{"403 TOKEN_CANCELED"}, 0},
		{"forbidden-1", []string{"403 TOKEN_FORBIDDEN"}, 0},
		{"not-found-1", []string{"404 TOKEN_NOT_FOUND"}, 0},
		{"currency-mismatch-1", []string{"403 PAYMENT_METHOD_CURRENCY_MISMATCH"}, 0},
		{"bad-request-1", []string{"400 BAD_REQUEST"}, 0},
		{"rejected-1", []string{"200 REJECTED", "200 REJECTED"}, 1},
		{"pending-1", []string{"200 PENDING", "200 PENDING"}, 1},
		{"pending-accept-1", []string{"200 PENDING", "200 PENDING"}, 1},
		{"pending-reject-1", []string{"200 PENDING"}, 1},
		{"no-fraud-status-1", []string{"200"}, 1},
		{"capture-declined-1", []string{ok}, 1},
		{"uncaptured-1", []string{ok, ok}, 1},
		{"partly-captured-1", []string{ok, ok}, 1},
		{"late-3600000-1", []string{"cut", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"late-0-1", []string{"cut", ok}, 1},
		{"late-3600000-502-1", []string{"502 TEMPORARILY_UNAVAILABLE", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"late-0-500-TIMEOUT-1", []string{"500 TIMEOUT", ok}, 1},
		{"lost-cancelled-1", []string{"cut", "403 TOKEN_CANCELLED", "403 TOKEN_CANCELLED"}, 1},

		{"401-1", []string{"401 UNAUTHORIZED", "401 UNAUTHORIZED"}, 0},
		{"403-1", []string{"403 REJECTED"}, 0},
		{"403-bare-1", []string{"403 empty", "403 empty"}, 0},
		{"403-html-1", []string{"403 html"}, 0},
		{"403-MERCHANT_INACTIVE-1", []string{"403 MERCHANT_INACTIVE"}, 0},
		{"429-1", []string{"429 TOO_MANY_REQUESTS"}, 0},
		{"429x2-1", []string{"429 TOO_MANY_REQUESTS", "429 TOO_MANY_REQUESTS", ok}, 1},
		{"503-1", []string{"503 SERVICE_UNAVAILABLE", "503 SERVICE_UNAVAILABLE"}, 0},
		{"503x2-1", []string{"503 SERVICE_UNAVAILABLE", "503 SERVICE_UNAVAILABLE", ok, ok}, 1},
		{"503x2-bare-1", []string{"503 empty", "503 empty", ok}, 1},
		{"503x1-TIMEOUT-1", []string{"503 TIMEOUT", ok}, 1},
		{"503x1-500x1-soft-decline-1", []string{"503 SERVICE_UNAVAILABLE", "500 INTERNAL_SERVER_ERROR", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"599-1", []string{"599 ERROR_599"}, 0},
		{"cut-1", []string{"cut", "cut"}, 0},
		{"cutx1-1", []string{"cut", ok}, 1},
		{"cut-headersx1-1", []string{"200 cut empty", ok}, 1},
		{"cut-bodyx1-1", []string{"200 cut half", ok}, 1},
		{"empty-200-1", []string{"200 empty", "200 empty"}, 0},
		{"empty-200x1-1", []string{"200 empty", ok}, 1},
		{"no-id-200-1", []string{"200 {}"}, 0},
		{"broken-200-1", []string{"200 half"}, 0},
		{"created-500-1", []string{"500 INTERNAL_SERVER_ERROR", ok, ok}, 1},
		{"created-500x3-1", []string{"500 INTERNAL_SERVER_ERROR", "500 INTERNAL_SERVER_ERROR", "500 INTERNAL_SERVER_ERROR", ok}, 1},
		{"created-503-bare-1", []string{"503 empty", ok}, 1},
		{"created-cut-1", []string{"cut", ok}, 1},
		{"created-cut-headers-1", []string{"200 cut empty", ok}, 1},
		{"created-cut-body-1", []string{"200 cut half", ok}, 1},
		{"created-empty-200-1", []string{"200 empty", ok}, 1},
		{"created-broken-200-1", []string{"200 half", ok}, 1},
		{"created-500-soft-decline-1", []string{"500 INTERNAL_SERVER_ERROR", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"created-cut-pending-1", []string{"cut", "200 PENDING"}, 1},
		{"503x1-created-cut-1", []string{"503 SERVICE_UNAVAILABLE", "cut", ok}, 1},
		{"slow-0-503x1-1", []string{"503 SERVICE_UNAVAILABLE", ok}, 1},
		{"conflict-in-flight-503x1-1", []string{"503 SERVICE_UNAVAILABLE", ok}, 1},

		// Nearly a beginning, but not quite: tokens like any other.
		{"503", []string{ok}, 1},
		{"503x-1", []string{ok}, 1},
		{"503y2-1", []string{ok}, 1},
		{"5030-1", []string{ok}, 1},
		{"200-1", []string{ok}, 1},
		{"600-1", []string{ok}, 1},
		{"slow-1", []string{ok}, 1},
		{"slow-fast-1", []string{ok}, 1},
		{"late-1", []string{ok}, 1},
		{"cut", []string{ok}, 1},
		{"cutting-1", []string{ok}, 1},
		{"created-1", []string{ok}, 1},
		{"declined-1", []string{ok}, 1},
		{"okay", []string{ok}, 1},
	} {
		t.Run(row.token, func(t *testing.T) {
			t.Parallel()
			sim := klarnasim.New(klarnasim.Options{})
			var got []string
			for range row.tries {
				got = append(got, inWords(order(sim, row.token, "key")))
			}
			if !slices.Equal(got, row.tries) {
				t.Errorf("answers %q, want %q", got, row.tries)
			}
			books := sim.Books()
			if len(books.Orders) != row.orders || books.Requests != len(row.tries) {
				t.Errorf("%d orders after %d requests, want %d after %d", len(books.Orders), books.Requests, row.orders, len(row.tries))
			}
			if len(books.Keys) != 1 || books.Keys[0].Tries != len(row.tries) {
				t.Errorf("keys %+v, want one with %d tries", books.Keys, len(row.tries))
			}
		})
	}
}

func inWords(a said) string {
	var words []string
	add := func(condition bool, word string) {
		if condition {
			words = append(words, word)
		}
	}
	complete := json.Valid([]byte(a.Body))
	add(a.Cut && a.Status == 0, "cut")
	add(a.Status != 0, fmt.Sprint(a.Status))
	add(a.Cut && a.Status != 0, "cut")
	add(a.Code != "", a.Code)
	add(a.FraudStatus != "", a.FraudStatus)
	add(a.Status != 0 && a.Body == "", "empty")
	add(a.Body == "{}", "{}")
	add(strings.HasPrefix(a.Body, "<html>"), "html")
	add(strings.HasPrefix(a.Body, `{"order_id":`) && !complete, "half")
	return strings.Join(words, " ")
}

// Counting is by key: a token is charged again every month.
func TestTriesAreCountedByKey(t *testing.T) {
	t.Parallel()
	sim := klarnasim.New(klarnasim.Options{})
	for _, key := range []string{"october", "november"} {
		for n, want := range []int{503, 503, 200} {
			if got := order(sim, "503x2-1", key).Status; got != want {
				t.Errorf("%s, try %d: %d, want %d", key, n+1, got, want)
			}
		}
	}
	if n := len(sim.Books().Orders); n != 2 {
		t.Errorf("%d orders, want 2", n)
	}
}

func TestSoftDeclineOnce(t *testing.T) {
	t.Parallel()
	for _, forget := range []bool{false, true} {
		sim := klarnasim.New(klarnasim.Options{ForgetErrors: forget})
		for _, step := range []struct {
			token, key string
			want       int
		}{
			{"soft-decline-once-1", "attempt-1", 403},
			{"soft-decline-once-1", "attempt-2", 200},
			{"soft-decline-once-1", "attempt-1", 403},
			{"soft-decline-once-2", "attempt-3", 403},
			{"soft-decline-once-2", "attempt-4", 200},
		} {
			if got := order(sim, step.token, step.key).Status; got != step.want {
				t.Errorf("%s, %s: %d, want %d", step.token, step.key, got, step.want)
			}
		}
	}
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	sim := klarnasim.New(klarnasim.Options{Now: func() time.Time { return now }})
	first := order(sim, "ok-1", "key")
	other := ask(sim, "POST", "/customer-token/v1/tokens/cancelled-2/order", "key", `{"order_amount":"no order at all"}`)
	if other.OrderID != first.OrderID || other.Body != first.Body {
		t.Errorf("same key, other token and body: %+v, want the first answer %+v", other, first)
	}
	if books := sim.Books(); books.OtherBodies != 1 || len(books.Orders) != 1 {
		t.Errorf("%d other bodies, %d orders, want 1, 1", books.OtherBodies, len(books.Orders))
	}
	sim.Advance(24*time.Hour - time.Second)
	if got := order(sim, "ok-1", "key"); got.OrderID != first.OrderID {
		t.Errorf("within 24 h: order %s, want %s", got.OrderID, first.OrderID)
	}
	sim.Advance(time.Second)
	if got := order(sim, "ok-1", "key"); got.OrderID == first.OrderID || got.Status != 200 {
		t.Errorf("after 24 h: %+v, want another order", got)
	}
	if books := sim.Books(); books.KeysExpired != 1 || len(books.Orders) != 2 {
		t.Errorf("%d keys expired, %d orders, want 1, 2", books.KeysExpired, len(books.Orders))
	}
	a, b := order(sim, "ok-1", ""), order(sim, "ok-1", "")
	if books := sim.Books(); a.OrderID == b.OrderID || books.WithoutKey != 2 || len(books.Orders) != 4 {
		t.Errorf("without a key: orders %s and %s, %d counted", a.OrderID, b.OrderID, books.WithoutKey)
	}
	sim.Reset()
	if books := sim.Books(); !reflect.DeepEqual(books, klarnasim.New(klarnasim.Options{}).Books()) {
		t.Errorf("books after a reset: %+v", books)
	}
}

func TestRefusalsAreRepeatedOrForgotten(t *testing.T) {
	t.Parallel()
	for _, forget := range []bool{false, true} {
		sim := klarnasim.New(klarnasim.Options{ForgetErrors: forget})
		sim.SetToken("customer", klarnasim.TokenState{Status: "SUSPENDED"})
		if got := order(sim, "customer", "key"); got.Code != "TOKEN_SUSPENDED" {
			t.Errorf("suspended: %+v", got)
		}
		bad := ask(sim, "POST", "/customer-token/v1/tokens/customer/order", "bad", "{}")
		if bad.Code != "BAD_REQUEST" {
			t.Errorf("no order: %+v", bad)
		}
		sim.SetToken("customer", klarnasim.TokenState{})
		want := map[bool]int{false: 403, true: 200}[forget]
		if got := order(sim, "customer", "key").Status; got != want {
			t.Errorf("ForgetErrors %v, same key: %d, want %d", forget, got, want)
		}
		if got := order(sim, "customer", "new key").Status; got != 200 {
			t.Errorf("ForgetErrors %v, new key: %d, want 200", forget, got)
		}
	}
}

func TestBehaviourSetByHand(t *testing.T) {
	t.Parallel()
	sim := klarnasim.New(klarnasim.Options{})
	sim.SetToken("customer", klarnasim.TokenState{Behaviour: "503x1-soft-decline"})
	for n, want := range []string{"503 SERVICE_UNAVAILABLE", "403 PAYMENT_METHOD_FAILED"} {
		if got := inWords(order(sim, "customer", "key")); got != want {
			t.Errorf("try %d: %s, want %s", n+1, got, want)
		}
	}
	for token, state := range map[string]klarnasim.TokenState{
		"cancelled-1": {Behaviour: "ok"},
		"suspended-1": {Status: "ACTIVE"},
		"not-found-1": {Status: "active"},
	} {
		sim.SetToken(token, state)
		if got := order(sim, token, token); got.Status != 200 {
			t.Errorf("%s, %+v by hand: %+v", token, state, got)
		}
	}
}

// The same key at work: the second request waits for the first, or is told 409.
func TestInFlight(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, token string
		options     klarnasim.Options
		statuses    []int // sorted
	}{
		{name: "waits", token: "slow-1000-ok", options: klarnasim.Options{}, statuses: []int{200, 200}},
		{name: "conflict by token", token: "slow-1000-conflict-in-flight-ok", options: klarnasim.Options{}, statuses: []int{200, 409}},
		{name: "conflict by option", token: "slow-1000-ok", options: klarnasim.Options{ConflictInFlight: true}, statuses: []int{200, 409}},
		{name: "waits, then is evaluated itself", token: "slow-1000-503x1-ok", options: klarnasim.Options{}, statuses: []int{200, 503}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim := klarnasim.New(row.options)
				answers := make([]said, 2)
				var wait sync.WaitGroup
				for i := range answers {
					wait.Go(func() { answers[i] = order(sim, row.token, "key") })
					synctest.Wait()
				}
				wait.Wait()
				statuses := []int{answers[0].Status, answers[1].Status}
				slices.Sort(statuses)
				if !slices.Equal(statuses, row.statuses) {
					t.Errorf("statuses %v, want %v", statuses, row.statuses)
				}
				if n := len(sim.Books().Orders); n != 1 {
					t.Errorf("%d orders, want 1", n)
				}
			})
		})
	}
}

// Different keys do not wait for each other.
func TestNoLockDuringLatency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := klarnasim.New(klarnasim.Options{Latency: time.Second})
		start := time.Now()
		var wait sync.WaitGroup
		for i := range 100 {
			wait.Go(func() { order(sim, "ok-1", fmt.Sprint(i)) })
		}
		wait.Wait()
		if took := time.Since(start); took != time.Second {
			t.Errorf("100 orders took %v, want 1s", took)
		}
	})
}

func TestLateOrder(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	sim := klarnasim.New(klarnasim.Options{Now: func() time.Time { return now }})
	answers := []string{inWords(order(sim, "late-30000-1", "key"))}
	sim.Advance(500 * time.Millisecond)
	answers = append(answers, inWords(order(sim, "late-30000-1", "key")))
	if n := len(sim.Books().Orders); n != 0 {
		t.Errorf("%d orders before its time", n)
	}
	sim.Advance(29500 * time.Millisecond)
	if n := sim.Counts().Orders; n != 1 {
		t.Errorf("%d orders at its time, want 1", n)
	}
	answers = append(answers, inWords(order(sim, "late-30000-1", "key")))
	if want := []string{"cut", "403 PAYMENT_METHOD_FAILED", "200 ACCEPTED"}; !slices.Equal(answers, want) {
		t.Errorf("answers %q, want %q", answers, want)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	with := func(username, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(username, password) }
	}
	without := func(r *http.Request) { r.Header.Del("Authorization") }
	for _, row := range []struct {
		name    string
		options klarnasim.Options
		request func(*http.Request)
		want    int
	}{
		{name: "any will do", options: klarnasim.Options{}, request: with("x", "y"), want: 200},
		{name: "none will not", options: klarnasim.Options{}, request: without, want: 401},
		{name: "right", options: klarnasim.Options{Username: "u", Password: "p"}, request: with("u", "p"), want: 200},
		{name: "wrong password", options: klarnasim.Options{Username: "u", Password: "p"}, request: with("u", "q"), want: 401},
		{name: "wrong user name", options: klarnasim.Options{Username: "u", Password: "p"}, request: with("v", "p"), want: 401},
	} {
		sim := klarnasim.New(row.options)
		if got := ask(sim, "POST", "/customer-token/v1/tokens/ok-1/order", "key", monthly, row.request); got.Status != row.want {
			t.Errorf("%s: %d, want %d", row.name, got.Status, row.want)
		}
		if n := len(sim.Books().Keys); (n == 1) != (row.want == 200) {
			t.Errorf("%s: %d keys in the books", row.name, n)
		}
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	sim := klarnasim.New(klarnasim.Options{Rate: 3, Now: func() time.Time { return now }})
	var got []string
	try := func(username string) {
		a := ask(sim, "POST", "/customer-token/v1/tokens/ok-1/order", "", monthly, func(r *http.Request) { r.SetBasicAuth(username, "p") })
		got = append(got, fmt.Sprintf("%d %s/%s %s", a.Status, a.Header.Get("X-Ratelimit-Remaining"), a.Header.Get("X-Ratelimit-Limit"), a.Header.Get("X-Ratelimit-Reset")))
	}
	for range 4 {
		try("one")
	}
	try("two")
	sim.Advance(time.Second)
	try("one")
	want := []string{
		"200 2/3, 3;w=1 1", "200 1/3, 3;w=1 1", "200 0/3, 3;w=1 1", "429 0/3, 3;w=1 1",
		"200 2/3, 3;w=1 1", "200 2/3, 3;w=1 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if n := sim.Counts().Statuses[429]; n != 1 {
		t.Errorf("%d times 429 in the counts, want 1", n)
	}
}

func TestFraudStatusTurns(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		token        string
		before, then string
		captured     bool
	}{
		{token: "ok-1", before: "ACCEPTED", then: "ACCEPTED", captured: true},
		{token: "pending-1", before: "PENDING", then: "PENDING"},
		{token: "pending-accept-1", before: "PENDING", then: "ACCEPTED", captured: true},
		{token: "pending-reject-1", before: "PENDING", then: "REJECTED"},
		{token: "rejected-1", before: "REJECTED", then: "REJECTED"},
	} {
		sim := klarnasim.New(klarnasim.Options{PendingFor: time.Hour, Now: func() time.Time { return now }})
		made := order(sim, row.token, "key")
		read := func() said { return ask(sim, "GET", "/ordermanagement/v1/orders/"+made.OrderID, "", "") }
		if got := read().FraudStatus; got != row.before {
			t.Errorf("%s: %s at first, want %s", row.token, got, row.before)
		}
		sim.Advance(time.Hour)
		if got := read().FraudStatus; got != row.then {
			t.Errorf("%s: %s later, want %s", row.token, got, row.then)
		}
		if got := sim.Books().Orders[0]; got.FraudStatus != row.then || got.Captured != row.captured {
			t.Errorf("%s: in the books %s, captured %v", row.token, got.FraudStatus, got.Captured)
		}
		if again := order(sim, row.token, "key"); again.FraudStatus != made.FraudStatus {
			t.Errorf("%s: the repeated key is answered %s, want the first answer %s", row.token, again.FraudStatus, made.FraudStatus)
		}
		if !sim.SetFraudStatus(made.OrderID, "REJECTED") || read().FraudStatus != "REJECTED" {
			t.Errorf("%s: not turned by hand", row.token)
		}
	}
	sim := klarnasim.New(klarnasim.Options{})
	if sim.SetFraudStatus("00000000-0000-4000-a000-000000000000", "ACCEPTED") {
		t.Error("turned an order that does not exist")
	}
}

func TestCaptures(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	byHand := strings.Replace(monthly, `"auto_capture":true`, `"auto_capture":false`, 1)
	type step struct {
		key, body string
		want      string // status and code
	}
	for _, row := range []struct {
		name, token, order string
		after              time.Duration
		steps              []step
		status             string
		amount             int64
	}{
		{name: "in one", token: "ok-1", order: byHand, steps: []step{{"a", `{"captured_amount":1599}`, "201"}}, status: "CAPTURED", amount: 1599},
		{name: "the same key again", token: "ok-1", order: byHand, steps: []step{{"a", `{"captured_amount":500}`, "201"}, {"a", `{"captured_amount":500}`, "201"}}, status: "PART_CAPTURED", amount: 500},
		{name: "two keys take twice", token: "ok-1", order: byHand, steps: []step{{"a", `{"captured_amount":500}`, "201"}, {"b", `{"captured_amount":500}`, "201"}}, status: "PART_CAPTURED", amount: 1000},
		{
			name: "more than is left", token: "ok-1", order: byHand, steps: []step{{"a", `{"captured_amount":1000}`, "201"}, {"b", `{"captured_amount":600}`, "403 CAPTURE_NOT_ALLOWED"}},
			status: "PART_CAPTURED", amount: 1000,
		},
		{name: "captured by itself", token: "ok-1", order: monthly, steps: []step{{"a", `{"captured_amount":1}`, "403 CAPTURE_NOT_ALLOWED"}}, status: "CAPTURED", amount: 1599},
		{name: "not captured by itself, though asked", token: "uncaptured-1", order: monthly, status: "AUTHORIZED"},
		{
			name: "not captured by itself: by hand", token: "uncaptured-1", order: monthly, steps: []step{{"a", `{"captured_amount":1599}`, "201"}, {"b", `{"captured_amount":1}`, "403 CAPTURE_NOT_ALLOWED"}},
			status: "CAPTURED", amount: 1599,
		},
		{
			name: "half of it captured by itself: the rest by hand", token: "partly-captured-1", order: monthly,
			steps: []step{{"a", `{"captured_amount":801}`, "403 CAPTURE_NOT_ALLOWED"}, {"b", `{"captured_amount":1}`, "201"}}, status: "PART_CAPTURED", amount: 800,
		},
		{name: "nothing was to be captured by itself", token: "partly-captured-1", order: byHand, status: "AUTHORIZED"},
		{name: "still pending", token: "pending-1", order: byHand, steps: []step{{"a", `{"captured_amount":1}`, "403 CAPTURE_NOT_ALLOWED"}}, status: "AUTHORIZED"},
		{name: "declined late", token: "capture-declined-1", order: byHand, steps: []step{{"a", `{"captured_amount":1}`, "403 PAYMENT_METHOD_FAILED"}}, status: "AUTHORIZED"},
		{name: "expired", token: "ok-1", order: byHand, after: 28 * 24 * time.Hour, steps: []step{{"a", `{"captured_amount":1}`, "403 CAPTURE_NOT_ALLOWED"}}, status: "EXPIRED"},
		{name: "no amount", token: "ok-1", order: byHand, steps: []step{{"a", `{}`, "400 BAD_VALUE"}}, status: "AUTHORIZED"},
		{name: "no JSON", token: "ok-1", order: byHand, steps: []step{{"a", `captured_amount=1`, "400 BAD_VALUE"}}, status: "AUTHORIZED"},
		{name: "negative", token: "ok-1", order: byHand, steps: []step{{"a", `{"captured_amount":-1}`, "400 BAD_VALUE"}}, status: "AUTHORIZED"},
		{name: "a long reference", token: "ok-1", order: byHand, steps: []step{{"a", `{"captured_amount":1,"reference":"` + strings.Repeat("r", 256) + `"}`, "400 BAD_VALUE"}}, status: "AUTHORIZED"},
	} {
		sim := klarnasim.New(klarnasim.Options{Now: func() time.Time { return now }})
		made := ask(sim, "POST", "/customer-token/v1/tokens/"+row.token+"/order", "key", row.order)
		sim.Advance(row.after)
		ids := map[string]string{}
		for _, s := range row.steps {
			got := ask(sim, "POST", "/ordermanagement/v1/orders/"+made.OrderID+"/captures", s.key, s.body)
			if text := strings.TrimSpace(fmt.Sprintf("%d %s", got.Status, got.Code)); text != s.want {
				t.Errorf("%s: %s, want %s", row.name, text, s.want)
			}
			id := got.Header.Get("Capture-Id")
			if (id != "") != (got.Status == 201) || !strings.HasSuffix(got.Header.Get("Location"), id) {
				t.Errorf("%s: Capture-Id %q, Location %q with %d", row.name, id, got.Header.Get("Location"), got.Status)
			}
			if before, ok := ids[s.key]; ok && before != id {
				t.Errorf("%s: capture %s under the key of %s", row.name, id, before)
			}
			ids[s.key] = id
		}
		var read struct {
			Status   string `json:"status"`
			Captured int64  `json:"captured_amount"`
			Left     int64  `json:"remaining_authorized_amount"`
		}
		text := ask(sim, "GET", "/ordermanagement/v1/orders/"+made.OrderID, "", "").Body
		if err := json.Unmarshal([]byte(text), &read); err != nil || read.Status != row.status || read.Captured != row.amount || read.Left != 1599-row.amount {
			t.Errorf("%s: order %s, want %s with %d captured", row.name, text, row.status, row.amount)
		}
	}
	sim := klarnasim.New(klarnasim.Options{})
	for _, path := range []string{"/ordermanagement/v1/orders/nobody", "/ordermanagement/v1/orders/00000000-0000-4000-a000-000000000000"} {
		if got := ask(sim, "GET", path, "", ""); got.Code != "NO_SUCH_ORDER" || got.Status != 404 {
			t.Errorf("GET %s: %+v", path, got)
		}
		if got := ask(sim, "POST", path+"/captures", "k", `{"captured_amount":1}`); got.Code != "NO_SUCH_ORDER" {
			t.Errorf("capture of %s: %+v", path, got)
		}
	}
}

func TestReadAndCancelToken(t *testing.T) {
	t.Parallel()
	sim := klarnasim.New(klarnasim.Options{})
	read := func(token string) string {
		got := ask(sim, "GET", "/customer-token/v1/tokens/"+token, "", "")
		var body struct{ Status string }
		_ = json.Unmarshal([]byte(got.Body), &body)
		return strings.TrimSpace(fmt.Sprint(got.Status, " ", got.Code, body.Status))
	}
	for token, want := range map[string]string{
		"ok-1": "200 ACTIVE", "soft-decline-1": "200 ACTIVE", "403-bare-1": "200 ACTIVE", "cancelled-1": "200 CANCELLED",
		"canceled-1": "200 CANCELLED", "suspended-1": "200 SUSPENDED", "not-found-1": "404 NOT_FOUND",
	} {
		if got := read(token); got != want {
			t.Errorf("%s: %s, want %s", token, got, want)
		}
	}
	patch := func(token, body string) string {
		got := ask(sim, "PATCH", "/customer-token/v1/tokens/"+token+"/status", "", body)
		return strings.TrimSpace(fmt.Sprint(got.Status, " ", got.Code))
	}
	for _, row := range []struct{ token, body, want string }{
		{"ok-1", `{"status":"cancelled"}`, "400 BAD_VALUE"},
		{"ok-1", `{"status":"ACTIVE"}`, "400 BAD_VALUE"},
		{"not-found-1", `{"status":"CANCELLED"}`, "404 NOT_FOUND"},
		{"ok-1", `{"status":"CANCELLED"}`, "202"},
	} {
		if got := patch(row.token, row.body); got != row.want {
			t.Errorf("PATCH %s %s: %s, want %s", row.token, row.body, got, row.want)
		}
	}
	if got := read("ok-1"); got != "200 CANCELLED" {
		t.Errorf("after PATCH: %s", got)
	}
	if got := order(sim, "ok-1", "key"); got.Code != "TOKEN_CANCELLED" {
		t.Errorf("order on a cancelled token: %+v", got)
	}
}

func TestOutageHitsEverything(t *testing.T) {
	t.Parallel()
	for outage, want := range map[string]string{"503": "503 SERVICE_UNAVAILABLE", "401": "401 UNAUTHORIZED", "403-bare": "403 empty", "cut": "cut"} {
		sim := klarnasim.New(klarnasim.Options{})
		made := order(sim, "ok-1", "before")
		sim.Change(func(o *klarnasim.Options) { o.Outage = outage })
		for name, got := range map[string]said{
			"order":     order(sim, "ok-1", "key"),
			"token":     ask(sim, "GET", "/customer-token/v1/tokens/ok-1", "", ""),
			"cancel":    ask(sim, "PATCH", "/customer-token/v1/tokens/ok-1/status", "", `{"status":"CANCELLED"}`),
			"get order": ask(sim, "GET", "/ordermanagement/v1/orders/"+made.OrderID, "", ""),
			"capture":   ask(sim, "POST", "/ordermanagement/v1/orders/"+made.OrderID+"/captures", "c", `{"captured_amount":1}`),
		} {
			if inWords(got) != want {
				t.Errorf("outage %s: %s is answered %q, want %q", outage, name, inWords(got), want)
			}
		}
		sim.Change(func(o *klarnasim.Options) { o.Outage = "" })
		if got := inWords(order(sim, "ok-1", "key")); got != "200 ACCEPTED" {
			t.Errorf("after the outage %s: %s", outage, got)
		}
	}
}

func TestWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	sim := klarnasim.New(klarnasim.Options{})
	for _, row := range []struct {
		name string
		got  said
		want int
	}{
		{"form data", ask(sim, "POST", "/customer-token/v1/tokens/ok-1/order", "k", monthly, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }), 415},
		{"more than a megabyte", ask(sim, "POST", "/customer-token/v1/tokens/ok-1/order", "k", monthly+strings.Repeat(" ", 1<<20)), 413},
		{"half a body", ask(sim, "POST", "/customer-token/v1/tokens/ok-1/order", "k", monthly, func(r *http.Request) { r.Body = io.NopCloser(&broken{}) }), 0},
		{"another method", ask(sim, "PUT", "/customer-token/v1/tokens/ok-1/order", "k", monthly), 405},
		{"another path", ask(sim, "POST", "/customer-token/v2/tokens/ok-1/order", "k", monthly), 404},
	} {
		if row.got.Status != row.want {
			t.Errorf("%s: %d, want %d", row.name, row.got.Status, row.want)
		}
	}
	if books := sim.Books(); len(books.Orders) != 0 || len(books.Keys) != 0 {
		t.Errorf("books %+v, want none", books)
	}
}

type broken struct{ read bool }

func (b *broken) Read(p []byte) (int, error) {
	if b.read {
		return 0, io.ErrUnexpectedEOF
	}
	b.read = true
	return copy(p, monthly), nil
}

func TestBooks(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	sim := klarnasim.New(klarnasim.Options{KeepBodies: true, Now: func() time.Time { return now }})
	pretty := strings.Replace(monthly, `"purchase_currency":"EUR"`, "\"purchase_currency\" :\t\"EUR\", \"new_field\": \"ä\\u00e4<>\"", 1)
	made := ask(sim, "POST", "/customer-token/v1/tokens/ok-1/order", "key", pretty)
	for i := range 1200 {
		order(sim, "ok-2", fmt.Sprint("many-", i))
	}
	order(sim, "cancelled-1", "refused")
	books := sim.Books()
	got := books.Orders[0]
	want := klarnasim.Order{
		OrderID: made.OrderID, IdempotencyKey: "key", Username: "merchant", TokenFingerprint: "e43010e4c07c", OrderAmount: 1599,
		PurchaseCurrency: "EUR", MerchantReference1: "1234834-2026-12", FraudStatus: "ACCEPTED", Captured: true, CapturedAmount: 1599,
		Captures: []klarnasim.Capture{}, CreatedAt: now, Body: klarnasim.Text(pretty),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if text := fmt.Sprintf("%+v", books); strings.Contains(text, "ok-2") {
		t.Error("the books name a token")
	}
	if books.Counts.Orders != 1201 || books.OrderAmount != 1201*1599 || books.Requests != 1202 || books.Statuses[200] != 1201 || books.Statuses[403] != 1 {
		t.Errorf("counts %+v", books.Counts)
	}

	// The same by HTTP, which pages through them.
	text := ask(sim, "GET", "/sim/books", "", "").Body
	var read klarnasim.Books
	if err := json.Unmarshal([]byte(text), &read); err != nil {
		t.Fatal(err)
	}
	byKey := func(a, b klarnasim.Key) int { return strings.Compare(a.IdempotencyKey, b.IdempotencyKey) }
	slices.SortFunc(books.Keys, byKey)
	slices.SortFunc(read.Keys, byKey)
	if !reflect.DeepEqual(read, books) {
		t.Error("GET /sim/books differs from Books()")
	}
	if i := slices.IndexFunc(read.Keys, func(k klarnasim.Key) bool { return k.IdempotencyKey == "refused" }); i < 0 || read.Keys[i].ErrorCode != "TOKEN_CANCELLED" {
		t.Error("the refused key is not in the books")
	}
	var counts klarnasim.Counts
	if err := json.Unmarshal([]byte(ask(sim, "GET", "/sim/counts", "", "").Body), &counts); err != nil || !reflect.DeepEqual(counts, books.Counts) {
		t.Errorf("GET /sim/counts: %+v, error %v", counts, err)
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	sim := klarnasim.New(klarnasim.Options{})
	made := order(sim, "pending-1", "first")
	do := func(method, path, body string, want int) {
		t.Helper()
		if got := ask(sim, method, path, "", body); got.Status != want {
			t.Errorf("%s %s %s: %d %s, want %d", method, path, body, got.Status, got.Body, want)
		}
	}
	expect := func(key, want string) {
		t.Helper()
		if got := inWords(order(sim, "customer", key)); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	do("PUT", "/sim/tokens/customer", `{"status":"CANCELLED"}`, 204)
	expect("a", "403 TOKEN_CANCELLED")
	do("PUT", "/sim/tokens/customer", `{"behaviour":"cutx1"}`, 204)
	expect("b", "cut")
	expect("b", "200 ACCEPTED")
	do("POST", "/sim/advance", `{"duration":"25h"}`, 204)
	expect("a", "cut") // the refusal is forgotten
	do("PATCH", "/sim/options", `{"outage":"503","latency":"0s","rate":0}`, 204)
	expect("c", "503 SERVICE_UNAVAILABLE")
	do("PATCH", "/sim/options", `{"outage":"","username":"somebody else"}`, 204)
	expect("d", "401 UNAUTHORIZED")
	do("PATCH", "/sim/options", `{"username":""}`, 204)
	do("PUT", "/sim/orders/"+made.OrderID, `{"fraud_status":"ACCEPTED"}`, 204)
	if got := sim.Books().Orders[0].FraudStatus; got != "ACCEPTED" {
		t.Errorf("fraud status %s, want ACCEPTED", got)
	}
	do("PUT", "/sim/orders/none", `{"fraud_status":"ACCEPTED"}`, 400)
	do("PATCH", "/sim/options", `{"latncy":"1s"}`, 400)
	do("PATCH", "/sim/options", `{"latency":1}`, 400)
	do("PATCH", "/sim/options", `{"latency":"-1s"}`, 400)
	do("PATCH", "/sim/options", `{"faults":2}`, 400)
	do("PATCH", "/sim/options", `{"outage":"soon"}`, 400)
	do("POST", "/sim/advance", `{}x`, 204)
	do("POST", "/sim/reset", "", 204)
	if n := sim.Counts().Requests; n != 0 {
		t.Errorf("%d requests after a reset", n)
	}
}

func TestLogHasNoToken(t *testing.T) {
	t.Parallel()
	var log []klarnasim.Exchange
	sim := klarnasim.New(klarnasim.Options{Log: func(e klarnasim.Exchange) { log = append(log, e) }})
	made := order(sim, "ok-1", "key")
	order(sim, "cut-1", "other")
	order(sim, "503-bare-1", "third")
	order(sim, "cancelled-1", "fourth")
	for i := range log {
		if len(log[i].TokenFingerprint) != 12 {
			t.Errorf("fingerprint %q", log[i].TokenFingerprint)
		}
		log[i].TokenFingerprint = ""
	}
	const path = "/customer-token/v1/tokens/{token}/order"
	want := []klarnasim.Exchange{
		{Method: "POST", Path: path, IdempotencyKey: "key", Status: 200, OrderID: made.OrderID},
		{Method: "POST", Path: path, IdempotencyKey: "other"},
		{Method: "POST", Path: path, IdempotencyKey: "third", Status: 503},
		{Method: "POST", Path: path, IdempotencyKey: "fourth", Status: 403, ErrorCode: "TOKEN_CANCELLED"},
	}
	if !slices.Equal(log, want) {
		t.Errorf("got  %+v\nwant %+v", log, want)
	}
}

// Faults depend on the seed, the key and the try, and on nothing else: not on who comes first.
func TestFaultsAreRepeatable(t *testing.T) {
	t.Parallel()
	play := func(seed uint64, backwards bool) map[string]string {
		sim := klarnasim.New(klarnasim.Options{Seed: seed, Faults: 0.5, LateBy: time.Nanosecond})
		seen := map[string]string{}
		for i := range 300 {
			if backwards {
				i = 299 - i
			}
			key := fmt.Sprint("key-", i)
			for range 40 {
				got := order(sim, "ok-1", key)
				seen[key] += inWords(got) + ";"
				if got.Status == 200 && !got.Cut && got.OrderID != "" {
					break
				}
			}
		}
		if n := len(sim.Books().Orders); n != 300 {
			t.Errorf("seed %d: %d orders, want 300: a fault must not cost or make an order", seed, n)
		}
		return seen
	}
	one, again, other := play(1, false), play(1, true), play(2, false)
	if !reflect.DeepEqual(one, again) {
		t.Error("the same seed gave other faults")
	}
	if reflect.DeepEqual(one, other) {
		t.Error("another seed gave the same faults")
	}
	all := fmt.Sprint(one)
	for _, fault := range []string{"429 TOO_MANY", "503 SERVICE_UNAVAILABLE", "503 empty", "502 html", "500 INTERNAL", "cut;", "200 cut half", "200 empty", "200 half"} {
		if !strings.Contains(all, fault) {
			t.Errorf("in 300 renewals with every second try failing, nobody met %q", fault)
		}
	}
}

func TestLatencyDistribution(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := klarnasim.New(klarnasim.Options{Latency: 300 * time.Millisecond, LatencyP99: 2 * time.Second})
		took := make([]time.Duration, 2000)
		var wait sync.WaitGroup
		for i := range took {
			wait.Go(func() {
				start := time.Now()
				order(sim, "ok-1", fmt.Sprint(i))
				took[i] = time.Since(start)
			})
		}
		wait.Wait()
		slices.Sort(took)
		if median := took[1000]; median < 275*time.Millisecond || median > 325*time.Millisecond {
			t.Errorf("median %v, want about 300ms", median)
		}
		if p99 := took[1980]; p99 < 1400*time.Millisecond || p99 > 2700*time.Millisecond {
			t.Errorf("99th percentile %v, want about 2s", p99)
		}
	})
}
