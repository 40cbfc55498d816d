package messages

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// The limits of Klarna's createOrder on a customer token; the smaller where its pages differ.
// https://docs.klarna.com/klarna-checkout/popular-use-cases/place-order-token/
const (
	maxLines   = 1000
	maxAmount  = 100_000_000 // of a line, minor units
	maxTaxRate = 1_000_000   // 10,000 %; ours, Klarna has none
)

// line is what the arithmetic needs of one order line. Absent numbers count as 0.
type line struct {
	kind                                                    lineKind
	quantity, unitPrice, total, discount, taxRate, taxTotal int64
	unknown                                                 bool // a number is missing or could not be read
	subscription                                            bool
	cadence                                                 cadence
}

type lineKind uint8

const (
	physical lineKind = iota // also where type is left out
	discount
	shippingFee
	salesTax
	digital
	giftCard
	storeCredit
	surcharge
	lineKinds
)

func (k lineKind) String() string {
	return [lineKinds]string{"physical", "discount", "shipping_fee", "sales_tax", "digital", "gift_card", "store_credit", "surcharge"}[k]
}

// reduces reports whether lines of this kind may take from the amount.
func (k lineKind) reduces() bool { return k == discount || k == giftCard || k == storeCredit }

// order checks Klarna's createOrder body: what Klarna is known to answer 400 to is found here, before a try is spent and a
// key is bound to it, and so is what could charge the wrong thing. The rest is a warning, see [WarningKind]; fields that
// Klarna does not document pass, for Klarna to judge.
func (s *scanner) order() OrderFacts {
	var few [4]line
	lines := few[:0] // not a field of orderFields: few would be moved to the heap
	var o orderFields
	if !s.object(func(name []byte) { lines = s.orderField(&o, lines, name) }) {
		return o.facts
	}
	s.require("purchase_currency", "an ISO 4217 code such as EUR", o.hasCurrency)
	s.require("order_amount", "an integer, minor units", o.hasAmount)
	s.require("order_tax_amount", "an integer, minor units", o.hasTax)
	s.require("order_lines", "an array", o.hasLines)

	if o.linesKnown {
		if sum := sumOf(lines, func(l line) int64 { return l.total }); o.amountKnown && sum != o.facts.Amount {
			s.problemAt(s.at("order_amount"), "found %d, expected %d, the sum of total_amount", o.facts.Amount, sum)
		}
		s.taxes(lines, o.tax, o.taxKnown)
	}
	o.facts.Cadence = shortest(lines).fact()
	if !s.recurring(lines) && len(lines) > 0 {
		s.problemAt(s.at("order_lines"), "found no subscription, expected one on at least one line")
	}

	if o.facts.MerchantReference1 == "" {
		s.warningAt(WarnReference, s.at("merchant_reference1"), "found nothing, expected a reference by which a settlement row finds its renewal")
	}
	if !o.facts.AutoCapture {
		s.warningAt(WarnAutoCapture, s.at("auto_capture"), "found false or nothing, expected true: without it the money needs a capture of its own")
	}
	s.market(o.facts.Currency, o.country, o.locale)
	return o.facts
}

// orderFields is what has been read of an order so far.
type orderFields struct {
	facts                                    OrderFacts
	tax                                      int64
	country, locale                          string
	hasAmount, hasTax, hasCurrency, hasLines bool
	amountKnown, taxKnown, linesKnown        bool
}

// orderField reads the value of one field, and returns the lines with those it has read.
func (s *scanner) orderField(o *orderFields, lines []line, name []byte) []line {
	switch string(name) {
	case "purchase_currency":
		o.hasCurrency = true
		o.facts.Currency = s.currency()
	case "order_amount":
		o.hasAmount = true
		o.facts.Amount, o.amountKnown = s.orderAmount()
	case "order_tax_amount":
		o.hasTax = true
		o.tax, o.taxKnown = s.integer(0, math.MaxInt64)
	case "order_lines":
		o.hasLines = true
		lines, o.linesKnown = s.orderLines(lines, 1)
	case "auto_capture":
		if !s.null() {
			o.facts.AutoCapture, _ = s.boolean()
		}
	case "merchant_reference1":
		o.facts.MerchantReference1 = s.fact(255)
	case "merchant_reference2":
		o.facts.MerchantReference2 = s.fact(255)
	case "merchant_data":
		s.optionalText(0, 6000)
	case "merchant_urls":
		s.merchantURLs()
	case "shipping_address":
		s.address()
	case "attachment":
		s.attachment()
	case "step_up": // refused: it would wait for a customer who is not there
		if !s.null() {
			s.oneOf("NOT_SUPPORTED or nothing, since nobody is present", "NOT_SUPPORTED")
		}
	case "purchase_country":
		o.country = s.country()
	case "locale":
		o.locale = s.locale()
	default:
		s.skip()
	}
	return lines
}

// orderAmount reads the amount, of which Klarna's schema has a minimum of 1. 0 is known all the same: where the lines come to
// nothing as well, nothing is wrong but that there is nothing to charge.
func (s *scanner) orderAmount() (amount int64, known bool) {
	text := s.raw(func() { amount, known = s.integer(1, math.MaxInt64) })
	if !known && len(text) > 0 && (text[0] == '-' || text[0] == '0') {
		n, err := strconv.ParseFloat(string(text), 64)
		s.nothing = err == nil && n == 0
		known = s.nothing
	}
	return amount, known
}

func sumOf(lines []line, of func(line) int64) (sum int64) {
	for _, l := range lines {
		sum += of(l)
	}
	return sum
}

// orderLines appends what it reads, of least lines or more, to lines and reports whether all their numbers are known.
func (s *scanner) orderLines(lines []line, least int) (_ []line, known bool) {
	known = true
	count := 0
	read := s.array(func(i int) {
		if count++; count > maxLines {
			s.skip()
			return
		}
		l, ok := s.orderLine(i)
		lines = append(lines, l)
		known = known && ok && !l.unknown
	})
	if read && (count < least || count > maxLines) {
		s.problem("found %d lines, expected %d to %d", count, least, maxLines)
		known = false
	}
	return lines, known && read
}

func (s *scanner) orderLine(i int) (_ line, ok bool) {
	var l lineFields
	if !s.object(func(name []byte) { s.lineField(&l, i, name) }) {
		return line{unknown: true, subscription: true}, false // what it lacks nobody knows
	}
	s.require("name", "a string", l.hasName)
	s.require("quantity", "an integer", l.hasQuantity)
	s.require("unit_price", "an integer, minor units", l.hasUnitPrice)
	s.require("total_amount", "an integer, minor units", l.hasTotal)
	l.unknown = l.unknown || !l.hasQuantity || !l.hasUnitPrice || !l.hasTotal
	s.lineAmounts(l.line)
	return l.line, true
}

// lineFields is what has been read of a line so far.
type lineFields struct {
	line
	hasName, hasQuantity, hasUnitPrice, hasTotal bool
}

// lineField reads the value of one field of line i.
func (s *scanner) lineField(l *lineFields, i int, name []byte) {
	switch string(name) {
	case "type":
		if !s.null() {
			l.kind = s.lineKind()
		}
	case "reference":
		s.reference(255)
	case "name":
		l.hasName = true
		s.text(1, 255)
	case "quantity":
		l.hasQuantity = true
		s.lineNumber(l, &l.quantity, 0, math.MaxInt64)
	case "quantity_unit":
		s.optionalText(1, 8)
	case "unit_price":
		l.hasUnitPrice = true
		s.lineNumber(l, &l.unitPrice, -maxAmount, maxAmount)
	case "total_amount":
		l.hasTotal = true
		s.lineNumber(l, &l.total, -maxAmount, maxAmount)
	case "total_discount_amount":
		s.optionalLineNumber(l, &l.discount, 0, math.MaxInt64)
	case "tax_rate":
		s.optionalLineNumber(l, &l.taxRate, 0, maxTaxRate)
	case "total_tax_amount":
		s.optionalLineNumber(l, &l.taxTotal, -maxAmount, maxAmount)
	case "merchant_data":
		s.optionalText(0, 255)
	case "product_url", "image_url":
		s.optionalText(0, 1024)
	case "product_identifiers":
		s.productIdentifiers()
	case "subscription":
		if !s.null() {
			l.subscription = true
			l.cadence = s.subscription(i)
		}
	default:
		s.skip()
	}
}

// lineNumber reads a number without which the line's amounts are not known.
func (s *scanner) lineNumber(l *lineFields, n *int64, least, most int64) {
	var ok bool
	if *n, ok = s.integer(least, most); !ok {
		l.unknown = true
	}
}

func (s *scanner) optionalLineNumber(l *lineFields, n *int64, least, most int64) {
	if !s.null() {
		s.lineNumber(l, n, least, most)
	}
}

// lineAmounts checks the signs, and that total_amount = quantity × unit_price − total_discount_amount.
//
// Refused: what takes from the amount and is sold, which Klarna's schema calls non-negative, and a discount that adds
// (https://github.com/medusajs/medusa/pull/216). Fees may be negative, see [WarnNegativeLine]. The product is refused where
// it is off by more than quantity (https://github.com/krokedil/klarna-payments-for-woocommerce/issues/102), else see
// [WarnRoundedUnit].
func (s *scanner) lineAmounts(l line) {
	if !l.kind.reduces() {
		for _, n := range []struct {
			field string
			value int64
		}{{"unit_price", l.unitPrice}, {"total_amount", l.total}, {"total_tax_amount", l.taxTotal}} {
			switch {
			case n.value >= 0:
			case l.kind == surcharge || l.kind == shippingFee:
				s.warningAt(WarnNegativeLine, s.at(n.field), "found %d on a %s line, expected a discount line", n.value, l.kind)
			default:
				s.problemAt(s.at(n.field), "found %d, expected 0 or more on a %s line", n.value, l.kind)
			}
		}
	}
	if l.kind == discount && l.total > 0 {
		s.problemAt(s.at("total_amount"), "found %d, expected 0 or less on a discount line: this one would add", l.total)
	}
	if l.unknown {
		return
	}
	const expected = "found %d, expected %d = %d × %d - %d"
	tolerance := min(l.quantity, maxAmount)
	switch total, ok := lineTotal(l.quantity, l.unitPrice, l.discount); {
	case !ok:
		s.problemAt(s.at("total_amount"), "found %d, but quantity × unit_price - total_discount_amount needs more than 64 bits", l.total)
	case total < l.total-tolerance || total > l.total+tolerance:
		s.problemAt(s.at("total_amount"), expected, l.total, total, l.quantity, l.unitPrice, l.discount)
	case total != l.total:
		s.warningAt(WarnRoundedUnit, s.at("total_amount"), expected, l.total, total, l.quantity, l.unitPrice, l.discount)
	}
}

// lineTotal is quantity × price − off, with quantity and off not negative; ok is false where that overflows.
func lineTotal(quantity, price, off int64) (total int64, ok bool) {
	high, low := bits.Mul64(uint64(quantity), uint64(max(price, -price)))
	if high != 0 || low > math.MaxInt64 {
		return 0, false
	}
	total = int64(low)
	if price < 0 {
		total = -total
	}
	if total < math.MinInt64+off {
		return 0, false
	}
	return total - off, true
}

// taxes checks the tax of lines and order. Where an order carries US sales tax, that is a line of its own and no other
// line has a rate.
// https://docs.klarna.com/payments/web-payments/additional-resources/error-handling-and-validations/tax-handling.md
//
// Tax that is off by more is refused, with the expected value in the message:
// https://github.com/umbraco/Umbraco.Commerce.Issues/issues/826,
// https://github.com/krokedil/klarna-payments-for-woocommerce/issues/169.
//
// That page also words the tolerance as one on the rate, which its own example breaks; the one on the amount is what
// Klarna's schema says.
func (s *scanner) taxes(lines []line, tax int64, taxKnown bool) {
	us := false
	for _, l := range lines {
		us = us || l.kind == salesTax
	}
	sum := sumOf(lines, func(l line) int64 {
		switch {
		case !us:
			return l.taxTotal
		case l.kind == salesTax:
			return l.total
		}
		return 0
	})
	for i, l := range lines {
		switch want := lineTax(l.total, l.taxRate); {
		case us && l.taxRate != 0:
			s.problemAt(s.atLine(i, "tax_rate"), "found %d, expected none in an order with a sales_tax line", l.taxRate)
		case !us && (l.taxTotal < want-1 || l.taxTotal > want+1):
			s.problemAt(s.atLine(i, "total_tax_amount"), "found %d, expected %d, give or take 1, for a tax_rate of %d", l.taxTotal, want, l.taxRate)
		}
	}
	if !taxKnown {
		return
	}
	of := "total_tax_amount"
	if us {
		of = "total_amount of the sales_tax lines"
	}
	n := int64(len(lines))
	switch off := tax - sum; {
	case off < -n || off > n:
		s.problemAt(s.at("order_tax_amount"), "found %d, expected %d, the sum of %s, give or take %d", tax, sum, of, n)
	case off != 0:
		s.warningAt(WarnTaxSum, s.at("order_tax_amount"), "found %d, expected %d, the sum of %s", tax, sum, of)
	}
}

// lineTax is total − total × 10000 / (10000 + rate), rounded half up. Neither overflows within the limits of a line.
func lineTax(total, rate int64) int64 {
	parts, whole := 2*total*rate+10000+rate, 2*(10000+rate)
	tax := parts / whole
	if parts%whole < 0 {
		tax--
	}
	return tax
}

// recurring checks that what recurs does so at one cadence: Klarna's guide asks for one order per product where cadences
// differ. It reports whether anything recurs.
func (s *scanner) recurring(lines []line) (recurs bool) {
	first := -1
	for i, l := range lines {
		switch {
		case l.cadence == cadence{}:
		case first < 0:
			first = i
		case l.cadence != lines[first].cadence && s.rules.MixedCadences:
			s.warningAt(WarnMixedCadences, s.atLine(i, "subscription"), "found %s, expected %s as in order_lines[%d]", l.cadence, lines[first].cadence, first)
		case l.cadence != lines[first].cadence:
			s.problemAt(s.atLine(i, "subscription"), "found %s, expected %s as in order_lines[%d]: one cadence per order", l.cadence, lines[first].cadence, first)
		}
		recurs = recurs || l.subscription // be it unreadable
	}
	for i, l := range lines {
		if recurs && !l.subscription && l.sold() {
			s.warningAt(WarnOneOff, s.atLine(i, "subscription"), "found nothing on a %s line, expected an object on every physical or digital one that recurs", l.kind)
		}
	}
	return recurs
}

// shortest is the cadence by which something of an order is paid again first.
func shortest(lines []line) (least cadence) {
	for _, l := range lines {
		if l.cadence.count > 0 && (least.count == 0 || daysOf[l.cadence.interval]*l.cadence.count < daysOf[least.interval]*least.count) {
			least = l.cadence
		}
	}
	return least
}

// sold reports whether a line is a product, which may recur.
func (l line) sold() bool { return !l.unknown && (l.kind == physical || l.kind == digital) }

// atLine is the path of a field of the i-th line, while order is being read.
func (s *scanner) atLine(i int, field string) string {
	return fmt.Sprintf("%s[%d].%s", s.at("order_lines"), i, field)
}

func (s *scanner) subscription(line int) (c cadence) {
	var hasName, hasInterval, hasCount bool
	read := s.object(func(name []byte) {
		switch string(name) {
		case "name":
			hasName = true
			s.subscriptionName(line)
		case "interval":
			hasInterval = true
			c.interval = s.oneOf("DAY, WEEK, MONTH or YEAR", "DAY", "WEEK", "MONTH", "YEAR")
		case "interval_count":
			hasCount = true
			c.count, _ = s.integer(1, math.MaxInt32)
		default:
			s.skip()
		}
	})
	if !read {
		return cadence{}
	}
	s.require("name", "a string", hasName)
	s.require("interval", "DAY, WEEK, MONTH or YEAR", hasInterval)
	s.require("interval_count", "an integer from 1", hasCount)
	if c.interval == "" || c.count == 0 {
		return cadence{}
	}
	return c
}

// subscriptionName reads a name, of which Klarna recommends a form: Premium Monthly {{1234834}}, without the merchant's name.
// Its length is documented for other calls only.
func (s *scanner) subscriptionName(line int) {
	name, ok := s.bounded(1, math.MaxInt)
	if !ok {
		return
	}
	if n := runes(name); n > 255 {
		s.warning(WarnLength, "found %d characters, expected 1 to 255", n)
	}
	_, rest, _ := bytes.Cut(name, []byte("{{"))
	id, _, closed := bytes.Cut(rest, []byte("}}"))
	if !closed || len(id) == 0 {
		s.warning(WarnSubscriptionName, "found no {{id}} in it, expected one, by which Klarna groups a subscription's orders")
	} else if s.groups[0].id == nil {
		s.groups[0] = group{id, line}
	} else if !bytes.Equal(s.groups[0].id, id) {
		s.groups[1] = group{id, line}
	}
	if m := s.rules.MerchantName; m != "" && strings.Contains(strings.ToLower(string(name)), strings.ToLower(m)) {
		s.warning(WarnMerchantName, "found the merchant's name in it, expected none: Klarna shows it beside the name")
	}
}

func (s *scanner) productIdentifiers() {
	if s.null() {
		return
	}
	s.object(func(name []byte) {
		switch string(name) {
		case "brand", "manufacturer_part_number":
			s.optionalText(0, 70)
		case "category_path":
			s.optionalText(0, 750)
		case "global_trade_item_number":
			s.optionalText(0, 50)
		case "color", "size":
			s.optionalText(0, 64)
		default:
			s.skip()
		}
	})
}

func (s *scanner) merchantURLs() {
	hasConfirmation := false
	if s.null() {
		return
	}
	if s.object(func(name []byte) {
		switch string(name) {
		case "confirmation":
			hasConfirmation = true
			s.text(0, 2000)
		case "push":
			s.optionalText(0, 2000)
		default:
			s.skip()
		}
	}) {
		s.require("confirmation", "a string", hasConfirmation)
	}
}

func (s *scanner) attachment() {
	var hasBody, hasType bool
	if s.null() {
		return
	}
	if s.object(func(name []byte) {
		switch string(name) {
		case "body":
			hasBody = true
			s.str()
		case "content_type":
			hasType = true
			s.str()
		default:
			s.skip()
		}
	}) {
		s.require("body", "a string", hasBody)
		s.require("content_type", "a string", hasType)
	}
}

func (s *scanner) address() {
	var country string
	var hasRegion bool
	if s.null() {
		return
	}
	if s.object(func(name []byte) {
		switch string(name) {
		case "attention", "city", "email", "family_name", "given_name", "organization_name", "street_address", "street_address2":
			s.optionalText(0, 99)
		case "region":
			hasRegion = len(s.optionalText(0, 99)) > 0
		case "phone":
			s.optionalText(5, 99)
		case "postal_code":
			s.optionalText(0, 10)
		case "title":
			s.optionalText(0, 20)
		case "country":
			country = s.country()
		default:
			s.skip()
		}
	}) && (country == "US" || country == "AU") && !hasRegion {
		s.warningAt(WarnLength, s.at("region"), "found nothing, expected a string in an address in %s", country)
	}
}

func (s *scanner) lineKind() lineKind {
	text, ok := s.str()
	if !ok {
		return physical
	}
	for k := range lineKinds {
		if k.String() == string(text) {
			return k
		}
	}
	s.problem("found %s, expected physical, digital, discount, shipping_fee, sales_tax, gift_card, store_credit or surcharge", quote(text))
	return physical
}

// text reads a string of least to most characters; nil where there is none.
func (s *scanner) text(least, most int) []byte {
	if text, ok := s.bounded(least, most); ok {
		return text
	}
	return nil
}

// bounded is text that returns a string that is too short or too long as well; ok is false then.
func (s *scanner) bounded(least, most int) (_ []byte, ok bool) {
	text, ok := s.str()
	if !ok {
		return nil, false
	}
	if n := runes(text); n < least || n > most {
		s.problem("found %d characters, expected %d to %d", n, least, most)
		return text, false
	}
	if least == 1 && len(bytes.TrimSpace(text)) == 0 {
		s.problem("found nothing but spaces, expected %d to %d characters", least, most)
		return text, false
	}
	s.markup(text)
	return text, true
}

func (s *scanner) oneOf(expected string, allowed ...string) string {
	text, ok := s.str()
	if !ok {
		return ""
	}
	for _, a := range allowed {
		if a == string(text) {
			return a
		}
	}
	s.problem("found %s, expected %s", quote(text), expected)
	return ""
}

// currency reads an ISO 4217 code; "" where it is none.
func (s *scanner) currency() string {
	text, ok := s.str()
	if !ok {
		return ""
	}
	upper := strings.ToUpper(string(text))
	if _, ok := MinorUnits(upper); !ok {
		s.problem("found %s, expected an ISO 4217 code such as EUR", quote(text))
		return ""
	}
	if upper != string(text) {
		s.warning(WarnMarket, "found %s, expected upper case", quote(text))
	}
	return string(text)
}

// OrderFacts is what results repeat of the order; a field that could not be read is zero.
type OrderFacts struct {
	Amount             int64 // minor units
	Currency           string
	MerchantReference1 string
	MerchantReference2 string
	AutoCapture        bool
	// Cadence is the shortest of the lines: an account may allow several.
	Cadence Cadence
}
