package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// leastDial is what a server is given to answer, however little is left of the timeout.
const leastDial = 200 * time.Millisecond

// dial goes on until there is a server, or an answer that asking again will not change.
func (server NATSServer) dial(ctx context.Context, log zerolog.Logger, dialer *dialer, options []nats.Option) (*nats.Conn, error) {
	var deadline <-chan time.Time
	if server.Timeout > 0 {
		deadline = time.After(server.Timeout)
	}
	options = append(options, nats.SetCustomDialer(dialer))
	begun := time.Now()
	for told := false; ; {
		if server.Timeout > 0 {
			options = append(options, nats.Timeout(min(nats.DefaultTimeout, max(server.Timeout-time.Since(begun), leastDial))))
		}
		nc, err := nats.Connect(server.URL, options...)
		if err == nil {
			if told {
				log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("NATS server found")
			}
			return nc, nil
		}
		if permanent(err) {
			return nil, server.explain(err)
		}
		err = dialer.reason(err)
		switch {
		case told:
		case server.Timeout > 0:
			log.Info().Msgf("no NATS server at %s yet, trying for %s", RedactURLs(server.URL), DurationText(server.Timeout))
		default:
			log.Warn().Str("NATS_URL", RedactURLs(server.URL)).Err(err).Msg("no NATS server, trying again until there is one")
		}
		told = true
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to NATS: %w", context.Cause(ctx))
		case <-deadline:
			return nil, fmt.Errorf("no NATS server at %s (%s) within %s: %w; start one, or say where it is: --nats-url, NATS_URL, nats_url in the file of --config, or a context of the nats CLI",
				RedactURLs(server.URL), server.named, DurationText(server.Timeout), err)
		case <-time.After(250*time.Millisecond + rand.N(500*time.Millisecond)):
		}
	}
}

// dialer keeps why it could not: the client only says that there is no server. It gives up with its context.
type dialer struct {
	ctx context.Context

	mu    sync.Mutex
	why   error
	count int // since the connection was lost
	lost  time.Time
}

func (server NATSServer) dialer(ctx context.Context) *dialer {
	if server.Timeout == 0 {
		ctx = context.Background() // a worker that is told to stop may still need its connection
	}
	return &dialer{ctx: ctx}
}

func (d *dialer) begin(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count, d.lost = 0, now
}

// dials are those since the connection was lost, and when that was.
func (d *dialer) dials() (int, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count, d.lost
}

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: nats.DefaultTimeout}).DialContext(d.ctx, network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.why = err
	d.count++
	return c, err
}

// reason is why there is no connection.
func (d *dialer) reason(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if errors.Is(err, nats.ErrNoServers) && d.why != nil {
		return d.why
	}
	return err
}

// permanent reports whether waiting for a server will not help.
func permanent(err error) bool {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	for _, is := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired, nats.ErrNkeysNotSupported,
		nats.ErrSecureConnRequired, nats.ErrSecureConnWanted, nats.ErrMixingWebsocketSchemes,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return errors.As(err, &certificate) || errors.As(err, &record)
}

func (server NATSServer) explain(err error) error {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return fmt.Errorf("connect to NATS: %w; check NATS_CA", err)
	case permanent(err):
		return fmt.Errorf("connect to NATS: %w; check %s, and what that user may do on the server", err, server.credentials)
	}
	return fmt.Errorf("connect to NATS: %w", err)
}
