package klarna

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// maxMessage is how much of each of Klarna's messages is kept, in bytes.
const maxMessage = 500

// Error is an answer that is no success. Whether there is an order depends on it: see [ClassOf]. What a refusal means for
// the customer is in Code; Messages are for logs and people, never for a program.
// https://docs.klarna.com/api/errors/
type Error struct {
	StatusCode int
	// Code is Klarna's error_code as it was written, "" without one. It is compared without regard to case.
	Code string
	// Messages are Klarna's error_messages, shortened.
	Messages []string
	// CorrelationID is what Klarna's support asks for, from the body or the Klarna-Correlation-Id header.
	CorrelationID string
	// HasErrorObject says that the body was Klarna's error object: a JSON object with any of error_code, error_messages,
	// correlation_id, fraud_status and reason. Without one, it was not Klarna's application that answered.
	HasErrorObject bool
	// FraudStatus is the object's fraud_status in upper case, "" without one: REJECTED refuses an order without any code.
	FraudStatus string
	// RedirectedTo is the host that a redirect points to: its path may repeat the customer token. "" without one.
	RedirectedTo string
	// RetryAfter is how long to wait at least before the next request, 0 to one hour; 0 when the answer does not say.
	RetryAfter time.Duration
	RateLimit  RateLimit
}

func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "klarna answered %d", e.StatusCode)
	if e.RedirectedTo != "" {
		text.WriteString(", a redirect to " + e.RedirectedTo + ": is the endpoint the right host?")
	}
	if e.Code != "" {
		text.WriteString(" " + e.Code)
	}
	if len(e.Messages) > 0 {
		text.WriteString(": " + strings.Join(e.Messages, "; "))
	}
	if e.CorrelationID != "" {
		text.WriteString(" (correlation id " + e.CorrelationID + ")")
	}
	return text.String()
}

// UnknownError is a request that was sent, or may have been, and whose outcome nobody here knows: an order may exist.
// The only safe next step is the same bytes under the same key. Cut and TimedOut say that Klarna may still be at work on it, so
// that even a refusal of the next try proves nothing before Klarna has surely finished or dropped this one.
type UnknownError struct {
	// StatusCode of the answer, 0 when none came.
	StatusCode int
	// Answered2xx: Klarna said yes, but not which order. Whatever it says later, the customer was not refused.
	Answered2xx bool
	// TimedOut: the time for the try ran out.
	TimedOut bool
	// Cut: the connection broke, or the caller gave up, after sending may have begun and before the answer was complete.
	Cut           bool
	CorrelationID string
	// Err is the cause, without URL, token or credentials.
	Err error
}

func (e *UnknownError) Error() string {
	text := "outcome unknown"
	if e.StatusCode != 0 {
		text += fmt.Sprintf(" after status %d", e.StatusCode)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.CorrelationID != "" {
		text += " (correlation id " + e.CorrelationID + ")"
	}
	return text
}

func (e *UnknownError) Unwrap() error { return e.Err }

// NotSentError is a request that never was complete on any connection: dial, DNS and TLS errors, missing credentials, an
// end of the context before that, or a refusal of BeforeSend. There is provably no order of this try, and the caller may
// proceed as if it had not been made.
type NotSentError struct {
	// Err is the cause, without URL, token or credentials. A refusal of BeforeSend is here as it was returned.
	Err error
}

func (e *NotSentError) Error() string { return "not sent: " + e.Err.Error() }
func (e *NotSentError) Unwrap() error { return e.Err }

// redaction is what must not appear in a text: net/http quotes paths and pieces of answers, and answers quote requests.
type redaction [4]string

// minSecret keeps a token of a letter or two, which no real one is, from blotting out whole sentences.
const minSecret = 4

func (r redaction) text(s string) string {
	for _, secret := range r {
		if len(secret) >= minSecret {
			s = strings.ReplaceAll(s, secret, redacted)
		}
	}
	return s
}

// error keeps of a transport's error its text, without secrets, and its nature where that is a plain fact. Everything
// else inside it is dropped, because errors of net/http and net/url carry paths.
func (r redaction) error(err error) error {
	clean := &transportError{text: shorten(r.text(err.Error()), maxMessage)}
	var number syscall.Errno
	switch {
	case errors.As(err, &number):
		clean.cause = number
	case errors.Is(err, io.ErrUnexpectedEOF):
		clean.cause = io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		clean.cause = io.EOF
	case errors.Is(err, context.Canceled):
		clean.cause = context.Canceled
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		clean.cause = context.DeadlineExceeded
	}
	return clean
}

type transportError struct {
	text  string
	cause error
}

func (e *transportError) Error() string { return e.text }
func (e *transportError) Unwrap() error { return e.cause }

// shorten cuts s to at most n bytes of valid UTF-8 on one line.
func shorten(s string, n int) string {
	s = strings.ToValidUTF8(s[:min(len(s), n)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// RateLimit is what Klarna said of the merchant's limit for this kind of operation. The numbers are approximate.
// https://docs.klarna.com/api-reference/rate-limit/
type RateLimit struct {
	// Known is false when the answer said nothing; the rest is 0 then.
	Known bool
	// Limit of requests per second, 0 when not told.
	Limit int
	// Remaining requests until Reset.
	Remaining int
	// Reset is how long it takes until Remaining is full again.
	Reset time.Duration
}
