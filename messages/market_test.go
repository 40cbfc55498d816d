package messages_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/currency"
	"golang.org/x/text/language"

	"github.com/klarna-renewals/renewals/messages"
)

// The tables are ISO 4217's. x/text has Unicode's data, which is older than some currencies and rounds others as shops do.
func TestMinorUnits(t *testing.T) {
	t.Parallel()
	var known int
	var younger, rounded []string
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			for c := 'A'; c <= 'Z'; c++ {
				code := string([]rune{a, b, c})
				digits, ok := messages.MinorUnits(code)
				if !ok {
					continue
				}
				known++
				if unit, err := currency.ParseISO(code); err != nil {
					younger = append(younger, code)
				} else if theirs, _ := currency.Standard.Rounding(unit); theirs != digits {
					rounded = append(rounded, code)
				}
			}
		}
	}
	if got, want := strings.Join(younger, " "), "MRU SLE VED VES XCG ZWG"; got != want {
		t.Errorf("got unknown to x/text %s, want %s", got, want)
	}
	if got, want := strings.Join(rounded, " "), "AFN ALL AMD COP GYD IDR IQD IRR KPW LAK LBP MGA MMK MNT MUR PKR RSD SOS SYP TZS UZS YER"; got != want {
		t.Errorf("got rounded by x/text %s, want %s", got, want)
	}
	if known < 150 {
		t.Errorf("got %d currencies, want the 150 and more of ISO 4217", known)
	}
	var missing []string
	for tender := currency.Query(); tender.Next(); {
		if code := tender.Unit().String(); !slices.Contains(missing, code) {
			if _, ok := messages.MinorUnits(code); !ok {
				missing = append(missing, code)
			}
		}
	}
	slices.Sort(missing)
	if got, want := strings.Join(missing, " "), "ANG CUC HRK MRO SLL VEF"; got != want { // withdrawn since
		t.Errorf("got tender for x/text only %s, want %s", got, want)
	}
	// What Klarna sells in agrees without exception.
	for _, code := range strings.Fields("AUD CAD CHF CZK DKK EUR GBP HUF MXN NOK NZD PLN RON SEK USD") {
		want, _ := currency.Standard.Rounding(currency.MustParseISO(code))
		if got, ok := messages.MinorUnits(code); !ok || got != want {
			t.Errorf("%s: got %d, %v; want %d", code, got, ok, want)
		}
	}
	for _, code := range []string{"", "EU", "eur", "EURO", "UR", "URU", "XXX", "XTS", "XAU", "DEM", "€"} {
		if got, ok := messages.MinorUnits(code); ok {
			t.Errorf("%q: got %d digits, want no currency", code, got)
		}
	}
}

// A country is one that x/text calls a country, and the other way round, as far as warnings show.
func TestCountries(t *testing.T) {
	t.Parallel()
	base := string(golden(t, "job.json"))
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			code := string([]rune{a, b})
			r := messages.Read([]byte(edit(t, base, `"auto_capture": true`, `"auto_capture": true, "shipping_address": {"region": "x", "country": "`+code+`"}`)), nil)
			region, err := language.ParseRegion(code)
			// Withdrawn and exceptionally reserved codes are regions there.
			want := err == nil && region.IsCountry() && region.Canonicalize() == region && !slices.Contains(strings.Fields("AC AN CP CQ CS DG EA EU EZ FQ IC NT PC SU TA UK UN XA XB XK YU ZR"), code)
			if got := len(r.Warnings) == 0; got != want || len(r.Problems) > 0 {
				t.Errorf("%s: got country %v, want %v %s", code, got, want, report(r.Problems))
			}
		}
	}
}

func TestLocalCurrency(t *testing.T) {
	t.Parallel()
	base := string(golden(t, "job.json"))
	for country, code := range map[string]string{
		"AT": "EUR", "AU": "AUD", "BE": "EUR", "CA": "CAD", "CH": "CHF", "CZ": "CZK", "DE": "EUR", "DK": "DKK", "ES": "EUR", "FI": "EUR", "FR": "EUR",
		"GB": "GBP", "GR": "EUR", "HU": "HUF", "IE": "EUR", "IT": "EUR", "MX": "MXN", "NL": "EUR", "NO": "NOK", "NZ": "NZD", "PL": "PLN", "PT": "EUR",
		"RO": "RON", "SE": "SEK", "SK": "EUR", "US": "USD",
	} {
		if unit, ok := currency.FromRegion(language.MustParseRegion(country)); !ok || unit.String() != code {
			t.Errorf("%s: got %v from x/text, want %s", country, unit, code)
		}
		for _, other := range []string{code, "JPY"} {
			payload := edit(t, edit(t, base, `"EUR"`, `"`+other+`"`), `"auto_capture": true`, `"auto_capture": true, "purchase_country": "`+country+`"`)
			if r := messages.Read([]byte(payload), nil); (len(r.Warnings) == 0) != (other == code) {
				t.Errorf("%s with %s: got %q", country, other, report(r.Warnings))
			}
		}
	}
}

func TestLocales(t *testing.T) {
	t.Parallel()
	base := string(golden(t, "job.json"))
	for locale, want := range map[string]bool{
		"de-DE": true, "en-SE": true, "sv-FI": true,
		"": false, "de": false, "DE": false, "de-": false, "de_DE": false, "de-de": false, "DE-DE": false, "De-DE": false, "dE-DE": false, "de-D": false,
		"de-DEU": false, "deu-DE": false, "d1-DE": false, "1d-DE": false, "de-XX": false, "ü-DE": false,
	} {
		r := messages.Read([]byte(edit(t, base, `"auto_capture": true`, `"auto_capture": true, "locale": "`+locale+`"`)), nil)
		if got := len(r.Warnings) == 0; got != want || len(r.Problems) > 0 {
			t.Errorf("%q: got %v, want %v %s", locale, got, want, report(r.Problems))
		}
	}
}
