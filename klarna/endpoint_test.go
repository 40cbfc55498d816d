package klarna_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/klarna"
)

func TestResolveEndpoint(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		allowHTTP bool
		want      string // "" is an error
	}{
		{"eu", false, "https://api.klarna.com"},
		{"na", false, "https://api-na.klarna.com"},
		{"oc", false, "https://api-oc.klarna.com"},
		{"eu-playground", false, "https://api.playground.klarna.com"},
		{"na-playground", false, "https://api-na.playground.klarna.com"},
		{"oc-playground", false, "https://api-oc.playground.klarna.com"},
		{"kustom", false, "https://api.kustom.co"},
		{"kustom-playground", false, "https://api.playground.kustom.co"},
		{"https://gateway.example.com", false, "https://gateway.example.com"},
		{"https://gateway.example.com:8443/", false, "https://gateway.example.com:8443"},
		{"https://gateway.example.com/klarna/eu/", false, "https://gateway.example.com/klarna/eu"},
		{"HTTPS://gateway.example.com", false, "https://gateway.example.com"},
		{"http://127.0.0.1:8089", false, "http://127.0.0.1:8089"},
		{"http://[::1]:8089", false, "http://[::1]:8089"},
		{"http://localhost:8089", false, "http://localhost:8089"},
		{"http://klarna-sim:8089", true, "http://klarna-sim:8089"},
		{"http://klarna-sim:8089", false, ""},
		{"http://localhost.example.com", false, ""},
		{"EU", false, ""},
		{"", false, ""},
		{"api.klarna.com", false, ""},
		{"https:", false, ""},
		{"https://", false, ""},
		{"https://:443", false, ""},
		{"ftp://api.klarna.com", true, ""},
		{"https://user:hunter22@api.klarna.com", false, ""},
		{"https://user:hunter22@api.klarna.com:port", false, ""},
		{"https://api.klarna.com?key=hunter22", false, ""},
		{"https://api.klarna.com?", false, ""},
		{"https://api.klarna.com#hunter22", false, ""},
		{"https://api.klarna.com#", false, ""},
		{"https://api.klarna.com/a/../b", false, ""},
		{"https://api.klarna.com/a%2Fb", false, ""},
	} {
		got, err := klarna.ResolveEndpoint(row.name, row.allowHTTP)
		switch {
		case err != nil && row.want != "":
			t.Errorf("ResolveEndpoint(%q): %v", row.name, err)
		case err != nil && strings.Contains(err.Error(), "hunter22"):
			t.Errorf("ResolveEndpoint(%q): the error quotes a password: %v", row.name, err)
		case err == nil && got.String() != row.want:
			t.Errorf("ResolveEndpoint(%q) = %q, want %q", row.name, got, row.want)
		}
	}
}

func TestCanonicalEndpoint(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, given, want string }{
		{"as it is", "https://api.klarna.com", "https://api.klarna.com"},
		{"upper case", "HTTPS://API.Klarna.COM", "https://api.klarna.com"},
		{"a slash at the end", "https://gateway.example.com/klarna/eu//", "https://gateway.example.com/klarna/eu"},
		{"the path's case matters", "https://gateway.example.com/Klarna", "https://gateway.example.com/Klarna"},
		{"https' own port", "https://api.klarna.com:443/", "https://api.klarna.com"},
		{"http's own port", "http://localhost:80", "http://localhost"},
		{"http's port under https", "https://api.klarna.com:80", "https://api.klarna.com:80"},
		{"another port", "https://api.klarna.com:8443/a", "https://api.klarna.com:8443/a"},
		{"an empty port", "https://api.klarna.com:", "https://api.klarna.com"},
		{"IPv6", "http://[::1]:8089", "http://[::1]:8089"},
		{"IPv6 and the own port", "http://[::1]:80", "http://[::1]"},
	} {
		u, err := url.Parse(row.given)
		if err != nil {
			t.Fatal(err)
		}
		if got := klarna.CanonicalEndpoint(u); got != row.want {
			t.Errorf("%s: CanonicalEndpoint(%q) = %q, want %q", row.name, row.given, got, row.want)
		}
	}
}

func TestMerchant(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, username, rotated string
		same                    bool
		want                    string // "" is a fingerprint
	}{
		{name: "another key of the merchant", username: "K123456_0a1b2c", rotated: "K123456_d4e5f6", same: true, want: "K123456"},
		{name: "the first _ counts", username: "PK12345_ab_cd", rotated: "PK12345_ef_gh", same: true, want: "PK12345"},
		{name: "another merchant", username: "K123456_0a1b2c", rotated: "K123457_0a1b2c", want: "K123456"},
		{name: "a UUID", username: "0b1d9815-165e-42e2-8867-35bc03789e00", rotated: "0b1d9815-165e-42e2-8867-35bc03789e01"},
		{name: "Kustom", username: "K123456-abcdef", rotated: "K123456-ghijkl"},
		{name: "nothing before the _", username: "_abc", rotated: "_abd"},
		{name: "no merchant ID before the _", username: "a b_c", rotated: "a b_d"},
		{name: "far too long before the _", username: strings.Repeat("K", 65) + "_a", rotated: strings.Repeat("K", 65) + "_b"},
	} {
		got, other := klarna.Merchant(row.username), klarna.Merchant(row.rotated)
		if row.want != "" && got != row.want || (got == other) != row.same {
			t.Errorf("%s: got %q and %q", row.name, got, other)
		}
		if row.want == "" && (!strings.HasPrefix(got, "sha256:") || len(got) != len("sha256:")+12) {
			t.Errorf("%s: got %q, want a fingerprint: the user name is a part of the credentials", row.name, got)
		}
	}
}
