package klarna_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/klarna-renewals/renewals/klarna"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is a bare TCP server: what arrives is kept byte for byte, and what is answered is up to the script.
type wire struct {
	URL      string
	listener net.Listener
	serving  sync.WaitGroup

	mu   sync.Mutex
	seen []*bytes.Buffer // one for each connection
}

// newWire runs script on each connection and closes it afterwards.
func newWire(t testing.TB, script func(conn net.Conn, seen io.Writer)) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{URL: "http://" + listener.Addr().String(), listener: listener}
	w.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.serving.Go(func() {
				defer conn.Close()
				script(conn, w.page())
			})
		}
	})
	t.Cleanup(w.close)
	return w
}

func (w *wire) close() {
	_ = w.listener.Close()
	w.serving.Wait()
}

type page struct {
	wire   *wire
	buffer *bytes.Buffer
}

func (p page) Write(b []byte) (int, error) {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	return p.buffer.Write(b)
}

func (w *wire) page() io.Writer {
	w.mu.Lock()
	defer w.mu.Unlock()
	buffer := new(bytes.Buffer)
	w.seen = append(w.seen, buffer)
	return page{w, buffer}
}

// completeRequests counts those whose body arrived to the last byte, and the bytes of all bodies.
func (w *wire) completeRequests() (complete, bodyBytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, buffer := range w.seen {
		reader := bufio.NewReader(bytes.NewReader(buffer.Bytes()))
		for {
			request, err := http.ReadRequest(reader)
			if err != nil {
				break
			}
			n, err := io.Copy(io.Discard, request.Body)
			if bodyBytes += int(n); err != nil {
				break
			}
			complete++
		}
	}
	return complete, bodyBytes
}

// arrived counts all bytes, of headers and bodies.
func (w *wire) arrived() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, buffer := range w.seen {
		n += buffer.Len()
	}
	return n
}

// hearRequest reads one whole request.
func hearRequest(conn net.Conn, seen io.Writer) bool {
	request, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, seen)))
	if err != nil {
		return false
	}
	_, err = io.ReadAll(request.Body)
	return err == nil
}

func TestCutConnections(t *testing.T) {
	t.Parallel()
	answerAnd := func(text string) func(net.Conn, io.Writer) {
		return func(conn net.Conn, seen io.Writer) {
			if hearRequest(conn, seen) {
				_, _ = io.WriteString(conn, text)
			}
		}
	}
	for _, row := range []struct {
		name   string
		script func(net.Conn, io.Writer)
		class  klarna.Class
		status int
	}{
		{name: "after nothing", script: answerAnd(""), class: klarna.ClassCut},
		{name: "in the status line", script: answerAnd("HTTP/1.1 20"), class: klarna.ClassCut},
		{name: "in the headers", script: answerAnd("HTTP/1.1 200 OK\r\nContent-Le"), class: klarna.ClassCut},
		{name: "after the headers of a 200", script: answerAnd("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n"), class: klarna.ClassAnswered2xx, status: 200},
		{name: "in the body of a 200", script: answerAnd("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"order_id\":"), class: klarna.ClassAnswered2xx, status: 200},
		{name: "in the body of a 403", script: answerAnd("HTTP/1.1 403 Forbidden\r\nContent-Length: 90\r\n\r\n{\"error_code\":\"TOKEN_CANCELLED\"}"), class: klarna.ClassCut, status: 403},
		{name: "in the body of a 503", script: answerAnd("HTTP/1.1 503 Unavailable\r\nContent-Length: 90\r\n\r\n{\"error"), class: klarna.ClassCut, status: 503},
		{name: "after the closing brace of a 200", script: answerAnd("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n{\"order_id\":\"o-1\"}\r\n"), class: klarna.ClassOK},
		{name: "no HTTP at all", script: answerAnd("SSH-2.0-OpenSSH_9.6 " + theToken + "\r\n"), class: klarna.ClassCut},
		{name: "before the request was read", script: func(conn net.Conn, _ io.Writer) { _, _ = conn.Read(make([]byte, 1)) }, class: klarna.ClassCut},
		{name: "an interim answer, then nothing", script: answerAnd("HTTP/1.1 103 Early Hints\r\n\r\n"), class: klarna.ClassCut},
		{name: "another protocol", script: answerAnd("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), class: klarna.ClassUnknown, status: 101},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := newWire(t, row.script)
			order, err := charge(newClient(t, server.URL))
			if got := klarna.ClassOf(err); got != row.class {
				t.Errorf("order %+v, error %v (%v), want %v", order, err, got, row.class)
			}
			var unknown *klarna.UnknownError
			if errors.As(err, &unknown) && (!unknown.Cut || unknown.TimedOut || unknown.StatusCode != row.status) {
				t.Errorf("error %#v, want cut with status %d", unknown, row.status)
			}
			if row.class != klarna.ClassOK {
				assertNoSecret(t, err)
			}
			if complete, _ := server.completeRequests(); complete > 1 {
				t.Errorf("%d requests for one try", complete)
			}
		})
	}
}

// S37: a try that is withheld at the last moment leaves nothing on the connection that a server could take for an order. Withheld
// after its first piece it counts as cut: beneath TLS nobody can tell that from a whole one.
func TestWithheldTryIsNeverComplete(t *testing.T) {
	t.Parallel()
	refused := errors.New("the lease is over")
	for _, row := range []struct {
		name    string
		size    int
		allowed int // pieces that BeforeSend lets pass
	}{
		{"a usual order", len(monthly), 0},
		{"a large order", 256 << 10, 0},
		{"a large order, after the first piece", 256 << 10, 1},
		{"a large order, after a few pieces", 256 << 10, 5},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := newWire(t, func(conn net.Conn, seen io.Writer) { _, _ = io.Copy(seen, conn) })
			client := newClient(t, server.URL)
			asked := 0
			_, err := charge(client, func(r *klarna.CreateOrderRequest) {
				r.Body = bytes.Repeat([]byte("x"), row.size)
				r.BeforeSend = func() error {
					if asked++; asked > row.allowed {
						return refused
					}
					return nil
				}
			})
			want := klarna.ClassNotSent
			if row.allowed > 0 {
				want = klarna.ClassCut
			}
			if klarna.ClassOf(err) != want || row.allowed == 0 && !errors.Is(err, refused) {
				t.Errorf("error %v (%v), want %v, %v", err, klarna.ClassOf(err), want, refused)
			}
			if asked != row.allowed+1 {
				t.Errorf("asked %d times, want %d", asked, row.allowed+1)
			}
			client.CloseIdle()
			server.close()
			if complete, arrived := server.completeRequests(); complete != 0 || row.allowed == 0 && server.arrived() != 0 || arrived >= row.size {
				t.Errorf("%d complete requests, %d bytes, %d of a body of %d arrived", complete, server.arrived(), arrived, row.size)
			}
		})
	}
}

func TestBeforeSendIsAskedWithTheConnectionInHand(t *testing.T) {
	t.Parallel()
	var accepted atomic.Bool
	server := httptest.NewUnstartedServer(answering(200, `{"order_id":"o-1"}`))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			accepted.Store(true)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := newClient(t, server.URL)
	asked := 0
	_, err := charge(client, func(r *klarna.CreateOrderRequest) { r.BeforeSend = func() error { asked++; return nil } })
	if err != nil || asked != 1 || !accepted.Load() {
		t.Errorf("asked %d times, error %v, want once", asked, err)
	}

	asked = 0
	_, err = charge(newClient(t, "http://"+unusedAddress(t)), func(r *klarna.CreateOrderRequest) { r.BeforeSend = func() error { asked++; return nil } })
	if klarna.ClassOf(err) != klarna.ClassNotSent || asked != 0 {
		t.Errorf("nobody listens: asked %d times, error %v, want never, not sent", asked, err)
	}
}

// S37: a process that is frozen while BeforeSend is asked finds, when it wakes, that its try is over: nothing is sent.
func TestWakingUpTooLate(t *testing.T) {
	t.Parallel()
	server := newWire(t, func(conn net.Conn, seen io.Writer) { _, _ = io.Copy(seen, conn) })
	client := newClient(t, server.URL)
	ctx, end := context.WithCancel(context.Background())
	var called, result sync.WaitGroup
	called.Add(1)
	wake := make(chan struct{})
	var err error
	result.Go(func() {
		_, err = client.CreateOrder(ctx, klarna.CreateOrderRequest{
			CustomerToken: klarna.NewCustomerToken(theToken), IdempotencyKey: "k", Body: []byte(monthly),
			BeforeSend: func() error {
				called.Done()
				<-wake
				return nil
			},
		})
	})
	called.Wait()
	end()
	close(wake)
	result.Wait()
	client.CloseIdle()
	server.close()
	if n := server.arrived(); n != 0 {
		t.Errorf("%d bytes arrived, want none", n)
	}
	if !errors.Is(err, context.Canceled) || klarna.ClassOf(err) != klarna.ClassNotSent {
		t.Errorf("error %v, want not sent, %v", err, context.Canceled)
	}
}

// Whatever the moment at which the caller gives up, "not sent" is only said of what never arrives.
func TestNotSentIsTrueAtEveryMoment(t *testing.T) {
	t.Parallel()
	seen := map[klarna.Class]int{}
	for i := range 150 {
		server := newWire(t, func(conn net.Conn, seen io.Writer) { _, _ = io.Copy(seen, conn) })
		client := newClient(t, server.URL)
		ctx, end := context.WithCancel(context.Background())
		giveUp := func() {
			for range i {
				runtime.Gosched()
			}
			end()
		}
		beforeSend := func() error { return nil }
		if i%2 == 0 {
			go giveUp() // while the connection is being made
		} else {
			beforeSend = func() error { go giveUp(); return nil } // while the body is being written
		}
		_, err := client.CreateOrder(ctx, klarna.CreateOrderRequest{
			CustomerToken: klarna.NewCustomerToken(theToken), IdempotencyKey: "k", Body: []byte(monthly), BeforeSend: beforeSend,
		})
		end()
		client.CloseIdle()
		server.close()
		class := klarna.ClassOf(err)
		seen[class]++
		switch {
		case class == klarna.ClassNotSent && server.arrived() != 0:
			t.Fatal("not sent, it says, and it arrived")
		case class != klarna.ClassNotSent && class != klarna.ClassCut:
			t.Fatalf("error %v", err)
		}
	}
	t.Log(seen) // which of the two a moment gives is up to the scheduler
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, answer string
		status       int
		class        klarna.Class
	}{
		{name: "no answer", class: klarna.ClassCut},
		{name: "headers of a 200, but no body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n", status: 200, class: klarna.ClassAnswered2xx},
		{name: "headers of a 403, but no body", answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 30\r\n\r\n", status: 403, class: klarna.ClassCut},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := newWire(t, func(conn net.Conn, seen io.Writer) {
				if hearRequest(conn, seen) {
					_, _ = io.WriteString(conn, row.answer)
				}
				_, _ = io.Copy(seen, conn) // until the client goes away
			})
			client := newClient(t, server.URL, func(c *klarna.Config) { c.Timeout = time.Second })
			_, err := charge(client)
			var unknown *klarna.UnknownError
			if !errors.As(err, &unknown) || !unknown.TimedOut || unknown.Cut || unknown.StatusCode != row.status {
				t.Errorf("error %#v, want timed out with status %d", err, row.status)
			}
			if got := klarna.ClassOf(err); got != row.class || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v (%v), want %v", err, got, row.class)
			}
			assertNoSecret(t, err)
		})
	}
}

// An early answer to a large order is read, though the rest of the order is of no interest any more.
func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	server := newWire(t, func(conn net.Conn, seen io.Writer) {
		if _, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, seen))); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n")
		}
		_, _ = io.Copy(seen, conn)
	})
	_, err := charge(newClient(t, server.URL), func(r *klarna.CreateOrderRequest) { r.Body = bytes.Repeat([]byte("x"), 200<<10) })
	var answered *klarna.Error
	if !errors.As(err, &answered) || answered.StatusCode != 429 || answered.RetryAfter != 5*time.Second {
		t.Errorf("error %v, want 429", err)
	}
}

// A connection that the server closed while it was idle costs nothing: the next try gets another one.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	var wait sync.WaitGroup
	serve := func(l net.Listener) *http.Server {
		server := &http.Server{Handler: answering(200, `{"order_id":"o-1"}`), ReadHeaderTimeout: time.Minute}
		wait.Go(func() { _ = server.Serve(l) })
		return server
	}
	server := serve(listener)
	client := newClient(t, "http://"+address)
	if _, err := charge(client); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	wait.Wait()
	if listener, err = net.Listen("tcp", address); err != nil {
		t.Skipf("the port is taken: %v", err)
	}
	server = serve(listener)
	defer func() { _ = server.Close(); wait.Wait() }()
	for range 3 {
		// Where the end of the old connection has not been noticed, a try may meet it; that one is undecided, never refused.
		_, err = charge(client)
		if class := klarna.ClassOf(err); class != klarna.ClassOK && class != klarna.ClassCut && class != klarna.ClassNotSent {
			t.Fatalf("after a restart: %v", err)
		}
	}
	if err != nil {
		t.Errorf("after a restart, third try: %v", err)
	}
}

// No way of failing gives away the customer token, the API key or the URL.
func TestNoErrorLeaks(t *testing.T) {
	t.Parallel()
	echo := func(status int, format string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Klarna-Correlation-Id", r.URL.Path)
			w.Header().Set("Location", "http://"+r.Host+r.URL.Path)
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, format, r.URL.Path, r.Header.Get("Authorization"), theKey)
		}
	}
	cutting := func(text string) func(net.Conn, io.Writer) {
		return func(conn net.Conn, seen io.Writer) {
			if hearRequest(conn, seen) {
				_, _ = io.WriteString(conn, text)
			}
		}
	}
	page := "%s %s %s"
	object := `{"error_code":"X%[1]s","error_messages":["%[1]s","%[2]s","%[3]s"],"correlation_id":"%[1]s %[3]s"}`
	urls := map[string]string{
		"refused dial":             "http://" + unusedAddress(t),
		"no such host":             "http://host.invalid",
		"302":                      newRecorder(t, echo(302, page)).endpoint(),
		"200, a page":              newRecorder(t, echo(200, page)).endpoint(),
		"400, an object":           newRecorder(t, echo(400, object)).endpoint(),
		"401, an object":           newRecorder(t, echo(401, object)).endpoint(),
		"403, a page":              newRecorder(t, echo(403, page)).endpoint(),
		"500, an object":           newRecorder(t, echo(500, object)).endpoint(),
		"cut":                      newWire(t, cutting("")).URL,
		"garbage":                  newWire(t, cutting("/customer-token/v1/tokens/"+theToken+"/order "+theKey+"\r\n")).URL,
		"garbage as a status":      newWire(t, cutting("HTTP/1.1 "+theToken+" OK\r\n\r\n")).URL,
		"garbage as a header":      newWire(t, cutting("HTTP/1.1 200 OK\r\n"+theToken+"\r\n\r\n")).URL,
		"garbage as a length":      newWire(t, cutting("HTTP/1.1 200 OK\r\nContent-Length: "+theToken+"\r\n\r\n")).URL,
		"garbage as a coding":      newWire(t, cutting("HTTP/1.1 200 OK\r\nTransfer-Encoding: "+theToken+"\r\n\r\n")).URL,
		"cut in the body of a 200": newWire(t, cutting("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n"+theToken)).URL,
	}
	for name, endpoint := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, endpoint)
			token := klarna.NewCustomerToken(theToken)
			_, err := charge(client)
			assertNoSecret(t, err)
			_, err = client.Token(context.Background(), token)
			assertNoSecret(t, err)
			if err = client.CancelToken(context.Background(), token); err != nil { // an unreadable 200 is good enough
				assertNoSecret(t, err)
			}
			if !strings.HasPrefix(name, "garbage") { // where the token comes from the script: a capture's path has none
				_, err = client.CreateCapture(context.Background(), klarna.CreateCaptureRequest{OrderID: "o-1", IdempotencyKey: "k", CapturedAmount: 1})
				assertNoSecret(t, err)
			}
		})
	}
	silent := newWire(t, func(conn net.Conn, seen io.Writer) { _, _ = io.Copy(seen, conn) })
	client := newClient(t, silent.URL, func(c *klarna.Config) { c.Timeout = 20 * time.Millisecond })
	_, err := charge(client)
	assertNoSecret(t, err)
	_, err = client.Token(context.Background(), klarna.NewCustomerToken(theToken))
	assertNoSecret(t, err)
}

// assertNoSecret fails when err is none, or gives away a secret or a path, at any depth.
func assertNoSecret(t testing.TB, err error, tokens ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		for _, text := range []string{inner.Error(), fmt.Sprintf("%+v %#v", inner, inner)} {
			for _, secret := range append(tokens, theToken, theKey, "SzEyM19hYmNkZWY6", `Post "`, "http://") {
				if strings.Contains(text, secret) {
					t.Errorf("the error %T contains %q: %s", inner, secret, text)
				}
			}
		}
	}
}

// Run with go test -fuzz=FuzzAnswer ./klarna: no answer is read as an order without an id, and none panics or leaks.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		"", "{}", "null", `{"order_id":"o-1","fraud_status":"ACCEPTED"}`, `{"order_id":1}`, `{"order_id":"o"}x`, `[{"order_id":"o"}]`,
		`{"authorized_payment_method":"card"}`, `{"error_code":"TOKEN_CANCELLED","error_messages":["` + theToken + `"]}`, "<html>",
	} {
		f.Add(uint16(200), body)
		f.Add(uint16(403), body)
	}
	var status atomic.Int64
	var body atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, *body.Load())
	}))
	f.Cleanup(server.Close)
	client := newClient(f, server.URL)
	f.Fuzz(func(t *testing.T, code uint16, text string) {
		code = 200 + code%400
		status.Store(int64(code))
		body.Store(&text)
		order, err := charge(client)
		if err == nil {
			if code > 299 || strings.TrimSpace(order.OrderID) == "" {
				t.Errorf("status %d, body %q: order %+v", code, text, order)
			}
			return
		}
		if code < 300 && code != 204 && klarna.ClassOf(err) != klarna.ClassAnswered2xx {
			t.Errorf("status %d, body %q: %v (%v)", code, text, err, klarna.ClassOf(err))
		}
		assertNoSecret(t, err)
	})
}
