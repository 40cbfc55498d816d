package klarnasim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The request body of createOrder as Klarna's OpenAPI document has it, and the arithmetic of its tax page. What is not in
// the schema passes, as it does at Klarna. So does what live integrations send against the schema: see integer, words and
// product. Lengths of optional texts are checked with [Options.StrictSchema] only.
// https://docs.klarna.com/payments/web-payments/additional-resources/error-handling-and-validations/tax-handling

// integer is a whole number. One with a fraction is cut, as Klarna does: a quantity of 0.5 is 0, and refused for its total.
// https://github.com/krokedil/klarna-payments-for-woocommerce/issues/102
type integer int64

func (n *integer) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	if exact, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		*n = integer(exact)
		return nil
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || f < -1<<62 || f > 1<<62 {
		return &json.UnmarshalTypeError{Value: "number", Type: reflect.TypeFor[int64]()}
	}
	*n = integer(f)
	return nil
}

// words are a reference: a string, or a number, as every renewal of two live integrations has it.
// https://github.com/krokedil/klarna-checkout-for-woocommerce
type words string

func (w *words) UnmarshalJSON(text []byte) error {
	var number json.Number
	if text[0] != '"' && string(text) != "null" && json.Unmarshal(text, &number) == nil {
		*w = words(number)
		return nil
	}
	return json.Unmarshal(text, (*string)(w))
}

type orderBody struct {
	PurchaseCurrency   *string     `json:"purchase_currency"`
	OrderAmount        *integer    `json:"order_amount"`
	OrderTaxAmount     *integer    `json:"order_tax_amount"`
	OrderLines         []orderLine `json:"order_lines"`
	AutoCapture        bool        `json:"auto_capture"`
	MerchantReference1 words       `json:"merchant_reference1"`
	MerchantReference2 words       `json:"merchant_reference2"`
	MerchantData       string      `json:"merchant_data"`
	MerchantURLs       *struct {
		Confirmation *string `json:"confirmation"`
		Push         string  `json:"push"`
	} `json:"merchant_urls"`
	ShippingAddress *address `json:"shipping_address"`
	Attachment      *struct {
		Body        *string `json:"body"`
		ContentType *string `json:"content_type"`
	} `json:"attachment"`
}

type orderLine struct {
	Type                *string  `json:"type"`
	Reference           words    `json:"reference"`
	Name                *string  `json:"name"`
	Quantity            *integer `json:"quantity"`
	QuantityUnit        *string  `json:"quantity_unit"`
	UnitPrice           *integer `json:"unit_price"`
	TaxRate             integer  `json:"tax_rate"`
	TotalAmount         *integer `json:"total_amount"`
	TotalDiscountAmount integer  `json:"total_discount_amount"`
	TotalTaxAmount      integer  `json:"total_tax_amount"`
	MerchantData        string   `json:"merchant_data"`
	ProductURL          string   `json:"product_url"`
	ImageURL            string   `json:"image_url"`
	ProductIdentifiers  *struct {
		Brand                  string `json:"brand"`
		CategoryPath           string `json:"category_path"`
		GlobalTradeItemNumber  string `json:"global_trade_item_number"`
		ManufacturerPartNumber string `json:"manufacturer_part_number"`
		Color                  string `json:"color"`
		Size                   string `json:"size"`
	} `json:"product_identifiers"`
	Subscription *struct {
		Name          *string  `json:"name"`
		Interval      *string  `json:"interval"`
		IntervalCount *integer `json:"interval_count"`
	} `json:"subscription"`
}

type address struct {
	Attention        string  `json:"attention"`
	City             string  `json:"city"`
	Country          *string `json:"country"`
	Email            string  `json:"email"`
	FamilyName       string  `json:"family_name"`
	GivenName        string  `json:"given_name"`
	OrganizationName string  `json:"organization_name"`
	Phone            *string `json:"phone"`
	PostalCode       string  `json:"postal_code"`
	Region           string  `json:"region"`
	StreetAddress    string  `json:"street_address"`
	StreetAddress2   string  `json:"street_address2"`
	Title            string  `json:"title"`
}

const maxAmount = 100_000_000 // of a line

// complaints collects the paths of bad values.
type complaints []string

func (c *complaints) check(ok bool, path string) {
	if !ok {
		*c = append(*c, "Bad value: "+path)
	}
}

// readOrder reads and checks a body. The problems are Klarna's messages; without any there is an order.
func readOrder(body []byte, strict bool) (*order, []string) {
	var b orderBody
	if err := json.Unmarshal(body, &b); err != nil {
		var wrongType *json.UnmarshalTypeError
		if errors.As(err, &wrongType) && wrongType.Field != "" {
			return nil, []string{"Bad value: " + wrongType.Field}
		}
		return nil, []string{"Bad value: body"}
	}
	var c complaints
	c.check(b.PurchaseCurrency != nil && letters(*b.PurchaseCurrency, 3), "purchase_currency")
	c.check(b.OrderAmount != nil && *b.OrderAmount >= 1, "order_amount")
	c.check(b.OrderTaxAmount != nil && *b.OrderTaxAmount >= 0, "order_tax_amount")
	c.check(len(b.OrderLines) >= 1 && len(b.OrderLines) <= 1000, "order_lines")
	if strict {
		b.checkLengths(&c)
	}
	if u := b.MerchantURLs; u != nil {
		c.check(u.Confirmation != nil && atMost(*u.Confirmation, 2000), "merchant_urls.confirmation")
	}
	if a := b.Attachment; a != nil {
		c.check(a.Body != nil, "attachment.body")
		c.check(a.ContentType != nil, "attachment.content_type")
	}
	salesTax := slices.ContainsFunc(b.OrderLines, orderLine.isSalesTax)
	for i := range b.OrderLines {
		if complaint := b.OrderLines[i].check(salesTax, strict); complaint != "" {
			c.check(false, fmt.Sprintf("order_lines[%d].%s", i, complaint))
		}
	}
	if len(c) == 0 {
		b.checkSums(&c, salesTax)
	}
	if len(c) > 0 {
		return nil, c
	}
	return &order{
		currency: [3]byte([]byte(*b.PurchaseCurrency)), amount: int64(*b.OrderAmount), autoCapture: b.AutoCapture,
		reference1: string(b.MerchantReference1), reference2: string(b.MerchantReference2),
	}, nil
}

// checkLengths checks optional texts.
func (b *orderBody) checkLengths(c *complaints) {
	c.check(atMost(string(b.MerchantReference1), 255), "merchant_reference1")
	c.check(atMost(string(b.MerchantReference2), 255), "merchant_reference2")
	c.check(atMost(b.MerchantData, 6000), "merchant_data")
	if u := b.MerchantURLs; u != nil {
		c.check(atMost(u.Push, 2000), "merchant_urls.push")
	}
	if b.ShippingAddress != nil {
		b.ShippingAddress.check(c)
	}
}

// checkSums checks the order against its lines. US orders carry their tax in lines of their own.
func (b *orderBody) checkSums(c *complaints, salesTax bool) {
	var total, tax int64
	for _, l := range b.OrderLines {
		total += int64(*l.TotalAmount)
		switch {
		case l.isSalesTax():
			tax += int64(*l.TotalAmount)
		case !salesTax:
			tax += int64(l.TotalTaxAmount)
		}
	}
	c.check(int64(*b.OrderAmount) == total, "order_amount")
	c.check(within(int64(*b.OrderTaxAmount), tax, int64(len(b.OrderLines))), "order_tax_amount")
}

func (l orderLine) isSalesTax() bool { return l.Type != nil && *l.Type == "sales_tax" }

// check returns the name of the first field that is wrong, or "".
func (l *orderLine) check(salesTax, strict bool) string {
	inside := func(amount integer) bool { return amount <= maxAmount && amount >= -maxAmount }
	switch {
	case l.Type != nil && !lineType(*l.Type):
		return "type"
	case l.Name == nil || *l.Name == "" || !atMost(*l.Name, 255):
		return "name"
	case l.Quantity == nil || *l.Quantity < 0:
		return "quantity"
	case l.UnitPrice == nil || !inside(*l.UnitPrice):
		return "unit_price"
	case l.TaxRate < 0 || l.TaxRate > math.MaxInt32 || salesTax && l.TaxRate != 0:
		return "tax_rate"
	case l.TotalDiscountAmount < 0:
		return "total_discount_amount"
	case l.TotalAmount == nil || !inside(*l.TotalAmount) || !l.product(strict) || l.adds():
		return "total_amount"
	case !inside(l.TotalTaxAmount), !salesTax && !within(int64(l.TotalTaxAmount), includedTax(int64(*l.TotalAmount), int64(l.TaxRate)), 1):
		return "total_tax_amount"
	}
	if strict {
		if field := l.tooLong(); field != "" {
			return field
		}
	}
	if s := l.Subscription; s != nil {
		switch {
		case s.Name == nil:
			return "subscription.name"
		case s.Interval == nil || !interval(*s.Interval):
			return "subscription.interval"
		case s.IntervalCount == nil || *s.IntervalCount < 1:
			return "subscription.interval_count"
		}
	}
	return ""
}

// adds says that a discount does not take off: https://github.com/medusajs/medusa/pull/216
func (l *orderLine) adds() bool { return l.Type != nil && *l.Type == "discount" && *l.TotalAmount > 0 }

// tooLong returns the name of the first optional text that is not as long as it may be, or "".
func (l *orderLine) tooLong() string {
	if l.QuantityUnit != nil && *l.QuantityUnit == "" {
		return "quantity_unit"
	}
	unit := ""
	if l.QuantityUnit != nil {
		unit = *l.QuantityUnit
	}
	type text struct {
		name, value string
		most        int
	}
	texts := []text{
		{"reference", string(l.Reference), 256}, {"quantity_unit", unit, 8}, {"merchant_data", l.MerchantData, 255},
		{"product_url", l.ProductURL, 1024}, {"image_url", l.ImageURL, 1024},
	}
	if p := l.ProductIdentifiers; p != nil {
		texts = append(texts, text{"product_identifiers.brand", p.Brand, 70}, text{"product_identifiers.category_path", p.CategoryPath, 750},
			text{"product_identifiers.global_trade_item_number", p.GlobalTradeItemNumber, 50},
			text{"product_identifiers.manufacturer_part_number", p.ManufacturerPartNumber, 70},
			text{"product_identifiers.color", p.Color, 64}, text{"product_identifiers.size", p.Size, 64})
	}
	for _, t := range texts {
		if !atMost(t.value, t.most) {
			return t.name
		}
	}
	return ""
}

func (a *address) check(c *complaints) {
	for _, field := range [...]struct {
		name, value string
		most        int
	}{
		{"attention", a.Attention, 99}, {"city", a.City, 99}, {"email", a.Email, 99}, {"family_name", a.FamilyName, 99},
		{"given_name", a.GivenName, 99}, {"organization_name", a.OrganizationName, 99}, {"postal_code", a.PostalCode, 10},
		{"region", a.Region, 99}, {"street_address", a.StreetAddress, 99}, {"street_address2", a.StreetAddress2, 99},
		{"title", a.Title, 20},
	} {
		c.check(atMost(field.value, field.most), "shipping_address."+field.name)
	}
	c.check(a.Country == nil || letters(*a.Country, 2), "shipping_address.country")
	c.check(a.Phone == nil || utf8.RuneCountInString(*a.Phone) >= 5 && atMost(*a.Phone, 99), "shipping_address.phone")
}

func lineType(s string) bool {
	switch s {
	case "physical", "discount", "shipping_fee", "sales_tax", "digital", "gift_card", "store_credit", "surcharge":
		return true
	}
	return false
}

func interval(s string) bool {
	switch s {
	case "DAY", "WEEK", "MONTH", "YEAR":
		return true
	}
	return false
}

// includedTax is the tax in total at rate, in hundredths of a percent: total − total × 10000 / (10000 + rate), the
// quotient rounded half up.
func includedTax(total, rate int64) int64 {
	numerator, denominator := 2*total*10000+10000+rate, 2*(10000+rate)
	net := numerator / denominator
	if numerator%denominator < 0 {
		net--
	}
	return total - net
}

// product says whether the total is quantity × price − discount, without overflow, or off by at most the quantity, as where
// the price was rounded from the total: Klarna's own SDK grants that, its schema of 2026 does not say.
// https://github.com/Klarna/kco_rest_java
func (l *orderLine) product(strict bool) bool {
	high, low := bits.Mul64(uint64(*l.Quantity), magnitude(int64(*l.UnitPrice)))
	if high != 0 || low > math.MaxInt64/2 || l.TotalDiscountAmount > math.MaxInt64/2 {
		return false
	}
	gross := int64(low)
	if *l.UnitPrice < 0 {
		gross = -gross
	}
	tolerance := int64(min(*l.Quantity, maxAmount))
	if strict {
		tolerance = 0
	}
	return within(gross-int64(l.TotalDiscountAmount), int64(*l.TotalAmount), tolerance)
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return uint64(-n)
	}
	return uint64(n)
}

// within compares any got with a want that is far from the ends of int64.
func within(got, want, tolerance int64) bool { return want-tolerance <= got && got <= want+tolerance }

// atMost counts characters, and only where bytes do not decide.
func atMost(s string, n int) bool { return len(s) <= n || utf8.RuneCountInString(s) <= n }

func letters(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}
