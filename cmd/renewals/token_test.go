package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	out, _ := finish(t, exitDone, env, token+"\n", "token", "show")
	if !strings.HasPrefix(out, "status ACTIVE, payment method ") {
		t.Errorf("token show says %q", out)
	}
	// Nobody is there to ask.
	_, told := finish(t, exitUsage, env, token, "token", "cancel")
	if !strings.Contains(told, "--yes: not set, and nobody confirmed; nothing was cancelled") {
		t.Errorf("token cancel says %q", told)
	}
	if out, _ = finish(t, exitDone, env, "", "token", "show", "--json", "--token-file", file); !strings.Contains(out, `"status":"ACTIVE"`) {
		t.Errorf("the token is %s, want ACTIVE", out)
	}
	out, _ = finish(t, exitDone, env, "", "token", "cancel", "--yes", "--token-file="+file)
	if !strings.HasPrefix(out, "cancelled") {
		t.Errorf("token cancel says %q", out)
	}
	if out, _ = finish(t, exitDone, env, token+"\n", "token", "show"); !strings.HasPrefix(out, "status CANCELLED") {
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
		_, told := finish(t, exitFailed, row.env, row.token, "token", "show")
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
		_, told := finish(t, exitUsage, env, row.stdin, append([]string{"token", "show"}, row.args...)...)
		if !strings.Contains(told, row.want) || strings.Contains(told, token) {
			t.Errorf("%s: got %q, want %s and no secret", row.situation, told, row.want)
		}
	}
}
