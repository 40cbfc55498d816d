package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

func TestToken(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	env := variables{"KLARNA_ENDPOINT": sim.URL, "KLARNA_USERNAME": testUser, "KLARNA_PASSWORD": testPassword}
	const token = "ok-customer-4711"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := finish(t, cli.ExitDone, env, token+"\n", "token", "show")
	if !strings.HasPrefix(out, "status ACTIVE, payment method ") {
		t.Errorf("token show says %q", out)
	}
	// Nobody is there to ask.
	_, told := finish(t, cli.ExitUsage, env, token, "token", "cancel", "--no-record")
	if !strings.Contains(told, "--yes: not set, and standard input is no terminal to ask on; nothing was changed") {
		t.Errorf("token cancel says %q", told)
	}
	if out, _ = finish(t, cli.ExitDone, env, "", "token", "show", "--json", "--token-file", file); !strings.Contains(out, `"status":"ACTIVE"`) {
		t.Errorf("the token is %s, want ACTIVE", out)
	}
	out, _ = finish(t, cli.ExitDone, env, "", "token", "cancel", "--yes", "--no-record", "--token-file="+file)
	if !strings.HasPrefix(out, "cancelled") {
		t.Errorf("token cancel says %q", out)
	}
	if out, _ = finish(t, cli.ExitDone, env, token+"\n", "token", "show"); !strings.HasPrefix(out, "status CANCELLED") {
		t.Errorf("token show says %q", out)
	}
	for _, row := range []struct {
		situation string
		env       variables
		token     string
		want      string
	}{
		{situation: "unknown token", env: env, token: "not-found-4711", want: "404"},
		{situation: "our password is wrong", env: env.with("KLARNA_PASSWORD", "hunter3"), token: token, want: "401"},
		{situation: "Klarna is not reachable", env: env.with("KLARNA_ENDPOINT", "http://127.0.0.1:1"), token: token, want: "get token: "},
	} {
		_, told := finish(t, cli.ExitFailed, row.env, row.token, "token", "show")
		if !strings.Contains(told, row.want) || strings.Contains(told, row.token) || strings.Contains(told, "hunter") {
			t.Errorf("%s: got %q, want %s and no secret", row.situation, told, row.want)
		}
	}
	for _, row := range []struct {
		situation string
		stdin     string
		args      []string
		want      string
	}{
		{"an argument", "", []string{token}, "an argument, expected none: a customer token on a command line can be read by everybody"},
		{"nothing", "", nil, "customer token: found 0 bytes, expected 1 to 255 of A-Z"},
		{"two tokens", token + "\n" + token, nil, "customer token: found 33 bytes, expected"},
		{"no file", "", []string{"--token-file=nowhere"}, "--token-file: open nowhere: no such file"},
	} {
		_, told := finish(t, cli.ExitUsage, env, row.stdin, append([]string{"token", "show"}, row.args...)...)
		if !strings.Contains(told, row.want) || strings.Contains(told, token) {
			t.Errorf("%s: got %q, want %s and no secret", row.situation, told, row.want)
		}
	}
}

// A cancellation is on record before Klarna is asked, and again once it is taken on. What is not on record is not asked for.
func TestTokenCancellationIsRecorded(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	env := environmentFor(broker(t, nil), sim)
	const token = "ok-customer-4712"
	status := func(want string) {
		t.Helper()
		if out, _ := finish(t, cli.ExitDone, env, token, "token", "show"); !strings.HasPrefix(out, "status "+want) {
			t.Errorf("token show says %q, want %s", out, want)
		}
	}
	cancel := func(exit int, env variables) string {
		t.Helper()
		_, told := finish(t, exit, env, token, "token", "cancel", "--yes", "--subscription=acme.4711", "--actor=ada", "--note=on request")
		if strings.Contains(told, token) {
			t.Errorf("the token is told: %s", told)
		}
		return told
	}
	if told := cancel(cli.ExitFailed, env); !strings.Contains(told, "nothing was cancelled: stream RENEWAL_NEWS is missing; run `renewals provision`") {
		t.Errorf("without the stream: %q", told)
	}
	status("ACTIVE")
	if told := cancel(cli.ExitFailed, env.with("NATS_URL", "nats://127.0.0.1:1", "RENEWALS_TIMEOUT", "200ms")); !strings.Contains(told, "--no-record") {
		t.Errorf("without a server: %q", told)
	}
	status("ACTIVE")
	finish(t, cli.ExitDone, env, "", "provision")
	if told := cancel(cli.ExitFailed, env.with("KLARNA_ENDPOINT", "http://127.0.0.1:1")); !strings.Contains(told, "renewals token show says") {
		t.Errorf("without Klarna: %q", told)
	}
	cancel(cli.ExitDone, env)
	status("CANCELLED")

	nc, err := nats.Connect(env["NATS_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), messages.StreamNews)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []messages.TokenFinding{messages.TokenCancelling, messages.TokenCancelling, messages.TokenCancelled} {
		m, err := stream.GetMsg(t.Context(), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		var got messages.TokenNews
		if err := json.Unmarshal(m.Data, &got); err != nil {
			t.Fatal(err)
		}
		if got.Finding != want || got.Actor != "ada" || got.Note != "on request" || got.TokenFingerprint != messages.NewCustomerToken(token).Fingerprint() ||
			m.Subject != "renewals.token.acme%2E4711.default" || strings.Contains(string(m.Data), token) {
			t.Errorf("record %d on %s: %s, want %s", i+1, m.Subject, m.Data, want)
		}
	}
}
