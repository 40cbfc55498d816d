package klarna

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Answers are read leniently, because Klarna adds fields and values and Kustom sends bodies that are empty: what has the
// wrong type is as if it were absent. Only what counts as a success is strict.

const (
	maxMessages    = 10
	maxCode        = 64
	maxCorrelation = 128
	maxRetryAfter  = time.Hour
	maxAnswer      = 1 << 20 // bytes of a body that are read
)

// buffers holds the memory that answers are read into, one for each call in flight.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if buffer, ok := b.pool.Get().(*[]byte); ok {
		return buffer
	}
	buffer := make([]byte, 0, 1024)
	return &buffer
}

func (b *buffers) put(buffer *[]byte) {
	if cap(*buffer) <= 64<<10 {
		b.pool.Put(buffer)
	}
}

var errTooLong = errors.New("the answer is longer than 1 MiB")

// readAnswer reads r to its end into buffer and beyond. Of an answer that is too long nothing is kept.
func readAnswer(buffer []byte, r io.Reader) ([]byte, error) {
	buffer = buffer[:0]
	for {
		if len(buffer) == cap(buffer) {
			buffer = append(buffer, 0)[:len(buffer)]
		}
		n, err := r.Read(buffer[len(buffer):min(cap(buffer), maxAnswer+1)])
		buffer = buffer[:len(buffer)+n]
		switch {
		case len(buffer) > maxAnswer:
			return buffer[:0], errTooLong
		case errors.Is(err, io.EOF):
			return buffer, nil
		case err != nil:
			return buffer, err
		}
	}
}

// readBody reads the body of an answer, as far as it comes.
func (a *answer) readBody(ctx context.Context, response *http.Response, buffer *[]byte) {
	body, err := uncompressed(response)
	if err == nil {
		a.body, err = readAnswer(*buffer, body)
		*buffer = a.body
	}
	switch {
	case err == nil, errors.Is(err, errTooLong):
	case unreadable(err):
		a.garbled = err
	default:
		a.timedOut = errors.Is(ctx.Err(), context.DeadlineExceeded)
		if a.cut = ctx.Err(); a.cut == nil {
			a.cut = a.redaction.error(err)
		}
	}
}

// uncompressed is the body as the server meant it. Nothing but identity is asked for, and gzip comes all the same:
// https://github.com/typhoeus/typhoeus/issues/393. Of a gzip stream no more is read than would be of a plain answer.
func uncompressed(response *http.Response) (io.Reader, error) {
	coding := strings.ToLower(strings.TrimSpace(response.Header.Get("Content-Encoding")))
	switch coding {
	case "", "identity":
		return response.Body, nil
	case "gzip", "x-gzip":
	default:
		return nil, errCoding
	}
	body := bufio.NewReader(io.LimitReader(response.Body, maxAnswer+1))
	if magic, err := body.Peek(2); err != nil || !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return body, nil // empty, or unpacked on the way by somebody who left the header
	}
	return gzip.NewReader(body)
}

var errCoding = errors.New("the answer is in a coding that was not asked for")

// unreadable says that an answer came to its end, but in a coding that cannot be undone.
func unreadable(err error) bool {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	return corrupt || errors.Is(err, errCoding) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum)
}

// decode reads a JSON object and reports whether it was one. A field of the wrong type is left as it was.
func decode(body []byte, target any) bool {
	err := json.Unmarshal(body, target)
	if err == nil {
		return true
	}
	wrongType, ok := errors.AsType[*json.UnmarshalTypeError](err)
	return ok && wrongType.Field != ""
}

// failure is the error of an answer that was not read as a success. For a 2xx, missing says what was not found in it.
func (a answer) failure(missing string) error {
	success := a.status >= 200 && a.status <= 299
	correlation := a.correlationID("")
	switch {
	case a.cut != nil:
		return &UnknownError{
			StatusCode: a.status, Answered2xx: success, TimedOut: a.timedOut, Cut: !a.timedOut,
			CorrelationID: correlation, Err: a.cut,
		}
	case a.garbled != nil && (success || Classify(a.status, true, "A_CODE") != Classify(a.status, false, "")):
		return &UnknownError{StatusCode: a.status, Answered2xx: success, CorrelationID: correlation, Err: a.garbled}
	case success:
		return &UnknownError{StatusCode: a.status, Answered2xx: true, CorrelationID: correlation, Err: errors.New(missing)}
	}
	var object errorObject
	e := &Error{StatusCode: a.status, RateLimit: a.rateLimit(), RetryAfter: a.retryAfter()}
	if decode(a.body, &object) {
		e.Code = a.code(object.Code.said)
		e.FraudStatus = shorten(strings.ToUpper(strings.TrimSpace(object.FraudStatus.said)), maxCode)
		e.HasErrorObject = object.klarnas()
		for _, message := range append(object.Messages, object.Message...) {
			if len(e.Messages) < maxMessages {
				e.Messages = append(e.Messages, shorten(a.redaction.text(message), maxMessage))
			}
		}
	}
	e.CorrelationID = a.correlationID(object.CorrelationID.said)
	if a.status >= 300 && a.status <= 399 {
		if to, err := url.Parse(a.header.Get("Location")); err == nil && to.Host != "" {
			e.RedirectedTo = shorten(a.redaction.text(to.Host), maxCode)
		}
	}
	return e
}

// errorObject is what Klarna's application says when it refuses. The 400 of a token order (ErrorV2) has every field optional,
// error_code among them; some pages have error_message.
// https://docs.klarna.com/api/errors/
type errorObject struct {
	Code          word      `json:"error_code"`
	Messages      wordsList `json:"error_messages"`
	Message       wordsList `json:"error_message"`
	CorrelationID word      `json:"correlation_id"`
	FraudStatus   word      `json:"fraud_status"`
	Reason        word      `json:"reason"`
}

// klarnas says that Klarna's application spoke: one of its fields is there. A number as error_code alone is a firewall's:
// https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/
func (o errorObject) klarnas() bool {
	return o.Code.given && !o.Code.number && strings.TrimSpace(o.Code.said) != "" || o.Messages != nil || o.CorrelationID.given || o.FraudStatus.given || o.Reason.given
}

// word is a string, or something else in its place.
type word struct {
	said   string
	given  bool // there, and not null
	number bool // said is one, as it was written
}

func (w *word) UnmarshalJSON(text []byte) error {
	*w = word{given: string(text) != "null"}
	var number json.Number
	switch {
	case json.Unmarshal(text, &w.said) == nil:
	case json.Unmarshal(text, &number) == nil:
		w.said, w.number = number.String(), true
	}
	return nil
}

// wordsList is a list of strings that may also come as one string, or as something else and then counts as empty.
type wordsList []string

func (w *wordsList) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil && one != "" {
		*w = wordsList{one}
		return nil
	}
	var several []string
	_ = json.Unmarshal(text, &several)
	*w = several
	return nil
}

// code returns Klarna's word untouched where it looks like one, so that no redaction can turn it into another.
func (a answer) code(s string) string {
	s = strings.TrimSpace(s)
	plain := strings.IndexFunc(s, func(r rune) bool { return r != '_' && (r < 'A' || r > 'Z') && (r < '0' || r > '9') }) < 0
	if plain && len(s) <= maxCode {
		return s
	}
	return shorten(a.redaction.text(s), maxCode)
}

func (a answer) correlationID(fromBody string) string {
	if fromBody == "" {
		fromBody = a.header.Get("Klarna-Correlation-Id")
	}
	return shorten(a.redaction.text(fromBody), maxCorrelation)
}

func (a answer) rateLimit() RateLimit {
	remaining, ok := number(a.header.Get("X-Ratelimit-Remaining"))
	if !ok {
		return RateLimit{}
	}
	limit, _ := number(a.header.Get("X-Ratelimit-Limit"))
	reset, _ := number(a.header.Get("X-Ratelimit-Reset"))
	return RateLimit{Known: true, Limit: int(limit), Remaining: int(remaining), Reset: seconds(reset)}
}

// number reads the first number of a header like "40, 40;w=1".
func number(s string) (float64, bool) {
	if end := strings.IndexAny(s, ",;"); end >= 0 {
		s = s[:end]
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return min(n, 1<<30), err == nil && n >= 0
}

func seconds(n float64) time.Duration {
	return min(time.Duration(n*float64(time.Second)), maxRetryAfter)
}

// retryAfter is the longer of Retry-After and, on a 429, X-Ratelimit-Reset, which Klarna sends with every answer. A date is
// measured by the answer's own Date, since our clock may differ.
func (a answer) retryAfter() time.Duration {
	var wait time.Duration
	if a.status == http.StatusTooManyRequests {
		if reset, ok := number(a.header.Get("X-Ratelimit-Reset")); ok {
			wait = seconds(reset)
		}
	}
	text := a.header.Get("Retry-After")
	if n, ok := number(text); ok {
		return max(wait, seconds(n))
	}
	until, err := http.ParseTime(text)
	now, errNow := http.ParseTime(a.header.Get("Date"))
	if err == nil && errNow == nil {
		wait = max(wait, min(until.Sub(now), maxRetryAfter))
	}
	return wait
}
