package worker

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// BenchmarkHandle is one job from its delivery to its acknowledgement: read, validated, claimed, sent, recorded, logged
// and counted. Klarna is a loopback connection in this process that answers every request with the same bytes, so HTTP is
// in it whole; JetStream confirms every record at once, so what nats.go and a broker take for two records and an
// acknowledgement is not.
func BenchmarkHandle(b *testing.B) {
	a, paid := benchAccount(b)
	due := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	payload := []byte(`{"id":"1234834/2026-12/1","subscription_id":"1234834","period":"2026-12","attempt":1,"due_at":"` + due + `",` +
		`"customer_token":"0b1d9815-165e-42e2-8867-35bc03789e00","order":{"purchase_currency":"EUR","order_amount":3198,"order_tax_amount":510,"auto_capture":true,` +
		`"merchant_reference1":"1234834-2026-12","order_lines":[` + benchLine("19-402") + `,` + benchLine("19-403") + `]}}`)
	header := nats.Header{messages.HeaderMsgID: {"1234834/2026-12/1"}}
	reply := "$JS.ACK." + messages.StreamJobs + "." + topology.ConsumerName("default") + ".1.1.1." + strconv.FormatInt(time.Now().UnixNano(), 10) + ".0"
	semaphore := gate.NewSemaphore(1)
	b.ReportAllocs()
	for b.Loop() {
		m := &nats.Msg{Subject: messages.DueSubject("default"), Reply: reply, Header: header, Data: payload, Sub: &nats.Subscription{}}
		a.handler.handle(b.Context(), gate.Delivery{Msg: m, Received: a.shared.clock.now(), Semaphore: semaphore})
	}
	if got := paid.Load(); got != int64(b.N) {
		b.Fatalf("%d of %d jobs were paid", got, b.N)
	}
}

func benchLine(reference string) string {
	return `{"type":"digital","reference":"` + reference + `","name":"Streaming Service Monthly","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,` +
		`"total_discount_amount":0,"total_tax_amount":255,"subscription":{"name":"Premium Monthly {{1234834}}","interval":"MONTH","interval_count":1}}`
}

// confirming is a JetStream that stores nothing and confirms everything.
type confirming struct {
	jetstream.JetStream
	paid *atomic.Int64 // renewals
}

func (confirming) Stream(context.Context, string) (jetstream.Stream, error) {
	return emptyStream{}, nil
}

// emptyStream has the settings of a journal.
type emptyStream struct{ jetstream.Stream }

func (emptyStream) CachedInfo() *jetstream.StreamInfo { return &jetstream.StreamInfo{} }

func (confirming) Options() jetstream.JetStreamOptions { return jetstream.JetStreamOptions{} }

// RequestWithContext answers as a stream's index that knows the renewal alone.
func (confirming) RequestWithContext(context.Context, string, []byte) (*nats.Msg, error) {
	return &nats.Msg{Data: []byte(`{"type":"io.nats.jetstream.api.v1.stream_info_response","total":1,"offset":0,"limit":100000,"config":{"name":"RENEWAL_JOURNAL","subjects":["renewals.charging.*.*.*.*"],` +
		`"retention":"limits","max_age":10368000000000000,"storage":"file","num_replicas":1},"state":{"messages":1,"last_seq":1,"subjects":{"renewals.charging.1234834.2026-12.1796083200.default":1}}}`)}, nil
}

func (c confirming) PublishMsg(_ context.Context, m *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if strings.HasPrefix(m.Subject, "renewals.paid.") {
		c.paid.Add(1)
	}
	return &jetstream.PubAck{Stream: messages.StreamJournal, Sequence: 1}, nil
}

// benchAccount is an account at work, and how many renewals are paid.
func benchAccount(b *testing.B) (*account, *atomic.Int64) {
	b.Helper()
	endpoint := sameAnswer(b)
	client, err := klarna.New(klarna.Config{Endpoint: endpoint, Credentials: klarna.StaticCredentials("merchant", "secret-password")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.CloseIdle)
	paid := new(atomic.Int64)
	js := confirming{paid: paid}
	o := DefaultOptions()
	o.Name, o.Log = "worker-1", zerolog.New(discard{})
	o.Accounts = []Account{{Name: "default", Klarna: client, Host: endpoint.Host, Endpoint: klarna.CanonicalEndpoint(endpoint)}}
	records, err := journal.Open(b.Context(), js, o.Log)
	if err != nil {
		b.Fatal(err)
	}
	a := accountOf(b, js, o, records)
	a.rules.base = journal.NewRules(o.timing(), 2*time.Minute)
	a.shared.memory.oldest.Store(int64(topology.DefaultRetention - topology.RetentionMargin))
	shown := a.shared.clock.reading()
	shown.broker = shown.wall
	a.shared.clock.compared.Store(&shown)
	return a, paid
}

// discard takes log lines. Unlike io.Discard zerolog does not know it and writes them whole.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// sameAnswer answers every request with an accepted order, and does next to nothing for it.
func sameAnswer(b *testing.B) *url.URL {
	b.Helper()
	const order = `{"order_id":"72f11fba-23a7-492d-a000-000000000008","fraud_status":"ACCEPTED","authorized_payment_method":{"type":"invoice","number_of_days":30}}`
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nKlarna-Correlation-Id: 6b5c5c2f-3a6e-4a53-9e4a-000000000001\r\nContent-Length: %d\r\n\r\n%s", len(order), order)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	serve := func(c net.Conn) {
		defer c.Close()
		in := bufio.NewReader(c)
		for {
			length := 0
			for {
				line, err := in.ReadSlice('\n')
				if err != nil {
					return
				}
				if line = bytes.TrimSpace(line); len(line) == 0 {
					break
				}
				if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
					if length, err = strconv.Atoi(string(value)); err != nil {
						return
					}
				}
			}
			if _, err := in.Discard(length); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	endpoint, err := url.Parse("http://" + l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	return endpoint
}
