package klarna

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// CreateCaptureRequest asks to take money for an order that is authorised only.
type CreateCaptureRequest struct {
	OrderID string
	// IdempotencyKey keeps a repetition from taking the amount twice, for 24 h from the first try. Required.
	IdempotencyKey string
	// CapturedAmount in minor units, from 1. Klarna takes up to 200,000,000, and at most what remains of the order.
	CapturedAmount int64
	// Description is for the customer, Reference for the settlement: at most 255 characters each. "" is not sent.
	Description, Reference string
	// OrderLines is a JSON array, sent as it is, that takes the place of the order's lines; empty is not sent. Lines that
	// recur have to have their subscription again.
	OrderLines json.RawMessage
	// BeforeSend is as in [CreateOrderRequest].
	BeforeSend func() error
}

// Capture is money that was taken.
type Capture struct {
	CaptureID     string
	CorrelationID string
	RateLimit     RateLimit
}

// CreateCapture takes money for an order. The same request is always the same bytes. The classes of [ClassOf] mean for the
// capture what they mean for an order in [Client.CreateOrder]. A refusal can be a late decline (403 PAYMENT_METHOD_FAILED)
// or say that the order has no such amount left (403 CAPTURE_NOT_ALLOWED): the order stays as it was.
// https://docs.kustom.co/contents/checkout/use-cases/recurring.md,
// https://docs.klarna.com/resources/developer-tools/error-handling/error-codes-and-messages-for-order-management/
func (c *Client) CreateCapture(ctx context.Context, request CreateCaptureRequest) (Capture, error) {
	capture, err := c.createCapture(ctx, request)
	if err != nil {
		return Capture{}, fmt.Errorf("create capture: %w", err)
	}
	return capture, nil
}

func (c *Client) createCapture(ctx context.Context, request CreateCaptureRequest) (Capture, error) {
	body, err := request.body()
	if err != nil {
		return Capture{}, &NotSentError{Err: err}
	}
	buffer := c.buffers.get()
	defer c.buffers.put(buffer)
	a, err := c.do(ctx, call{
		method: http.MethodPost, path: []string{"ordermanagement", "v1", "orders", request.OrderID, "captures"},
		key: request.IdempotencyKey, body: body, beforeSend: request.BeforeSend,
		read: func(a answer) bool { return a.captureID() != "" },
	}, buffer)
	if err != nil {
		return Capture{}, err
	}
	if a.ok {
		return Capture{CaptureID: a.captureID(), CorrelationID: a.correlationID(""), RateLimit: a.rateLimit()}, nil
	}
	return Capture{}, a.failure("the answer has no Capture-Id")
}

// body is written by hand because encoding/json would rewrite OrderLines.
func (r CreateCaptureRequest) body() ([]byte, error) {
	switch {
	case r.IdempotencyKey == "" || r.CapturedAmount < 1:
		return nil, errors.New("an idempotency key and an amount are required")
	case len(r.OrderLines) > 0 && !json.Valid(r.OrderLines):
		return nil, errors.New("order_lines is no valid JSON")
	}
	b := strconv.AppendInt(append(make([]byte, 0, 512+len(r.OrderLines)), `{"captured_amount":`...), r.CapturedAmount, 10)
	for _, field := range [...]struct{ name, text string }{{`,"description":`, r.Description}, {`,"reference":`, r.Reference}} {
		if field.text == "" {
			continue
		}
		text, err := json.Marshal(field.text)
		if err != nil {
			return nil, err
		}
		b = append(append(b, field.name...), text...)
	}
	if len(r.OrderLines) > 0 {
		b = append(append(b, `,"order_lines":`...), r.OrderLines...)
	}
	return append(b, '}'), nil
}

// captureID is in a header of its own, and the last part of Location.
func (a answer) captureID() string {
	if id := strings.TrimSpace(a.header.Get("Capture-Id")); id != "" {
		return id
	}
	_, id, ok := strings.Cut(a.header.Get("Location"), "/captures/")
	id = path.Base(strings.TrimSpace(id))
	if !ok || id == "." || id == "/" {
		return ""
	}
	return id
}
