package klarna_test

import (
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
