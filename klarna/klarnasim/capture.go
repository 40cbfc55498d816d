package klarnasim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// captureBody is the request body of a capture as Klarna's OpenAPI document has it.
type captureBody struct {
	CapturedAmount *int64      `json:"captured_amount"`
	Description    string      `json:"description"`
	Reference      string      `json:"reference"`
	OrderLines     []orderLine `json:"order_lines"`

	bad complaints
	raw []byte
}

// readCapture reads and checks a body. Of a bad one there is what could be read.
func readCapture(body []byte, strict bool) captureBody {
	c := captureBody{raw: body}
	if err := json.Unmarshal(body, &c); err != nil {
		c.bad.check(false, "body")
		return c
	}
	c.bad.check(c.CapturedAmount != nil && *c.CapturedAmount >= 0 && *c.CapturedAmount <= 200_000_000, "captured_amount")
	c.bad.check(atMost(c.Description, 255), "description")
	c.bad.check(atMost(c.Reference, 255), "reference")
	c.bad.check(len(c.OrderLines) <= 1000, "order_lines")
	salesTax := slices.ContainsFunc(c.OrderLines, orderLine.isSalesTax)
	for i := range c.OrderLines {
		if field := c.OrderLines[i].check(salesTax, strict); field != "" {
			c.bad.check(false, fmt.Sprintf("order_lines[%d].%s", i, field))
		}
	}
	return c
}

// createCapture is POST /ordermanagement/v1/orders/{order_id}/captures.
func (s *Simulator) createCapture(r *request) reply {
	body, refusal, ok := r.readBody()
	if !ok {
		return refusal
	}
	wanted := readCapture(body, r.options.StrictSchema)
	b := r.options.behaviour(wanted.Reference)
	return s.once(r, captureOperation, body, b, func(rec *record, b behaviour) reply { return s.evaluateCapture(r, rec, b, wanted) })
}

// evaluateCapture answers with the stored result of the key, or decides and stores it.
func (s *Simulator) evaluateCapture(r *request, rec *record, b behaviour, wanted captureBody) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.order(r.PathValue("order"))
	switch {
	case rec.result != nil && rec.result.capture != "" && b.ending == lostCancelled:
		return captureNotAllowed("Order is cancelled. Capture not possible.")
	case rec.result != nil:
		return r.captured(rec)
	case rec.late:
		answer, _ := softDecline.refusal()
		return answer
	}
	now := s.now()
	refusal, refused := s.captureRefusal(o, b, rec.key, wanted, now)
	switch {
	case refused && r.options.ForgetErrors:
		return refusal
	case refused:
		rec.result = &refusal
		return refusal
	case b.ending == late:
		rec.late = true
		s.late = append(s.late, lateResult{now.after(b.after), func(now moment) {
			if refusal, refused := wanted.refusal(o, s.options.Load(), now); refused {
				rec.result = &refusal
				return
			}
			s.take(rec, o, wanted, b.longID, now)
		}})
		return b.early
	}
	s.take(rec, o, wanted, b.longID, now)
	if b.ending == lostCancelled {
		return reply{shape: cut}
	}
	return r.captured(rec)
}

// captured is the stored answer of a key.
func (r *request) captured(rec *record) reply {
	if rec.order != nil {
		r.log.OrderID, r.log.CaptureID = rec.order.id(r.options), rec.result.capture
	}
	return *rec.result
}

// captureRefusal is what there is against a capture of the order. The lock must be held.
func (s *Simulator) captureRefusal(o *order, b behaviour, key string, wanted captureBody, now moment) (reply, bool) {
	options := s.options.Load()
	switch {
	case o == nil:
		return noSuchOrder(), true
	case len(wanted.bad) > 0:
		return refuse(http.StatusBadRequest, "BAD_VALUE", wanted.bad...), true
	case o.ending == captureDeclined, b.ending == captureDeclined:
		return softDecline.refusal()
	case b.ending == softDeclineOnce && !s.firstKey("captures of "+o.id(options), key):
	default:
		if refusal, refused := b.ending.refusal(); refused {
			return refusal, true
		}
	}
	return wanted.refusal(o, options, now)
}

// refusal is what the order has against a capture.
// https://docs.klarna.com/resources/developer-tools/error-handling/error-codes-and-messages-for-order-management/
func (c captureBody) refusal(o *order, options *Options, now moment) (reply, bool) {
	switch {
	case o.cancelled:
		return captureNotAllowed("Order is cancelled. Capture not possible."), true
	case o.fraudStatus(now) != "ACCEPTED":
		return captureNotAllowed("Order is not accepted. Capture not possible."), true
	case now >= o.createdAt.after(options.AuthorizedFor):
		return captureNotAllowed("Order is expired. Capture not possible."), true
	case *c.CapturedAmount > o.amount-o.captured(now):
		return captureNotAllowed("Captured amount is higher than the remaining authorized amount."), true
	}
	return reply{}, false
}

func captureNotAllowed(why string) reply {
	return refuse(http.StatusForbidden, "CAPTURE_NOT_ALLOWED", why)
}

// take enters a capture into the books. The lock must be held.
func (s *Simulator) take(rec *record, o *order, wanted captureBody, longID int, now moment) {
	options := s.options.Load()
	s.counts.Captures++
	s.counts.CapturedAmount += *wanted.CapturedAmount
	taken := capture{
		id: padded(uuid(options.Seed, uint64(s.counts.Captures), 'k'), longID), key: rec.key, reference: wanted.Reference, amount: *wanted.CapturedAmount, at: now,
	}
	if options.KeepBodies {
		taken.body = wanted.raw
	}
	o.captures = append(o.captures, taken)
	rec.order = o
	rec.result = &reply{
		status: http.StatusCreated, capture: taken.id,
		location: fmt.Sprintf("/ordermanagement/v1/orders/%s/captures/%s", o.id(options), taken.id),
	}
}
