package messages_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// invalidJob is testdata/job.json with one edit, and every problem that the edit makes, one a line.
type invalidJob struct {
	name     string
	old, new string
	want     string
	unsaid   bool // a JSON Schema cannot say it, or the document is not JSON
}

const (
	token      = "0b1d9815-165e-42e2-8867-35bc03789e00"
	entireLine = `{ "type": "digital", "reference": "19-402", "name": "Streaming Service Monthly", "quantity": 1,
      "unit_price": 1599, "tax_rate": 1900, "total_amount": 1599, "total_discount_amount": 0, "total_tax_amount": 255,
      "subscription": { "name": "Premium Monthly {{1234834}}", "interval": "MONTH", "interval_count": 1 } }`
	entireOrder = `"order": { "purchase_currency": "EUR", "order_amount": 1599, "order_tax_amount": 255, "auto_capture": true,
    "merchant_reference1": "1234834-2026-12",
    "order_lines": [ ` + entireLine + ` ] },`
	plan = `"subscription": { "name": "Premium Monthly {{1234834}}", "interval": "MONTH", "interval_count": 1 }`
)

// product is a digital line of one amount at 19 % with the given subscription.
func product(amount, tax int, subscription string) string {
	return fmt.Sprintf(`{"type":"digital","name":"Streaming","quantity":1,"unit_price":%d,"tax_rate":1900,"total_amount":%[1]d,"total_tax_amount":%d,%s}`, amount, tax, subscription)
}

func invalidJobs() []invalidJob {
	const unsaid = true
	manyMetadata := `"metadata": {`
	for i := range 17 {
		manyMetadata += fmt.Sprintf(`"key%d":"", `, i)
	}
	manyMetadata = strings.TrimSuffix(manyMetadata, ", ") + "}"
	manyNames := ""
	for i := range 40 {
		manyNames += fmt.Sprintf(`"n%d": 0, `, i)
	}
	products := func(n int) string { return strings.TrimSuffix(strings.Repeat(product(1, 0, plan)+",", n), ",") }
	year := `"subscription": { "name": "Premium {{1}}", "interval": "YEAR", "interval_count": 1 }`
	const times = "expected a time of RFC 3339 such as 2026-12-01T00:00:00Z"
	const types = "expected physical, digital, discount, shipping_fee, sales_tax, gift_card, store_credit or surcharge"

	return []invalidJob{
		// The document.
		{name: "no brace", old: `{
  "id"`, new: `"id"`, want: `$: found no valid JSON at byte 4: expected nothing after the end of the document`, unsaid: unsaid},
		{name: "cut off", old: `"plan": "premium" }
}
`, new: `"plan": "prem`, want: `$: found no valid JSON at byte 772: expected the end of a string`, unsaid: unsaid},
		{name: "an array and more", old: "{\n  \"id\": \"1234834/2026-12/1\"", new: `[] `, want: `$: found no valid JSON at byte 3: expected nothing after the end of the document`, unsaid: unsaid},
		{name: "another document behind it", old: `"premium" }
}`, new: `"premium" }
} {}`, want: `$: found no valid JSON at byte 781: expected nothing after the end of the document`, unsaid: unsaid},
		{name: "a comma too many", old: `"premium" }`, new: `"premium", }`, want: `$: found no valid JSON at byte 778: expected no comma before the end of the object or array`, unsaid: unsaid},
		{name: "a comma missing", old: `"period": "2026-12",`, new: `"period": "2026-12"`, want: `$: found no valid JSON at byte 87: expected a comma or the end of the object or array`, unsaid: unsaid},
		{name: "a comment", old: `"attempt": 1,`, new: `"attempt": 1, // the first`, want: `$: found no valid JSON at byte 102: expected a name in double quotes`, unsaid: unsaid},
		{name: "single quotes", old: `"period": "2026-12"`, new: `'period': "2026-12"`, want: `$: found no valid JSON at byte 65: expected a name in double quotes`, unsaid: unsaid},
		{
			name: "a line break in a string", old: `Streaming Service`, new: "Streaming\nService", want: `$: found no valid JSON at byte 477: expected control characters in strings to be escaped`,
			unsaid: unsaid,
		},
		{name: "an unknown escape", old: `Streaming Service`, new: `Streaming \Service`, want: `$: found no valid JSON at byte 478: expected a valid escape sequence`, unsaid: unsaid},
		{name: "NaN", old: `"order_amount": 1599`, new: `"order_amount": NaN`, want: `$: found no valid JSON at byte 295: expected a value`, unsaid: unsaid},
		{name: "a leading zero", old: `"attempt": 1`, new: `"attempt": 01`, want: `$: found no valid JSON at byte 100: expected a comma or the end of the object or array`, unsaid: unsaid},
		{name: "a plus sign", old: `"attempt": 1`, new: `"attempt": +1`, want: `$: found no valid JSON at byte 99: expected a value`, unsaid: unsaid},
		{name: "a misspelt literal", old: `"auto_capture": true`, new: `"auto_capture": True`, want: `$: found no valid JSON at byte 342: expected a value`, unsaid: unsaid},
		{
			name: "65 levels deep", old: `"auto_capture": true`, new: `"x": ` + strings.Repeat("[", 63) + strings.Repeat("]", 63),
			want: `$: found no valid JSON at byte 394: expected at most 64 levels of nesting`, unsaid: unsaid,
		},
		{name: "257 KiB", old: `"plan": "premium"`, new: `"plan": "` + strings.Repeat("x", 257<<10) + `"`, want: `$: found 263942 bytes, expected at most 262144`, unsaid: unsaid},
		{name: "an unknown field", old: `"attempt": 1`, new: `"attempts": 1`, want: `attempts: found an unknown field, expected none outside order`},
		{name: "a field in another spelling", old: `"attempt": 1`, new: `"Attempt": 1`, want: `Attempt: found an unknown field, expected attempt`},
		{name: "camel case", old: `"expires_at"`, new: `"expiresAt"`, want: `expiresAt: found an unknown field, expected expires_at`},
		{name: "an unknown field of a strange name", old: `"attempt": 1`, new: `"a \u0007 b": 1`, want: `["a \a b"]: found an unknown field, expected none outside order`},
		{name: "an unknown field of a long name", old: `"attempt"`, new: `"` + strings.Repeat("a", 65) + `"`, want: `[a name of 65 bytes]: found an unknown field, expected none outside order`},
		{name: "the token as a name", old: `"attempt"`, new: `"` + token + `"`, want: `[redacted]: found an unknown field, expected none outside order`},
		{name: "a field twice", old: `"attempt": 1`, new: `"attempt": 1, "attempt": 1`, want: `attempt: found this name twice, expected it once`, unsaid: unsaid},
		{
			name: "an unknown field with a name of 64 bytes", old: `"attempt"`, new: `"` + strings.Repeat("a", 64) + `"`,
			want: strings.Repeat("a", 64) + `: found an unknown field, expected none outside order`,
		},
		{
			name: "one of many names twice", old: `"auto_capture": true`, new: `"auto_capture": true, "new": {` + manyNames + `"n3": 0, "n39": 0}`,
			want: "order.new.n3: found this name twice, expected it once\norder.new.n39: found this name twice, expected it once", unsaid: unsaid,
		},
		{name: "a field twice, once with an escape", old: `"attempt": 1`, new: `"attempt": 1, "\u0061ttempt": 2`, want: `attempt: found this name twice, expected it once`, unsaid: unsaid},
		{name: "a name that is not UTF-8", old: `"attempt": 1`, new: "\"\xff\": 1", want: `["\xff"]: found a name that is not valid UTF-8`, unsaid: unsaid},

		// Who and what for.
		{name: "no id anywhere", old: `"id": "1234834/2026-12/1",`, new: ``, want: `id: found nothing, expected a string here or in the header Nats-Msg-Id`, unsaid: unsaid},
		{name: "an empty id", old: `"id": "1234834/2026-12/1"`, new: `"id": ""`, want: `id: found an empty string, expected 1 to 255 bytes`},
		{name: "a number as id", old: `"id": "1234834/2026-12/1"`, new: `"id": 1234834`, want: `id: found a number, expected a string`},
		{name: "256 bytes of id", old: `"id": "1234834/2026-12/1"`, new: `"id": "` + strings.Repeat("m", 256) + `"`, want: `id: found 256 bytes, expected 1 to 255`},
		{name: "256 bytes in 128 characters", old: `"id": "1234834/2026-12/1"`, new: `"id": "` + strings.Repeat("é", 128) + `"`, want: `id: found 256 bytes, expected 1 to 255`, unsaid: unsaid},
		{name: "a space before the id", old: `"id": "1234834`, new: `"id": " 1234834`, want: `id: found a space at the beginning or end, expected none`},
		{name: "a no-break space behind the id", old: `/2026-12/1"`, new: `/2026-12/1\u00a0"`, want: `id: found a space at the beginning or end, expected none`},
		{name: "a line break in the id", old: `"id": "1234834`, new: `"id": "1234834\n`, want: `id: found the control character U+000A, expected none`},
		{name: "half a surrogate pair in the id", old: `"id": "1234834`, new: `"id": "\ud83d`, want: `id: found a string that is not valid UTF-8`, unsaid: unsaid},
		{name: "the token as id", old: `"id": "1234834/2026-12/1"`, new: `"id": "` + token + `"`, want: `id: found the customer token in it, expected it in customer_token only`, unsaid: unsaid},
		{name: "no subscription", old: `"subscription_id": "1234834",`, new: ``, want: `subscription_id: found nothing, expected a string`},
		{name: "null as subscription", old: `"subscription_id": "1234834"`, new: `"subscription_id": null`, want: `subscription_id: found null, expected a string`},
		{name: "65 bytes of subscription", old: `"subscription_id": "1234834"`, new: `"subscription_id": "` + strings.Repeat("s", 65) + `"`, want: `subscription_id: found 65 bytes, expected 1 to 64`},
		{
			name: "a line break behind the subscription", old: `"subscription_id": "1234834"`, new: `"subscription_id": "1234834\r\n"`,
			want: `subscription_id: found the control character U+000D, expected none`,
		},
		{name: "an empty period", old: `"period": "2026-12"`, new: `"period": ""`, want: `period: found an empty string, expected 1 to 64 bytes`},
		{name: "no period", old: `"period": "2026-12",`, new: ``, want: `period: found nothing, expected a string`},
		{name: "attempt 0", old: `"attempt": 1`, new: `"attempt": 0`, want: `attempt: found 0, expected an integer from 1 to 1000000`},
		{name: "an attempt that would overflow", old: `"attempt": 1`, new: `"attempt": 9223372036854775807`, want: `attempt: found 9223372036854775807, expected an integer from 1 to 1000000`},
		{name: "an attempt in quotes", old: `"attempt": 1`, new: `"attempt": "1"`, want: `attempt: found a string, expected an integer from 1 to 1000000`},
		{name: "an attempt with a fraction", old: `"attempt": 1`, new: `"attempt": 1.5`, want: `attempt: found 1.5, expected an integer from 1 to 1000000`},
		{name: "no due_at", old: `"due_at": "2026-12-01T00:00:00Z",`, new: ``, want: `due_at: found nothing, expected a time`},
		{name: "a date as due_at", old: `"due_at": "2026-12-01T00:00:00Z"`, new: `"due_at": "2026-12-01"`, want: `due_at: found "2026-12-01", ` + times},
		{name: "a time without zone", old: `"due_at": "2026-12-01T00:00:00Z"`, new: `"due_at": "2026-12-01T00:00:00"`, want: `due_at: found "2026-12-01T00:00:00", ` + times},
		{name: "30 February", old: `"due_at": "2026-12-01T`, new: `"due_at": "2026-02-30T`, want: `due_at: found "2026-02-30T00:00:00Z", ` + times},
		{name: "an hour of one digit", old: `"due_at": "2026-12-01T00:`, new: `"due_at": "2026-12-01T0:`, want: `due_at: found "2026-12-01T0:00:00Z", ` + times},
		{name: "a comma before the fraction", old: `"due_at": "2026-12-01T00:00:00Z"`, new: `"due_at": "2026-12-01T00:00:00,5Z"`, want: `due_at: found a string of 22 bytes, ` + times},
		{name: "a zone a day away", old: `"due_at": "2026-12-01T00:00:00Z"`, new: `"due_at": "2026-12-01T00:00:00+24:00"`, want: `due_at: found a string of 25 bytes, ` + times},
		{name: "a Unix time", old: `"due_at": "2026-12-01T00:00:00Z"`, new: `"due_at": 1796083200`, want: `due_at: found a number, ` + times},
		{
			name: "a time that is in the year 10000 in UTC", old: `"expires_at": "2026-12-08T00:00:00Z"`, new: `"expires_at": "9999-12-31T23:00:00-02:00"`,
			want: `expires_at: found a string of 25 bytes, ` + times, unsaid: unsaid,
		},
		{name: "expired before due", old: `"expires_at": "2026-12-08T`, new: `"expires_at": "2026-11-30T`, want: `expires_at: found 2026-11-30T00:00:00Z, expected a time after due_at`, unsaid: unsaid},
		{name: "null as expires_at", old: `"expires_at": "2026-12-08T00:00:00Z"`, new: `"expires_at": null`, want: `expires_at: found null, ` + times},

		{name: "yes in quotes", old: `"attempt": 1`, new: `"customer_acted": "true"`, want: `customer_acted: found a string, expected true or false`},
		{name: "1 for yes", old: `"attempt": 1`, new: `"off_cycle": 1`, want: `off_cycle: found a number, expected true or false`},
		{name: "null for no", old: `"attempt": 1`, new: `"customer_acted": null`, want: `customer_acted: found null, expected true or false`},
		{name: "in another spelling", old: `"attempt": 1`, new: `"customerActed": true`, want: `customerActed: found an unknown field, expected customer_acted`},

		// The token.
		{name: "no token", old: `"customer_token": "` + token + `",`, new: ``, want: `customer_token: found nothing, expected a string`},
		{name: "an empty token", old: token, new: ``, want: `customer_token: found a string of 0 bytes that is not a customer token, expected 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -`},
		{name: "a token that climbs", old: token, new: `..`, want: `customer_token: found a string of 2 bytes that is not a customer token, expected 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -`},
		{name: "a token with a path", old: token, new: `x/../../y`, want: `customer_token: found a string of 9 bytes that is not a customer token, expected 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -`},
		{
			name: "a token of 256 bytes", old: token, new: strings.Repeat("t", 256),
			want: `customer_token: found a string of 256 bytes that is not a customer token, expected 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -`,
		},
		{name: "an object as token", old: `"customer_token": "` + token + `"`, new: `"customer_token": {}`, want: `customer_token: found an object, expected a string`},
		{name: "the token in metadata", old: `"premium" }`, new: `"` + token + `" }`, want: `metadata: found the customer token in it, expected it in customer_token only`, unsaid: unsaid},
		{
			name: "the token as merchant reference", old: `"merchant_reference1": "1234834-2026-12"`, new: `"merchant_reference1": "t ` + token + `"`,
			want: `order.merchant_reference1: found the customer token in it, expected it in customer_token only`, unsaid: unsaid,
		},
		{
			name: "the token as the other reference", old: `"auto_capture": true`, new: `"auto_capture": true, "merchant_reference2": "t ` + token + `"`,
			want: `order.merchant_reference2: found the customer token in it, expected it in customer_token only`, unsaid: unsaid,
		},
		{
			name: "16 bytes of token in metadata", old: token + `",`, new: `token-of-16-byte", "metadata": {"token-of-16-byte": ""},`,
			want: "metadata: found this name twice, expected it once\nmetadata: found the customer token in it, expected it in customer_token only", unsaid: unsaid,
		},
		{
			name: "the token as subscription", old: `"subscription_id": "1234834"`, new: `"subscription_id": "` + token + `"`,
			want: `subscription_id: found the customer token in it, expected it in customer_token only`, unsaid: unsaid,
		},

		// Metadata.
		{name: "a number in metadata", old: `"premium"`, new: `1`, want: `metadata.plan: found a number, expected a string`},
		{name: "17 pairs", old: `"metadata": { "plan": "premium" }`, new: manyMetadata, want: `metadata: found 17 pairs, expected at most 16`},
		{name: "a key of metadata twice", old: `"premium"`, new: `"", "plan": "premium"`, want: `metadata.plan: found this name twice, expected it once`, unsaid: unsaid},
		{name: "an array as metadata", old: `{ "plan": "premium" }`, new: `["premium"]`, want: `metadata: found an array, expected an object`},

		// The order.
		{
			name: "an order in a string", old: `"order": {`, new: `"order": "{}", "metadata2": {`,
			want: "order: found a string, expected an object\nmetadata2: found an unknown field, expected none outside order",
		},
		{name: "an empty order", old: `"metadata": { "plan": "premium" }`, new: `"order": {}`, want: `order: found this name twice, expected it once`},
		{name: "no currency", old: `"purchase_currency": "EUR", `, new: ``, want: `order.purchase_currency: found nothing, expected an ISO 4217 code such as EUR`},
		{name: "a currency symbol", old: `"EUR"`, new: `"€"`, want: `order.purchase_currency: found "\u20ac", expected an ISO 4217 code such as EUR`},
		{name: "a currency that is none", old: `"EUR"`, new: `"EUX"`, want: `order.purchase_currency: found "EUX", expected an ISO 4217 code such as EUR`, unsaid: unsaid},
		{name: "no amount", old: `"order_amount": 1599, `, new: ``, want: `order.order_amount: found nothing, expected an integer, minor units`},
		{
			name: "nothing to pay for something", old: `"order_amount": 1599`, new: `"order_amount": 0`,
			want: "order.order_amount: found 0, expected an integer of 64 bits from 1\norder.order_amount: found 0, expected 1599, the sum of total_amount",
		},
		{
			name: "nothing to pay", old: entireOrder, new: `"order": {"purchase_currency":"EUR","order_amount":-0.0,"order_tax_amount":0,"order_lines":[` + product(0, 0, plan) + `]},`,
			want: `order.order_amount: found -0.0, expected an integer of 64 bits from 1`,
		},
		{name: "an amount in euros", old: `"order_amount": 1599`, new: `"order_amount": 15.99`, want: `order.order_amount: found 15.99, expected an integer of 64 bits from 1`},
		{
			name: "an amount beyond 64 bits", old: `"order_amount": 1599`, new: `"order_amount": 9223372036854775808`,
			want: `order.order_amount: found 9223372036854775808, expected an integer of 64 bits from 1`,
		},
		{
			name: "an amount of 20 digits", old: `"order_amount": 1599`, new: `"order_amount": 10000000000000000000`,
			want: `order.order_amount: found 10000000000000000000, expected an integer of 64 bits from 1`,
		},
		{
			name: "an amount of many digits", old: `"order_amount": 1599`, new: `"order_amount": 1` + strings.Repeat("0", 400),
			want: `order.order_amount: found a number of 401 digits, expected an integer of 64 bits from 1`,
		},
		{name: "an amount in quotes", old: `"order_amount": 1599`, new: `"order_amount": "1599"`, want: `order.order_amount: found a string, expected an integer of 64 bits from 1`},
		{name: "an amount that is not the sum", old: `"order_amount": 1599`, new: `"order_amount": 1600`, want: `order.order_amount: found 1600, expected 1599, the sum of total_amount`, unsaid: unsaid},
		{name: "an amount twice", old: `"order_amount": 1599`, new: `"order_amount": 1599, "order_amount": 159900`, want: `order.order_amount: found this name twice, expected it once`, unsaid: unsaid},
		{name: "an amount in capitals", old: `"order_amount": 1599`, new: `"ORDER_AMOUNT": 1599`, want: `order.order_amount: found nothing, expected an integer, minor units`},
		{name: "no tax", old: `"order_tax_amount": 255, `, new: ``, want: `order.order_tax_amount: found nothing, expected an integer, minor units`},
		{name: "negative tax", old: `"order_tax_amount": 255`, new: `"order_tax_amount": -1`, want: `order.order_tax_amount: found -1, expected an integer of 64 bits from 0`},
		{
			name: "tax that is not the sum", old: `"order_tax_amount": 255`, new: `"order_tax_amount": 257`,
			want: `order.order_tax_amount: found 257, expected 255, the sum of total_tax_amount, give or take 1`, unsaid: unsaid,
		},
		{name: "auto_capture in quotes", old: `"auto_capture": true`, new: `"auto_capture": "true"`, want: `order.auto_capture: found a string, expected true or false`},
		{name: "auto_capture as a number", old: `"auto_capture": true`, new: `"auto_capture": 1`, want: `order.auto_capture: found a number, expected true or false`},
		{
			name: "a step-up", old: `"auto_capture": true`, new: `"auto_capture": true, "step_up": "SUPPORTED"`,
			want: `order.step_up: found "SUPPORTED", expected NOT_SUPPORTED or nothing, since nobody is present`,
		},
		{name: "no confirmation URL", old: `"auto_capture": true`, new: `"auto_capture": true, "merchant_urls": {"push": ""}`, want: `order.merchant_urls.confirmation: found nothing, expected a string`},
		{name: "half an attachment", old: `"auto_capture": true`, new: `"auto_capture": true, "attachment": {"body": "{}"}`, want: `order.attachment.content_type: found nothing, expected a string`},
		{
			name: "an attachment that is not a string", old: `"auto_capture": true`, new: `"auto_capture": true, "attachment": {"body": {}, "content_type": ""}`,
			want: `order.attachment.body: found an object, expected a string`,
		},
		{
			name: "an unknown field of the order twice", old: `"auto_capture": true`, new: `"auto_capture": true, "new": {"a": [{"b": 1, "b": 2}]}`,
			want: `order.new.a[0].b: found this name twice, expected it once`, unsaid: unsaid,
		},
		{
			name: "an unknown field of the order that is not UTF-8", old: `"auto_capture": true`, new: "\"auto_capture\": true, \"new\": \"\xc3\x28\"",
			want: `order.new: found a string that is not valid UTF-8`, unsaid: unsaid,
		},

		// The address.

		// The lines.
		{name: "no lines at all", old: `"order_lines": [ ` + entireLine + ` ]`, new: `"x": 0`, want: `order.order_lines: found nothing, expected an array`},
		{name: "an empty list of lines", old: entireLine, new: ``, want: `order.order_lines: found 0 lines, expected 1 to 1000`},
		{name: "1001 lines", old: entireLine, new: products(1001), want: `order.order_lines: found 1001 lines, expected 1 to 1000`},
		{name: "a line that is a string", old: entireLine, new: entireLine + `, "x"`, want: `order.order_lines[1]: found a string, expected an object`},
		{name: "one line, which is null", old: entireLine, new: `null`, want: `order.order_lines[0]: found null, expected an object`},
		{name: "an unknown type", old: `"digital"`, new: `"subscription"`, want: `order.order_lines[0].type: found "subscription", ` + types},
		{name: "a type in capitals", old: `"digital"`, new: `"DIGITAL"`, want: `order.order_lines[0].type: found "DIGITAL", ` + types},
		{name: "a long type", old: `"digital"`, new: `"a_type_of_twenty_one_"`, want: `order.order_lines[0].type: found a string of 21 bytes, ` + types},
		{name: "an empty name", old: `Streaming Service Monthly`, new: ``, want: `order.order_lines[0].name: found 0 characters, expected 1 to 255`},
		{name: "a name of spaces", old: `Streaming Service Monthly`, new: `  `, want: `order.order_lines[0].name: found nothing but spaces, expected 1 to 255 characters`},
		{name: "a long name", old: `Streaming Service Monthly`, new: strings.Repeat("n", 256), want: `order.order_lines[0].name: found 256 characters, expected 1 to 255`},
		{name: "no name", old: `"name": "Streaming Service Monthly", `, new: ``, want: `order.order_lines[0].name: found nothing, expected a string`},
		{name: "no quantity", old: `"quantity": 1,`, new: ``, want: `order.order_lines[0].quantity: found nothing, expected an integer`},
		{name: "negative quantity", old: `"quantity": 1`, new: `"quantity": -1`, want: `order.order_lines[0].quantity: found -1, expected an integer of 64 bits from 0`},
		{name: "half a piece", old: `"quantity": 1`, new: `"quantity": 0.5`, want: `order.order_lines[0].quantity: found 0.5, expected an integer of 64 bits from 0`},
		{name: "no unit price", old: `"unit_price": 1599, `, new: ``, want: `order.order_lines[0].unit_price: found nothing, expected an integer, minor units`},
		{
			name: "a unit price beyond Klarna's", old: `"unit_price": 1599`, new: `"unit_price": 100000001`,
			want: `order.order_lines[0].unit_price: found 100000001, expected an integer from -100000000 to 100000000`,
		},
		{
			name: "a negative unit price", old: entireLine, new: `{"type":"digital","name":"x","quantity":1,"unit_price":-1599,"total_amount":-1599,` + plan + `}`,
			want: "order.order_lines[0].unit_price: found -1599, expected 0 or more on a digital line\norder.order_lines[0].total_amount: found -1599, expected 0 or more on a digital line\norder.order_amount: found 1599, expected -1599, the sum of total_amount\norder.order_tax_amount: found 255, expected 0, the sum of total_tax_amount, give or take 1",
		},
		{name: "no total", old: `"total_amount": 1599, `, new: ``, want: `order.order_lines[0].total_amount: found nothing, expected an integer, minor units`},
		{name: "a total that is not the product", old: `"quantity": 1`, new: `"quantity": 2`, want: `order.order_lines[0].total_amount: found 1599, expected 3198 = 2 × 1599 - 0`, unsaid: unsaid},
		{
			name: "a discount that is not taken off", old: `"total_discount_amount": 0`, new: `"total_discount_amount": 100`,
			want: `order.order_lines[0].total_amount: found 1599, expected 1499 = 1 × 1599 - 100`, unsaid: unsaid,
		},
		{
			name: "a negative discount", old: `"total_discount_amount": 0`, new: `"total_discount_amount": -100`,
			want: `order.order_lines[0].total_discount_amount: found -100, expected an integer of 64 bits from 0`,
		},
		{
			name: "a product beyond 64 bits", old: `"quantity": 1`, new: `"quantity": 9223372036854775807`,
			want: `order.order_lines[0].total_amount: found 1599, but quantity × unit_price - total_discount_amount needs more than 64 bits`, unsaid: unsaid,
		},
		{name: "a product that would wrap to the total", old: `"quantity": 1,
      "unit_price": 1599, "tax_rate": 1900, "total_amount": 1599`, new: `"quantity": 288230376151711744,
      "unit_price": 64, "tax_rate": 1900, "total_amount": 1599`, want: `order.order_lines[0].total_amount: found 1599, but quantity × unit_price - total_discount_amount needs more than 64 bits`, unsaid: unsaid},
		{
			name: "a total beyond Klarna's", old: `"total_amount": 1599`, new: `"total_amount": 100000001`,
			want: `order.order_lines[0].total_amount: found 100000001, expected an integer from -100000000 to 100000000`,
		},
		{
			name: "tax that is 2 off", old: `"total_tax_amount": 255`, new: `"total_tax_amount": 257`,
			want:   "order.order_lines[0].total_tax_amount: found 257, expected 255, give or take 1, for a tax_rate of 1900\norder.order_tax_amount: found 255, expected 257, the sum of total_tax_amount, give or take 1",
			unsaid: unsaid,
		},
		{name: "tax without a rate", old: `"tax_rate": 1900, `, new: ``, want: `order.order_lines[0].total_tax_amount: found 255, expected 0, give or take 1, for a tax_rate of 0`, unsaid: unsaid},
		{
			name: "a rate without tax", old: `"total_tax_amount": 255`, new: `"merchant_data": ""`,
			want:   "order.order_lines[0].total_tax_amount: found 0, expected 255, give or take 1, for a tax_rate of 1900\norder.order_tax_amount: found 255, expected 0, the sum of total_tax_amount, give or take 1",
			unsaid: unsaid,
		},
		{
			name: "a rate in per cent", old: `"tax_rate": 1900`, new: `"tax_rate": 19`, want: `order.order_lines[0].total_tax_amount: found 255, expected 3, give or take 1, for a tax_rate of 19`,
			unsaid: unsaid,
		},
		{
			name: "a rate in per cent, with a fraction of nothing", old: `"tax_rate": 1900`, new: `"tax_rate": 19.00`,
			want: `order.order_lines[0].total_tax_amount: found 255, expected 3, give or take 1, for a tax_rate of 19`, unsaid: unsaid,
		},
		{name: "a rate with a fraction", old: `"tax_rate": 1900`, new: `"tax_rate": 1900.5`, want: `order.order_lines[0].tax_rate: found 1900.5, expected an integer from 0 to 1000000`},
		{
			name: "an exponent that would take memory", old: `"order_amount": 1599`, new: `"order_amount": 1599e0000001000`,
			want: `order.order_amount: found 1599e0000001000, expected an integer of 64 bits from 1`,
		},
		{name: "tax that is null", old: `"order_tax_amount": 255`, new: `"order_tax_amount": null`, want: `order.order_tax_amount: found null, expected an integer of 64 bits from 0`},
		{name: "a name that is null", old: `"Streaming Service Monthly"`, new: `null`, want: `order.order_lines[0].name: found null, expected a string`},
		{name: "a flag as reference", old: `"1234834-2026-12"`, new: `true`, want: `order.merchant_reference1: found a boolean, expected a string`},
		{name: "a number as the name of a line", old: `"Streaming Service Monthly"`, new: `7`, want: `order.order_lines[0].name: found a number, expected a string`},
		{name: "a total that is off by more than the quantity", old: `"quantity": 1,
      "unit_price": 1599, "tax_rate": 1900, "total_amount": 1599`, new: `"quantity": 1,
      "unit_price": 1597, "tax_rate": 1900, "total_amount": 1599`, want: `order.order_lines[0].total_amount: found 1599, expected 1597 = 1 × 1597 - 0`, unsaid: unsaid},
		{name: "a quantity of nothing that costs", old: `"quantity": 1,`, new: `"quantity": 0,`, want: `order.order_lines[0].total_amount: found 1599, expected 0 = 0 × 1599 - 0`, unsaid: unsaid},
		{
			name: "a discount that adds (S58)", old: entireLine,
			new:  product(1000, 160, plan) + `, {"type":"discount","name":"Loyal","quantity":1,"unit_price":599,"tax_rate":1900,"total_amount":599,"total_tax_amount":95}`,
			want: `order.order_lines[1].total_amount: found 599, expected 0 or less on a discount line: this one would add`,
		},
		{
			name: "a negative product", old: entireLine,
			new:  product(2000, 319, plan) + `, {"type":"physical","name":"Return","quantity":1,"unit_price":-401,"tax_rate":1900,"total_amount":-401,"total_tax_amount":-64}`,
			want: "order.order_lines[1].unit_price: found -401, expected 0 or more on a physical line\norder.order_lines[1].total_amount: found -401, expected 0 or more on a physical line\norder.order_lines[1].total_tax_amount: found -64, expected 0 or more on a physical line",
		},
		{name: "every month and every three months", old: entireLine, new: product(1000, 160, plan) + "," + product(599, 96, strings.Replace(plan, "1 }", "3 }", 1)),
			want: `order.order_lines[1].subscription: found every 3 MONTH, expected every 1 MONTH as in order_lines[0]: one cadence per order`, unsaid: unsaid},
		{name: "a subscription that is null and no other", old: plan, new: `"subscription": null`, want: `order.order_lines: found no subscription, expected one on at least one line`},
		{name: "a negative rate", old: `"tax_rate": 1900`, new: `"tax_rate": -1900`, want: `order.order_lines[0].tax_rate: found -1900, expected an integer from 0 to 1000000`},
		{
			name: "a rate that would overflow", old: `"tax_rate": 1900`, new: `"tax_rate": 9223372036854775807`,
			want: `order.order_lines[0].tax_rate: found 9223372036854775807, expected an integer from 0 to 1000000`,
		},
		{
			name: "US sales tax beside a rate", old: entireLine, new: entireLine + `, {"type":"sales_tax","name":"Tax","quantity":1,"unit_price":0,"total_amount":0}`,
			want:   "order.order_lines[0].tax_rate: found 1900, expected none in an order with a sales_tax line\norder.order_tax_amount: found 255, expected 0, the sum of total_amount of the sales_tax lines, give or take 2",
			unsaid: unsaid,
		},

		// The subscription.
		{name: "nothing that recurs", old: entireLine, new: `{"type":"surcharge","name":"Fee","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,"total_tax_amount":255}`,
			want: `order.order_lines: found no subscription, expected one on at least one line`},
		{name: "two cadences", old: entireLine, new: product(1000, 160, plan) + "," + product(599, 96, year),
			want: `order.order_lines[1].subscription: found every 1 YEAR, expected every 1 MONTH as in order_lines[0]: one cadence per order`, unsaid: unsaid},
		{name: "a subscription that is a string", old: plan, new: `"subscription": "monthly"`, want: `order.order_lines[0].subscription: found a string, expected an object`},
		{name: "no name of the subscription", old: `"name": "Premium Monthly {{1234834}}", `, new: ``, want: `order.order_lines[0].subscription.name: found nothing, expected a string`},
		{name: "no interval", old: `"interval": "MONTH", `, new: ``, want: `order.order_lines[0].subscription.interval: found nothing, expected DAY, WEEK, MONTH or YEAR`},
		{name: "an unknown interval", old: `"MONTH"`, new: `"QUARTER"`, want: `order.order_lines[0].subscription.interval: found "QUARTER", expected DAY, WEEK, MONTH or YEAR`},
		{name: "an interval in small letters", old: `"MONTH"`, new: `"month"`, want: `order.order_lines[0].subscription.interval: found "month", expected DAY, WEEK, MONTH or YEAR`},
		{name: "interval_count 0", old: `"interval_count": 1`, new: `"interval_count": 0`, want: `order.order_lines[0].subscription.interval_count: found 0, expected an integer from 1 to 2147483647`},
		{name: "no interval_count", old: `, "interval_count": 1`, new: ``, want: `order.order_lines[0].subscription.interval_count: found nothing, expected an integer from 1`},
		{
			name: "an interval twice", old: `"interval": "MONTH"`, new: `"interval": "MONTH", "interval": "YEAR"`, want: `order.order_lines[0].subscription.interval: found this name twice, expected it once`,
			unsaid: unsaid,
		},

		// All at once.
		{
			name: "many things", old: `"purchase_currency": "EUR", "order_amount": 1599, "order_tax_amount": 255`, new: `"purchase_currency": "euro", "order_amount": -1, "order_tax_amount": null`,
			want: "order.purchase_currency: found \"euro\", expected an ISO 4217 code such as EUR\norder.order_amount: found -1, expected an integer of 64 bits from 1\norder.order_tax_amount: found null, expected an integer of 64 bits from 0",
		},
	}
}

func (row invalidJob) payload(t testing.TB) []byte {
	t.Helper()
	return []byte(edit(t, string(golden(t, "job.json")), row.old, row.new))
}

// edit replaces the only place where old is.
func edit(t testing.TB, s, old, new string) string {
	t.Helper()
	before, after, found := strings.Cut(s, old)
	if !found {
		t.Fatalf("the base has no %q", old)
	}
	return before + new + after
}

func report(problems []messages.Problem) string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// S29: what Klarna would refuse is refused here, by the path of the field.
func TestInvalidJobs(t *testing.T) {
	t.Parallel()
	rows := invalidJobs()
	if len(rows) < 80 {
		t.Fatalf("got %d rows, want 80 or more", len(rows))
	}
	schema := compile(t, "job")
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			payload := row.payload(t)
			r := messages.Read(payload, nil)
			if got := report(r.Problems); got != row.want {
				t.Errorf("got problems\n%s\nwant\n%s", got, row.want)
			}
			if got := report(r.Problems) + report(r.Warnings); strings.Contains(got, token) {
				t.Error("the token is in: ", got)
			}
			if got := validates(schema, payload); got != row.unsaid {
				t.Errorf("job.json accepts it: got %v, want %v", got, row.unsaid)
			}
		})
	}
}
