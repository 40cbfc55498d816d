package klarnasim

import (
	"crypto/sha256"
	"net/http"
	"strings"
)

const (
	orderOperation operation = iota
	captureOperation
	refundOperation
)

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
