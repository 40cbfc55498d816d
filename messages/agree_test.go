package messages_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/messages"
)

// everything is a job with every field that is known, and a line of most types.
const everything = `{"id":"1234834/2026-12/1","subscription_id":"1234834","period":"2026-12","attempt":1,"due_at":"2026-12-01T00:00:00Z",
"expires_at":"2026-12-08T00:00:00Z","customer_token":"t-1","off_cycle":true,"customer_acted":false,"metadata":{"plan":"premium"},
"order":{"purchase_currency":"EUR","order_amount":1998,"order_tax_amount":319,"auto_capture":true,"merchant_reference1":"1234834-2026-12",
"merchant_reference2":"a","merchant_data":"{}","merchant_urls":{"confirmation":"https://m","push":"https://m"},"step_up":"NOT_SUPPORTED",
"attachment":{"body":"{}","content_type":"x"},"purchase_country":"DE","locale":"de-DE","new":{"x":1},
"shipping_address":{"attention":"a","city":"a","email":"a","family_name":"a","given_name":"a","organization_name":"a","region":"a",
"street_address":"a","street_address2":"a","country":"DE","phone":"+49301234","postal_code":"10115","title":"Frau"},
"order_lines":[
{"type":"digital","reference":"1","name":"Streaming","quantity":1,"quantity_unit":"pcs","unit_price":1599,"tax_rate":1900,"total_amount":1599,
"total_discount_amount":0,"total_tax_amount":255,"merchant_data":"a","product_url":"a","image_url":"a",
"product_identifiers":{"brand":"a","category_path":"a","global_trade_item_number":"a","manufacturer_part_number":"a","color":"a","size":"a"},
"subscription":{"name":"Premium {{1234834}}","interval":"MONTH","interval_count":1}},
{"type":"physical","name":"Extra","quantity":1,"unit_price":599,"tax_rate":1900,"total_amount":599,"total_tax_amount":96,
"subscription":{"name":"Premium {{1234834}}","interval":"MONTH","interval_count":1}},
{"type":"discount","name":"Loyal","quantity":1,"unit_price":-300,"tax_rate":1900,"total_amount":-300,"total_tax_amount":-48},
{"type":"shipping_fee","name":"Freight","quantity":1,"unit_price":100,"tax_rate":1900,"total_amount":100,"total_tax_amount":16}]}}`

// oddValues are put in the place of others, or beside them.
func oddValues() []any {
	raw := func(s string) any { return json.RawMessage(s) }
	return []any{
		raw("null"), raw("true"), raw("false"), raw("0"), raw("7"), raw("-1"), raw("1.0"), raw("1.5"), raw("1e2"), raw("-300.00"), raw("1e-1"),
		raw("100000001"), raw("1000000000000"), raw("9223372036854775808"), raw("[]"), raw("{}"), raw("[null]"), raw(`{"name":"x"}`),
		"", " ", "x", "4711", "e", "de", "EUR", "sek", "NOT_SUPPORTED", "SUPPORTED", "MONTH", "month", "discount", "surcharge", "gift_card", "sales_tax", "DIGITAL",
		"a\u200bb", "2026-12-09T00:00:00Z", "..", strings.Repeat("é", 70), strings.Repeat("x", 300), strings.Repeat("x", 7000),
	}
}

// place is a field of an object or an element of an array.
type place struct {
	of    map[string]any
	field string
	list  []any
	at    int
}

func (p place) set(v any) {
	if p.of != nil {
		p.of[p.field] = v
		return
	}
	p.list[p.at] = v
}

func places(v any) (all []place) {
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			all = append(append(all, place{of: v, field: name}), places(v[name])...)
		}
	case []any:
		for i := range v {
			all = append(append(all, place{list: v, at: i}), places(v[i])...)
		}
	}
	return all
}

// mutated is the document with up to three values replaced, removed or added.
func mutated(t *rapid.T, document string) []byte {
	decoder := json.NewDecoder(strings.NewReader(document))
	decoder.UseNumber()
	var job map[string]any
	if err := decoder.Decode(&job); err != nil {
		t.Fatal(err)
	}
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		all, values := places(job), oddValues()
		if rapid.Bool().Draw(t, "what rules between fields are about") {
			values = []any{nil, "discount", "surcharge", "shipping_fee", "gift_card", "physical", "sales_tax", json.RawMessage("5"), json.RawMessage("-5"), json.RawMessage("0")}
			all = slices.DeleteFunc(all, func(p place) bool {
				return !slices.Contains([]string{"type", "unit_price", "total_amount", "total_tax_amount", "subscription"}, p.field)
			})
			if len(all) == 0 {
				continue // no line is left
			}
		}
		p := all[rapid.IntRange(0, len(all)-1).Draw(t, "place")]
		switch what := rapid.IntRange(0, 5).Draw(t, "change"); {
		case what == 0 && p.of != nil:
			delete(p.of, p.field)
		case what == 1 && p.of != nil:
			p.of["unheard_of"] = 1
		default:
			p.set(rapid.SampledFrom(values).Draw(t, "value"))
		}
	}
	b, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Of what a JSON Schema cannot say: sums and products, what holds between fields, and where the id may be. Lengths in bytes and the lists of
// ISO are not among the values that are tried.
func unsayable(p messages.Problem) bool {
	for _, words := range []string{
		"the sum of", "give or take", " × ", "expected none in an order with a sales_tax line", "one cadence per order", "expected a time after due_at",
		"the customer token in it", "a string here or in the header",
	} {
		if strings.Contains(p.Message, words) {
			return true
		}
	}
	return false
}

// agree checks that schema and reader say the same of the shape of a document.
func agree(t *rapid.T, schema *jsonschema.Schema, payload []byte, problems []messages.Problem) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	refused := schema.Validate(document)
	shape := slices.ContainsFunc(problems, func(p messages.Problem) bool { return !unsayable(p) })
	if shape != (refused != nil) {
		t.Fatalf("%s\nthe reader says\n%s\nthe schema says %v", payload, report(problems), refused)
	}
}

// dateTime is a time of RFC 3339, or nearly one. Years before the first of our era are not among them, and no leap seconds: the
// reader refuses what no period is due at.
func dateTime(t *rapid.T) string {
	text := ""
	for _, part := range [][]string{
		{"2026", "2026", "26", "+2026"}, {"-"}, {"12", "02", "13", "00", "1"}, {"-"}, {"01", "28", "29", "31", "00", "32", "1"}, {"T", "T", "t", " ", ""},
		{"00", "23", "24", "0"}, {":", ":", ""}, {"00", "59", "60", "0"}, {":", ":", ""}, {"00", "59", "0"}, {"", "", ".5", ",5", ".", ".1234567891234"},
		{"Z", "Z", "z", "+00:00", "-00:00", "+23:59", "+24:00", "+01:60", "+0100", "+1:00", "-01", "", "ZZ"},
	} {
		// Each part is mostly a good one: nearly all times with two faults are refused for either.
		if rapid.IntRange(0, 3).Draw(t, "odd") > 0 {
			part = part[:1]
		}
		text += rapid.SampledFrom(part).Draw(t, "part")
	}
	return text
}

// The schema that billing systems are given accepts what the reader accepts, and refuses what it refuses for its shape.
func TestSchemaAndReaderAgree(t *testing.T) {
	t.Parallel()
	job, capture := compile(t, "job"), compile(t, "capture")
	if r := messages.Read([]byte(everything), nil); len(r.Problems)+len(r.Warnings) > 0 {
		t.Fatalf("the document to change: %s %s", report(r.Problems), report(r.Warnings))
	}
	t.Run("job", rapid.MakeCheck(func(t *rapid.T) {
		for range 10 {
			payload := mutated(t, everything)
			agree(t, job, payload, messages.Read(payload, nil).Problems)
		}
	}))
	t.Run("times", rapid.MakeCheck(func(t *rapid.T) {
		for range 10 {
			payload := strings.Replace(everything, "2026-12-01T00:00:00Z", dateTime(t), 1)
			agree(t, job, []byte(payload), messages.Read([]byte(payload), nil).Problems)
		}
	}))
	var order struct {
		Order struct {
			Lines json.RawMessage `json:"order_lines"`
		} `json:"order"`
	}
	if err := json.Unmarshal([]byte(everything), &order); err != nil {
		t.Fatal(err)
	}
	captured := fmt.Sprintf(`{"id":"c1","subscription_id":"1234834","period":"2026-12","order_id":"o-1","captured_amount":1998,"description":"d","reference":"r","metadata":{"a":"b"},"order_lines":%s}`, order.Order.Lines)
	t.Run("capture", rapid.MakeCheck(func(t *rapid.T) {
		for range 10 {
			payload := mutated(t, captured)
			agree(t, capture, payload, messages.ReadCapture(payload, nil).Problems)
		}
	}))
}
