package reconcile_test

import (
	"slices"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/settlements"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// about is what the records of a renewal's first attempt have in common, or of a capture of it.
func about(at time.Time, capture ...messages.MessageID) messages.Record {
	r := renewal("1")
	a := messages.Record{
		Account: r.Account, SubscriptionID: r.SubscriptionID, Period: r.Period, ID: r.MessageID, Attempt: 1, RenewalKey: r.Key(), IdempotencyKey: messages.NewIdempotencyKey(r.Key(), r.MessageID),
		OrderAmount: r.Amount, PurchaseCurrency: r.Currency, MerchantReference1: r.Reference1, At: at,
	}
	for _, id := range capture {
		a.ID, a.IdempotencyKey = id, messages.NewCaptureKey(r.Key(), id)
	}
	return a
}

// folded is a renewal made of its records.
func folded(records ...messages.Event) reconcile.Renewal {
	r := reconcile.Fold(records)
	r.Phase, r.DueAt = journal.Phase(records[len(records)-1].Kind()), firstDay
	return r
}

// TestAutomaticPiece: where a capture job has seen how much Klarna had taken by itself, that is expected, whatever was asked for.
func TestAutomaticPiece(t *testing.T) {
	paid := func(captured bool) messages.Event {
		return messages.Paid{Record: about(firstDay), OrderID: "order-1", Captured: captured}
	}
	taken := func(id messages.MessageID, amount, total int64) messages.Event {
		return messages.Captured{Record: about(firstDay.Add(day), id), OrderID: "order-1", CaptureID: string(id), CapturedAmount: amount, TotalCapturedAmount: total}
	}
	corrected := messages.CaptureFailed{Record: about(firstDay.Add(2*day), "c-1"), OrderID: "order-1", CapturedAmount: 1599, Corrects: "captured"}
	sale := func(capture string, of int64) settlements.Transaction {
		return sold("1", amount(of), func(t *settlements.Transaction) { t.CaptureID = capture })
	}
	for name, c := range map[string]struct {
		records []messages.Event
		rows    []settlements.Transaction
		want    []string
	}{
		"nothing was taken by itself":         {records: []messages.Event{paid(true), taken("c-1", 1599, 1599)}, rows: []settlements.Transaction{sale("c-1", 1599)}},
		"half of it was":                      {records: []messages.Event{paid(true), taken("c-1", 800, 1599)}, rows: []settlements.Transaction{sale("auto", 799), sale("c-1", 800)}},
		"half of it was, and is not settled":  {records: []messages.Event{paid(true), taken("c-1", 800, 1599)}, rows: []settlements.Transaction{sale("c-1", 800)}, want: []string{"missing order-1"}},
		"half of it was, and was seen before": {records: []messages.Event{paid(false), taken("c-1", 800, 1599)}, rows: []settlements.Transaction{sale("auto", 799), sale("c-1", 800)}},
		"two captures beside it":              {records: []messages.Event{paid(true), taken("c-1", 800, 1000), taken("c-2", 599, 1599)}, rows: []settlements.Transaction{sale("auto", 200), sale("c-1", 800), sale("c-2", 599)}},
		"two captures and nothing beside":     {records: []messages.Event{paid(true), taken("c-1", 1000, 1000), taken("c-2", 599, 1599)}, rows: []settlements.Transaction{sale("c-1", 1000), sale("c-2", 599)}},
		"another amount beside it":            {records: []messages.Event{paid(true), taken("c-1", 800, 1599)}, rows: []settlements.Transaction{sale("auto", 800), sale("c-1", 800)}, want: []string{"amount order-1"}},
		"a record without a total":            {records: []messages.Event{paid(true), taken("c-1", 800, 0)}, rows: []settlements.Transaction{sale("auto", 1599), sale("c-1", 800)}},
		"the capture was none":                {records: []messages.Event{paid(true), taken("c-1", 1599, 1599), corrected}, want: []string{"not_captured order-1"}},
		"it was recorded twice":               {records: []messages.Event{paid(true), taken("c-1", 800, 1599), taken("c-1", 800, 1599)}, rows: []settlements.Transaction{sale("auto", 799), sale("c-1", 800)}},
	} {
		found, err := reconcile.Compare(t.Context(), books(folded(c.records...)), report(c.rows...), options())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(told(found), c.want) {
			t.Errorf("%s: found %q, want %q", name, told(found), c.want)
		}
	}
}
