package books

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

// A charge that was paid is not what is open, where the record of the capture that is cannot be read: whether all of it is read at
// once or record by record.
func TestUnreadableClaimLeavesNoneOpen(t *testing.T) {
	renewal := messages.NewRenewal("sub", "2026-12")
	about := messages.Record{
		ID: "charge", Account: "default", SubscriptionID: "sub", Period: "2026-12", Attempt: 1, RenewalKey: renewal.Key(),
		IdempotencyKey: messages.NewIdempotencyKey(renewal.Key(), "charge"), OrderAmount: 1599, PurchaseCurrency: "EUR", At: noon,
	}
	var records []Record
	add := func(phase string, e messages.Event, kind messages.Kind) *Record {
		body, err := messages.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		state, _ := json.Marshal(map[string]any{"v": 1, "phase": phase, "due_at": noon, "attempts": 1})
		records = append(records, Record{
			Sequence: uint64(len(records) + 1), Stored: noon, State: string(state), EventID: fmt.Sprint(len(records)), Body: body,
			Subject: messages.RecordAddress{Kind: kind, Renewal: renewal, Due: noon.Unix(), Account: "default"}.Subject(),
		})
		return &records[len(records)-1]
	}
	add("charging", messages.Charging{Record: about, FirstSentAt: noon}, messages.KindCharging)
	add("paid", messages.Paid{Record: about, OrderID: "o", FraudStatus: "ACCEPTED"}, messages.KindPaid)
	add("capturing", messages.Capturing{Record: about, OrderID: "o"}, messages.KindCapturing).Body = []byte("no JSON")
	add("capturing", messages.Rejected{Record: about, Reason: "conflict"}, messages.KindRejected)

	for name, cut := range map[string]func(int) int{"at once": whole, "one by one": func(int) int { return 1 }, "in halves": func(int) int { return 2 }, "the claim before": func(left int) int {
		if left == len(records) {
			return 1
		}
		return left
	}} {
		path := filepath.Join(t.TempDir(), "books.db")
		built(t, path, records, cut)
		if got := dumped(t, path); strings.Contains(got, "open_key=") || !strings.Contains(got, "phase=capturing") {
			t.Errorf("%s: a key is open:\n%s", name, got)
		}
	}
	path := filepath.Join(t.TempDir(), "books.db")
	built(t, path, records[:1], whole)
	if !strings.Contains(dumped(t, path), "open_key="+string(about.IdempotencyKey)) {
		t.Error("the charge under way is not open")
	}
}
