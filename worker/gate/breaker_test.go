package gate

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/klarna-renewals/renewals/klarna"
)

// errOf are errors of a class.
var errOf = map[klarna.Class]error{
	klarna.ClassRefused: &klarna.Error{StatusCode: http.StatusForbidden, HasErrorObject: true, Code: "PAYMENT_METHOD_FAILED"},
	klarna.ClassUnknown: &klarna.UnknownError{Err: errors.New("out of luck")}, klarna.ClassCut: &klarna.UnknownError{Cut: true, Err: io.ErrUnexpectedEOF},
	klarna.ClassNotSent: &klarna.NotSentError{Err: errors.New("no such host")},
}

// TestBreaker: when the breaker opens and closes, and who may go meanwhile.
func TestBreaker(t *testing.T) {
	open := func(*testing.T) (*Breaker, *[]string) {
		var said []string
		b := NewBreaker(func(reason string, open bool, _ string) {
			said = append(said, reason+" "+strconv.FormatBool(open))
		})
		return b, &said
	}
	t.Run("a run of nothing opens the breaker, an answer closes it", func(t *testing.T) {
		b, said := open(t)
		for range breakerRun - 1 {
			b.Observe(errOf[klarna.ClassUnknown])
		}
		b.Observe(errOf[klarna.ClassOK])
		for range breakerRun - 1 {
			b.Observe(errOf[klarna.ClassCut])
		}
		if b.pauses.Any() {
			t.Fatal("open after a run that an answer broke")
		}
		b.Observe(errOf[klarna.ClassNotSent])
		b.Observe(errOf[klarna.ClassUnknown]) // of a job that was at work already
		if !b.pauses.Has(PauseBreaker) {
			t.Fatal("not open")
		}
		if b.probe(t.Context()); !b.pauses.Any() {
			t.Error("closed by nothing")
		}
		b.Observe(errOf[klarna.ClassRefused])
		if b.pauses.Any() || len(*said) != 2 {
			t.Errorf("not closed: %v", *said)
		}
	})
	t.Run("S55: no job is the probe while the canary is not well", func(t *testing.T) {
		b, _ := open(t)
		b.Open(PauseBreaker, "")
		b.Open(PauseNotEvaluated, "")
		b.ticket.Store(true)
		b.Retry() // a probe may go, were it not for that
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, ok := b.Admit(); b.probe(ctx) || ok {
			t.Error("a job is pulled, or let through")
		}
		b.Close(PauseNotEvaluated)
		if !b.probe(t.Context()) {
			t.Error("no probe afterwards")
		}
		for n, want := range []bool{true, false} {
			if probe, ok := b.Admit(); probe != want || ok != want {
				t.Errorf("afterwards, while the breaker is open, job %d may go: %t, as the probe: %t", n, ok, probe)
			}
		}
		b.Close(PauseBreaker)
		if probe, ok := b.Admit(); probe || !ok {
			t.Errorf("with nothing paused a job may go: %t, as the probe: %t", ok, probe)
		}
	})
	t.Run("waiting ends with the worker", func(t *testing.T) {
		b, _ := open(t)
		b.Open(PauseNotEvaluated, "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if b.probe(ctx) {
			t.Error("probe after the end")
		}
	})
}

// What an open breaker says tells why, as the last try has it, and never whose charge that was.
func TestBreakerSaysWhy(t *testing.T) {
	t.Parallel()
	const token, password = "0b1d9815-165e-42e2-8867-35bc03789e00", "klarna_live_api_hunter2"
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, sent, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(map[string]any{"error_code": "INTERNAL_SERVER_ERROR", "error_messages": []string{
			r.URL.Path, sent, r.Header.Get("Authorization"), strings.Repeat("é", 500),
		}})
	}))
	defer echo.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, row := range []struct{ situation, endpoint, want string }{
		{situation: "nobody listens", endpoint: gone.URL, want: "connection refused"},
		{situation: "Klarna fails, and repeats the request", endpoint: echo.URL, want: "klarna answered 500 INTERNAL_SERVER_ERROR"},
	} {
		endpoint, err := url.Parse(row.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		client, err := klarna.New(klarna.Config{Endpoint: endpoint, Credentials: klarna.StaticCredentials("merchant", password)})
		if err != nil {
			t.Fatal(err)
		}
		var said string
		b := NewBreaker(func(_ string, _ bool, sentence string) { said = sentence })
		for range breakerRun {
			_, err := client.Token(t.Context(), klarna.NewCustomerToken(token))
			b.Observe(err)
		}
		client.CloseIdle()
		if want := "a run of timeouts and errors that decide nothing, the last one: "; !strings.HasPrefix(said, want) || !strings.Contains(said, row.want) || b.Reasons()[PauseBreaker] != said {
			t.Errorf("%s: it says %q, want %q and %q", row.situation, said, want, row.want)
		}
		for _, secret := range []string{token, password, base64.StdEncoding.EncodeToString([]byte("merchant:" + password))} {
			if strings.Contains(said, secret) {
				t.Errorf("%s: it says %q, which holds %q", row.situation, said, secret)
			}
		}
		if len(said) > 500 || !utf8.ValidString(said) {
			t.Errorf("%s: it says %d bytes, want less: workers tell each other of it", row.situation, len(said))
		}
	}
}
