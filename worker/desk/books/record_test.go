package books

import (
	"encoding/json"
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/messages"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// draft is a renewal of a journal that a test writes: enough of a machine that each record may follow the last.
type draft struct {
	subscription string
	phase        string
	attempt      int64
	captured     int64
	amount       int64
	currency     string
}

// drawn are the records of a few renewals in any order that can be, some of stand-ins, some that nobody can read.
func drawn(t *rapid.T) (records []Record) {
	drafts := make([]*draft, rapid.IntRange(1, 5).Draw(t, "renewals"))
	for i := range drafts {
		drafts[i] = &draft{
			subscription: fmt.Sprintf("sub-%d", i), phase: "none",
			amount: rapid.Int64Range(1, 5000).Draw(t, "amount"), currency: rapid.SampledFrom([]string{"EUR", "JPY", "KWD"}).Draw(t, "currency"),
		}
	}
	sequence := uint64(rapid.IntRange(1, 3).Draw(t, "first"))
	for range rapid.IntRange(1, 40).Draw(t, "records") {
		d := rapid.SampledFrom(drafts).Draw(t, "of")
		records = append(records, d.next(t, sequence))
		sequence++
	}
	return records
}

func (d *draft) next(t *rapid.T, sequence uint64) Record {
	kinds := map[string][]messages.Kind{
		"none": {messages.KindCharging, messages.KindRejected, messages.KindCancelled}, "charging": {messages.KindCharging, messages.KindPaid, messages.KindDunning, messages.KindUnresolved, messages.KindPending, messages.KindRejected},
		"pending": {messages.KindPaid, messages.KindDunning}, "dunning": {messages.KindCharging, messages.KindRejected, messages.KindCancelled, messages.KindPaid},
		"unresolved": {messages.KindPaid, messages.KindDunning, messages.KindRejected}, "cancelled": {messages.KindCancelled},
		"paid": {messages.KindCapturing, messages.KindRejected, messages.KindDunning}, "capturing": {messages.KindCapturing, messages.KindCaptured, messages.KindCaptureFailed, messages.KindRejected},
		"captured": {messages.KindCapturing}, "capture_failed": {messages.KindCapturing},
	}
	kind := rapid.SampledFrom(kinds[d.phase]).Draw(t, "kind")
	if kind == messages.KindCharging && d.phase != "charging" {
		d.attempt++
	}
	if kind != messages.KindRejected {
		d.phase = string(kind)
	}
	at := noon.Add(time.Duration(sequence) * 7 * time.Minute)
	renewal := messages.NewRenewal(messages.SubscriptionID(d.subscription), "2026-12")
	id := messages.MessageID(fmt.Sprintf("%s/2026-12/%d", d.subscription, d.attempt))
	about := messages.Record{
		ID: id, Account: "default", SubscriptionID: messages.SubscriptionID(d.subscription), Period: "2026-12", Attempt: d.attempt,
		RenewalKey: renewal.Key(), IdempotencyKey: messages.NewIdempotencyKey(renewal.Key(), id), OrderAmount: d.amount, PurchaseCurrency: d.currency,
		MerchantReference1: d.subscription + "-2026-12", MerchantReference2: rapid.SampledFrom([]string{"", "second " + d.subscription}).Draw(t, "reference2"),
		Tries: 1, Deliveries: 1, Worker: "w", At: at, TokenFingerprint: "b17f6e500d48",
	}
	if kind == messages.KindCancelled { // an operator's knows no amount
		about.ID, about.OrderAmount, about.PurchaseCurrency, about.MerchantReference1, about.MerchantReference2 = "", 0, "", "", ""
	}
	address := messages.RecordAddress{Kind: kind, Renewal: renewal, Due: noon.Unix(), Account: "default"}
	if kind == messages.KindRejected && rapid.Bool().Draw(t, "stands in") {
		address.Renewal, address.Due = messages.StandInRenewal(messages.NewRenewalKey("stand-in", messages.Period(fmt.Sprint(sequence)))), 0
	}
	body, err := messages.Encode(d.event(kind, about))
	if err != nil {
		t.Fatal(err)
	}
	phase := d.phase
	if address.Renewal.StandsIn() {
		phase = "none"
	}
	state, _ := json.Marshal(map[string]any{"v": 1, "phase": phase, "due_at": noon, "attempts": d.attempt})
	r := Record{Sequence: sequence, Stored: at.Add(time.Millisecond), Subject: address.Subject(), State: string(state), EventID: fmt.Sprint("event ", sequence), Body: body}
	switch rapid.IntRange(0, 30).Draw(t, "readable") {
	case 0:
		r.State = "{"
	case 1:
		r.Body = []byte("no JSON")
	}
	return r
}

func (d *draft) event(kind messages.Kind, about messages.Record) messages.Event {
	order := "order-" + string(about.SubscriptionID)
	switch kind {
	case messages.KindCharging:
		return messages.Charging{Record: about, FirstSentAt: about.At}
	case messages.KindPending:
		return messages.Pending{Record: about, OrderID: order, FraudStatus: "PENDING", CorrelationID: "c-" + string(about.ID)}
	case messages.KindPaid:
		d.captured = 0
		return messages.Paid{Record: about, OrderID: order, FraudStatus: "ACCEPTED", Captured: about.OrderAmount%2 == 0, CorrelationID: "c-" + string(about.ID)}
	case messages.KindDunning:
		return messages.Dunning{Record: about, Reason: "payment_method_failed", Category: "soft_decline", FixBy: "customer", NextAttemptAt: &noon, ErrorMessages: []string{"no money"}}
	case messages.KindUnresolved:
		return messages.Unresolved{Record: about, Reason: "poison", CorrelationIDs: []string{"u1", "u2-" + string(about.SubscriptionID)}, FirstSentAt: about.At}
	case messages.KindRejected:
		return messages.Rejected{Record: about, Reason: "already_paid", Errors: []messages.Problem{{Path: "period", Message: "paid"}}}
	case messages.KindCancelled:
		return messages.Cancelled{Record: about, Undone: d.attempt > 0}
	case messages.KindCapturing:
		return messages.Capturing{Record: about, OrderID: order, CapturedAmount: 1, FirstSentAt: about.At}
	case messages.KindCaptured:
		d.captured++
		return messages.Captured{Record: about, OrderID: order, CaptureID: fmt.Sprint("capture ", d.captured, order), CapturedAmount: 1, TotalCapturedAmount: d.captured, RemainingAmount: d.amount}
	}
	return messages.CaptureFailed{Record: about, OrderID: order, CapturedAmount: 1, Reason: "unknown_code", Category: "merchant_error"}
}
