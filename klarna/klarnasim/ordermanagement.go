package klarnasim

import (
	"encoding/json"
	"net/http"
	"time"
)

// SetFraudStatus turns an order to ACCEPTED, PENDING or REJECTED; false when there is no such order.
func (s *Simulator) SetFraudStatus(orderID, status string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.order(orderID)
	if o == nil {
		return false
	}
	o.turned, o.turnedByHandAt, s.settled = status, s.now(), nil
	return true
}

// order finds an order by its id, nil when there is none. The lock must be held.
const uuidLength = 36

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
	Refunds                   []refundDetails  `json:"refunds"`
}

type captureDetails struct {
	CaptureID      string    `json:"capture_id"`
	CapturedAmount int64     `json:"captured_amount"`
	CapturedAt     time.Time `json:"captured_at"`
	Reference      string    `json:"reference,omitempty"`
}

type refundDetails struct {
	RefundID       string    `json:"refund_id"`
	RefundedAmount int64     `json:"refunded_amount"`
	RefundedAt     time.Time `json:"refunded_at"`
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
	id, expires := o.id(options), o.createdAt.after(options.AuthorizedFor)
	d := orderDetails{
		OrderID: id, FraudStatus: o.fraudStatus(now),
		OrderAmount: o.amount, OriginalOrderAmount: o.amount, CapturedAmount: captured, RefundedAmount: o.refunded(), RemainingAuthorizedAmount: o.amount - captured,
		PurchaseCurrency: string(o.currency[:]), MerchantReference1: o.reference1, MerchantReference2: o.reference2, KlarnaReference: id[:8],
		CreatedAt: o.createdAt.time(), ExpiresAt: expires.time(), Captures: []captureDetails{}, Refunds: []refundDetails{},
	}
	switch {
	case o.cancelled:
		d.Status, d.RemainingAuthorizedAmount = "CANCELLED", 0
	case captured == o.amount:
		d.Status = "CAPTURED"
	case now >= expires:
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
	for _, r := range o.refunds {
		d.Refunds = append(d.Refunds, refundDetails{RefundID: r.id, RefundedAmount: r.amount, RefundedAt: r.at.time(), Reference: r.reference})
	}
	return d
}

// CancelOrder releases what an order has authorised, as somebody would in the merchant portal; false when there is no such
// order, or it was captured.
func (s *Simulator) CancelOrder(orderID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.order(orderID)
	if o == nil || o.captured(s.now()) > 0 {
		return false
	}
	o.cancelled = true
	return true
}

// cancelOrder is POST /ordermanagement/v1/orders/{order_id}/cancel. It may be repeated, with or without a key.
func (s *Simulator) cancelOrder(r *request) reply {
	if answer, out := s.outage(r); out {
		return answer
	}
	id := r.PathValue("order")
	s.mu.Lock()
	o := s.order(id)
	s.mu.Unlock()
	switch {
	case o == nil:
		return noSuchOrder()
	case !s.CancelOrder(id):
		return refuse(http.StatusForbidden, "CANCEL_NOT_ALLOWED", "The order is captured")
	}
	r.log.OrderID = id
	return reply{status: http.StatusNoContent}
}
