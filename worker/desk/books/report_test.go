package books

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

func open(t testing.TB, records []Record) *Books {
	t.Helper()
	path := filepath.Join(t.TempDir(), "books.db")
	built(t, path, records, whole)
	b, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestExport(t *testing.T) {
	records := charged(1, 3)
	for i := range records {
		records[i].Sequence, records[i].Stored = uint64(i+1), noon
	}
	records[3].Body = bytes.Replace(records[3].Body, []byte(`"merchant_reference1":"sub-2-2026-12"`), []byte(`"merchant_reference1":"=HYPERLINK(1)","actor":"-ada","note":"@a, \"b\"\nc"`), 1)
	b := open(t, records)
	for _, tt := range []struct {
		name   string
		filter Filter
		want   []string // sequences
	}{
		{"all that announce something", Filter{}, []string{"2", "4"}},
		{"claims", Filter{Kinds: []messages.Kind{messages.KindCharging}}, []string{"1", "3"}},
		{"of another account", Filter{Accounts: []messages.Account{"se"}}, nil},
		{"of this account, since then", Filter{Accounts: []messages.Account{"default", "se"}, Since: noon}, []string{"2", "4"}},
		{"until then", Filter{Until: noon}, nil},
	} {
		var out bytes.Buffer
		n, err := b.Export(t.Context(), &out, tt.filter)
		lines, problem := csv.NewReader(&out).ReadAll()
		if err != nil || problem != nil || n != int64(len(tt.want)) || len(lines) != len(tt.want)+1 {
			t.Fatalf("%s: %d, %v, %v, %v", tt.name, n, lines, err, problem)
		}
		for i, want := range tt.want {
			got := map[string]string{}
			for c, name := range lines[0] {
				got[name] = lines[i+1][c]
			}
			if got["sequence"] != want || got["amount"] != fmt.Sprintf("16.%02d", got2(got["amount_minor"])) || got["currency"] != "EUR" {
				t.Errorf("%s: %v", tt.name, got)
			}
			if want == "4" && (got["merchant_reference1"] != "'=HYPERLINK(1)" || got["actor"] != "'-ada" || got["note"] != "'@a, \"b\"\nc") {
				t.Errorf("not defused: %q, %q, %q", got["merchant_reference1"], got["actor"], got["note"])
			}
		}
	}
}

func got2(minor string) (cents int64) {
	_, _ = fmt.Sscan(minor, &cents)
	return cents - 1600
}

func TestDefused(t *testing.T) {
	for cell, want := range map[string]string{"": "", "a=b": "a=b", "=1": "'=1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\tx": "'\tx", "\rx": "'\rx", "ü": "ü", "'x": "'x"} {
		if got := Defused(cell); got != want {
			t.Errorf("%q: %q, want %q", cell, got, want)
		}
	}
}

// What the reports say, beside a plain reading of the same records.
func TestReports(t *testing.T) {
	var records []Record
	type refused struct {
		category string
		paid     int64
	}
	first, reasons, paid := map[string]*refused{}, map[string]int64{}, map[string][2]int64{}
	large(3000, func(r Record) {
		records = append(records, r)
		row := Read(r)
		name, e := string(row.address.Renewal), row.event
		day := e.At.Format(time.DateOnly)
		switch row.address.Kind {
		case messages.KindDunning:
			reasons[day+" "+e.Reason]++
			if first[name] == nil {
				first[name] = &refused{category: e.Category}
			}
		case messages.KindPaid:
			sum := paid[day+" "+e.PurchaseCurrency]
			paid[day+" "+e.PurchaseCurrency] = [2]int64{sum[0] + 1, sum[1] + e.OrderAmount}
			if first[name] != nil {
				first[name].paid = e.Attempt
			}
		}
	})
	b := open(t, records)
	recovered, err := b.Recovery(t.Context(), Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, r := range recovered {
		got = append(got, fmt.Sprint(r.Category, r.Refused, r.Paid))
	}
	by := map[string]*Recovered{}
	for _, f := range first {
		if by[f.category] == nil {
			by[f.category] = &Recovered{Paid: make([]int64, recoveredAttempts)}
		}
		by[f.category].Refused++
		if f.paid > 0 {
			by[f.category].Paid[min(f.paid-2, recoveredAttempts-1)]++
		}
	}
	for category, r := range by {
		want = append(want, fmt.Sprint(category, r.Refused, r.Paid))
	}
	if slices.Sort(want); !slices.Equal(got, want) || len(want) < 4 {
		t.Errorf("recovered %v\nwant %v", got, want)
	}
	counted, err := b.Refusals(t.Context(), Filter{}, Days)
	if err != nil || len(counted) != len(reasons) {
		t.Errorf("%d counts of refusals, %v; want %d", len(counted), err, len(reasons))
	}
	for _, c := range counted {
		if c.N != reasons[c.Day+" "+c.Of] {
			t.Errorf("refusals %+v, want %d", c, reasons[c.Day+" "+c.Of])
		}
	}
	money, err := b.Money(t.Context(), Filter{}, Days)
	if err != nil || len(money) != len(paid) {
		t.Errorf("%d sums of money, %v; want %d", len(money), err, len(paid))
	}
	for _, c := range money {
		if sum := paid[c.Day+" "+c.Of]; c.N != sum[0] || c.Minor != sum[1] {
			t.Errorf("money %+v, want %v", c, sum)
		}
	}
}

// corrected are records of renewals, each of which the next word of its history tells: kind and attempt, paid1.
func corrected(t *testing.T, histories ...string) (records []Record) {
	t.Helper()
	for n, history := range histories {
		for word := range strings.FieldsSeq(history) {
			kind, attempt := messages.Kind(word[:len(word)-1]), int64(word[len(word)-1]-'0')
			d := &draft{subscription: fmt.Sprint("sub-", n), amount: 1600}
			renewal := messages.NewRenewal(messages.SubscriptionID(d.subscription), "2026-12")
			id := messages.MessageID(fmt.Sprint(d.subscription, "/2026-12/", attempt))
			body, err := messages.Encode(d.event(kind, messages.Record{
				ID: id, Account: "default", SubscriptionID: messages.SubscriptionID(d.subscription), Period: "2026-12", Attempt: attempt, RenewalKey: renewal.Key(),
				IdempotencyKey: messages.NewIdempotencyKey(renewal.Key(), id), OrderAmount: d.amount, PurchaseCurrency: "EUR", At: noon,
			}))
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, Record{
				Sequence: uint64(len(records) + 1), Stored: noon, Subject: messages.RecordAddress{Kind: kind, Renewal: renewal, Due: noon.Unix(), Account: "default"}.Subject(),
				State: fmt.Sprintf(`{"v":1,"phase":%q,"due_at":"2026-12-01T12:00:00Z","attempts":%d}`, kind, attempt), Body: body,
			})
		}
	}
	return records
}

// What an operator put right counts as it stands, and the renewal's row has no word of a payment that was none.
func TestReportsOfWhatWasPutRight(t *testing.T) {
	for history, want := range map[string]struct{ money, recovered, row string }{
		"paid1":                      {"1 16.00", "", "paid"},
		"paid1 dunning1":             {"", "1 [0 0 0 0] 1", "-"},
		"paid1 dunning1 charging2":   {"", "1 [0 0 0 0] 1", "-"},
		"paid1 dunning1 paid2":       {"1 16.00", "1 [1 0 0 0] 0", "paid"},
		"dunning1 paid1":             {"1 16.00", "", "paid"},
		"dunning1 paid1 dunning1":    {"", "1 [0 0 0 0] 1", "-"},
		"dunning1 paid2 dunning2":    {"", "1 [0 0 0 0] 1", "-"},
		"dunning1 dunning2 paid2":    {"1 16.00", "1 [1 0 0 0] 0", "paid"},
		"dunning1 paid1 paid1":       {"1 16.00", "", "paid"},
		"unresolved1 paid1 paid1":    {"1 16.00", "", "paid"},
		"paid1 dunning1 unresolved2": {"", "1 [0 0 0 0] 0", "-"},
	} {
		for _, cut := range []func(int) int{whole, func(int) int { return 1 }} {
			path := filepath.Join(t.TempDir(), "books.db")
			built(t, path, corrected(t, history), cut)
			b, err := Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			got := struct{ money, recovered, row string }{row: "-"}
			money, err := b.Money(t.Context(), Filter{}, Days)
			for _, m := range money {
				got.money += fmt.Sprintf("%d %d.%02d", m.N, m.Minor/100, m.Minor%100)
			}
			recovered, problem := b.Recovery(t.Context(), Filter{})
			for _, r := range recovered {
				got.recovered += fmt.Sprint(r.Refused, r.Paid, r.Open)
			}
			row := all(t, b, "SELECT paid_at, captured_amount FROM renewals")[0]
			if row["paid_at"] != nil && row["captured_amount"] == int64(1600) {
				got.row = "paid"
			} else if len(row) > 0 {
				got.row = fmt.Sprint(row)
			}
			if err != nil || problem != nil || got != want {
				t.Errorf("%s: %+v, %v, %v; want %+v", history, got, err, problem, want)
			}
			_ = b.Close()
		}
	}
}

// However a job writes its currency, it is the same money.
func TestCurrencyOfAnyCase(t *testing.T) {
	records := charged(7, 9) // 15.99 and 16.00
	for i := range records {
		records[i].Sequence, records[i].Stored = uint64(i+1), noon
		if i > 1 {
			records[i].Body = bytes.Replace(records[i].Body, []byte(`"EUR"`), []byte(`"eUr"`), 1)
		}
	}
	b := open(t, records)
	money, err := b.Money(t.Context(), Filter{}, Days)
	if err != nil || len(money) != 1 || money[0].Of != "EUR" || money[0].N != 2 || money[0].Minor != 3199 {
		t.Errorf("money %+v, %v; want 2 orders of 31.99 EUR", money, err)
	}
	for _, text := range []string{"16.00 EUR", "16.00 eur", "16.00 Eur 2026-12-01"} {
		if hits, _, err := b.Find(t.Context(), text, 10); err != nil || len(hits) != 1 || hits[0].Renewal.SubscriptionID != "sub-8" || hits[0].Renewal.PurchaseCurrency != "EUR" {
			t.Errorf("%s: %+v, %v", text, hits, err)
		}
	}
}

// A week begins on Monday, a month on its first day.
func TestSpans(t *testing.T) {
	records := charged(1, 2)
	for i, day := range []string{"2026-11-29", "2026-11-30", "2026-12-06", "2026-12-07"} { // a Sunday, a Monday, a Sunday, a Monday
		r := records[1]
		r.Sequence, r.Stored = uint64(i+1), noon
		r.Body = []byte(strings.ReplaceAll(string(r.Body), `"at":"2026-12-01T`, `"at":"`+day+"T"))
		r.Body = []byte(strings.ReplaceAll(string(r.Body), "sub-1", fmt.Sprint("sub-1", i)))
		r.Subject = strings.ReplaceAll(r.Subject, "sub-1", fmt.Sprint("sub-1", i))
		records = append(records, r)
	}
	b := open(t, records[2:])
	for span, want := range map[Span]string{
		Days: "2026-11-29 1, 2026-11-30 1, 2026-12-06 1, 2026-12-07 1", Weeks: "2026-11-23 1, 2026-11-30 2, 2026-12-07 1", Months: "2026-11-01 2, 2026-12-01 2",
	} {
		money, err := b.Money(t.Context(), Filter{}, span)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range money {
			got = append(got, fmt.Sprintf("%s %d", c.Day, c.N))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("by %s: %v, want %s", span, got, want)
		}
	}
}
