package klarnasim

import (
	"fmt"
	"time"
)

// A Lie makes the settlements differ from what happened to an order. Each order can have one of each kind.
type Lie struct {
	OrderID string  `json:"order_id"`
	Kind    LieKind `json:"lie"`
	// Amount in minor units, of another amount; of what is returned or reversed, 0 means all.
	Amount int64 `json:"amount,omitempty"`
	// Currency of another currency.
	Currency string `json:"currency,omitempty"`
	// Days until what is late, returned or reversed is settled. Default 30 for what is late, else 1.
	Days int `json:"days,omitempty"`
}

// LieKind is how the settlements differ.
type LieKind string

// The kinds. With all but the first the totals of a payout are what its rows add up to.
const (
	RowCut           LieKind = "row_cut"           // the sale is counted, but not among the rows: a report that was cut short
	RowMissing       LieKind = "row_missing"       // the sale is never settled
	RowDoubled       LieKind = "row_doubled"       // the sale is there twice
	OtherAmount      LieKind = "other_amount"      // it has another amount
	OtherCurrency    LieKind = "other_currency"    // it is settled in another currency
	Late             LieKind = "late"              // it is settled days later
	Returned         LieKind = "returned"          // Klarna takes it back, since the customer did not pay
	Reversed         LieKind = "reversed"          // Klarna takes it back after a dispute
	ReferenceMissing LieKind = "reference_missing" // the rows have no merchant references
)

func (l Lie) check() error {
	switch l.Kind {
	case RowCut, RowMissing, RowDoubled, Late, Returned, Reversed, ReferenceMissing:
	case OtherAmount:
		if l.Amount <= 0 {
			return fmt.Errorf("amount: %d, expected another amount in minor units", l.Amount)
		}
	case OtherCurrency:
		if len(l.Currency) != 3 {
			return fmt.Errorf("currency: %q, expected three letters", l.Currency)
		}
	default:
		return fmt.Errorf("lie: %q, expected row_cut, row_missing, row_doubled, other_amount, other_currency, late, returned, reversed or reference_missing", l.Kind)
	}
	return nil
}

// Lie tells the settlements to differ. An error says what is wrong with it, or that there is no such order.
func (s *Simulator) Lie(l Lie) error {
	if err := l.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.order(l.OrderID)
	if o == nil {
		return fmt.Errorf("order_id: %q, there is no such order", l.OrderID)
	}
	if s.lies[o.number] == nil {
		s.lies[o.number] = map[LieKind]Lie{}
	}
	s.lies[o.number][l.Kind] = l
	s.settled = nil
	return nil
}

// TellTheTruth forgets all lies.
func (s *Simulator) TellTheTruth() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.lies)
	s.settled = nil
}

// after is how much later than the sale.
func (l Lie) after() time.Duration {
	days := l.Days
	if days == 0 && l.Kind == Late {
		days = 30
	} else if days == 0 {
		days = 1
	}
	return time.Duration(days) * 24 * time.Hour
}
