package desk_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	testbroker "github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// bureau is a journal and a Klarna, with an operator between them.
type bureau struct {
	*testing.T
	js      jetstream.JetStream
	records *journal.Journal
	sim     *klarnasim.Server
	client  *klarna.Client
	began   time.Time // before anything was sent
}

const account = messages.Account("default")

func newBureau(t *testing.T) *bureau {
	t.Helper()
	b := &bureau{T: t, js: testbroker.JetStream(t), began: time.Now().Add(-time.Second)}
	if err := topology.Provision(t.Context(), b.js, topology.Provisioning{Replicas: 1, Accounts: []messages.Account{account}}); err != nil {
		t.Fatal(err)
	}
	b.records = b.open(b.js)
	sim, err := klarnasim.Start(klarnasim.Options{Password: "key"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
	b.sim = sim
	b.client = b.connect("key")
	return b
}

func (b *bureau) open(js jetstream.JetStream) *journal.Journal {
	b.Helper()
	records, err := journal.Open(b.Context(), js, zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	return records
}

func (b *bureau) connect(password string) *klarna.Client {
	b.Helper()
	endpoint, err := klarna.ResolveEndpoint(b.sim.URL, false)
	if err != nil {
		b.Fatal(err)
	}
	client, err := klarna.New(klarna.Config{Endpoint: endpoint, Credentials: klarna.StaticCredentials("K1_merchant", password), Timeout: 30 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	return client
}

func (b *bureau) finder() desk.Finder {
	return desk.Finder{JetStream: b.js, Journal: b.records, Progress: func(string, int64) (func(int64), func()) { return func(int64) {}, func() {} }}
}

// checker is that of an operator with the account's credentials.
func (b *bureau) checker() *desk.Checker {
	return &desk.Checker{Now: time.Now, Merchant: func(messages.Account) (desk.Merchant, error) {
		return desk.Merchant{Orders: b.client, Endpoint: "https://klarna.example", ID: "K1"}, nil
	}}
}

// charge is the order that a subscription's job asks for.
type charge struct {
	token, currency, reference string
	amount                     int64
	authorise                  bool // and capture nothing
}

func usual(subscription string) charge {
	return charge{token: "ok", currency: "EUR", reference: subscription + "-2026-12", amount: 1599}
}

// order makes one at Klarna.
func (b *bureau) order(subscription string, c charge) string {
	b.Helper()
	body := fmt.Sprintf(`{"purchase_currency":%q,"order_amount":%d,"order_tax_amount":0,"auto_capture":%t,"merchant_reference1":%q,"order_lines":[{"type":"digital","name":"Streaming","quantity":1,"unit_price":%[2]d,"tax_rate":0,"total_amount":%[2]d,"total_tax_amount":0,"subscription":{"name":"Monthly","interval":"MONTH","interval_count":1}}]}`,
		c.currency, c.amount, !c.authorise, c.reference)
	made, err := b.client.CreateOrder(b.Context(), klarna.CreateOrderRequest{
		CustomerToken: klarna.NewCustomerToken(c.token + "-" + subscription), IdempotencyKey: string(key(subscription)) + c.reference, Body: []byte(body),
	})
	if err != nil {
		b.Fatal(err)
	}
	return made.OrderID
}

// capture takes a part of an order.
func (b *bureau) capture(orderID, reference string, amount int64) string {
	b.Helper()
	made, err := b.client.CreateCapture(b.Context(), klarna.CreateCaptureRequest{OrderID: orderID, IdempotencyKey: orderID + reference, CapturedAmount: amount, Reference: reference})
	if err != nil {
		b.Fatal(err)
	}
	return made.CaptureID
}

func renewal(subscription string) messages.Renewal {
	return messages.NewRenewal(messages.SubscriptionID(subscription), "2026-12")
}

func key(subscription string) messages.IdempotencyKey {
	return messages.NewIdempotencyKey(renewal(subscription).Key(), messages.MessageID(subscription+"/1"))
}

// write puts a record of a subscription on top of its last, as a worker would.
func (b *bureau) write(subscription string, s journal.State, event messages.Event) {
	b.Helper()
	at, err := b.records.Last(b.Context(), renewal(subscription))
	if err != nil {
		b.Fatal(err)
	}
	s.Rev = at.State.Rev + 1
	header, err := s.Encode()
	if err != nil {
		b.Fatal(err)
	}
	body, err := messages.Encode(event)
	if err != nil {
		b.Fatal(err)
	}
	m := &nats.Msg{Subject: messages.RecordAddress{Kind: event.Kind(), Renewal: renewal(subscription), Account: account}.Subject(), Header: nats.Header{messages.HeaderState: {header}}, Data: body}
	if _, err := b.js.PublishMsg(b.Context(), m); err != nil {
		b.Fatal(err)
	}
}

func (b *bureau) about(subscription string) messages.Record {
	return messages.Record{
		ID: messages.MessageID(subscription + "/1"), Account: account, SubscriptionID: messages.SubscriptionID(subscription), Period: "2026-12", Attempt: 1,
		IdempotencyKey: key(subscription), RenewalKey: renewal(subscription).Key(), OrderAmount: 1599, PurchaseCurrency: "EUR",
		MerchantReference1: subscription + "-2026-12", Tries: 1, Deliveries: 1, Worker: "w", At: b.began, TokenFingerprint: "b17f6e500d48",
	}
}

// unresolved writes a charge, or of an order a capture, that was claimed and given up, and reads it as a case.
func (b *bureau) unresolved(subscription string, capture *journal.Capture, reference string) desk.Case {
	b.Helper()
	k, about := key(subscription), b.about(subscription)
	claim := journal.Claim{Key: k, SHA256: "hash", Nonce: "n", Worker: "w", FirstSentAt: b.began, Released: true, Tries: 1, Capture: capture, Endpoint: "https://klarna.example", Merchant: "K1"}
	s := journal.State{Phase: journal.PhaseCharging, Claim: &claim, Attempts: 1}
	gaveUp := messages.Unresolved{Record: about, Reason: messages.ReasonIdempotencyWindowExpired, FirstSentAt: b.began, SearchUntil: b.began.Add(time.Hour)}
	var opened messages.Event = messages.Charging{Record: about, FirstSentAt: b.began}
	if capture != nil {
		s.Phase, s.Order = journal.PhaseCapturing, &journal.Order{ID: capture.OrderID, Amount: 1599, Currency: "EUR", Captures: 1}
		opened = messages.Capturing{Record: about, OrderID: capture.OrderID, CapturedAmount: capture.Amount, Reference: reference, FirstSentAt: b.began}
		gaveUp.OrderID, gaveUp.CapturedAmount, gaveUp.Reference = capture.OrderID, capture.Amount, reference
	}
	b.write(subscription, s, opened)
	s.Phase = journal.PhaseUnresolved
	b.write(subscription, s.Settle(k, journal.Settlement{Kind: messages.KindUnresolved, SHA256: "hash"}), gaveUp)
	return b.read(subscription)
}

func (b *bureau) read(subscription string) desk.Case {
	b.Helper()
	entries, err := b.records.Records(b.Context(), renewal(subscription))
	if err != nil {
		b.Fatal(err)
	}
	c, err := desk.NewCase(renewal(subscription), entries)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// look is what resolve does before it asks anybody.
func (b *bureau) look(c desk.Case, r desk.Ruling) (desk.Comparison, error) {
	b.Helper()
	comparison, err := b.checker().Look(b.Context(), c, r)
	if err != nil || r.Made() == "" {
		return comparison, err
	}
	mentions := desk.NewMentions(b.finder(), comparison.NamedSince(c), r.Made())
	if err := mentions.Read(b.Context()); err != nil {
		b.Fatal(err)
	}
	comparison.Named(mentions.Elsewhere(r.Made(), c.GaveUp.IdempotencyKey))
	return comparison, nil
}

// decision is that of an operator who has looked.
func decision(c desk.Comparison) journal.Decision {
	return journal.Decision{Actor: "anna", At: time.Now(), Seen: c.Seen, Verified: c.Verified()}
}

// count is how many records a subscription has.
func (b *bureau) count(subscription string) int {
	b.Helper()
	entries, err := b.records.Records(b.Context(), renewal(subscription))
	if err != nil {
		b.Fatal(err)
	}
	return len(entries)
}

// contains checks that each part is in a text.
func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("got %q, want %q in it", text, part)
		}
	}
}

// taken is an order that is recorded for another renewal.
func (b *bureau) taken() string {
	b.Helper()
	order := b.order("taken", usual("taken"))
	b.unresolved("taken", nil, "")
	if err := b.records.ResolvePaid(b.Context(), renewal("taken"), order, true, journal.Decision{Actor: "ben", At: time.Now()}); err != nil {
		b.Fatal(err)
	}
	return order
}
