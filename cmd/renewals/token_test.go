package main

import (
	"strings"
	"testing"
)

func TestToken(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	env := variables{"KLARNA_ENDPOINT": sim.URL, "KLARNA_USERNAME": testUser, "KLARNA_PASSWORD": testPassword}
	const token = "ok-customer-4711"
	out, _ := finish(t, exitDone, env, "", "token", "show", token)
	if !strings.HasPrefix(out, "status ACTIVE, payment method ") {
		t.Errorf("token show says %q", out)
	}
	// Nobody is there to ask.
	_, told := finish(t, exitUsage, env, "y\n", "token", "cancel", token)
	if !strings.Contains(told, "--yes: not set, and nobody confirmed; nothing was cancelled") {
		t.Errorf("token cancel says %q", told)
	}
	if out, _ = finish(t, exitDone, env, "", "token", "show", "--json", token); !strings.Contains(out, `"status":"ACTIVE"`) {
		t.Errorf("the token is %s, want ACTIVE", out)
	}
	out, _ = finish(t, exitDone, env, "", "token", "cancel", "--yes", token)
	if !strings.HasPrefix(out, "cancelled") {
		t.Errorf("token cancel says %q", out)
	}
	if out, _ = finish(t, exitDone, env, "", "token", "show", token); !strings.HasPrefix(out, "status CANCELLED") {
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
		_, told := finish(t, exitFailed, row.env, "", "token", "show", row.token)
		if !strings.Contains(told, row.want) || strings.Contains(told, row.token) || strings.Contains(told, "hunter") {
			t.Errorf("%s: got %q, want %s and no secret", row.situation, told, row.want)
		}
	}
}
