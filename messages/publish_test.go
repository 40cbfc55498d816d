package messages_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// broker starts a server of its own in this process, with the three streams as far as publishing minds them.
func broker(dir string) (jetstream.JetStream, func(), error) {
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		return nil, nil, err
	}
	s.Start()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		s.Shutdown()
		return nil, nil, err
	}
	stop := func() {
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
	}
	js, err := jetstream.New(nc)
	for _, c := range []jetstream.StreamConfig{
		{Name: "RENEWALS", Subjects: []string{"renewals.due.*", "renewals.capture.*"}, Retention: jetstream.WorkQueuePolicy, MaxMsgSize: 512 << 10, Duplicates: time.Hour},
		{Name: "RENEWAL_DEAD", Subjects: []string{"renewals.dead.*.*"}},
	} {
		if err == nil {
			_, err = js.CreateStream(context.Background(), c)
		}
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return js, stop, nil
}

func setup(t *testing.T) jetstream.JetStream {
	t.Helper()
	js, stop, err := broker(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return js
}

func stored(t *testing.T, js jetstream.JetStream, stream string, sequence uint64) *jetstream.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), sequence)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPublish(t *testing.T) {
	t.Parallel()
	js := setup(t)
	job, _, err := messages.DecodeJob(golden(t, "job.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ack, err := messages.Publish(t.Context(), js, "shop-eu", job)
	if err != nil || ack.Duplicate || ack.Stream != "RENEWALS" {
		t.Fatalf("got %+v, %v", ack, err)
	}
	m := stored(t, js, ack.Stream, ack.Sequence)
	if m.Subject != "renewals.due.shop-eu" || lines(m.Header) != "Nats-Msg-Id: 1234834/2026-12/1\ncontent-type: application/json\n" {
		t.Errorf("got %s\n%s", m.Subject, lines(m.Header))
	}
	if r := messages.Read(m.Data, m.Header); len(r.Problems) > 0 || r.IdempotencyKey != "066fb987-94e8-5d9a-9b0b-0d279f430fd1" || !bytes.Equal(r.Job.Order, job.Order) {
		t.Errorf("got %+v", r)
	}

	// The same ID again is dropped by the stream, whatever the account.
	for _, account := range []messages.Account{"shop-eu", "shop-us"} {
		if ack, err := messages.Publish(t.Context(), js, account, job); err != nil || !ack.Duplicate {
			t.Errorf("%s: got %+v, %v; want a duplicate", account, ack, err)
		}
	}

	wrong := job
	wrong.Period = ""
	var invalid *messages.InvalidError
	if _, err := messages.Publish(t.Context(), js, "shop-eu", wrong); !errors.As(err, &invalid) || invalid.Problems[0].Path != "period" {
		t.Errorf("got %v, want an InvalidError about period", err)
	}
	if _, err := messages.Publish(t.Context(), js, "shop.eu", job); err == nil || !strings.Contains(err.Error(), `account "shop.eu"`) {
		t.Errorf("got %v, want an error about the account", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	job.ID = "1234834/2026-12/2"
	if _, err := messages.Publish(gone, js, "shop-eu", job); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), `publish job "1234834/2026-12/2": `) {
		t.Errorf("got %v, want the context's error", err)
	}
	if strings.Contains(fmt.Sprint(err, gone), token) {
		t.Error("the token is in an error")
	}
}

// S47: a bad job is dead-lettered whole by a real server, whatever its headers would make the server do, and however large it is.
func TestDeadLetterOfHostileJob(t *testing.T) {
	t.Parallel()
	js := setup(t)
	large := bytes.Repeat([]byte("x"), 480<<10)
	for i, header := range []nats.Header{
		{"Nats-Expected-Stream": {"OTHER"}, "Nats-Expected-Last-Sequence": {"99"}, "nats-expected-last-msg-id": {"x"}},
		{"Nats-Msg-Id": {"a"}, "Nats-Rollup": {"all"}, "Nats-TTL": {"1s"}, "Nats-Schedule": {"@at 2030-01-01T00:00:00Z"}, "Nats-Batch-Id": {"x"}},
		{"Nats-Msg-Id": {"a"}, "x": {"1\r\nNats-Expected-Stream: OTHER"}, "é": {"ü"}},
		{"x": {strings.Repeat("x", 28<<10)}, "Renewals-Dropped": {"forged"}, "renewals-reason": {"forged"}},
	} {
		d := letter(header)
		d.Sequence = uint64(i + 1)
		_, key := messages.StandIn(d.Stream, d.Sequence, large)
		m := &nats.Msg{Subject: messages.DeadSubject(key, "shop-eu"), Header: d.Header(large), Data: large}
		ack, err := js.PublishMsg(t.Context(), m)
		if err != nil || ack.Duplicate {
			t.Fatalf("%d: got %+v, %v", i, ack, err)
		}
		kept := stored(t, js, ack.Stream, ack.Sequence)
		back, err := messages.ParseDeadLetter(kept.Header)
		if err != nil || back.Reason != messages.ReasonInvalid || back.Sequence != d.Sequence || !bytes.Equal(kept.Data, large) {
			t.Errorf("%d: got %+v with %d bytes, %v", i, back, len(kept.Data), err)
		}
		if again, err := js.PublishMsg(t.Context(), m); err != nil || !again.Duplicate {
			t.Errorf("%d: got %+v, %v; want the same letter again to be a duplicate", i, again, err)
		}
	}
}

// A billing system makes a job for a renewal that is due, and publishes it. Publishing it again is safe: JetStream says
// that it has it.
func ExamplePublish() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	js, stop, err := broker(dir) // in production jetstream.New(nc)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	job := messages.Job{
		ID:             "1234834/2026-12/1",
		SubscriptionID: "1234834",
		Period:         "2026-12",
		DueAt:          time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
		CustomerToken:  messages.NewCustomerToken("0b1d9815-165e-42e2-8867-35bc03789e00"),
		Order: json.RawMessage(`{"purchase_currency":"EUR","order_amount":1599,"order_tax_amount":255,"auto_capture":true,
			"merchant_reference1":"1234834-2026-12","order_lines":[{"type":"digital","name":"Streaming Service Monthly","quantity":1,
			"unit_price":1599,"tax_rate":1900,"total_amount":1599,"total_tax_amount":255,
			"subscription":{"name":"Premium Monthly {{1234834}}","interval":"MONTH","interval_count":1}}]}`),
	}
	for range 2 {
		ack, err := messages.Publish(context.Background(), js, "default", job)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ack.Sequence, ack.Duplicate)
	}
	// Output:
	// 1 false
	// 1 true
}

func ExampleJob_Validate() {
	job := messages.Job{
		ID: "1234834/2026-12/1", SubscriptionID: "1234834", Period: "2026-12",
		DueAt:         time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
		CustomerToken: messages.NewCustomerToken("0b1d9815-165e-42e2-8867-35bc03789e00"),
		Order: json.RawMessage(`{"purchase_currency":"EUR","order_amount":1600,"order_tax_amount":0,"auto_capture":true,
			"order_lines":[{"type":"digital","name":"","quantity":1,"unit_price":1599,"total_amount":1599,
			"subscription":{"name":"Premium Monthly","interval":"MONTH","interval_count":1}}]}`),
	}
	warnings, err := job.Validate()
	var invalid *messages.InvalidError
	if errors.As(err, &invalid) {
		for _, problem := range invalid.Problems {
			fmt.Println("problem", problem)
		}
	}
	for _, warning := range warnings {
		fmt.Println("warning", warning)
	}
	// Output:
	// problem order.order_lines[0].name: found 0 characters, expected 1 to 255
	// problem order.order_amount: found 1600, expected 1599, the sum of total_amount
	// warning order.order_lines[0].subscription.name: found no {{id}} in it, expected one, by which Klarna groups a subscription's orders
	// warning order.merchant_reference1: found nothing, expected a reference by which a settlement row finds its renewal
}

func ExampleNewRenewalKey() {
	renewal := messages.NewRenewalKey("1234834", "2026-12")
	fmt.Println(renewal)
	fmt.Println(messages.NewIdempotencyKey(renewal, "1234834/2026-12/1"))
	// Output:
	// 4a87da77-4bba-50c6-8cae-6972612639ac
	// 066fb987-94e8-5d9a-9b0b-0d279f430fd1
}

// What is known of a customer is on subjects that a person reads.
func ExampleRecordAddress() {
	due := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	paid := messages.RecordAddress{Kind: messages.KindPaid, Renewal: messages.NewRenewal("acme.4711", "2026-12"), Due: messages.DueToken(due), Account: "default"}
	fmt.Println(paid.Subject())
	fmt.Println(messages.SubscriptionFilter("acme.4711"))
	// Output:
	// renewals.paid.acme%2E4711.2026-12.1796083200.default
	// renewals.*.acme%2E4711.>
}

// A reader of results knows the kind from the subject.
func ExampleParseRecordSubject() {
	subject := "renewals.dunning.1234834.2026-12.1796083200.default"
	body := []byte(`{"subscription_id":"1234834","period":"2026-12","reason":"payment_method_failed","notify_customer":true,"next_attempt_at":"2026-12-02T00:00:00Z"}`)

	address, err := messages.ParseRecordSubject(subject)
	if err != nil {
		log.Fatal(err)
	}
	if address.Kind == messages.KindDunning {
		var result messages.Dunning
		if err := json.Unmarshal(body, &result); err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.SubscriptionID, result.Period, result.Reason, result.NextAttemptAt.Format(time.DateOnly))
	}
	// Output:
	// 1234834 2026-12 payment_method_failed 2026-12-02
}
