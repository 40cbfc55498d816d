package settlements_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/klarna/settlements"
)

// read reads a whole report, and compares its rows with its totals.
func read(t testing.TB, r io.Reader, form settlements.Form) (rows []settlements.Transaction, payouts []settlements.Payout, unverified []string, err error) {
	t.Helper()
	var audit settlements.Audit
	for record, err := range settlements.ReadCSV(r, form) {
		if err == nil {
			err = audit.Add(record)
		}
		if err != nil {
			return rows, payouts, audit.Unverified, err
		}
		if record.Payout != nil {
			payouts = append(payouts, *record.Payout)
		}
		if record.Transaction != nil {
			rows = append(rows, *record.Transaction)
		}
	}
	return rows, payouts, audit.Unverified, audit.Close()
}

func portal(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/portal.csv")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReadCSV(t *testing.T) {
	rows, payouts, unverified, err := read(t, strings.NewReader(portal(t)), settlements.Form{})
	if err != nil || len(rows) != 6 || len(payouts) != 1 || len(unverified) != 0 {
		t.Fatalf("%d rows, %d payouts, unverified %v, %v; want 6, 1 and nothing", len(rows), len(payouts), unverified, err)
	}
	if p := payouts[0]; p.PaymentReference != "XISA93DJ" || p.CurrencyCode != "EUR" || p.MerchantID != "K123456" || p.Totals.Settlement != 1464 || p.PayoutDate.Day() != 3 {
		t.Errorf("payout %+v", p)
	}
	last := rows[5]
	if last.Type != settlements.Return || last.Amount != 1599 || last.Effect() != -1599 || last.CaptureID != "" || last.Line != 10 || last.PaymentReference != "XISA93DJ" || last.RefundID == "" {
		t.Errorf("return %+v", last)
	}
	if fee := rows[1]; fee.VATAmount != 7 || fee.CurrencyCode != "EUR" {
		t.Errorf("fee %+v", fee)
	}
}

// S67: a report with another delimiter. TestFormsOfOneReport writes one report in the ways in which merchants configure it: each reads as the same.
func TestFormsOfOneReport(t *testing.T) {
	want, payouts, _, err := read(t, strings.NewReader(portal(t)), settlements.Form{})
	if err != nil {
		t.Fatal(err)
	}
	other := strings.NewReplacer
	for name, c := range map[string]struct {
		rewrite func(string) string
		form    settlements.Form
	}{
		"comma":                {rewrite: other(";", ",").Replace},
		"tab":                  {rewrite: other(";", "\t").Replace},
		"bar":                  {rewrite: other(";", "|").Replace},
		"CRLF":                 {rewrite: other("\n", "\r\n").Replace},
		"byte order mark":      {rewrite: func(s string) string { return "\ufeff" + s }},
		"comma as sign":        {rewrite: func(s string) string { return decimals(s, ",") }},
		"comma, quoted":        {rewrite: func(s string) string { return quoted(decimals(s, ",")) }},
		"day first with dots":  {rewrite: func(s string) string { return dates(s, "$3.$2.$1") }},
		"day first":            {rewrite: func(s string) string { return dates(s, "$3/$2/$1") }, form: settlements.Form{Dates: settlements.DayMonthYear}},
		"month first":          {rewrite: func(s string) string { return dates(s, "$2/$3/$1") }, form: settlements.Form{Dates: settlements.MonthDayYear}},
		"signed":               {rewrite: other(";0.35;", ";-0.35;", ";0.43;", ";-0.43;", "9/1;15.99;EUR;;ef", "9/1;-15.99;EUR;;ef", "31.98;1.13;0.22;15.99", "31.98;-1.13;-0.22;-15.99").Replace},
		"columns turned round": {rewrite: reversed},
		"names in capitals":    {rewrite: other("type;capture_date", "TYPE;Capture_Date").Replace},
		"filled up lines":      {rewrite: other("\n", ";;;\n", "\n\n", "\n;;;\n").Replace},
	} {
		t.Run(name, func(t *testing.T) {
			text := c.rewrite(portal(t))
			if text == portal(t) {
				t.Fatal("nothing was rewritten")
			}
			got, p, _, err := read(t, strings.NewReader(text), c.form)
			if err != nil || !reflect.DeepEqual(p, payouts) {
				t.Fatalf("payouts %+v, %v\n%s", p, err, text)
			}
			for i := range got {
				got[i].Line, want[i].Line = 0, 0
				got[i].Amount, want[i].Amount = got[i].Effect(), want[i].Effect()
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("found %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestSepLineOfASpreadsheet(t *testing.T) {
	rows, _, _, err := read(t, strings.NewReader("sep=;\r\n"+portal(t)), settlements.Form{})
	if err != nil || len(rows) != 6 || rows[0].Line != 6 {
		t.Errorf("%d rows, first %+v, %v", len(rows), rows, err)
	}
}

// S67: a report that does not add up. TestIncompleteReport takes from a report what nobody may miss.
func TestIncompleteReport(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(portal(t)), "\n")
	for name, text := range map[string]string{
		"a sale missing":      strings.Join(append(lines[:4:4], lines[5:]...), "\n"),
		"the last row cut":    strings.Join(lines[:len(lines)-1], "\n"),
		"a fee doubled":       strings.Join(append(lines, lines[6]), "\n"),
		"another amount":      strings.Replace(portal(t), "12/1;15.99;EUR", "12/1;15.89;EUR", 1),
		"a type of no total":  strings.Replace(portal(t), "FEE;", "TITHE;", 1),
		"another settlement":  strings.Replace(portal(t), ";14.64;", ";14.63;", 1),
		"two that cancel out": strings.Replace(strings.Replace(portal(t), "12/1;15.99;EUR", "12/1;16.99;EUR", 1), "9/1;15.99;EUR;;ef", "9/1;16.99;EUR;;ef", 1),
	} {
		var incomplete *settlements.IncompleteError
		if _, _, _, err := read(t, strings.NewReader(text), settlements.Form{}); !errors.As(err, &incomplete) || incomplete.Payout.PaymentReference != "XISA93DJ" {
			t.Errorf("%s: found error %v, want that of an incomplete payout", name, err)
		}
	}
}

// TestCoverOfTotals has the arithmetic of a payout in each reading that Klarna's documentation leaves open.
func TestCoverOfTotals(t *testing.T) {
	row := func(kind settlements.Type, amount, vat int64) settlements.Transaction {
		return settlements.Transaction{Type: kind, Amount: amount, VATAmount: vat}
	}
	for name, c := range map[string]struct {
		kind   string
		totals settlements.Totals
		rows   []settlements.Transaction
	}{
		"everything": {"NET", settlements.Totals{Sale: 1000, Release: 10, Credit: 20, Commission: 30, FeeRefund: 5, Return: 100, Reversal: 60, Fee: 40, Tax: 8, Charge: 7, Holdback: 9, Settlement: 841},
			[]settlements.Transaction{row("SALE", 1000, 0), row("RELEASE", 10, 0), row("CREDIT", 20, 0), row("COMMISSION", 30, 0), row("FEE_REFUND", 5, 0), row("RETURN", 100, 0),
				row("REVERSAL", 80, 0), row("REVERSAL_MERCHANT_PROTECTION", 20, 0), row("FEE", 30, 6), row("FEE", 10, 2), row("CHARGE", 7, 0), row("HOLDBACK", 9, 0)}},
		"commission taken back": {"NET", settlements.Totals{Sale: 1000, Commission: 30, CommissionReversal: 20, Settlement: 1010},
			[]settlements.Transaction{row("SALE", 1000, 0), row("COMMISSION", 30, 0), row("COMMISSION", -20, 0)}},
		"the same without a sign": {"NET", settlements.Totals{Sale: 1000, Commission: 30, CommissionReversal: 20, Settlement: 1010},
			[]settlements.Transaction{row("SALE", 1000, 0), row("COMMISSION", 30, 0), row("COMMISSION", 20, 0)}},
		"tax with rows":               {"NET", settlements.Totals{Sale: 1000, Fee: 40, Tax: 8, Settlement: 952}, []settlements.Transaction{row("SALE", 1000, 0), row("FEE", 40, 0), row("TAX", 8, 0)}},
		"fees invoiced apart":         {"GROSS", settlements.Totals{Sale: 1000, Fee: 40, Tax: 8, Settlement: 1000}, []settlements.Transaction{row("SALE", 1000, 0), row("FEE", 40, 8)}},
		"debt paid back":              {"NET", settlements.Totals{Sale: 1000, Repay: 300, Settlement: 700}, []settlements.Transaction{row("SALE", 1000, 0)}},
		"a negative one":              {"NET", settlements.Totals{Return: 1000, Deposit: 1000, Settlement: 0}, []settlements.Transaction{row("RETURN", -1000, 0)}},
		"a correction with its total": {"NET", settlements.Totals{Sale: 1000, FeeCorrection: -5, Settlement: 995}, []settlements.Transaction{row("SALE", 1000, 0), row("CORRECTION", -5, 0)}},
		"a correction without":        {"NET", settlements.Totals{Sale: 1000, Settlement: 995}, []settlements.Transaction{row("SALE", 1000, 0), row("CORRECTION", -5, 0)}},
	} {
		var sums settlements.Sums
		for _, r := range c.rows {
			sums.Add(r)
		}
		payout := settlements.Payout{MerchantSettlementType: c.kind, Totals: c.totals}
		if err := sums.Cover(payout); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		payout.Totals.Settlement++
		if err := sums.Cover(payout); err == nil {
			t.Errorf("%s: a settlement of one more is covered, too", name)
		}
	}
}

// TestTotalsThatAreAbsent: a file is compared with the totals that it has, and with nothing where it has none of its sales.
func TestTotalsThatAreAbsent(t *testing.T) {
	const names, rows = "payment_reference;settlement_currency;", "\n\ntype;order_id;amount;posting_currency\nSALE;o-1;15.99;EUR\nSALE;o-2;15.99;EUR\nFEE;o-1;0.35;EUR\nRETURN;o-2;5.00;EUR\n"
	for totals, want := range map[string]struct {
		unverified string
		off        string // by one row less
	}{
		"total_sale_amount;total_settlement_amount\nP1;EUR;31.98;26.63":                           {"", "sale is 3198"},
		"total_settlement_amount\nP1;EUR;26.63":                                                   {"", "settlement is 2663"},
		"total_sale_amount\nP1;EUR;31.98":                                                         {"", "sale is 3198"},
		"total_sale_amount;total_fee_amount\nP1;EUR;31.98;0.35":                                   {"", "sale is 3198"},
		"total_return_amount\nP1;EUR;5.00":                                                        {"whether rows are missing: the totals have no column total_sale_amount", ""},
		"payout_date\nP1;EUR;2026-12-03":                                                          {"whether rows are missing: the totals have no column total_sale_amount", ""},
		"total_sale_amount;total_commission_amount;total_settlement_amount\nP1;EUR;31.98;0;26.63": {"", "sale is 3198"},
	} {
		_, _, unverified, err := read(t, strings.NewReader(names+totals+rows), settlements.Form{})
		if err != nil || strings.Join(unverified, "") != want.unverified {
			t.Errorf("%s: %v, unverified %q; want %q", totals, err, unverified, want.unverified)
		}
		_, _, _, err = read(t, strings.NewReader(names+totals+strings.Replace(rows, "SALE;o-2;15.99;EUR\n", "", 1)), settlements.Form{})
		if want.off == "" && err != nil || want.off != "" && (err == nil || !strings.Contains(err.Error(), want.off)) {
			t.Errorf("%s, a sale missing: %v; want that %s", totals, err, want.off)
		}
	}
}

// TestSignsOfReversals: what disputes took has a minus in a report with signs, and where merchant protection gave back more, in one without.
func TestSignsOfReversals(t *testing.T) {
	const names = "payment_reference;settlement_currency;total_sale_amount;total_return_amount;total_reversal_amount;total_settlement_amount\nP1;EUR;31.98;"
	for text, fits := range map[string]bool{
		"5.00;15.99;10.99\n\ntype;amount;posting_currency\nSALE;31.98;EUR\nRETURN;5.00;EUR\nREVERSAL;15.99;EUR\n":                                             true,
		"-5.00;-15.99;10.99\n\ntype;amount;posting_currency\nSALE;31.98;EUR\nRETURN;-5.00;EUR\nREVERSAL;-15.99;EUR\n":                                         true,
		"5.00;-4.01;30.99\n\ntype;amount;posting_currency\nSALE;31.98;EUR\nRETURN;5.00;EUR\nREVERSAL;15.99;EUR\nREVERSAL_MERCHANT_PROTECTION;20.00;EUR\n":     true,
		"-5.00;4.01;30.99\n\ntype;amount;posting_currency\nSALE;31.98;EUR\nRETURN;-5.00;EUR\nREVERSAL;-15.99;EUR\nREVERSAL_MERCHANT_PROTECTION;20.00;EUR\n":   true,
		"-5.00;-15.98;11.00\n\ntype;amount;posting_currency\nSALE;31.98;EUR\nRETURN;-5.00;EUR\nREVERSAL;-15.99;EUR\n":                                         false,
		"-5.00;-15.99;42.97\n\ntype;amount;posting_currency\nSALE;31.98;EUR\nRETURN;-5.00;EUR\nREVERSAL;-15.99;EUR\n":                                         false,
		"-5.00;-15.99;10.99\n\ntype;amount;posting_currency\nSALE;31.98;EUR\nRETURN;-5.00;EUR\nREVERSAL;-15.99;EUR\nREVERSAL_MERCHANT_PROTECTION;31.98;EUR\n": false,
	} {
		if _, _, _, err := read(t, strings.NewReader(names+text), settlements.Form{}); (err == nil) != fits {
			t.Errorf("%s\n%v; want it to fit: %t", text, err, fits)
		}
	}
}

// TestFilesHaveTheirOwnTotals: those of one file are not about the rows of the next, which may have none.
func TestFilesHaveTheirOwnTotals(t *testing.T) {
	bare := "type;order_id;amount;posting_currency\nSALE;o-9;9.99;EUR\n"
	for name, files := range map[string][]string{"with totals first": {portal(t), bare}, "with totals last": {bare, portal(t)}, "the same columns": {portal(t), portal(t)[strings.Index(portal(t), "type;"):]}} {
		var audit settlements.Audit
		covered, rows := 0, 0
		for _, file := range files {
			for record, err := range settlements.ReadCSV(strings.NewReader(file), settlements.Form{}) {
				if err == nil {
					err = audit.Add(record)
				}
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if record.Transaction != nil {
					if rows++; audit.Covered() {
						covered++
					}
				}
			}
		}
		if err := audit.Close(); err != nil || covered != 6 || rows == covered || len(audit.Unverified) != 1 {
			t.Errorf("%s: %d of %d rows are covered, unverified %q, %v; want 6, and that the others are not", name, covered, rows, audit.Unverified, err)
		}
	}
}

func TestFileOfSeveralMerchants(t *testing.T) {
	second := strings.NewReplacer("XISA93DJ", "YKTB04EK", "K123456", "K654321", ";EUR", ";SEK").Replace(portal(t))
	rows, payouts, _, err := read(t, strings.NewReader(portal(t)+second), settlements.Form{})
	if err != nil || len(rows) != 12 || len(payouts) != 2 || rows[11].MerchantID != "K654321" || rows[11].CurrencyCode != "SEK" || rows[11].PaymentReference != "YKTB04EK" || rows[0].MerchantID != "K123456" {
		t.Errorf("%d rows of %d payouts, %v; last %+v", len(rows), len(payouts), err, rows[len(rows)-1])
	}
	sections := strings.SplitN(portal(t), "\n\n", 2)
	head := strings.SplitAfter(sections[0], "\n")
	together := sections[0] + "\n" + strings.NewReplacer("XISA93DJ", "YKTB04EK").Replace(head[1]) + "\n" + sections[1] + strings.SplitN(sections[1], "\n", 2)[1]
	if rows, payouts, _, err = read(t, strings.NewReader(together), settlements.Form{}); err != nil || len(payouts) != 2 || rows[0].PaymentReference != "" {
		t.Errorf("two payouts over rows that do not tell theirs: %d rows, %+v, %v", len(rows), payouts, err)
	}
}

func TestPayoutTwice(t *testing.T) {
	if _, _, _, err := read(t, strings.NewReader(portal(t)+"\n"+portal(t)), settlements.Form{}); err == nil || !strings.HasPrefix(err.Error(), "payout XISA93DJ is in the report twice") {
		t.Errorf("found %v, want that it is there twice", err)
	}
}

// TestSummaryOfPayouts: a report of all payouts between two dates has totals of each currency, whose rows may tell their payout or not.
func TestSummaryOfPayouts(t *testing.T) {
	const totals = "summary_payout_date_start;summary_payout_date_end;summary_settlement_currency;summary_total_sale_amount;summary_total_settlement_amount\n" +
		"2026-12-01;2026-12-31;EUR;31.98;31.98\n2026-12-01;2026-12-31;SEK;99.00;99.00\n\n"
	for name, rows := range map[string]string{
		"rows that tell their payout": "type;order_id;amount;posting_currency;payment_reference\nSALE;o-1;15.99;EUR;P1\nSALE;o-2;15.99;EUR;P2\nSALE;o-3;99.00;SEK;P3\n",
		"rows that do not":            "type;order_id;amount;posting_currency\nSALE;o-1;15.99;EUR\nSALE;o-2;15.99;EUR\nSALE;o-3;99.00;SEK\n",
	} {
		if got, payouts, unverified, err := read(t, strings.NewReader(totals+rows), settlements.Form{}); err != nil || len(got) != 3 || len(payouts) != 2 || len(unverified) != 0 {
			t.Errorf("%s: %d rows, %+v, %v, %v", name, len(got), payouts, unverified, err)
		}
		var incomplete *settlements.IncompleteError
		if _, _, _, err := read(t, strings.NewReader(totals+rows[:strings.LastIndex(rows, "SALE")]), settlements.Form{}); !errors.As(err, &incomplete) || !strings.HasPrefix(err.Error(), "the report of payouts in SEK is incomplete: its 0 rows") {
			t.Errorf("%s, the last missing: %v", name, err)
		}
	}
}

// TestColumnMissing: what is not there is empty, and what it would have told is named.
func TestColumnMissing(t *testing.T) {
	rows := portal(t)[strings.Index(portal(t), "type;"):]
	got, _, unverified, err := read(t, strings.NewReader(rows), settlements.Form{})
	if err != nil || len(got) != 6 || len(unverified) != 1 || !strings.Contains(unverified[0], "no totals") || got[0].PaymentReference != "" {
		t.Errorf("without totals: %d rows, %v, %v", len(got), unverified, err)
	}
	for record, err := range settlements.ReadCSV(strings.NewReader("type;order_id\nSALE;o-1\n"), settlements.Form{}) {
		if err != nil || record.Columns != nil && fmt.Sprint(record.Columns.Missing("order_id", "amount")) != "[amount]" {
			t.Errorf("found %+v, %v", record, err)
		}
	}
	text := portal(t)
	for _, column := range []string{"amount", "type"} {
		text = strings.Replace(text, ";"+column+";", ";x;", 1)
		text = strings.Replace(text, "\n"+column+";", "\nx;", 1)
		if _, _, unverified, err := read(t, strings.NewReader(text), settlements.Form{}); err != nil || len(unverified) != 1 || !strings.Contains(unverified[0], "column") {
			t.Errorf("without %s: %v, %v", column, unverified, err)
		}
	}
}

// TestErrorsSayWhere has what a person can get wrong with a file.
func TestErrorsSayWhere(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		form settlements.Form
		want string
	}{
		"no amount":          {"type;amount\nSALE;15.99\nFEE;free\n", settlements.Form{}, `line 3, column 5 (amount): found "free", expected a decimal number`},
		"thousands or not":   {"type;amount\nSALE;1.599\n", settlements.Form{}, `line 2, column 6 (amount): found "1.599": the decimal sign is unknown: is it ., or does that part thousands`},
		"too fine":           {"type;amount\nSALE;1.5991\n", settlements.Form{}, `line 2, column 6 (amount): found "1.5991", expected at most 2 decimals`},
		"day or month":       {"type;sale_date\nSALE;03/04/2026\n", settlements.Form{}, `line 2, column 6 (sale_date): found "03/04/2026": whether the day or the month comes first is unknown`},
		"no date":            {"type;sale_date\nSALE;yesterday\n", settlements.Form{}, `line 2, column 6 (sale_date): found "yesterday", expected a date with a year of four digits`},
		"13th month":         {"type;sale_date\nSALE;2026-13-01\n", settlements.Form{}, `line 2, column 6 (sale_date): found "2026-13-01", expected a date`},
		"another table":      {"a;b\n1;2\n", settlements.Form{}, "line 1: expected a line with the names of Klarna's columns, such as type, order_id and amount"},
		"nothing":            {"", settlements.Form{}, "line 1: expected a line with the names of Klarna's columns, such as type, order_id and amount"},
		"nothing but a mark": {"\ufeff\r\n;;\r\n", settlements.Form{}, "line 1: expected a line with the names of Klarna's columns, such as type, order_id and amount"},
		"a column twice":     {"type;amount;amount\n", settlements.Form{}, "line 1, column 13 (amount): the column is there twice"},
		"a field too many":   {"type;amount\nSALE;1;2\n", settlements.Form{}, "line 2, column 8: found 3 fields, expected at most 2: is a delimiter in the text?"},
		"an open quote":      {"type;amount\nSALE;\"1\nSALE;2\n", settlements.Form{}, "line 2: extraneous or missing \" in quoted-field, in line 3"},
		"an endless quote":   {"type;amount\nSALE;\"" + strings.Repeat("x\n", 1<<20), settlements.Form{}, "line 2: a line of more than 1 MiB: is a quote not closed?"},
		"UTF-16":             {"\xff\xfet\x00y\x00", settlements.Form{}, "line 1: this is no UTF-8: save the file as CSV UTF-8"},
		"an unknown money":   {"type;amount;posting_currency\nSALE;1;XXQ\n", settlements.Form{MinorUnits: func(string) (int, bool) { return 0, false }}, `line 2, column 6 (amount): currency "XXQ" is none`},
		"more than there is": {"type;amount\nSALE;99999999999999999999\n", settlements.Form{}, `line 2, column 6 (amount): found "99999999999999999999", which is more than there is`},
	} {
		if _, _, _, err := read(t, strings.NewReader(c.text), c.form); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: found %v\nwant %s", name, err, c.want)
		}
	}
}

func TestAmounts(t *testing.T) {
	for _, c := range []struct {
		text, currency string
		decimal        rune
		want           int64
	}{
		{"15.99", "EUR", 0, 1599}, {"15,99", "EUR", 0, 1599}, {"-15.99", "EUR", 0, -1599}, {"15.99-", "EUR", 0, -1599}, {"−15,9", "EUR", 0, -1590}, {"16", "EUR", 0, 1600},
		{"1.234,56", "EUR", 0, 123456}, {"1,234.56", "EUR", 0, 123456}, {"1.234.567", "EUR", 0, 123456700}, {"1 234,56", "EUR", 0, 123456}, {"1’234.56", "CHF", 0, 123456}, {"1\u00a0234,56", "SEK", 0, 123456},
		{"1.234", "EUR", ',', 123400}, {"0.100", "EUR", 0, 10}, {"1599", "JPY", 0, 1599}, {"1.599", "KWD", 0, 1599}, {"15.990000", "EUR", 0, 1599}, {"92233720368547758.07", "EUR", 0, 1<<63 - 1},
	} {
		digits := map[string]int{"JPY": 0, "KWD": 3}
		form := settlements.Form{Decimal: c.decimal, MinorUnits: func(code string) (int, bool) {
			if d, ok := digits[code]; ok {
				return d, true
			}
			return 2, true
		}}
		rows, _, _, err := read(t, strings.NewReader("type|amount|posting_currency\nCORRECTION|"+c.text+"|"+c.currency+"\n"), form)
		if err != nil || rows[0].Amount != c.want {
			t.Errorf("%s %s: found %+v, %v; want %d", c.text, c.currency, rows, err, c.want)
		}
	}
}

// TestMemoryOfALongReport: a report of any length takes the memory of a line.
func TestMemoryOfALongReport(t *testing.T) {
	line := []byte(strings.SplitAfter(portal(t), "\n")[4])
	const rows = 50_000
	long := io.MultiReader(strings.NewReader(portal(t)[strings.Index(portal(t), "type;"):]), &again{line: line, times: rows})
	var before, after runtime.MemStats
	n := 0
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, err := range settlements.ReadCSV(long, settlements.Form{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == rows {
			runtime.GC()
			runtime.ReadMemStats(&after)
		}
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); n != rows+8 || grown > 1<<20 {
		t.Errorf("%d records, %d bytes of heap more; want %d, and at most 1 MiB", n, grown, rows+8)
	}
}

type again struct {
	line  []byte
	rest  []byte
	times int
}

func (a *again) Read(p []byte) (int, error) {
	if len(a.rest) == 0 {
		if a.times == 0 {
			return 0, io.EOF
		}
		a.times--
		a.rest = a.line
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// FuzzReadCSV: no input panics or is read without end; what is read has a line.
//
//	go test -run '^$' -fuzz '^FuzzReadCSV$' ./klarna/settlements
func FuzzReadCSV(f *testing.F) {
	f.Add([]byte(portal(f)))
	f.Add([]byte("\ufeffsep=,\r\ntype,amount,sale_date\r\nSALE,\"1.234,56\",31.12.2026 23:59\r\n"))
	f.Add([]byte("type|amount\nSALE|1’234.5-\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var audit settlements.Audit
		for record, err := range settlements.ReadCSV(bytes.NewReader(text), settlements.Form{}) {
			if err != nil {
				return
			}
			if record.Columns == nil && record.Payout == nil && record.Transaction == nil && !record.End || record.Transaction != nil && record.Transaction.Line < 1 {
				t.Fatalf("found %+v", record)
			}
			_ = audit.Add(record)
		}
		_ = audit.Close()
	})
}
