package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// gaveUp puts a charge that is unresolved into the journal, with a dead letter for each reason.
func gaveUp(t *testing.T, js jetstream.JetStream, subscription messages.SubscriptionID, sent time.Time, reasons ...messages.Reason) {
	t.Helper()
	r, id := messages.NewRenewal(subscription, "2026-12"), messages.MessageID(subscription+"/2026-12/1")
	key, sum := messages.NewIdempotencyKey(r.Key(), id), strings.Repeat("0", 64)
	header, err := journal.State{
		Version: 1, Phase: journal.PhaseUnresolved, DueAt: sent, Rev: 1, Attempts: 1, FirstAttemptAt: sent,
		Claim:   &journal.Claim{Key: key, SHA256: sum, Nonce: "n", Worker: "w", FirstSentAt: sent},
		Settled: map[messages.IdempotencyKey]journal.Settlement{key: {Kind: messages.KindUnresolved, SHA256: sum}},
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	body, err := messages.Encode(messages.Unresolved{
		Record: messages.Record{
			ID: id, Account: "default", SubscriptionID: subscription, Period: "2026-12", Attempt: 1, IdempotencyKey: key, RenewalKey: r.Key(), OrderAmount: 1599,
			PurchaseCurrency: "EUR", MerchantReference1: string(subscription) + "-2026-12", Worker: "w", At: sent,
		},
		Reason: messages.ReasonIdempotencyWindowExpired, FirstSentAt: sent, SearchUntil: sent.Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(m *nats.Msg) {
		t.Helper()
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	publish(&nats.Msg{Subject: messages.RecordAddress{Kind: messages.KindUnresolved, Renewal: r, Due: sent.Unix(), Account: "default"}.Subject(), Data: body, Header: nats.Header{messages.HeaderState: {header}}})
	for i, reason := range reasons {
		payload := fmt.Appendf(nil, `{"id":%q,"subscription_id":%q,"period":"2026-12"}`, id, subscription)
		letter := messages.DeadLetter{Reason: reason, Account: "default", Stream: messages.StreamJobs, Sequence: uint64(i + 1), Subject: messages.DueSubject("default"), At: sent}
		publish(&nats.Msg{Subject: messages.DeadSubject(key, "default"), Data: payload, Header: letter.Header(payload)})
	}
}

// TestAppliedLeavesNoLetter: what the settlements settle needs nobody any more; what else its key has in the dead letters does, and so does
// what is not proven.
func TestAppliedLeavesNoLetter(t *testing.T) {
	t.Parallel()
	js := broker.JetStream(t)
	if err := topology.Provision(t.Context(), js, topology.Provisioning{Replicas: 1, Accounts: []messages.Account{"default"}}); err != nil {
		t.Fatal(err)
	}
	sent := time.Now().Add(-48 * time.Hour).UTC().Truncate(time.Second)
	gaveUp(t, js, "proven", sent, messages.ReasonIdempotencyWindowExpired, messages.ReasonSecondOrder)
	gaveUp(t, js, "open", sent, messages.ReasonIdempotencyWindowExpired)
	report := filepath.Join(t.TempDir(), "report.csv")
	row := "payment_reference;settlement_currency;total_sale_amount;total_settlement_amount\nP1;EUR;15.99;15.99\n\n" +
		"type;order_id;amount;posting_currency;merchant_reference1;sale_date\nSALE;o-1;15.99;EUR;proven-2026-12;" + sent.Add(time.Minute).Format(time.RFC3339) + "\n"
	if err := os.WriteFile(report, []byte(row), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"NATS_URL": js.Conn().ConnectedUrl(), "XDG_STATE_HOME": t.TempDir()}
	if code, out, told := asked(t, env, "reconcile", "--account=default", "--apply", report); code != cli.ExitDone || !strings.Contains(out, "recorded: proven/2026-12 is paid with order o-1") {
		t.Fatalf("%d, %s%s", code, out, told)
	}
	stream, err := js.Stream(t.Context(), messages.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for n := uint64(1); n <= 3; n++ {
		if m, err := stream.GetMsg(t.Context(), n); err == nil {
			left = append(left, m.Header.Get(messages.HeaderReason))
		}
	}
	if got, want := strings.Join(left, " "), "second_order idempotency_window_expired"; got != want {
		t.Errorf("dead letters left: %s, want %s", got, want)
	}
}
