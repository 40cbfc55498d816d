package klarnasim

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// reply is an answer before it is written.
type reply struct {
	status   int
	code     string   // of a refusal
	messages []string // of a refusal
	body     []byte   // of a success
	capture  string   // Capture-Id of a success
	location string
	shape    shape
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
	header := w.Header()
	header.Set("Klarna-Correlation-Id", correlation)
	body, contentType := a.body, "application/json"
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
	case half:
		body = body[:len(body)/2]
	}
	if a.capture != "" {
		header.Set("Capture-Id", a.capture)
		header.Set("Location", a.location)
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
