package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// lostReason is why the connection of a command was closed, or why nothing that it asks for will be answered. It is set once.
type lostReason struct {
	mu     sync.Mutex
	reason error
}

func (l *lostReason) set(reason error) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == nil {
		l.reason = reason
	}
}

// instead is the reason where an error is only its consequence, and what to do where the error alone does not tell.
func (l *lostReason) instead(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.reason != nil && errors.Is(err, context.Canceled):
		return l.reason
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%w: JetStream is off on this server or for this user's account, or in another domain: NATS_JS_DOMAIN", err)
	}
	return err
}

// connect tries until there is a connection, ctx ends, or the timeout of a command that somebody waits for. Refused credentials and TLS
// that cannot be agreed on are errors at once: waiting does not mend them. The context it returns also ends when the connection is
// closed for good, with the reason as its cause.
func (server NATSServer) Connect(ctx context.Context, log zerolog.Logger, jsOptions ...jetstream.JetStreamOpt) (context.Context, jetstream.JetStream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	lost := func(reason error) {
		if ctx.Err() == nil && reason != nil {
			server.lost.set(reason)
		}
		cancel(reason)
	}
	dialer := server.dialer(ctx)
	nc, err := server.dial(ctx, log, dialer, append(server.told(log, dialer, lost), server.options...))
	if err != nil {
		cancel(nil)
		return nil, nil, err
	}
	var js jetstream.JetStream
	if server.domain != "" {
		js, err = jetstream.NewWithDomain(nc, server.domain, jsOptions...)
	} else {
		js, err = jetstream.New(nc, jsOptions...)
	}
	if err != nil {
		nc.Close()
		cancel(nil)
		return nil, nil, fmt.Errorf("use JetStream: %w", err)
	}
	return ctx, js, nil
}

// Quiet connects without a word, for whoever tells what is not seen.
func (server NATSServer) Quiet(ctx context.Context) (*nats.Conn, error) {
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	return server.dial(ctx, zerolog.Nop(), server.dialer(ctx), append([]nats.Option{nats.Name(server.client), quiet}, server.options...))
}

// told are the options by which the connection keeps itself and says what becomes of it.
func (server NATSServer) told(log zerolog.Logger, dialer *dialer, lost context.CancelCauseFunc) []nats.Option {
	patience := server.patience(lost)
	options := []nats.Option{
		nats.Name(server.client),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		// A network that fell silent is noticed within half a minute, not within the four of the defaults.
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		// While there is no connection a publish fails at once and is made again by whoever knows whether it still should be.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				patience.begin()
				dialer.begin(time.Now())
				log.Warn().Err(err).Msg("NATS connection lost, connecting again")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			patience.end()
			dials, since := dialer.dials()
			log.Info().Str("server", nc.ConnectedUrlRedacted()).Int("dials", dials).Dur("outage_ms", time.Since(since)).Msg("NATS connection is back")
		}),
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) { server.faulty(log, lost, sub, err) }),
		nats.ClosedHandler(func(nc *nats.Conn) {
			if err := nc.LastError(); err != nil {
				lost(server.explain(err))
			}
		}),
	}
	return options
}

// faulty tells of what went wrong with no call to tell it to. To a command that somebody waits for the server's refusal is the
// answer, of which the call itself would learn by no answer for 5 s.
func (server NATSServer) faulty(log zerolog.Logger, lost context.CancelCauseFunc, sub *nats.Subscription, err error) {
	refused := errors.Is(err, nats.ErrPermissionViolation)
	// Consumers are deleted on leaving; the server does so by itself when they are not.
	leaving := refused && strings.Contains(err.Error(), ".CONSUMER.DELETE.")
	if refused && server.Timeout > 0 && !leaving {
		lost(server.refusal(err))
		return
	}
	event := log.Error().Err(err)
	if sub == nil && !refused || leaving {
		event = log.Debug().Err(err) // one for each write on a connection whose end is logged above
	}
	if sub != nil {
		event = event.Str("subject", sub.Subject)
	}
	event.Msg("NATS")
}

// refusal says what the server does not permit, and what to do about it.
func (server NATSServer) refusal(err error) error {
	what := "; `renewals provision --print-permissions` shows what each role must be allowed"
	if strings.Contains(err.Error(), `Subscription to "`) {
		what = "; answers come under an inbox prefix that the user may subscribe to: set NATS_INBOX_PREFIX to that of its role"
	}
	return fmt.Errorf("%w, with %s at %s%s", err, server.credentials, RedactURLs(server.URL), what)
}

// outageTimer is how long a command goes on without its connection; nil for ever.
type outageTimer struct {
	mu    sync.Mutex
	timer *time.Timer
	start func() *time.Timer
}

func (server NATSServer) patience(lost context.CancelCauseFunc) *outageTimer {
	if server.Timeout == 0 || server.Follows {
		return nil
	}
	return &outageTimer{start: func() *time.Timer {
		return time.AfterFunc(server.Timeout, func() {
			lost(fmt.Errorf("the connection to %s was lost, and no server answered for %s", RedactURLs(server.URL), DurationText(server.Timeout)))
		})
	}}
}

func (p *outageTimer) begin() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil {
		p.timer = p.start()
	}
}

func (p *outageTimer) end() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// InClear says that what goes over this connection can be read on its way; "" where it is encrypted, or does not leave
// the machine.
func InClear(nc *nats.Conn) string {
	_, err := nc.TLSConnectionState()
	return ClearTo(nc.ConnectedUrlRedacted(), err == nil)
}

func ClearTo(server string, encrypted bool) string {
	u, err := url.Parse(server)
	if err != nil || encrypted || u.Scheme == "wss" || u.Scheme == "tls" || u.Hostname() == "localhost" {
		return ""
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLoopback() {
		return ""
	}
	return "the connection to " + server + " is not encrypted: whoever is on its way reads customer tokens, with which Klarna can be had to charge; set up TLS on the servers, and NATS_URL=tls://…"
}

// LostConnection is why the context of a connection ended, where it was not the user who ended it.
func LostConnection(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func Hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}
