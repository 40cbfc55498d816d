// Package klarna charges Klarna customer tokens, captures the orders and reads what became of them, with the names of
// Klarna's own API.
//
// One call is one HTTP request. Nothing is tried again, followed or guessed: an answer that is no success comes back as an
// [*Error], "no answer known" as an [*UnknownError], and "provably not sent" as a [*NotSentError]. [ClassOf] says in one
// word which of the three cases of a charge it is: there is an order, there is none, or nobody knows.
//
// What callers get wrong: an error is not a refusal. After an [*UnknownError] an order may exist, and the only safe next
// step is the same bytes under the same idempotency key.
//
// Customer tokens and passwords are in types that print as [redacted], and no error of this package contains one, though
// Klarna's paths do and net/http quotes them.
package klarna

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Config is what a [Client] needs. Endpoint and Credentials are required; every other zero value is the default.
type Config struct {
	// Endpoint is the root of Klarna's API for one merchant account, see [ResolveEndpoint].
	Endpoint *url.URL
	// Credentials of the merchant account, asked for each try.
	Credentials CredentialSource
	// Timeout of one try, from the wait for a connection to the last byte of the answer. Default 65 s: Klarna itself gives
	// up after 59 s, and a client that gives up earlier abandons charges that succeed.
	// https://docs.klarna.com/acquirer/klarna-network/setup-your-integration/integration-resilience/request-timeout/
	Timeout time.Duration
	// Concurrency is the number of connections kept open between tries. It limits nothing. Default 64.
	Concurrency int
	// UserAgent of every request. Default "renewals".
	UserAgent string
	// Module and Version are announced in X-Klarna-Integration-Metadata; UPPER_SNAKE by Klarna's convention.
	// Default "RENEWALS" and "dev".
	Module, Version string
	// TLS settings beyond the system's; a version below 1.2 is raised to 1.2. Default nil.
	TLS *tls.Config
	// Proxy as in [http.Transport]. Default nil: none, whatever the environment says.
	Proxy func(*http.Request) (*url.URL, error)
}

// Client speaks to Klarna for one merchant account. It is safe for concurrent use.
type Client struct {
	base        url.URL // path without a final slash
	credentials CredentialSource
	timeout     time.Duration
	transport   *http.Transport
	basic       atomic.Pointer[basicAuth]
	buffers     buffers

	// Header values that are the same in every request.
	userAgent, metadata, jsonType, identity []string
}

type basicAuth struct {
	credentials Credentials
	header      []string
}

const (
	defaultTimeout     = 65 * time.Second
	defaultConcurrency = 64
)

// New returns a client. It opens no connection; an error names the setting that is missing or wrong.
func New(config Config) (*Client, error) {
	if config.Endpoint == nil || config.Endpoint.Host == "" {
		return nil, errors.New("endpoint: not set")
	}
	if config.Credentials == nil {
		return nil, errors.New("credentials: not set")
	}
	if _, err := config.Credentials.Credentials(); err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	if config.Timeout < 0 || config.Concurrency < 0 {
		return nil, errors.New("timeout and concurrency: negative")
	}
	if config.Timeout == 0 {
		config.Timeout = defaultTimeout
	}
	if config.Concurrency == 0 {
		config.Concurrency = defaultConcurrency
	}
	if config.UserAgent == "" {
		config.UserAgent = "renewals"
	}
	if config.Module == "" {
		config.Module = "RENEWALS"
	}
	if config.Version == "" {
		config.Version = "dev"
	}
	metadata, err := integrationMetadata(config.Module, config.Version)
	if err != nil {
		return nil, err
	}
	base := url.URL{Scheme: config.Endpoint.Scheme, Host: config.Endpoint.Host, Path: strings.TrimRight(config.Endpoint.Path, "/")}
	return &Client{
		base:        base,
		credentials: config.Credentials,
		timeout:     config.Timeout,
		transport:   newTransport(config),
		userAgent:   []string{config.UserAgent},
		metadata:    []string{metadata},
		jsonType:    []string{"application/json"},
		identity:    []string{"identity"},
	}, nil
}

// integrationMetadata is the value of X-Klarna-Integration-Metadata as Klarna's own cartridge sends it.
// https://github.com/klarna/sfcc-klarna-payments
func integrationMetadata(module, version string) (string, error) {
	type integrator struct {
		Name          string `json:"name"`
		ModuleName    string `json:"module_name"`
		ModuleVersion string `json:"module_version"`
	}
	text, err := json.Marshal(struct {
		Integrator integrator `json:"integrator"`
	}{integrator{module, module, version}})
	if err != nil {
		return "", fmt.Errorf("module and version: %w", err)
	}
	return string(text), nil
}

func newTransport(config Config) *http.Transport {
	settings := config.TLS.Clone()
	if settings == nil {
		settings = &tls.Config{}
	}
	settings.MinVersion = max(settings.MinVersion, tls.VersionTLS12)
	settings.DynamicRecordSizingDisabled = true // it would cut an order in several writes
	// One request at a time on a connection: one that is lost takes one try with it, and what leaves on it can be withheld
	// until the last moment, see sending.
	only := new(http.Protocols)
	only.SetHTTP1(true)
	return &http.Transport{
		Proxy:               config.Proxy,
		DialContext:         dial(&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}),
		TLSClientConfig:     settings,
		TLSHandshakeTimeout: 10 * time.Second,
		Protocols:           only,

		MaxIdleConns:        config.Concurrency,
		MaxIdleConnsPerHost: config.Concurrency,
		// Shorter than Klarna's 59 s, so that no try is written to a connection that Klarna is about to close.
		IdleConnTimeout: 30 * time.Second,

		// Answers are short: nothing is gained, and see uncompressed.
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
		WriteBufferSize:        16 << 10, // nearly every order in one write
	}
}

// CloseIdle closes the connections that no try is using.
func (c *Client) CloseIdle() { c.transport.CloseIdleConnections() }

// do makes one HTTP request. Without an error there is an answer, whatever its status.
func (c *Client) do(ctx context.Context, call call, buffer *[]byte) (answer, error) {
	if err := call.check(ctx); err != nil {
		return answer{}, &NotSentError{Err: err}
	}
	credentials, err := c.credentials.Credentials()
	if err != nil {
		return answer{}, &NotSentError{Err: fmt.Errorf("read credentials: %w", err)}
	}
	authorization := c.authorization(credentials)
	redaction := redaction{call.secret, url.PathEscape(call.secret), credentials.Password.Reveal(), strings.TrimPrefix(authorization[0], "Basic ")}

	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	sending := newSending(ctx, call)
	sound := false
	defer func() { sending.judge(sound) }()
	response, err := c.transport.RoundTrip(c.request(call, authorization, sending))
	if err != nil {
		return answer{}, unanswered(ctx, sending, redaction, err)
	}
	defer sending.end()
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header, redaction: redaction}
	if a.status == http.StatusSwitchingProtocols {
		return a, nil // what follows is no answer of HTTP
	}
	a.readBody(ctx, response, buffer)
	a.ok = a.success() && (call.read == nil || call.read(a))
	sound = a.cut == nil && a.garbled == nil && (a.ok || a.status >= 400 && a.status <= 499 && decode(a.body, &struct{}{}))
	return a, nil
}

// request is a call as it goes over the wire.
func (c *Client) request(call call, authorization []string, sending *sending) *http.Request {
	header := http.Header{
		"Accept":                        c.jsonType,
		"Accept-Encoding":               c.identity,
		"Authorization":                 authorization,
		"User-Agent":                    c.userAgent,
		"X-Klarna-Integration-Metadata": c.metadata,
	}
	request := &http.Request{Method: call.method, URL: c.url(call.path), Header: header}
	if len(call.body) > 0 {
		header["Content-Type"] = c.jsonType
		if call.key != "" {
			header["Klarna-Idempotency-Key"] = []string{call.key}
		}
		request.Body = sending.body()
		request.GetBody = sending.again
		request.ContentLength = int64(len(call.body))
	}
	return request.WithContext(sending.traced())
}

// unanswered is what it means that a request has no answer: whether it can have been read by anybody. A refusal proves that it cannot
// only where it came before the first piece: TLS writes after the last one, too, when the connection is closed, and that is refused
// whenever a try has lasted longer than its claim allows another to.
func unanswered(ctx context.Context, sending *sending, redaction redaction, err error) error {
	sent, refusal := sending.end()
	timedOut := errors.Is(ctx.Err(), context.DeadlineExceeded)
	switch {
	case refusal != nil && !sent:
		return &NotSentError{Err: refusal}
	case ctx.Err() != nil:
		err = ctx.Err()
	default:
		err = redaction.error(err)
	}
	if !sent {
		return &NotSentError{Err: err}
	}
	return &UnknownError{TimedOut: timedOut, Cut: !timedOut, Err: err}
}

func (c *Client) url(segments []string) *url.URL {
	target := c.base
	target.Path += "/" + strings.Join(segments, "/")
	parts := make([]string, len(segments))
	escaped := false
	for i, segment := range segments {
		parts[i] = url.PathEscape(segment)
		escaped = escaped || parts[i] != segment
	}
	if escaped {
		target.RawPath = c.base.Path + "/" + strings.Join(parts, "/")
	}
	return &target
}

// authorization is HTTP Basic with the API key as the password.
// https://docs.klarna.com/api/authentication
func (c *Client) authorization(credentials Credentials) []string {
	if cached := c.basic.Load(); cached != nil && cached.credentials.equal(credentials) {
		return cached.header
	}
	plain := credentials.Username + ":" + credentials.Password.Reveal()
	header := []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(plain))}
	c.basic.Store(&basicAuth{credentials, header})
	return header
}
