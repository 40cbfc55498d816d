package worker

import (
	"context"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A service is what a job asks of Klarna: that a renewal is charged, or that money of its order is captured. Everything
// in which the two differ on their way through the worker stands here.
type service struct {
	asked, created string // what is asked for and what Klarna then makes, as a person says it
	// afterOrder: the service is about an order that exists, so that its renewal is read before it is claimed, it is never early, and a
	// refusal is about the order, not about the token or the merchant's settings.
	afterOrder bool

	read func(r reader, d delivery, j *job)
	// owner of what Klarna makes under a claim: nobody else may get the same.
	owner func(j *job, c journal.Claim) string
	// try is a request under a claim, to be sent as often as it takes: the same key and the same bytes every time.
	try func(a *asker, j *job, c journal.Claim) func(context.Context) (journal.Created, error)
}

var (
	charge = &service{
		asked: "charge", created: "order",
		read:  reader.readCharge,
		owner: func(j *job, _ journal.Claim) string { return string(j.renewal) },
		try:   tryCharge,
	}
	capture = &service{
		asked: "capture", created: "capture", afterOrder: true,
		read:  reader.readCapture,
		owner: func(_ *job, c journal.Claim) string { return string(c.Key) }, // a renewal may have many
		try:   tryCapture,
	}
)

// serviceOf is the service that the jobs of a subject ask for.
func serviceOf(subject string) *service {
	if messages.IsCapture(subject) {
		return capture
	}
	return charge
}

func tryCharge(a *asker, j *job, c journal.Claim) func(context.Context) (journal.Created, error) {
	request := klarna.CreateOrderRequest{
		CustomerToken:  klarna.NewCustomerToken(j.reading.Job.CustomerToken.Reveal()),
		IdempotencyKey: string(c.Key),
		Body:           j.reading.Job.Order,
		BeforeSend:     func() error { return a.rules.sendable(c) },
	}
	return func(ctx context.Context) (journal.Created, error) {
		o, err := a.klarna.CreateOrder(ctx, request)
		return journal.Created{
			ID: o.OrderID, FraudStatus: o.FraudStatus, PaymentMethod: messages.PaymentMethod(o.AuthorizedPaymentMethod), CorrelationID: o.CorrelationID, RateLimit: o.RateLimit,
		}, err
	}
}

func tryCapture(a *asker, j *job, c journal.Claim) func(context.Context) (journal.Created, error) {
	request := klarna.CreateCaptureRequest{
		OrderID:        a.journal.SpelledOrder(a.finishing, j.renewal, c.Capture.OrderID),
		IdempotencyKey: string(c.Key),
		CapturedAmount: c.Capture.Amount,
		Description:    j.capture.Description,
		Reference:      j.capture.Reference,
		OrderLines:     j.capture.OrderLines,
		BeforeSend:     func() error { return a.rules.sendable(c) },
	}
	return func(ctx context.Context) (journal.Created, error) {
		made, err := a.klarna.CreateCapture(ctx, request)
		return journal.Created{ID: made.CaptureID, Capture: true, CorrelationID: made.CorrelationID, RateLimit: made.RateLimit}, err
	}
}
