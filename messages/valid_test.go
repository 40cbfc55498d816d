package messages_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// validJob is a job that a billing system may well send, as unusual as it looks.
type validJob struct {
	name     string
	payload  string
	warnings string
}

// orderOf is a job around an order.
func orderOf(order string) string {
	return `{"id":"1","subscription_id":"1234834","period":"2026-12","due_at":"2026-12-01T00:00:00Z","customer_token":"` + token + `","order":` + order + `}`
}

// linesOf is a job around order lines, with what an order needs to go without warnings.
func linesOf(currency string, amount, tax int64, lines string) string {
	return orderOf(fmt.Sprintf(`{"purchase_currency":%q,"order_amount":%d,"order_tax_amount":%d,"auto_capture":true,"merchant_reference1":"2026-12","order_lines":[%s]}`, currency, amount, tax, lines))
}

func validJobs(t testing.TB) []validJob {
	base := string(golden(t, "job.json"))
	in := func(old, new string) string { return edit(t, base, old, new) }
	compact := func(s string) string {
		var b bytes.Buffer
		if err := json.Compact(&b, []byte(s)); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	thousand := strings.TrimSuffix(strings.Repeat(product(119, 19, plan)+",", 1000), ",")
	return []validJob{
		{"the README's", base, ""},
		{"in the cycle, and nobody has acted", in(`"attempt": 1`, `"attempt": 1, "off_cycle": false, "customer_acted": false`), ""},
		{"the same without white space", compact(base), ""},
		{"the same with white space around it", "\t\r\n" + base + "\n\n ", ""},
		{"only what is required", orderOf(`{"purchase_currency":"EUR","order_amount":1599,"order_tax_amount":0,"order_lines":[{"name":"x","quantity":1,"unit_price":1599,"total_amount":1599,` + plan + `}]}`),
			"order.merchant_reference1: found nothing, expected a reference by which a settlement row finds its renewal\norder.auto_capture: found false or nothing, expected true: without it the money needs a capture of its own"},
		{"1,000 lines", linesOf("EUR", 119_000, 19_000, thousand), ""},
		{"1,000 lines, tax rounded on the order", linesOf("EUR", 119_000, 18_000, thousand), "order.order_tax_amount: found 18000, expected 19000, the sum of total_tax_amount"},
		{"1,000 lines, tax rounded up on the order", linesOf("EUR", 119_000, 20_000, thousand), "order.order_tax_amount: found 20000, expected 19000, the sum of total_tax_amount"},
		{"a token of 15 bytes, which may be part of a word", strings.Replace(base, token, "1234834-2026-12", 1), ""},
		{"the largest amounts", linesOf("EUR", 200_000_000, 15966387, product(100_000_000, 15966387, plan)+`,{"type":"digital","name":"x","quantity":1,"unit_price":100000000,"total_amount":100000000,`+plan+`}`), ""},
		{"the smallest amount", linesOf("EUR", 1, 0, product(1, 0, plan)), ""},
		{"a discount line with negative tax", linesOf("EUR", 1399, 223, product(1599, 255, plan)+`,{"type":"discount","name":"Loyal","quantity":1,"unit_price":-200,"tax_rate":1900,"total_amount":-200,"total_tax_amount":-32}`), ""},
		{"a gift card that pays nearly all", linesOf("EUR", 1, 255, product(1599, 255, plan)+`,{"type":"gift_card","name":"Gift card","quantity":1,"unit_price":-1598,"total_amount":-1598}`), ""},
		{"store credit", linesOf("EUR", 599, 255, product(1599, 255, plan)+`,{"type":"store_credit","name":"Credit","quantity":1,"unit_price":-1000,"total_amount":-1000}`), ""},
		{"a discount on the product line", linesOf("EUR", 1399, 223, `{"type":"digital","name":"x","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1399,"total_discount_amount":200,"total_tax_amount":223,`+plan+`}`), ""},
		{"a month for nothing beside one that is paid", linesOf("EUR", 1599, 255, product(1599, 255, plan)+`,{"type":"digital","name":"Trial","quantity":0,"unit_price":999,"total_amount":0,`+plan+`}`), ""},
		{"US sales tax", linesOf("USD", 21000, 1000, `{"type":"physical","name":"Coffee","quantity":2,"unit_price":10000,"total_amount":20000,`+plan+`},{"type":"sales_tax","name":"Sales Tax","quantity":1,"unit_price":1000,"total_amount":1000}`), ""},
		{"US sales tax of two kinds, rates of 0", linesOf("USD", 21000, 1000, `{"type":"physical","name":"Coffee","quantity":2,"unit_price":10000,"tax_rate":0,"total_amount":20000,"total_tax_amount":0,`+plan+`},{"type":"sales_tax","name":"State","quantity":1,"unit_price":600,"total_amount":600},{"type":"sales_tax","name":"City","quantity":1,"unit_price":400,"total_amount":400}`), ""},
		{"US, no tax", linesOf("USD", 999, 0, `{"type":"digital","name":"x","quantity":1,"unit_price":999,"total_amount":999,`+plan+`}`), ""},
		{"yen", linesOf("JPY", 1200, 109, `{"type":"digital","name":"定期購入","quantity":1,"unit_price":1200,"tax_rate":1000,"total_amount":1200,"total_tax_amount":109,`+plan+`}`), ""},
		{"dinars", linesOf("KWD", 4750, 0, `{"type":"digital","name":"اشتراك","quantity":1,"unit_price":4750,"total_amount":4750,`+plan+`}`), ""},
		{"tax that is 1 off either way", linesOf("EUR", 3198, 510, product(1599, 254, plan)+","+product(1599, 256, plan)), ""},
		{"unicode names", linesOf("SEK", 9900, 1581, strings.Replace(product(9900, 1581, `"subscription":{"name":"Kaffe månadsvis ☕ {{1234834}}","interval":"WEEK","interval_count":2}`), "Streaming", "Smörgås 🥪 \\u00e9\\ud83d\\ude00", 1)), ""},
		{"255 characters of four bytes", in("Streaming Service Monthly", strings.Repeat("🥪", 255)), ""},
		{"unknown fields of the order, of every type", in(`"auto_capture": true`, `"auto_capture": true, "billing_address": {"care_of": null}, "x": [1.5e-7, -0, 0.0, 2, 3, 4, 5, 6, 7, 8E+9, 90e-0, true, false, null, "", [], {}], "Order_Amount": "another name", "payment_plan": 184467440737095516160`), ""},
		{"every field that Klarna documents", in(`"auto_capture": true`, `"auto_capture": true, "merchant_reference2": "", "merchant_data": "{\"a\":1}", "step_up": "NOT_SUPPORTED", "usage": "RENEWAL",
			"merchant_urls": {"confirmation": "https://shop.example/ok", "push": "https://shop.example/push"}, "attachment": {"body": "{}", "content_type": "application/vnd.klarna.internal.emd-v2+json"},
			"purchase_country": "DE", "locale": "de-DE", "shipping_address": {"given_name": "Ada", "family_name": "L", "attention": "", "organization_name": "", "email": "a@b.example", "phone": "+49301",
			"street_address": "Straße 1", "street_address2": "", "postal_code": "10115", "city": "Berlin", "region": "", "country": "de", "title": "Frau"}`), ""},
		{"an address in New York", in(`"auto_capture": true`, `"auto_capture": true, "shipping_address": {"country": "US", "region": "NY"}`), ""},
		{"a currency in small letters", in(`"EUR"`, `"eur"`), `order.purchase_currency: found "eur", expected upper case`},
		{"a country of another currency", in(`"auto_capture": true`, `"auto_capture": true, "purchase_country": "SE", "locale": "en-SE"`), `order.purchase_country: found SE, where Klarna sells in SEK, with EUR as purchase_currency`},
		{"a locale of another country", in(`"auto_capture": true`, `"auto_capture": true, "purchase_country": "AT", "locale": "de-DE"`), `order.locale: found de-DE, expected one of AT, the purchase_country`},
		{"a locale of another form", in(`"auto_capture": true`, `"auto_capture": true, "locale": "de_DE"`), `order.locale: found "de_DE", expected a locale such as de-DE`},
		{"a country that is none", in(`"auto_capture": true`, `"auto_capture": true, "purchase_country": "UK", "shipping_address": {"country": "XX"}`),
			"order.purchase_country: found \"UK\", expected an ISO 3166 code such as DE\norder.shipping_address.country: found \"XX\", expected an ISO 3166 code such as DE"},
		{"no identifier in the subscription's name", in(` {{1234834}}`, ``), `order.order_lines[0].subscription.name: found no {{id}} in it, expected one, by which Klarna groups a subscription's orders`},
		{"nothing between the braces", in(`{{1234834}}`, `{{}}`), `order.order_lines[0].subscription.name: found no {{id}} in it, expected one, by which Klarna groups a subscription's orders`},
		{"braces that stay open", in(`{{1234834}}`, `}}1{{`), `order.order_lines[0].subscription.name: found no {{id}} in it, expected one, by which Klarna groups a subscription's orders`},
		{"an identifier of one digit", in(`{{1234834}}`, `{{1}}`), `order.order_lines[0].subscription.name: found "1" between its braces, expected the subscription_id, by which Klarna groups a subscription's orders`},
		{"captured later", in(`"auto_capture": true`, `"auto_capture": false`), `order.auto_capture: found false or nothing, expected true: without it the money needs a capture of its own`},
		{"what looks like HTML", in(`Streaming Service`, `<b>Streaming</b>`), `order.order_lines[0].name: found what looks like HTML, which Klarna may refuse`},
		{"16 pairs of metadata, one empty", in(`"plan": "premium"`, `"":"","b":"","c":"","d":"","e":"","f":"","g":"","h":"","i":"","j":"","k":"","l":"","m":"","n":"","o":"","p":"\u2028<&>\u001f\u000b\n\/"`), ""},
		{"names that are escaped", in(`"order_amount": 1599`, `"order_\u0061mount": 1599`), ""},
		{"a due time in lower case", in(`"due_at": "2026-12-01T00:00:00Z"`, `"due_at": "2026-12-01t00:00:00z"`), ""},
		{"a due time elsewhere, with a fraction", in(`"due_at": "2026-12-01T00:00:00Z"`, `"due_at": "2026-12-01T01:30:00.123456789+05:30"`), ""},
		{"identifiers of all kinds of characters", in(`"id": "1234834/2026-12/1"`, `"id": "§ \"4\" \\ % . * > Zoë 🥪"`), ""},
		{"the longest identifiers", edit(t, in(`"subscription_id": "1234834"`, `"subscription_id": "`+strings.Repeat("s", 64)+`"`), `"id": "1234834/2026-12/1"`, `"id": "`+strings.Repeat("é", 127)+`x"`), `order.order_lines[0].subscription.name: found "1234834" between its braces, expected the subscription_id, by which Klarna groups a subscription's orders`},
		{"the longest token", in(token, strings.Repeat("~", 255)), ""},
		{"64 levels deep", in(`"auto_capture": true`, `"auto_capture": true, "x": `+strings.Repeat("[", 62)+strings.Repeat("]", 62)), ""},
		{"256 KiB", in(`"plan": "premium"`, `"plan": "`+strings.Repeat("x", 256<<10-len(base)+7)+`"`), ""},
	}
}

func TestValidJobs(t *testing.T) {
	t.Parallel()
	rows := validJobs(t)
	if len(rows) < 20 {
		t.Fatalf("got %d rows, want 20 or more", len(rows))
	}
	schema := compile(t, "job")
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			payload := []byte(row.payload)
			job, warnings, err := messages.DecodeJob(payload, nil)
			if err != nil {
				t.Fatal(report(messages.Read(payload, nil).Problems))
			}
			if got := report(warnings); got != row.warnings {
				t.Errorf("got warnings\n%s\nwant\n%s", got, row.warnings)
			}
			if !validates(schema, payload) {
				t.Error("job.json refuses it")
			}
			if at := bytes.Index(payload, job.Order); at < 0 || &payload[at] != &job.Order[0] {
				t.Error("got other bytes of the order than were received")
			}
			stable(t, job)
		})
	}
}

// stable checks that a job survives being encoded and decoded, and encodes to the same bytes again.
func stable(t *testing.T, job messages.Job) {
	t.Helper()
	first, err := job.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := messages.DecodeJob(first, nil)
	if err != nil {
		t.Fatalf("decode what was encoded: %v", err)
	}
	second, err := again.Encode()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("encoded again: got\n%s\nwant\n%s", second, first)
	}
	if !bytes.Equal(again.Order, job.Order) || again.CustomerToken.Reveal() != job.CustomerToken.Reveal() || !again.DueAt.Equal(job.DueAt) ||
		again.ID != job.ID || again.SubscriptionID != job.SubscriptionID || again.Period != job.Period ||
		again.OffCycle != job.OffCycle || again.CustomerActed != job.CustomerActed || !maps.Equal(again.Metadata, job.Metadata) {
		t.Errorf("got %+v, want %+v", again, job)
	}
}
