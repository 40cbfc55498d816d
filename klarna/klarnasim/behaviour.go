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

// fault replaces an answer for some tries of a key.
type fault struct {
	answer  reply
	created bool // the order is made, or refused, all the same
	tries   int  // the first tries of a key; always is for ever
	late    bool // the order is made after the answer, see Options.LateBy
}

const always = -1

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
		{"ok-", accepted},
		{"soft-decline-once-", softDeclineOnce},
		{"soft-decline-", softDecline},
		{"unavailable-", unavailable},
		{"suspended-", suspended},
		{"cancelled-", cancelled},
		{"canceled-", canceled},
		{"forbidden-", forbidden},
		{"not-found-", notFound},
		{"currency-mismatch-", currencyMismatch},
		{"bad-request-", badRequest},
		{"rejected-", rejected},
		{"pending-accept-", pendingAccept},
		{"pending-reject-", pendingReject},
		{"pending-", pending},
		{"no-fraud-status-", noFraudStatus},
		{"capture-declined-", captureDeclined},
		{"uncaptured-", uncaptured},
		{"partly-captured-", partlyCaptured},
		{"lost-cancelled-", lostCancelled},
	}
}

type beginning struct {
	text   string
	ending ending
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
	var b behaviour
	for rest := token; ; {
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
			return b
		default:
			f, ok := takeFault(&rest)
			if !ok {
				b.ending = parseEnding(rest)
				return b
			}
			b.faults = append(b.faults, f)
		}
	}
}

func parseEnding(rest string) ending {
	for _, b := range endings() {
		if strings.HasPrefix(rest, b.text) {
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

// takeFault takes one fault off the beginning of *rest, and leaves *rest alone when there is none.
func takeFault(rest *string) (fault, bool) {
	f := fault{tries: always}
	left := *rest
	if take(&left, "created-") {
		f.created, f.tries = true, 1
	}
	word, ok := "", false
	for _, known := range [...]struct {
		text   string
		answer reply
	}{
		{"cut-headers", reply{status: http.StatusOK, shape: cutHeaders, body: blankOrder()}},
		{"cut-body", reply{status: http.StatusOK, shape: cutBody, body: blankOrder()}},
		{"cut", reply{shape: cut}},
		{"empty-200", reply{status: http.StatusOK, shape: bare}},
		{"no-id-200", reply{status: http.StatusOK, shape: noID}},
		{"broken-200", reply{status: http.StatusOK, shape: half, body: blankOrder()}},
		{"late-answer", reply{status: http.StatusGatewayTimeout, shape: overtaken}},
	} {
		if !strings.HasPrefix(left, known.text) {
			continue
		}
		if known.answer.shape == overtaken {
			f.created, f.tries = true, 1
		}
		if word, left, ok = strings.Cut(left[len(known.text):], "-"); ok && f.repeat(word) {
			f.answer, *rest = known.answer, left
			return f, true
		}
		return fault{}, false
	}
	if word, left, ok = strings.Cut(left, "-"); !ok || len(word) < 3 || !f.repeat(word[3:]) {
		return fault{}, false
	}
	status, err := strconv.ParseUint(word[:3], 10, 16)
	if err != nil || status < 300 || status > 599 {
		return fault{}, false
	}
	if f.answer = refuse(int(status), ""); status < 400 {
		f.answer = reply{status: int(status), shape: bare, location: "https://moved.example/"}
	}
	word, after, ok := strings.Cut(left, "-")
	switch {
	case !ok:
	case word == "bare":
		f.answer.shape, left = bare, after
	case word == "html":
		f.answer.shape, left = html, after
	case word == "uncoded":
		f.answer.shape, left = uncoded, after
	case word == "numbered":
		f.answer.shape, left = numbered, after
	case isCode(word):
		f.answer.code, left = word, after
	}
	*rest = left
	return f, true
}

// repeat reads "" or "x3", the number of tries that f spoils.
func (f *fault) repeat(word string) bool {
	if word == "" {
		return true
	}
	digits, ok := strings.CutPrefix(word, "x")
	n, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil {
		return false
	}
	f.tries = int(n)
	return true
}

// isCode tells an error_code from the rest of a token: capitals, or small letters with a line below, which no beginning has.
func isCode(word string) bool {
	other := func(first, last rune) bool {
		return strings.IndexFunc(word, func(r rune) bool { return r != '_' && (r < first || r > last) }) >= 0
	}
	return len(word) >= 3 && (!other('A', 'Z') || strings.Contains(word, "_") && !other('a', 'z'))
}

// blankOrder is the body of an answer that is never read to its end.
func blankOrder() []byte {
	return []byte(`{"order_id":"00000000-0000-4000-a000-000000000000","fraud_status":"ACCEPTED"}`)
}

// chance draws the fault that a try meets at random, by its key and number.
func chance(o *Options, key string, try int) (fault, bool) {
	if o.Faults <= 0 {
		return fault{}, false
	}
	x := mix(mixString(o.Seed, key), uint64(try))
	if share(x) >= o.Faults {
		return fault{}, false
	}
	words := [...]string{
		"429-", "503-", "503-bare-", "502-html-", "500-", "cut-",
		"created-503-bare-", "created-500-", "created-cut-", "created-cut-body-", "created-empty-200-", "created-broken-200-",
		"late-500-", "late-500-TIMEOUT-", "late-502-html-", "late-504-bare-", "late-408-",
	}
	word := words[mix(x, 2)%uint64(len(words))]
	early := take(&word, "late-")
	f, ok := takeFault(&word)
	f.late = early
	return f, ok
}

// behaviour is what the beginning of a token or of a capture's reference asks for, after what Outage does.
func (o *Options) behaviour(text string) behaviour {
	if o.Outage != "" {
		text = o.Outage + "-" + text
	}
	return parse(text)
}
