package klarnasim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"
)

// order is an order in the books. There may be a million: its fields are as small as they can be.
type order struct {
	number      uint64 // place in the books, and end of its id
	key         string
	username    string
	token       fingerprint
	currency    [3]byte
	ending      ending
	autoCapture bool
	cancelled   bool
	amount      int64
	reference1  string
	reference2  string
	createdAt   moment
	turnsAt     moment // for an ending that turns by itself
	turned      string // fraud status set by hand
	body        []byte
	captures    []capture // by hand; an automatic one is not kept
	padding     int       // of its id
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

const (
	orderOperation operation = iota
	captureOperation
)

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

// createOrder is POST /customer-token/v1/tokens/{customerToken}/order.
func (s *Simulator) createOrder(r *request) reply {
	body, refusal, ok := r.readBody()
	if !ok {
		return refusal
	}
	b := s.behaviour(r)
	return s.once(r, orderOperation, body, b, func(rec *record, b behaviour) reply { return s.evaluate(r, rec, b, body) })
}

// once makes one try under a key, with what b and chance make of it. evaluate decides, or repeats what was decided.
func (s *Simulator) once(r *request, operation operation, body []byte, b behaviour, evaluate func(*record, behaviour) reply) reply {
	rec, refusal := s.claim(r, operation, sha256.Sum256(body), b.conflict)
	if rec == nil {
		return refusal
	}
	if !s.wait(latency(r.options, r.serial) + b.slow) {
		s.release(rec)
		return reply{shape: cut}
	}
	f, spoilt := b.fault(rec.tries)
	if !spoilt {
		f, spoilt = chance(r.options, rec.key, rec.tries)
	}
	if spoilt && f.late && b.ending == accepted {
		b.ending, b.after, b.early = late, r.options.LateBy, f.answer
	} else if spoilt && !f.created {
		s.release(rec)
		return f.answer
	}
	answer := evaluate(rec, b)
	s.release(rec)
	if spoilt {
		answer = f.spoil(answer)
	}
	answer.coding = b.coding
	return answer
}

// spoil replaces answer, but keeps what it says where f only breaks it off: not of a capture, which is told by a header.
func (f fault) spoil(answer reply) reply {
	switch f.answer.shape {
	case cutHeaders, cutBody, half, overtaken:
		if answer.capture == "" {
			answer.shape = f.answer.shape
			return answer
		}
	}
	return f.answer
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

// behaviour of the request's token: what the options and PUT /sim/tokens say comes before its beginning.
func (s *Simulator) behaviour(r *request) behaviour {
	token := r.token
	s.mu.Lock()
	state, ok := s.tokens[token]
	s.mu.Unlock()
	if ok && state.Behaviour != "" {
		token = state.Behaviour + "-"
	}
	return r.options.behaviour(token)
}

// claim takes the key for one try, after whoever has it, or refuses. A request without a key has one of its own, which
// nobody remembers.
func (s *Simulator) claim(r *request, operation operation, sum [sha256.Size]byte, conflict bool) (*record, reply) {
	id := recordID{operation, r.Header.Get("Klarna-Idempotency-Key")}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		now := s.now()
		s.settleLate(now)
		rec := s.records[id]
		if rec != nil && !rec.busy && now >= rec.firstAt.after(KeyValidity) {
			s.counts.KeysExpired++
			rec = nil
		}
		if rec == nil {
			rec = &record{recordID: id, token: r.fingerprint, firstAt: now, sha256: sum}
			if id.key == "" {
				s.counts.WithoutKey++
			} else {
				s.records[id] = rec
			}
		}
		if !rec.busy {
			rec.busy = true
			rec.tries++
			if rec.sha256 != sum {
				rec.others++
				s.counts.OtherBodies++
			}
			return rec, reply{}
		}
		if conflict || r.options.ConflictInFlight {
			return nil, refuse(http.StatusConflict, "", "A request with this idempotency key is at work")
		}
		if rec.done == nil {
			rec.done = make(chan struct{})
		}
		done := rec.done
		s.mu.Unlock()
		select {
		case <-done:
		case <-s.stop:
			s.mu.Lock()
			return nil, reply{shape: cut}
		}
		s.mu.Lock()
	}
}

func (s *Simulator) release(rec *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec.busy = false
	if rec.done != nil {
		close(rec.done)
		rec.done = nil
	}
}

// evaluate answers with the stored result of the key, or decides and stores it.
func (s *Simulator) evaluate(r *request, rec *record, b behaviour, body []byte) reply {
	if answer, ok := s.stored(r, rec, b); ok {
		return answer
	}
	draft, problems := readOrder(body, r.options.StrictSchema)
	s.mu.Lock()
	defer s.mu.Unlock()
	refusal, refused := s.refusal(r, rec, b)
	if len(problems) > 0 {
		// The code that was observed on this very endpoint:
		// https://github.com/krokedil/klarna-checkout-for-woocommerce/issues/139
		refusal, refused = refuse(http.StatusBadRequest, "BAD_REQUEST", problems...), true
	}
	if refused {
		if !r.options.ForgetErrors {
			rec.result = &refusal
		}
		return refusal
	}
	draft.key, draft.username, draft.token, draft.ending = rec.key, r.username, r.fingerprint, b.ending
	draft.padding = b.longID
	if r.options.KeepBodies {
		draft.body = body
	}
	switch b.ending {
	case late:
		rec.late = true
		s.late = append(s.late, lateResult{s.now().after(b.after), func(now moment) { s.enter(rec, draft, now) }})
		return b.early
	case lostCancelled:
		s.enter(rec, draft, s.now())
		return reply{shape: cut}
	}
	s.enter(rec, draft, s.now())
	r.log.OrderID = draft.id(r.options)
	return draft.created(r.options)
}

// stored is the answer to a key that has been decided before.
func (s *Simulator) stored(r *request, rec *record, b behaviour) (reply, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case rec.order != nil && b.ending == lostCancelled:
		return cancelled.refusal()
	case rec.order != nil:
		r.log.OrderID = rec.order.id(r.options)
		return rec.order.created(r.options), true
	case rec.late:
		return softDecline.refusal()
	case rec.result != nil:
		return *rec.result, true
	}
	return reply{}, false
}

// refusal is what the token's state and behaviour have against an order. The lock must be held.
func (s *Simulator) refusal(r *request, rec *record, b behaviour) (reply, bool) {
	if r.token == nobody {
		return notFound.refusal()
	}
	switch strings.ToUpper(s.tokens[r.token].Status) {
	case "CANCELLED":
		return cancelled.refusal()
	case "SUSPENDED":
		return suspended.refusal()
	case "ACTIVE":
		switch b.ending {
		case cancelled, canceled, suspended, notFound:
			return reply{}, false
		}
	}
	if b.ending == softDeclineOnce && !s.firstKey(r.token, rec.key) {
		return reply{}, false
	}
	return b.ending.refusal()
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
	s.orders = append(s.orders, o)
	s.counts.Orders++
	s.counts.OrderAmount += o.amount
	rec.order = o
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

// created is the answer to the request that made the order, and to its repetitions.
func (o *order) created(options *Options) reply {
	body := make([]byte, 0, 256)
	body = append(body, `{"order_id":"`...)
	id := o.id(options)
	body = append(body, id...)
	if fraud := o.ending.fraudStatus(); fraud != "" {
		body = append(body, `","fraud_status":"`...)
		body = append(body, fraud...)
	}
	body = append(body, `","redirect_url":"https://credit.klarna.example/v1/sessions/`...)
	body = append(body, id...)
	body = append(body, `/redirect","authorized_payment_method":{"type":"invoice","number_of_days":30}}`...)
	return reply{status: http.StatusOK, body: body}
}

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
