package klarnasim

import (
	"encoding/json"
	"net/http"
	"strings"
)

// nobody is a token that Klarna has never made, whatever is asked of it.
const nobody = "00000000-0000-0000-0000-000000000000"

// SetToken says what the token is like from now on; the zero state leaves it to the token's beginning again. Keys that
// have their result keep it.
func (s *Simulator) SetToken(token string, state TokenState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == (TokenState{}) {
		delete(s.tokens, token)
		return
	}
	s.tokens[token] = state
}

// status of a token as Klarna would tell it; "" for a token that it does not know.
func (s *Simulator) tokenStatus(r *request) string {
	b := s.behaviour(r)
	s.mu.Lock()
	status := s.tokens[r.token].Status
	s.mu.Unlock()
	switch {
	case status != "":
		return strings.ToUpper(status)
	case b.ending == notFound, r.token == nobody:
		return ""
	case b.ending == cancelled, b.ending == canceled, b.ending == lostCancelled:
		return "CANCELLED"
	case b.ending == suspended:
		return "SUSPENDED"
	}
	return "ACTIVE"
}

// readToken is GET /customer-token/v1/tokens/{customerToken}. Its 404 has another code than that of an order.
// https://docs.klarna.com/klarna-payments/other-actions/check-the-details-of-a-customer-token/
func (s *Simulator) readToken(r *request) reply {
	if answer, out := s.outage(r); out {
		return answer
	}
	status := s.tokenStatus(r)
	if status == "" {
		return refuse(http.StatusNotFound, "", "Invalid customer-token ID")
	}
	body, err := json.Marshal(struct {
		PaymentMethodType string `json:"payment_method_type"`
		Status            string `json:"status"`
	}{"INVOICE", status})
	if err != nil {
		panic(err) // strings always marshal
	}
	return reply{status: http.StatusOK, body: body}
}

// patchToken is PATCH /customer-token/v1/tokens/{customerToken}/status, which knows one status only.
// https://docs.klarna.com/klarna-payments/other-actions/cancel-a-customer-token/
func (s *Simulator) patchToken(r *request) reply {
	if answer, out := s.outage(r); out {
		return answer
	}
	body, refusal, ok := r.readBody()
	if !ok {
		return refusal
	}
	var wanted struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(body, &wanted) != nil || wanted.Status != "CANCELLED" {
		return refuse(http.StatusBadRequest, "BAD_VALUE", "Bad value: status")
	}
	if s.tokenStatus(r) == "" {
		return refuse(http.StatusNotFound, "", "Invalid token ID")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.tokens[r.token]
	state.Status = "CANCELLED"
	s.tokens[r.token] = state
	return reply{status: http.StatusAccepted}
}

// outage waits for the latency and says whether the request suffers an outage instead of being looked at. A token's own
// beginning spoils orders only, so that reading the token tells a wrong password from a single odd answer.
func (s *Simulator) outage(r *request) (reply, bool) {
	b := parse(r.options.Outage + "-")
	if !s.wait(latency(r.options, r.serial) + b.slow) {
		return reply{shape: cut}, true
	}
	f, out := b.fault(1)
	return f.answer, out && !f.created
}
