package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/worker"
)

// Without a rate of its own an account takes nine tenths of what Klarna allows where it is.
func TestRateByDefault(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]float64{
		"eu": 180, "na": 180, "oc": 180, "kustom": 180, "eu-playground": 45, "na-playground": 45, "oc-playground": 45, "kustom-playground": 45,
		"https://gateway.example.com/klarna": 180, "http://127.0.0.1:8088": 0,
	} {
		e := cli.AccountEntry{Name: "shop", Endpoint: endpoint, Username: "K1_a", Password: testPassword, Where: func(key string) string { return key }}
		a, err := e.Client(time.Minute, false, zerolog.Nop())
		if err != nil || a.Rate != want {
			t.Errorf("%s: rate %v, %v; want %v", endpoint, a.Rate, err, want)
		}
	}
}

// The guards of an account: what it sets, what it has where it sets nothing, and what a person is told to correct.
func TestGuardsOfAnAccount(t *testing.T) {
	t.Parallel()
	number := func(n int) *int { return &n }
	const durations = ", expected a duration of at most 168h such as 1h or 30m, 0s for none"
	for _, row := range []struct {
		gap          string
		attempts     *int
		wantGap      time.Duration
		wantAttempts int
		fault        string
	}{
		{}, // the worker's own
		{gap: "30m", attempts: number(3), wantGap: 30 * time.Minute, wantAttempts: 3},
		{gap: "0s", attempts: number(256), wantGap: worker.NoAttemptGap, wantAttempts: 256},
		{gap: "0", attempts: number(1), wantGap: worker.NoAttemptGap, wantAttempts: 1},
		{gap: "7d", wantGap: 168 * time.Hour},
		{gap: "8d", fault: `min_attempt_gap: "8d"` + durations},
		{gap: "3600", fault: `min_attempt_gap: "3600"` + durations},
		{gap: "-1h", fault: `min_attempt_gap: "-1h"` + durations},
		{gap: "soon", fault: `min_attempt_gap: "soon"` + durations},
		{attempts: number(0), fault: "max_attempts: 0, expected 1 to 256 attempts at a renewal"},
		{attempts: number(257), fault: "max_attempts: 257, expected 1 to 256 attempts at a renewal"},
	} {
		e := cli.AccountEntry{Name: "shop", Endpoint: "eu", Username: "K1_a", Password: testPassword, MinAttemptGap: row.gap, MaxAttempts: row.attempts, Where: func(key string) string { return key }}
		a, err := e.Client(time.Minute, false, zerolog.Nop())
		if fault := fmt.Sprint(err); row.fault != "" && fault != row.fault {
			t.Errorf("%q: got %q, want %q", row.gap, fault, row.fault)
		} else if row.fault == "" && (err != nil || a.MinAttemptGap != row.wantGap || a.MaxAttempts != row.wantAttempts) {
			t.Errorf("%q: got %s and %d, %v; want %s and %d", row.gap, a.MinAttemptGap, a.MaxAttempts, err, row.wantGap, row.wantAttempts)
		}
	}
}

// S70: the worker learns for which endpoint and merchant it charges, and no more of the user name than that.
func TestAccountNamesItsMerchant(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, endpoint, username, mid, wantEndpoint, wantMerchant string }{
		{name: "a region", endpoint: "eu", username: "K123456_abcdef", wantEndpoint: "https://api.klarna.com", wantMerchant: "K123456"},
		{name: "a path", endpoint: "https://Gateway.Example.com:443/Klarna/", username: "PK1_abcdef", wantEndpoint: "https://gateway.example.com/Klarna", wantMerchant: "PK1"},
		{name: "a UUID", endpoint: "na", username: "0b1d9815-165e-42e2-8867-35bc03789e00", wantEndpoint: "https://api-na.klarna.com", wantMerchant: klarna.Merchant("0b1d9815-165e-42e2-8867-35bc03789e00")},
		{name: "the setting", endpoint: "kustom", username: "K123456-abcdef", mid: "K123456", wantEndpoint: "https://api.kustom.co", wantMerchant: "K123456"},
		{name: "no merchant ID", endpoint: "eu", username: "K123456_abcdef", mid: "K 1"},
	} {
		e := cli.AccountEntry{Name: "shop", Endpoint: row.endpoint, Username: row.username, MID: row.mid, Password: testPassword, Where: func(key string) string { return "KLARNA_" + strings.ToUpper(key) }}
		a, err := e.Client(time.Minute, false, zerolog.Nop())
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
