package klarnasim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// line is an order line; body is an order around lines.
func line(fields string) string {
	return `{"name":"Streaming","quantity":1,"unit_price":1599,"total_amount":1599,"tax_rate":1900,"total_tax_amount":255` + fields + `}`
}

func body(amount, tax int64, lines ...string) string {
	return fmt.Sprintf(`{"purchase_currency":"EUR","order_amount":%d,"order_tax_amount":%d,"order_lines":[%s]}`, amount, tax, strings.Join(lines, ","))
}

func with(field string) string { return strings.TrimSuffix(monthly, "}") + "," + field + "}" }

func without(old string) string { return replaced(old, "") }

func replaced(old, now string) string {
	after := strings.Replace(monthly, old, now, 1)
	if after == monthly {
		panic("no " + old)
	}
	return after
}

func TestSchema(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("ä", n) }
	const subscription = `"subscription":{"name":"Premium Monthly {{1234834}}","interval":"MONTH","interval_count":1}`
	for _, row := range []struct {
		name, body string
		bad        string // path of the complaint, "" when it is an order
	}{
		{"as documented", monthly, ""},
		{"no JSON", "order_amount=1599", "body"},
		{"half a body", monthly[:100], "body"},
		{"a list", "[" + monthly + "]", "body"},
		{"no currency", without(`"purchase_currency":"EUR",`), "purchase_currency"},
		{"a currency sign", replaced(`"EUR"`, `"€"`), "purchase_currency"},
		{"four letters", replaced(`"EUR"`, `"EURO"`), "purchase_currency"},
		{"a lower-case currency", replaced(`"EUR"`, `"eur"`), ""},
		{"no amount", without(`"order_amount":1599,`), "order_amount"},
		{"a free month", body(0, 0, `{"name":"Free","quantity":1,"unit_price":0,"total_amount":0}`), "order_amount"},
		{"an amount in words", replaced(`"order_amount":1599`, `"order_amount":"1599"`), "order_amount"},
		{"an amount with a fraction", replaced(`"order_amount":1599`, `"order_amount":15.99`), "order_amount"},
		{"another amount than the lines", replaced(`"order_amount":1599`, `"order_amount":1600`), "order_amount"},
		{"no tax amount", without(`"order_tax_amount":255,`), "order_tax_amount"},
		{"negative tax", replaced(`"order_tax_amount":255`, `"order_tax_amount":-1`), "order_tax_amount"},
		{"tax off by the number of lines", replaced(`"order_tax_amount":255`, `"order_tax_amount":256`), ""},
		{"tax off by more", replaced(`"order_tax_amount":255`, `"order_tax_amount":257`), "order_tax_amount"},
		{"tax beyond all bounds", replaced(`"order_tax_amount":255`, `"order_tax_amount":9223372036854775807`), "order_tax_amount"},
		{"no lines", `{"purchase_currency":"EUR","order_amount":1,"order_tax_amount":0}`, "order_lines"},
		{"no lines in the list", body(1, 0), "order_lines"},
		{"1000 lines", body(1_599_000, 255_000, slices.Repeat([]string{line("")}, 1000)...), ""},
		{"1001 lines", body(1_600_599, 255_255, slices.Repeat([]string{line("")}, 1001)...), "order_lines"},
		{"reference of 255 characters", replaced(`"1234834-2026-12"`, `"`+long(255)+`"`), ""},
		{"reference of 256 characters", replaced(`"1234834-2026-12"`, `"`+long(256)+`"`), "merchant_reference1"},
		{"second reference", with(`"merchant_reference2":"` + long(256) + `"`), "merchant_reference2"},
		{"merchant data", with(`"merchant_data":"` + long(6000) + `"`), ""},
		{"too much merchant data", with(`"merchant_data":"` + long(6001) + `"`), "merchant_data"},
		{"auto_capture in words", replaced(`"auto_capture":true`, `"auto_capture":"true"`), "auto_capture"},
		{"a field that Klarna adds", with(`"new_field":{"a":[1]}`), ""},
		{"fields of Klarna's samples that are in no schema", with(`"locale":"de-DE","purchase_country":"DE"`), ""},
		{"merchant URLs", with(`"merchant_urls":{"confirmation":"https://m","push":"https://m"}`), ""},
		{"merchant URLs without confirmation", with(`"merchant_urls":{"push":"https://m"}`), "merchant_urls.confirmation"},
		{"a long push URL", with(`"merchant_urls":{"confirmation":"https://m","push":"` + long(2001) + `"}`), "merchant_urls.push"},
		{"attachment", with(`"attachment":{"body":"{}","content_type":"application/vnd.klarna.internal.emd-v2+json"}`), ""},
		{"attachment without a type", with(`"attachment":{"body":"{}"}`), "attachment.content_type"},
		{"attachment without a body", with(`"attachment":{"content_type":"x"}`), "attachment.body"},
		{"address", with(`"shipping_address":{"country":"DE","postal_code":"10115","phone":"+49301234"}`), ""},
		{"country in full", with(`"shipping_address":{"country":"Germany"}`), "shipping_address.country"},
		{"short phone", with(`"shipping_address":{"phone":"110"}`), "shipping_address.phone"},
		{"long postal code", with(`"shipping_address":{"postal_code":"12345678901"}`), "shipping_address.postal_code"},
		{"long title", with(`"shipping_address":{"title":"` + long(21) + `"}`), "shipping_address.title"},

		{"line without a name", without(`"name":"Streaming Service Monthly",`), "order_lines[0].name"},
		{"an empty name, as in a renewal of 2018", replaced(`"name":"Streaming Service Monthly"`, `"name":""`), "order_lines[0].name"},
		{"a name of 256 characters", body(1599, 255, strings.Replace(line(""), "Streaming", long(256), 1)), "order_lines[0].name"},
		{"the second line", body(3198, 510, line(""), strings.Replace(line(""), "Streaming", "", 1)), "order_lines[1].name"},
		{"unknown type", replaced(`"type":"digital"`, `"type":"return_fee"`), "order_lines[0].type"},
		{"no type", without(`"type":"digital",`), ""},
		{"no quantity", without(`"quantity":1,`), "order_lines[0].quantity"},
		{"negative quantity", body(1599, 255, strings.Replace(line(""), `"quantity":1`, `"quantity":-1`, 1)), "order_lines[0].quantity"},
		{"long unit", body(1599, 255, line(`,"quantity_unit":"123456789"`)), "order_lines[0].quantity_unit"},
		{"empty unit", body(1599, 255, line(`,"quantity_unit":""`)), "order_lines[0].quantity_unit"},
		{"no unit price", without(`"unit_price":1599,`), "order_lines[0].unit_price"},
		{"a million in cents is the limit", body(100_000_000, 0, `{"name":"Yacht","quantity":1,"unit_price":100000000,"total_amount":100000000}`), ""},
		{"more than a million", body(100_000_001, 0, `{"name":"Yacht","quantity":1,"unit_price":100000001,"total_amount":100000001}`), "order_lines[0].unit_price"},
		{"total beyond the limit", body(200_000_000, 0, `{"name":"Yacht","quantity":2,"unit_price":100000000,"total_amount":200000000}`), "order_lines[0].total_amount"},
		{"no total", without(`"total_amount":1599,`), "order_lines[0].total_amount"},
		{"total is not quantity times price", body(1600, 255, strings.Replace(line(""), `"total_amount":1599`, `"total_amount":1600`, 1)), "order_lines[0].total_amount"},
		{"a product that overflows", body(1, 0, `{"name":"x","quantity":9223372036854775807,"unit_price":100000000,"total_amount":1}`), "order_lines[0].total_amount"},
		{"a product that overflows to the right total", body(4, 0, `{"name":"x","quantity":4611686018427387905,"unit_price":4,"total_amount":4}`), "order_lines[0].total_amount"},
		{"discount", body(1000, 160, `{"name":"x","quantity":2,"unit_price":600,"total_discount_amount":200,"total_amount":1000,"tax_rate":1900,"total_tax_amount":160}`), ""},
		{"negative discount", body(1000, 160, `{"name":"x","quantity":1,"unit_price":900,"total_discount_amount":-100,"total_amount":1000,"tax_rate":1900,"total_tax_amount":160}`), "order_lines[0].total_discount_amount"},
		{"discount line with negative tax", body(1399, 223, line(""), `{"type":"discount","name":"Loyalty","quantity":1,"unit_price":-200,"total_amount":-200,"tax_rate":1900,"total_tax_amount":-32}`), ""},
		{"negative tax a unit off", body(1399, 224, line(""), `{"type":"discount","name":"Loyalty","quantity":1,"unit_price":-200,"total_amount":-200,"tax_rate":1900,"total_tax_amount":-31}`), ""},
		{"negative tax two units off", body(1399, 221, line(""), `{"type":"discount","name":"Loyalty","quantity":1,"unit_price":-200,"total_amount":-200,"tax_rate":1900,"total_tax_amount":-34}`), "order_lines[1].total_tax_amount"},
		{"negative rate", body(1599, 255, strings.Replace(line(""), `1900`, `-1900`, 1)), "order_lines[0].tax_rate"},
		{"line tax a unit off", body(1599, 256, strings.Replace(line(""), `"total_tax_amount":255`, `"total_tax_amount":256`, 1)), ""},
		{"line tax two units off", body(1599, 257, strings.Replace(line(""), `"total_tax_amount":255`, `"total_tax_amount":257`, 1)), "order_lines[0].total_tax_amount"},
		{"tax on top instead of inside", body(1599, 304, strings.Replace(line(""), `"total_tax_amount":255`, `"total_tax_amount":304`, 1)), "order_lines[0].total_tax_amount"},
		{"Klarna's sample with two rates", body(62400, 10317, `{"name":"A","quantity":5,"unit_price":11900,"tax_rate":1980,"total_amount":59500,"total_tax_amount":9834}`, `{"type":"shipping_fee","name":"B","quantity":1,"unit_price":2900,"tax_rate":2000,"total_amount":2900,"total_tax_amount":483}`), ""},
		{"sales tax as in the US", body(21000, 1000, `{"name":"A","quantity":1,"unit_price":20000,"total_amount":20000}`, `{"type":"sales_tax","name":"Sales Tax","quantity":1,"unit_price":1000,"total_amount":1000}`), ""},
		{"sales tax and a rate", body(21000, 1000, `{"name":"A","quantity":1,"unit_price":20000,"tax_rate":1900,"total_amount":20000}`, `{"type":"sales_tax","name":"Sales Tax","quantity":1,"unit_price":1000,"total_amount":1000}`), "order_lines[0].tax_rate"},
		{"sales tax that is not the order's", body(21000, 500, `{"name":"A","quantity":1,"unit_price":20000,"total_amount":20000}`, `{"type":"sales_tax","name":"Sales Tax","quantity":1,"unit_price":1000,"total_amount":1000}`), "order_tax_amount"},
		{"long reference", body(1599, 255, line(`,"reference":"`+long(257)+`"`)), "order_lines[0].reference"},
		{"long line data", body(1599, 255, line(`,"merchant_data":"`+long(256)+`"`)), "order_lines[0].merchant_data"},
		{"long product URL", body(1599, 255, line(`,"product_url":"`+long(1025)+`"`)), "order_lines[0].product_url"},
		{"long image URL", body(1599, 255, line(`,"image_url":"`+long(1025)+`"`)), "order_lines[0].image_url"},
		{"long brand", body(1599, 255, line(`,"product_identifiers":{"brand":"`+long(71)+`"}`)), "order_lines[0].product_identifiers.brand"},
		{"long colour", body(1599, 255, line(`,"product_identifiers":{"color":"`+long(65)+`"}`)), "order_lines[0].product_identifiers.color"},
		{"subscription without a name", strings.Replace(monthly, subscription, `"subscription":{"interval":"MONTH","interval_count":1}`, 1), "order_lines[0].subscription.name"},
		{"subscription by the quarter", strings.Replace(monthly, `"MONTH"`, `"QUARTER"`, 1), "order_lines[0].subscription.interval"},
		{"subscription every zero months", strings.Replace(monthly, `"interval_count":1`, `"interval_count":0`, 1), "order_lines[0].subscription.interval_count"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			sim := klarnasim.New(klarnasim.Options{StrictSchema: true})
			got := ask(sim, "POST", "/customer-token/v1/tokens/ok-1/order", "key", row.body)
			switch {
			case row.bad == "" && got.Status != 200:
				t.Errorf("%d %s %q, want an order", got.Status, got.Code, got.Messages)
			case row.bad != "" && (got.Status != 400 || got.Code != "BAD_REQUEST" || !slices.Equal(got.Messages, []string{"Bad value: " + row.bad})):
				t.Errorf("%d %s %q, want 400 for %s", got.Status, got.Code, got.Messages, row.bad)
			}
		})
	}
}

// What live integrations send against the schema, and what Klarna is known to refuse all the same.
func TestLooserThanTheSchema(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 9000)
	item := func(quantity, price, total string) string {
		return `{"name":"x","quantity":` + quantity + `,"unit_price":` + price + `,"total_amount":` + total + `}`
	}
	for _, row := range []struct {
		name, body string
		bad        string
	}{
		{"a unit price rounded down", body(10000, 0, item("3", "3333", "10000")), ""},
		{"a unit price rounded up", body(10000, 0, item("7", "1429", "10000")), ""},
		{"off by more than the quantity", body(10000, 0, item("3", "3332", "10000")), "order_lines[0].total_amount"},
		{"half a piece is none", body(1060, 0, item("0.5", "2120", "1060")), "order_lines[0].total_amount"},
		{"a price with a fraction of nothing", body(1999, 0, item("1", "1999.0", "1999.0")), ""},
		{"a price in words", body(1999, 0, item("1", `"1999"`, "1999")), "order_lines.unit_price"},
		{"numbers for references", with(`"merchant_reference2":48211`), ""},
		{"a flag for a reference", with(`"merchant_reference2":true`), "merchant_reference2"},
		{"nulls", with(`"merchant_reference2":null,"merchant_data":null,"merchant_urls":null,"shipping_address":{"phone":null,"country":null},"attachment":null`), ""},
		{"nulls on a line", body(1599, 255, line(`,"reference":null,"quantity_unit":null,"product_identifiers":null,"subscription":null,"total_discount_amount":null`)), ""},
		{"null for what is required", body(1599, 255, strings.Replace(line(""), `"quantity":1`, `"quantity":null`, 1)), "order_lines[0].quantity"},
		{"a fee that takes off", body(1399, 255, line(""), `{"type":"surcharge","name":"Loyal","quantity":1,"unit_price":-200,"total_amount":-200}`), ""},
		{"shipping that takes off", body(1399, 255, line(""), `{"type":"shipping_fee","name":"Loyal","quantity":1,"unit_price":-200,"total_amount":-200}`), ""},
		{"a discount that adds", body(1799, 255, line(""), `{"type":"discount","name":"Loyal","quantity":1,"unit_price":200,"total_amount":200}`), "order_lines[1].total_amount"},
		{"long texts", with(`"merchant_data":"` + long + `","shipping_address":{"title":"` + long + `","country":"Germany"}`), ""},
		{"long texts on a line", body(1599, 255, line(`,"merchant_data":"`+long+`","quantity_unit":""`)), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got := ask(klarnasim.New(klarnasim.Options{}), "POST", "/customer-token/v1/tokens/ok-1/order", "key", row.body)
			switch {
			case row.bad == "" && got.Status != 200:
				t.Errorf("%d %s %q, want an order", got.Status, got.Code, got.Messages)
			case row.bad != "" && (got.Status != 400 || !slices.Equal(got.Messages, []string{"Bad value: " + row.bad})):
				t.Errorf("%d %s %q, want 400 for %s", got.Status, got.Code, got.Messages, row.bad)
			}
		})
	}
}

func TestAllProblemsAreTold(t *testing.T) {
	t.Parallel()
	sim := klarnasim.New(klarnasim.Options{})
	got := ask(sim, "POST", "/customer-token/v1/tokens/ok-1/order", "key", `{"purchase_currency":"E","order_amount":0,"order_lines":[{}]}`)
	want := []string{"Bad value: purchase_currency", "Bad value: order_amount", "Bad value: order_tax_amount", "Bad value: order_lines[0].name"}
	if !slices.Equal(got.Messages, want) {
		t.Errorf("messages %q, want %q", got.Messages, want)
	}
}

// Run with go test -fuzz=FuzzOrder ./klarna/klarnasim: no body is answered with anything but an order or 400.
func FuzzOrder(f *testing.F) {
	f.Add(monthly)
	f.Add(body(21000, 1000, `{"type":"sales_tax","name":"Tax","quantity":1,"unit_price":1000,"total_amount":1000}`))
	f.Add(`{"order_lines":[{},null],"merchant_urls":null,"shipping_address":{}}`)
	sim := klarnasim.New(klarnasim.Options{})
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" {
			return // ask sends no content type then
		}
		if got := ask(sim, "POST", "/customer-token/v1/tokens/ok-1/order", "", text); got.Status != 200 && got.Status != 400 {
			t.Errorf("%d for %q", got.Status, text)
		}
	})
}
