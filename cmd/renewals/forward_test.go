package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

// endpoint is a consumer under development: it answers by a list, then 204, and keeps what came.
type endpoint struct {
	*httptest.Server
	mu      sync.Mutex
	answers []func(http.ResponseWriter)
	headers []http.Header
	bodies  []string
}

func newEndpoint(t *testing.T, answers ...func(http.ResponseWriter)) *endpoint {
	e := &endpoint{answers: answers}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.headers, e.bodies = append(e.headers, r.Header.Clone()), append(e.bodies, string(body))
		answer := func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }
		if len(e.answers) > 0 {
			answer, e.answers = e.answers[0], e.answers[1:]
		}
		e.mu.Unlock()
		answer(w)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ids() (ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.headers {
		ids = append(ids, h.Get("Ce-Id"))
	}
	return ids
}

func status(code int, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
		io.WriteString(w, text)
	}
}

func cutOff(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

// forwarded is a record as the journal has it.
func forwarded(id string) record {
	return record{
		body: []byte(`{"id":"` + id + `"}`),
		header: messages.Envelope{
			ID: id, Kind: messages.KindPaid, Account: "default", SubscriptionID: "ü 1", Period: "2026-12", Time: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		}.Header(),
	}
}

// Records come in order, each until it is taken or refused.
func TestForward(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t,
		status(http.StatusServiceUnavailable, "starting"), cutOff, status(http.StatusTooManyRequests, ""), status(http.StatusOK, "fine"), // one
		status(http.StatusBadRequest, "no \x1b[2J such field\nat line 1"), // two
		status(http.StatusFound, ""),                                      // three
	)
	var out strings.Builder
	f, err := newForwarder(e.URL+"/results", &out)
	if err != nil {
		t.Fatal(err)
	}
	f.pauses = &backoff.ZeroBackOff{}
	for _, id := range []string{"one", "two", "three", "four"} {
		r := forwarded(id)
		r.header.Set(messages.HeaderState, "for workers")
		if err := f.forward(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	f.end()
	if got, want := fmt.Sprint(e.ids()), "[one one one one two three four]"; got != want {
		t.Errorf("posted %s, want %s", got, want)
	}
	for i, h := range e.headers {
		for name, want := range map[string]string{
			"ce-specversion": "1.0", "ce-type": "renewals.paid.v1", "ce-source": "renewals/default", "ce-subject": "%C3%BC%201/2026-12", "ce-time": "2026-12-01T00:00:00Z",
			"ce-dataschema": messages.SchemaID("paid"), "content-type": "application/json", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			"ce-datacontenttype": "", messages.HeaderState: "",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("request %d: %s: %q, want %q", i, name, got, want)
			}
		}
		if want := `{"id":"` + h.Get("ce-id") + `"}`; e.bodies[i] != want {
			t.Errorf("request %d: body %s, want %s", i, e.bodies[i], want)
		}
	}
	want := []string{
		"→ 503 Service Unavailable: starting; again in 0.0 s", "→ EOF; again in 0.0 s", "→ 429 Too Many Requests; again in 0.0 s", "→ 200 OK\n",
		"→ 400 Bad Request: no \uFFFD[2J such field; refused, not posted again", "→ 302 Found; refused, not posted again", "→ 204 No Content\n", "forwarded 2, refused 2\n",
	}
	rest := out.String()
	for _, line := range want {
		_, after, found := strings.Cut(rest, line)
		if !found {
			t.Fatalf("does not say %q:\n%s", line, out.String())
		}
		rest = after
	}
}

// Nobody listens: it is tried until somebody does, or until it is interrupted.
func TestForwardIsInterrupted(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var out screen
	f, err := newForwarder("http://"+l.Addr().String(), &out)
	if err != nil {
		t.Fatal(err)
	}
	f.pauses = backoff.NewConstantBackOff(time.Hour)
	ended := make(chan error)
	go func() { ended <- f.forward(ctx, forwarded("one")) }()
	eventually(t, "the refusal", func() bool { return strings.Contains(out.String(), "connect: connection refused; again in 3600.0 s") })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ends with %v", err)
	}
}

// So it is where --until comes; a record that is first posted about then, or later, has a little time all the same.
func TestForwardEndsAtUntil(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name            string
		until, patience time.Duration
		answer          int
		want            string // "" where it is taken
	}{
		{"down until then", 100 * time.Millisecond, time.Millisecond, http.StatusServiceUnavailable, "--until has come, and the endpoint has not taken record 7, paid of 1/2026-12: what is behind it was not posted either"},
		{"past, and down", -time.Hour, 100 * time.Millisecond, http.StatusServiceUnavailable, "--until has come, "},
		{"past", -time.Hour, 10 * time.Second, http.StatusOK, ""},
		{"about to come", 0, 10 * time.Second, http.StatusOK, ""},
	} {
		e := newEndpoint(t, status(row.answer, ""))
		f, err := newForwarder(e.URL, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		f.pauses, f.until, f.patience = backoff.NewConstantBackOff(time.Hour), time.Now().Add(row.until), row.patience
		r := forwarded("one")
		r.sequence, r.Kind, r.SubscriptionID, r.Period = 7, messages.KindPaid, "1", "2026-12"
		err = f.forward(t.Context(), r)
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
}

// Whoever runs it from a script learns that something was refused or not taken, and a password in the URL stays where it is.
func TestWatchSaysWhatWasNotTaken(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("one", "ok", "", 1), o.job("two", "ok", "", 1))
	o.work()
	e := newEndpoint(t, status(http.StatusBadRequest, ""), status(http.StatusOK, ""), status(http.StatusOK, ""), status(http.StatusServiceUnavailable, ""))
	to := e.URL + "/hooks/a%2Fb"
	watch := []string{"watch", "--since=1h", "--until=1ms", "--forward-to=" + to + "?token=topsecret#topsecret"}
	out, told := o.run(cli.ExitFailed, watch...)
	o.expect(out+told, "forwarding to "+to+", one", "forwarded 1, refused 1\n", "the endpoint refused 1 of 2 results, which are not posted again: its answers above say why", "!topsecret")
	e.Close()
	out, told = o.run(cli.ExitFailed, "watch", "--since=1h", "--until=1ms", "--kind=paid", "--subscription=one", "--forward-to="+to+"?token=topsecret")
	o.expect(out+told, "connection refused", "forwarded 0, refused 0\n", "--until has come, and the endpoint has not taken record ", ", paid of one/2026-12", "!topsecret")
}

func TestWatchForwards(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("one", "ok", "", 1))
	o.work()
	o.publish(o.job("two", "soft-decline", "", 1))
	o.work()
	e := newEndpoint(t, status(http.StatusBadGateway, ""))
	watch := start(t, o.env, "", "watch", "--since=1h", "--forward-to="+e.URL)
	eventually(t, "both results", func() bool { return strings.Count(watch.stdout.String(), "→ 204 No Content\n") == 2 })
	o.publish(o.job("three", "ok", "", 1))
	o.work()
	eventually(t, "what comes next", func() bool { return strings.Count(watch.stdout.String(), "→ 204 No Content\n") == 3 })
	watch.stop()
	if code := watch.wait(t); code != cli.ExitInterrupted {
		t.Errorf("exit code %d, want %d", code, cli.ExitInterrupted)
	}
	o.expect(watch.stdout.String(), "forwarding to "+e.URL+", one result after the other", "→ 502 Bad Gateway; again in 0.", "forwarded 3, refused 0\n")
	if len(e.bodies) != 4 || e.bodies[0] != e.bodies[1] || !strings.Contains(e.bodies[1], `"subscription_id":"one"`) || !strings.Contains(e.bodies[2], `"payment_method_failed"`) || !strings.Contains(e.bodies[3], `"subscription_id":"three"`) {
		t.Errorf("posted:\n%s", strings.Join(e.bodies, "\n"))
	}
	// As JSON Lines the results stand alone.
	watch = start(t, o.env, "", "watch", "--since=1h", "--json", "--kind=paid", "--forward-to="+e.URL)
	eventually(t, "the paid ones", func() bool { return strings.Count(watch.stderr.String(), "→ 204 No Content\n") == 2 })
	if lines := strings.Split(strings.TrimSpace(watch.stdout.String()), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[1], `{"kind":"paid"`) {
		t.Errorf("printed:\n%s", watch.stdout.String())
	}
}

func TestForwardToNoEndpoint(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"", "localhost:3000", "/results", "ftp://127.0.0.1/", "http://", "http://user:secret-password@127.0.0.1/", "http://a b/"} {
		_, said := finish(t, cli.ExitUsage, nil, "", "watch", "--forward-to="+to)
		if !strings.Contains(said, "--forward-to: expected an http or https URL") || strings.Contains(said, "secret-password") {
			t.Errorf("%s: %s", to, said)
		}
	}
}
