package klarnasim_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// authorised makes an order of 1599 that needs captures, and returns its id.
func authorised(sim http.Handler) string {
	byHand := strings.Replace(monthly, `"auto_capture":true`, `"auto_capture":false`, 1)
	return ask(sim, "POST", "/customer-token/v1/tokens/ok-1/order", "order", byHand).OrderID
}

func capture(sim http.Handler, order, key, reference string, amount int64) said {
	return ask(sim, "POST", "/ordermanagement/v1/orders/"+order+"/captures", key, fmt.Sprintf(`{"captured_amount":%d,"reference":%q}`, amount, reference))
}

// captureInWords adds to the words whether the capture's id was told.
func captureInWords(a said) string {
	if a.Header.Get("Capture-Id") != "" {
		return inWords(a) + " id"
	}
	return inWords(a)
}

// Each beginning of a reference, try by try of the same key.
func TestReferences(t *testing.T) {
	t.Parallel()
	const ok = "201 empty id"
	for _, row := range []struct {
		reference string
		tries     []string
		captures  int
	}{
		{"", []string{ok, ok}, 1},
		{"parcel 1", []string{ok, ok}, 1},
		{"1234834-2026-12-c1", []string{ok}, 1},
		{"ok-503-cut-1", []string{ok}, 1},
		{"soft-decline-1", []string{"403 PAYMENT_METHOD_FAILED", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"soft-decline-once-1", []string{"403 PAYMENT_METHOD_FAILED", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"capture-declined-1", []string{"403 PAYMENT_METHOD_FAILED"}, 0},
		{"unavailable-1", []string{"403 UNAVAILABLE_PAYMENT_METHOD"}, 0},
		{"bad-request-1", []string{"400 BAD_REQUEST"}, 0},
		{"pending-1", []string{ok}, 1},
		{"rejected-1", []string{ok}, 1},
		{"late-3600000-1", []string{"cut", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"late-0-1", []string{"cut", ok, ok}, 1},
		{"lost-cancelled-1", []string{"cut", "403 CAPTURE_NOT_ALLOWED", "403 CAPTURE_NOT_ALLOWED"}, 1},

		{"401-1", []string{"401 UNAUTHORIZED", "401 UNAUTHORIZED"}, 0},
		{"403-bare-1", []string{"403 empty"}, 0},
		{"409x1-1", []string{"409 CONFLICT", ok}, 1},
		{"429x2-1", []string{"429 TOO_MANY_REQUESTS", "429 TOO_MANY_REQUESTS", ok}, 1},
		{"503x2-1", []string{"503 SERVICE_UNAVAILABLE", "503 SERVICE_UNAVAILABLE", ok}, 1},
		{"502x1-html-soft-decline-1", []string{"502 html", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"cut-1", []string{"cut", "cut"}, 0},
		{"cutx1-1", []string{"cut", ok}, 1},
		{"cut-headersx1-1", []string{"200 cut empty", ok}, 1},
		{"cut-bodyx1-1", []string{"200 cut half", ok}, 1},
		{"empty-200x1-1", []string{"200 empty", ok}, 1},
		{"no-id-200x1-1", []string{"200 {}", ok}, 1},
		{"created-500-1", []string{"500 INTERNAL_SERVER_ERROR", ok, ok}, 1},
		{"created-503-bare-1", []string{"503 empty", ok}, 1},
		{"created-cutx3-1", []string{"cut", "cut", "cut", ok}, 1},
		{"created-cut-headers-1", []string{"200 cut empty", ok}, 1},
		{"created-cut-body-1", []string{"200 cut half", ok}, 1},
		{"created-empty-200-1", []string{"200 empty", ok}, 1},
		{"created-broken-200-1", []string{"200 half", ok}, 1},
		{"created-500-soft-decline-1", []string{"500 INTERNAL_SERVER_ERROR", "403 PAYMENT_METHOD_FAILED"}, 0},
		{"slow-0-503x1-1", []string{"503 SERVICE_UNAVAILABLE", ok}, 1},
	} {
		t.Run(row.reference, func(t *testing.T) {
			t.Parallel()
			sim := klarnasim.New(klarnasim.Options{})
			id := authorised(sim)
			var got []string
			ids := map[string]bool{}
			for range row.tries {
				answer := capture(sim, id, "key", row.reference, 1599)
				got = append(got, captureInWords(answer))
				if told := answer.Header.Get("Capture-Id"); told != "" {
					ids[told] = true
				}
			}
			if !slices.Equal(got, row.tries) || len(ids) > 1 {
				t.Errorf("tries %q with ids %v, want %q", got, ids, row.tries)
			}
			books := sim.Books()
			if n := len(books.Orders[0].Captures); n != row.captures || books.Counts.Captures != n || books.CapturedAmount != int64(n)*1599 || books.Orders[0].CapturedAmount != books.CapturedAmount {
				t.Errorf("captures %+v, counts %+v, want %d", books.Orders[0].Captures, books.Counts, row.captures)
			}
		})
	}
}

// One key, one capture: whatever the body, the order or what has become of the order since. After a day it captures again.
func TestCaptureIdempotency(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	sim := klarnasim.New(klarnasim.Options{Now: func() time.Time { return now }, AuthorizedFor: 47 * time.Hour, KeepBodies: true})
	id := authorised(sim)
	first := capture(sim, id, "key", "parcel 1", 500)
	other := ask(sim, "POST", "/ordermanagement/v1/orders/none/captures", "key", `{"captured_amount":"no amount"}`)
	if got := other.Header.Get("Capture-Id"); other.Status != 201 || got != first.Header.Get("Capture-Id") || other.Header.Get("Location") != first.Header.Get("Location") {
		t.Errorf("same key, other order and body: %+v, want the first answer %+v", other, first)
	}
	if got := order(sim, "ok-1", "key"); got.Status != 200 || got.OrderID == id {
		t.Errorf("the key of a capture as that of an order: %+v, want an order", got)
	}
	books := sim.Books()
	want := []klarnasim.Capture{{
		CaptureID: first.Header.Get("Capture-Id"), IdempotencyKey: "key", CapturedAmount: 500, Reference: "parcel 1", CapturedAt: now,
		Body: klarnasim.Text(`{"captured_amount":500,"reference":"parcel 1"}`),
	}}
	if got := books.Orders[0]; !reflect.DeepEqual(got.Captures, want) || got.CapturedAmount != 500 || got.Captured || books.OtherBodies != 1 {
		t.Errorf("got  %+v, %d other bodies\nwant %+v, 1", got, books.OtherBodies, want)
	}
	i := slices.IndexFunc(books.Keys, func(k klarnasim.Key) bool { return k.Operation == "capture" })
	if k := books.Keys[i]; k.IdempotencyKey != "key" || k.Tries != 2 || k.OrderID != id || k.CaptureID != want[0].CaptureID || k.ErrorCode != "" {
		t.Errorf("key %+v", k)
	}

	sim.Advance(24*time.Hour - time.Second)
	if got := capture(sim, id, "key", "parcel 1", 500); got.Header.Get("Capture-Id") != want[0].CaptureID {
		t.Errorf("within 24 h: %+v, want the first answer", got)
	}
	sim.Advance(time.Second)
	if got := capture(sim, id, "key", "parcel 1", 500); got.Status != 201 || got.Header.Get("Capture-Id") == want[0].CaptureID {
		t.Errorf("after 24 h: %+v, want another capture", got)
	}
	sim.Advance(23 * time.Hour)
	if got := capture(sim, id, "key", "parcel 1", 500); got.Status != 201 {
		t.Errorf("the key's answer after the authorisation: %+v", got)
	}
	books = sim.Books()
	if got := books.Orders[0].Captures; len(got) != 2 || got[0].IdempotencyKey != got[1].IdempotencyKey || books.KeysExpired != 1 {
		t.Errorf("captures %+v, %d keys expired: want the doubled capture to be seen", got, books.KeysExpired)
	}
	if a, b := capture(sim, id, "", "", 1), capture(sim, id, "", "", 1); a.Code != "CAPTURE_NOT_ALLOWED" || b.Code != "CAPTURE_NOT_ALLOWED" || sim.Counts().WithoutKey != 2 {
		t.Errorf("without a key, after the authorisation: %+v and %+v", a, b)
	}
}

func TestCaptureRefusalsAreRepeatedOrForgotten(t *testing.T) {
	t.Parallel()
	for _, forget := range []bool{false, true} {
		sim := klarnasim.New(klarnasim.Options{ForgetErrors: forget})
		pending := ask(sim, "POST", "/customer-token/v1/tokens/pending-1/order", "order", strings.Replace(monthly, `"auto_capture":true`, `"auto_capture":false`, 1)).OrderID
		if got := capture(sim, pending, "key", "", 1599); got.Code != "CAPTURE_NOT_ALLOWED" {
			t.Errorf("pending: %+v", got)
		}
		if !sim.SetFraudStatus(pending, "ACCEPTED") {
			t.Fatal("no such order")
		}
		if got, want := capture(sim, pending, "key", "", 1599).Status, map[bool]int{false: 403, true: 201}[forget]; got != want {
			t.Errorf("ForgetErrors %v, same key: %d, want %d", forget, got, want)
		}
		if got, want := capture(sim, pending, "new key", "", 1599).Status, map[bool]int{false: 201, true: 403}[forget]; got != want {
			t.Errorf("ForgetErrors %v, new key: %d, want %d", forget, got, want)
		}
	}
	// Once for an order, whatever the reference.
	sim := klarnasim.New(klarnasim.Options{})
	id := authorised(sim)
	for range 2 {
		if got := captureInWords(capture(sim, id, "first", "soft-decline-once-1", 500)); got != "403 PAYMENT_METHOD_FAILED" {
			t.Errorf("first key: %s", got)
		}
	}
	if got := captureInWords(capture(sim, id, "second", "soft-decline-once-2", 500)); got != "201 empty id" {
		t.Errorf("second key: %s", got)
	}
}

// A capture that comes late takes what the order has then.
func TestLateCapture(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		name      string
		meanwhile func(sim *klarnasim.Simulator, id string)
		then      string
		captured  int64
	}{
		{name: "nothing happens", meanwhile: func(*klarnasim.Simulator, string) {}, then: "201 empty id", captured: 1000},
		{name: "another takes a part that leaves enough", meanwhile: func(sim *klarnasim.Simulator, id string) { capture(sim, id, "other", "", 599) }, then: "201 empty id", captured: 1599},
		{name: "another takes all", meanwhile: func(sim *klarnasim.Simulator, id string) { capture(sim, id, "other", "", 1599) }, then: "403 CAPTURE_NOT_ALLOWED", captured: 1599},
		{name: "the order is cancelled", meanwhile: func(sim *klarnasim.Simulator, id string) { sim.CancelOrder(id) }, then: "403 CAPTURE_NOT_ALLOWED"},
	} {
		sim := klarnasim.New(klarnasim.Options{Now: func() time.Time { return now }})
		id := authorised(sim)
		if got := captureInWords(capture(sim, id, "key", "late-30000-1", 1000)); got != "cut" {
			t.Errorf("%s: %s, want cut", row.name, got)
		}
		row.meanwhile(sim, id)
		sim.Advance(30*time.Second - 1)
		if got := captureInWords(capture(sim, id, "key", "late-30000-1", 1000)); got != "403 PAYMENT_METHOD_FAILED" {
			t.Errorf("%s: %s before its time", row.name, got)
		}
		sim.Advance(1)
		if got := sim.Books().Orders[0].CapturedAmount; got != row.captured {
			t.Errorf("%s: %d captured, want %d", row.name, got, row.captured)
		}
		if got := captureInWords(capture(sim, id, "key", "late-30000-1", 1000)); got != row.then {
			t.Errorf("%s: %s, want %s", row.name, got, row.then)
		}
	}
}

// The same key at work: the second request waits for the first, or is told 409. Two keys never take more than there is.
func TestCapturesInFlight(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, reference string
		keys            [2]string
		options         klarnasim.Options
		statuses        []int // sorted
	}{
		{name: "waits", reference: "slow-1000-ok", keys: [2]string{"k", "k"}, options: klarnasim.Options{}, statuses: []int{201, 201}},
		{name: "conflict by reference", reference: "slow-1000-conflict-in-flight-ok", keys: [2]string{"k", "k"}, options: klarnasim.Options{}, statuses: []int{201, 409}},
		{name: "conflict by option", reference: "slow-1000-ok", keys: [2]string{"k", "k"}, options: klarnasim.Options{ConflictInFlight: true}, statuses: []int{201, 409}},
		{name: "two keys", reference: "slow-1000-ok", keys: [2]string{"k", "l"}, options: klarnasim.Options{}, statuses: []int{201, 403}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim := klarnasim.New(row.options)
				id := authorised(sim)
				answers := make([]said, 2)
				var wait sync.WaitGroup
				for i := range answers {
					wait.Go(func() { answers[i] = capture(sim, id, row.keys[i], row.reference, 1000) })
					synctest.Wait()
				}
				wait.Wait()
				statuses := []int{answers[0].Status, answers[1].Status}
				slices.Sort(statuses)
				if !slices.Equal(statuses, row.statuses) || sim.Counts().Captures != 1 {
					t.Errorf("statuses %v, %d captures, want %v, 1", statuses, sim.Counts().Captures, row.statuses)
				}
			})
		})
	}
}

func TestCancelOrder(t *testing.T) {
	t.Parallel()
	sim := klarnasim.New(klarnasim.Options{})
	id := authorised(sim)
	cancel := func(id string) string {
		return inWords(ask(sim, "POST", "/ordermanagement/v1/orders/"+id+"/cancel", "", ""))
	}
	for range 2 {
		if got := cancel(id); got != "204 empty" {
			t.Errorf("cancel: %s, want 204", got)
		}
	}
	var read struct {
		Status string `json:"status"`
		Left   int64  `json:"remaining_authorized_amount"`
	}
	text := ask(sim, "GET", "/ordermanagement/v1/orders/"+id, "", "").Body
	if err := json.Unmarshal([]byte(text), &read); err != nil || read.Status != "CANCELLED" || read.Left != 0 || !sim.Books().Orders[0].Cancelled {
		t.Errorf("order %s, want CANCELLED with nothing left", text)
	}
	if got := capture(sim, id, "key", "", 1); got.Code != "CAPTURE_NOT_ALLOWED" {
		t.Errorf("capture of a cancelled order: %+v", got)
	}
	if got := cancel("none"); got != "404 NO_SUCH_ORDER" {
		t.Errorf("cancel of no order: %s", got)
	}
	if got := cancel(order(sim, "ok-1", "captured by itself").OrderID); got != "403 CANCEL_NOT_ALLOWED" {
		t.Errorf("cancel of a captured order: %s", got)
	}
	if sim.CancelOrder("none") {
		t.Error("cancelled an order that does not exist")
	}
}

// How long an authorisation lasts can be changed, also for orders that are there.
func TestAuthorizedFor(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	sim := klarnasim.New(klarnasim.Options{Now: func() time.Time { return now }})
	id := authorised(sim)
	expires := func() string {
		var read struct {
			ExpiresAt string `json:"expires_at"`
		}
		_ = json.Unmarshal([]byte(ask(sim, "GET", "/ordermanagement/v1/orders/"+id, "", "").Body), &read)
		return read.ExpiresAt
	}
	if got := expires(); got != "2026-12-29T00:00:00Z" {
		t.Errorf("expires %s, want 28 days after the order", got)
	}
	if got := ask(sim, "PATCH", "/sim/options", "", `{"authorized_for":"48h"}`).Status; got != 204 {
		t.Errorf("PATCH: %d", got)
	}
	if got := expires(); got != "2026-12-03T00:00:00Z" {
		t.Errorf("expires %s, want 48 h after the order", got)
	}
	sim.Advance(48*time.Hour - 1)
	if got := capture(sim, id, "in time", "", 1).Status; got != 201 {
		t.Errorf("in time: %d", got)
	}
	sim.Advance(1)
	if got := capture(sim, id, "too late", "", 1).Code; got != "CAPTURE_NOT_ALLOWED" {
		t.Errorf("too late: %s", got)
	}
}

func TestCaptureSchema(t *testing.T) {
	t.Parallel()
	sim := klarnasim.New(klarnasim.Options{})
	id := authorised(sim)
	long := strings.Repeat("ä", 256)
	good := line(``)
	for i, row := range []struct{ body, want string }{
		{`{"captured_amount":1,"order_lines":[` + good + `]}`, ""},
		{`{"captured_amount":1,"order_lines":[],"shipping_info":[{"tracking_number":"1"}]}`, ""},
		{`{"captured_amount":200000001}`, "Bad value: captured_amount"},
		{`{"captured_amount":1,"description":"` + long + `"}`, "Bad value: description"},
		{`{"captured_amount":1,"order_lines":[` + good + `,{"name":"x","quantity":1,"unit_price":1,"total_amount":3}]}`, "Bad value: order_lines[1].total_amount"},
		{`{"captured_amount":1,"order_lines":[` + strings.Replace(good, "Streaming", "", 1) + `]}`, "Bad value: order_lines[0].name"},
		{`{"captured_amount":1,"order_lines":[` + good + strings.Repeat(","+good, 1000) + `]}`, "Bad value: order_lines"},
		{`{"captured_amount":-1,"reference":"` + long + `"}`, "Bad value: captured_amount; Bad value: reference"},
	} {
		got := ask(sim, "POST", "/ordermanagement/v1/orders/"+id+"/captures", fmt.Sprint(i), row.body)
		if told := strings.Join(got.Messages, "; "); told != row.want || (got.Status == 201) != (row.want == "") || (got.Code == "BAD_VALUE") != (row.want != "") {
			t.Errorf("%.80s: %d %s %q, want %q", row.body, got.Status, got.Code, told, row.want)
		}
	}
}

func TestLogOfCaptures(t *testing.T) {
	t.Parallel()
	var log []klarnasim.Exchange
	sim := klarnasim.New(klarnasim.Options{Log: func(e klarnasim.Exchange) { log = append(log, e) }})
	id := authorised(sim)
	made := capture(sim, id, "key", "", 1)
	capture(sim, id, "key", "", 1)
	capture(sim, id, "other", "soft-decline-", 1)
	const path = "/ordermanagement/v1/orders/{order}/captures"
	done := klarnasim.Exchange{Method: "POST", Path: path, IdempotencyKey: "key", Status: 201, OrderID: id, CaptureID: made.Header.Get("Capture-Id")}
	want := []klarnasim.Exchange{done, done, {Method: "POST", Path: path, IdempotencyKey: "other", Status: 403, ErrorCode: "PAYMENT_METHOD_FAILED"}}
	if !slices.Equal(log[1:], want) {
		t.Errorf("got  %+v\nwant %+v", log[1:], want)
	}
}
