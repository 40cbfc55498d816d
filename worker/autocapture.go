package worker

import (
	"strings"
	"sync/atomic"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// Klarna is asked to capture most orders by itself, and its answer does not say whether it did: without its approval for
// what the merchant sells it may leave them authorised, and the money is lost when the authorisation ends. So some are looked at.
// https://docs.klarna.com/payments/web-payments/additional-resources/use-cases/automatic-capture

// Which orders are looked at. A setting that is wrong shows in the first; the others are for one that becomes wrong.
const (
	sampledFirst = 20
	sampledEvery = 1000
)

// autoCaptures counts the orders that Klarna was asked to capture by itself, of one account since the worker started.
type autoCaptures struct {
	made atomic.Uint64
	told atomic.Bool // the log has heard of one that was left
}

// sample says of one more such order whether it is looked at.
func (c *autoCaptures) sample() bool {
	n := c.made.Add(1)
	return n <= sampledFirst || n%sampledEvery == 0
}

// ignored is what Klarna has left of an order that it was asked to capture by itself, nil where it did as asked. Of what it
// left the metric tells, and the log once.
func (a *asker) ignored(j *job, orderID string, seen journal.OrderFound) *journal.Order {
	left := seen.Ignored()
	if left == nil {
		return nil
	}
	a.metrics.ignored.WithLabelValues(string(a.account)).Inc()
	if !a.autoCaptures.told.Swap(true) {
		a.log.Warn().Str("order_id", orderID).Str("renewal_key", string(j.key)).
			Msg("Klarna did not capture an order although auto_capture asked for it: capture it by a job of its own before its authorisation ends, and ask Klarna whether auto_capture is approved; further ones are only counted")
	}
	return left
}

// found is what the machine is told of an order that was looked at.
func found(o klarna.Order) journal.OrderFound {
	seen := journal.OrderFound{
		Status: o.Status, Amount: o.OrderAmount, Remaining: o.RemainingAuthorizedAmount, Captured: o.CapturedAmount,
		Currency: strings.ToUpper(o.PurchaseCurrency), MerchantReference1: o.MerchantReference1, MerchantReference2: o.MerchantReference2, CaptureBefore: expiry(o),
	}
	if len(seen.Currency) != len("EUR") {
		seen.Currency = ""
	}
	for _, reference := range []*string{&seen.MerchantReference1, &seen.MerchantReference2} {
		if len(*reference) > maxReference { // it would travel in the state, which is bounded
			*reference = ""
		}
	}
	return seen
}

// maxReference is more than a reference that Klarna takes has, in bytes: 255 characters.
const maxReference = 4 * 255
