package worker

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

var structured = nats.Header{"Content-Type": {"application/cloudevents+json; charset=utf-8"}}

// structuredEvent is a job in CloudEvents' structured mode; data is its last member, with the name.
func structuredEvent(id, data string) []byte {
	return fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"/billing","type":"shop.renewal.due","traceparent":%q,%s}`, id, traced, data)
}

const traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// spaced is a job whose order nobody would write in these bytes.
func (w *world) spaced(subscription string, change ...func(map[string]any)) (job, order string) {
	order = `{ "order_amount" : 1599,"order_tax_amount":255,"purchase_currency":"EUR",  "auto_capture":true,"merchant_reference1":"` + subscription + `-2026-12",
		"order_lines":[{"name":"\u0053treaming","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,"total_tax_amount":255,"new":[1.50],
		"subscription":{"name":"Premium {{` + subscription + `}}","interval":"MONTH","interval_count":1}}] }`
	whole := string(w.due(subscription, "ok-"+subscription, 1, append(change, func(j map[string]any) { j["order"] = "HERE"; delete(j, "id") })...))
	return strings.Replace(whole, `"HERE"`, order, 1), order
}

// A job in structured mode is charged as it would be in binary mode, under the same key and with the very bytes of its order,
// at once or after it was parked, and the same job in the other mode is a duplicate.
func TestStructuredJob(t *testing.T) {
	w := newWorld(t)
	now, order := w.spaced("now")
	later, orderLater := w.spaced("later", w.dueIn(4*time.Second))
	w.publishTo("default", structuredEvent("now/1", `"data":`+now), structured)
	w.publishTo("default", structuredEvent("later/1", `"data_base64":"`+base64.StdEncoding.EncodeToString([]byte(later))+`"`), structured)
	w.start()
	w.awaitParked(1)
	w.await("what is due to be charged", func() bool { return len(w.results()) == 1 })
	w.awaitDone()
	w.publishTo("default", []byte(now), nats.Header{"Nats-Msg-Id": {"now/1"}})
	w.awaitEmpty()
	w.expect(2, "paid", "paid")

	for i, want := range []struct {
		subscription messages.SubscriptionID
		order        string
	}{{"now", order}, {"later", orderLater}} {
		made := w.klarna.Simulator.Books().Orders[i]
		key := messages.NewIdempotencyKey(messages.NewRenewalKey(want.subscription, "2026-12"), messages.MessageID(want.subscription+"/1"))
		if made.IdempotencyKey != string(key) || string(made.Body) != want.order {
			t.Errorf("%s: sent under %s\n%s\nwant %s\n%s", want.subscription, made.IdempotencyKey, made.Body, key, want.order)
		}
	}
	records, err := w.js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	last, err := records.GetMsg(t.Context(), records.CachedInfo().State.LastSeq)
	if err != nil || last.Header.Get("traceparent") != traced {
		t.Errorf("traceparent of the result: %q (%v), want that of the event", last.Header.Get("traceparent"), err)
	}
}

// What is wrong with a job in structured mode is said by the job's own paths, and its dead letter is what was received.
func TestStructuredJobRejected(t *testing.T) {
	w := newWorld(t)
	job, _ := w.spaced("wrong")
	payload := structuredEvent("wrong/1", `"data":`+strings.Replace(job, `"order_amount" : 1599`, `"order_amount" : 1600`, 1))
	w.start()
	w.publishTo("default", payload, structured)
	w.awaitEmpty()
	w.publishTo("default", []byte(`[]`), nats.Header{"content-type": {"application/cloudevents-batch+json"}})
	w.awaitEmpty()
	w.expect(0, "rejected invalid", "rejected invalid")
	for i, want := range []string{
		"order.order_amount: found 1600, expected 1599, the sum of total_amount",
		"$: found a batch of events in the header content-type, expected one event in each message, as application/cloudevents+json",
	} {
		if got := w.results()[i].Errs; len(got) != 1 || got[0].String() != want {
			t.Errorf("errors %v, want %s", got, want)
		}
	}
	letters, payloads := w.deadLetters()
	if len(letters) != 2 || payloads[0] != string(payload) || letters[0].Original["Content-Type"][0] != structured["Content-Type"][0] {
		t.Errorf("dead letters %+v %q, want the event as it was received", letters, payloads)
	}
}

// A capture in structured mode takes the money, also when it is published again out of its dead letter.
func TestStructuredCapture(t *testing.T) {
	w := newWorld(t)
	publish := func(id, extra string) {
		payload := structuredEvent(id, `"data":{"subscription_id":"structured","period":"2026-12"`+extra+`}`)
		if _, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: messages.CaptureSubject("default"), Header: structured, Data: payload}); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	publish("c1", `,"captured_amount":800`)
	w.awaitEmpty()
	w.authorise("structured", "ok-1")
	records, err := journal.Open(t.Context(), w.js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	letters, err := desk.OpenDeadLetters(t.Context(), w.js)
	if err != nil {
		t.Fatal(err)
	}
	if _, refused, err := letters.Replay(t.Context(), records, 1); refused != "" || err != nil {
		t.Fatal(refused, err)
	}
	w.awaitEmpty()
	publish("c2", "")
	w.awaitEmpty()
	w.expect(1, "rejected not_paid", "paid", "captured", "captured")
	w.expectTaken(800, 799)
	key := messages.NewCaptureKey(messages.NewRenewalKey("structured", "2026-12"), "c1")
	if got := w.klarna.Simulator.Books().Orders[0].Captures[0].IdempotencyKey; got != string(key) {
		t.Errorf("captured under %s, want %s", got, key)
	}
}
