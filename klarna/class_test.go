package klarna_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/klarna-renewals/renewals/klarna"
)

// Every status is written out, with Klarna's error object and without, so that nobody wonders about 418.
func TestClassifyEveryStatus(t *testing.T) {
	t.Parallel()
	want := func(status int, object bool) klarna.Class {
		switch status {
		case 301, 302, 307, 308, 401, 407, 511: // S55: the host has moved, or a gate wants a password
			return klarna.ClassNotEvaluated
		case 408, 409, 425:
			return klarna.ClassUnknown
		case 429:
			return klarna.ClassRateLimited
		case 503:
			if object {
				return klarna.ClassFailed
			}
			return klarna.ClassUnknown
		}
		switch status / 100 {
		case 2:
			return klarna.ClassAnswered2xx
		case 4:
			if object {
				return klarna.ClassRefused
			}
			return klarna.ClassNotEvaluated
		}
		return klarna.ClassUnknown
	}
	for status := 100; status <= 599; status++ {
		if got := klarna.Classify(status, true, "SOME_CODE"); got != want(status, true) {
			t.Errorf("Classify(%d, with error object) = %v, want %v", status, got, want(status, true))
		}
		if got := klarna.Classify(status, false, ""); got != want(status, false) {
			t.Errorf("Classify(%d, without error object) = %v, want %v", status, got, want(status, false))
		}
	}
	for _, status := range []int{-1, 0, 99, 600, 999} {
		if got := klarna.Classify(status, true, "X"); got != klarna.ClassUnknown {
			t.Errorf("Classify(%d) = %v, want %v", status, got, klarna.ClassUnknown)
		}
	}
}

func TestClassifyEveryCode(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		status int
		code   string
		want   klarna.Class
	}{
		{400, "BAD_REQUEST", klarna.ClassRefused},
		{400, "BAD_VALUE", klarna.ClassRefused},
		{401, "UNAUTHORIZED", klarna.ClassNotEvaluated},
		{403, "TOKEN_SUSPENDED", klarna.ClassRefused},
		{403, "TOKEN_CANCELLED", klarna.ClassRefused},
		{403, "TOKEN_CANCELED", klarna.ClassRefused},
		{403, "TOKEN_FORBIDDEN", klarna.ClassRefused},
		{403, "UNAVAILABLE_PAYMENT_METHOD", klarna.ClassRefused},
		{403, "PAYMENT_METHOD_CURRENCY_MISMATCH", klarna.ClassRefused},
		{403, "PAYMENT_METHOD_FAILED", klarna.ClassRefused},
		{403, "INVALID_OPERATION", klarna.ClassRefused},
		{403, "MERCHANT_INACTIVE", klarna.ClassRefused},
		{403, "REJECTED", klarna.ClassRefused},
		{403, "CAPTURE_NOT_ALLOWED", klarna.ClassRefused},
		{404, "TOKEN_NOT_FOUND", klarna.ClassRefused},
		{404, "NOT_FOUND", klarna.ClassRefused},
		{404, "NO_SUCH_ORDER", klarna.ClassRefused},
		{409, "CONFLICT", klarna.ClassUnknown},
		{409, "BAD_VALUE", klarna.ClassUnknown},
		{413, "PAYLOAD_TOO_LARGE", klarna.ClassRefused},
		{422, "UNPROCESSABLE_ENTITY", klarna.ClassRefused},
		{429, "TOO_MANY_REQUESTS", klarna.ClassRateLimited},
		{500, "INTERNAL_SERVER_ERROR", klarna.ClassUnknown},
		{500, "UNEXPECTED_ERROR", klarna.ClassUnknown},
		{500, "TIMEOUT", klarna.ClassUnknown},
		{500, "INTERNAL_ERROR", klarna.ClassUnknown},
		{502, "TEMPORARILY_UNAVAILABLE", klarna.ClassUnknown},
		{503, "SERVICE_UNAVAILABLE", klarna.ClassFailed},
		{503, "TEMPORARILY_UNAVAILABLE", klarna.ClassFailed},
		{503, "TIMEOUT", klarna.ClassUnknown},
		{503, "INTERNAL_ERROR", klarna.ClassUnknown},
		{503, "timeout", klarna.ClassUnknown},
		{503, "Internal_Error", klarna.ClassUnknown},
		{503, "", klarna.ClassUnknown}, // somebody's object, which says nothing of what failed
		{504, "TEMPORARILY_UNAVAILABLE", klarna.ClassUnknown},
	} {
		if got := klarna.Classify(row.status, true, row.code); got != row.want {
			t.Errorf("Classify(%d, %s) = %v, want %v", row.status, row.code, got, row.want)
		}
	}
}

func TestClassOf(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		err  error
		want klarna.Class
	}{
		{"an order", nil, klarna.ClassOK},
		{"refused", &klarna.Error{StatusCode: 403, HasErrorObject: true, Code: "TOKEN_CANCELLED"}, klarna.ClassRefused},
		{"firewall", &klarna.Error{StatusCode: 403}, klarna.ClassNotEvaluated},
		{"timed out", &klarna.UnknownError{TimedOut: true, Err: context.DeadlineExceeded}, klarna.ClassCut},
		{"cut", &klarna.UnknownError{Cut: true, Err: io.EOF}, klarna.ClassCut},
		{"200 without id", &klarna.UnknownError{StatusCode: 200, Answered2xx: true}, klarna.ClassAnswered2xx},
		{"200, cut in the body", &klarna.UnknownError{StatusCode: 200, Answered2xx: true, Cut: true, Err: io.EOF}, klarna.ClassAnswered2xx},
		{"complete but useless", &klarna.UnknownError{StatusCode: 500}, klarna.ClassUnknown},
		{"not sent", &klarna.NotSentError{Err: io.EOF}, klarna.ClassNotSent},
		{"somebody else's", errors.New("?"), klarna.ClassUnknown},
	} {
		if got := klarna.ClassOf(row.err); got != row.want {
			t.Errorf("%s: ClassOf = %v, want %v", row.name, got, row.want)
		}
		if row.err == nil {
			continue
		}
		if got := klarna.ClassOf(fmt.Errorf("charge: %w", row.err)); got != row.want {
			t.Errorf("%s, wrapped: ClassOf = %v, want %v", row.name, got, row.want)
		}
	}
}

// The words end up in metrics and logs: no two may be the same.
func TestClassString(t *testing.T) {
	t.Parallel()
	seen := map[string]klarna.Class{}
	for c := klarna.ClassOK; c <= klarna.ClassNotSent; c++ {
		if other, ok := seen[c.String()]; ok || c.String() == "invalid" {
			t.Errorf("Class(%d).String() = %q, like Class(%d)", c, c, other)
		}
		seen[c.String()] = c
	}
}
