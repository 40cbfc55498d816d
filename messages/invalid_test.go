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
		{"no brace", `{
  "id"`, `"id"`, `$: found no valid JSON at byte 4: expected nothing after the end of the document`, unsaid},
		{"cut off", `"plan": "premium" }
}
`, `"plan": "prem`, `$: found no valid JSON at byte 772: expected the end of a string`, unsaid},
		{"an array and more", "{\n  \"id\": \"1234834/2026-12/1\"", `[] `, `$: found no valid JSON at byte 3: expected nothing after the end of the document`, unsaid},
		{"another document behind it", `"premium" }
}`, `"premium" }
} {}`, `$: found no valid JSON at byte 781: expected nothing after the end of the document`, unsaid},
		{"a comma too many", `"premium" }`, `"premium", }`, `$: found no valid JSON at byte 778: expected no comma before the end of the object or array`, unsaid},
		{"a comma missing", `"period": "2026-12",`, `"period": "2026-12"`, `$: found no valid JSON at byte 87: expected a comma or the end of the object or array`, unsaid},
		{"a comment", `"attempt": 1,`, `"attempt": 1, // the first`, `$: found no valid JSON at byte 102: expected a name in double quotes`, unsaid},
		{"single quotes", `"period": "2026-12"`, `'period': "2026-12"`, `$: found no valid JSON at byte 65: expected a name in double quotes`, unsaid},
		{"a line break in a string", `Streaming Service`, "Streaming\nService", `$: found no valid JSON at byte 477: expected control characters in strings to be escaped`, unsaid},
		{"an unknown escape", `Streaming Service`, `Streaming \Service`, `$: found no valid JSON at byte 478: expected a valid escape sequence`, unsaid},
		{"NaN", `"order_amount": 1599`, `"order_amount": NaN`, `$: found no valid JSON at byte 295: expected a value`, unsaid},
		{"a leading zero", `"attempt": 1`, `"attempt": 01`, `$: found no valid JSON at byte 100: expected a comma or the end of the object or array`, unsaid},
		{"a plus sign", `"attempt": 1`, `"attempt": +1`, `$: found no valid JSON at byte 99: expected a value`, unsaid},
		{"a misspelt literal", `"auto_capture": true`, `"auto_capture": True`, `$: found no valid JSON at byte 342: expected a value`, unsaid},
		{"65 levels deep", `"auto_capture": true`, `"x": ` + strings.Repeat("[", 63) + strings.Repeat("]", 63), `$: found no valid JSON at byte 394: expected at most 64 levels of nesting`, unsaid},
		{"257 KiB", `"plan": "premium"`, `"plan": "` + strings.Repeat("x", 257<<10) + `"`, `$: found 263942 bytes, expected at most 262144`, unsaid},
		{"an unknown field", `"attempt": 1`, `"attempts": 1`, `attempts: found an unknown field, expected none outside order`, false},
		{"a field in another spelling", `"attempt": 1`, `"Attempt": 1`, `Attempt: found an unknown field, expected attempt`, false},
		{"camel case", `"expires_at"`, `"expiresAt"`, `expiresAt: found an unknown field, expected expires_at`, false},
		{"an unknown field of a strange name", `"attempt": 1`, `"a \u0007 b": 1`, `["a \a b"]: found an unknown field, expected none outside order`, false},
		{"an unknown field of a long name", `"attempt"`, `"` + strings.Repeat("a", 65) + `"`, `[a name of 65 bytes]: found an unknown field, expected none outside order`, false},
		{"the token as a name", `"attempt"`, `"` + token + `"`, `[redacted]: found an unknown field, expected none outside order`, false},
		{"a field twice", `"attempt": 1`, `"attempt": 1, "attempt": 1`, `attempt: found this name twice, expected it once`, unsaid},
		{"an unknown field with a name of 64 bytes", `"attempt"`, `"` + strings.Repeat("a", 64) + `"`, strings.Repeat("a", 64) + `: found an unknown field, expected none outside order`, false},
		{"one of many names twice", `"auto_capture": true`, `"auto_capture": true, "new": {` + manyNames + `"n3": 0, "n39": 0}`, "order.new.n3: found this name twice, expected it once\norder.new.n39: found this name twice, expected it once", unsaid},
		{"a field twice, once with an escape", `"attempt": 1`, `"attempt": 1, "\u0061ttempt": 2`, `attempt: found this name twice, expected it once`, unsaid},
		{"a name that is not UTF-8", `"attempt": 1`, "\"\xff\": 1", `["\xff"]: found a name that is not valid UTF-8`, unsaid},

		// Who and what for.
		{"no id anywhere", `"id": "1234834/2026-12/1",`, ``, `id: found nothing, expected a string here or in the header Nats-Msg-Id`, unsaid},
		{"an empty id", `"id": "1234834/2026-12/1"`, `"id": ""`, `id: found an empty string, expected 1 to 255 bytes`, false},
		{"a number as id", `"id": "1234834/2026-12/1"`, `"id": 1234834`, `id: found a number, expected a string`, false},
		{"256 bytes of id", `"id": "1234834/2026-12/1"`, `"id": "` + strings.Repeat("m", 256) + `"`, `id: found 256 bytes, expected 1 to 255`, false},
		{"256 bytes in 128 characters", `"id": "1234834/2026-12/1"`, `"id": "` + strings.Repeat("é", 128) + `"`, `id: found 256 bytes, expected 1 to 255`, unsaid},
		{"a space before the id", `"id": "1234834`, `"id": " 1234834`, `id: found a space at the beginning or end, expected none`, false},
		{"a no-break space behind the id", `/2026-12/1"`, `/2026-12/1\u00a0"`, `id: found a space at the beginning or end, expected none`, false},
		{"a line break in the id", `"id": "1234834`, `"id": "1234834\n`, `id: found the control character U+000A, expected none`, false},
		{"half a surrogate pair in the id", `"id": "1234834`, `"id": "\ud83d`, `id: found a string that is not valid UTF-8`, unsaid},
		{"the token as id", `"id": "1234834/2026-12/1"`, `"id": "` + token + `"`, `id: found the customer token in it, expected it in customer_token only`, unsaid},
		{"no subscription", `"subscription_id": "1234834",`, ``, `subscription_id: found nothing, expected a string`, false},
		{"null as subscription", `"subscription_id": "1234834"`, `"subscription_id": null`, `subscription_id: found null, expected a string`, false},
		{"65 bytes of subscription", `"subscription_id": "1234834"`, `"subscription_id": "` + strings.Repeat("s", 65) + `"`, `subscription_id: found 65 bytes, expected 1 to 64`, false},
		{"a line break behind the subscription", `"subscription_id": "1234834"`, `"subscription_id": "1234834\r\n"`, `subscription_id: found the control character U+000D, expected none`, false},
		{"an empty period", `"period": "2026-12"`, `"period": ""`, `period: found an empty string, expected 1 to 64 bytes`, false},
		{"no period", `"period": "2026-12",`, ``, `period: found nothing, expected a string`, false},
		{"attempt 0", `"attempt": 1`, `"attempt": 0`, `attempt: found 0, expected an integer from 1 to 1000000`, false},
		{"an attempt that would overflow", `"attempt": 1`, `"attempt": 9223372036854775807`, `attempt: found 9223372036854775807, expected an integer from 1 to 1000000`, false},
		{"an attempt in quotes", `"attempt": 1`, `"attempt": "1"`, `attempt: found a string, expected an integer from 1 to 1000000`, false},
		{"an attempt with a fraction", `"attempt": 1`, `"attempt": 1.5`, `attempt: found 1.5, expected an integer from 1 to 1000000`, false},
		{"no due_at", `"due_at": "2026-12-01T00:00:00Z",`, ``, `due_at: found nothing, expected a time`, false},
		{"a date as due_at", `"due_at": "2026-12-01T00:00:00Z"`, `"due_at": "2026-12-01"`, `due_at: found "2026-12-01", ` + times, false},
		{"a time without zone", `"due_at": "2026-12-01T00:00:00Z"`, `"due_at": "2026-12-01T00:00:00"`, `due_at: found "2026-12-01T00:00:00", ` + times, false},
		{"30 February", `"due_at": "2026-12-01T`, `"due_at": "2026-02-30T`, `due_at: found "2026-02-30T00:00:00Z", ` + times, false},
		{"a Unix time", `"due_at": "2026-12-01T00:00:00Z"`, `"due_at": 1796083200`, `due_at: found a number, ` + times, false},
		{"a time that is in the year 10000 in UTC", `"expires_at": "2026-12-08T00:00:00Z"`, `"expires_at": "9999-12-31T23:00:00-02:00"`, `expires_at: found a string of 25 bytes, ` + times, unsaid},
		{"expired before due", `"expires_at": "2026-12-08T`, `"expires_at": "2026-11-30T`, `expires_at: found 2026-11-30T00:00:00Z, expected a time after due_at`, unsaid},
		{"null as expires_at", `"expires_at": "2026-12-08T00:00:00Z"`, `"expires_at": null`, `expires_at: found null, ` + times, false},

		// The token.
		{"no token", `"customer_token": "` + token + `",`, ``, `customer_token: found nothing, expected a string`, false},
		{"an empty token", token, ``, `customer_token: found a string of 0 bytes that is not a customer token, expected 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -`, false},
		{"a token that climbs", token, `..`, `customer_token: found a string of 2 bytes that is not a customer token, expected 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -`, false},
		{"a token with a path", token, `x/../../y`, `customer_token: found a string of 9 bytes that is not a customer token, expected 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -`, false},
		{"a token of 256 bytes", token, strings.Repeat("t", 256), `customer_token: found a string of 256 bytes that is not a customer token, expected 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -`, false},
		{"an object as token", `"customer_token": "` + token + `"`, `"customer_token": {}`, `customer_token: found an object, expected a string`, false},
		{"the token in metadata", `"premium" }`, `"` + token + `" }`, `metadata: found the customer token in it, expected it in customer_token only`, unsaid},
		{"the token as merchant reference", `"merchant_reference1": "1234834-2026-12"`, `"merchant_reference1": "t ` + token + `"`, `order.merchant_reference1: found the customer token in it, expected it in customer_token only`, unsaid},
		{"16 bytes of token in metadata", token + `",`, `token-of-16-byte", "metadata": {"token-of-16-byte": ""},`, "metadata: found this name twice, expected it once\nmetadata: found the customer token in it, expected it in customer_token only", unsaid},
		{"the token as subscription", `"subscription_id": "1234834"`, `"subscription_id": "` + token + `"`, `subscription_id: found the customer token in it, expected it in customer_token only`, unsaid},

		// Metadata.
		{"a number in metadata", `"premium"`, `1`, `metadata.plan: found a number, expected a string`, false},
		{"17 pairs", `"metadata": { "plan": "premium" }`, manyMetadata, `metadata: found 17 pairs, expected at most 16`, false},
		{"a key of metadata twice", `"premium"`, `"", "plan": "premium"`, `metadata.plan: found this name twice, expected it once`, unsaid},
		{"an array as metadata", `{ "plan": "premium" }`, `["premium"]`, `metadata: found an array, expected an object`, false},

		// The order.
		{"an order in a string", `"order": {`, `"order": "{}", "metadata2": {`, "order: found a string, expected an object\nmetadata2: found an unknown field, expected none outside order", false},
		{"an empty order", `"metadata": { "plan": "premium" }`, `"order": {}`, `order: found this name twice, expected it once`, false},
		{"no currency", `"purchase_currency": "EUR", `, ``, `order.purchase_currency: found nothing, expected an ISO 4217 code such as EUR`, false},
		{"a currency symbol", `"EUR"`, `"€"`, `order.purchase_currency: found "\u20ac", expected an ISO 4217 code such as EUR`, false},
		{"a currency that is none", `"EUR"`, `"EUX"`, `order.purchase_currency: found "EUX", expected an ISO 4217 code such as EUR`, unsaid},
		{"no amount", `"order_amount": 1599, `, ``, `order.order_amount: found nothing, expected an integer, minor units`, false},
		{"nothing to pay for something", `"order_amount": 1599`, `"order_amount": 0`, "order.order_amount: found 0, expected an integer of 64 bits from 1\norder.order_amount: found 0, expected 1599, the sum of total_amount", false},
		{"nothing to pay", entireOrder, `"order": {"purchase_currency":"EUR","order_amount":-0.0,"order_tax_amount":0,"order_lines":[` + product(0, 0, plan) + `]},`, `order.order_amount: found -0.0, expected an integer of 64 bits from 1`, false},
		{"an amount in euros", `"order_amount": 1599`, `"order_amount": 15.99`, `order.order_amount: found 15.99, expected an integer of 64 bits from 1`, false},
		{"an amount beyond 64 bits", `"order_amount": 1599`, `"order_amount": 9223372036854775808`, `order.order_amount: found 9223372036854775808, expected an integer of 64 bits from 1`, false},
		{"an amount of 20 digits", `"order_amount": 1599`, `"order_amount": 10000000000000000000`, `order.order_amount: found 10000000000000000000, expected an integer of 64 bits from 1`, false},
		{"an amount of many digits", `"order_amount": 1599`, `"order_amount": 1` + strings.Repeat("0", 400), `order.order_amount: found a number of 401 digits, expected an integer of 64 bits from 1`, false},
		{"an amount in quotes", `"order_amount": 1599`, `"order_amount": "1599"`, `order.order_amount: found a string, expected an integer of 64 bits from 1`, false},
		{"an amount that is not the sum", `"order_amount": 1599`, `"order_amount": 1600`, `order.order_amount: found 1600, expected 1599, the sum of total_amount`, unsaid},
		{"an amount twice", `"order_amount": 1599`, `"order_amount": 1599, "order_amount": 159900`, `order.order_amount: found this name twice, expected it once`, unsaid},
		{"an amount in capitals", `"order_amount": 1599`, `"ORDER_AMOUNT": 1599`, `order.order_amount: found nothing, expected an integer, minor units`, false},
		{"no tax", `"order_tax_amount": 255, `, ``, `order.order_tax_amount: found nothing, expected an integer, minor units`, false},
		{"negative tax", `"order_tax_amount": 255`, `"order_tax_amount": -1`, `order.order_tax_amount: found -1, expected an integer of 64 bits from 0`, false},
		{"tax that is not the sum", `"order_tax_amount": 255`, `"order_tax_amount": 257`, `order.order_tax_amount: found 257, expected 255, the sum of total_tax_amount, give or take 1`, unsaid},
		{"auto_capture in quotes", `"auto_capture": true`, `"auto_capture": "true"`, `order.auto_capture: found a string, expected true or false`, false},
		{"auto_capture as a number", `"auto_capture": true`, `"auto_capture": 1`, `order.auto_capture: found a number, expected true or false`, false},
		{"a step-up", `"auto_capture": true`, `"auto_capture": true, "step_up": "SUPPORTED"`, `order.step_up: found "SUPPORTED", expected NOT_SUPPORTED or nothing, since nobody is present`, false},
		{"no confirmation URL", `"auto_capture": true`, `"auto_capture": true, "merchant_urls": {"push": ""}`, `order.merchant_urls.confirmation: found nothing, expected a string`, false},
		{"half an attachment", `"auto_capture": true`, `"auto_capture": true, "attachment": {"body": "{}"}`, `order.attachment.content_type: found nothing, expected a string`, false},
		{"an attachment that is not a string", `"auto_capture": true`, `"auto_capture": true, "attachment": {"body": {}, "content_type": ""}`, `order.attachment.body: found an object, expected a string`, false},
		{"an unknown field of the order twice", `"auto_capture": true`, `"auto_capture": true, "new": {"a": [{"b": 1, "b": 2}]}`, `order.new.a[0].b: found this name twice, expected it once`, unsaid},
		{"an unknown field of the order that is not UTF-8", `"auto_capture": true`, "\"auto_capture\": true, \"new\": \"\xc3\x28\"", `order.new: found a string that is not valid UTF-8`, unsaid},

		// The address.

		// The lines.
		{"no lines at all", `"order_lines": [ ` + entireLine + ` ]`, `"x": 0`, `order.order_lines: found nothing, expected an array`, false},
		{"an empty list of lines", entireLine, ``, `order.order_lines: found 0 lines, expected 1 to 1000`, false},
		{"1001 lines", entireLine, products(1001), `order.order_lines: found 1001 lines, expected 1 to 1000`, false},
		{"a line that is a string", entireLine, entireLine + `, "x"`, `order.order_lines[1]: found a string, expected an object`, false},
		{"one line, which is null", entireLine, `null`, `order.order_lines[0]: found null, expected an object`, false},
		{"an unknown type", `"digital"`, `"subscription"`, `order.order_lines[0].type: found "subscription", ` + types, false},
		{"a type in capitals", `"digital"`, `"DIGITAL"`, `order.order_lines[0].type: found "DIGITAL", ` + types, false},
		{"a long type", `"digital"`, `"a_type_of_twenty_one_"`, `order.order_lines[0].type: found a string of 21 bytes, ` + types, false},
		{"an empty name", `Streaming Service Monthly`, ``, `order.order_lines[0].name: found 0 characters, expected 1 to 255`, false},
		{"a name of spaces", `Streaming Service Monthly`, `  `, `order.order_lines[0].name: found nothing but spaces, expected 1 to 255 characters`, false},
		{"a long name", `Streaming Service Monthly`, strings.Repeat("n", 256), `order.order_lines[0].name: found 256 characters, expected 1 to 255`, false},
		{"no name", `"name": "Streaming Service Monthly", `, ``, `order.order_lines[0].name: found nothing, expected a string`, false},
		{"no quantity", `"quantity": 1,`, ``, `order.order_lines[0].quantity: found nothing, expected an integer`, false},
		{"negative quantity", `"quantity": 1`, `"quantity": -1`, `order.order_lines[0].quantity: found -1, expected an integer of 64 bits from 0`, false},
		{"half a piece", `"quantity": 1`, `"quantity": 0.5`, `order.order_lines[0].quantity: found 0.5, expected an integer of 64 bits from 0`, false},
		{"no unit price", `"unit_price": 1599, `, ``, `order.order_lines[0].unit_price: found nothing, expected an integer, minor units`, false},
		{"a unit price beyond Klarna's", `"unit_price": 1599`, `"unit_price": 100000001`, `order.order_lines[0].unit_price: found 100000001, expected an integer from -100000000 to 100000000`, false},
		{"a negative unit price", entireLine, `{"type":"digital","name":"x","quantity":1,"unit_price":-1599,"total_amount":-1599,` + plan + `}`,
			"order.order_lines[0].unit_price: found -1599, expected 0 or more on a digital line\norder.order_lines[0].total_amount: found -1599, expected 0 or more on a digital line\norder.order_amount: found 1599, expected -1599, the sum of total_amount\norder.order_tax_amount: found 255, expected 0, the sum of total_tax_amount, give or take 1", false},
		{"no total", `"total_amount": 1599, `, ``, `order.order_lines[0].total_amount: found nothing, expected an integer, minor units`, false},
		{"a total that is not the product", `"quantity": 1`, `"quantity": 2`, `order.order_lines[0].total_amount: found 1599, expected 3198 = 2 × 1599 - 0`, unsaid},
		{"a discount that is not taken off", `"total_discount_amount": 0`, `"total_discount_amount": 100`, `order.order_lines[0].total_amount: found 1599, expected 1499 = 1 × 1599 - 100`, unsaid},
		{"a negative discount", `"total_discount_amount": 0`, `"total_discount_amount": -100`, `order.order_lines[0].total_discount_amount: found -100, expected an integer of 64 bits from 0`, false},
		{"a product beyond 64 bits", `"quantity": 1`, `"quantity": 9223372036854775807`, `order.order_lines[0].total_amount: found 1599, but quantity × unit_price - total_discount_amount needs more than 64 bits`, unsaid},
		{"a product that would wrap to the total", `"quantity": 1,
      "unit_price": 1599, "tax_rate": 1900, "total_amount": 1599`, `"quantity": 288230376151711744,
      "unit_price": 64, "tax_rate": 1900, "total_amount": 1599`, `order.order_lines[0].total_amount: found 1599, but quantity × unit_price - total_discount_amount needs more than 64 bits`, unsaid},
		{"a total beyond Klarna's", `"total_amount": 1599`, `"total_amount": 100000001`, `order.order_lines[0].total_amount: found 100000001, expected an integer from -100000000 to 100000000`, false},
		{"tax that is 2 off", `"total_tax_amount": 255`, `"total_tax_amount": 257`, "order.order_lines[0].total_tax_amount: found 257, expected 255, give or take 1, for a tax_rate of 1900\norder.order_tax_amount: found 255, expected 257, the sum of total_tax_amount, give or take 1", unsaid},
		{"tax without a rate", `"tax_rate": 1900, `, ``, `order.order_lines[0].total_tax_amount: found 255, expected 0, give or take 1, for a tax_rate of 0`, unsaid},
		{"a rate without tax", `"total_tax_amount": 255`, `"merchant_data": ""`, "order.order_lines[0].total_tax_amount: found 0, expected 255, give or take 1, for a tax_rate of 1900\norder.order_tax_amount: found 255, expected 0, the sum of total_tax_amount, give or take 1", unsaid},
		{"a rate in per cent", `"tax_rate": 1900`, `"tax_rate": 19`, `order.order_lines[0].total_tax_amount: found 255, expected 3, give or take 1, for a tax_rate of 19`, unsaid},
		{"a rate in per cent, with a fraction of nothing", `"tax_rate": 1900`, `"tax_rate": 19.00`, `order.order_lines[0].total_tax_amount: found 255, expected 3, give or take 1, for a tax_rate of 19`, unsaid},
		{"a rate with a fraction", `"tax_rate": 1900`, `"tax_rate": 1900.5`, `order.order_lines[0].tax_rate: found 1900.5, expected an integer from 0 to 1000000`, false},
		{"an exponent that would take memory", `"order_amount": 1599`, `"order_amount": 1599e0000001000`, `order.order_amount: found 1599e0000001000, expected an integer of 64 bits from 1`, false},
		{"tax that is null", `"order_tax_amount": 255`, `"order_tax_amount": null`, `order.order_tax_amount: found null, expected an integer of 64 bits from 0`, false},
		{"a name that is null", `"Streaming Service Monthly"`, `null`, `order.order_lines[0].name: found null, expected a string`, false},
		{"a flag as reference", `"1234834-2026-12"`, `true`, `order.merchant_reference1: found a boolean, expected a string`, false},
		{"a number as the name of a line", `"Streaming Service Monthly"`, `7`, `order.order_lines[0].name: found a number, expected a string`, false},
		{"a total that is off by more than the quantity", `"quantity": 1,
      "unit_price": 1599, "tax_rate": 1900, "total_amount": 1599`, `"quantity": 1,
      "unit_price": 1597, "tax_rate": 1900, "total_amount": 1599`, `order.order_lines[0].total_amount: found 1599, expected 1597 = 1 × 1597 - 0`, unsaid},
		{"a quantity of nothing that costs", `"quantity": 1,`, `"quantity": 0,`, `order.order_lines[0].total_amount: found 1599, expected 0 = 0 × 1599 - 0`, unsaid},
		{"a discount that adds (S58)", entireLine, product(1000, 160, plan) + `, {"type":"discount","name":"Loyal","quantity":1,"unit_price":599,"tax_rate":1900,"total_amount":599,"total_tax_amount":95}`,
			`order.order_lines[1].total_amount: found 599, expected 0 or less on a discount line: this one would add`, false},
		{"a negative product", entireLine, product(2000, 319, plan) + `, {"type":"physical","name":"Return","quantity":1,"unit_price":-401,"tax_rate":1900,"total_amount":-401,"total_tax_amount":-64}`,
			"order.order_lines[1].unit_price: found -401, expected 0 or more on a physical line\norder.order_lines[1].total_amount: found -401, expected 0 or more on a physical line\norder.order_lines[1].total_tax_amount: found -64, expected 0 or more on a physical line", false},
		{"every month and every three months", entireLine, product(1000, 160, plan) + "," + product(599, 96, strings.Replace(plan, "1 }", "3 }", 1)),
			`order.order_lines[1].subscription: found every 3 MONTH, expected every 1 MONTH as in order_lines[0]: one cadence per order`, unsaid},
		{"a subscription that is null and no other", plan, `"subscription": null`, `order.order_lines: found no subscription, expected one on at least one line`, false},
		{"a negative rate", `"tax_rate": 1900`, `"tax_rate": -1900`, `order.order_lines[0].tax_rate: found -1900, expected an integer from 0 to 1000000`, false},
		{"a rate that would overflow", `"tax_rate": 1900`, `"tax_rate": 9223372036854775807`, `order.order_lines[0].tax_rate: found 9223372036854775807, expected an integer from 0 to 1000000`, false},
		{"US sales tax beside a rate", entireLine, entireLine + `, {"type":"sales_tax","name":"Tax","quantity":1,"unit_price":0,"total_amount":0}`,
			"order.order_lines[0].tax_rate: found 1900, expected none in an order with a sales_tax line\norder.order_tax_amount: found 255, expected 0, the sum of total_amount of the sales_tax lines, give or take 2", unsaid},

		// The subscription.
		{"nothing that recurs", entireLine, `{"type":"surcharge","name":"Fee","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,"total_tax_amount":255}`,
			`order.order_lines: found no subscription, expected one on at least one line`, false},
		{"two cadences", entireLine, product(1000, 160, plan) + "," + product(599, 96, year),
			`order.order_lines[1].subscription: found every 1 YEAR, expected every 1 MONTH as in order_lines[0]: one cadence per order`, unsaid},
		{"a subscription that is a string", plan, `"subscription": "monthly"`, `order.order_lines[0].subscription: found a string, expected an object`, false},
		{"no name of the subscription", `"name": "Premium Monthly {{1234834}}", `, ``, `order.order_lines[0].subscription.name: found nothing, expected a string`, false},
		{"no interval", `"interval": "MONTH", `, ``, `order.order_lines[0].subscription.interval: found nothing, expected DAY, WEEK, MONTH or YEAR`, false},
		{"an unknown interval", `"MONTH"`, `"QUARTER"`, `order.order_lines[0].subscription.interval: found "QUARTER", expected DAY, WEEK, MONTH or YEAR`, false},
		{"an interval in small letters", `"MONTH"`, `"month"`, `order.order_lines[0].subscription.interval: found "month", expected DAY, WEEK, MONTH or YEAR`, false},
		{"interval_count 0", `"interval_count": 1`, `"interval_count": 0`, `order.order_lines[0].subscription.interval_count: found 0, expected an integer from 1 to 2147483647`, false},
		{"no interval_count", `, "interval_count": 1`, ``, `order.order_lines[0].subscription.interval_count: found nothing, expected an integer from 1`, false},
		{"an interval twice", `"interval": "MONTH"`, `"interval": "MONTH", "interval": "YEAR"`, `order.order_lines[0].subscription.interval: found this name twice, expected it once`, unsaid},

		// All at once.
		{"many things", `"purchase_currency": "EUR", "order_amount": 1599, "order_tax_amount": 255`, `"purchase_currency": "euro", "order_amount": -1, "order_tax_amount": null`,
			"order.purchase_currency: found \"euro\", expected an ISO 4217 code such as EUR\norder.order_amount: found -1, expected an integer of 64 bits from 1\norder.order_tax_amount: found null, expected an integer of 64 bits from 0", false},
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
