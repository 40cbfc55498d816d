package klarna

import (
	"context"
	"errors"
	"net/http"
)

// call is one HTTP request to be made.
type call struct {
	method     string
	path       []string // segments below the endpoint, unescaped
	secret     string   // the customer token in the path, to be kept out of errors
	key        string
	body       []byte
	beforeSend func() error
	read       func(answer) bool // takes what was asked for from a success, and says whether it is there; nil: it is
}

// answer is what came back. Bytes are valid until the next use of the buffer they were read into.
type answer struct {
	status    int
	header    http.Header
	body      []byte
	ok        bool  // a success, with what was asked for
	cut       error // the answer broke off, and body is what had arrived
	garbled   error // the body is complete, in a coding that cannot be undone
	timedOut  bool
	redaction redaction
}

func (a answer) success() bool { return a.status >= 200 && a.status <= 299 }

// check says why a call cannot be sent.
func (c call) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, segment := range c.path {
		if segment == "" || segment == "." || segment == ".." {
			return errors.New("a customer token or id is empty or no path segment")
		}
	}
	return nil
}
