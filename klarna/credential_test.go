package klarna_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
)

func TestSecretsAreRedacted(t *testing.T) {
	t.Parallel()
	type nested struct {
		token    klarna.CustomerToken
		password *klarna.Secret
		Token    klarna.CustomerToken
		Password klarna.Secret
	}
	password := klarna.NewSecret(theKey)
	n := nested{token: klarna.NewCustomerToken(theToken), password: &password, Token: klarna.NewCustomerToken(theToken), Password: password}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
		fmt.Fprintf(&out, verb+"\n", n)
		fmt.Fprintf(&out, verb+"\n", n.Token)
		fmt.Fprintf(&out, verb+"\n", &n.Token)
		fmt.Fprintf(&out, verb+"\n", n.Password)
		fmt.Fprintf(&out, verb+"\n", []any{n.Token, map[string]any{"p": n.Password}})
	}
	text, err := json.Marshal(map[string]any{"n": n, "t": n.Token, "m": map[string]klarna.Secret{"x": n.Password}})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "t", n.Token, "p", n.Password, "n", n)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "t", n.Token, "p", n.Password, "n", n)
	zero := zerolog.New(&out)
	zero.Info().Interface("n", n).Stringer("t", n.Token).Any("p", n.Password).Msg("x")
	for _, secret := range []string{theToken, theKey, fmt.Sprintf("%x", theToken), fmt.Sprintf("%X", theKey)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("output contains %q:\n%s", secret, out.String())
		}
	}
	if got := n.Token.Reveal(); got != theToken {
		t.Errorf("Reveal() = %q, want %q", got, theToken)
	}
	if got := (klarna.CustomerToken{}).Reveal(); got != "" {
		t.Errorf("zero token: Reveal() = %q, want none", got)
	}
}

func TestStaticCredentials(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, username, password string
		ok                       bool
	}{
		{name: "both", username: "K123_abc", password: theKey, ok: true},
		{name: "no user name", password: theKey},
		{name: "no API key", username: "K123_abc"},
		{name: "a colon, which would move the border", username: "K123:abc", password: theKey},
	} {
		if _, err := klarna.StaticCredentials(row.username, row.password).Credentials(); (err == nil) != row.ok {
			t.Errorf("%s: error %v", row.name, err)
		}
	}
}

func TestFileCredentialsFollowTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := klarna.FileCredentials("user", path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: error %v, want %v", err, fs.ErrNotExist)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("  \n")
	if _, err := klarna.FileCredentials("user", path); err == nil {
		t.Error("an empty file passed for a key")
	}
	write("first-key\n")
	source, err := klarna.FileCredentials("user", path)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		got, err := source.Credentials()
		if err != nil || got.Password.Reveal() != want || got.Username != "user" {
			t.Errorf("credentials %q %q, error %v, want %q", got.Username, got.Password.Reveal(), err, want)
		}
	}
	expect("first-key")
	write("second-longer-key")
	expect("second-longer-key")

	// A rotation by rename, as Kubernetes does it, to a key of the same length.
	next := filepath.Join(filepath.Dir(path), "next")
	if err := os.WriteFile(next, []byte("third--longer-key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	expect("third--longer-key")

	write("") // somebody is about to write it
	expect("third--longer-key")
	if err := source.Reload(); err == nil {
		t.Error("Reload of an empty file: no error")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("third--longer-key")
	write("fourth")
	if err := source.Reload(); err != nil {
		t.Errorf("Reload: %v", err)
	}
	expect("fourth")
}
