package settlements_test

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/klarna-renewals/renewals/klarna/settlements"
)

// TestFieldsAreKlarnas: what is read of an answer has Klarna's names, and of its totals nothing is left out.
func TestFieldsAreKlarnas(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/fields.json")
	if err != nil {
		t.Fatal(err)
	}
	var published struct{ Transaction, Payout, Totals, Summary []string }
	if err := json.Unmarshal(text, &published); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		of    any
		names []string
		left  []string // out, since nothing here needs them
	}{
		{settlements.Transaction{}, published.Transaction, []string{
			"payout", "vat_rate", "shipping_country", "initial_payment_method_type", "initial_number_of_installments", "initial_payment_method_monthly_downpayments",
			"tax_in_currency_of_registration_country", "currency_code_of_registration_country", "klarna_comment",
		}},
		{settlements.Payout{}, published.Payout, []string{"currency_code_of_registration_country", "transactions"}},
		{settlements.Totals{}, published.Totals, nil},
		{settlements.Summary{}, published.Summary, nil},
	} {
		read := slices.Clone(c.left)
		for field := range reflect.TypeOf(c.of).Fields() {
			if name := field.Tag.Get("json"); name != "-" {
				read = append(read, name)
			}
		}
		slices.Sort(read)
		slices.Sort(c.names)
		if !slices.Equal(read, c.names) {
			t.Errorf("%T has, with what is left out,\n%q\nKlarna's has\n%q", c.of, read, c.names)
		}
	}
}
