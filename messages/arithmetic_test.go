package messages

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestLineTax(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name              string
		total, rate, want int64
	}{
		{name: "19 % in 15.99", total: 1599, rate: 1900, want: 255},
		{name: "25 % in 99.00, the half away from nothing", total: 9900, rate: 2500, want: 1980},
		{name: "exactly a half goes up", total: 3, rate: 2000, want: 1}, // 0.5
		{name: "exactly a half goes up below zero as well", total: -3, rate: 2000},
		{name: "a discount", total: -200, rate: 1900, want: -32},
		{name: "no rate", total: 1599},
		{name: "nothing", rate: 2500},
		{name: "Klarna's example", total: 2900, rate: 2000, want: 483},
		{name: "the limits", total: maxAmount, rate: maxTaxRate, want: 99009901},
	} {
		if got := lineTax(row.total, row.rate); got != row.want {
			t.Errorf("%s: got %d, want %d", row.name, got, row.want)
		}
	}
}

// The formula as Klarna's schema writes it, in rational numbers.
func TestLineTaxIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Int64Range(-maxAmount, maxAmount).Draw(t, "total")
		rate := rapid.Int64Range(0, maxTaxRate).Draw(t, "rate")
		tax := new(big.Rat).SetFrac64(total*10000, 10000+rate)
		tax.Sub(new(big.Rat).SetInt64(total), tax).Add(tax, big.NewRat(1, 2))
		want := new(big.Int).Div(tax.Num(), tax.Denom()).Int64() // Euclidean, which is floor for a positive divisor
		if got := lineTax(total, rate); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
}

func TestLineTotalNeverWraps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		quantity := rapid.Int64Range(0, math.MaxInt64).Draw(t, "quantity")
		price := rapid.Int64Range(-maxAmount, maxAmount).Draw(t, "price")
		off := rapid.Int64Range(0, math.MaxInt64).Draw(t, "off")
		product := new(big.Int).Mul(big.NewInt(quantity), big.NewInt(price))
		want := new(big.Int).Sub(product, big.NewInt(off))
		got, ok := lineTotal(quantity, price, off)
		if ok && got != want.Int64() {
			t.Fatalf("got %d, want %s", got, want)
		}
		if fits := product.IsInt64() && want.IsInt64() && product.Int64() != math.MinInt64; ok != fits {
			t.Fatalf("got ok %v for %s - %d, want %v", ok, product, off, fits)
		}
	})
}
