package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
)

// natsSettings say how to reach NATS, in the words of the nats CLI. NATS_PASSWORD and NATS_TOKEN are read from the
// environment only, since a command line is public on its machine.
type natsSettings struct {
	URL     string `name:"nats-url" setting:"NATS_URL" group:"NATS" help:"Servers, separated by commas, default nats://127.0.0.1:4222."`
	Creds   string `name:"nats-creds" setting:"NATS_CREDS" group:"NATS" help:"Credentials file, read again on every connection."`
	NKey    string `name:"nats-nkey" setting:"NATS_NKEY" group:"NATS" help:"File with an nkey seed."`
	User    string `name:"nats-user" setting:"NATS_USER" group:"NATS" help:"User name; the password is in NATS_PASSWORD."`
	CA      string `name:"nats-ca" setting:"NATS_CA" group:"NATS" help:"Certificates to trust, PEM."`
	Cert    string `name:"nats-cert" setting:"NATS_CERT" group:"NATS" help:"Client certificate, PEM."`
	Key     string `name:"nats-key" setting:"NATS_KEY" group:"NATS" help:"Key of the client certificate, PEM."`
	Context string `name:"nats-context" setting:"NATS_CONTEXT" group:"NATS" help:"A context of the nats CLI; every other setting wins over it."`
}

// natsContext is a context file of the nats CLI
// (https://docs.nats.io/using-nats/nats-tools/nats_cli#nats-contexts). Fields that would change how we connect and
// that we cannot honour stop the start; the rest is ignored.
type natsContext struct {
	URL      string `json:"url"`
	Token    string `json:"token"`
	User     string `json:"user"`
	Password string `json:"password"`
	Creds    string `json:"creds"`
	NKey     string `json:"nkey"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	CA       string `json:"ca"`
	Inbox    string `json:"inbox_prefix"`
	Domain   string `json:"jetstream_domain"`
	TLSFirst bool   `json:"tls_first"`

	NSC    string `json:"nsc"`
	Socks  string `json:"socks_proxy"`
	JWT    string `json:"user_jwt"`
	Prefix string `json:"jetstream_api_prefix"`
}

// natsServer is everything needed to connect.
type natsServer struct {
	url, domain string
	options     []nats.Option
	settings    string // which settings hold the credentials, for messages
}

// server resolves the settings without connecting; its errors are the user's.
func (n natsSettings) server(s *settings) (natsServer, error) {
	c := natsContext{}
	if n.Context != "" {
		var err error
		if c, err = readContext(n.Context, s.env); err != nil {
			return natsServer{}, usagef("NATS_CONTEXT: %w", err)
		}
	}
	// Credentials are taken from one place as a whole: half of a context's and half of the environment's is nobody's.
	password, token := s.lookup("NATS_PASSWORD"), s.lookup("NATS_TOKEN")
	if n.Creds != "" || n.NKey != "" || n.User != "" || token != "" {
		c.Creds, c.NKey, c.User, c.Password, c.Token = n.Creds, n.NKey, n.User, password, token
	}
	if password != "" && c.User == "" {
		return natsServer{}, usagef("NATS_PASSWORD: set without NATS_USER")
	}
	server := natsServer{url: cmp.Or(n.URL, c.URL, nats.DefaultURL), domain: c.Domain}
	for u := range strings.SplitSeq(server.url, ",") {
		if err := checkURL(strings.TrimSpace(u)); err != nil {
			return natsServer{}, usagef("NATS_URL: %w", err)
		}
	}
	if err := server.identify(c); err != nil {
		return natsServer{}, err
	}
	if err := server.secure(cmp.Or(n.Cert, c.Cert), cmp.Or(n.Key, c.Key), cmp.Or(n.CA, c.CA)); err != nil {
		return natsServer{}, err
	}
	if c.Inbox != "" {
		server.add(nats.CustomInboxPrefix(c.Inbox))
	}
	if c.TLSFirst {
		server.add(nats.TLSHandshakeFirst())
	}
	return server, nil
}

func (server *natsServer) add(o nats.Option) { server.options = append(server.options, o) }

// identify adds the one kind of credentials that is set.
func (server *natsServer) identify(c natsContext) error {
	var ways []string
	if c.Creds != "" {
		ways = append(ways, "NATS_CREDS")
		if err := readable("NATS_CREDS", c.Creds); err != nil {
			return err
		}
		server.add(nats.UserCredentials(c.Creds))
	}
	if c.NKey != "" {
		ways = append(ways, "NATS_NKEY")
		option, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return usagef("NATS_NKEY: %w, expected a file with an nkey seed", err)
		}
		server.add(option)
	}
	if c.User != "" {
		ways = append(ways, "NATS_USER")
		server.add(nats.UserInfo(c.User, c.Password))
	}
	if c.Token != "" {
		ways = append(ways, "NATS_TOKEN")
		server.add(nats.Token(c.Token))
	}
	if len(ways) > 1 {
		return usagef("%s: set beside %s, expected one kind of credentials", ways[1], ways[0])
	}
	server.settings = cmp.Or(strings.Join(ways, ""), "NATS_CREDS, NATS_NKEY or NATS_USER")
	return nil
}

// secure adds the certificates.
func (server *natsServer) secure(cert, key, ca string) error {
	if (cert == "") != (key == "") {
		return usagef("NATS_CERT, NATS_KEY: one is set, expected both or neither")
	}
	if ca != "" {
		if err := readable("NATS_CA", ca); err != nil {
			return err
		}
		server.add(nats.RootCAs(ca))
	}
	if cert != "" {
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			return usagef("NATS_CERT, NATS_KEY: %w", err)
		}
		server.add(nats.ClientCert(cert, key))
	}
	return nil
}

func checkURL(text string) error {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
		return fmt.Errorf("%q, expected nats://host:port, tls://, ws:// or wss://", redactURLs(text))
	}
	return nil
}

func readable(setting, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return usagef("%s: %w", setting, err)
	}
	return f.Close()
}

func readContext(name string, env environment) (natsContext, error) {
	var c natsContext
	home, _ := env("HOME")
	path := name
	if !filepath.IsAbs(path) {
		if name != filepath.Base(name) {
			return c, fmt.Errorf("%q, expected the name of a context or an absolute path", name)
		}
		config, _ := env("XDG_CONFIG_HOME")
		path = filepath.Join(cmp.Or(config, filepath.Join(home, ".config")), "nats", "context", name+".json")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("read %s: %w", path, err)
	}
	for _, no := range []struct{ field, value string }{{"nsc", c.NSC}, {"socks_proxy", c.Socks}, {"user_jwt", c.JWT}, {"jetstream_api_prefix", c.Prefix}} {
		if no.value != "" {
			return c, fmt.Errorf("%s: %s is not supported, expected url, creds, nkey, user, password, token, ca, cert, key, inbox_prefix, jetstream_domain or tls_first", path, no.field)
		}
	}
	for _, file := range []*string{&c.Creds, &c.NKey, &c.Cert, &c.Key, &c.CA} {
		if rest, ok := strings.CutPrefix(*file, "~/"); ok {
			*file = filepath.Join(home, rest)
		}
	}
	return c, nil
}

// connect tries until there is a connection or ctx ends, says once that there is no server, and returns an error only
// for what waiting does not mend: refused credentials and TLS that cannot be agreed on. The context it returns also ends
// when the connection is closed for good, with the reason as its cause.
func (server natsServer) connect(ctx context.Context, log zerolog.Logger, jsOptions ...jetstream.JetStreamOpt) (context.Context, jetstream.JetStream, error) {
	ctx, lost := context.WithCancelCause(ctx)
	nc, err := server.dial(ctx, log, append(server.told(log, lost), server.options...))
	if err != nil {
		lost(nil)
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
		lost(nil)
		return nil, nil, fmt.Errorf("use JetStream: %w", err)
	}
	return ctx, js, nil
}

// told are the options by which the connection keeps itself and says what becomes of it.
func (server natsServer) told(log zerolog.Logger, lost context.CancelCauseFunc) []nats.Option {
	return []nats.Option{
		nats.Name("renewals"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(500*time.Millisecond, time.Second),
		// A network that fell silent is noticed within half a minute, not within the four of the defaults.
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		// While there is no connection a publish fails at once and is made again by whoever knows whether it still should be.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn().Err(err).Msg("NATS connection lost, connecting again")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("NATS connection is back")
		}),
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
			event := log.Error().Err(err)
			if sub == nil && !errors.Is(err, nats.ErrPermissionViolation) {
				event = log.Debug().Err(err) // one for each write on a connection whose end is logged above
			}
			if sub != nil {
				event = event.Str("subject", sub.Subject)
			}
			event.Msg("NATS")
		}),
		nats.ClosedHandler(func(nc *nats.Conn) {
			if err := nc.LastError(); err != nil {
				lost(server.explain(err))
			}
		}),
	}
}

// dial goes on until there is a server, or an answer that asking again will not change.
func (server natsServer) dial(ctx context.Context, log zerolog.Logger, options []nats.Option) (*nats.Conn, error) {
	for told := false; ; {
		nc, err := nats.Connect(server.url, options...)
		if err == nil {
			if told {
				log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("NATS server found")
			}
			return nc, nil
		}
		if permanent(err) {
			return nil, server.explain(err)
		}
		if !told {
			log.Warn().Str("NATS_URL", redactURLs(server.url)).Err(err).Msg("no NATS server, trying again until there is one")
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to NATS: %w", context.Cause(ctx))
		case <-time.After(500*time.Millisecond + rand.N(time.Second)):
		}
	}
}

// inClear says that what goes over this connection can be read on its way; "" where it is encrypted, or does not leave
// the machine.
func inClear(nc *nats.Conn) string {
	_, err := nc.TLSConnectionState()
	return clearTo(nc.ConnectedUrlRedacted(), err == nil)
}

func clearTo(server string, encrypted bool) string {
	u, err := url.Parse(server)
	if err != nil || encrypted || u.Scheme == "wss" || u.Scheme == "tls" || u.Hostname() == "localhost" {
		return ""
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLoopback() {
		return ""
	}
	return "the connection to " + server + " is not encrypted: whoever is on its way reads customer tokens, with which Klarna can be had to charge; set up TLS on the servers, and NATS_URL=tls://…"
}

// lostConnection is why the context of a connection ended, where it was not the user who ended it.
func lostConnection(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
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

func (server natsServer) explain(err error) error {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return fmt.Errorf("connect to NATS: %w; check NATS_CA", err)
	case permanent(err):
		return fmt.Errorf("connect to NATS: %w; check %s, and what that user may do on the server", err, server.settings)
	}
	return fmt.Errorf("connect to NATS: %w", err)
}

// redactURLs takes credentials out of a list of server URLs.
func redactURLs(list string) string {
	urls := strings.Split(list, ",")
	for i, u := range urls {
		scheme, rest, ok := strings.Cut(u, "://")
		if !ok {
			scheme, rest = "nats", u
		}
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			rest = "[redacted]" + rest[at:]
		}
		urls[i] = scheme + "://" + rest
	}
	return strings.Join(urls, ",")
}

// journalProblem says what to do about a journal that cannot be opened.
func journalProblem(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("stream %s is missing; run `renewals provision`", messages.StreamJournal)
	}
	return err
}
