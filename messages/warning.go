package messages

import (
	"bytes"
	"fmt"
	"math/big"
	"strings"
)

// WarningKind says what a warning is about, in one word for a metric: the set is closed and append-only.
type WarningKind string

// What orders are like that live integrations send and Klarna is not known to refuse. A wrong "no" here costs the merchant
// the payment, a wrong "yes" one 400 that no customer hears of.
const (
	// WarnRoundedUnit: total_amount is off quantity × unit_price - total_discount_amount by at most quantity, as where the
	// unit price was rounded from the total. Klarna's own SDK grants it ("within ±quantity"), the schema of 2026 does not say.
	// https://github.com/klarna/kco_rest_java
	WarnRoundedUnit WarningKind = "rounded_unit"
	// WarnTaxSum: order_tax_amount is off the sum by at most one for each line.
	// https://docs.klarna.com/payments/web-payments/additional-resources/error-handling-and-validations/tax-handling.md
	WarnTaxSum WarningKind = "tax_sum"
	// WarnNegativeLine: a surcharge or a shipping fee that takes from the amount, as shops send discounts.
	// https://github.com/krokedil/klarna-checkout-for-woocommerce/pull/513
	WarnNegativeLine WarningKind = "negative_line"
	// WarnOneOff: a physical or digital line without subscription beside one that has it. Klarna's guide asks for it on
	// lines that recur, the renewals of both WooCommerce plugins have none on what does not.
	WarnOneOff WarningKind = "one_off_line"
	// WarnMixedCadences: lines that recur in different ways, in an account that allows it.
	WarnMixedCadences WarningKind = "mixed_cadences"
	// WarnNull: null in place of an optional field. https://github.com/bitspire/solidus_klarna_payments sends such on this
	// very endpoint.
	WarnNull WarningKind = "null"
	// WarnNumber: a number where Klarna has a reference string: both WooCommerce plugins send merchant_reference2 so.
	// https://github.com/krokedil/klarna-checkout-for-woocommerce
	WarnNumber WarningKind = "number"
	// WarnFraction: an integer that is written with a fraction or an exponent, such as 1999.0.
	WarnFraction WarningKind = "fraction"
	// WarnLength: an optional text outside its documented length, or an address that lacks what is documented as mandatory.
	WarnLength WarningKind = "length"
	// WarnMarkup: a text that looks like HTML. https://docs.klarna.com/api/data-types
	WarnMarkup WarningKind = "markup"
	// WarnSubscriptionName: a subscription's name that does not have {{subscription_id}} in it, by which Klarna groups orders.
	WarnSubscriptionName WarningKind = "subscription_name"
	// WarnMerchantName: the merchant's name in a subscription's name, which Klarna's guide advises against.
	WarnMerchantName WarningKind = "merchant_name"
	// WarnReference: no merchant_reference1, or one by which a settlement row does not find its renewal.
	WarnReference WarningKind = "reference"
	// WarnAutoCapture: the money needs a capture of its own.
	WarnAutoCapture WarningKind = "auto_capture"
	// WarnMarket: currency, country and locale that do not go together, or not as ISO writes them. Klarna's schema has no country
	// and no locale, its samples do.
	WarnMarket WarningKind = "market"
	// WarnSum: the captured_amount of a capture is not the sum of its lines.
	WarnSum WarningKind = "sum"
)

// WarningKinds returns all of them.
func WarningKinds() []WarningKind {
	return []WarningKind{
		WarnRoundedUnit, WarnTaxSum, WarnNegativeLine, WarnOneOff, WarnMixedCadences, WarnNull, WarnNumber, WarnFraction, WarnLength, WarnMarkup,
		WarnSubscriptionName, WarnMerchantName, WarnReference, WarnAutoCapture, WarnMarket, WarnSum,
	}
}

// Rules are what an account says of its orders. The zero value is the strictest.
type Rules struct {
	// MixedCadences lets an order recur in several ways at once. Klarna's guide asks for one order per product then.
	MixedCadences bool
	// MerchantName should not be in a subscription's name; "" is not looked for.
	MerchantName string
}

// null reads null in place of an optional field, and says whether it was there.
func (s *scanner) null() bool {
	if s.next() != 'n' {
		return false
	}
	if s.literal("null"); s.broken == "" {
		s.warning(WarnNull, "found null, expected the field to be left out")
	}
	return true
}

// optionalText reads a text that may be null, or of another length than least to most characters; nil where there is none.
func (s *scanner) optionalText(least, most int) []byte {
	if s.null() {
		return nil
	}
	text, ok := s.str()
	if !ok {
		return nil
	}
	if n := runes(text); n < least || n > most {
		s.warning(WarnLength, "found %d characters, expected %d to %d", n, least, most)
	}
	s.markup(text)
	return text
}

// reference reads a text by which something is found again, or a number in its place.
func (s *scanner) reference(most int) []byte {
	if c := s.next(); c != '-' && (c < '0' || c > '9') {
		return s.optionalText(0, most)
	}
	text := s.number()
	if s.broken == "" {
		s.warning(WarnNumber, "found a number, expected a string")
	}
	return text
}

// https://docs.klarna.com/api/data-types
func (s *scanner) markup(text []byte) {
	if i := bytes.IndexByte(text, '<'); i >= 0 && bytes.IndexByte(text[i:], '>') > 0 {
		s.warning(WarnMarkup, "found what looks like HTML, which Klarna may refuse")
	}
}

// whole returns the integer that is written with a fraction or an exponent: 1999.0, 2e3.
func whole(text []byte) (n int64, ok bool) {
	if len(text) > 64 || !bytes.ContainsAny(text, ".eE") {
		return 0, false
	}
	if _, exponent, has := strings.Cut(strings.ToLower(string(text)), "e"); has && len(strings.TrimLeft(exponent, "+-0")) > 2 {
		return 0, false // it would take memory
	}
	r, ok := new(big.Rat).SetString(string(text))
	if !ok || !r.IsInt() || !r.Num().IsInt64() {
		return 0, false
	}
	return r.Num().Int64(), true
}

// grouped warns where a subscription's name on one of the lines names another subscription.
func (s *scanner) grouped(lines string, as SubscriptionID) {
	for _, found := range s.groups {
		if found.id != nil && string(found.id) != string(as) {
			s.warningAt(WarnSubscriptionName, fmt.Sprintf("%s[%d].subscription.name", lines, found.line),
				"found %s between its braces, expected the subscription_id, by which Klarna groups a subscription's orders", quote(found.id))
		}
	}
}

// context warns of what only the whole job shows.
func (s *scanner) context(r *Reading) {
	j := &r.Job
	s.grouped("order.order_lines", j.SubscriptionID)
	reference := r.Facts.MerchantReference1
	if reference == "" || j.Period == "" || j.ID == "" || strings.Contains(reference, string(j.Period)) || strings.Contains(reference, string(j.ID)) {
		return
	}
	s.warningAt(WarnReference, "order.merchant_reference1", "found neither the period nor the id in it, expected one of them: by it a settlement row finds its renewal")
}
