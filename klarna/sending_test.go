package klarna

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
)

// kept is a connection on which everything is kept that is written.
type kept struct {
	net.Conn
	text   []byte
	writes int
}

func (k *kept) Write(b []byte) (int, error) {
	k.text = append(k.text, b...)
	k.writes++
	return len(b), nil
}

// A connection can come to hand after the try has ended, and a transport can replay what it has sent: neither may leave.
func TestSendingAfterTheEnd(t *testing.T) {
	t.Parallel()
	s := &sending{ctx: context.Background(), content: []byte("order")}
	wire := &kept{}
	conn := &fencedConn{Conn: wire}
	conn.try.Store(s)
	if sent, _ := s.end(); sent {
		t.Error("sent, though nothing was written")
	}
	if n, err := conn.Write([]byte("order")); n != 0 || len(wire.text) != 0 || !errors.Is(err, errOver) {
		t.Errorf("wrote %d bytes after the end, %q arrived, error %v", n, wire.text, err)
	}
	if _, err := s.again(); !errors.Is(err, errReplayed) {
		t.Errorf("replay after the end: error %v", err)
	}
	next := &sending{ctx: context.Background()}
	conn.try.Store(next)
	if n, err := conn.Write([]byte("next")); n != 4 || err != nil || string(wire.text) != "next" {
		t.Errorf("the next try wrote %d bytes, error %v, and %q arrived", n, err, wire.text)
	}
}

func TestSendingEndsWhileBeforeSendIsAsked(t *testing.T) {
	t.Parallel()
	s := &sending{ctx: context.Background()}
	s.beforeSend = func() error {
		if sent, _ := s.end(); sent {
			t.Error("sent, though nothing was written")
		}
		return nil
	}
	wire := &kept{}
	conn := &fencedConn{Conn: wire}
	conn.try.Store(s)
	if n, err := conn.Write([]byte("order")); n != 0 || err == nil || len(wire.text) != 0 {
		t.Errorf("wrote %d bytes of a try that was reported as not sent, %q arrived", n, wire.text)
	}
}

func TestSendingIsReplayedOnlyWhereNothingLeft(t *testing.T) {
	t.Parallel()
	asked := 0
	s := &sending{ctx: context.Background(), content: []byte("order"), beforeSend: func() error { asked++; return nil }}
	second, err := s.again()
	if err != nil {
		t.Fatalf("replay of what was not written: %v", err)
	}
	text, err := io.ReadAll(second)
	if err != nil || string(text) != "order" || asked != 0 {
		t.Errorf("read %q, error %v, asked %d times", text, err, asked)
	}
	conn := &fencedConn{Conn: &kept{}}
	conn.try.Store(s)
	if n, err := conn.Write(text); n != len(text) || err != nil || asked != 1 {
		t.Errorf("wrote %d bytes, error %v, asked %d times", n, err, asked)
	}
	if _, err := s.again(); !errors.Is(err, errReplayed) {
		t.Errorf("replay of what was written: error %v", err)
	}
	if sent, _ := s.end(); !sent {
		t.Error("not sent, though it was written")
	}
}

// What was refused once is not carried to the next connection, for each would be closed over it.
func TestSendingIsNotReplayedOnceRefused(t *testing.T) {
	t.Parallel()
	refused := errors.New("the lease is over")
	s := &sending{ctx: context.Background(), beforeSend: func() error { return refused }}
	conn := &fencedConn{Conn: &kept{}}
	conn.try.Store(s)
	if n, err := conn.Write([]byte("order")); n != 0 || !errors.Is(err, refused) {
		t.Errorf("wrote %d bytes, error %v", n, err)
	}
	if _, err := s.again(); !errors.Is(err, errReplayed) {
		t.Errorf("replay of what was refused: error %v", err)
	}
	if sent, why := s.end(); sent || !errors.Is(why, refused) {
		t.Errorf("sent %v, refusal %v", sent, why)
	}
}

func TestFencedConnAsksForEveryPiece(t *testing.T) {
	t.Parallel()
	asked := 0
	refused := errors.New("the lease is over")
	s := &sending{ctx: context.Background(), beforeSend: func() error {
		if asked++; asked == 3 {
			return refused
		}
		return nil
	}}
	wire := &kept{}
	conn := &fencedConn{Conn: wire}
	if n, err := conn.Write(make([]byte, 3*piece)); n != 3*piece || err != nil || asked != 0 || wire.writes != 1 {
		t.Errorf("before a try: wrote %d bytes in %d writes, asked %d times, error %v", n, wire.writes, asked, err)
	}
	wire.text = nil
	conn.try.Store(s)
	if n, err := conn.Write(make([]byte, 3*piece)); n != 2*piece || len(wire.text) != n || !errors.Is(err, refused) {
		t.Errorf("wrote %d bytes, %d arrived, error %v, want two pieces", n, len(wire.text), err)
	}
}

// S54: the transport hands a connection on before its last answer has been judged. Whoever is given it waits for that, and
// where the answer spoilt it nothing is asked and nothing leaves, so that the transport may take another.
func TestConnectionIsJudgedBeforeItsNextUse(t *testing.T) {
	t.Parallel()
	for _, sound := range []bool{true, false} {
		here, there := net.Pipe()
		defer there.Close()
		go io.Copy(io.Discard, there)
		conn := &fencedConn{Conn: here}
		first := newSending(t.Context(), call{})
		first.traced()
		first.trace.GotConn(httptrace.GotConnInfo{Conn: conn})
		asked := 0
		second := newSending(t.Context(), call{beforeSend: func() error { asked++; return nil }})
		second.traced()
		given := make(chan struct{})
		go func() {
			defer close(given)
			second.trace.GotConn(httptrace.GotConnInfo{Conn: conn, Reused: true})
		}()
		first.judge(sound)
		<-given
		_, err := conn.Write([]byte("POST"))
		if sent, _ := second.end(); sent != sound || (asked == 1) != sound || (err == nil) != sound {
			t.Errorf("answer sound %v: sent %v, asked %d times, error %v", sound, sent, asked, err)
		}
		second.judge(true)
		_ = here.Close()
	}
}

// A proxy that the environment names must not see tokens and API keys: only the configuration's own is used. Go never proxies
// loopback, so that no request to a test's server would show it.
func TestNoProxyFromTheEnvironment(t *testing.T) {
	if newTransport(Config{}).Proxy != nil {
		t.Error("a proxy that nobody configured")
	}
}

// Where the server closes a connection just as a try has been given it, TLS writes that it ends: the try has sent nothing by that.
func TestSendingIsReplayedWhereTLSHasEnded(t *testing.T) {
	t.Parallel()
	s := &sending{ctx: context.Background(), content: []byte("order")}
	wire := &kept{}
	conn := &fencedConn{Conn: wire}
	conn.sealed.Store(true)
	conn.try.Store(s)
	closing, request := make([]byte, 24), make([]byte, 2*leastRequest)
	if n, err := conn.Write(closing); n != 0 || !errors.Is(err, net.ErrClosed) || wire.writes != 0 {
		t.Errorf("wrote %d bytes, error %v, in %d writes", n, err, wire.writes)
	}
	if _, err := s.again(); err != nil {
		t.Errorf("no replay of what was not written: %v", err)
	}
	if n, err := conn.Write(request); n != len(request) || err != nil {
		t.Errorf("wrote %d bytes of the request, error %v", n, err)
	}
	if n, err := conn.Write(closing); n != len(closing) || err != nil {
		t.Errorf("wrote %d bytes behind the request, error %v", n, err)
	}
	if sent, _ := s.end(); !sent {
		t.Error("not sent, though the request was written")
	}
}

// The transport tells by the connection that it gives to a try whether TLS writes on it, too.
func TestSendingKnowsTLS(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*httptest.Server){"plain": (*httptest.Server).Start, "TLS": (*httptest.Server).StartTLS} {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		start(server)
		t.Cleanup(server.Close)
		transport := server.Client().Transport.(*http.Transport)
		transport.DialContext = dial(new(net.Dialer))
		s := &sending{ctx: context.Background()}
		request, err := http.NewRequestWithContext(s.traced(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := s.conn.sealed.Load(); got != (name == "TLS") {
			t.Errorf("%s: sealed %t", name, got)
		}
	}
}

// What was withheld once is withheld for good, also where the lease would allow it a moment later: the try was told of as not sent.
func TestSendingStaysWithheld(t *testing.T) {
	t.Parallel()
	refused := errors.New("the lease is over")
	asked := 0
	s := &sending{ctx: context.Background(), beforeSend: func() error {
		if asked++; asked == 1 {
			return refused
		}
		return nil
	}}
	wire := &kept{}
	conn := &fencedConn{Conn: wire}
	conn.try.Store(s)
	for range 2 {
		if n, err := conn.Write([]byte("order")); n != 0 || !errors.Is(err, refused) || wire.writes != 0 {
			t.Errorf("wrote %d bytes, error %v, in %d writes", n, err, wire.writes)
		}
	}
	if sent, refusal := s.end(); sent || !errors.Is(refusal, refused) {
		t.Errorf("sent %t, refusal %v", sent, refusal)
	}
}
