package journal

import (
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// TestProvable: evidence settles the charge that it is about, while nobody knows better.
func TestProvable(t *testing.T) {
	unresolved := func(key messages.IdempotencyKey, orderID string) State {
		return State{Phase: PhaseUnresolved, Claim: &Claim{Key: key, OrderID: orderID}}
	}
	paid, capturing := unresolved("key-1", ""), unresolved("key-1", "")
	paid.Phase = PhasePaid
	capturing.Claim.Capture = &Capture{}
	for _, tt := range []struct {
		name  string
		state State
		why   string // "" where it settles
	}{
		{"unresolved", unresolved("key-1", ""), ""},
		{"unresolved, this order known", unresolved("key-1", "order-1"), ""},
		{"unresolved, another order known", unresolved("key-1", "order-2"), "the journal knows of another order: order-2"},
		{"the next attempt is unresolved", unresolved("key-2", ""), "another attempt has followed"},
		{"a capture is unresolved", capturing, "it is paid by now, and what is unresolved is a capture"},
		{"paid", paid, "it is paid by now"},
		{"no record", State{Phase: PhaseNone}, "it is none by now"},
	} {
		why := ""
		if err := tt.state.Provable("key-1", "order-1"); err != nil {
			why = err.Error()
		}
		if why != tt.why {
			t.Errorf("%s: %q, want %q", tt.name, why, tt.why)
		}
	}
}
