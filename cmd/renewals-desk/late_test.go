package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// charged makes Klarna charge a subscription's period, and the journal say so.
func charged(t *testing.T, klarna string, js jetstream.JetStream, subscription string) (order string) {
	t.Helper()
	body := fmt.Sprintf(`{"purchase_country":"DE","purchase_currency":"EUR","locale":"de-DE","order_amount":1599,"order_tax_amount":255,"auto_capture":true,"merchant_reference1":"%s-2026-12",
		"order_lines":[{"type":"digital","name":"Premium","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,"total_tax_amount":255,"subscription":{"name":"Premium","interval":"MONTH","interval_count":1}}]}`, subscription)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, klarna+"/customer-token/v1/tokens/ok-"+subscription+"/order", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("merchant", "secret-password")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Klarna-Idempotency-Key", uuid.NewString())
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var made struct {
		OrderID string `json:"order_id"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&made); err != nil || made.OrderID == "" {
		t.Fatalf("%s, %v", answer.Status, err)
	}
	text, err := os.ReadFile("../../messages/testdata/paid.json")
	if err != nil {
		t.Fatal(err)
	}
	var paid messages.Paid
	if err := json.Unmarshal(text, &paid); err != nil {
		t.Fatal(err)
	}
	of := messages.NewRenewal(messages.SubscriptionID(subscription), paid.Period)
	paid.SubscriptionID, paid.ID, paid.RenewalKey, paid.OrderID, paid.MerchantReference1, paid.At = messages.SubscriptionID(subscription), messages.MessageID(subscription+"/2026-12/1"), of.Key(), made.OrderID, subscription+"-2026-12", time.Now()
	paid.IdempotencyKey = messages.NewIdempotencyKey(paid.RenewalKey, paid.ID)
	record, err := messages.Encode(paid)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.PublishMsg(t.Context(), &nats.Msg{
		Subject: messages.RecordAddress{Kind: messages.KindPaid, Renewal: of, Due: 1796083200, Account: "default"}.Subject(), Data: record,
		Header: nats.Header{messages.HeaderState: {`{"v":1,"phase":"paid","due_at":"2026-12-01T00:00:00Z","attempts":1}`}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.OrderID
}

// TestLateIsClosedByItself: what Klarna settles days late is missing until a report has its row; that run closes it, and says by which.
func TestLateIsClosedByItself(t *testing.T) {
	t.Parallel()
	klarna, err := klarnasim.Start(klarnasim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(klarna.Close)
	js := broker.JetStream(t)
	if err := topology.Provision(t.Context(), js, topology.Provisioning{Replicas: 1, Accounts: []messages.Account{"default"}}); err != nil {
		t.Fatal(err)
	}
	charged(t, klarna.URL, js, "prompt")
	late := charged(t, klarna.URL, js, "late")
	if err := klarna.Simulator.Lie(klarnasim.Lie{OrderID: late, Kind: klarnasim.Late, Days: 3}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"NATS_URL": js.Conn().ConnectedUrl(), "XDG_STATE_HOME": t.TempDir(),
		"KLARNA_ENDPOINT": klarna.URL, "KLARNA_USERNAME": "merchant", "KLARNA_PASSWORD": "secret-password",
	}
	day := func(n int) string { return time.Now().AddDate(0, 0, n).UTC().Format(time.DateOnly) }
	compare := func() (code int, out, said string) {
		t.Helper()
		return asked(t, env, "reconcile", "--account=default", "--from="+day(-1), "--to="+day(9), "--expect-within=1ms")
	}
	klarna.Simulator.Advance(2 * 24 * time.Hour)
	for _, fresh := range []string{"new 1", "new 0"} {
		if code, out, said := compare(); code != cli.ExitFailed || !strings.Contains(out, "breaks 1 ("+fresh) || !strings.Contains(out, "missing") || !strings.Contains(out, "late/2026-12") {
			t.Fatalf("before its payout: %d, %s%s; want it missing, %s", code, out, said, fresh)
		}
	}
	klarna.Simulator.Advance(3 * 24 * time.Hour)
	code, out, said := compare()
	if code != cli.ExitDone || !strings.Contains(out, "closed: missing of late/2026-12: settled in payout ") || !strings.Contains(out, "breaks 0") {
		t.Errorf("after its payout: %d, %s%s", code, out, said)
	}
	all := listed(t, env, "--all")
	if len(all) != 1 || all[0].Status != messages.BreakClosed || all[0].Actor != "reconcile" || !strings.Contains(all[0].Note, "SALE of 15.99 EUR") {
		t.Errorf("told: %+v", all)
	}
	if code, out, said := compare(); code != cli.ExitDone || strings.Contains(out, "closed:") {
		t.Errorf("once more: %d, %s%s", code, out, said)
	}
}
