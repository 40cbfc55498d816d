package klarnasim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

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
	first   map[string]string          // token or order that declines once → the first key used with it
	refunds uint64                     // that were given
	lies    map[uint64]map[LieKind]Lie // by number of the order
	settled *settlements               // until something changes
	windows map[string]*window
}

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

// order is an order in the books. There may be a million: its fields are as small as they can be.
type order struct {
	number         uint64 // place in the books, and end of its id
	key            string
	username       string
	token          fingerprint
	currency       [3]byte
	ending         ending
	autoCapture    bool
	cancelled      bool
	amount         int64
	reference1     string
	reference2     string
	createdAt      moment
	turnsAt        moment // for an ending that turns by itself
	turned         string // fraud status set by hand
	turnedByHandAt moment
	body           []byte
	captures       []capture // by hand; an automatic one is not kept
	refunds        []refund
	padding        int // of its id
}

type capture struct {
	id, key, reference string
	amount             int64
	at                 moment
	body               []byte
}

// moment is a time in nanoseconds since 1970.
type moment int64

func (m moment) after(d time.Duration) moment { return m + moment(d) }
func (m moment) time() time.Time              { return time.Unix(0, int64(m)).UTC() }

// fingerprint is how logs and books name a customer token: the first 6 bytes of its SHA-256.
type fingerprint [6]byte

func fingerprintOf(token string) fingerprint {
	sum := sha256.Sum256([]byte(token))
	return fingerprint(sum[:6])
}

func (f fingerprint) String() string {
	if f == (fingerprint{}) {
		return ""
	}
	return hex.EncodeToString(f[:])
}

// operation is what an idempotency key is for.
type operation uint8

// recordID is what a key is remembered by. Neither the path nor the body matters.
type recordID struct {
	operation operation
	key       string
}

// record is what is remembered of an idempotency key.
type record struct {
	recordID
	token   fingerprint
	firstAt moment
	sha256  [sha256.Size]byte // of the first body
	tries   int
	others  int // tries with another body
	busy    bool
	late    bool          // its order or capture comes later
	done    chan struct{} // made by the first who waits for busy to end
	order   *order        // its result: an order, or
	result  *reply        // a refusal, or a capture of order
}

// lateResult is an order or a capture whose time is yet to come.
type lateResult struct {
	at    moment
	enter func(now moment) // with the lock held
}

const maxBody = 1 << 20 // https://docs.klarna.com/api/request-limits/

// Counts sums up the books.
type Counts struct {
	// Requests to Klarna's API, whatever became of them.
	Requests int `json:"requests"`
	// Statuses counts the requests by the status of the answer; 0 is a connection cut without one.
	Statuses map[int]int `json:"statuses"`
	Orders   int         `json:"order_count"`
	// OrderAmount is the sum of all orders in minor units, whatever their currencies.
	OrderAmount int64 `json:"order_amount"`
	// Captures that were asked for; auto_capture is not counted.
	Captures int `json:"captures"`
	// CapturedAmount is the sum of those captures in minor units, whatever their currencies.
	CapturedAmount int64 `json:"captured_amount"`
	// WithoutKey counts orders and captures asked for without an idempotency key.
	WithoutKey int `json:"without_key"`
	// OtherBodies counts tries whose body differed from the first of their key. Klarna ignores the difference; whoever
	// makes it believes to charge something else.
	OtherBodies int `json:"other_bodies"`
	// KeysExpired counts keys that were used again after 24 hours, and charged or captured again.
	KeysExpired int `json:"keys_expired"`
}

// quota is what a merchant has left, as the X-Ratelimit headers tell it.
// https://docs.klarna.com/api-reference/rate-limit/
type quota struct {
	rate, remaining int
	exceeded        bool
}

// window counts the requests of one merchant in one second.
type window struct {
	second int64
	used   int
}

// TokenState is what has been said of a token by hand or by PATCH; it goes before what the token's beginning says.
type TokenState struct {
	// Status ACTIVE, SUSPENDED or CANCELLED; "" leaves it to the beginning.
	Status string `json:"status,omitempty"`
	// Behaviour is a beginning as in the package comment, like "soft-decline"; "" leaves it to the token's own.
	Behaviour string `json:"behaviour,omitempty"`
}

// now is the simulated time. The lock must be held.
func (s *Simulator) now() moment { return moment(s.options.Load().Now().Add(s.ahead).UnixNano()) }

func (s *Simulator) clear() {
	s.ahead, s.counts, s.orders, s.late = 0, Counts{Statuses: map[int]int{}}, nil, nil
	s.records, s.tokens = map[recordID]*record{}, map[string]TokenState{}
	s.first, s.windows = map[string]string{}, map[string]*window{}
	s.refunds, s.lies, s.settled = 0, map[uint64]map[LieKind]Lie{}, nil
}

// Close ends all waiting: requests that are delayed are cut. It does not close connections; see [Server.Close].
func (s *Simulator) Close() { s.halt.Do(func() { close(s.stop) }) }

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

// firstKey reports whether key is the first that was used for something. The lock must be held.
func (s *Simulator) firstKey(something, key string) bool {
	if _, used := s.first[something]; !used {
		s.first[something] = key
	}
	return s.first[something] == key
}

// enter puts an order into the books. The lock must be held.
func (s *Simulator) enter(rec *record, o *order, now moment) {
	o.number, o.createdAt = uint64(len(s.orders)), now
	o.turnsAt = now.after(s.options.Load().PendingFor)
	if o.autoCapture {
		o.captureLess(s.options.Load())
	}
	s.orders = append(s.orders, o)
	s.counts.Orders++
	s.counts.OrderAmount += o.amount
	rec.order = o
}

// captureLess leaves an order authorised, all of it or a part, that was to be captured at once: as Klarna may do with
// auto_capture where that is not approved, of which nothing is documented.
// https://docs.klarna.com/payments/web-payments/additional-resources/use-cases/automatic-capture/
func (o *order) captureLess(options *Options) {
	switch o.ending {
	case partlyCaptured:
		o.captures = append(o.captures, capture{id: uuid(options.Seed, o.number, 'a'), amount: o.amount / 2, at: o.createdAt})
		fallthrough
	case uncaptured:
		o.autoCapture = false
	}
}

// settleLate makes the orders and captures whose time has come. The lock must be held.
func (s *Simulator) settleLate(now moment) {
	if len(s.late) == 0 {
		return
	}
	waiting := s.late[:0]
	for _, l := range s.late {
		if now < l.at {
			waiting = append(waiting, l)
			continue
		}
		l.enter(l.at)
	}
	s.late = waiting
}

func (o *order) id(options *Options) string {
	return padded(uuid(options.Seed, o.number, 'o'), o.padding)
}

// padded is an id of at least n characters.
func padded(id string, n int) string { return strings.Repeat("0", max(n-len(id), 0)) + id }

// fraudStatus is the order's status by now.
func (o *order) fraudStatus(now moment) string {
	switch {
	case o.turned != "":
		return o.turned
	case o.ending == noFraudStatus, o.ending == pendingAccept && now >= o.turnsAt:
		return "ACCEPTED"
	case o.ending == pendingReject && now >= o.turnsAt:
		return "REJECTED"
	}
	return o.ending.fraudStatus()
}

// captured is the amount taken by now: an order with auto_capture is captured as soon as it is accepted.
func (o *order) captured(now moment) int64 {
	if o.autoCapture {
		if o.fraudStatus(now) == "ACCEPTED" {
			return o.amount
		}
		return 0
	}
	var sum int64
	for _, c := range o.captures {
		sum += c.amount
	}
	return sum
}

func (s *Simulator) order(id string) *order {
	s.settleLate(s.now())
	n, ok := number(id[max(len(id)-uuidLength, 0):])
	if !ok || n >= uint64(len(s.orders)) || s.orders[n].id(s.options.Load()) != id {
		return nil
	}
	return s.orders[n]
}

func (r *request) readBody() (body []byte, refusal reply, ok bool) {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return nil, refuse(http.StatusUnsupportedMediaType, "", "Content-Type must be application/json"), false
	}
	var buffer bytes.Buffer
	if n := r.ContentLength; n > 0 && n <= maxBody {
		buffer.Grow(int(n) + bytes.MinRead)
	}
	_, err := buffer.ReadFrom(http.MaxBytesReader(nil, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, refuse(http.StatusRequestEntityTooLarge, "", "The body is larger than 1 MB"), false
	case err != nil:
		return nil, reply{shape: cut}, false // half a request is none
	}
	return buffer.Bytes(), reply{}, true
}

func (s *Simulator) copyCounts() Counts {
	counts := s.counts
	counts.Statuses = maps.Clone(counts.Statuses)
	return counts
}
