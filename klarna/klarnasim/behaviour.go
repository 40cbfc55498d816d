package klarnasim

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// behaviour is what the beginning of a token asks for.
type behaviour struct {
	slow     time.Duration
	conflict bool
	longID   int // characters of the id of what is made
	coding   string
	faults   []fault
	ending   ending
	after    time.Duration // of a late order
	early    reply         // what is answered before it is made
}

// ending is what becomes of an order in the end.
type ending uint8

const (
	accepted ending = iota
	softDecline
	softDeclineOnce
	unavailable
	suspended
	cancelled
	canceled
	forbidden
	notFound
	currencyMismatch
	badRequest
	rejected
	pending
	pendingAccept
	pendingReject
	noFraudStatus
	captureDeclined
	uncaptured
	partlyCaptured
	late
	lostCancelled
)

// endings by the beginning of a token; the longer of two that match comes first.
func endings() []beginning {
	return []beginning{
		{"ok-", accepted, "accepted"},
		{"soft-decline-once-", softDeclineOnce, "403 PAYMENT_METHOD_FAILED to the first key of the token, later ones are accepted"},
		{"soft-decline-", softDecline, "403 PAYMENT_METHOD_FAILED"},
		{"unavailable-", unavailable, "403 UNAVAILABLE_PAYMENT_METHOD"},
		{"suspended-", suspended, "403 TOKEN_SUSPENDED"},
		{"cancelled-", cancelled, "403 TOKEN_CANCELLED"},
		{"canceled-", canceled, "403 TOKEN_CANCELED"},
		{"forbidden-", forbidden, "403 TOKEN_FORBIDDEN"},
		{"not-found-", notFound, "404 TOKEN_NOT_FOUND"},
		{"currency-mismatch-", currencyMismatch, "403 PAYMENT_METHOD_CURRENCY_MISMATCH"},
		{"bad-request-", badRequest, "400 BAD_REQUEST"},
		{"rejected-", rejected, "200, fraud_status REJECTED"},
		{"pending-accept-", pendingAccept, "200, fraud_status PENDING, soon ACCEPTED"},
		{"pending-reject-", pendingReject, "200, fraud_status PENDING, soon REJECTED"},
		{"pending-", pending, "200, fraud_status PENDING until it is set by hand: PUT /sim/orders/ORDER"},
		{"no-fraud-status-", noFraudStatus, "200 without fraud_status, which is ACCEPTED when the order is read"},
		{"capture-declined-", captureDeclined, "accepted; a later capture is answered 403 PAYMENT_METHOD_FAILED"},
		{"uncaptured-", uncaptured, "accepted, and left AUTHORIZED whatever auto_capture says"},
		{"partly-captured-", partlyCaptured, "accepted; with auto_capture half of the amount is captured"},
		{"lost-cancelled-", lostCancelled, "the order is made and the connection cut; later tries are answered 403 TOKEN_CANCELLED"},
	}
}

type beginning struct {
	text   string
	ending ending
	says   string // what Klarna does, in a line
}

// refusal is the answer to an order that ends in e; false when there is an order.
// https://docs.klarna.com/klarna-checkout/popular-use-cases/place-order-token/
func (e ending) refusal() (reply, bool) {
	switch e {
	case softDecline, softDeclineOnce:
		return refuse(http.StatusForbidden, "PAYMENT_METHOD_FAILED", "The purchase failed"), true
	case unavailable:
		return refuse(http.StatusForbidden, "UNAVAILABLE_PAYMENT_METHOD", "The payment method is not available"), true
	case suspended:
		return refuse(http.StatusForbidden, "TOKEN_SUSPENDED", "The token is suspended"), true
	case cancelled:
		return refuse(http.StatusForbidden, "TOKEN_CANCELLED", "The token is cancelled"), true
	case canceled:
		return refuse(http.StatusForbidden, "TOKEN_CANCELED", "The token is cancelled"), true
	case forbidden:
		return refuse(http.StatusForbidden, "TOKEN_FORBIDDEN", "The token may not be used by this merchant"), true
	case notFound:
		return refuse(http.StatusNotFound, "TOKEN_NOT_FOUND", "Invalid customer-token ID"), true
	case currencyMismatch:
		return refuse(http.StatusForbidden, "PAYMENT_METHOD_CURRENCY_MISMATCH", "The payment method is not available in this currency"), true
	case badRequest:
		return refuse(http.StatusBadRequest, "BAD_REQUEST", "Bad value: order_lines[0].name"), true
	}
	return reply{}, false
}

// fraudStatus is what the answer to an order says; "" leaves the field out.
func (e ending) fraudStatus() string {
	switch e {
	case rejected:
		return "REJECTED"
	case pending, pendingAccept, pendingReject:
		return "PENDING"
	case noFraudStatus:
		return ""
	}
	return "ACCEPTED"
}

// parse reads the beginning of a token.
func parse(token string) behaviour {
	b, _ := read(token)
	return b
}

// read is parse, with what is left of the token behind its beginning.
func read(token string) (b behaviour, rest string) {
	for rest = token; ; {
		switch {
		case takeMillis(&rest, "slow-", &b.slow):
		case takeNumber(&rest, "long-id-", &b.longID):
		case take(&rest, "gzip-"):
			b.coding = "gzip"
		case take(&rest, "br-"):
			b.coding = "br"
		case take(&rest, "conflict-in-flight-"):
			b.conflict = true
		case takeMillis(&rest, "late-", &b.after):
			b.ending, b.early = late, reply{shape: cut}
			if f, ok := takeFault(&rest); ok {
				b.early = f.answer
			}
			return b, rest
		default:
			f, ok := takeFault(&rest)
			if !ok {
				b.ending = takeEnding(&rest)
				return b, rest
			}
			b.faults = append(b.faults, f)
		}
	}
}

func takeEnding(rest *string) ending {
	for _, b := range endings() {
		if take(rest, b.text) {
			return b.ending
		}
	}
	return accepted
}

// fault returns the one that the nth try of a key meets, n ≥ 1.
func (b behaviour) fault(n int) (fault, bool) {
	for _, f := range b.faults {
		if f.tries == always || n <= f.tries {
			return f, true
		}
		n -= f.tries
	}
	return fault{}, false
}

func take(rest *string, text string) bool {
	after, ok := strings.CutPrefix(*rest, text)
	if ok {
		*rest = after
	}
	return ok
}

func takeMillis(rest *string, text string, d *time.Duration) bool {
	n := 0
	if !takeNumber(rest, text, &n) {
		return false
	}
	*d = time.Duration(n) * time.Millisecond
	return true
}

func takeNumber(rest *string, text string, value *int) bool {
	after, ok := strings.CutPrefix(*rest, text)
	if !ok {
		return false
	}
	digits, after, ok := strings.Cut(after, "-")
	n, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil {
		return false
	}
	*rest, *value = after, int(n)
	return true
}

// behaviour is what the beginning of a token or of a capture's reference asks for, after what Outage does.
func (o *Options) behaviour(text string) behaviour {
	if o.Outage != "" {
		text = o.Outage + "-" + text
	}
	return parse(text)
}
