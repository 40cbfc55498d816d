package klarnasim

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// refund is money given back for an order.
type refund struct {
	id, reference string
	amount        int64
	at            moment
}

// refundBody is the request body of a refund as Klarna's OpenAPI document has it.
type refundBody struct {
	RefundedAmount *int64      `json:"refunded_amount"`
	Description    string      `json:"description"`
	Reference      string      `json:"reference"`
	OrderLines     []orderLine `json:"order_lines"`
}

func readRefund(body []byte) (wanted refundBody, bad complaints) {
	if err := json.Unmarshal(body, &wanted); err != nil {
		bad.check(false, "body")
		return wanted, bad
	}
	bad.check(wanted.RefundedAmount != nil && *wanted.RefundedAmount >= 0 && *wanted.RefundedAmount <= 200_000_000, "refunded_amount")
	bad.check(atMost(wanted.Description, 255), "description")
	bad.check(atMost(wanted.Reference, 255), "reference")
	bad.check(len(wanted.OrderLines) <= 1000, "order_lines")
	return wanted, bad
}

// createRefund is POST /ordermanagement/v1/orders/{order_id}/refunds. Its key is one of its own, as that of a capture.
func (s *Simulator) createRefund(r *request) reply {
	body, refusal, ok := r.readBody()
	if !ok {
		return refusal
	}
	wanted, bad := readRefund(body)
	return s.once(r, refundOperation, body, behaviour{}, func(rec *record, _ behaviour) reply {
		s.mu.Lock()
		defer s.mu.Unlock()
		if rec.result == nil {
			answer := s.giveBack(s.order(r.PathValue("order")), wanted, bad)
			rec.result = &answer
		}
		return *rec.result
	})
}

// giveBack enters a refund into the books, or refuses it. The lock must be held.
// https://docs.klarna.com/order-management/manage-orders-with-the-api/refund-and-extend-orders/
func (s *Simulator) giveBack(o *order, wanted refundBody, bad complaints) reply {
	switch {
	case o == nil:
		return noSuchOrder()
	case len(bad) > 0:
		return refuse(http.StatusBadRequest, "BAD_VALUE", bad...)
	case *wanted.RefundedAmount > o.captured(s.now())-o.refunded():
		return refuse(http.StatusForbidden, "REFUND_NOT_ALLOWED", "Refunded amount is higher than the captured amount.")
	}
	s.refunds++
	given := refund{id: uuid(s.options.Load().Seed, s.refunds, 'r'), reference: wanted.Reference, amount: *wanted.RefundedAmount, at: s.now()}
	o.refunds = append(o.refunds, given)
	return reply{status: http.StatusCreated, refund: given.id, location: fmt.Sprintf("/ordermanagement/v1/orders/%s/refunds/%s", o.id(s.options.Load()), given.id)}
}

// Refund gives money back as somebody would in the merchant portal; false when there is no such order, or less was captured.
func (s *Simulator) Refund(orderID string, amount int64, reference string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.giveBack(s.order(orderID), refundBody{RefundedAmount: &amount, Reference: reference}, nil).status == http.StatusCreated
}

// refunded is the amount given back by now.
func (o *order) refunded() (sum int64) {
	for _, r := range o.refunds {
		sum += r.amount
	}
	return sum
}
