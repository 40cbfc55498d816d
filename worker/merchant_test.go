package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// S70, with a worker: what is claimed names endpoint and merchant, never the rest
// of the user name.
func TestClaimNamesEndpointAndMerchant(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.publish(w.due("s70", "token", 1))
	w.awaitEmpty()
	w.expect(1, "paid")
	c := w.records()[0].State.Claim
	if u := w.klarna.URL; !strings.HasPrefix(u, c.Endpoint) || c.Endpoint == "" || c.Merchant != klarna.Merchant("merchant") {
		t.Errorf("got endpoint %q and merchant %q, with Klarna at %s", c.Endpoint, c.Merchant, u)
	}
}

// A claim says in its body what stands nowhere else, has no headers of CloudEvents, and its moments are whole milliseconds: every paid
// renewal keeps one. A result has all that results have.
func TestClaimIsBrief(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.publish(w.due("brief", "ok-1", 1))
	w.awaitEmpty()
	w.expect(1, "paid")
	stream, err := w.js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	for sequence, want := range map[uint64]struct{ body, headers string }{
		1: {"id merchant_reference1 order_amount purchase_currency token_fingerprint", ""},
		2: {"account attempt authorized_payment_method captured correlation_id deliveries fraud_status id idempotency_key merchant_reference1 order_amount order_id period " +
			"purchase_currency renewal_key subscription_id token_fingerprint tries warnings worker at",
			"ce-datacontenttype ce-dataschema ce-id ce-source ce-specversion ce-subject ce-time ce-type content-type"},
	} {
		m, err := stream.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		var body map[string]any
		if err := json.Unmarshal(m.Data, &body); err != nil {
			t.Fatal(err)
		}
		var headers []string
		for name := range m.Header {
			if !strings.HasPrefix(name, "Nats-") && name != messages.HeaderState {
				headers = append(headers, name)
			}
		}
		if got := slices.Sorted(maps.Keys(body)); !slices.Equal(got, slices.Sorted(slices.Values(strings.Fields(want.body)))) {
			t.Errorf("record %d has %q, want %s", sequence, got, want.body)
		}
		if slices.Sort(headers); strings.Join(headers, " ") != want.headers {
			t.Errorf("record %d has headers %q, want %s", sequence, headers, want.headers)
		}
		if m.Header.Get(jetstream.ExpectedStreamHeader) != "" {
			t.Errorf("record %d says which stream it is in", sequence)
		}
	}
	if c := w.records()[0].State.Claim; !c.FirstSentAt.Equal(c.FirstSentAt.Truncate(time.Millisecond)) || len(c.Nonce) != 16 {
		t.Errorf("claimed at %v by %q", c.FirstSentAt, c.Nonce)
	}
}

// Settings that undo the promise are refused, but for a Klarna on this machine.
func TestSettingsThatUndoThePromise(t *testing.T) {
	live := Account{Name: "live", Endpoint: "https://api.klarna.com"}
	local := Account{Name: "local", Endpoint: "http://127.0.0.1:8089"}
	for _, row := range []struct {
		name     string
		accounts []Account
		change   func(*Options)
		want     []string // in the error; none: no error
	}{
		{name: "defaults", accounts: []Account{live}, change: func(*Options) {}},
		{name: "on the edge", accounts: []Account{live}, change: func(o *Options) { o.TryTimeout, o.SettleDelay = 20*time.Second, 40*time.Second }},
		{
			name: "a try and its delay end too soon", accounts: []Account{live}, change: func(o *Options) { o.TryTimeout, o.SettleDelay = 20*time.Second, 39*time.Second },
			want: []string{"try timeout", "settle delay", "20s", "39s", "1m0s", "live"},
		},
		{name: "one account of two", accounts: []Account{local, live}, change: func(o *Options) { o.SettleDelay, o.TryTimeout = 0, time.Second }, want: []string{"settle delay", "live"}},
		{
			name: "a window that Klarna may have forgotten", accounts: []Account{live}, change: func(o *Options) { o.KeyWindow = 23*time.Hour + time.Second },
			want: []string{"key window", "23h0m1s", "23h0m0s", "live"},
		},
		{name: "no endpoint told", accounts: []Account{{Name: "untold"}}, change: func(o *Options) { o.SettleDelay, o.TryTimeout = 0, time.Second }, want: []string{"settle delay", "untold"}},
		{name: "on this machine", accounts: []Account{local}, change: func(o *Options) {
			o.SettleDelay, o.TryTimeout, o.KeyWindow = 0, time.Second, 23*time.Hour+time.Second
		}},
	} {
		o := DefaultOptions()
		o.Name, o.Accounts = "w", row.accounts
		row.change(&o)
		_, err := New(nil, o)
		if (err == nil) != (row.want == nil) {
			t.Errorf("%s: got %v", row.name, err)
			continue
		}
		for _, word := range row.want {
			if !strings.Contains(fmt.Sprint(err), word) {
				t.Errorf("%s: %q is not in %q", row.name, word, err)
			}
		}
	}
}

// S3: a lease outlasts no key: the window would close while a request is under way.
func TestKeyWindowBelowTheLease(t *testing.T) {
	o := DefaultOptions()
	o.KeyWindow = 2*time.Minute - time.Second
	var told strings.Builder
	o.Log = zerolog.New(&told)
	for endpoint, refused := range map[string]bool{"https://api.klarna.com": true, "http://[::1]:8089": false} {
		o.Accounts = []Account{{Name: "default", Endpoint: endpoint}}
		a := accountOf(t, consumerOnly{}, o, nil)
		_, err := a.bind(t.Context(), nil)
		off, ok := errors.AsType[*topology.Deviation](err)
		if ok != refused || err != nil != refused || refused && (off.Setting != "ack_wait" || !strings.Contains(err.Error(), "1m59s")) {
			t.Errorf("%s: got %v, want it refused: %t", endpoint, err, refused)
		}
	}
	if lines := strings.Count(told.String(), "\n"); lines != 1 || !strings.Contains(told.String(), "at most the key window of 1m59s: a key would end under a claim; give keys a window of 2m0s or more (RENEWALS_KEY_WINDOW, by default 23h)") {
		t.Errorf("where it is not refused it is told: got %q", told.String())
	}
}

// consumerOnly is a JetStream with the consumers of an account, as they are provisioned.
type consumerOnly struct{ jetstream.JetStream }

func (consumerOnly) Consumer(_ context.Context, _, name string) (jetstream.Consumer, error) {
	return consumerInfo{name: name}, nil
}
func (consumerOnly) Options() (o jetstream.JetStreamOptions) { return o }
func (consumerOnly) Conn() *nats.Conn                        { return nil }

type consumerInfo struct {
	jetstream.Consumer
	name string
}

func (c consumerInfo) CachedInfo() *jetstream.ConsumerInfo {
	subject := topology.Consumers("default")[c.name]
	return &jetstream.ConsumerInfo{Config: topology.Provisioning{AckWait: 2 * time.Minute}.Consumer("default", c.name, subject)}
}
