package klarna

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// CreateOrderRequest asks for one charge of a customer token.
type CreateOrderRequest struct {
	CustomerToken CustomerToken
	// IdempotencyKey makes Klarna answer a repetition with the first result instead of a second charge, for 24 h from the
	// first try. Required.
	// https://docs.klarna.com/acquirer/klarna-direct/setup-your-integration/integration-resilience/idempotency/
	IdempotencyKey string
	// Body is Klarna's customer_token_order as JSON, sent as it is.
	Body []byte
	// BeforeSend, where set, is asked when the connection is in hand, before the first byte leaves, and again before each
	// further 16 KiB. An error ends the try with nothing complete sent: the result is a [*NotSentError] that wraps it. It
	// runs on the transport's goroutine and must not block.
	BeforeSend func() error
}

// The fraud statuses that decide. There are others, and none: they decide nothing.
// https://docs.klarna.com/payments/after-payments/order-management/more-actions/pending-orders
const (
	FraudAccepted = "ACCEPTED"
	FraudRejected = "REJECTED"
)

// CreatedOrder is an order that exists.
type CreatedOrder struct {
	OrderID string
	// FraudStatus is ACCEPTED, PENDING or REJECTED, perhaps "" or a value that Klarna adds; in upper case. Only ACCEPTED is
	// money.
	FraudStatus string
	// RedirectURL has no use on a renewal, where no customer is present, and is often absent.
	RedirectURL             string
	AuthorizedPaymentMethod PaymentMethod // zero when not told
	CorrelationID           string
	RateLimit               RateLimit
}

// PaymentMethod is authorized_payment_method of the customer token API's order.
type PaymentMethod struct {
	Type                 string // like card or invoice; Klarna may add some
	NumberOfInstallments int64  // 0 when not told
	NumberOfDays         int64  // until it is paid, of an invoice; 0 when not told
}

// CreateOrder charges the token. Without an error there is an order; with one, [ClassOf] says whether there can be.
// https://docs.klarna.com/klarna-payments/integrate-with-klarna-payments/step-3-create-an-order/set-up-a-recurring-payment-order/
func (c *Client) CreateOrder(ctx context.Context, request CreateOrderRequest) (CreatedOrder, error) {
	order, err := c.createOrder(ctx, request)
	if err != nil {
		return CreatedOrder{}, fmt.Errorf("create order: %w", err)
	}
	return order, nil
}

func (c *Client) createOrder(ctx context.Context, request CreateOrderRequest) (CreatedOrder, error) {
	if request.IdempotencyKey == "" || len(request.Body) == 0 {
		return CreatedOrder{}, &NotSentError{Err: errors.New("an idempotency key and a body are required")}
	}
	buffer := c.buffers.get()
	defer c.buffers.put(buffer)
	token := request.CustomerToken.Reveal()
	var order struct {
		OrderID     string `json:"order_id"`
		FraudStatus string `json:"fraud_status"`
		RedirectURL string `json:"redirect_url"`
		Method      struct {
			Type                 string `json:"type"`
			NumberOfInstallments int64  `json:"number_of_installments"`
			NumberOfDays         int64  `json:"number_of_days"`
		} `json:"authorized_payment_method"`
	}
	a, err := c.do(ctx, call{
		method: http.MethodPost, path: []string{"customer-token", "v1", "tokens", token, "order"}, secret: token,
		key: request.IdempotencyKey, body: request.Body, beforeSend: request.BeforeSend,
		read: func(a answer) bool { return decode(a.body, &order) && strings.TrimSpace(order.OrderID) != "" },
	}, buffer)
	if err != nil {
		return CreatedOrder{}, err
	}
	// An answer that broke off after its closing brace names the order as well as any.
	if a.ok {
		if order.Method.Type == "" {
			order.Method.Type = bareMethod(a.body)
		}
		return CreatedOrder{
			OrderID:                 order.OrderID,
			FraudStatus:             strings.ToUpper(order.FraudStatus),
			RedirectURL:             order.RedirectURL,
			AuthorizedPaymentMethod: PaymentMethod(order.Method),
			CorrelationID:           a.correlationID(""),
			RateLimit:               a.rateLimit(),
		}, nil
	}
	return CreatedOrder{}, a.failure("the answer has no readable order_id")
}

// bareMethod is an authorized_payment_method that is a string: it is an object in the schema, and a bare string in an
// example of Klarna's (https://github.com/klarna/react-native-klarna-inapp-sdk/issues/236).
func bareMethod(body []byte) string {
	var order struct {
		Method string `json:"authorized_payment_method"`
	}
	decode(body, &order)
	return order.Method
}

// Order is an order as order management knows it; amounts in minor units.
type Order struct {
	OrderID string `json:"order_id"`
	// Status is AUTHORIZED, PART_CAPTURED, CAPTURED, CANCELLED, EXPIRED, CLOSED or a value that Klarna adds.
	Status string `json:"status"`
	// FraudStatus is ACCEPTED, PENDING, REJECTED or a value that Klarna adds; in upper case.
	FraudStatus      string `json:"fraud_status"`
	PurchaseCurrency string `json:"purchase_currency"`
	OrderAmount      int64  `json:"order_amount"`
	CapturedAmount   int64  `json:"captured_amount"`
	RefundedAmount   int64  `json:"refunded_amount"`
	// RemainingAuthorizedAmount can still be captured, until ExpiresAt.
	RemainingAuthorizedAmount int64          `json:"remaining_authorized_amount"`
	MerchantReference1        string         `json:"merchant_reference1"`
	MerchantReference2        string         `json:"merchant_reference2"`
	KlarnaReference           string         `json:"klarna_reference"`
	CreatedAt                 string         `json:"created_at"` // RFC 3339
	ExpiresAt                 string         `json:"expires_at"` // RFC 3339
	Captures                  []OrderCapture `json:"captures"`
	RateLimit                 RateLimit      `json:"-"`
}

// OrderCapture is money that was taken for an order; amounts in minor units.
type OrderCapture struct {
	CaptureID      string `json:"capture_id"`
	CapturedAmount int64  `json:"captured_amount"`
	CapturedAt     string `json:"captured_at"` // RFC 3339
	Reference      string `json:"reference"`
}

// Order reads one order. An [*Error] with code NO_SUCH_ORDER and status 404 means that this merchant account has none of
// that id; after any other error, ask again. An answer about another order, which a proxy may have kept for somebody else,
// is one of these errors: https://github.com/ledgetech/ledge/issues/199
func (c *Client) Order(ctx context.Context, orderID string) (Order, error) {
	buffer := c.buffers.get()
	defer c.buffers.put(buffer)
	var order Order
	a, err := c.do(ctx, call{
		method: http.MethodGet, path: []string{"ordermanagement", "v1", "orders", orderID},
		read: func(a answer) bool {
			told := decode(a.body, &order)
			return told && strings.EqualFold(strings.TrimSpace(order.OrderID), strings.TrimSpace(orderID))
		},
	}, buffer)
	switch {
	case err != nil:
	case a.ok:
		order.FraudStatus = strings.ToUpper(order.FraudStatus)
		order.RateLimit = a.rateLimit()
		return order, nil
	default:
		err = a.failure("the answer does not name the order in order_id")
	}
	return Order{}, fmt.Errorf("get order: %w", err)
}
