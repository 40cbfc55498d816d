package klarna

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// Token is what Klarna tells of a customer token. It does not contain the token.
// https://docs.klarna.com/klarna-payments/other-actions/check-the-details-of-a-customer-token/
type Token struct {
	// Status is ACTIVE, CANCELLED, SUSPENDED or a value that Klarna adds; in upper case.
	Status string `json:"status"`
	// PaymentMethodType is a word like INVOICE; Klarna publishes no list.
	PaymentMethodType string       `json:"payment_method_type"`
	Card              *Card        `json:"card,omitempty"`
	DirectDebit       *DirectDebit `json:"direct_debit,omitempty"`
	CorrelationID     string       `json:"-"`
	RateLimit         RateLimit    `json:"-"`
}

// Card is the card behind a token.
type Card struct {
	Brand        string `json:"brand"`
	ExpiryDate   string `json:"expiry_date"` // MM/YYYY
	MaskedNumber string `json:"masked_number"`
}

// DirectDebit is the bank account behind a token.
type DirectDebit struct {
	MaskedNumber string `json:"masked_number"`
}

// Active says whether the token can be charged, as far as its status tells.
func (t Token) Active() bool { return t.Status == "ACTIVE" }

// Token reads a customer token. An [*Error] with status 404 (NOT_FOUND) means that Klarna does not know it under these
// credentials; any other error says nothing of the token.
func (c *Client) Token(ctx context.Context, token CustomerToken) (Token, error) {
	buffer := c.buffers.get()
	defer c.buffers.put(buffer)
	secret := token.Reveal()
	var read Token
	a, err := c.do(ctx, call{
		method: http.MethodGet, path: []string{"customer-token", "v1", "tokens", secret}, secret: secret,
		read: func(a answer) bool { return decode(a.body, &read) && strings.TrimSpace(read.Status) != "" },
	}, buffer)
	switch {
	case err != nil:
	case a.ok:
		read.Status = strings.ToUpper(strings.TrimSpace(read.Status))
		read.CorrelationID, read.RateLimit = a.correlationID(""), a.rateLimit()
		return read, nil
	default:
		err = a.failure("the answer has no readable status")
	}
	return Token{}, fmt.Errorf("get token: %w", err)
}

// CancelToken ends a customer token for good: it can never be charged or restored. Klarna accepts (202) and does so a
// little later. It may be repeated after any error.
// https://docs.klarna.com/klarna-payments/other-actions/cancel-a-customer-token/
func (c *Client) CancelToken(ctx context.Context, token CustomerToken) error {
	buffer := c.buffers.get()
	defer c.buffers.put(buffer)
	secret := token.Reveal()
	a, err := c.do(ctx, call{
		method: http.MethodPatch, path: []string{"customer-token", "v1", "tokens", secret, "status"}, secret: secret,
		body: []byte(`{"status":"CANCELLED"}`),
	}, buffer)
	switch {
	case err != nil:
	case a.success():
		return nil
	default:
		err = a.failure("")
	}
	return fmt.Errorf("cancel token: %w", err)
}
