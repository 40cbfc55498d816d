package cli

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// ReachSettings say how to reach NATS, in the words of the nats CLI. NATS_PASSWORD and NATS_TOKEN are read from the
// environment only, since a command line is public on its machine.
type ReachSettings struct {
	URL     string `name:"nats-url" setting:"NATS_URL" group:"NATS" help:"Servers, separated by commas, default nats://127.0.0.1:4222."`
	Creds   string `name:"nats-creds" setting:"NATS_CREDS" group:"NATS" help:"Credentials file, read again on every connection."`
	NKey    string `name:"nats-nkey" setting:"NATS_NKEY" group:"NATS" help:"File with an nkey seed."`
	User    string `name:"nats-user" setting:"NATS_USER" group:"NATS" help:"User name; the password is in NATS_PASSWORD."`
	CA      string `name:"nats-ca" setting:"NATS_CA" group:"NATS" help:"Certificates to trust, PEM."`
	Cert    string `name:"nats-cert" setting:"NATS_CERT" group:"NATS" help:"Client certificate, PEM."`
	Key     string `name:"nats-key" setting:"NATS_KEY" group:"NATS" help:"Key of the client certificate, PEM."`
	Context string `name:"nats-context" setting:"NATS_CONTEXT" group:"NATS" help:"A context of the nats CLI; every other setting wins over it. Default: the selected one, where no NATS setting is given."`
	Inbox   string `name:"nats-inbox-prefix" setting:"NATS_INBOX_PREFIX" group:"NATS" help:"Subject under which answers come, where the user may not subscribe to _INBOX."`
	Domain  string `name:"nats-js-domain" setting:"NATS_JS_DOMAIN" group:"NATS" help:"JetStream domain of the streams, where they are not in that of the server."`
}

// NATSSettings are those of a command that somebody waits for.
type NATSSettings struct {
	Reach   ReachSettings `embed:""`
	Timeout time.Duration `group:"NATS" default:"10s" help:"Give up when no server answers for so long."`
}

// server resolves the settings of a command that gives up.
func (n NATSSettings) Server(s *Settings) (NATSServer, error) {
	if n.Timeout <= 0 {
		return NATSServer{}, Usagef("%s: %s, expected more than 0", s.Place("timeout"), n.Timeout)
	}
	server, err := n.Reach.Server(s)
	server.Timeout = n.Timeout
	return server, err
}

// NATSServer is everything needed to connect.
type NATSServer struct {
	URL, domain string
	options     []nats.Option
	named       string        // what says where the server is, for messages
	credentials string        // which settings hold the credentials, for messages
	client      string        // who this connection says it is, in /connz
	Timeout     time.Duration // after which nobody waits for a server any more; 0: for ever
	Follows     bool          // goes on without a connection, once it had one
	lost        *lostReason   // of the command; nil where nobody asks
}

// server resolves the settings without connecting; its errors are the user's.
func (n ReachSettings) Server(s *Settings) (NATSServer, error) {
	c, named, err := n.context(s)
	if err != nil {
		return NATSServer{}, err
	}
	// Credentials are taken from one place as a whole: half of a context's and half of the environment's is nobody's.
	password, token := s.Lookup("NATS_PASSWORD"), s.Lookup("NATS_TOKEN")
	from := s.Place // says where the credentials are
	if named != "" {
		from = func(string) string { return named }
	}
	if n.Creds != "" || n.NKey != "" || n.User != "" || token != "" {
		from = s.Place
		c.Creds, c.NKey, c.User, c.Password, c.Token = n.Creds, n.NKey, n.User, password, token
	}
	if password != "" && c.User == "" {
		return NATSServer{}, Usagef("NATS_PASSWORD: set without NATS_USER")
	}
	server := NATSServer{
		URL: cmp.Or(n.URL, c.URL, nats.DefaultURL), domain: cmp.Or(n.Domain, c.Domain), named: s.Place("nats-url"),
		client: s.program + " " + s.Command + "@" + Hostname(), lost: &s.lost,
	}
	switch {
	case n.URL != "":
	case c.URL != "":
		server.named = named
	default:
		server.named = "the default"
	}
	for u := range strings.SplitSeq(server.URL, ",") {
		if err := checkURL(strings.TrimSpace(u)); err != nil {
			return NATSServer{}, Usagef("%s: %w", server.named, err)
		}
	}
	if err := server.identify(c, from); err != nil {
		return NATSServer{}, err
	}
	if err := server.secure(cmp.Or(n.Cert, c.Cert), cmp.Or(n.Key, c.Key), cmp.Or(n.CA, c.CA), s); err != nil {
		return NATSServer{}, err
	}
	if prefix := cmp.Or(n.Inbox, c.Inbox); prefix != "" {
		if strings.ContainsAny(prefix, " \t*>") || slices.Contains(strings.Split(prefix, "."), "") {
			return NATSServer{}, Usagef("%s: %q, expected a subject without wildcards", s.Place("nats-inbox-prefix"), prefix)
		}
		server.add(nats.CustomInboxPrefix(prefix))
	}
	if err := checkDomain(server.domain, s); err != nil {
		return NATSServer{}, err
	}
	if c.TLSFirst {
		server.add(nats.TLSHandshakeFirst())
	}
	return server, nil
}

// StreamDomain is the JetStream domain in which the streams are reached, "" for the server's own. Nothing else that these settings name
// need be there.
func (n ReachSettings) StreamDomain(s *Settings) (string, error) {
	c, _, err := n.context(s)
	if err != nil {
		return "", err
	}
	domain := cmp.Or(n.Domain, c.Domain)
	return domain, checkDomain(domain, s)
}

func checkDomain(domain string, s *Settings) error {
	if strings.ContainsAny(domain, " \t*>.") {
		return Usagef("%s: %q, expected one word", s.Place("nats-js-domain"), domain)
	}
	return nil
}

// context is the one that is asked for, else the selected one where nothing else says how to reach NATS. named is what to call
// it, for messages.
func (n ReachSettings) context(s *Settings) (c natsContext, named string, err error) {
	if n.Context != "" {
		c, err = readContext(n.Context, s.Env)
		if named = s.Place("nats-context"); err != nil {
			return c, named, Usagef("%s: %w", named, err)
		}
		return c, "context " + n.Context, nil
	}
	if n != (ReachSettings{}) || s.Lookup("NATS_PASSWORD") != "" || s.Lookup("NATS_TOKEN") != "" {
		return c, "", nil
	}
	name, file := SelectedContext(s.Env)
	if name == "" {
		return c, "", nil
	}
	if c, err = readContext(name, s.Env); err != nil {
		return c, "", Usagef("%s selects context %q: %w; select another, or say with NATS_URL where the server is", file, name, err)
	}
	return c, "context " + name + ", which is selected in " + file, nil
}

func (server *NATSServer) add(o nats.Option) { server.options = append(server.options, o) }

// identify adds the one kind of credentials that is set.
func (server *NATSServer) identify(c natsContext, from func(flag string) string) error {
	var ways []string
	if c.Creds != "" {
		ways = append(ways, from("nats-creds"))
		if err := readable(ways[0], c.Creds); err != nil {
			return err
		}
		credentials := nats.UserCredentials(c.Creds)
		if err := signs(credentials); err != nil {
			return Usagef("%s: %w, expected a credentials file of a NATS user", ways[0], err)
		}
		server.add(credentials)
	}
	if c.NKey != "" {
		ways = append(ways, from("nats-nkey"))
		option, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return Usagef("%s: %w, expected a file with an nkey seed", from("nats-nkey"), err)
		}
		server.add(option)
	}
	if c.User != "" {
		ways = append(ways, from("nats-user"))
		server.add(nats.UserInfo(c.User, c.Password))
	}
	if c.Token != "" {
		ways = append(ways, "NATS_TOKEN")
		server.add(nats.Token(c.Token))
	}
	if len(ways) > 1 {
		return Usagef("%s: set beside %s, expected one kind of credentials", ways[1], ways[0])
	}
	server.credentials = cmp.Or(strings.Join(ways, ""), "NATS_CREDS, NATS_NKEY or NATS_USER")
	return nil
}

// secure adds the certificates.
func (server *NATSServer) secure(cert, key, ca string, s *Settings) error {
	if (cert == "") != (key == "") {
		return Usagef("NATS_CERT, NATS_KEY: one is set, expected both or neither")
	}
	if ca != "" {
		if err := readable(s.Place("nats-ca"), ca); err != nil {
			return err
		}
		roots := nats.RootCAs(ca)
		if err := roots(&nats.Options{}); err != nil {
			return Usagef("%s: %w, expected certificates in PEM", s.Place("nats-ca"), err)
		}
		server.add(roots)
	}
	if cert != "" {
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			return Usagef("NATS_CERT, NATS_KEY: %w", err)
		}
		server.add(nats.ClientCert(cert, key))
	}
	return nil
}

// signs reads the credentials once, before they are needed: on the way to a server an error of theirs looks like that of the server.
func signs(credentials nats.Option) error {
	var o nats.Options
	if err := credentials(&o); err != nil {
		return err
	}
	if _, err := o.UserJWT(); err != nil {
		return err
	}
	_, err := o.SignatureCB([]byte("nonce"))
	return err
}

func checkURL(text string) error {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
		return fmt.Errorf("%q, expected nats://host:port, tls://, ws:// or wss://", RedactURLs(text))
	}
	return nil
}

func readable(setting, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return Usagef("%s: %w", setting, err)
	}
	return f.Close()
}

// RedactURLs takes credentials out of a list of server URLs.
func RedactURLs(list string) string {
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

// JournalProblem says what to do about a journal that cannot be opened.
func JournalProblem(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("stream %s is missing; run `renewals provision`", messages.StreamJournal)
	}
	return err
}
