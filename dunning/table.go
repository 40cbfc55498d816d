// Package dunning says what a refusal of Klarna means: whose fault it is, who can fix it, and when another attempt
// makes sense.
//
// [Decide] is a table lookup and [Policy.Next] is arithmetic: no clock, no I/O, no state. What a caller gets wrong:
// only a definite no may be decided here. An answer that leaves open whether an order exists (a timeout, a cut
// connection, 408, 409, 425, any 5xx), one that was not evaluated (401, a 4xx without Klarna's error object) and a
// rate limit (429) are no refusals, whatever code they carry. After an undecided try under the same idempotency key,
// only the codes of [SurvivesUndecided] may still end in dunning.
package dunning

import (
	"net/http"
	"slices"
	"strings"

	"github.com/klarna-renewals/renewals/messages"
)

// Decision is what a billing system needs to know of one refusal.
type Decision struct {
	Status         int               `json:"http_status"` // 0: not a status, a fraud decision, or any status
	Code           string            `json:"error_code"`  // Klarna's word; empty: every code of this status
	Reason         messages.Reason   `json:"reason"`
	Category       messages.Category `json:"category"`
	FixBy          messages.FixBy    `json:"fix_by"`
	NotifyCustomer bool              `json:"notify_customer"` // false for everything that is the merchant's own mistake
	Retryable      bool              `json:"retryable"`       // another attempt, days later, under a new message ID, may succeed
	Source         string            `json:"source"`          // the public page that names the code
}

// Where Klarna and Kustom say what they mean.
const (
	placeOrder = "https://docs.klarna.com/klarna-checkout/popular-use-cases/place-order-token/"
	payments   = "https://docs.klarna.com/resources/developer-tools/error-handling/error-codes-and-messages-for-klarna-payments/"
	management = "https://docs.klarna.com/resources/developer-tools/error-handling/error-codes-and-messages-for-order-management/"
	recovery   = "https://docs.klarna.com/payments/web-payments/integrate-with-klarna-payments/tokenized-payments/recover-token-charge-failure"
	tokens     = "https://docs.klarna.com/acquirer/klarna/web-payments/integrate-with-klarna-payments/tokenized-payments/customer-token/"
	readToken  = "https://docs.klarna.com/kco/additional-resources/read-customer-token"
	pending    = "https://docs.klarna.com/payments/after-payments/order-management/more-actions/pending-orders"
	limits     = "https://docs.klarna.com/api/request-limits/"
	guide      = "https://docs.klarna.com/api/errors/"
)

// Table returns every row, the fraud decision, the refusal without a code and the unknown code last.
//
// Klarna's page on placing an order describes BAD_REQUEST with the words of TOKEN_CANCELLED; what merchants really get
// it for is a field that does not pass validation, so it is the merchant's
// (https://github.com/krokedil/klarna-checkout-for-woocommerce/issues/139). PAYMENT_METHOD_FAILED also answers a
// capture (https://docs.kustom.co/v3/checkout/use-cases/recurring). Both spellings of CANCELLED are in Klarna's pages.
func Table() []Decision {
	const (
		soft, action, dead, fault  = messages.CategorySoftDecline, messages.CategoryCustomerAction, messages.CategoryTokenDead, messages.CategoryMerchantError
		customer, merchant, klarna = messages.FixByCustomer, messages.FixByMerchant, messages.FixByKlarna
		notify, retry              = true, true
	)
	return []Decision{
		{403, "PAYMENT_METHOD_FAILED", messages.ReasonPaymentMethodFailed, soft, customer, notify, retry, recovery},
		{403, "UNAVAILABLE_PAYMENT_METHOD", messages.ReasonUnavailablePaymentMethod, action, customer, notify, retry, recovery},
		{403, "TOKEN_SUSPENDED", messages.ReasonTokenSuspended, action, klarna, notify, retry, placeOrder},
		{403, "TOKEN_CANCELLED", messages.ReasonTokenCancelled, dead, customer, notify, !retry, placeOrder},
		{403, "TOKEN_CANCELED", messages.ReasonTokenCanceled, dead, customer, notify, !retry, tokens},
		{403, "TOKEN_FORBIDDEN", messages.ReasonTokenForbidden, fault, merchant, !notify, !retry, placeOrder},
		{403, "PAYMENT_METHOD_CURRENCY_MISMATCH", messages.ReasonPaymentMethodCurrencyMismatch, fault, merchant, !notify, !retry, placeOrder},
		{403, "INVALID_OPERATION", messages.ReasonInvalidOperation, fault, merchant, !notify, !retry, payments},
		{403, "MERCHANT_INACTIVE", messages.ReasonMerchantInactive, fault, merchant, !notify, !retry, payments},
		{403, "REJECTED", messages.ReasonRejected, fault, merchant, !notify, !retry, payments},
		{400, "BAD_REQUEST", messages.ReasonBadRequest, fault, merchant, !notify, !retry, placeOrder},
		{400, "BAD_VALUE", messages.ReasonBadValue, fault, merchant, !notify, !retry, payments},
		{404, "TOKEN_NOT_FOUND", messages.ReasonTokenNotFound, fault, merchant, !notify, !retry, placeOrder},
		{404, "NOT_FOUND", messages.ReasonNotFound, fault, merchant, !notify, !retry, readToken},
		{413, "", messages.ReasonRequestEntityTooLarge, fault, merchant, !notify, !retry, limits},
		{422, "UNPROCESSABLE_ENTITY", messages.ReasonUnprocessableEntity, fault, merchant, !notify, !retry, management},
		{422, "INVALID_ADDRESS", messages.ReasonInvalidAddress, fault, merchant, !notify, !retry, management},
		{403, "CAPTURE_NOT_ALLOWED", messages.ReasonCaptureNotAllowed, fault, merchant, !notify, !retry, management},
		{404, "NO_SUCH_ORDER", messages.ReasonNoSuchOrder, fault, merchant, !notify, !retry, management},
		FraudRejected(),
		RefusedWithoutCode(),
		unknownCode(0, ""),
	}
}

// Decide says what a refusal means: status is the answer's 4xx, code the error_code of Klarna's error object.
//
// Codes are compared without regard to case. A known code keeps its meaning under any 4xx that is a refusal, since Klarna asks integrators not to rely on the exact
// status (https://docs.klarna.com/api/errors/). Anything else is decided on the safe side, known is false, and the
// caller counts it: a merchant error, not the customer's business, no further attempt. So is a status that is no
// refusal at all, which a caller must not ask about.
func Decide(status int, code string) (d Decision, known bool) {
	if !refusal(status) {
		return unknownCode(status, code), false
	}
	for _, d := range Table() {
		if d.Code != "" && strings.EqualFold(d.Code, code) || d.Code == "" && d.Status == status {
			d.Status, d.Code = status, code
			return d, true
		}
	}
	return unknownCode(status, code), false
}

// DecideRefused is [Decide] for an error object that may have a fraud_status and no known code: REJECTED says there what it
// says of an order that was made. The 400 of a token order (ErrorV2) has every field optional.
func DecideRefused(status int, code, fraudStatus string) (d Decision, known bool) {
	if d, known = Decide(status, code); known || !refusal(status) || !strings.EqualFold(fraudStatus, "REJECTED") {
		return d, known
	}
	d = FraudRejected()
	d.Status, d.Code = status, code
	return d, true
}

// FraudRejected is the decision on an order that Klarna created and then refused: fraud_status REJECTED. The answer was
// a 2xx, so there is neither status nor code.
func FraudRejected() Decision {
	return Decision{0, "", messages.ReasonFraudRejected, messages.CategoryCustomerAction, messages.FixByKlarna, true, false, pending}
}

// RefusedWithoutCode is the decision on an order that something between here and Klarna's application turned away, with an
// empty body or a page of its own, again and again while others passed. Whoever it is, it is not the customer.
func RefusedWithoutCode() Decision {
	return Decision{0, "", messages.ReasonRefusedWithoutCode, messages.CategoryMerchantError, messages.FixByMerchant, false, false, guide}
}

// NotCharged is what an operator's word means that an unresolved attempt made no order. Nobody has refused anything: it was our own
// trouble, the customer never hears of it, and the attempt can be made again at once, which no [Policy] has a schedule for.
func NotCharged() Decision {
	return Decision{0, "", messages.ReasonNotCharged, messages.CategoryMerchantError, messages.FixByMerchant, false, true, guide}
}

// NotCapturable is what it means that an authorised order yields no money although Klarna refused no capture: its
// authorisation has ended, it was cancelled, or an operator found that an unresolved capture was not made. Only the last
// is worth another try, at once, see [NotCharged].
func NotCapturable(why messages.Reason) Decision {
	return Decision{0, "", why, messages.CategoryMerchantError, messages.FixByMerchant, false, why == messages.ReasonNotCaptured, management}
}

func unknownCode(status int, code string) Decision {
	return Decision{status, code, messages.ReasonUnknownCode, messages.CategoryMerchantError, messages.FixByMerchant, false, false, guide}
}

// refusal reports whether an answer of this status, given with Klarna's error object, is a definite no.
func refusal(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusTooManyRequests, // not evaluated
		http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly: // an order may exist
		return false
	}
	return status >= 400 && status < 500
}

// SurvivesUndecided reports whether a refusal with this code may end in dunning although an earlier try under the same
// idempotency key is undecided. These two say that Klarna judged this very order. Any other code may speak of the token
// or the request alone, as when a customer cancels the token after the undecided try has made an order; the caller
// goes on trying, and in the end the renewal is unresolved.
func SurvivesUndecided(code string) bool {
	return slices.Contains([]string{"PAYMENT_METHOD_FAILED", "UNAVAILABLE_PAYMENT_METHOD"}, strings.ToUpper(code))
}

// AboutToken reports whether a refusal with this code speaks of the customer token, so that its status at Klarna is worth
// telling. BAD_REQUEST is among them since Klarna's page gives it the words of TOKEN_CANCELLED.
func AboutToken(code string) bool {
	code = strings.ToUpper(code)
	return strings.HasPrefix(code, "TOKEN_") || code == "UNAVAILABLE_PAYMENT_METHOD" || code == "BAD_REQUEST"
}
