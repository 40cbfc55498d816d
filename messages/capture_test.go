package messages_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

func TestReadCapture(t *testing.T) {
	t.Parallel()
	payload := golden(t, "capture.json")
	r := messages.ReadCapture(payload, nil)
	if len(r.Problems)+len(r.Warnings) > 0 {
		t.Fatal(report(r.Problems), report(r.Warnings))
	}
	c := r.Capture
	got := fmt.Sprintln(r.Identified, r.RenewalKey, r.IdempotencyKey, c.ID, c.SubscriptionID, c.Period, c.OrderID, c.CapturedAmount, c.Description, c.Reference, c.Metadata)
	want := fmt.Sprintln(true, "4a87da77-4bba-50c6-8cae-6972612639ac", "220324f5-0de2-5dd5-9067-97beebeb4aed", "1234834/2026-12/c1", "1234834", "2026-12",
		"45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", 1599, "Streaming Service Monthly", "1234834-2026-12-c1", map[string]string{"plan": "premium"})
	if got != want {
		t.Errorf("got %swant %s", got, want)
	}
	if &c.OrderLines[0] != &payload[bytes.Index(payload, []byte(`[ { "type"`))] || cap(c.OrderLines) != len(c.OrderLines) {
		t.Error("got a copy of the lines, or one that can grow into the message")
	}
}

// bareCapture is a capture job with nothing but what is required, and extra fields.
func bareCapture(extra string) string {
	return `{"id":"1","subscription_id":"1234834","period":"2026-12"` + extra + `}`
}

func validCaptures(t testing.TB) []validJob {
	base := string(golden(t, "capture.json"))
	in := func(old, new string) string { return edit(t, base, old, new) }
	thousand := strings.TrimSuffix(strings.Repeat(product(119, 19, plan)+",", 1000), ",")
	const shipping = `{"type":"shipping_fee","name":"Post","quantity":1,"unit_price":499,"tax_rate":1900,"total_amount":499,"total_tax_amount":80}`
	return []validJob{
		{"everything", base, ""},
		{"only what is required", bareCapture(``), ""},
		{"Klarna's least", bareCapture(`,"captured_amount":1`), ""},
		{"Klarna's most", bareCapture(`,"captured_amount":200000000`), ""},
		{"part of the lines' amount", in(`"captured_amount": 1599`, `"captured_amount": 1598`), "captured_amount: found 1598, expected 1599, the sum of total_amount"},
		{"lines and no amount: all that remains", in(`"captured_amount": 1599,`, ``), ""},
		{"no lines", in(entireLine, ``), ""},
		{"1,000 lines", bareCapture(`,"captured_amount":119000,"order_lines":[` + thousand + `]`), ""},
		{"nothing that recurs", bareCapture(`,"captured_amount":499,"order_lines":[` + shipping + `]`), ""},
		{"a product and its postage", bareCapture(`,"captured_amount":2098,"order_lines":[` + product(1599, 255, plan) + "," + shipping + `]`), ""},
		{"a discount line", bareCapture(`,"order_lines":[` + product(1599, 255, plan) + `,{"type":"discount","name":"Loyal","quantity":1,"unit_price":-200,"tax_rate":1900,"total_amount":-200,"total_tax_amount":-32}]`), ""},
		{"US sales tax", bareCapture(`,"captured_amount":21000,"order_lines":[{"type":"physical","name":"Coffee","quantity":2,"unit_price":10000,"total_amount":20000,` + plan + `},{"type":"sales_tax","name":"Sales Tax","quantity":1,"unit_price":1000,"total_amount":1000}]`), ""},
		{"a field of a line that Klarna may add", in(`"type": "digital"`, `"type": "digital", "new": {"a": [null]}`), ""},
		{"no identifier in the subscription's name", in(` {{1234834}}`, ``), "order_lines[0].subscription.name: found no {{id}} in it, expected one, by which Klarna groups a subscription's orders"},
		{"what looks like HTML", in(`"description": "Streaming`, `"description": "<b>Streaming</b>`), "description: found what looks like HTML, which Klarna may refuse"},
		{"empty texts", in(`"1234834-2026-12-c1"`, `""`), ""},
		{"255 characters of four bytes", in(`"1234834-2026-12-c1"`, `"`+strings.Repeat("🥪", 255)+`"`), ""},
		{"the longest order ID", in("45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", strings.Repeat("~", 255)), ""},
		{"an order ID of dots", in("45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", "..."), ""},
		{"16 pairs of metadata", in(`"plan": "premium"`, `"":""`+strings.Replace(manyPairs, `,"16":""`, ``, 1)), ""},
		{"256 KiB", in(`"plan": "premium"`, `"plan": "`+strings.Repeat("x", 256<<10-len(base)+7)+`"`), ""},
	}
}

func TestValidCaptures(t *testing.T) {
	t.Parallel()
	schema := compile(t, "capture")
	for _, row := range validCaptures(t) {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			payload := []byte(row.payload)
			c, warnings, err := messages.DecodeCapture(payload, nil)
			if err != nil {
				t.Fatal(report(messages.ReadCapture(payload, nil).Problems))
			}
			if got := report(warnings); got != row.warnings {
				t.Errorf("got warnings\n%s\nwant\n%s", got, row.warnings)
			}
			if !validates(schema, payload) {
				t.Error("capture.json refuses it")
			}
			if at := bytes.Index(payload, c.OrderLines); at < 0 || len(c.OrderLines) > 0 && &payload[at] != &c.OrderLines[0] {
				t.Error("got other bytes of the lines than were received")
			}
			stableCapture(t, c)
		})
	}
}

// stableCapture checks that a capture job survives being encoded and decoded, and encodes to the same bytes again.
func stableCapture(t *testing.T, c messages.Capture) {
	t.Helper()
	first, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := messages.DecodeCapture(first, nil)
	if err != nil {
		t.Fatalf("decode what was encoded: %v", err)
	}
	second, err := again.Encode()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("encoded again: got\n%s\nwant\n%s", second, first)
	}
	if again.ID != c.ID || again.SubscriptionID != c.SubscriptionID || again.Period != c.Period || again.OrderID != c.OrderID || again.CapturedAmount != c.CapturedAmount ||
		again.Description != c.Description || again.Reference != c.Reference || !bytes.Equal(again.OrderLines, c.OrderLines) || !maps.Equal(again.Metadata, c.Metadata) {
		t.Errorf("got %+v, want %+v", again, c)
	}
}

func invalidCaptures() []invalidJob {
	const unsaid = true
	const amount, order = `"captured_amount": 1599`, `"order_id": "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11"`
	const segment = "expected 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -"
	const amounts = "expected an integer from 1 to 200000000"
	year := `"subscription": { "name": "Premium {{1}}", "interval": "YEAR", "interval_count": 1 }`
	return []invalidJob{
		// The document.
		{name: "another document behind it", old: `"premium" }
}`, new: `"premium" }
} {}`, want: `$: found no valid JSON at byte 634: expected nothing after the end of the document`, unsaid: unsaid},
		{name: "257 KiB", old: `"premium"`, new: `"` + strings.Repeat("x", 257<<10) + `"`, want: `$: found 263795 bytes, expected at most 262144`, unsaid: unsaid},
		{name: "an unknown field", old: amount, new: `"amount": 1599`, want: `amount: found an unknown field, expected none outside order_lines`},
		{name: "a field in another spelling", old: amount, new: `"capturedAmount": 1599`, want: `capturedAmount: found an unknown field, expected captured_amount`},
		{
			name: "the fields of a job", old: amount, new: `"attempt": 1, "due_at": "2026-12-01T00:00:00Z", "customer_token": "` + token + `", "order": {}`,
			want: "attempt: found an unknown field, expected none outside order_lines\ndue_at: found an unknown field, expected none outside order_lines\ncustomer_token: found an unknown field, expected none outside order_lines\norder: found an unknown field, expected none outside order_lines",
		},
		{name: "what Klarna's capture has and a job has not", old: amount, new: `"shipping_info": []`, want: `shipping_info: found an unknown field, expected none outside order_lines`},
		{name: "an amount twice", old: amount, new: amount + `, "captured_amount": 1`, want: `captured_amount: found this name twice, expected it once`, unsaid: unsaid},

		// Which order.
		{name: "no id anywhere", old: `"id": "1234834/2026-12/c1",`, new: ``, want: `id: found nothing, expected a string here or in the header Nats-Msg-Id`, unsaid: unsaid},
		{name: "an empty id", old: `"id": "1234834/2026-12/c1"`, new: `"id": ""`, want: `id: found an empty string, expected 1 to 255 bytes`},
		{name: "no subscription", old: `"subscription_id": "1234834",`, new: ``, want: `subscription_id: found nothing, expected a string`},
		{name: "65 bytes of period", old: `"period": "2026-12"`, new: `"period": "` + strings.Repeat("p", 65) + `"`, want: `period: found 65 bytes, expected 1 to 64`},
		{name: "no period", old: `"period": "2026-12",`, new: ``, want: `period: found nothing, expected a string`},
		{name: "an empty order ID", old: order, new: `"order_id": ""`, want: `order_id: found "", ` + segment},
		{name: "an order ID with a slash", old: order, new: `"order_id": "a/b"`, want: `order_id: found "a/b", ` + segment},
		{name: "an order ID that climbs the path", old: order, new: `"order_id": ".."`, want: `order_id: found "..", ` + segment},
		{name: "an order ID that stays where it is", old: order, new: `"order_id": "."`, want: `order_id: found ".", ` + segment},
		{name: "an order ID of 256 bytes", old: order, new: `"order_id": "` + strings.Repeat("a", 256) + `"`, want: `order_id: found a string of 256 bytes, ` + segment},
		{name: "a number as order ID", old: order, new: `"order_id": 7`, want: `order_id: found a number, expected a string`},

		// How much.
		{name: "nothing to capture", old: amount, new: `"captured_amount": 0`, want: `captured_amount: found 0, ` + amounts},
		{name: "a negative amount", old: amount, new: `"captured_amount": -1`, want: `captured_amount: found -1, ` + amounts},
		{name: "more than Klarna's most", old: amount, new: `"captured_amount": 200000001`, want: `captured_amount: found 200000001, ` + amounts},
		{name: "an amount with a fraction", old: amount, new: `"captured_amount": 15.99`, want: `captured_amount: found 15.99, ` + amounts},
		{name: "an amount in quotes", old: amount, new: `"captured_amount": "1599"`, want: `captured_amount: found a string, ` + amounts},
		{name: "no amount said explicitly", old: amount, new: `"captured_amount": null`, want: `captured_amount: found null, ` + amounts},

		// What it says.
		{name: "256 characters of description", old: `"Streaming Service Monthly",`, new: `"` + strings.Repeat("ä", 256) + `",`, want: `description: found 256 characters, expected 0 to 255`},
		{name: "256 characters of reference", old: `"1234834-2026-12-c1"`, new: `"` + strings.Repeat("r", 256) + `"`, want: `reference: found 256 characters, expected 0 to 255`},
		{name: "a reference that is not UTF-8", old: `"1234834-2026-12-c1"`, new: "\"\xff\"", want: `reference: found a string that is not valid UTF-8`, unsaid: unsaid},
		{name: "a description that is an object", old: `"description": "Streaming Service Monthly"`, new: `"description": {}`, want: `description: found an object, expected a string`},
		{name: "17 pairs of metadata", old: `"plan": "premium"`, new: `"plan": ""` + manyPairs, want: `metadata: found 17 pairs, expected at most 16`},

		// The lines.
		{name: "lines that are an object", old: `[ ` + entireLine + ` ]`, new: `{}`, want: `order_lines: found an object, expected an array`},
		{name: "1001 lines", old: entireLine, new: strings.TrimSuffix(strings.Repeat(product(1, 0, plan)+",", 1001), ","), want: `order_lines: found 1001 lines, expected 0 to 1000`},
		{name: "a line that is null", old: entireLine, new: `null`, want: `order_lines[0]: found null, expected an object`},
		{name: "a line without its subscription", old: `, "total_tax_amount": 255,
      ` + plan, new: `, "total_tax_amount": 255`, want: `order_lines: found no subscription, expected one on at least one line, as in the order`},
		{name: "two cadences", old: entireLine, new: entireLine + "," + product(599, 96, year),
			want: `order_lines[1].subscription: found every 1 YEAR, expected every 1 MONTH as in order_lines[0]: one cadence per order`, unsaid: unsaid},
		{name: "an empty name", old: `"name": "Streaming Service Monthly"`, new: `"name": ""`, want: `order_lines[0].name: found 0 characters, expected 1 to 255`},
		{name: "a total that is not the product", old: `"quantity": 1`, new: `"quantity": 2`, want: `order_lines[0].total_amount: found 1599, expected 3198 = 2 × 1599 - 0`, unsaid: unsaid},
		{
			name: "tax that is 2 off", old: `"total_tax_amount": 255`, new: `"total_tax_amount": 257`, want: `order_lines[0].total_tax_amount: found 257, expected 255, give or take 1, for a tax_rate of 1900`,
			unsaid: unsaid,
		},
		{name: "US sales tax beside a rate", old: entireLine, new: entireLine + `, {"type":"sales_tax","name":"Tax","quantity":1,"unit_price":100,"total_amount":100}`,
			want: `order_lines[0].tax_rate: found 1900, expected none in an order with a sales_tax line`, unsaid: unsaid},
		{
			name: "a negative line", old: entireLine, new: entireLine + `, {"type":"sales_tax","name":"Tax","quantity":1,"unit_price":-5,"total_amount":-5}`,
			want: "order_lines[1].unit_price: found -5, expected 0 or more on a sales_tax line\norder_lines[1].total_amount: found -5, expected 0 or more on a sales_tax line\norder_lines[0].tax_rate: found 1900, expected none in an order with a sales_tax line",
		},

		// All at once.
		{name: "many things", old: `"id": "1234834/2026-12/c1",
  "subscription_id": "1234834",`, new: `"id": 1, "captured": true, `,
			want: "id: found a number, expected a string\ncaptured: found an unknown field, expected none outside order_lines\nsubscription_id: found nothing, expected a string"},
	}
}

func TestInvalidCaptures(t *testing.T) {
	t.Parallel()
	schema := compile(t, "capture")
	for _, row := range invalidCaptures() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			payload := []byte(edit(t, string(golden(t, "capture.json")), row.old, row.new))
			r := messages.ReadCapture(payload, nil)
			if got := report(r.Problems); got != row.want {
				t.Errorf("got problems\n%s\nwant\n%s", got, row.want)
			}
			if got := validates(schema, payload); got != row.unsaid {
				t.Errorf("capture.json accepts it: got %v, want %v", got, row.unsaid)
			}
			c, _, err := messages.DecodeCapture(payload, nil)
			var invalid *messages.InvalidError
			if !errors.As(err, &invalid) || len(invalid.Problems) != len(r.Problems) || c.ID != "" || c.OrderLines != nil || c.CapturedAmount != 0 {
				t.Errorf("got %v and %+v, want an InvalidError and a zero capture", err, c)
			}
		})
	}
}

// What is known of an invalid capture job: enough to find its renewal, and never an amount that it did not ask for.
func TestReadingOfInvalidCaptures(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, old, new string
		identified     bool
		amount         int64
		reference      string
		lines          bool
	}{
		{name: "an unknown field", old: `"metadata"`, new: `"data"`, identified: true, amount: 1599, reference: "1234834-2026-12-c1", lines: true},
		{name: "no amount", old: `"captured_amount": 1599`, new: `"x": 0`, identified: true, reference: "1234834-2026-12-c1", lines: true},
		{name: "an amount of 0", old: `"captured_amount": 1599`, new: `"captured_amount": 0`, identified: true, amount: -1, reference: "1234834-2026-12-c1", lines: true},
		{name: "an amount beyond Klarna's", old: `"captured_amount": 1599`, new: `"captured_amount": 200000001`, identified: true, amount: -1, reference: "1234834-2026-12-c1", lines: true},
		{name: "an amount in quotes", old: `"captured_amount": 1599`, new: `"captured_amount": "1599"`, identified: true, amount: -1, reference: "1234834-2026-12-c1", lines: true},
		{name: "a long reference", old: `"1234834-2026-12-c1"`, new: `"` + strings.Repeat("r", 256) + `"`, identified: true, amount: 1599, reference: strings.Repeat("r", 256), lines: true},
		{name: "bad lines", old: `"quantity": 1`, new: `"quantity": -1`, identified: true, amount: 1599, reference: "1234834-2026-12-c1", lines: true},
		{name: "no lines", old: `"order_lines"`, new: `"orderLines"`, identified: true, amount: 1599, reference: "1234834-2026-12-c1"},
		{name: "a period twice", old: `"period": "2026-12"`, new: `"period": "2026-12", "period": "2027-01"`, amount: 1599, reference: "1234834-2026-12-c1", lines: true},
		{name: "an empty id", old: `"id": "1234834/2026-12/c1"`, new: `"id": ""`, amount: 1599, reference: "1234834-2026-12-c1", lines: true},
		{name: "two documents", old: `"premium" }
}`, new: `"premium" }} {}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := messages.ReadCapture([]byte(edit(t, string(golden(t, "capture.json")), row.old, row.new)), nil)
			c := r.Capture
			if len(r.Problems) == 0 || r.Identified != row.identified || c.CapturedAmount != row.amount || c.Reference != row.reference || (len(c.OrderLines) > 0) != row.lines {
				t.Errorf("got %+v", r)
			}
			if (r.RenewalKey != "") != r.Identified || (r.IdempotencyKey != "") != r.Identified {
				t.Errorf("got keys %q and %q, identified %v", r.RenewalKey, r.IdempotencyKey, r.Identified)
			}
		})
	}
}

// A capture job finds its ID where a job does, and keeps its key when it is replayed.
func TestCaptureID(t *testing.T) {
	t.Parallel()
	type h = map[string][]string
	const id, none = `"id": "1234834/2026-12/c1",`, ``
	for _, row := range []struct {
		name   string
		id     string
		header h
		want   messages.MessageID
	}{
		{name: "body only", id: id, want: "1234834/2026-12/c1"},
		{name: "body and equal headers", id: id, header: h{"Nats-Msg-Id": {"1234834/2026-12/c1"}, "ce-id": {"1234834/2026-12/c1"}}, want: "1234834/2026-12/c1"},
		{name: "Nats-Msg-Id only", id: none, header: h{"nats-msg-id": {"a"}}, want: "a"},
		{name: "ce-id only", id: none, header: h{"ce-id": {"Zo%C3%AB"}}, want: "Zoë"},
		{name: "body and header differ", id: id, header: h{"Nats-Msg-Id": {"a"}}},
	} {
		payload := []byte(edit(t, string(golden(t, "capture.json")), id, row.id))
		r := messages.ReadCapture(payload, row.header)
		if r.Capture.ID != row.want || r.Identified != (row.want != "") {
			t.Errorf("%s: got %q, %v, want %q", row.name, r.Capture.ID, report(r.Problems), row.want)
		}
		if !r.Identified {
			continue
		}
		if want := messages.NewCaptureKey(messages.NewRenewalKey("1234834", "2026-12"), row.want); r.IdempotencyKey != want {
			t.Errorf("%s: got key %s, want %s", row.name, r.IdempotencyKey, want)
		}
		again := messages.ReadCapture(payload, letter(row.header).Replay(7, "fresh"))
		if again.IdempotencyKey != r.IdempotencyKey {
			t.Errorf("%s, replayed: got key %s, want %s", row.name, again.IdempotencyKey, r.IdempotencyKey)
		}
	}
}

func TestCaptureValidate(t *testing.T) {
	t.Parallel()
	good, _, err := messages.DecodeCapture(golden(t, "capture.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		change func(*messages.Capture)
		want   string
	}{
		{"as it is", func(*messages.Capture) {}, ""},
		{"all that remains", func(c *messages.Capture) {
			*c = messages.Capture{ID: c.ID, SubscriptionID: c.SubscriptionID, Period: c.Period}
		}, ""},
		{"strange texts", func(c *messages.Capture) { c.Description, c.Reference = "\"\\/\b\f\n\r\t\x00\x7f", "\u2028<é>🥪" }, ""},
		{"no ID", func(c *messages.Capture) { c.ID = "" }, "invalid job: id: found an empty string, expected 1 to 255 bytes"},
		{"a negative amount", func(c *messages.Capture) { c.CapturedAmount = -1 }, "invalid job: captured_amount: found -1, expected an integer from 1 to 200000000"},
		{"lines that go on", func(c *messages.Capture) { c.OrderLines = json.RawMessage(`[], "captured_amount": 2`) }, "invalid job: order_lines: found no valid JSON"},
		{"two faults", func(c *messages.Capture) { c.Period, c.OrderID = "", "a b" }, "invalid job: period: found an empty string, expected 1 to 64 bytes (and 1 more)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := good
			row.change(&c)
			_, err := c.Validate()
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				stableCapture(t, c)
			}
			if got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestPublishCapture(t *testing.T) {
	t.Parallel()
	js := setup(t)
	job, _, err := messages.DecodeJob(golden(t, "job.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	capture, _, err := messages.DecodeCapture(golden(t, "capture.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := messages.Publish(t.Context(), js, "shop-eu", job); err != nil {
		t.Fatal(err)
	}
	ack, err := messages.PublishCapture(t.Context(), js, "shop-eu", capture)
	if err != nil || ack.Duplicate || ack.Stream != "RENEWALS" {
		t.Fatalf("got %+v, %v", ack, err)
	}
	m := stored(t, js, ack.Stream, ack.Sequence)
	if m.Subject != "renewals.capture.shop-eu" || lines(m.Header) != "Nats-Msg-Id: 1234834/2026-12/c1\ncontent-type: application/json\n" {
		t.Errorf("got %s\n%s", m.Subject, lines(m.Header))
	}
	if r := messages.ReadCapture(m.Data, m.Header); len(r.Problems) > 0 || !bytes.Equal(r.Capture.OrderLines, capture.OrderLines) {
		t.Errorf("got %+v", r)
	}

	// Under the ID of the job the stream drops it: one table of duplicates.
	same := capture
	same.ID = job.ID
	if ack, err := messages.PublishCapture(t.Context(), js, "shop-eu", same); err != nil || !ack.Duplicate {
		t.Errorf("got %+v, %v; want a duplicate", ack, err)
	}

	wrong := capture
	wrong.CapturedAmount = -1
	var invalid *messages.InvalidError
	if _, err := messages.PublishCapture(t.Context(), js, "shop-eu", wrong); !errors.As(err, &invalid) || invalid.Problems[0].Path != "captured_amount" {
		t.Errorf("got %v, want an InvalidError about captured_amount", err)
	}
	if _, err := messages.PublishCapture(t.Context(), js, "shop.eu", capture); err == nil || !strings.Contains(err.Error(), `account "shop.eu"`) {
		t.Errorf("got %v, want an error about the account", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := messages.PublishCapture(gone, js, "shop-eu", capture); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), `publish capture "1234834/2026-12/c1": `) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// A shop that delivers later captures what it has shipped: first a part, then what remains.
func ExamplePublishCapture() {
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

	for _, capture := range []messages.Capture{
		{ID: "1234834/2026-12/c1", SubscriptionID: "1234834", Period: "2026-12", CapturedAmount: 1000, Reference: "parcel 1"},
		{ID: "1234834/2026-12/c2", SubscriptionID: "1234834", Period: "2026-12", Reference: "parcel 2"},
	} {
		ack, err := messages.PublishCapture(context.Background(), js, "default", capture)
		if err != nil {
			log.Fatal(err)
		}
		payload, err := capture.Encode()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ack.Sequence, string(payload))
	}
	// Output:
	// 1 {"id":"1234834/2026-12/c1","subscription_id":"1234834","period":"2026-12","captured_amount":1000,"reference":"parcel 1"}
	// 2 {"id":"1234834/2026-12/c2","subscription_id":"1234834","period":"2026-12","reference":"parcel 2"}
}
