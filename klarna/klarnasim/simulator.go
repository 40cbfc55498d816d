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
// captures, with these differences: soft-decline-once- counts the keys of an order; pending-, rejected- and no-fraud-status-
// mean nothing; under lost-cancelled- later tries are answered 403 CAPTURE_NOT_ALLOWED; and what is cut in the headers or in
// the body, or broken, never tells the Capture-Id.
//
// # Control
//
// Tests in Go use the methods of [Simulator]; everybody else the paths below /sim/ that [Simulator.ServeHTTP] lists.
package klarnasim

import (
	"crypto/subtle"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a [Simulator]. The zero value answers at once, accepts any credentials and limits nothing.
type Options struct {
	// Addr to listen on, for [Start]. Default 127.0.0.1:0, any free port.
	Addr string
	// Seed of everything random: order ids, latencies, Faults. The same seed and keys give the same faults.
	Seed uint64
	// Now is the clock to which Advance adds. Default time.Now.
	Now func() time.Time
	// KeepBodies keeps the bytes of every order's body in the books. A run of a million orders is better off without.
	KeepBodies bool
	// Log, where set, is told of every request once it is answered. It is called concurrently.
	Log func(Exchange)

	// What follows can be changed while the simulator runs, see [Simulator.Change].

	// Latency before each answer; the median, where LatencyP99 is set. Default none.
	Latency time.Duration
	// LatencyP99 is the 99th percentile of a log-normal latency. Default 0: every answer takes Latency.
	LatencyP99 time.Duration
	// Rate is the number of requests per second and user name before 429. Default 0: no limit, and no X-Ratelimit headers.
	Rate int
	// Username and Password are checked where set. A request without Basic credentials is always answered 401.
	Username, Password string
	// Faults is the share of tries, 0 to 1, that fail at random: 429, 5xx with and without an error object, cut
	// connections, unreadable answers, before and after the order or the capture is made, and 5xx and 408 that come LateBy
	// before it is made. Default 0.
	Faults float64
	// LateBy is how long Klarna is still at work on a request that it has answered so. Default 30 s; Klarna gives up at 59 s.
	LateBy time.Duration
	// Outage is the beginning of a token, like "503" or "cut", that every request suffers in addition, reading a token
	// included: "404-bare" is a proxy that knows no path, "308" a host that has moved. Default "".
	Outage string
	// PendingFor is how long pending-accept- and pending-reject- stay PENDING. Default 2 s.
	PendingFor time.Duration
	// AuthorizedFor is how long an order without auto_capture can be captured, from when it was made. Default 28 days, as
	// with Klarna: https://docs.klarna.com/order-management/manage-orders-with-the-api/refund-and-extend-orders/extend-order-authorization/
	AuthorizedFor time.Duration
	// ForgetErrors evaluates a refused order or capture again when its key is repeated, instead of repeating the refusal. Klarna
	// documents neither.
	ForgetErrors bool
	// StrictSchema refuses also what Klarna's published schema does not allow and Klarna is not known to refuse: optional texts
	// of another length, country codes of another form, totals that are off by a rounded unit price.
	StrictSchema bool
	// ConflictInFlight answers 409 to a second request whose key is at work, instead of making it wait. Klarna documents
	// neither.
	ConflictInFlight bool
}

// Exchange is one request and what was answered.
type Exchange struct {
	Method           string
	Path             string // without the customer token
	TokenFingerprint string
	IdempotencyKey   string
	Status           int    // 0: cut without an answer
	ErrorCode        string // of Klarna's error object, "" without one
	OrderID          string
	CaptureID        string
}

// KeyValidity is how long a key is remembered.
// https://docs.klarna.com/api/escalation-and-retry-policy
const KeyValidity = 24 * time.Hour

// Simulator is Klarna as one merchant sees it: an [http.Handler] with books.
type Simulator struct {
	options atomic.Pointer[Options]
	mux     *http.ServeMux
	serial  atomic.Uint64 // of requests, for ids and latencies
	stop    chan struct{} // closed when waiting is of no use any more
	halt    sync.Once

	mu      sync.Mutex
	ahead   time.Duration // of the clock, by Advance
	counts  Counts
	orders  []*order
	records map[recordID]*record
	late    []lateResult
	tokens  map[string]TokenState
	first   map[string]string // token or order that declines once → the first key used with it
	windows map[string]*window
}

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
	s.control()
	return s
}

func (o Options) withDefaults() *Options {
	if o.PendingFor == 0 {
		o.PendingFor = 2 * time.Second
	}
	if o.LateBy == 0 {
		o.LateBy = 30 * time.Second
	}
	if o.AuthorizedFor == 0 {
		o.AuthorizedFor = 28 * 24 * time.Hour
	}
	return &o
}

// behaviour is what the beginning of a token or of a capture's reference asks for, after what Outage does.
func (o *Options) behaviour(text string) behaviour {
	if o.Outage != "" {
		text = o.Outage + "-" + text
	}
	return parse(text)
}

// ServeHTTP answers Klarna's Customer Token API (order, read, cancel) and Order Management API (read, capture, cancel), and
//
//	GET   /sim/books           all orders and idempotency keys, as [Books]
//	GET   /sim/counts          the numbers only, as [Counts]
//	POST  /sim/reset           forget everything but the options
//	POST  /sim/advance         {"duration":"25h"}: move the clock on
//	PATCH /sim/options         {"latency":"300ms","latency_p99":"2s","rate":50,"username":"u","password":"p","faults":0.01,
//	                           "outage":"503","pending_for":"1m","authorized_for":"48h","strict_schema":true,"forget_errors":true,
//	                           "conflict_in_flight":true}: any of them
//	PUT   /sim/tokens/{token}  {"behaviour":"soft-decline"} and {"status":"SUSPENDED"}: instead of what its beginning says
//	PUT   /sim/orders/{order}  {"fraud_status":"ACCEPTED"}
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

func (s *Simulator) clear() {
	s.ahead, s.counts, s.orders, s.late = 0, Counts{Statuses: map[int]int{}}, nil, nil
	s.records, s.tokens = map[recordID]*record{}, map[string]TokenState{}
	s.first, s.windows = map[string]string{}, map[string]*window{}
}

// Close ends all waiting: requests that are delayed are cut. It does not close connections; see [Server.Close].
func (s *Simulator) Close() { s.halt.Do(func() { close(s.stop) }) }

// now is the simulated time. The lock must be held.
func (s *Simulator) now() moment { return moment(s.options.Load().Now().Add(s.ahead).UnixNano()) }

// request is one request to Klarna's API on its way to a reply.
type request struct {
	*http.Request
	options     *Options
	serial      uint64
	username    string
	token       string // "" where the path has none
	fingerprint fingerprint
	log         Exchange
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

// record counts the reply and tells the log.
func (s *Simulator) record(r *request, answer reply) {
	status := answer.status
	if answer.shape == cut {
		status = 0
	}
	s.mu.Lock()
	s.counts.Requests++
	s.counts.Statuses[status]++
	s.mu.Unlock()
	if r.options.Log == nil {
		return
	}
	r.log.TokenFingerprint = r.fingerprint.String()
	r.log.Method, r.log.Path = r.Method, r.Pattern[len(r.Method)+1:]
	r.log.IdempotencyKey = r.Header.Get("Klarna-Idempotency-Key")
	r.log.Status = status
	if answer.shape == whole {
		r.log.ErrorCode = answer.code
	}
	r.options.Log(r.log)
}

// wait passes d of real time and says whether it did; not when the simulator was closed. It does not end when the client
// goes away: Klarna finishes what it has begun.
func (s *Simulator) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stop:
		return false
	}
}
