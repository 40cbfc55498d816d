package worker

import (
	"strconv"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// explain tells a person why a job was rejected that is itself in order.
func (s *service) explain(next journal.Transition) []messages.Problem {
	asked, thing, why, by, made := s.asked, s.created, next.Reason, next.Conflicts, next.Made
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
	case messages.ReasonTooClose: // of a dead letter that is filed again: its record says which
		path, message = "period", "another period of the subscription that is charged, or may be, is closer than half a cadence: its result says which one"
	case messages.ReasonCancelled:
		path, message = "period", "this period was cancelled"
	case messages.ReasonTokenDead, messages.ReasonTooSoon, messages.ReasonTooManyAttempts:
		path, message = explainGuard(next)
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

// explainGuard is the same for an attempt that a guard refused. A dead letter that is written again does not know the numbers.
func explainGuard(next journal.Transition) (path, message string) {
	const decide = "a person has to decide how it is paid"
	switch {
	case next.Reason == messages.ReasonTokenDead:
		return "customer_token", "an earlier attempt at this period was told that this token is dead: the customer has to sign up again, then publish the new token under a new message ID"
	case next.Reason == messages.ReasonTooSoon:
		from := "from the next_attempt_at of its result"
		if !next.NextAttemptAt.IsZero() {
			from = "from " + next.NextAttemptAt.UTC().Format(time.RFC3339)
		}
		return "period", "too soon after the last attempt at this period: publish it under a new message ID " + from + " on, " +
			`or at once with "customer_acted": true where the customer has done something about the refusal`
	case next.MaxAttempts > 0:
		return "period", "this would be more than the " + strconv.FormatInt(next.MaxAttempts, 10) + " attempts at a period that the account allows, as the journal and the job count them: " +
			decide + ", or whether the account's max_attempts is to be raised"
	}
	return "period", "this period has seen as many attempts as the account allows, or " + strconv.Itoa(journal.MaxSettled) + " message IDs, no further one is served: " + decide
}
