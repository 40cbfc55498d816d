//go:build linux

package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/books"
)

// month is thirty days of renewals, spread evenly and each of a subscription of its own. Klarna has paid out the first tenth, and what it
// tells of that has lies in it.
type month struct {
	renewals int
	lies     map[int]lie // by renewal
}

// lie is what differs about a renewal between the journal and the payout.
type lie string

const (
	notSettled  lie = "not settled"
	soldTwice   lie = "sold twice"
	otherAmount lie = "another amount"
	givenBack   lie = "given back"
	disputed    lie = "disputed"
	twoOrders   lie = "two orders"
	refused     lie = "refused, and sold"
	unknown     lie = "unresolved, and sold"
	unrecorded  lie = "a period without a record"
	oneOrder    lie = "the order of the one before"
	neverTaken  lie = "never captured"
	strange     lie = "and a stranger's row" // which is no break
)

// told is the break as which each lie must be reported.
var told = map[lie]messages.BreakKind{
	notSettled: messages.BreakMissing, soldTwice: messages.BreakAmount, otherAmount: messages.BreakAmount, givenBack: messages.BreakReturned, disputed: messages.BreakReversed,
	twoOrders: messages.BreakSecondOrder, refused: messages.BreakUnknownOrder, unknown: messages.BreakResolves, unrecorded: messages.BreakForgotten, oneOrder: messages.BreakOrderShared,
	neverTaken: messages.BreakNotCaptured,
}

// liesOfEach is how often each is told.
const liesOfEach = 3

var firstOfMonth = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func newMonth(renewals int) month {
	m := month{renewals: renewals, lies: map[int]lie{}}
	all := []lie{notSettled, soldTwice, otherAmount, givenBack, disputed, twoOrders, refused, unknown, unrecorded, oneOrder, neverTaken, strange}
	for i := range liesOfEach * len(all) {
		m.lies[(2*i+1)*m.settled()/(2*liesOfEach*len(all))] = all[i%len(all)]
	}
	return m
}

// settled is how many of them the payout is about.
func (m month) settled() int { return m.renewals / 10 }

// at is when a renewal was charged. One day is left, so that a month's end is no renewal's.
func (m month) at(n int) time.Time {
	return firstOfMonth.Add(time.Duration(n) * (29 * 24 * time.Hour / time.Duration(m.renewals)))
}

// expectWithin is how long Klarna may take for all that it has not paid out yet to be no break, and for all else to be one.
func (m month) expectWithin() time.Duration {
	return firstOfMonth.AddDate(0, 0, 30).Sub(m.at(m.settled()))
}

// breaks are what a reconciliation has to name: kind and subscription.
func (m month) breaks() map[string]bool {
	all := map[string]bool{}
	for n, l := range m.lies {
		if kind, ok := told[l]; ok {
			if l == oneOrder {
				n-- // it is told of the first that has the order
			}
			all[string(kind)+" of "+subscription(n)] = true
		}
	}
	return all
}

// expected is how many captures may yet be settled.
func (m month) expected() int { return m.renewals - m.settled() }

func (m month) order(n int) string {
	if m.lies[n] == oneOrder {
		n--
	}
	return orderID(uint64(n))
}

// orderID spreads orders over all there may be, as Klarna's are.
func orderID(n uint64) string {
	return fmt.Sprintf("%08x-1b5d-6b3f-9a6e-%012x", uint32(n*0x9e3779b97f4a7c15>>32), n)
}

func reference1(n int) string { return subscription(n) + "-" + string(period) }
func reference2(n int) string { return subscription(n) + "/" + string(period) + "/1" }

// records are those of a renewal, as large as a worker's: the claim and what became of it.
func (m month) records(n int) []books.Record {
	about := messages.Record{
		ID: messages.MessageID(reference2(n)), Account: defaultAccount, SubscriptionID: messages.SubscriptionID(subscription(n)), Period: period, Attempt: 1,
		RenewalKey: renewal(n).Key(), IdempotencyKey: messages.NewIdempotencyKey(renewal(n).Key(), messages.MessageID(reference2(n))), OrderAmount: orderAmount, PurchaseCurrency: "EUR",
		MerchantReference1: reference1(n), MerchantReference2: reference2(n), Tries: 1, Deliveries: 1, Worker: "renewals-7f9c-0", At: m.at(n), TokenFingerprint: fmt.Sprintf("%012x", n),
	}
	correlation := fmt.Sprintf("5a1c3d2e-77a0-4f3b-b000-%012x", n)
	var result messages.Event
	switch m.lies[n] {
	case refused:
		result = messages.Dunning{Record: about, Reason: "payment_method_failed", Category: "soft_decline", Retryable: true, HTTPStatus: 403, CorrelationID: correlation}
	case unknown:
		result = messages.Unresolved{Record: about, UndecidedTries: 9, FirstSentAt: about.At, LastSentAt: about.At.Add(time.Hour), SearchUntil: about.At.Add(2 * time.Hour)}
	default:
		result = messages.Paid{Record: about, OrderID: m.order(n), FraudStatus: "ACCEPTED", Captured: m.lies[n] != neverTaken, CorrelationID: correlation, AuthorizedPaymentMethod: messages.PaymentMethod{Type: "invoice"}}
	}
	return []books.Record{m.record(n, 1, messages.Charging{Record: about, FirstSentAt: about.At}), m.record(n, 2, result)}
}

// record is the first or second of a renewal.
func (m month) record(n, which int, e messages.Event) books.Record {
	body, err := messages.Encode(e)
	if err != nil {
		panic(err) // it is one of ours
	}
	at := m.at(n)
	address := messages.RecordAddress{Kind: e.Kind(), Renewal: renewal(n), Due: at.Unix(), Account: defaultAccount}
	return books.Record{
		Sequence: uint64(2*n + which), Stored: at, Subject: address.Subject(), Body: body, EventID: strconv.Itoa(2*n + which),
		State: fmt.Sprintf(`{"v":1,"phase":%q,"due_at":%q,"cadence":"MONTH/1","rev":%d,"attempts":1}`, e.Kind(), at.Format(time.RFC3339), which),
	}
}
