package messages_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

func record() messages.Record {
	renewal := messages.NewRenewalKey("1234834", "2026-12")
	return messages.Record{
		ID: "1234834/2026-12/1", Account: "default", SubscriptionID: "1234834", Period: "2026-12", Attempt: 1,
		IdempotencyKey: messages.NewIdempotencyKey(renewal, "1234834/2026-12/1"), RenewalKey: renewal,
		OrderAmount: 1599, PurchaseCurrency: "EUR", MerchantReference1: "1234834-2026-12",
		Tries: 1, Deliveries: 1, Worker: "renewals-7f9c-0",
		At:       time.Date(2026, 12, 1, 1, 0, 2, 345_678_901, time.FixedZone("CET", 3600)),
		Metadata: map[string]string{"plan": "premium", "a": "<&>"}, TokenFingerprint: messages.NewCustomerToken(token).Fingerprint(),
	}
}

// goldenEvents are the events of the golden files: what other teams read, byte for byte.
func goldenEvents() map[string]messages.Event {
	sent := time.Date(2026, 12, 1, 0, 0, 1, 0, time.UTC)
	next := time.Date(2026, 12, 2, 0, 0, 1, 0, time.UTC)
	settled := record()
	settled.Actor, settled.Note = "ada@example.com", "In the settlement of 3 December."
	fits, alone := true, false
	said, verified := settled, settled
	said.Verified = &alone
	verified.Verified, verified.Seen = &fits, &messages.Seen{
		OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", Status: "AUTHORIZED", FraudStatus: "ACCEPTED", OrderAmount: 1599, PurchaseCurrency: "EUR",
		MerchantReference1: "1234834-2026-12", CreatedAt: sent, CaptureBefore: sent.AddDate(0, 0, 28), LookedAt: next,
	}
	again := record()
	again.ID, again.Attempt, again.Tries = "1234834/2026-12/2", 2, 0
	again.IdempotencyKey = messages.NewIdempotencyKey(again.RenewalKey, again.ID)
	unknown := messages.Record{
		Account: "default", IdempotencyKey: "5a29e666-4079-5596-a8e2-21071535dbc3", RenewalKey: "5a29e666-4079-5596-a8e2-21071535dbc3",
		Deliveries: 1, Worker: "renewals-7f9c-0", At: sent,
	}
	stopped := messages.Record{
		Account: "default", SubscriptionID: "1234834", Period: "2026-12", IdempotencyKey: "066fb987-94e8-5d9a-9b0b-0d279f430fd1",
		RenewalKey: "4a87da77-4bba-50c6-8cae-6972612639ac", Worker: "renewals cancel", At: sent, Actor: "ada@example.com", Note: "Moved abroad.",
	}
	capture := record()
	capture.ID, capture.TokenFingerprint = "1234834/2026-12/c1", ""
	capture.IdempotencyKey = messages.NewCaptureKey(capture.RenewalKey, capture.ID)
	givenUp, notCaptured := record(), capture
	givenUp.MerchantReference2, givenUp.Tries, givenUp.Deliveries, givenUp.At = "NL-7", 9, 5, time.Date(2026, 12, 1, 23, 0, 1, 345_000_000, time.UTC)
	notCaptured.Tries, notCaptured.Deliveries, notCaptured.At = givenUp.Tries, givenUp.Deliveries, givenUp.At
	last := time.Date(2026, 12, 1, 21, 37, 0, 0, time.UTC)
	return map[string]messages.Event{
		"charging":        messages.Charging{Record: record(), FirstSentAt: sent, UndecidedTries: 1, LastError: "create order: 500"},
		"charging-unsent": messages.Charging{Record: record()},
		"pending":         messages.Pending{Record: record(), OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", FraudStatus: "PENDING", CorrelationID: "6b5c5c2f"},
		"paid": messages.Paid{Record: record(), OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", FraudStatus: "ACCEPTED", Captured: true,
			AuthorizedPaymentMethod: messages.PaymentMethod{Type: "invoice", NumberOfDays: 30}, CorrelationID: "6b5c5c2f"},
		"paid-by-operator":   messages.Paid{Record: settled, OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", FraudStatus: "ACCEPTED", Corrects: "unresolved"},
		"paid-verified":      messages.Paid{Record: verified, OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", FraudStatus: "ACCEPTED", CaptureBefore: sent.AddDate(0, 0, 28), Corrects: "unresolved"},
		"paid-by-word-alone": messages.Paid{Record: said, OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", Corrects: "unresolved"},
		"dunning": messages.Dunning{Record: record(), Reason: messages.ReasonPaymentMethodFailed, Category: messages.CategorySoftDecline,
			FixBy: messages.FixByCustomer, NotifyCustomer: true, Retryable: true, NextAttemptAt: &next, HTTPStatus: 403,
			ErrorCode: "PAYMENT_METHOD_FAILED", ErrorMessages: []string{"Payment method failed"}, CorrelationID: "6b5c5c2f", TokenStatus: "ACTIVE"},
		"dunning-final": messages.Dunning{Record: record(), Reason: messages.ReasonFraudRejected, Category: messages.CategoryCustomerAction,
			FixBy: messages.FixByKlarna, NotifyCustomer: true, Final: true},
		"unresolved": messages.Unresolved{Record: givenUp, Reason: messages.ReasonIdempotencyWindowExpired, FirstSentAt: sent, LastSentAt: last,
			SearchUntil: last.Add(125 * time.Second), CorrelationIDs: []string{"6b5c5c2f", "0a81d3e7"}, LastError: "create order: 500", UndecidedTries: 9},
		"unresolved-unsent": messages.Unresolved{Record: record(), Reason: messages.ReasonNotEvaluated, LastError: "not sent"},
		"rejected": messages.Rejected{Record: record(), Reason: messages.ReasonAlreadyPaid,
			Errors:        []messages.Problem{{Path: "period", Message: "this period of the subscription is paid already"}},
			ConflictsWith: "b5b5b6a0-7a1c-5c8e-9d5e-0c1d2e3f4a5b"},
		"rejected-too-soon": messages.Rejected{Record: again, Reason: messages.ReasonTooSoon, NextAttemptAt: sent.Add(time.Hour),
			Errors: []messages.Problem{{Path: "period", Message: "too soon after the last attempt at this period: publish it under a new message ID from 2026-12-01T01:00:01Z on, " +
				`or at once with "customer_acted": true where the customer has done something about the refusal`}}},
		"rejected-unreadable": messages.Rejected{Record: unknown, Reason: messages.ReasonInvalid,
			Errors: messages.Read([]byte("hello"), nil).Problems},
		"cancelled": messages.Cancelled{Record: stopped},
		"paid-authorised": messages.Paid{Record: record(), OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", FraudStatus: "ACCEPTED",
			CaptureBefore: time.Date(2026, 12, 29, 1, 0, 1, 999, time.FixedZone("CET", 3600)), AuthorizedPaymentMethod: messages.PaymentMethod{Type: "slice_it_by_card", NumberOfInstallments: 3}},
		"capturing": messages.Capturing{Record: capture, OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", CapturedAmount: 1000, Reference: "parcel 1",
			FirstSentAt: sent, UndecidedTries: 1, LastError: "create capture: 500"},
		"capturing-unsent": messages.Capturing{Record: capture, OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", CapturedAmount: 1000},
		"captured": messages.Captured{Record: capture, OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", CaptureID: "79c7ba10-9f8b-4dd5-a2a3-0e0d6f4e5d12",
			CapturedAmount: 599, TotalCapturedAmount: 1599, CorrelationID: "6b5c5c2f", Corrects: "capture_failed"},
		"capture_failed": messages.CaptureFailed{Record: capture, OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", CapturedAmount: 1000,
			Reason: messages.ReasonPaymentMethodFailed, Category: messages.CategorySoftDecline, FixBy: messages.FixByCustomer, NotifyCustomer: true,
			Retryable: true, NextAttemptAt: &next, HTTPStatus: 403, ErrorCode: "PAYMENT_METHOD_FAILED", ErrorMessages: []string{"Payment method failed"},
			CorrelationID: "6b5c5c2f", UndecidedTries: 1, TokenStatus: "ACTIVE", Corrects: "unresolved"},
		"capture_failed-final": messages.CaptureFailed{Record: capture, OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", CapturedAmount: 1000,
			Reason: messages.ReasonOrderExpired, Category: messages.CategoryMerchantError, FixBy: messages.FixByMerchant, Final: true},
		"unresolved-capture": messages.Unresolved{Record: notCaptured, Reason: messages.ReasonIdempotencyWindowExpired, FirstSentAt: sent, LastSentAt: last,
			SearchUntil: last.Add(125 * time.Second), CorrelationIDs: []string{"6b5c5c2f"}, LastError: "create capture: timeout", UndecidedTries: 9,
			OrderID: "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", CapturedAmount: 1000, Reference: "parcel 1"},
	}
}

func TestEventsAsPublished(t *testing.T) {
	t.Parallel()
	seen := map[messages.Kind]bool{}
	for name, event := range goldenEvents() {
		seen[event.Kind()] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := messages.Encode(event)
			if err != nil {
				t.Fatal(err)
			}
			want := bytes.TrimSpace(golden(t, name+".json"))
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if !validates(compile(t, string(event.Kind())), got) {
				t.Errorf("%s.json refuses it", event.Kind())
			}

			// What Go reads of it is all there is.
			back := reflect.New(reflect.TypeOf(event))
			dec := json.NewDecoder(bytes.NewReader(want))
			dec.DisallowUnknownFields()
			if err := dec.Decode(back.Interface()); err != nil {
				t.Fatal(err)
			}
			if again, err := messages.Encode(back.Elem().Interface().(messages.Event)); err != nil || !bytes.Equal(again, want) {
				t.Errorf("read and encoded again: got\n%s\nwant\n%s (%v)", again, want, err)
			}
		})
	}
	for _, kind := range messages.Kinds() {
		if !seen[kind] {
			t.Errorf("no golden file of %s", kind)
		}
	}
}

// Whatever Klarna and operators write, a record fits into a NATS message of the default 1 MiB with room for its state.
func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	long := "x" + strings.Repeat("🥪\x00é", 1<<18)
	r := record()
	r.Actor, r.Note = long, long
	r.Seen = &messages.Seen{OrderID: long, Status: long, FraudStatus: long, PurchaseCurrency: long, MerchantReference1: long, MerchantReference2: long, Capture: &messages.SeenCapture{CaptureID: long, Reference: long}}
	many := make([]string, 10_000)
	for i := range many {
		many[i] = long
	}
	for _, event := range []messages.Event{
		messages.Charging{Record: r, LastError: long},
		messages.Pending{Record: r, FraudStatus: long, CorrelationID: long},
		messages.Paid{Record: r, FraudStatus: long, CorrelationID: long, AuthorizedPaymentMethod: messages.PaymentMethod{Type: long}},
		messages.Dunning{Record: r, ErrorCode: long, ErrorMessages: many, CorrelationID: long, TokenStatus: long},
		messages.Unresolved{Record: r, LastError: long, CorrelationIDs: many},
		messages.Capturing{Record: r, LastError: long},
		messages.Captured{Record: r, CorrelationID: long},
		messages.CaptureFailed{Record: r, ErrorCode: long, ErrorMessages: many, CorrelationID: long, TokenStatus: long},
	} {
		got, err := messages.Encode(event)
		if err != nil || len(got) > 128<<10 || !json.Valid(got) || bytes.Contains(got, []byte(`\ufffd`)) {
			t.Errorf("%s: got %d bytes, %v; want at most 128 KiB of valid JSON, no character cut", event.Kind(), len(got), err)
		}
	}
	got, err := messages.Encode(messages.Dunning{ErrorCode: strings.Repeat("x", 256), ErrorMessages: slices.Repeat([]string{strings.Repeat("x", 1025)}, 21)})
	var back messages.Dunning
	if err = errors.Join(err, json.Unmarshal(got, &back)); err != nil || len(back.ErrorCode) != 255 || len(back.ErrorMessages) != 20 || len(back.ErrorMessages[19]) != 1024 {
		t.Errorf("got a code of %d bytes and %d messages, want 255 and 20 (%v)", len(back.ErrorCode), len(back.ErrorMessages), err)
	}
}

func BenchmarkEncode(b *testing.B) {
	event := goldenEvents()["paid"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := messages.Encode(event); err != nil {
			b.Fatal(err)
		}
	}
}
