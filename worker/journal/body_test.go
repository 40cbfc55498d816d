package journal

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
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
		switch c.Actor, c.Note, c.Verified, c.Seen = "", "", nil, nil; rapid.IntRange(0, 8).Draw(t, "beside what a claim has") {
		case 0:
			c.Actor = "ada"
		case 1:
			c.Note = "because"
		case 2:
			c.Verified = new(bool)
		case 3:
			c.Seen = &messages.Seen{}
		case 4:
			c.Warnings = []messages.Problem{{Path: "$", Message: "odd"}}
		}
		other := rapid.IntRange(0, 10).Draw(t, "other") // what state or place say otherwise
		if rapid.Bool().Draw(t, "first") {
			c.At = c.FirstSentAt
		}
		s := State{Version: stateVersion, Phase: PhaseCharging, Attempts: c.Attempt, Claim: &Claim{
			Key: c.IdempotencyKey, Worker: c.Worker, Tries: c.Tries, Deliveries: c.Deliveries, UndecidedTries: c.UndecidedTries, FirstSentAt: c.FirstSentAt, LastError: c.LastError,
		}}
		for i, differ := range []func(){
			func() {}, func() { s.Claim.Key = "another" }, func() { s.Claim.Tries++ }, func() { s.Claim.Deliveries++ }, func() { s.Claim.Worker += "x" },
			func() { s.Claim.UndecidedTries++ }, func() { s.Claim.LastError += "x" }, func() { s.Claim.FirstSentAt = s.Claim.FirstSentAt.Add(time.Second) },
			func() { s.Attempts++ }, func() { of = messages.NewRenewal("another", "2026-12") }, func() { s.Claim = nil },
		} {
			if i == other {
				differ()
			}
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

// A record that another stream has stored is in no journal: its subjects are that stream's by now. Nobody charges on the strength of it.
func TestStoredElsewhere(t *testing.T) {
	t.Parallel()
	js := emptyJournal(t)
	j, err := Open(t.Context(), js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), messages.StreamJournal); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ANOTHER", Subjects: []string{messages.RecordFilter("*", "*")}}); err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: claimAt, Header: nats.Header{messages.HeaderState: {claimState}}, Data: []byte(briefClaim)}
	sequence, refused, err := j.writeOnce(t.Context(), m, messages.NewRenewal("12.34", "2026-12"), 0)
	if err == nil || sequence != 0 || refused || errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "ANOTHER") {
		t.Errorf("sequence %d, refused %t, %v; want an error that names the stream", sequence, refused, err)
	}
}

// A writer whose answer was lost knows its own record by the id of a result, and of a claim, which has none, by its state and place.
func TestOwnRecordIsRecognised(t *testing.T) {
	t.Parallel()
	of := messages.NewRenewal("12.34", "2026-12")
	claimed := func(nonce string, rev int64) *nats.Msg {
		s, err := ParseState(claimState)
		if err != nil {
			t.Fatal(err)
		}
		s.Claim.Nonce, s.Rev = nonce, rev
		about := messages.Record{ID: "12.34/2026-12/1", Account: "default", SubscriptionID: "12.34", Period: "2026-12", IdempotencyKey: s.Claim.Key}
		m, err := Record{Event: messages.Charging{Record: about}, About: about, Time: noon}.message(of, s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	paid := func(id string) *nats.Msg {
		return &nats.Msg{Subject: "renewals.paid.s.p.0.default", Header: nats.Header{"ce-id": {id}, messages.HeaderState: {claimState}}}
	}
	elsewhere := claimed("a", 1)
	elsewhere.Subject = strings.Replace(elsewhere.Subject, "2026-12", "2027-01", 1)
	for _, row := range []struct {
		name string
		m    *nats.Msg
		is   *nats.Msg
		want bool
	}{
		{"a claim", claimed("a", 1), claimed("a", 1), true},
		{"a claim of another delivery", claimed("a", 1), claimed("b", 1), false},
		{"a claim after another record", claimed("a", 1), claimed("a", 2), false},
		{"a claim of another renewal", claimed("a", 1), elsewhere, false},
		{"a result", paid("1"), paid("1"), true},
		{"another result that leaves the same state", paid("1"), paid("2"), false},
		{"a claim beside a result", claimed("a", 1), paid("1"), false},
	} {
		if got := same(row.m, Entry{Sequence: 7, Subject: row.is.Subject, Header: row.is.Header}); got != row.want {
			t.Errorf("%s: recognised %t, want %t", row.name, got, row.want)
		}
		if same(row.m, Entry{Subject: row.is.Subject, Header: row.is.Header}) {
			t.Errorf("%s: recognised where there is no record", row.name)
		}
	}
}
