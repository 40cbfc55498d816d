package klarnasim

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// reply is an answer before it is written.
type reply struct {
	status   int
	code     string   // of a refusal
	messages []string // of a refusal
	body     []byte   // of a success
	capture  string   // Capture-Id of a success
	refund   string   // Refund-Id of a success
	media    string   // of the body; default JSON
	location string
	shape    shape
	coding   string // of the body, whether or not it was asked for
}

// shape is what happens to a reply on its way.
type shape uint8

const (
	whole shape = iota
	bare        // without a body
	html        // a page of HTML instead of the body
	noID        // {} instead of the body
	half        // half of the body, as if it were all
	cut         // nothing at all
	cutHeaders
	cutBody
	uncoded   // an error object without error_code, as the 400 of a token order may have it
	numbered  // a firewall's JSON, with a number as error_code
	overtaken // 504, and the answer late on the same connection
)

// refuse is an answer with Klarna's error object; code "" is the usual one for the status.
// https://docs.klarna.com/api/errors/
func refuse(status int, code string, messages ...string) reply {
	if code == "" {
		code = usualCode(status)
	}
	return reply{status: status, code: code, messages: messages}
}

// usualCode of a status. Those of order management:
// https://docs.klarna.com/resources/developer-tools/error-handling/error-codes-and-messages-for-order-management/
func usualCode(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "BAD_REQUEST"
	case http.StatusUnauthorized:
		return "UNAUTHORIZED"
	case http.StatusForbidden:
		return "REJECTED"
	case http.StatusNotFound:
		return "NOT_FOUND"
	case http.StatusConflict:
		return "CONFLICT"
	case http.StatusRequestEntityTooLarge:
		return "PAYLOAD_TOO_LARGE"
	case http.StatusUnsupportedMediaType:
		return "UNSUPPORTED_MEDIA_TYPE"
	case http.StatusUnprocessableEntity:
		return "UNPROCESSABLE_ENTITY"
	case http.StatusTooManyRequests:
		return "TOO_MANY_REQUESTS"
	case http.StatusInternalServerError:
		return "INTERNAL_SERVER_ERROR"
	case http.StatusServiceUnavailable:
		return "SERVICE_UNAVAILABLE"
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return "TEMPORARILY_UNAVAILABLE"
	}
	return "ERROR_" + strconv.Itoa(status)
}

func (a reply) write(w http.ResponseWriter, correlation string) {
	if a.shape == cut {
		panic(http.ErrAbortHandler) // net/http's way to break the connection, or the stream
	}
	if a.shape == overtaken {
		a.overtake(w)
		return
	}
	header := w.Header()
	header.Set("Klarna-Correlation-Id", correlation)
	body, contentType := a.body, cmp.Or(a.media, "application/json")
	if a.code != "" {
		body = errorObject(correlation, a.code, a.messages)
	}
	switch a.shape {
	case bare:
		body = nil
	case html:
		body, contentType = []byte("<html><body><h1>"+strconv.Itoa(a.status)+"</h1></body></html>"), "text/html"
	case noID:
		body = []byte("{}")
	case uncoded:
		body = []byte(`{"correlation_id":"` + correlation + `","fraud_status":"REJECTED","reason":"declined"}`)
	case numbered:
		body = []byte(`{"error_code":1020,"error_name":"access_denied"}`)
	case half:
		body = body[:len(body)/2]
	}
	if a.capture != "" {
		header.Set("Capture-Id", a.capture)
	}
	if a.refund != "" {
		header.Set("Refund-Id", a.refund)
	}
	if a.location != "" {
		header.Set("Location", a.location)
	}
	if a.coding != "" && len(body) > 0 {
		header.Set("Content-Encoding", a.coding)
		body = encoded(a.coding, body)
	}
	if len(body) > 0 {
		header.Set("Content-Type", contentType)
	}
	if a.status != http.StatusNoContent {
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(a.status)
	if a.shape == cutHeaders || a.shape == cutBody {
		if a.shape == cutBody {
			_, _ = w.Write(body[:len(body)/2])
		}
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

// encoded is the body in its coding. What is said to be br is none: nobody may read it.
func encoded(coding string, body []byte) []byte {
	if coding != "gzip" {
		return body
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(body) // to memory
	_ = w.Close()
	return b.Bytes()
}

// overtake answers 504, and whoever asks next on the connection gets this answer: as behind a proxy that gave up waiting and
// passes on what comes late. https://github.com/ledgetech/ledge/issues/199
func (a reply) overtake(w http.ResponseWriter) {
	conn, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprint(conn, "HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return
	}
	if request, err := http.ReadRequest(buffer.Reader); err == nil {
		_, _ = io.Copy(io.Discard, request.Body)
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", http.StatusOK, len(a.body), a.body)
	}
}

func errorObject(correlation, code string, messages []string) []byte {
	if messages == nil {
		messages = []string{}
	}
	text, err := json.Marshal(struct {
		CorrelationID string   `json:"correlation_id"`
		Code          string   `json:"error_code"`
		Messages      []string `json:"error_messages"`
	}{correlation, code, messages})
	if err != nil {
		panic(err) // strings always marshal
	}
	return text
}
