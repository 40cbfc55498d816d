package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// forwardTimeout is how long one request to an endpoint may take, and how long it is tried at least where --until ends it.
const forwardTimeout = 10 * time.Second

// A forwarder posts records to an endpoint, one after the other, as CloudEvents in binary mode.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
type forwarder struct {
	to     *url.URL
	client *http.Client
	pauses backoff.BackOff // between two tries
	until  time.Time       // no record is posted again later, but for those that were first posted within patience of it; zero: for ever
	out    io.Writer

	patience time.Duration

	taken, refused int
}

// newForwarder takes an http or https URL. What it does it tells out.
func newForwarder(to string, out io.Writer) (*forwarder, error) {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return nil, cli.Usagef("--forward-to: expected an http or https URL without a user, such as http://127.0.0.1:3000/results") // it may hold a password
	}
	client := &http.Client{Timeout: forwardTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	pauses := backoff.NewExponentialBackOff(backoff.WithInitialInterval(500*time.Millisecond), backoff.WithMultiplier(2), backoff.WithMaxInterval(10*time.Second),
		backoff.WithMaxElapsedTime(0))
	return &forwarder{to: u, client: client, pauses: pauses, out: out, patience: forwardTimeout}, nil
}

// forward posts a record until the endpoint has taken or refused it. What was not answered, or by a 5xx, 408, 425 or 429, is posted
// again: the next record waits, so that the endpoint has them in order. The error is the context's, or says that --until has come.
func (f *forwarder) forward(ctx context.Context, r record) error {
	f.pauses.Reset()
	trying, cancel := f.trying(ctx)
	defer cancel()
	for {
		status, said, err := f.post(trying, r)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && status < 300:
			f.taken++
			fmt.Fprintf(f.out, "          → %s\n", said)
			return nil
		case err == nil && !postAgain(status):
			f.refused++
			fmt.Fprintf(f.out, "          → %s; refused, not posted again\n", said)
			return nil
		}
		if trying.Err() == nil {
			pause := f.pauses.NextBackOff()
			fmt.Fprintf(f.out, "          → %s; again in %.1f s\n", said, pause.Seconds())
			select {
			case <-time.After(pause):
				continue
			case <-trying.Done():
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("--until has come, and the endpoint has not taken record %d, %s of %s/%s: what is behind it was not posted either; post it with --since once the endpoint answers",
			r.sequence, r.Kind, cli.Printable(string(r.SubscriptionID)), cli.Printable(string(r.Period)))
	}
}

// trying bounds the tries of a record that is posted from now on.
func (f *forwarder) trying(ctx context.Context) (context.Context, context.CancelFunc) {
	if f.until.IsZero() {
		return context.WithCancel(ctx)
	}
	end := time.Now().Add(f.patience)
	if f.until.After(end) {
		end = f.until
	}
	return context.WithDeadline(ctx, end)
}

// postAgain says that an answer is no decision.
func postAgain(status int) bool {
	return status >= 500 || slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}, status)
}

// post makes one request; said is its answer, or why there is none, for a person.
func (f *forwarder) post(ctx context.Context, r record) (status int, said string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.to.String(), bytes.NewReader(r.body))
	if err != nil {
		return 0, "", err // newForwarder has parsed the URL
	}
	request.Header = eventHeader(r.header)
	request.Header.Set("User-Agent", "renewals-watch")
	response, err := f.client.Do(request)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL, which is known
		}
		return 0, err.Error(), err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // the connection is used again
	if err != nil {
		return 0, fmt.Sprintf("%s, then %v", response.Status, err), err
	}
	said = response.Status
	if first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n"); response.StatusCode >= 300 && first != "" {
		said += fmt.Sprintf(": %.200s", cli.Printable(first))
	}
	return response.StatusCode, said, nil
}

// eventHeader is the header of a record as HTTP has it: the event's attributes, whose values are encoded alike, and the trace. The type
// of the data is Content-Type there, and no attribute.
func eventHeader(header nats.Header) http.Header {
	h := http.Header{}
	for name, values := range header {
		switch name := strings.ToLower(name); {
		case name == "ce-datacontenttype":
			if h.Get("Content-Type") == "" {
				h["Content-Type"] = values
			}
		case name == "content-type", name == "traceparent", name == "tracestate", strings.HasPrefix(name, "ce-"):
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	return h
}

// after forwards each record that was printed.
func (f *forwarder) after(ctx context.Context, printed func(record) error) func(record) error {
	return func(r record) error {
		if err := printed(r); err != nil {
			return err
		}
		return f.forward(ctx, r)
	}
}

func (f *forwarder) begin() {
	shown := url.URL{Scheme: f.to.Scheme, Host: f.to.Host, Path: f.to.Path, RawPath: f.to.RawPath} // the query may hold a password
	fmt.Fprintf(f.out, "forwarding to %s, one result after the other, as CloudEvents in binary mode\n", &shown)
}

// end says what became of all of them.
func (f *forwarder) end() {
	fmt.Fprintf(f.out, "forwarded %d, refused %d\n", f.taken, f.refused)
}

// problem says that the endpoint has refused some of them; nil where it has taken all.
func (f *forwarder) problem() error {
	if f.refused == 0 {
		return nil
	}
	return fmt.Errorf("the endpoint refused %d of %d results, which are not posted again: its answers above say why; post them with --since once they are mended", f.refused, f.refused+f.taken)
}
