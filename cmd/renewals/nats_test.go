package main

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	// For its certificate, which is good for 127.0.0.1.
	web := httptest.NewTLSServer(nil)
	t.Cleanup(web.Close)
	b := broker(t, func(o *server.Options) {
		o.TLS, o.TLSTimeout, o.TLSConfig = true, 5, &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}
	})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	env := variables{"NATS_URL": b.ClientURL()}
	if _, told := finish(t, cli.ExitFailed, env, "", "provision"); !strings.Contains(told, "check NATS_CA") {
		t.Errorf("a certificate that nobody knows: got %q", told)
	}
	finish(t, cli.ExitDone, env.with("NATS_CA", ca), "", "provision")
}

// The pair of the NATS documentation:
// https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth
func TestNKey(t *testing.T) {
	t.Parallel()
	b := broker(t, func(o *server.Options) {
		o.Nkeys = []*server.NkeyUser{{Nkey: "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"}}
	})
	seed := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(seed, []byte("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := variables{"NATS_URL": b.ClientURL()}
	finish(t, cli.ExitFailed, env, "", "provision")
	finish(t, cli.ExitDone, env.with("NATS_NKEY", seed), "", "provision")
	// Half of one kind of credentials and half of another is nobody's.
	if _, told := finish(t, cli.ExitUsage, env.with("NATS_NKEY", seed, "NATS_USER", "me"), "", "provision"); !strings.Contains(told, "expected one kind of credentials") {
		t.Errorf("got %q", told)
	}
}

func TestRedactURLs(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ url, want string }{
		{"nats://a:4222", "nats://a:4222"},
		{"nats://me:secret@a:4222,tls://token@b", "nats://[redacted]@a:4222,tls://[redacted]@b"},
		{"me:s@cret@a", "nats://[redacted]@a"},
		{"localhost", "nats://localhost"},
	} {
		if got := cli.RedactURLs(row.url); got != row.want {
			t.Errorf("redactURLs(%q) = %q, want %q", row.url, got, row.want)
		}
	}
}

// A claim that leaves the client's buffer when the connection is back would be of a delivery that was given up long
// before: without a connection nothing is kept to be sent later.
func TestNothingIsSentLater(t *testing.T) {
	t.Parallel()
	b := broker(t, nil)
	server, err := cli.ReachSettings{URL: b.ClientURL()}.Server(&cli.Settings{Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	_, js, err := server.Connect(t.Context(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(js.Conn().Close)
	stopBroker(b)
	eventually(t, "the connection is gone", func() bool { return !js.Conn().IsConnected() })
	if err := js.Conn().Publish("claim", []byte("late")); !errors.Is(err, nats.ErrReconnectBufExceeded) {
		t.Errorf("Publish without a connection: %v, want %v", err, nats.ErrReconnectBufExceeded)
	}
}

// A connection that can be read on its way is told of, loudly, by the worker and by status; not one within the machine.
func TestConnectionInClear(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		server    string
		encrypted bool
		want      bool
	}{
		{"nats://nats.example.com:4222", false, true}, {"nats://10.0.0.1:4222", false, true}, {"ws://nats.example.com:80", false, true}, {"nats://[2001:db8::1]:4222", false, true},
		{"nats://nats.example.com:4222", true, false}, {"tls://nats.example.com:4222", false, false}, {"wss://nats.example.com:443", false, false},
		{"nats://127.0.0.1:4222", false, false}, {"nats://localhost:4222", false, false}, {"nats://[::1]:4222", false, false},
	} {
		if got := cli.ClearTo(row.server, row.encrypted); (got != "") != row.want {
			t.Errorf("%s, encrypted %t: %q", row.server, row.encrypted, got)
		}
	}
	env := environmentFor(broker(t, nil), simulator(t))
	finish(t, cli.ExitDone, env, "", "provision")
	const loud = "is not encrypted: whoever is on its way reads customer tokens"
	if out, _ := finish(t, cli.ExitDone, env, "", "status"); strings.Contains(out, loud) {
		t.Errorf("status on loopback says %s", out)
	}
	// By a name that is not one of loopback's, though it is.
	env = env.with("NATS_URL", strings.Replace(env["NATS_URL"], "127.0.0.1", "0.0.0.0", 1))
	if out, _ := finish(t, cli.ExitDone, env, "", "status"); !strings.Contains(out, "\n  warning: the connection to nats://0.0.0.0:") || !strings.Contains(out, loud) {
		t.Errorf("status says %s", out)
	}
	if out, _ := finish(t, cli.ExitDone, env, "", "status", "--json"); !strings.Contains(out, `"warnings":["the connection to `) {
		t.Errorf("status --json says %s", out)
	}
	p := start(t, env, "", "work")
	eventually(t, "the worker to say it", func() bool {
		said := p.stdout.String() + p.stderr.String()
		return strings.Contains(said, "INSECURE: ") && strings.Contains(said, loud)
	})
}
