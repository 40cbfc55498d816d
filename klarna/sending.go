package klarna

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
)

// sending is one try on its way out: it knows what can have left the process, and is asked by the connection before
// every write.
//
// The write is the last moment at which a charge can still be withheld, so beforeSend is asked there. A request that was
// withheld, or broken off, is never complete: its Content-Length is not reached.
type sending struct {
	ctx        context.Context // of the try
	content    []byte          // body, may be empty
	beforeSend func() error    // may be nil
	trace      httptrace.ClientTrace
	conn       *fencedConn // the one it was given last

	state   atomic.Uint32
	refusal atomic.Pointer[error]

	judging   sync.Mutex // locked until the answer has been judged
	condemned bool       // nobody else may use the connection
}

func newSending(ctx context.Context, call call) *sending {
	s := &sending{ctx: ctx, content: call.body, beforeSend: call.beforeSend}
	s.judging.Lock()
	return s
}

const (
	idle    uint32 = iota // nothing has left
	started               // the first piece may have left: the rest, too
	over                  // the try has ended, nothing more leaves
)

// traced is the try's context, with which the transport tells which connection the try has been given.
func (s *sending) traced() context.Context {
	s.trace.GotConn = func(got httptrace.GotConnInfo) {
		s.conn = fenced(got.Conn)
		s.conn.sealed.Store(net.Conn(s.conn) != got.Conn)
		if former := s.conn.try.Swap(s); former != nil && former != s {
			s.conn.spent.Store(former.spoilt())
		}
	}
	return httptrace.WithClientTrace(s.ctx, &s.trace)
}

// judge says, once, whether the answer left the connection fit for another try. After a 5xx, or an answer that was cut or
// could not be read, it is closed: a proxy that gave up may still pass on the late answer, which the next try would take
// for its own.
// https://github.com/ledgetech/ledge/issues/199
func (s *sending) judge(sound bool) {
	if s.condemned = !sound; s.condemned && s.conn != nil {
		_ = s.conn.Close() // the transport hears of it by reading
	}
	s.judging.Unlock()
}

// spoilt waits until the try has been judged. The transport hands a connection on as soon as an answer is complete, which
// is before anybody has looked at it.
func (s *sending) spoilt() bool {
	s.judging.Lock()
	defer s.judging.Unlock()
	return s.condemned
}

// pass says whether a piece may leave now. What was withheld once is withheld for good.
func (s *sending) pass() error {
	if refusal := s.refusal.Load(); refusal != nil {
		return *refusal
	}
	if s.beforeSend != nil {
		if err := s.beforeSend(); err != nil {
			s.refusal.Store(&err)
			return err
		}
	}
	if err := s.ctx.Err(); err != nil {
		return err // it ended while beforeSend was asked
	}
	if !s.state.CompareAndSwap(idle, started) && s.state.Load() != started {
		return errOver
	}
	return nil
}

// end stops the try for good, so that a connection that comes to hand late finds nothing to send, and says whether
// anything may have left or why it was refused. Idle connections keep their last try: not its body.
func (s *sending) end() (sent bool, refusal error) {
	sent, s.content = s.state.Swap(over) == started, nil
	if r := s.refusal.Load(); r != nil {
		refusal = *r
	}
	return sent, refusal
}

var (
	errOver     = errors.New("the try has ended")
	errReplayed = errors.New("the connection was lost with the request on it")
)

// body is of a type that net/http knows, for it sends the headers of any other in a write of their own.
func (s *sending) body() io.ReadCloser { return io.NopCloser(bytes.NewReader(s.content)) }

// again serves the transport's own replays: on another connection, when the first turned out to be closed before it was
// used. What may have left is not replayed, since a try is one HTTP request, and the loss of that one must be seen; nor is
// what was refused.
func (s *sending) again() (io.ReadCloser, error) {
	if s.state.Load() != idle || s.refusal.Load() != nil {
		return nil, errReplayed
	}
	return s.body(), nil
}

// fencedConn is a connection that asks the try it was given to before each write. Until it is given to one it makes itself
// ready, with TLS or through a proxy; after a try has ended nothing leaves until the next.
type fencedConn struct {
	net.Conn // HTTP/1 only: one request at a time
	try      atomic.Pointer[sending]
	spent    atomic.Bool // by the try before this one: nothing leaves, and the transport takes another connection
	sealed   atomic.Bool // in TLS, which has something to write of its own, too
}

// leastRequest is less than any request begins with, and more than TLS writes of its own: that the connection ends, or its keys change.
const leastRequest = 100

// piece is the most that leaves at once: a process that froze in the middle of a large order must not complete it when it
// wakes.
const piece = 16 << 10

func (c *fencedConn) Write(b []byte) (n int, err error) {
	try := c.try.Load()
	if try == nil {
		return c.Conn.Write(b)
	}
	if c.spent.Load() {
		return 0, net.ErrClosed
	}
	if c.sealed.Load() && len(b) < leastRequest && try.state.Load() == idle {
		return 0, net.ErrClosed // the connection ends before the try has used it, which is no part of the try: it can go by another
	}
	for n < len(b) && err == nil {
		if err = try.pass(); err == nil {
			var m int
			m, err = c.Conn.Write(b[n:min(n+piece, len(b))])
			n += m
		}
	}
	return n, err
}

// fenced finds what the transport has wrapped in TLS, twice where there is a proxy.
func fenced(conn net.Conn) *fencedConn {
	for {
		switch c := conn.(type) {
		case *fencedConn:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			panic("klarna: a connection that this package has not made") // anything else would send without asking
		}
	}
}

// dial makes connections that can be fenced.
func dial(dialer *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &fencedConn{Conn: conn}, nil
	}
}
