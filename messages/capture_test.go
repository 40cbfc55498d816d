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
		{"another document behind it", `"premium" }
}`, `"premium" }
} {}`, `$: found no valid JSON at byte 634: expected nothing after the end of the document`, unsaid},
		{"257 KiB", `"premium"`, `"` + strings.Repeat("x", 257<<10) + `"`, `$: found 263795 bytes, expected at most 262144`, unsaid},
		{"an unknown field", amount, `"amount": 1599`, `amount: found an unknown field, expected none outside order_lines`, false},
		{"a field in another spelling", amount, `"capturedAmount": 1599`, `capturedAmount: found an unknown field, expected captured_amount`, false},
		{"the fields of a job", amount, `"attempt": 1, "due_at": "2026-12-01T00:00:00Z", "customer_token": "` + token + `", "order": {}`,
			"attempt: found an unknown field, expected none outside order_lines\ndue_at: found an unknown field, expected none outside order_lines\ncustomer_token: found an unknown field, expected none outside order_lines\norder: found an unknown field, expected none outside order_lines", false},
		{"what Klarna's capture has and a job has not", amount, `"shipping_info": []`, `shipping_info: found an unknown field, expected none outside order_lines`, false},
		{"an amount twice", amount, amount + `, "captured_amount": 1`, `captured_amount: found this name twice, expected it once`, unsaid},

		// Which order.
		{"no id anywhere", `"id": "1234834/2026-12/c1",`, ``, `id: found nothing, expected a string here or in the header Nats-Msg-Id`, unsaid},
		{"an empty id", `"id": "1234834/2026-12/c1"`, `"id": ""`, `id: found an empty string, expected 1 to 255 bytes`, false},
		{"no subscription", `"subscription_id": "1234834",`, ``, `subscription_id: found nothing, expected a string`, false},
		{"65 bytes of period", `"period": "2026-12"`, `"period": "` + strings.Repeat("p", 65) + `"`, `period: found 65 bytes, expected 1 to 64`, false},
		{"no period", `"period": "2026-12",`, ``, `period: found nothing, expected a string`, false},
		{"an empty order ID", order, `"order_id": ""`, `order_id: found "", ` + segment, false},
		{"an order ID with a slash", order, `"order_id": "a/b"`, `order_id: found "a/b", ` + segment, false},
		{"an order ID that climbs the path", order, `"order_id": ".."`, `order_id: found "..", ` + segment, false},
		{"an order ID that stays where it is", order, `"order_id": "."`, `order_id: found ".", ` + segment, false},
		{"an order ID of 256 bytes", order, `"order_id": "` + strings.Repeat("a", 256) + `"`, `order_id: found a string of 256 bytes, ` + segment, false},
		{"a number as order ID", order, `"order_id": 7`, `order_id: found a number, expected a string`, false},

		// How much.
		{"nothing to capture", amount, `"captured_amount": 0`, `captured_amount: found 0, ` + amounts, false},
		{"a negative amount", amount, `"captured_amount": -1`, `captured_amount: found -1, ` + amounts, false},
		{"more than Klarna's most", amount, `"captured_amount": 200000001`, `captured_amount: found 200000001, ` + amounts, false},
		{"an amount with a fraction", amount, `"captured_amount": 15.99`, `captured_amount: found 15.99, ` + amounts, false},
		{"an amount in quotes", amount, `"captured_amount": "1599"`, `captured_amount: found a string, ` + amounts, false},
		{"no amount said explicitly", amount, `"captured_amount": null`, `captured_amount: found null, ` + amounts, false},

		// What it says.
		{"256 characters of description", `"Streaming Service Monthly",`, `"` + strings.Repeat("ä", 256) + `",`, `description: found 256 characters, expected 0 to 255`, false},
		{"256 characters of reference", `"1234834-2026-12-c1"`, `"` + strings.Repeat("r", 256) + `"`, `reference: found 256 characters, expected 0 to 255`, false},
		{"a reference that is not UTF-8", `"1234834-2026-12-c1"`, "\"\xff\"", `reference: found a string that is not valid UTF-8`, unsaid},
		{"a description that is an object", `"description": "Streaming Service Monthly"`, `"description": {}`, `description: found an object, expected a string`, false},
		{"17 pairs of metadata", `"plan": "premium"`, `"plan": ""` + manyPairs, `metadata: found 17 pairs, expected at most 16`, false},

		// The lines.
		{"lines that are an object", `[ ` + entireLine + ` ]`, `{}`, `order_lines: found an object, expected an array`, false},
		{"1001 lines", entireLine, strings.TrimSuffix(strings.Repeat(product(1, 0, plan)+",", 1001), ","), `order_lines: found 1001 lines, expected 0 to 1000`, false},
		{"a line that is null", entireLine, `null`, `order_lines[0]: found null, expected an object`, false},
		{"a line without its subscription", `, "total_tax_amount": 255,
      ` + plan, `, "total_tax_amount": 255`, `order_lines: found no subscription, expected one on at least one line, as in the order`, false},
		{"two cadences", entireLine, entireLine + "," + product(599, 96, year),
			`order_lines[1].subscription: found every 1 YEAR, expected every 1 MONTH as in order_lines[0]: one cadence per order`, unsaid},
		{"an empty name", `"name": "Streaming Service Monthly"`, `"name": ""`, `order_lines[0].name: found 0 characters, expected 1 to 255`, false},
		{"a total that is not the product", `"quantity": 1`, `"quantity": 2`, `order_lines[0].total_amount: found 1599, expected 3198 = 2 × 1599 - 0`, unsaid},
		{"tax that is 2 off", `"total_tax_amount": 255`, `"total_tax_amount": 257`, `order_lines[0].total_tax_amount: found 257, expected 255, give or take 1, for a tax_rate of 1900`, unsaid},
		{"US sales tax beside a rate", entireLine, entireLine + `, {"type":"sales_tax","name":"Tax","quantity":1,"unit_price":100,"total_amount":100}`,
			`order_lines[0].tax_rate: found 1900, expected none in an order with a sales_tax line`, unsaid},
		{"a negative line", entireLine, entireLine + `, {"type":"sales_tax","name":"Tax","quantity":1,"unit_price":-5,"total_amount":-5}`,
			"order_lines[1].unit_price: found -5, expected 0 or more on a sales_tax line\norder_lines[1].total_amount: found -5, expected 0 or more on a sales_tax line\norder_lines[0].tax_rate: found 1900, expected none in an order with a sales_tax line", false},

		// All at once.
		{"many things", `"id": "1234834/2026-12/c1",
  "subscription_id": "1234834",`, `"id": 1, "captured": true, `,
			"id: found a number, expected a string\ncaptured: found an unknown field, expected none outside order_lines\nsubscription_id: found nothing, expected a string", false},
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
		{"an unknown field", `"metadata"`, `"data"`, true, 1599, "1234834-2026-12-c1", true},
		{"no amount", `"captured_amount": 1599`, `"x": 0`, true, 0, "1234834-2026-12-c1", true},
		{"an amount of 0", `"captured_amount": 1599`, `"captured_amount": 0`, true, -1, "1234834-2026-12-c1", true},
		{"an amount beyond Klarna's", `"captured_amount": 1599`, `"captured_amount": 200000001`, true, -1, "1234834-2026-12-c1", true},
		{"an amount in quotes", `"captured_amount": 1599`, `"captured_amount": "1599"`, true, -1, "1234834-2026-12-c1", true},
		{"a long reference", `"1234834-2026-12-c1"`, `"` + strings.Repeat("r", 256) + `"`, true, 1599, strings.Repeat("r", 256), true},
		{"bad lines", `"quantity": 1`, `"quantity": -1`, true, 1599, "1234834-2026-12-c1", true},
		{"no lines", `"order_lines"`, `"orderLines"`, true, 1599, "1234834-2026-12-c1", false},
		{"a period twice", `"period": "2026-12"`, `"period": "2026-12", "period": "2027-01"`, false, 1599, "1234834-2026-12-c1", true},
		{"an empty id", `"id": "1234834/2026-12/c1"`, `"id": ""`, false, 1599, "1234834-2026-12-c1", true},
		{"two documents", `"premium" }
}`, `"premium" }} {}`, false, 0, "", false},
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
		{"body only", id, nil, "1234834/2026-12/c1"},
		{"body and equal headers", id, h{"Nats-Msg-Id": {"1234834/2026-12/c1"}, "ce-id": {"1234834/2026-12/c1"}}, "1234834/2026-12/c1"},
		{"Nats-Msg-Id only", none, h{"nats-msg-id": {"a"}}, "a"},
		{"ce-id only", none, h{"ce-id": {"Zo%C3%AB"}}, "Zoë"},
		{"body and header differ", id, h{"Nats-Msg-Id": {"a"}}, ""},
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
