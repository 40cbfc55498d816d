package klarna

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
)

// upload hands the body of one try to the transport and knows what can have left the process.
//
// net/http reads a body only with a connection in hand, after the headers. So the first read is the last moment at which
// a charge can still be withheld, and beforeSend is asked there. A request whose body was withheld, or broken off, is
// never complete: neither HTTP/1's Content-Length nor HTTP/2's END_STREAM is reached.
type upload struct {
	ctx        context.Context // of the try
	content    []byte
	beforeSend func() error

	state   atomic.Uint32
	refusal atomic.Pointer[error]
}

const (
	idle    uint32 = iota // nothing was handed over
	started               // the first piece was handed over: the rest may have left, too
	over                  // the try has ended, nothing more is handed over
)

// start is the moment from which sending may have begun; false when the try is over.
func (u *upload) start() bool {
	return u.state.CompareAndSwap(idle, started) || u.state.Load() == started
}

// end stops the upload for good, so that a connection that comes to hand late finds nothing to send, and says whether
// sending may have begun or why it was refused.
func (u *upload) end() (sent bool, refusal error) {
	sent = u.state.Swap(over) == started
	if r := u.refusal.Load(); r != nil {
		refusal = *r
	}
	return sent, refusal
}

var (
	errOver     = errors.New("the try has ended")
	errReplayed = errors.New("the connection was lost with the request on it")
)

func (u *upload) reader() io.ReadCloser { return &uploadReader{upload: u, rest: u.content} }

// again serves the transport's own replays: on another connection, when the first turned out to be closed before it was
// used. A body that was handed over is not replayed, because net/http also replays what an HTTP/2 server reset with
// PROTOCOL_ERROR, perhaps after it had acted: a try is one HTTP request, and the loss of that one must be seen.
func (u *upload) again() (io.ReadCloser, error) {
	if u.state.Load() != idle {
		return nil, errReplayed
	}
	return u.reader(), nil
}

type uploadReader struct {
	upload *upload
	rest   []byte
}

// Read asks beforeSend for every piece of a large body, and not only for the first: a process that froze in the middle
// must not complete the request when it wakes.
func (r *uploadReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	if r.upload.beforeSend != nil {
		if err := r.upload.beforeSend(); err != nil {
			r.upload.refusal.Store(&err)
			return 0, err
		}
	}
	if err := r.upload.ctx.Err(); err != nil {
		return 0, err // it ended while beforeSend was asked
	}
	if !r.upload.start() {
		return 0, errOver
	}
	n := copy(p, r.rest)
	if r.rest = r.rest[n:]; len(r.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (r *uploadReader) Close() error { return nil }
