package klarna_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// talk answers each request on a connection with what reply says to the nth of this connection, n from 1; "" ends it.
func talk(conn net.Conn, seen io.Writer, reply func(n int) string) {
	reader := bufio.NewReader(io.TeeReader(conn, seen))
	for n := 1; ; n++ {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		answer := reply(n)
		if answer == "" {
			return
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

// http11 is an answer as it goes over the wire.
func http11(status int, body string, headers ...string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s", status, len(body), strings.Join(append(headers, ""), "\r\n"), body)
}

// S54: a proxy gives up on a request and answers for Klarna; Klarna's own answer comes late, on the same connection, and is
// taken for the answer to the next request there.
func TestLateAnswerOnTheSameConnection(t *testing.T) {
	t.Parallel()
	const late, own = `{"order_id":"o-of-the-first","fraud_status":"ACCEPTED"}`, `{"order_id":"o-of-the-second","fraud_status":"ACCEPTED"}`
	for _, row := range []struct{ name, first string }{
		{"504", http11(504, "")},
		{"500 with Klarna's object", http11(500, `{"error_code":"TIMEOUT"}`)},
		{"503 with Klarna's object", http11(503, `{"error_code":"SERVICE_UNAVAILABLE"}`)},
		{"502 with a page", http11(502, "<html>")},
		{"200 without an order", http11(200, "{}")},
		{"200 without anything", http11(200, "")},
		{"200 with half an order", http11(200, late[:20])},
		{"200 in a coding nobody asked for", http11(200, late, "Content-Encoding: br")},
		{"a redirect", http11(308, "", "Location: https://elsewhere.example/")},
		{"403 with a page", http11(403, "<html>")},
		{"404 without anything", http11(404, "")},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var connections atomic.Int64
			closed := make(chan struct{})
			w := newWire(t, func(conn net.Conn, seen io.Writer) {
				first := connections.Add(1) == 1
				if first {
					defer close(closed)
				}
				talk(conn, seen, func(n int) string {
					switch {
					case !first:
						return http11(200, own)
					case n == 1:
						return row.first
					}
					return http11(200, late)
				})
			})
			client := newClient(t, w.URL)
			if _, err := charge(client); err == nil {
				t.Fatal("the first try has an order")
			}
			select {
			case <-closed:
			case <-t.Context().Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the connection is still open")
			}
			got, err := charge(client, func(r *klarna.CreateOrderRequest) { r.IdempotencyKey = "key-2" })
			if err != nil || got.OrderID != "o-of-the-second" {
				t.Errorf("order %q, error %v: want the second's own", got.OrderID, err)
			}
			if n := connections.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
}

// S54 under load: a connection is handed to whoever waits for one as soon as an answer is complete, before anybody can have
// judged it.
func TestNobodyUsesASpoiltConnection(t *testing.T) {
	t.Parallel()
	var after, failed, fine atomic.Int64
	w := newWire(t, func(conn net.Conn, seen io.Writer) {
		spoilt := false
		talk(conn, io.Discard, func(n int) string {
			switch {
			case spoilt:
				after.Add(1)
			case n%3 == 0:
				spoilt = true
				failed.Add(1)
				return http11(500, "")
			}
			return http11(200, `{"order_id":"o-1","fraud_status":"ACCEPTED"}`)
		})
	})
	client := newClient(t, w.URL)
	var trying sync.WaitGroup
	for range 16 {
		trying.Go(func() {
			for range 100 {
				if _, err := charge(client); err == nil {
					fine.Add(1)
				}
			}
		})
	}
	trying.Wait()
	if n := after.Load(); n > 0 {
		t.Errorf("%d requests on connections whose last answer was a 500", n)
	}
	if fine, failed := fine.Load(), failed.Load(); fine+failed != 16*100 || failed == 0 {
		t.Errorf("%d tries: %d orders, %d answers 500; the others were cut for nothing", 16*100, fine, failed)
	}
}

// S56: an answer that is compressed although nobody asked for that.
func TestCompressedAnswers(t *testing.T) {
	t.Parallel()
	const order, declined = `{"order_id":"o-1","fraud_status":"ACCEPTED"}`, `{"error_code":"PAYMENT_METHOD_FAILED","error_messages":["m"]}`
	packed := gzipped(t, order)
	for _, row := range []struct {
		name, coding string
		status       int
		body         string
		want         klarna.Class
	}{
		{name: "gzip", coding: "gzip", status: 200, body: packed, want: klarna.ClassOK},
		{name: "gzip by its old name, in capitals", coding: "X-GZIP", status: 200, body: packed, want: klarna.ClassOK},
		{name: "said to be gzip, and unpacked on the way", coding: "gzip", status: 200, body: order, want: klarna.ClassOK},
		{name: "identity", coding: "identity", status: 200, body: order, want: klarna.ClassOK},
		{name: "a refusal", coding: "gzip", status: 403, body: gzipped(t, declined), want: klarna.ClassRefused},
		{name: "an empty refusal", coding: "gzip", status: 403, want: klarna.ClassNotEvaluated},
		{name: "another coding", coding: "br", status: 200, body: order, want: klarna.ClassAnswered2xx},
		{name: "a refusal in another coding may be one of the order", coding: "br", status: 403, body: declined, want: klarna.ClassUnknown},
		{name: "a redirect needs no body", coding: "br", status: 308, body: "x", want: klarna.ClassNotEvaluated},
		{name: "a password needs no body", coding: "br", status: 401, body: "x", want: klarna.ClassNotEvaluated},
		{name: "a refusal with a broken header", coding: "gzip", status: 403, body: "\x1f\x8b\x00 and so on, for long enough", want: klarna.ClassUnknown},
		{name: "a refusal with a broken checksum", coding: "gzip", status: 403, body: gzipped(t, declined)[:len(gzipped(t, declined))-8] + "12345678", want: klarna.ClassUnknown},
		{name: "cut behind the order", coding: "gzip", status: 200, body: packed[:len(packed)-8], want: klarna.ClassOK},
		{name: "cut in the order", coding: "gzip", status: 200, body: packed[:len(packed)/2], want: klarna.ClassAnswered2xx},
		{name: "a page of a megabyte and one byte", coding: "gzip", status: 403, body: gzipped(t, strings.Repeat("x", 1<<20+1)), want: klarna.ClassNotEvaluated},
		{name: "more than anybody reads", coding: "gzip", status: 200, body: gzipped(t, order[:len(order)-1]+`,"x":"`+strings.Repeat("x", 4<<20)+`"}`), want: klarna.ClassAnswered2xx},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, func(conn net.Conn, seen io.Writer) {
				talk(conn, seen, func(int) string { return http11(row.status, row.body, "Content-Encoding: "+row.coding) })
			})
			got, err := charge(newClient(t, w.URL))
			if class := klarna.ClassOf(err); class != row.want {
				t.Fatalf("class %v (%v), want %v", class, err, row.want)
			}
			if row.want == klarna.ClassOK && got.OrderID != "o-1" {
				t.Errorf("order %q", got.OrderID)
			}
			var refused *klarna.Error
			if row.want == klarna.ClassRefused && (!errors.As(err, &refused) || !slices.Equal(refused.Messages, []string{"m"})) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func gzipped(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What the simulator says to everybody, our client reads as it reads the world.
func TestSimulatorSpeaksLikeTheWorld(t *testing.T) {
	t.Parallel()
	server, err := klarnasim.Start(klarnasim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client := newClient(t, server.URL)
	for token, want := range map[string]klarna.Class{
		"gzip-ok-1":                          klarna.ClassOK,
		"gzip-soft-decline-1":                klarna.ClassRefused,
		"br-ok-1":                            klarna.ClassAnswered2xx,
		"301-1":                              klarna.ClassNotEvaluated,
		"302-1":                              klarna.ClassNotEvaluated,
		"303-1":                              klarna.ClassUnknown,
		"307-1":                              klarna.ClassNotEvaluated,
		"308x1-1":                            klarna.ClassNotEvaluated,
		"407-1":                              klarna.ClassNotEvaluated,
		"511-html-1":                         klarna.ClassNotEvaluated,
		"400-uncoded-1":                      klarna.ClassRefused,
		"403-numbered-1":                     klarna.ClassNotEvaluated,
		"403-payment_method_failed-1":        klarna.ClassRefused,
		"long-id-70000-ok-1":                 klarna.ClassOK,
		"late-answer-1":                      klarna.ClassUnknown,
		"503x0-late-answer-gzip-uncoded-ok-": klarna.ClassUnknown,
	} {
		_, err := charge(client, withToken(token), func(r *klarna.CreateOrderRequest) { r.IdempotencyKey = token })
		if got := klarna.ClassOf(err); got != want {
			t.Errorf("%s: class %v (%v), want %v", token, got, err, want)
		}
	}
	_, err = charge(client, withToken("403-payment_method_failed-1"))
	if refused, ok := errors.AsType[*klarna.Error](err); !ok || refused.Code != "payment_method_failed" {
		t.Errorf("a code in small letters: %v", err)
	}
}

// S54, by the simulator: each key gets its own order, though the first answer to each comes late on its connection.
func TestLateAnswersOfTheSimulator(t *testing.T) {
	t.Parallel()
	server, err := klarnasim.Start(klarnasim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client := newClient(t, server.URL)
	seen := map[string]bool{}
	for n := range 3 {
		token := fmt.Sprintf("late-answer-%d", n)
		again := func(r *klarna.CreateOrderRequest) { r.IdempotencyKey = token }
		if _, err := charge(client, withToken(token), again); klarna.ClassOf(err) != klarna.ClassUnknown {
			t.Fatalf("the first try: %v, want a 504", err)
		}
		order, err := charge(client, withToken(token), again)
		if err != nil || seen[order.OrderID] {
			t.Errorf("key %d: order %q, error %v: want an order of its own", n, order.OrderID, err)
		}
		seen[order.OrderID] = true
	}
}

// S55: where the host has moved, the error says where to, and nothing that the server repeats of the request.
func TestRedirectIsNamed(t *testing.T) {
	t.Parallel()
	for location, want := range map[string]string{
		"https://api.moved.example/customer-token/v1/tokens/" + theToken + "/order": "api.moved.example",
		"https://" + theUser + ":" + theKey + "@api.moved.example/":                 "api.moved.example",
		"https://" + theToken + ".moved.example/":                                   "[redacted].moved.example",
		"/elsewhere": "",
		"":           "",
	} {
		server := newRecorder(t, answering(308, "", "Location", location))
		_, err := charge(newClient(t, server.endpoint()))
		refused, ok := errors.AsType[*klarna.Error](err)
		if !ok || refused.RedirectedTo != want || !strings.Contains(err.Error(), want) {
			t.Errorf("Location %q: redirected to %q (%v), want %q", location, refused.RedirectedTo, err, want)
		}
		assertNoSecret(t, err)
	}
}
