package messages_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/klarna-renewals/renewals/messages"
)

func seed(f *testing.F) {
	f.Helper()
	for _, row := range invalidJobs() {
		if payload := row.payload(f); len(payload) < 8<<10 {
			f.Add(payload, "", "")
		}
	}
	for _, row := range validJobs(f) {
		if len(row.payload) < 8<<10 {
			f.Add([]byte(row.payload), "", "")
		}
	}
	f.Add([]byte(edit(f, string(golden(f, "job.json")), `"id": "1234834/2026-12/1",`, ``)), "a", "")
	f.Add([]byte(edit(f, string(golden(f, "job.json")), `"id": "1234834/2026-12/1",`, ``)), "a b", "a%20b")
}

// FuzzRead: no message makes Read panic, and what it says of a message holds together.
//
//	go test -run '^$' -fuzz '^FuzzRead$' -fuzztime 30s ./messages
func FuzzRead(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, payload []byte, msgID, ceID string) {
		header := map[string][]string{"Nats-Msg-Id": {msgID}, "ce-id": {ceID}}
		before := bytes.Clone(payload)
		r := messages.Read(payload, header)
		if !bytes.Equal(payload, before) {
			t.Fatal("the payload was changed")
		}
		var broken, deep bool
		for _, p := range r.Problems {
			broken = broken || p.Path == "$" && strings.HasPrefix(p.Message, "found no valid JSON")
			deep = deep || p.Path == "$" && strings.HasSuffix(p.Message, "levels of nesting")
		}
		if valid := json.Valid(payload); broken == valid && !deep {
			t.Errorf("got broken %v, encoding/json says valid %v: %s", broken, valid, report(r.Problems))
		}
		if r.Identified != (r.RenewalKey != "") || r.Identified != (r.IdempotencyKey != "") {
			t.Errorf("got identified %v with keys %q and %q", r.Identified, r.RenewalKey, r.IdempotencyKey)
		}
		if r.Identified && (r.Job.ID == "" || r.RenewalKey != messages.NewRenewalKey(r.Job.SubscriptionID, r.Job.Period) || r.IdempotencyKey != messages.NewIdempotencyKey(r.RenewalKey, r.Job.ID)) {
			t.Errorf("got other keys than those of %+v", r.Job)
		}
		if len(r.Problems) == 0 && (!r.Identified || len(r.Job.Order) == 0 || r.Job.CustomerToken.IsZero() || r.Facts.Amount < 1 || r.Facts.Currency == "") {
			t.Errorf("got no problem with %+v", r)
		}
		if len(r.Job.Order) > 0 && !json.Valid(r.Job.Order) {
			t.Errorf("got an order that is not JSON: %q", r.Job.Order)
		}
		if secret := r.Job.CustomerToken.Reveal(); len(secret) >= 16 {
			record, err := messages.Encode(messages.Rejected{Record: messages.Record{ID: r.Job.ID, SubscriptionID: r.Job.SubscriptionID, Period: r.Job.Period,
				PurchaseCurrency: r.Facts.Currency, MerchantReference1: r.Facts.MerchantReference1, Metadata: r.Job.Metadata}, Errors: append(r.Problems, r.Warnings...)})
			if err != nil || bytes.Contains(record, []byte(secret)) {
				t.Errorf("the token is in the result: %s (%v)", record, err)
			}
		}
		if record, err := messages.Encode(messages.Rejected{Errors: r.Problems}); err != nil || !utf8.Valid(record) || len(record) > 64<<10 {
			t.Errorf("got a record of %d bytes, %v", len(record), err)
		}
	})
}

// FuzzDecodeJob: an error implies no job, and a job that is accepted encodes stably.
//
//	go test -run '^$' -fuzz '^FuzzDecodeJob$' -fuzztime 30s ./messages
func FuzzDecodeJob(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, payload []byte, msgID, ceID string) {
		job, _, err := messages.DecodeJob(payload, map[string][]string{"Nats-Msg-Id": {msgID}, "ce-id": {ceID}})
		if err != nil {
			if job.ID != "" || job.SubscriptionID != "" || job.Period != "" || job.Order != nil || job.Metadata != nil || !job.CustomerToken.IsZero() || !job.DueAt.IsZero() {
				t.Errorf("got an error and %+v", job)
			}
			return
		}
		stable(t, job)
	})
}

// FuzzReadCapture: no message makes ReadCapture panic, what it says holds together, and a capture job that is accepted
// encodes stably.
//
//	go test -run '^$' -fuzz '^FuzzReadCapture$' -fuzztime 30s ./messages
func FuzzReadCapture(f *testing.F) {
	for _, row := range invalidCaptures() {
		if payload := edit(f, string(golden(f, "capture.json")), row.old, row.new); len(payload) < 8<<10 {
			f.Add([]byte(payload), "", "")
		}
	}
	for _, row := range validCaptures(f) {
		if len(row.payload) < 8<<10 {
			f.Add([]byte(row.payload), "", "")
		}
	}
	f.Add([]byte(edit(f, string(golden(f, "capture.json")), `"id": "1234834/2026-12/c1",`, ``)), "a b", "a%20b")
	f.Fuzz(func(t *testing.T, payload []byte, msgID, ceID string) {
		header := map[string][]string{"Nats-Msg-Id": {msgID}, "ce-id": {ceID}}
		before := bytes.Clone(payload)
		r := messages.ReadCapture(payload, header)
		c := r.Capture
		if !bytes.Equal(payload, before) {
			t.Fatal("the payload was changed")
		}
		if r.Identified != (r.RenewalKey != "") || r.Identified != (r.IdempotencyKey != "") || r.Identified && c.ID == "" {
			t.Errorf("got identified %v with %q and keys %q and %q", r.Identified, c.ID, r.RenewalKey, r.IdempotencyKey)
		}
		if c.CapturedAmount < -1 || c.CapturedAmount > 200_000_000 || len(r.Problems) == 0 && c.CapturedAmount < 0 {
			t.Errorf("got an amount of %d, problems %s", c.CapturedAmount, report(r.Problems))
		}
		if len(c.OrderLines) > 0 && !json.Valid(c.OrderLines) {
			t.Errorf("got lines that are not JSON: %q", c.OrderLines)
		}
		if record, err := messages.Encode(messages.Rejected{Errors: append(r.Problems, r.Warnings...)}); err != nil || !utf8.Valid(record) || len(record) > 64<<10 {
			t.Errorf("got a record of %d bytes, %v", len(record), err)
		}
		if len(r.Problems) == 0 {
			if !r.Identified {
				t.Errorf("got no problem with %+v", r)
			}
			stableCapture(t, c)
		}
	})
}
