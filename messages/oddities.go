package messages

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
