package desk

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/messages"
)

// A file that people make, with what their spreadsheets do to it.
func TestReadLines(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string
		want       []string // number, name, verdict, order, capture, note; or the problem
		err        string
	}{
		{name: "CSV", text: "id,verdict,order_id,capture_id,note\n1/2026-12/1,paid,o-1,,\"portal, 2 Dec\"\n2,not-charged,,,\n3,,,,\n4,captured,,c-1,\n", want: []string{
			"2 1/2026-12/1 paid o-1  portal, 2 Dec", "3 2 not_charged   ", "4 3    ", "5 4 captured  c-1 ",
		}},
		{name: "of a spreadsheet", text: "\ufeffSubscription;Period;Verdict;Order_ID\r\n77;2026-12;Paid;o-1\r\n'=78;2026-12;not_charged\r\n", want: []string{"2 77/2026-12 paid o-1  ", "3 =78/2026-12 not_charged   "}},
		{name: "tabs", text: "id\tverdict\n1\tnot_captured\n", want: []string{"2 1 not_captured   "}},
		{name: "JSON Lines", text: "\n{\"subscription_id\":\"7\",\"period\":\"2026-12\",\"verdict\":\"paid\",\"order_id\":\"o\",\"tries\":4,\"note\":null}\n\n{\"id\":\"8\"}\n", want: []string{"2 7/2026-12 paid o  ", "4 8    "}},
		{name: "mistakes", text: "id,verdict,order_id,capture_id\n1,payed,,\n2,paid,,\n3,captured,,\n4,paid,a b,\n5,paid,o,c\n,paid,o,\n", want: []string{
			`2 verdict: "payed", expected paid or not_charged`, "3 order_id: nothing, expected the order", "4 capture_id: nothing, expected the capture", `5 order_id: "a b", expected an id of Klarna's`,
			`6 capture_id: "c" beside paid`, "7 neither id nor subscription_id and period",
		}},
		{name: "a number", text: `{"id":"1","verdict":"paid","order_id":7}`, want: []string{"1 order_id: 7, expected a string"}},
		{name: "nothing", text: " \n", err: "found nothing, expected a header"},
		{name: "mistyped column", text: "id,verdict,orderid\n", err: `line 1: unknown column "orderid", expected some of verdict, order_id,`},
		{name: "mistyped field", text: "{\"id\":\"1\",\"verdict\":\"paid\",\"order_id\":\"o\"}\n{\"id\":\"2\",\"verdikt\":\"not_charged\"}\n", err: `line 2: unknown field "verdikt", expected some of id, subscription_id, period, idempotency_key, verdict,`},
		{name: "a field twice", text: `{"subscription":"1","period":"2026-12","subscription_id":"2"}`, err: "line 1: field subscription_id is there twice"},
		{name: "a field without a name", text: `{"id":"1","":"paid"}`, err: `line 1: unknown field ""`},
		{name: "no verdict", text: "id,order_id\n", err: "line 1: no column verdict"},
		{name: "no name", text: "period,verdict\n", err: "line 1: no column id, nor subscription_id and period"},
		{name: "a column twice", text: "subscription,period,verdict,subscription_id\n", err: "line 1: column subscription_id is there twice"},
		{name: "too many cells", text: "id,verdict\n1,paid,x\n", err: "line 2: found 3 cells, expected the 2 of the header"},
		{name: "broken JSON", text: "{}\n{", err: "line 2: "},
		{name: "broken quotes", text: "id,verdict\n\"1,paid\n", err: `line 2`},
	} {
		lines, err := ReadLines(strings.NewReader(row.text))
		if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: got error %v, want %q", row.name, err, row.err)
		}
		var got []string
		for _, l := range lines {
			text := strings.Join([]string{l.Name(), string(l.Verdict), l.OrderID, l.CaptureID, l.Note}, " ")
			if l.Problem != nil {
				text = l.Problem.Error()
			}
			got = append(got, string(rune('0'+l.Number))+" "+text)
		}
		if len(got) != len(row.want) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
			continue
		}
		for i, want := range row.want {
			if l := lines[i]; l.Problem == nil && got[i] != want || l.Problem != nil && !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: got %q, want %q", row.name, got[i], want)
			}
		}
	}
}

// What results have of what is unresolved is read as JSON Lines, too, all of it.
func TestResultsAreReadBack(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile("../../messages/testdata/unresolved.json")
	if err != nil {
		t.Fatal(err)
	}
	if lines, err := ReadLines(bytes.NewReader(body)); err != nil || len(lines) != 1 || !lines[0].Open() {
		t.Errorf("%+v, %v; want a line that is open", lines, err)
	}
}

// What status writes, resolve reads, whatever the names; and no cell of it is a formula.
func TestSheetIsReadBack(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.SampledFrom([]string{`=HYPERLINK("http://x","y")`, "+1", "-1", "@sum", "'", "'=1", "\t=1", "a;b", "a,\"b\"\nc", "é"}), rapid.StringMatching(`[!-~]{1,20}`))
	rapid.Check(t, func(t *rapid.T) {
		u := messages.Unresolved{Record: messages.Record{
			SubscriptionID: messages.SubscriptionID(text.Draw(t, "subscription")), Period: messages.Period(text.Draw(t, "period")), Account: "default", OrderAmount: 1599,
			PurchaseCurrency: "EUR", MerchantReference1: text.Draw(t, "reference"), IdempotencyKey: "066fb987", At: time.Unix(0, 0),
		}, OrderID: text.Draw(t, "order"), LastError: "e"}
		var sheet bytes.Buffer
		if err := WriteSheet(&sheet, []messages.Unresolved{u}); err != nil {
			t.Fatal(err)
		}
		lines, err := ReadLines(bytes.NewReader(sheet.Bytes()))
		if err != nil || len(lines) != 1 {
			t.Fatalf("%d lines, %v, from %q", len(lines), err, sheet.String())
		}
		if l := lines[0]; !l.Open() || l.Subscription != u.SubscriptionID || l.Period != u.Period || l.Key != u.IdempotencyKey {
			t.Fatalf("read back %+v, want %s/%s, open", l, u.SubscriptionID, u.Period)
		}
		for _, value := range []string{string(u.SubscriptionID), u.MerchantReference1, u.OrderID} {
			if cell := Cell(value); ReadCell(cell) != value || strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				t.Fatalf("%q is the cell %q, read as %q", value, cell, ReadCell(cell))
			}
		}
	})
}
