package messages

// Rules are what an account says of its orders. The zero value is the strictest.
type Rules struct {
	// MixedCadences lets an order recur in several ways at once. Klarna's guide asks for one order per product then.
	MixedCadences bool
	// MerchantName should not be in a subscription's name; "" is not looked for.
	MerchantName string
}
