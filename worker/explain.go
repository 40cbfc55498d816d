package worker

import (
	"strconv"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// explain tells a person why a job was rejected that is itself in order.
func (s *service) explain(why messages.Reason, by messages.IdempotencyKey, made string) []messages.Problem {
	asked, thing := s.asked, s.created
	path, message := "$", string(why)
	switch why {
	case messages.ReasonConflict:
		path, message = "id", "this message ID stands for another "+asked+" already, or for one of another account: publish what changed under a new message ID"
	case messages.ReasonAlreadyPaid:
		path, message = "period", "this period of the subscription is paid already"
	case messages.ReasonBlockedByUnresolved:
		path, message = "period", "an earlier charge or capture of this period is unresolved: settle it with `renewals resolve`, then replay or publish again"
	case messages.ReasonOrderExists:
		path, message = "period", "this period of the subscription has an order, of which money is being captured or was"
	case messages.ReasonNotPaid:
		path, message = "period", "this period of the subscription has no order that could be captured: publish the capture after the result `paid`"
	case messages.ReasonAlreadyCaptured:
		path, message = "period", "everything of this period's order is captured already"
	case messages.ReasonAmountTooHigh:
		path, message = "captured_amount", "found more than can still be captured of the order"
	case messages.ReasonOrderMismatch:
		path, message = "order_id", "this period of the subscription was paid with another order: leave the field out, or correct it"
	case messages.ReasonCancelled:
		path, message = "period", "this period was cancelled"
	case messages.ReasonTooManyAttempts:
		path, message = "period", "this period has seen "+strconv.Itoa(journal.MaxSettled)+" message IDs, no further one is served"
	case messages.ReasonIdempotencyWindowExpired:
		message = "Klarna never said whether it made the " + thing + ", and its idempotency key may no longer be used: look it up in Klarna's portal, then `renewals resolve`"
	case messages.ReasonContradictoryAnswers:
		message = "Klarna refused this " + asked + " after a try that may have made the " + thing + ": look it up in Klarna's portal, then `renewals resolve`"
	case messages.ReasonNotEvaluated:
		message = "Klarna turned this job away unread for a day; nothing was charged under it"
	case messages.ReasonPendingTooLong:
		message = "the order's fraud status did not become final: look it up in Klarna's portal, then `renewals resolve`"
	case messages.ReasonOrderAfterDunning:
		message = "Klarna made order " + made + " for this attempt after the renewal had gone on to another: refund it, or the other"
	case messages.ReasonSecondOrder:
		message = "Klarna made " + thing + " " + made + " beside the one that is recorded: refund one of them"
	case messages.ReasonCaptureAfterFailure:
		message = "Klarna made capture " + made + " although it was recorded as failed and another has followed: refund it, or the other"
	case messages.ReasonPoison:
		message = "the worker broke on this job " + strconv.Itoa(journal.MaxPanics) + " times; see its log"
	}
	if by != "" && why != messages.ReasonConflict {
		message += " (idempotency key " + string(by) + ")"
	}
	return []messages.Problem{{Path: path, Message: message}}
}
