// Package klarnasim plays Klarna: it takes orders on customer tokens, keeps books of them, and fails on demand in every
// way that Klarna is known to, because nobody can make Klarna's playground do that.
//
// It promises what Klarna promises: one idempotency key makes one order, or one capture, within 24 hours, and a repetition
// is answered with the first result, whatever its body. It checks requests as strictly as Klarna is known to, and lets pass
// what live integrations send against the schema; Options.StrictSchema refuses that, too.
//
// # Tokens
//
// The beginning of the customer token selects the answer. A token that begins with none of these is an active token whose
// orders are accepted. All counting is by idempotency key: a token may be used for any number of renewals.
//
//	ok-                    accepted; ends the reading, so that any text may follow
//	soft-decline-          403 PAYMENT_METHOD_FAILED
//	soft-decline-once-     the same for the first key used with the token; later keys are accepted
//	unavailable-           403 UNAVAILABLE_PAYMENT_METHOD
//	suspended-             403 TOKEN_SUSPENDED
//	cancelled-  canceled-  403 TOKEN_CANCELLED, 403 TOKEN_CANCELED
//	forbidden-             403 TOKEN_FORBIDDEN
//	not-found-             404 TOKEN_NOT_FOUND; so is 00000000-0000-0000-0000-000000000000, which names nobody
//	currency-mismatch-     403 PAYMENT_METHOD_CURRENCY_MISMATCH
//	bad-request-           400 BAD_REQUEST
//	rejected-              200, fraud_status REJECTED
//	pending-               200, fraud_status PENDING until it is set by hand
//	pending-accept-        200, fraud_status PENDING, ACCEPTED after Options.PendingFor
//	pending-reject-        200, fraud_status PENDING, REJECTED after Options.PendingFor
//	no-fraud-status-       200 without fraud_status
//	capture-declined-      accepted; a later capture is answered 403 PAYMENT_METHOD_FAILED
//	uncaptured-            accepted, and left AUTHORIZED whatever auto_capture says
//	partly-captured-       accepted; with auto_capture half of the amount is captured, the rest can be
//	late-<ms>-             the connection is cut; the order is made that much later, and a try before that is declined. Before
//	                       one of the answers below that answer comes in place of the cut: late-2000-504-, late-900-500-TIMEOUT-
//	lost-cancelled-        the order is made, the connection cut; later tries are answered 403 TOKEN_CANCELLED
//
// These come before another beginning, or before nothing, and can be chained:
//
//	<status>-              300 to 399, always, with a Location elsewhere: 308-; 400 to 599 with Klarna's error object: 401-, 503-
//	<status>-bare-         without a body; <status>-html- with a page of HTML; <status>-SOME_CODE- with that error_code, which
//	                       may be in small letters: 403-payment_method_failed-
//	<status>-uncoded-      with an error object that has fraud_status REJECTED and no error_code; <status>-numbered- with a
//	                       firewall's JSON, whose error_code is a number
//	late-answer-           for the first try 504, and the answer late on the same connection, to whoever asks next there
//	cut-                   the connection is cut without an answer; cut-headers- after the headers, cut-body- in the body
//	empty-200-             200 without a body; no-id-200- with {}; broken-200- with half an answer
//	…x<n>-                 any of these for the first n tries of a key: 503x2-, 503x2-bare-, cutx3-, empty-200x1-
//	created-…              any of these after the order was made (or refused): created-500-, created-cutx3-. Without x<n> for
//	                       the first try only; the next is answered with the stored result
//	slow-<ms>-             takes that much longer, whether or not anybody waits
//	gzip-  br-             answers in this coding, though nobody asked for it (what is said to be br is none)
//	long-id-<n>-           the id of the order, or of the capture, has n characters: long-id-70000-
//	conflict-in-flight-    a second request with a key at work is answered 409 CONFLICT instead of made to wait
//
// So 503x2-soft-decline-7 is a token that fails twice with 503 and is then declined, for each key.
//
// # Captures
//
// In the same way the beginning of a capture's reference selects the answer to that capture, whatever the token of its order:
// 503x2-, created-cut-, slow-<ms>-, conflict-in-flight-, soft-decline- and so on. What is said of orders above goes for
// captures, with these differences: soft-decline-once- counts the keys of an order; pending-, rejected-, no-fraud-status-,
// uncaptured- and partly-captured- mean nothing; under lost-cancelled- later tries are answered 403 CAPTURE_NOT_ALLOWED; and
// what is cut in the headers or in the body, or broken, never tells the Capture-Id.
//
// # Settlements
//
// Each simulated day there is a payout for each merchant and currency, with what was captured and given back on the day
// before; [Simulator.Advance] lets days pass. Every sale has two fees. [Simulator.Lie] makes the reports differ from the
// books in one order's rows.
//
// # Control
//
// Tests in Go use the methods of [Simulator]; everybody else the paths below /sim/ that [Simulator.ServeHTTP] lists.
package klarnasim

import (
	"crypto/subtle"
	"net/http"
	"time"
)

// New returns a simulator with empty books.
func New(options Options) *Simulator {
	if options.Now == nil {
		options.Now = time.Now
	}
	s := &Simulator{stop: make(chan struct{})}
	s.options.Store(options.withDefaults())
	s.clear()
	s.mux = http.NewServeMux()
	s.mux.HandleFunc("POST /customer-token/v1/tokens/{token}/order", s.api(s.createOrder))
	s.mux.HandleFunc("GET /customer-token/v1/tokens/{token}", s.api(s.readToken))
	s.mux.HandleFunc("PATCH /customer-token/v1/tokens/{token}/status", s.api(s.patchToken))
	s.mux.HandleFunc("GET /ordermanagement/v1/orders/{order}", s.api(s.readOrder))
	s.mux.HandleFunc("POST /ordermanagement/v1/orders/{order}/captures", s.api(s.createCapture))
	s.mux.HandleFunc("POST /ordermanagement/v1/orders/{order}/cancel", s.api(s.cancelOrder))
	s.mux.HandleFunc("POST /ordermanagement/v1/orders/{order}/refunds", s.api(s.createRefund))
	s.mux.HandleFunc("GET /settlements/v1/payouts", s.settlement(listPayouts))
	s.mux.HandleFunc("GET /settlements/v1/payouts/summary", s.settlement(sumPayouts))
	s.mux.HandleFunc("GET /settlements/v1/payouts/{reference}", s.settlement(readPayout))
	s.mux.HandleFunc("GET /settlements/v1/transactions", s.settlement(s.listTransactions))
	s.mux.HandleFunc("GET /settlements/v1/reports/payout-with-transactions", s.settlement(s.reportPayout))
	s.mux.HandleFunc("GET /settlements/v1/reports/payouts-summary-with-transactions", s.settlement(s.reportPayouts))
	s.control()
	return s
}

// ServeHTTP answers Klarna's Customer Token API (order, read, cancel), Order Management API (read, capture, refund, cancel) and
// Settlements API (all but the PDF reports), and
//
//	GET   /sim/books           all orders and idempotency keys, as [Books]
//	GET   /sim/counts          the numbers only, as [Counts]
//	POST  /sim/reset           forget everything but the options
//	POST  /sim/advance         {"duration":"25h"}: move the clock on
//	PATCH /sim/options         {"latency":"300ms","latency_p99":"2s","rate":50,"username":"u","password":"p","faults":0.01,
//	                           "outage":"503","pending_for":"1m","authorized_for":"48h","strict_schema":true,"forget_errors":true,
//	                           "conflict_in_flight":true,"report":{"delimiter":",","decimal":",","dates":"02.01.2006",
//	                           "columns":["type","amount"],"no_totals":true,"signed":true,"bom":true,"crlf":true}}: any of them
//	PUT   /sim/tokens/{token}  {"behaviour":"soft-decline"} and {"status":"SUSPENDED"}: instead of what its beginning says
//	PUT   /sim/orders/{order}  {"fraud_status":"ACCEPTED"}
//	POST  /sim/lies            {"order_id":"…","lie":"row_missing"}: what the settlements say that is not so, see [Lie]; DELETE forgets all
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Change alters the options that can change while the simulator runs; the others are ignored.
func (s *Simulator) Change(alter func(*Options)) {
	for {
		before := s.options.Load()
		after := *before
		alter(&after)
		after.Addr, after.Seed, after.Now = before.Addr, before.Seed, before.Now
		after.KeepBodies, after.Log = before.KeepBodies, before.Log
		if s.options.CompareAndSwap(before, after.withDefaults()) {
			return
		}
	}
}

// Advance moves the simulator's clock on: keys and authorisations expire, pending orders turn.
func (s *Simulator) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += d
}

// Reset forgets all orders, keys, tokens and counts, and moves the clock back.
func (s *Simulator) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

// api wraps an operation in what all of them have in common: counting, credentials, the rate limit, and the reply.
func (s *Simulator) api(operation func(*request) reply) http.HandlerFunc {
	return func(w http.ResponseWriter, plain *http.Request) {
		r := &request{Request: plain, options: s.options.Load(), serial: s.serial.Add(1), token: plain.PathValue("token")}
		if r.token != "" {
			r.fingerprint = fingerprintOf(r.token)
		}
		var limit quota
		var answer reply
		if refusal, ok := r.authenticate(); !ok {
			answer = refusal
		} else if limit = s.spend(r); limit.exceeded {
			answer = refuse(http.StatusTooManyRequests, "", "Too many requests")
		} else {
			answer = operation(r)
		}
		limit.describe(w.Header())
		s.record(r, answer)
		answer.write(w, uuid(r.options.Seed, r.serial, 'c'))
	}
}

func (r *request) authenticate() (reply, bool) {
	username, password, ok := r.BasicAuth()
	r.username = username
	if !ok {
		return reply{status: http.StatusUnauthorized, shape: bare}, false
	}
	same := func(got, want string) bool {
		return want == "" || subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
	}
	if !same(username, r.options.Username) || !same(password, r.options.Password) {
		return refuse(http.StatusUnauthorized, "", "Invalid credentials"), false
	}
	return reply{}, true
}
