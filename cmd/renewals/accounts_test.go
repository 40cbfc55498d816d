package main

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
)

// Without a rate of its own an account takes nine tenths of what Klarna allows where it is.
func TestRateByDefault(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]float64{
		"eu": 180, "na": 180, "oc": 180, "kustom": 180, "eu-playground": 45, "na-playground": 45, "oc-playground": 45, "kustom-playground": 45,
		"https://gateway.example.com/klarna": 180, "http://127.0.0.1:8088": 0,
	} {
		e := accountEntry{Name: "shop", Endpoint: endpoint, Username: "K1_a", password: testPassword, where: func(key string) string { return key }}
		a, err := e.account(time.Minute, false, zerolog.Nop())
		if err != nil || a.Rate != want {
			t.Errorf("%s: rate %v, %v; want %v", endpoint, a.Rate, err, want)
		}
	}
}

// S70: the worker learns for which endpoint and merchant it charges, and no more of the user name than that.
func TestAccountNamesItsMerchant(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, endpoint, username, mid, wantEndpoint, wantMerchant string }{
		{"a region", "eu", "K123456_abcdef", "", "https://api.klarna.com", "K123456"},
		{"a path", "https://Gateway.Example.com:443/Klarna/", "PK1_abcdef", "", "https://gateway.example.com/Klarna", "PK1"},
		{"a UUID", "na", "0b1d9815-165e-42e2-8867-35bc03789e00", "", "https://api-na.klarna.com", klarna.Merchant("0b1d9815-165e-42e2-8867-35bc03789e00")},
		{"the setting", "kustom", "K123456-abcdef", "K123456", "https://api.kustom.co", "K123456"},
		{"no merchant ID", "eu", "K123456_abcdef", "K 1", "", ""},
	} {
		e := accountEntry{Name: "shop", Endpoint: row.endpoint, Username: row.username, MID: row.mid, password: testPassword, where: func(key string) string { return "KLARNA_" + strings.ToUpper(key) }}
		a, err := e.account(time.Minute, false, zerolog.Nop())
		if row.wantMerchant == "" {
			if err == nil || !strings.HasPrefix(err.Error(), "KLARNA_MID: ") {
				t.Errorf("%s: got %v", row.name, err)
			}
			continue
		}
		if err != nil || a.Endpoint != row.wantEndpoint || a.Merchant != row.wantMerchant {
			t.Errorf("%s: got endpoint %q and merchant %q, %v; want %q and %q", row.name, a.Endpoint, a.Merchant, err, row.wantEndpoint, row.wantMerchant)
		}
	}
}
