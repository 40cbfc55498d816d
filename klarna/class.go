package klarna

import (
	"errors"
	"strings"
)

// Class is what an answer, or the lack of one, says about the order or the capture that was asked for. It says nothing about
// what to do; each value's comment says what is safe.
type Class uint8

// The classes. In all of them the same key and the same bytes may be sent again; only after ClassRefused may the period
// be tried with a new key.
const (
	ClassOK           Class = iota // there is an order, or a capture: read so below, too
	ClassRefused                   // there is none, Klarna said why: a dunning event
	ClassNotEvaluated              // nobody looked at the order: a password, a host, a redirect or a firewall is wrong
	ClassRateLimited               // nobody looked at the order: wait for Error.RetryAfter
	ClassFailed                    // there is none, Klarna says that it failed: again later
	ClassUnknown                   // there may be one: ask again with the same key
	ClassAnswered2xx               // there probably is one, without a readable id: ask again with the same key, never announce a refusal
	ClassCut                       // there may be one, or will be in a minute: let Klarna finish, then ask again with the same key
	ClassNotSent                   // there is none, nothing complete was sent
)

// String returns the class in words fit for a log or a metric label.
func (c Class) String() string {
	switch c {
	case ClassOK:
		return "ok"
	case ClassRefused:
		return "refused"
	case ClassNotEvaluated:
		return "not_evaluated"
	case ClassRateLimited:
		return "rate_limited"
	case ClassFailed:
		return "failed"
	case ClassUnknown:
		return "unknown"
	case ClassAnswered2xx:
		return "answered_2xx"
	case ClassCut:
		return "cut"
	case ClassNotSent:
		return "not_sent"
	}
	return "invalid"
}

// Classify judges a complete answer that could not be read as a success.
//
//	status                                        class
//	2xx                                           ClassAnswered2xx: success, but no readable id
//	301, 302, 307, 308                            ClassNotEvaluated: the host is wrong, Klarna has moved
//	401, 407, 511                                 ClassNotEvaluated: the API key is wrong, or a gate on the way wants one
//	429                                           ClassRateLimited
//	408, 409, 425                                 ClassUnknown: another request may be at work on the order
//	other 4xx, with Klarna's error object         ClassRefused
//	other 4xx, without                            ClassNotEvaluated: a proxy or a firewall spoke, not Klarna
//	503, with Klarna's error object and a code    ClassFailed, unless the code says that time ran out
//	1xx, other 3xx, other 5xx, anything else      ClassUnknown
//
// A redirect is not followed: whoever answers it has not looked at the order, save for a 303, by which an application says
// where the result of a POST is (RFC 9110 15.4.4).
//
// Klarna's guide calls every 4xx a dunning event; what is taken out here would punish customers for faults of the
// merchant, the network or the clock. Codes: https://docs.klarna.com/klarna-checkout/popular-use-cases/place-order-token/,
// TIMEOUT and INTERNAL_ERROR:
// https://docs.klarna.com/acquirer/klarna-network/setup-your-integration/integration-resilience/request-timeout/
func Classify(status int, hasErrorObject bool, code string) Class {
	switch {
	case status >= 200 && status <= 299:
		return ClassAnswered2xx
	case status == 301, status == 302, status == 307, status == 308, status == 401, status == 407, status == 511:
		return ClassNotEvaluated
	case status == 429:
		return ClassRateLimited
	case status == 408, status == 409, status == 425:
		return ClassUnknown
	case status >= 400 && status <= 499 && hasErrorObject:
		return ClassRefused
	case status >= 400 && status <= 499:
		return ClassNotEvaluated
	case status == 503 && hasErrorObject && code != "" && !strings.EqualFold(code, "TIMEOUT") && !strings.EqualFold(code, "INTERNAL_ERROR"):
		return ClassFailed
	default:
		return ClassUnknown
	}
}

// ClassOf judges the error of a call. nil is ClassOK; an error that is none of this package's is ClassUnknown.
func ClassOf(err error) Class {
	if err == nil {
		return ClassOK
	}
	var answered *Error
	var unknown *UnknownError
	var notSent *NotSentError
	switch {
	case errors.As(err, &answered):
		return Classify(answered.StatusCode, answered.HasErrorObject, answered.Code)
	case errors.As(err, &unknown) && unknown.Answered2xx:
		return ClassAnswered2xx
	case unknown != nil && (unknown.Cut || unknown.TimedOut):
		return ClassCut
	case errors.As(err, &notSent):
		return ClassNotSent
	default:
		return ClassUnknown
	}
}
