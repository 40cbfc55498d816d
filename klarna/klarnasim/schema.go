package klarnasim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// The request body of createOrder as Klarna's OpenAPI document has it, and the arithmetic of its tax page. What is not in
// the schema passes, as it does at Klarna.
// https://docs.klarna.com/payments/web-payments/additional-resources/error-handling-and-validations/tax-handling

type orderBody struct {
	PurchaseCurrency   *string     `json:"purchase_currency"`
	OrderAmount        *int64      `json:"order_amount"`
	OrderTaxAmount     *int64      `json:"order_tax_amount"`
	OrderLines         []orderLine `json:"order_lines"`
	AutoCapture        bool        `json:"auto_capture"`
	MerchantReference1 string      `json:"merchant_reference1"`
	MerchantReference2 string      `json:"merchant_reference2"`
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
	Type                *string `json:"type"`
	Reference           string  `json:"reference"`
	Name                *string `json:"name"`
	Quantity            *int64  `json:"quantity"`
	QuantityUnit        *string `json:"quantity_unit"`
	UnitPrice           *int64  `json:"unit_price"`
	TaxRate             int64   `json:"tax_rate"`
	TotalAmount         *int64  `json:"total_amount"`
	TotalDiscountAmount int64   `json:"total_discount_amount"`
	TotalTaxAmount      int64   `json:"total_tax_amount"`
	MerchantData        string  `json:"merchant_data"`
	ProductURL          string  `json:"product_url"`
	ImageURL            string  `json:"image_url"`
	ProductIdentifiers  *struct {
		Brand                  string `json:"brand"`
		CategoryPath           string `json:"category_path"`
		GlobalTradeItemNumber  string `json:"global_trade_item_number"`
		ManufacturerPartNumber string `json:"manufacturer_part_number"`
		Color                  string `json:"color"`
		Size                   string `json:"size"`
	} `json:"product_identifiers"`
	Subscription *struct {
		Name          *string `json:"name"`
		Interval      *string `json:"interval"`
		IntervalCount *int64  `json:"interval_count"`
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
func readOrder(body []byte) (*order, []string) {
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
	c.check(atMost(b.MerchantReference1, 255), "merchant_reference1")
	c.check(atMost(b.MerchantReference2, 255), "merchant_reference2")
	c.check(atMost(b.MerchantData, 6000), "merchant_data")
	if u := b.MerchantURLs; u != nil {
		c.check(u.Confirmation != nil && atMost(*u.Confirmation, 2000), "merchant_urls.confirmation")
		c.check(atMost(u.Push, 2000), "merchant_urls.push")
	}
	if a := b.Attachment; a != nil {
		c.check(a.Body != nil, "attachment.body")
		c.check(a.ContentType != nil, "attachment.content_type")
	}
	if b.ShippingAddress != nil {
		b.ShippingAddress.check(&c)
	}
	salesTax := slices.ContainsFunc(b.OrderLines, orderLine.isSalesTax)
	for i := range b.OrderLines {
		if complaint := b.OrderLines[i].check(salesTax); complaint != "" {
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
		currency: [3]byte([]byte(*b.PurchaseCurrency)), amount: *b.OrderAmount, autoCapture: b.AutoCapture,
		reference1: b.MerchantReference1, reference2: b.MerchantReference2,
	}, nil
}

// checkSums checks the order against its lines. US orders carry their tax in lines of their own.
func (b *orderBody) checkSums(c *complaints, salesTax bool) {
	var total, tax int64
	for _, l := range b.OrderLines {
		total += *l.TotalAmount
		switch {
		case l.isSalesTax():
			tax += *l.TotalAmount
		case !salesTax:
			tax += l.TotalTaxAmount
		}
	}
	c.check(*b.OrderAmount == total, "order_amount")
	c.check(within(*b.OrderTaxAmount, tax, int64(len(b.OrderLines))), "order_tax_amount")
}

func (l orderLine) isSalesTax() bool { return l.Type != nil && *l.Type == "sales_tax" }

// check returns the name of the first field that is wrong, or "".
func (l *orderLine) check(salesTax bool) string {
	inside := func(amount int64) bool { return amount <= maxAmount && amount >= -maxAmount }
	switch {
	case l.Type != nil && !lineType(*l.Type):
		return "type"
	case l.Name == nil || *l.Name == "" || !atMost(*l.Name, 255):
		return "name"
	case !atMost(l.Reference, 256):
		return "reference"
	case l.Quantity == nil || *l.Quantity < 0:
		return "quantity"
	case l.QuantityUnit != nil && (*l.QuantityUnit == "" || !atMost(*l.QuantityUnit, 8)):
		return "quantity_unit"
	case l.UnitPrice == nil || !inside(*l.UnitPrice):
		return "unit_price"
	case l.TaxRate < 0 || l.TaxRate > math.MaxInt32 || salesTax && l.TaxRate != 0:
		return "tax_rate"
	case l.TotalDiscountAmount < 0:
		return "total_discount_amount"
	case l.TotalAmount == nil || !inside(*l.TotalAmount) || !product(*l.Quantity, *l.UnitPrice, l.TotalDiscountAmount, *l.TotalAmount):
		return "total_amount"
	case !inside(l.TotalTaxAmount), !salesTax && !within(l.TotalTaxAmount, includedTax(*l.TotalAmount, l.TaxRate), 1):
		return "total_tax_amount"
	case !atMost(l.MerchantData, 255):
		return "merchant_data"
	case !atMost(l.ProductURL, 1024):
		return "product_url"
	case !atMost(l.ImageURL, 1024):
		return "image_url"
	}
	if p := l.ProductIdentifiers; p != nil {
		switch {
		case !atMost(p.Brand, 70):
			return "product_identifiers.brand"
		case !atMost(p.CategoryPath, 750):
			return "product_identifiers.category_path"
		case !atMost(p.GlobalTradeItemNumber, 50):
			return "product_identifiers.global_trade_item_number"
		case !atMost(p.ManufacturerPartNumber, 70):
			return "product_identifiers.manufacturer_part_number"
		case !atMost(p.Color, 64):
			return "product_identifiers.color"
		case !atMost(p.Size, 64):
			return "product_identifiers.size"
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

// product says whether total is quantity × price − discount, without overflow.
func product(quantity, price, discount, total int64) bool {
	high, low := bits.Mul64(uint64(quantity), magnitude(price))
	if high != 0 || low > math.MaxInt64/2 || discount > math.MaxInt64/2 {
		return false
	}
	gross := int64(low)
	if price < 0 {
		gross = -gross
	}
	return gross-discount == total
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
