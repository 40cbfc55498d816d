package desk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
)

// Orders asks Klarna for one order, as [klarna.Client.Order] does.
type Orders interface {
	Order(ctx context.Context, orderID string) (klarna.Order, error)
}

var _ Orders = (*klarna.Client)(nil)

// Merchant is one account, as far as its orders can be looked at.
type Merchant struct {
	Orders Orders
	// Endpoint and ID are as claims have them: an order is looked for where it was made.
	Endpoint, ID string
	// Rate is what the account may ask a second, 0 for no limit.
	Rate float64
}

// looksPerSecond leaves Klarna's limits to charges: at most so many, and at most a tenth of the account's rate.
const looksPerSecond = 5

// A Checker looks up at Klarna what an operator says of a case. It is for one goroutine.
type Checker struct {
	// Merchant finds an account; its error says what to set where it cannot.
	Merchant func(messages.Account) (Merchant, error)
	Now      func() time.Time

	known map[messages.Account]*merchant
}

type merchant struct {
	Merchant
	pace   *rate.Limiter
	closed error // Klarna takes its credentials for none: no further order is asked for
}

// Look compares a ruling with Klarna, and with it every other order that records name for the same charge. Where no order is known that could
// be looked at, Seen is nil and nothing differs. An error says that Klarna could not be asked, or does not know an order, and what to do;
// what the comparison has then is not all, and does not fit.
func (k *Checker) Look(ctx context.Context, c Case, r Ruling) (Comparison, error) {
	id := c.Order(r)
	if id == "" {
		return Comparison{}, nil
	}
	o, err := k.order(ctx, c, id)
	if err != nil {
		return Comparison{}, err
	}
	comparison := c.Compare(r, o, k.Now())
	for _, id := range c.contradicted(r) {
		o, err := k.order(ctx, c, id)
		if err != nil {
			o = klarna.Order{OrderID: id}
		}
		comparison.contradicted(o)
		if err != nil {
			return comparison, err
		}
	}
	return comparison, nil
}

// order asks Klarna for one order of a case.
func (k *Checker) order(ctx context.Context, c Case, id string) (none klarna.Order, _ error) {
	name := c.GaveUp.Account
	m, err := k.merchant(name)
	if err != nil {
		return none, err
	}
	if err := m.made(c); err != nil {
		return none, fmt.Errorf("account %s: %w", name, err)
	}
	if m.closed != nil {
		return none, m.closed
	}
	if err := m.pace.Wait(ctx); err != nil {
		return none, cause(ctx, err)
	}
	o, err := m.Orders.Order(ctx, id)
	if err != nil {
		return none, m.problem(ctx, name, id, err)
	}
	return o, nil
}

func (k *Checker) merchant(name messages.Account) (*merchant, error) {
	if m := k.known[name]; m != nil {
		return m, nil
	}
	found, err := k.Merchant(name)
	if err != nil {
		return nil, err
	}
	pace := rate.Limit(looksPerSecond)
	if found.Rate > 0 {
		pace = min(pace, rate.Limit(found.Rate/10))
	}
	if k.known == nil {
		k.known = map[messages.Account]*merchant{}
	}
	k.known[name] = &merchant{Merchant: found, pace: rate.NewLimiter(pace, 1)}
	return k.known[name], nil
}

// made says where the case's charge went, if that was elsewhere than the account is now: an order of the same id would be another's.
func (m *merchant) made(c Case) error {
	claim := c.State.Claim
	switch {
	case claim == nil || !c.State.Holds(c.GaveUp.IdempotencyKey):
		return nil
	case claim.Endpoint != "" && m.Endpoint != "" && claim.Endpoint != m.Endpoint:
		return fmt.Errorf("it is configured for %s, but the request went to %s; look there, with that endpoint and its credentials", m.Endpoint, claim.Endpoint)
	case claim.Merchant != "" && m.ID != "" && claim.Merchant != m.ID:
		return fmt.Errorf("it is configured for merchant %s, but the request was made as %s; look there, with the credentials of that merchant", m.ID, claim.Merchant)
	}
	return nil
}

// problem says what Klarna's answer means for whoever wants to know of an order.
func (m *merchant) problem(ctx context.Context, name messages.Account, id string, err error) error {
	var answer *klarna.Error
	if ctx.Err() != nil {
		return cause(ctx, err)
	}
	if !errors.As(err, &answer) {
		return fmt.Errorf("order %s could not be looked up: %w; try again later", id, err)
	}
	switch status := answer.StatusCode; {
	case status == 404:
		return fmt.Errorf("account %s has no order %s at Klarna: check the id, and whether the order is another account's (%w)", name, id, err)
	case status == 401 || status == 403:
		m.closed = fmt.Errorf("account %s may not look at orders: check its user name and API key, and what the key may do (%w)", name, err)
		return m.closed
	case status == 429:
		return fmt.Errorf("account %s has asked too much for now: try again in %s (%w)", name, max(answer.RetryAfter, time.Second), err)
	case status >= 500 || status == 408:
		return fmt.Errorf("order %s could not be looked up: try again later (%w)", id, err)
	}
	return fmt.Errorf("order %s could not be looked up: %w", id, err)
}

// cause is why ctx ended, else err.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil {
		return why
	}
	return err
}
