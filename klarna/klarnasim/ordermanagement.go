package klarnasim

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// authorized is how long an order can be captured.
const authorized = 28 * 24 * time.Hour

// SetFraudStatus turns an order to ACCEPTED, PENDING or REJECTED; false when there is no such order.
func (s *Simulator) SetFraudStatus(orderID, status string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.order(orderID)
	if o == nil {
		return false
	}
	o.turned = status
	return true
}

// order finds an order by its id, nil when there is none. The lock must be held.
func (s *Simulator) order(id string) *order {
	s.settleLate(s.now())
	n, ok := number(id)
	if !ok || n >= uint64(len(s.orders)) || s.orders[n].id(s.options.Load()) != id {
		return nil
	}
	return s.orders[n]
}

func noSuchOrder() reply {
	return refuse(http.StatusNotFound, "NO_SUCH_ORDER", "There is no such order")
}

// orderDetails is what GET tells of an order.
type orderDetails struct {
	OrderID                   string           `json:"order_id"`
	Status                    string           `json:"status"`
	FraudStatus               string           `json:"fraud_status"`
	OrderAmount               int64            `json:"order_amount"`
	OriginalOrderAmount       int64            `json:"original_order_amount"`
	CapturedAmount            int64            `json:"captured_amount"`
	RefundedAmount            int64            `json:"refunded_amount"`
	RemainingAuthorizedAmount int64            `json:"remaining_authorized_amount"`
	PurchaseCurrency          string           `json:"purchase_currency"`
	MerchantReference1        string           `json:"merchant_reference1,omitempty"`
	MerchantReference2        string           `json:"merchant_reference2,omitempty"`
	KlarnaReference           string           `json:"klarna_reference"`
	CreatedAt                 time.Time        `json:"created_at"`
	ExpiresAt                 time.Time        `json:"expires_at"`
	Captures                  []captureDetails `json:"captures"`
}

type captureDetails struct {
	CaptureID      string    `json:"capture_id"`
	CapturedAmount int64     `json:"captured_amount"`
	CapturedAt     time.Time `json:"captured_at"`
	Reference      string    `json:"reference,omitempty"`
}

// readOrder is GET /ordermanagement/v1/orders/{order_id}.
func (s *Simulator) readOrder(r *request) reply {
	if answer, out := s.outage(r); out {
		return answer
	}
	s.mu.Lock()
	o := s.order(r.PathValue("order"))
	if o == nil {
		s.mu.Unlock()
		return noSuchOrder()
	}
	details := o.details(r.options, s.now())
	s.mu.Unlock()
	r.log.OrderID = details.OrderID
	body, err := json.Marshal(details)
	if err != nil {
		panic(err) // numbers, strings and times always marshal
	}
	return reply{status: http.StatusOK, body: body}
}

func (o *order) details(options *Options, now moment) orderDetails {
	captured := o.captured(now)
	id := o.id(options)
	d := orderDetails{
		OrderID: id, FraudStatus: o.fraudStatus(now),
		OrderAmount: o.amount, OriginalOrderAmount: o.amount, CapturedAmount: captured, RemainingAuthorizedAmount: o.amount - captured,
		PurchaseCurrency: string(o.currency[:]), MerchantReference1: o.reference1, MerchantReference2: o.reference2, KlarnaReference: id[:8],
		CreatedAt: o.createdAt.time(), ExpiresAt: o.createdAt.after(authorized).time(), Captures: []captureDetails{},
	}
	switch {
	case captured == o.amount:
		d.Status = "CAPTURED"
	case now >= o.createdAt.after(authorized):
		d.Status = "EXPIRED"
	case captured > 0:
		d.Status = "PART_CAPTURED"
	default:
		d.Status = "AUTHORIZED"
	}
	if o.autoCapture && captured > 0 {
		d.Captures = append(d.Captures, captureDetails{CaptureID: uuid(options.Seed, o.number, 'a'), CapturedAmount: captured, CapturedAt: o.createdAt.time()})
	}
	for _, c := range o.captures {
		d.Captures = append(d.Captures, captureDetails{CaptureID: c.id, CapturedAmount: c.amount, CapturedAt: c.at.time(), Reference: c.reference})
	}
	return d
}

// createCapture is POST /ordermanagement/v1/orders/{order_id}/captures.
func (s *Simulator) createCapture(r *request) reply {
	if answer, out := s.outage(r); out {
		return answer
	}
	body, refusal, ok := r.readBody()
	if !ok {
		return refusal
	}
	rec, refusal := s.claim(r, captureOperation, sha256.Sum256(body), false)
	if rec == nil {
		return refusal
	}
	defer s.release(rec)
	f, spoilt := chance(r.options, rec.key, rec.tries)
	if spoilt && !f.created {
		return f.answer
	}
	answer := s.takeCapture(r, rec, body)
	if spoilt {
		answer = f.spoil(answer)
	}
	return answer
}

func (s *Simulator) takeCapture(r *request, rec *record, body []byte) reply {
	var wanted captureBody
	err := json.Unmarshal(body, &wanted)
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec.result != nil {
		return *rec.result
	}
	o := s.order(r.PathValue("order"))
	var answer reply
	if refusal, refused := wanted.refusal(o, s.now()); err != nil {
		answer = refuse(http.StatusBadRequest, "BAD_VALUE", "Bad value: body")
	} else if refused {
		answer = refusal
	} else {
		answer = s.take(r, o, wanted)
	}
	if answer.code == "" || !r.options.ForgetErrors {
		rec.result = &answer
	}
	return answer
}

type captureBody struct {
	CapturedAmount *int64 `json:"captured_amount"`
	Description    string `json:"description"`
	Reference      string `json:"reference"`
}

// refusal is what there is against a capture of the order.
// https://docs.klarna.com/resources/developer-tools/error-handling/error-codes-and-messages-for-order-management/
func (c captureBody) refusal(o *order, now moment) (reply, bool) {
	badValue := func(path string) (reply, bool) {
		return refuse(http.StatusBadRequest, "BAD_VALUE", "Bad value: "+path), true
	}
	notAllowed := func(why string) (reply, bool) {
		return refuse(http.StatusForbidden, "CAPTURE_NOT_ALLOWED", why), true
	}
	switch {
	case o == nil:
		return noSuchOrder(), true
	case c.CapturedAmount == nil, *c.CapturedAmount < 0, *c.CapturedAmount > 200_000_000:
		return badValue("captured_amount")
	case !atMost(c.Description, 255):
		return badValue("description")
	case !atMost(c.Reference, 255):
		return badValue("reference")
	case o.ending == captureDeclined:
		return softDecline.refusal()
	case o.fraudStatus(now) != "ACCEPTED":
		return notAllowed("The order is not accepted")
	case now >= o.createdAt.after(authorized):
		return notAllowed("Order is expired. Capture not possible.")
	case *c.CapturedAmount > o.amount-o.captured(now):
		return notAllowed("Captured amount is higher than the remaining authorized amount.")
	}
	return reply{}, false
}

// take enters a capture into the books. The lock must be held.
func (s *Simulator) take(r *request, o *order, wanted captureBody) reply {
	s.counts.Captures++
	id := uuid(r.options.Seed, uint64(s.counts.Captures), 'k')
	o.captures = append(o.captures, capture{id: id, reference: wanted.Reference, amount: *wanted.CapturedAmount, at: s.now()})
	r.log.OrderID = o.id(r.options)
	return reply{
		status: http.StatusCreated, capture: id,
		location: fmt.Sprintf("/ordermanagement/v1/orders/%s/captures/%s", r.log.OrderID, id),
	}
}
