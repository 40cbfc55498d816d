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

// TestDecidedLater: money is expected from when it was charged or captured on, however late that is decided. A report of later days does not ask for it,
// one of those days does.
func TestDecidedLater(t *testing.T) {
	gave := messages.Unresolved{Record: about(firstDay.Add(day)), FirstSentAt: firstDay, SearchUntil: firstDay.Add(day)}
	paid := func(corrects string, captured bool) messages.Event {
		return messages.Paid{Record: about(firstDay.Add(35 * day)), OrderID: "order-1", Captured: captured, Corrects: corrects}
	}
	capture := messages.Captured{Record: about(firstDay.Add(35*day), "c-1"), OrderID: "order-1", CaptureID: "c-1", CapturedAmount: 1599, TotalCapturedAmount: 1599, Corrects: "unresolved"}
	for name, records := range map[string][]messages.Event{
		"charged, and unresolved":              {messages.Charging{Record: about(firstDay)}, gave, paid("unresolved", true)},
		"charged, and said not to be":          {messages.Charging{Record: about(firstDay)}, gave, messages.Dunning{Record: about(firstDay.Add(2 * day)), Corrects: "unresolved"}, paid("dunning", true)},
		"charged, and refused":                 {messages.Dunning{Record: about(firstDay)}, paid("dunning", true)},
		"charged, of which no money was taken": {gave, paid("unresolved", false)},
		"captured, and unresolved":             {messages.Paid{Record: about(firstDay), OrderID: "order-1"}, messages.Unresolved{Record: about(firstDay.Add(day), "c-1"), OrderID: "order-1", CapturedAmount: 1599, FirstSentAt: firstDay.Add(time.Hour)}, capture},
		"captured, and refused":                {messages.Paid{Record: about(firstDay), OrderID: "order-1"}, messages.CaptureFailed{Record: about(firstDay.Add(day), "c-1"), OrderID: "order-1", CapturedAmount: 1599}, capture},
	} {
		l := books(folded(records...))
		o := options()
		o.To, o.Now = firstDay.Add(90*day), firstDay.Add(90*day)
		then, err := reconcile.Compare(t.Context(), l, report(), o)
		if err != nil || len(then.Breaks) != 1 {
			t.Errorf("%s: a report of those days: %q, %v; want that it is missing", name, told(then), err)
		}
		o.From = firstDay.Add(31 * day)
		later, err := reconcile.Compare(t.Context(), l, report(), o)
		if err != nil || len(later.Breaks) != 0 || later.Expected != 0 {
			t.Errorf("%s: a report of later days: %q, %d expected, %v; want nothing", name, told(later), later.Expected, err)
		}
	}
}

// TestAskedForAgain: what a key was refused or unresolved for and asked for again, weeks later, was made then.
func TestAskedForAgain(t *testing.T) {
	later := firstDay.Add(35 * day)
	for name, records := range map[string][]messages.Event{
		"charged": {
			messages.Charging{Record: about(firstDay)}, messages.Unresolved{Record: about(firstDay.Add(day)), FirstSentAt: firstDay}, messages.Dunning{Record: about(firstDay.Add(2 * day)), Corrects: "unresolved"},
			messages.Charging{Record: about(later)}, messages.Paid{Record: about(later), OrderID: "order-1", Captured: true, Corrects: "dunning"},
		},
		"captured": {
			messages.Paid{Record: about(firstDay), OrderID: "order-1"}, messages.Capturing{Record: about(firstDay, "c-1")}, messages.CaptureFailed{Record: about(firstDay, "c-1"), OrderID: "order-1"},
			messages.Capturing{Record: about(later, "c-1")},
			messages.Captured{Record: about(later, "c-1"), OrderID: "order-1", CaptureID: "c-1", CapturedAmount: 1599, TotalCapturedAmount: 1599, Corrects: "capture_failed"},
		},
	} {
		o := options()
		o.From, o.To, o.Now = firstDay.Add(31*day), firstDay.Add(90*day), firstDay.Add(90*day)
		if found, err := reconcile.Compare(t.Context(), books(folded(records...)), report(), o); err != nil || !slices.Equal(told(found), []string{"missing order-1"}) {
			t.Errorf("%s: found %q, %v; want that it is missing", name, told(found), err)
		}
	}
}
