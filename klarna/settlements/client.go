package settlements

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/time/rate"

	"github.com/klarna-renewals/renewals/klarna"
)

// Config is what a [Client] needs. Endpoint and Credentials are required; every other zero value is the default.
type Config struct {
	// Endpoint is the root of Klarna's API for one merchant account, see [klarna.ResolveEndpoint].
	Endpoint *url.URL
	// Credentials of the merchant account, asked for each request.
	Credentials klarna.CredentialSource
	// Rate of requests a second, at most 5, which is also the default.
	Rate float64
	// Patience is for how long a request that fails is tried again. Default 5 min.
	Patience time.Duration
	// Timeout of one request, to the last byte of a page; of a CSV report to its first. Default 65 s.
	Timeout time.Duration
	// UserAgent of every request. Default "renewals".
	UserAgent string
	// Waiting is told of each pause before a request is tried again, and what failed. Default: nobody is told.
	Waiting func(err error, pause time.Duration)
	// Transport makes the requests. Default: a transport of the client's own, which follows no proxy of the environment.
	Transport http.RoundTripper
	// Clock is what backoff measures with. Default the system's.
	Clock backoff.Clock
	// Timer is what waits between tries. Default a timer of the system.
	Timer backoff.Timer
}

// Client reads Klarna's Settlements API for one merchant account: GET only. It is safe for concurrent use, and keeps its rate
// over all of them.
type Client struct {
	config  Config
	base    string
	http    *http.Client
	limiter *rate.Limiter
}

const (
	maxRate = 5
	// pageSize is the most that Klarna gives.
	pageSize = 500
	// maxPage is far above a page of 500 rows.
	maxPage = 8 << 20
	maxBody = 64 << 10 // of an error
)

// New returns a client. It opens no connection; an error names the setting that is missing or wrong.
func New(config Config) (*Client, error) {
	switch {
	case config.Endpoint == nil || config.Endpoint.Host == "":
		return nil, errors.New("endpoint: not set")
	case config.Credentials == nil:
		return nil, errors.New("credentials: not set")
	case config.Rate < 0 || config.Rate > maxRate:
		return nil, fmt.Errorf("rate: %v, expected at most %d requests a second", config.Rate, maxRate)
	}
	if config.Rate == 0 {
		config.Rate = maxRate
	}
	if config.Patience == 0 {
		config.Patience = 5 * time.Minute
	}
	if config.Timeout == 0 {
		config.Timeout = 65 * time.Second
	}
	if config.UserAgent == "" {
		config.UserAgent = "renewals"
	}
	if config.Waiting == nil {
		config.Waiting = func(error, time.Duration) {}
	}
	if config.Transport == nil {
		config.Transport = &http.Transport{TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: config.Timeout, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: maxBody}
	}
	return &Client{
		config: config, base: strings.TrimRight(config.Endpoint.String(), "/") + "/settlements/v1",
		// A redirect would take the credentials elsewhere.
		http:    &http.Client{Transport: config.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		limiter: rate.NewLimiter(rate.Limit(config.Rate), 1),
	}, nil
}

// Close closes the connections that nobody uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// get makes a request until it succeeds, cannot succeed or patience ends, and gives its answer to read, which may be asked again. An answer that is no
// success comes back as a *[klarna.Error].
func (c *Client) get(ctx context.Context, path string, query url.Values, accept string, read func(*http.Response) error) error {
	pauses := backoff.NewExponentialBackOff(backoff.WithInitialInterval(500*time.Millisecond), backoff.WithMaxInterval(time.Minute), backoff.WithMaxElapsedTime(c.config.Patience))
	if c.config.Clock != nil {
		pauses.Clock = c.config.Clock
	}
	pauses.Reset()
	asked := &heeding{BackOff: pauses}
	try := func() error {
		if err := c.limiter.Wait(ctx); err != nil {
			return backoff.Permanent(preferred(ctx, err))
		}
		err := c.once(ctx, path, query, accept, read)
		var refused *klarna.Error
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return backoff.Permanent(ctx.Err())
		case errors.As(err, &refused) && refused.StatusCode != http.StatusTooManyRequests && refused.StatusCode != http.StatusRequestTimeout && refused.StatusCode < 500:
			return backoff.Permanent(err)
		case errors.As(err, &refused):
			asked.least = refused.RetryAfter
		}
		return err
	}
	err := backoff.RetryNotifyWithTimer(try, backoff.WithContext(asked, ctx), c.config.Waiting, c.config.Timer)
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// preferred is the context's error, where there is one.
func preferred(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// heeding waits at least as long as Klarna has asked for.
type heeding struct {
	backoff.BackOff
	least time.Duration
}

func (h *heeding) NextBackOff() time.Duration {
	next := h.BackOff.NextBackOff()
	if next != backoff.Stop {
		next = max(next, h.least)
	}
	h.least = 0
	return next
}

// once makes one request.
func (c *Client) once(ctx context.Context, path string, query url.Values, accept string, read func(*http.Response) error) error {
	credentials, err := c.config.Credentials.Credentials()
	if err != nil {
		return fmt.Errorf("read credentials: %w", err)
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return backoff.Permanent(fmt.Errorf("make request: %w", err))
	}
	request.SetBasicAuth(credentials.Username, credentials.Password.Reveal())
	request.Header.Set("User-Agent", c.config.UserAgent)
	request.Header.Set("Accept", accept)
	response, err := c.http.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		return refusal(response)
	}
	return read(response)
}

// refusal is an answer that is no success, as package klarna tells it.
func refusal(response *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxBody))
	e := &klarna.Error{StatusCode: response.StatusCode, CorrelationID: response.Header.Get("Klarna-Correlation-Id")}
	var said struct {
		Code          string   `json:"error_code"`
		Messages      []string `json:"error_messages"`
		CorrelationID string   `json:"correlation_id"`
	}
	if json.Unmarshal(body, &said) == nil {
		e.Code, e.Messages, e.HasErrorObject = said.Code, said.Messages, said.Code != "" || len(said.Messages) > 0
		if said.CorrelationID != "" {
			e.CorrelationID = said.CorrelationID
		}
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = min(time.Duration(seconds)*time.Second, time.Hour)
	} else if seconds, err := strconv.Atoi(response.Header.Get("X-Ratelimit-Reset")); err == nil && seconds > 0 {
		e.RetryAfter = min(time.Duration(seconds)*time.Second, time.Hour)
	}
	return e
}

// json reads an answer into v. One that is cut short is read again; one that is no answer of Klarna's would come again as it is.
func (c *Client) json(ctx context.Context, path string, query url.Values, v any) error {
	return c.get(ctx, path, query, "application/json", func(response *http.Response) error {
		defer response.Body.Close()
		// The transport waits for as long for the header; a body may stand still while its connection lives.
		stalled := time.AfterFunc(c.config.Timeout, func() { response.Body.Close() })
		body, err := io.ReadAll(io.LimitReader(response.Body, maxPage+1))
		switch inTime := stalled.Stop(); {
		case err != nil && !inTime:
			return fmt.Errorf("read answer: %d bytes came within %s, and no more", len(body), c.config.Timeout)
		case err != nil:
			return fmt.Errorf("read answer: %w", err)
		case len(body) > maxPage:
			return backoff.Permanent(fmt.Errorf("the answer is larger than %d MiB", maxPage>>20))
		}
		err = json.Unmarshal(body, v)
		var cut *json.SyntaxError
		switch {
		case errors.As(err, &cut):
			return fmt.Errorf("read answer: %w", err)
		case err != nil:
			return backoff.Permanent(fmt.Errorf("read answer: %w", err))
		}
		return nil
	})
}
