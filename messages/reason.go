package messages

// Reason says why a renewal is not paid, or its money not taken. It goes over the wire, into metrics and into dashboards: the set is closed and
// append-only.
type Reason string

// Reasons of dunning: the lower-case error_code of Klarna's refusal where there is one.
// https://docs.klarna.com/klarna-checkout/popular-use-cases/place-order-token/
const (
	ReasonPaymentMethodFailed           Reason = "payment_method_failed"
	ReasonUnavailablePaymentMethod      Reason = "unavailable_payment_method"
	ReasonTokenSuspended                Reason = "token_suspended"
	ReasonTokenCancelled                Reason = "token_cancelled" // Klarna writes both
	ReasonTokenCanceled                 Reason = "token_canceled"
	ReasonTokenForbidden                Reason = "token_forbidden"
	ReasonTokenNotFound                 Reason = "token_not_found"
	ReasonPaymentMethodCurrencyMismatch Reason = "payment_method_currency_mismatch"
	ReasonInvalidOperation              Reason = "invalid_operation"
	ReasonMerchantInactive              Reason = "merchant_inactive"
	ReasonRejected                      Reason = "rejected" // Klarna's code: the merchant is not approved
	ReasonBadRequest                    Reason = "bad_request"
	ReasonBadValue                      Reason = "bad_value"
	ReasonNotFound                      Reason = "not_found"
	ReasonRequestEntityTooLarge         Reason = "request_entity_too_large"
	ReasonUnprocessableEntity           Reason = "unprocessable_entity"
	ReasonInvalidAddress                Reason = "invalid_address"
	ReasonCaptureNotAllowed             Reason = "capture_not_allowed"
	ReasonNoSuchOrder                   Reason = "no_such_order"
	ReasonFraudRejected                 Reason = "fraud_rejected"       // the order was made, then refused
	ReasonUnknownCode                   Reason = "unknown_code"         // error_code keeps Klarna's word
	ReasonRefusedWithoutCode            Reason = "refused_without_code" // turned away again and again, by no word of Klarna's, while others passed
	ReasonNotCharged                    Reason = "not_charged"          // an operator found no order for an unresolved attempt
)

// Reasons of capture_failed beside the codes of dunning.
const (
	ReasonOrderExpired   Reason = "order_expired"   // the authorisation has ended
	ReasonOrderCancelled Reason = "order_cancelled" // somebody cancelled the order
	ReasonNotCaptured    Reason = "not_captured"    // an operator found no capture for an unresolved one
)

// Reasons of unresolved: what stayed unknown, and how.
const (
	ReasonIdempotencyWindowExpired Reason = "idempotency_window_expired" // the key may no longer be used
	ReasonContradictoryAnswers     Reason = "contradictory_answers"      // a refusal after a try that may have made an order
	ReasonNotEvaluated             Reason = "not_evaluated"              // turned away unread for a day
	ReasonPendingTooLong           Reason = "pending_too_long"           // the fraud status never became final
	ReasonPoison                   Reason = "poison"                     // the job crashes its worker; also of rejected
	ReasonJournalRestored          Reason = "journal_restored"           // the journal was set back, and the key may have been used too long ago
)

// Reasons of rejected: why a job is not charged.
const (
	ReasonInvalid             Reason = "invalid"
	ReasonExpired             Reason = "expired"
	ReasonTooOld              Reason = "too_old"
	ReasonNotDue              Reason = "not_due"
	ReasonAlreadyPaid         Reason = "already_paid"
	ReasonBlockedByUnresolved Reason = "blocked_by_unresolved"
	ReasonConflict            Reason = "conflict" // the ID was used for something else
	ReasonCancelled           Reason = "cancelled"
	ReasonOrderExists         Reason = "order_exists"      // its order is being captured, or was
	ReasonTokenDead           Reason = "token_dead"        // an earlier attempt was told that this token is dead
	ReasonTooSoon             Reason = "too_soon"          // within min_attempt_gap of the last attempt
	ReasonTooManyAttempts     Reason = "too_many_attempts" // more than max_attempts, or more message IDs than are kept
	ReasonTooClose            Reason = "too_close"         // to another period of the subscription that is charged, or may be
	ReasonNotPaid             Reason = "not_paid"          // this and the following, of captures: the renewal has no order
	ReasonAlreadyCaptured     Reason = "already_captured"  // nothing of the order is left, by Klarna's word
	ReasonAmountTooHigh       Reason = "amount_too_high"   // more than what remains
	ReasonOrderMismatch       Reason = "order_mismatch"    // order_id is not the renewal's order
	ReasonNothingToCharge     Reason = "nothing_to_charge" // order_amount is 0; no dead letter
)

// Reasons of dead letters only: an order or a capture came to light after its renewal had gone on. Money has to be given
// back by hand.
const (
	ReasonOrderAfterDunning   Reason = "order_after_dunning"
	ReasonSecondOrder         Reason = "second_order"
	ReasonCaptureAfterFailure Reason = "capture_after_failure"
)

// Reasons returns the closed set of reasons that records of a kind may give; none for a kind that gives no reason.
func Reasons(kind Kind) []Reason {
	switch kind {
	case KindDunning:
		return []Reason{
			ReasonPaymentMethodFailed, ReasonUnavailablePaymentMethod, ReasonTokenSuspended, ReasonTokenCancelled, ReasonTokenCanceled,
			ReasonTokenForbidden, ReasonTokenNotFound, ReasonPaymentMethodCurrencyMismatch, ReasonInvalidOperation, ReasonMerchantInactive,
			ReasonRejected, ReasonBadRequest, ReasonBadValue, ReasonNotFound, ReasonRequestEntityTooLarge, ReasonUnprocessableEntity,
			ReasonInvalidAddress, ReasonCaptureNotAllowed, ReasonNoSuchOrder, ReasonFraudRejected, ReasonUnknownCode, ReasonRefusedWithoutCode, ReasonNotCharged,
		}
	case KindUnresolved:
		return []Reason{
			ReasonIdempotencyWindowExpired, ReasonContradictoryAnswers, ReasonNotEvaluated, ReasonPendingTooLong, ReasonPoison, ReasonJournalRestored,
		}
	case KindRejected:
		return []Reason{
			ReasonInvalid, ReasonExpired, ReasonTooOld, ReasonNotDue, ReasonAlreadyPaid, ReasonBlockedByUnresolved, ReasonConflict,
			ReasonCancelled, ReasonPoison, ReasonOrderExists, ReasonTokenDead, ReasonTooSoon, ReasonTooManyAttempts, ReasonTooClose,
			ReasonNotPaid, ReasonAlreadyCaptured, ReasonAmountTooHigh, ReasonOrderMismatch, ReasonNothingToCharge,
		}
	case KindCaptureFailed:
		return []Reason{
			ReasonPaymentMethodFailed, ReasonUnavailablePaymentMethod, ReasonTokenSuspended, ReasonTokenCancelled, ReasonTokenCanceled,
			ReasonTokenForbidden, ReasonTokenNotFound, ReasonPaymentMethodCurrencyMismatch, ReasonInvalidOperation, ReasonMerchantInactive,
			ReasonRejected, ReasonBadRequest, ReasonBadValue, ReasonNotFound, ReasonRequestEntityTooLarge, ReasonUnprocessableEntity,
			ReasonInvalidAddress, ReasonCaptureNotAllowed, ReasonNoSuchOrder, ReasonUnknownCode, ReasonRefusedWithoutCode,
			ReasonOrderExpired, ReasonOrderCancelled, ReasonNotCaptured,
		}
	}
	return nil
}

// Category says what kind of refusal a dunning result is.
type Category string

// The categories. Closed and append-only.
const (
	CategorySoftDecline    Category = "soft_decline"    // may pass another day
	CategoryCustomerAction Category = "customer_action" // the customer has something to do first
	CategoryTokenDead      Category = "token_dead"      // needs a new signup
	CategoryMerchantError  Category = "merchant_error"  // our own mistake: the customer must not hear of it
)

// FixBy says who can make the next attempt succeed.
type FixBy string

// Who can. Closed and append-only.
const (
	FixByCustomer FixBy = "customer"
	FixByMerchant FixBy = "merchant"
	FixByKlarna   FixBy = "klarna"
)
