package journal

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/messages"
)

// The claim of a renewal as records of both forms have it, and what both say. Never change one: what is written stays written.
const (
	claimAt    = "renewals.charging.12%2E34.2026-12.1795853735.default"
	claimState = `{"v":1,"phase":"charging","claim":{"key":"066fb987-94e8-5d9a-9b0b-0d279f430fd1","sha256":"90da9c0073015cba75a168c728ceb0c691f7025b717e85253255637eaa56734b",` +
		`"nonce":"n","worker":"worker-1","lease_until":"2026-12-01T00:02:33.932Z","first_sent_at":"2026-12-01T00:00:33.932Z","deliveries":2,"tries":3,"undecided_tries":1,"last_error":"create order: 500"},"attempts":2}`
	briefClaim = `{"id":"12.34/2026-12/2","order_amount":1599,"purchase_currency":"EUR","merchant_reference1":"r1","merchant_reference2":"r2","metadata":{"idempotency_key":"x"},"token_fingerprint":"41cb9de13c8a"}`
	wholeClaim = `{"id":"12.34/2026-12/2","account":"default","subscription_id":"12.34","period":"2026-12","attempt":2,"idempotency_key":"066fb987-94e8-5d9a-9b0b-0d279f430fd1",` +
		`"renewal_key":"%s","order_amount":1599,"purchase_currency":"EUR","merchant_reference1":"r1","merchant_reference2":"r2","tries":3,"deliveries":2,"worker":"worker-1",` +
		`"at":"2026-12-01T00:00:33.932Z","metadata":{"idempotency_key":"x"},"token_fingerprint":"41cb9de13c8a","first_sent_at":"2026-12-01T00:00:33.932Z","undecided_tries":1,"last_error":"create order: 500"}`
)

func TestBriefClaimReadsWhole(t *testing.T) {
	t.Parallel()
	whole := strings.Replace(wholeClaim, "%s", string(messages.NewRenewalKey("12.34", "2026-12")), 1)
	for _, row := range []struct{ name, subject, state, body, want string }{
		{"brief", claimAt, claimState, briefClaim, whole},
		{"whole, as earlier versions wrote it", claimAt, claimState, whole, whole},
		{"another kind", strings.Replace(claimAt, "charging", "paid", 1), "nothing that is read", briefClaim, briefClaim},
		{"a record that counts a panic before any claim", claimAt, `{"v":1,"phase":"none"}`, briefClaim, briefClaim},
	} {
		if got, err := WholeBody(row.subject, row.state, []byte(row.body)); err != nil || string(got) != row.want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", row.name, err, got, row.want)
		}
	}
	if _, err := WholeBody(claimAt, `{"v":99}`, []byte(briefClaim)); err == nil {
		t.Error("a state that nobody knows tells of a claim")
	}
	if _, err := WholeBody(claimAt, claimState, []byte(`{`)); err == nil {
		t.Error("half a body is read")
	}
}

// What a claim's body leaves out is read back, whatever it says; where state and subject say something else, nothing is left out.
func TestClaimIsStoredWithoutLoss(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var c messages.Charging
		fill(t, reflect.ValueOf(&c).Elem())
		c.Account, c.SubscriptionID, c.Period = "default", messages.SubscriptionID(rapid.SampledFrom([]string{"1", "12.34", "ü /x"}).Draw(t, "subscription")), "2026-12"
		of := messages.NewRenewal(c.SubscriptionID, c.Period)
		c.RenewalKey, c.IdempotencyKey = of.Key(), "066fb987-94e8-5d9a-9b0b-0d279f430fd1"
		c.At, c.FirstSentAt = c.At.Truncate(time.Millisecond), c.FirstSentAt.Truncate(time.Millisecond)
		c.Actor, c.Note, c.Verified, c.Seen = "", "", nil, nil
		if rapid.Bool().Draw(t, "first") {
			c.At = c.FirstSentAt
		}
		s := State{Version: stateVersion, Phase: PhaseCharging, Attempts: c.Attempt, Claim: &Claim{
			Key: c.IdempotencyKey, Worker: c.Worker, Tries: c.Tries, Deliveries: c.Deliveries, UndecidedTries: c.UndecidedTries, FirstSentAt: c.FirstSentAt, LastError: c.LastError,
		}}
		switch rapid.IntRange(0, 4).Draw(t, "other") {
		case 1:
			s.Claim.Key = "another"
		case 2:
			s.Claim.Tries++
		case 3:
			s.Claim.LastError += "x"
		}
		body, err := Record{Event: c, About: c.Record}.body(of, s)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := s.wholeBody(messages.RecordAddress{Kind: messages.KindCharging, Renewal: of, Account: "default"}.Subject(), body)
		if err != nil {
			t.Fatal(err)
		}
		got, want := map[string]any{}, map[string]any{}
		text, err := messages.Encode(c)
		if err != nil || json.Unmarshal(text, &want) != nil || json.Unmarshal(whole, &got) != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("stored as %s, %v\nreads as %s\nwant     %s", body, err, whole, text)
		}
	})
}
