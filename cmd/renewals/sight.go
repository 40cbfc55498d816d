package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/doctor"
)

// viewSettings say where the servers tell of what a user of NATS does not see.
type viewSettings struct {
	Monitoring []string `name:"nats-monitoring-url" setting:"NATS_MONITORING_URL" group:"NATS" help:"Monitoring ports of all servers, http://nats-1:8222 and so on, separated by commas; default port 8222 of the one that is connected to."`
	Context    string   `name:"system-context" setting:"NATS_SYSTEM_CONTEXT" group:"NATS" help:"A context of the nats CLI of a user of the system account, in place of monitoring ports."`
	Creds      string   `name:"system-creds" setting:"NATS_SYSTEM_CREDS" group:"NATS" help:"Credentials file of such a user, for the same servers."`
	NKey       string   `name:"system-nkey" setting:"NATS_SYSTEM_NKEY" group:"NATS" help:"File with the nkey seed of such a user, for the same servers."`
}

// check says what is wrong with the settings.
func (v viewSettings) check(as cli.ReachSettings, s *cli.Settings) error {
	if _, err := monitoringURLs(v.Monitoring, s); err != nil {
		return err
	}
	_, err := v.system(as, s)
	return err
}

// sight gives a patient the ways in which servers are seen, until it is told to leave.
func (v viewSettings) sight(ctx context.Context, n cli.NATSSettings, s *cli.Settings, p *doctor.Patient) (leave func(), err error) {
	if p.Monitoring, err = monitoringURLs(v.Monitoring, s); err != nil {
		return nil, err
	}
	if p.HTTP, err = webClient(n.Reach.CA); err != nil {
		return nil, err
	}
	system, err := v.system(n.Reach, s)
	if system == nil || err != nil {
		return p.HTTP.CloseIdleConnections, err
	}
	system.Timeout = n.Timeout
	if p.System, err = system.Quiet(ctx); err != nil {
		return nil, fmt.Errorf("system account: %w", err)
	}
	return func() { p.System.Close(); p.HTTP.CloseIdleConnections() }, nil
}

// system is how to connect as a user of the system account; nil where nothing says so. Passwords in the environment are another user's.
func (v viewSettings) system(as cli.ReachSettings, s *cli.Settings) (*cli.NATSServer, error) {
	if v.Context == "" && v.Creds == "" && v.NKey == "" {
		return nil, nil
	}
	if as == (cli.ReachSettings{}) { // the selected context says where the servers are
		as.Context, _ = cli.SelectedContext(s.Env)
	}
	as.User, as.Creds, as.NKey, as.Inbox, as.Domain = "", v.Creds, v.NKey, "", ""
	as.Context = cmp.Or(v.Context, as.Context)
	without := func(name string) (string, bool) {
		if name == "NATS_PASSWORD" || name == "NATS_TOKEN" {
			return "", false
		}
		return s.Env(name)
	}
	server, err := as.Server(&cli.Settings{Env: without, Command: s.Command})
	var usage cli.UsageError
	if errors.As(err, &usage) {
		return nil, cli.Usagef("system account: %w", usage.Err)
	}
	return &server, err
}

func monitoringURLs(texts []string, s *cli.Settings) (all []*url.URL, err error) {
	for _, text := range texts {
		u, err := webURL(text)
		if err != nil {
			return nil, cli.Usagef("%s: %w", s.Place("nats-monitoring-url"), err)
		}
		all = append(all, u)
	}
	return all, nil
}

func webURL(text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		shown := cli.RedactURLs(text)
		if !strings.Contains(text, "://") {
			_, shown, _ = strings.Cut(shown, "://")
		}
		return nil, fmt.Errorf("%q, expected http://host:port or https://host:port", shown)
	}
	return u, nil
}

// webClient trusts the certificates that NATS is trusted by, too.
func webClient(ca string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, cli.Usagef("--nats-ca: %w", err)
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		roots.AppendCertsFromPEM(text)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return &http.Client{Transport: transport}, nil
}
