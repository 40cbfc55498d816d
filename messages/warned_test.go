package messages_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// warnedJob is testdata/job.json with one edit that Klarna is not known to refuse, and every warning that it makes, one a line.
type warnedJob struct {
	name     string
	old, new string
	want     string
}

func warnedJobs() []warnedJob {
	return []warnedJob{
		{name: "256 characters of reference", old: `1234834-2026-12"`, new: strings.Repeat("é", 249) + `2026-12"`, want: `order.merchant_reference1: found 256 characters, expected 0 to 255`},
		{
			name: "256 characters of second reference", old: `"auto_capture": true`, new: `"auto_capture": true, "merchant_reference2": "` + strings.Repeat("x", 256) + `"`,
			want: `order.merchant_reference2: found 256 characters, expected 0 to 255`,
		},
		{
			name: "6001 characters of merchant data", old: `"auto_capture": true`, new: `"auto_capture": true, "merchant_data": "` + strings.Repeat("x", 6001) + `"`,
			want: `order.merchant_data: found 6001 characters, expected 0 to 6000`,
		},
		{
			name: "2001 characters of URL", old: `"auto_capture": true`, new: `"auto_capture": true, "merchant_urls": {"confirmation": "", "push": "` + strings.Repeat("x", 2001) + `"}`,
			want: `order.merchant_urls.push: found 2001 characters, expected 0 to 2000`,
		},
		{
			name: "no country code", old: `"auto_capture": true`, new: `"auto_capture": true, "shipping_address": {"country": "Germany"}`,
			want: `order.shipping_address.country: found "Germany", expected an ISO 3166 code such as DE`,
		},
		{
			name: "a US address without region", old: `"auto_capture": true`, new: `"auto_capture": true, "shipping_address": {"country": "us"}`,
			want: `order.shipping_address.region: found nothing, expected a string in an address in US`,
		},
		{
			name: "a short phone number", old: `"auto_capture": true`, new: `"auto_capture": true, "shipping_address": {"phone": "0123"}`,
			want: `order.shipping_address.phone: found 4 characters, expected 5 to 99`,
		},
		{
			name: "a long postal code", old: `"auto_capture": true`, new: `"auto_capture": true, "shipping_address": {"postal_code": "12345678901"}`,
			want: `order.shipping_address.postal_code: found 11 characters, expected 0 to 10`,
		},
		{
			name: "a long title", old: `"auto_capture": true`, new: `"auto_capture": true, "shipping_address": {"title": "Herr Professor Doktor h. c."}`,
			want: `order.shipping_address.title: found 27 characters, expected 0 to 20`,
		},
		{
			name: "a long region", old: `"auto_capture": true`, new: `"auto_capture": true, "shipping_address": {"region": "` + strings.Repeat("x", 100) + `"}`,
			want: `order.shipping_address.region: found 100 characters, expected 0 to 99`,
		},
		{
			name: "a long street", old: `"auto_capture": true`, new: `"auto_capture": true, "shipping_address": {"street_address": "` + strings.Repeat("x", 100) + `"}`,
			want: `order.shipping_address.street_address: found 100 characters, expected 0 to 99`,
		},
		{name: "256 characters of article number", old: `19-402`, new: strings.Repeat("9", 256), want: `order.order_lines[0].reference: found 256 characters, expected 0 to 255`},
		{name: "a long unit", old: `"quantity": 1`, new: `"quantity": 1, "quantity_unit": "subscript"`, want: `order.order_lines[0].quantity_unit: found 9 characters, expected 1 to 8`},
		{
			name: "line merchant data", old: `"total_discount_amount": 0`, new: `"merchant_data": "` + strings.Repeat("x", 256) + `"`,
			want: `order.order_lines[0].merchant_data: found 256 characters, expected 0 to 255`,
		},
		{
			name: "a long image URL", old: `"total_discount_amount": 0`, new: `"image_url": "` + strings.Repeat("x", 1025) + `"`,
			want: `order.order_lines[0].image_url: found 1025 characters, expected 0 to 1024`,
		},
		{
			name: "a long product URL", old: `"total_discount_amount": 0`, new: `"product_url": "` + strings.Repeat("x", 1025) + `"`,
			want: `order.order_lines[0].product_url: found 1025 characters, expected 0 to 1024`,
		},
		{
			name: "a long brand", old: `"total_discount_amount": 0`, new: `"product_identifiers": {"brand": "` + strings.Repeat("x", 71) + `"}`,
			want: `order.order_lines[0].product_identifiers.brand: found 71 characters, expected 0 to 70`,
		},
		{
			name: "a long category", old: `"total_discount_amount": 0`, new: `"product_identifiers": {"category_path": "` + strings.Repeat("x", 751) + `"}`,
			want: `order.order_lines[0].product_identifiers.category_path: found 751 characters, expected 0 to 750`,
		},
		{
			name: "a long GTIN", old: `"total_discount_amount": 0`, new: `"product_identifiers": {"global_trade_item_number": "` + strings.Repeat("1", 51) + `"}`,
			want: `order.order_lines[0].product_identifiers.global_trade_item_number: found 51 characters, expected 0 to 50`,
		},
		{
			name: "a long colour", old: `"total_discount_amount": 0`, new: `"product_identifiers": {"color": "` + strings.Repeat("x", 65) + `"}`,
			want: `order.order_lines[0].product_identifiers.color: found 65 characters, expected 0 to 64`,
		},
		{
			name: "a product without subscription", old: entireLine,
			new:  product(1000, 160, plan) + `, {"type":"digital","name":"Extra","quantity":1,"unit_price":599,"tax_rate":1900,"total_amount":599,"total_tax_amount":95}`,
			want: `order.order_lines[1].subscription: found nothing on a digital line, expected an object on every physical or digital one that recurs`,
		},
		{
			name: "a line without type or subscription", old: entireLine,
			new:  product(1000, 160, plan) + `, {"name":"Extra","quantity":1,"unit_price":599,"tax_rate":1900,"total_amount":599,"total_tax_amount":95}`,
			want: `order.order_lines[1].subscription: found nothing on a physical line, expected an object on every physical or digital one that recurs`,
		},
		{name: "a long name of the subscription", old: `Premium Monthly`, new: strings.Repeat("M", 244), want: `order.order_lines[0].subscription.name: found 256 characters, expected 1 to 255`},
		{name: "null as reference", old: `"merchant_reference1": "1234834-2026-12"`, new: `"merchant_reference1": null`,
			want: "order.merchant_reference1: found null, expected the field to be left out\norder.merchant_reference1: found nothing, expected a reference by which a settlement row finds its renewal"},
		{
			name: "null as anything that may be absent", old: `"auto_capture": true`,
			new:  `"auto_capture": true, "merchant_reference2": null, "merchant_data": null, "merchant_urls": null, "shipping_address": null, "attachment": null, "step_up": null, "purchase_country": null, "locale": null`,
			want: nulls("order.", "merchant_reference2", "merchant_data", "merchant_urls", "shipping_address", "attachment", "step_up", "purchase_country", "locale"),
		},
		{name: "null in an address", old: `"auto_capture": true`, new: `"auto_capture": true, "shipping_address": {"city": null, "country": null, "region": null, "phone": null}`,
			want: nulls("order.shipping_address.", "city", "country", "region", "phone")},
		{
			name: "null on a line", old: `"total_discount_amount": 0`,
			new:  `"total_discount_amount": null, "quantity_unit": null, "merchant_data": null, "product_url": null, "product_identifiers": {"brand": null}`,
			want: nulls("order.order_lines[0].", "total_discount_amount", "quantity_unit", "merchant_data", "product_url", "product_identifiers.brand"),
		},
		{name: "null as type and as article number", old: `"type": "digital", "reference": "19-402"`, new: `"type": null, "reference": null`, want: nulls("order.order_lines[0].", "type", "reference")},
		{name: "null as auto_capture", old: `"auto_capture": true`, new: `"auto_capture": null`,
			want: "order.auto_capture: found null, expected the field to be left out\norder.auto_capture: found false or nothing, expected true: without it the money needs a capture of its own"},
		{name: "numbers for references", old: `"auto_capture": true`, new: `"auto_capture": true, "merchant_reference2": 48211`, want: `order.merchant_reference2: found a number, expected a string`},
		{name: "a number for an article", old: `"19-402"`, new: `19402`, want: `order.order_lines[0].reference: found a number, expected a string`},
		{
			name: "a number that finds nothing", old: `"1234834-2026-12"`, new: `-4.82e3`,
			want: "order.merchant_reference1: found a number, expected a string\norder.merchant_reference1: found neither the period nor the id in it, expected one of them: by it a settlement row finds its renewal",
		},
		{name: "an amount with a fraction of nothing", old: `"order_amount": 1599`, new: `"order_amount": 1599.00`, want: `order.order_amount: found 1599.00, expected 1599`},
		{name: "an amount with an exponent", old: `"order_amount": 1599`, new: `"order_amount": 15.99E2`, want: `order.order_amount: found 15.99E2, expected 1599`},
		{name: "a count with a fraction of nothing", old: `"attempt": 1`, new: `"attempt": 1.0`, want: `attempt: found 1.0, expected 1`},
		{name: "a unit price rounded from its total (S57)", old: `"quantity": 1,
      "unit_price": 1599`, new: `"quantity": 7,
      "unit_price": 229`, want: `order.order_lines[0].total_amount: found 1599, expected 1603 = 7 × 229 - 0`},
		{name: "off by all that is granted", old: `"unit_price": 1599`, new: `"unit_price": 1598`, want: `order.order_lines[0].total_amount: found 1599, expected 1598 = 1 × 1598 - 0`},
		{
			name: "a loyalty fee that takes off (S57)", old: entireLine,
			new:  product(2000, 319, plan) + `, {"type":"surcharge","name":"Loyalty","quantity":1,"unit_price":-401,"tax_rate":1900,"total_amount":-401,"total_tax_amount":-64}`,
			want: "order.order_lines[1].unit_price: found -401 on a surcharge line, expected a discount line\norder.order_lines[1].total_amount: found -401 on a surcharge line, expected a discount line\norder.order_lines[1].total_tax_amount: found -64 on a surcharge line, expected a discount line",
		},
		{
			name: "a subscription that is null beside one that is there", old: entireLine, new: product(1000, 160, plan) + "," + product(599, 95, `"subscription":null`),
			want: "order.order_lines[1].subscription: found null, expected the field to be left out\norder.order_lines[1].subscription: found nothing on a digital line, expected an object on every physical or digital one that recurs",
		},
		{
			name: "a reference that names neither", old: `"1234834-2026-12"`, new: `"A110"`,
			want: `order.merchant_reference1: found neither the period nor the id in it, expected one of them: by it a settlement row finds its renewal`,
		},
		{name: "the id as reference", old: `"1234834-2026-12"`, new: `"1234834/2026-12/1"`, want: ``},
		{
			name: "braces of two other subscriptions", old: entireLine,
			new:  product(1000, 160, strings.Replace(plan, "{{1234834}}", "{{a}}", 1)) + "," + product(599, 95, strings.Replace(plan, "{{1234834}}", "{{b}}", 1)),
			want: "order.order_lines[0].subscription.name: found \"a\" between its braces, expected the subscription_id, by which Klarna groups a subscription's orders\norder.order_lines[1].subscription.name: found \"b\" between its braces, expected the subscription_id, by which Klarna groups a subscription's orders",
		},
	}
}

func nulls(at string, fields ...string) string {
	for i, field := range fields {
		fields[i] = at + field + ": found null, expected the field to be left out"
	}
	return strings.Join(fields, "\n")
}

// S57: what live integrations send, and Klarna takes or is not known to refuse.
func TestWarnedJobs(t *testing.T) {
	t.Parallel()
	schema := compile(t, "job")
	for _, row := range warnedJobs() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			payload := []byte(edit(t, string(golden(t, "job.json")), row.old, row.new))
			r := messages.Read(payload, nil)
			if len(r.Problems) > 0 {
				t.Fatal(report(r.Problems))
			}
			if got, want := strings.Split(report(r.Warnings), "\n"), strings.Split(row.want, "\n"); !sameLines(got, want) {
				t.Errorf("got warnings\n%s\nwant\n%s", report(r.Warnings), row.want)
			}
			for _, w := range r.Warnings {
				if !slices.Contains(messages.WarningKinds(), w.Kind) {
					t.Errorf("%s: got the kind %q, want one of the closed set", w, w.Kind)
				}
			}
			if !validates(schema, payload) {
				t.Error("job.json refuses it")
			}
		})
	}
}

func sameLines(a, b []string) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// An account may have its own rules.
func TestRulesOfAnAccount(t *testing.T) {
	t.Parallel()
	year := `"subscription": { "name": "Shop Premium {{1234834}}", "interval": "YEAR", "interval_count": 1 }`
	payload := []byte(edit(t, string(golden(t, "job.json")), entireLine, product(1000, 160, plan)+","+product(599, 95, year)))
	rules := messages.Rules{MixedCadences: true, MerchantName: "SHOP"}
	r := rules.Read(payload, nil)
	want := "order.order_lines[1].subscription.name: found the merchant's name in it, expected none: Klarna shows it beside the name\n" +
		"order.order_lines[1].subscription: found every 1 YEAR, expected every 1 MONTH as in order_lines[0]"
	if got := report(r.Warnings); got != want || len(r.Problems) > 0 {
		t.Errorf("got warnings\n%s\nand problems\n%s\nwant\n%s", got, report(r.Problems), want)
	}
	if m, err := rules.NewMessage("a", r.Job); err != nil || m.Subject != messages.DueSubject("a") {
		t.Errorf("by the account's rules: got %v, want a message", err)
	}
	if _, err := messages.NewMessage("a", r.Job); err == nil {
		t.Error("without rules: got a message")
	}
	if r := messages.Read(payload, nil); len(r.Problems) != 1 {
		t.Errorf("without rules: got problems\n%s\nwant one", report(r.Problems))
	}
}

// Nothing to charge is said apart, where nothing else is wrong.
func TestNothingToCharge(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		lines string
		want  bool
	}{
		"a month for nothing":       {product(0, 0, plan), true},
		"lines that cost something": {product(1599, 255, plan), false},
		"and no subscription":       {`{"name":"x","quantity":1,"unit_price":0,"total_amount":0}`, false},
	} {
		r := messages.Read([]byte(linesOf("EUR", 0, 0, row.lines)), nil)
		if r.Nothing != row.want || len(r.Problems) == 0 || !r.Identified {
			t.Errorf("%s: got nothing %v and problems %s, want %v", name, r.Nothing, report(r.Problems), row.want)
		}
	}
	if r := messages.Read([]byte(linesOf("EUR", 1599, 255, product(1599, 255, plan))), nil); r.Nothing || len(r.Problems) > 0 {
		t.Errorf("an order: got nothing %v and problems %s", r.Nothing, report(r.Problems))
	}
}
