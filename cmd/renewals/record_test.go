package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

func TestAmount(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		minor    int64
		currency string
		want     string
	}{
		{1599, "EUR", "15.99 EUR"}, {5, "EUR", "0.05 EUR"}, {0, "SEK", "0.00 SEK"}, {-250, "eur", "-2.50 eur"}, {-5, "USD", "-0.05 USD"},
		{1599, "JPY", "1599 JPY"}, {1599, "KWD", "1.599 KWD"}, {100, "XXQ", "100 XXQ"}, {100, "", "-"},
		{1<<63 - 1, "EUR", "92233720368547758.07 EUR"}, {-1 << 63, "EUR", "-92233720368547758.08 EUR"}, {1, "\x1b[2J", "1 \uFFFD[2J"},
	} {
		if got := cli.Amount(row.minor, row.currency); got != row.want {
			t.Errorf("amount(%d, %q) = %q, want %q", row.minor, row.currency, got, row.want)
		}
	}
}

func TestRecordForPeople(t *testing.T) {
	t.Parallel()
	next := time.Date(2026, 12, 4, 0, 0, 0, 0, time.UTC)
	no := false
	base := record{SubscriptionID: "1234834", Period: "2026-12", OrderAmount: 1599, Currency: "EUR"}
	for _, row := range []struct {
		about string
		edit  func(*record)
		want  []string
	}{
		{"paid", func(r *record) { r.Kind, r.OrderID = messages.KindPaid, "f3392f8b" }, []string{"renewals.paid ", " 1234834 ", " 2026-12 ", " 15.99 EUR ", "order f3392f8b"}},
		{"to be captured", func(r *record) { r.Kind, r.OrderID, r.Captured = messages.KindPaid, "f3392f8b", &no }, []string{"order f3392f8b, to be captured"}},
		{"late money", func(r *record) { r.Kind, r.OrderID, r.Corrects = messages.KindPaid, "f3392f8b", "dunning" }, []string{"order f3392f8b, corrects dunning"}},
		{"to be captured, until when", func(r *record) {
			r.Kind, r.OrderID, r.Captured, r.CaptureBefore = messages.KindPaid, "f3392f8b", &no, next
		}, []string{"order f3392f8b, to be captured before 2026-12-04 00:00 UTC"}},
		{"capturing", func(r *record) { r.Kind, r.OrderID, r.Amount = messages.KindCapturing, "f3392f8b", 800 }, []string{"renewals.capturing ", " 8.00 EUR ", "of order f3392f8b"}},
		{"captured in part", func(r *record) {
			r.Kind, r.OrderID, r.CaptureID, r.Amount, r.Remaining = messages.KindCaptured, "f3392f8b", "79c7ba10", 800, 799
		}, []string{"renewals.captured ", " 8.00 EUR ", "order f3392f8b, capture 79c7ba10, 7.99 EUR remain to be captured"}},
		{"captured in full", func(r *record) {
			r.Kind, r.OrderID, r.CaptureID, r.Amount, r.Corrects = messages.KindCaptured, "f3392f8b", "79c7ba10", 1599, "unresolved"
		}, []string{" 15.99 EUR ", "capture 79c7ba10, nothing remains, corrects unresolved"}},
		{"capture declined", func(r *record) {
			r.Kind, r.OrderID, r.Amount, r.Reason, r.Category, r.NextAttemptAt = messages.KindCaptureFailed, "f3392f8b", 800, messages.ReasonPaymentMethodFailed, messages.CategorySoftDecline, &next
		}, []string{"renewals.capture_failed ", " 8.00 EUR ", "order f3392f8b, payment_method_failed, soft_decline, next capture 2026-12-04"}},
		{"capture declined for good", func(r *record) {
			r.Kind, r.OrderID, r.Amount, r.Reason, r.Category = messages.KindCaptureFailed, "f3392f8b", 800, messages.ReasonOrderExpired, messages.CategoryMerchantError
		}, []string{"order_expired, merchant_error, final"}},
		{"an unresolved capture", func(r *record) {
			r.Kind, r.OrderID, r.Amount, r.Reason, r.LastError = messages.KindUnresolved, "f3392f8b", 800, messages.ReasonIdempotencyWindowExpired, "timeout"
		}, []string{" 8.00 EUR ", "capture of order f3392f8b, idempotency_window_expired: timeout"}},
		{"pending", func(r *record) { r.Kind, r.OrderID = messages.KindPending, "f3392f8b" }, []string{"renewals.pending", "Klarna is still deciding"}},
		{"declined", func(r *record) {
			r.Kind, r.Reason, r.Category, r.NextAttemptAt = messages.KindDunning, messages.ReasonPaymentMethodFailed, messages.CategorySoftDecline, &next
		}, []string{"renewals.dunning", "payment_method_failed, soft_decline, next attempt 2026-12-04"}},
		{"declined for good", func(r *record) {
			r.Kind, r.Reason, r.Category = messages.KindDunning, messages.ReasonTokenCancelled, messages.CategoryTokenDead
		}, []string{"token_cancelled, token_dead, final"}},
		{"unresolved", func(r *record) {
			r.Kind, r.Reason, r.LastError = messages.KindUnresolved, messages.ReasonContradictoryAnswers, "403 TOKEN_CANCELLED"
		}, []string{"contradictory_answers: 403 TOKEN_CANCELLED"}},
		{"five mistakes", func(r *record) {
			r.Kind, r.Reason, r.SubscriptionID, r.Currency = messages.KindRejected, messages.ReasonInvalid, "", ""
			for i := range 5 {
				r.Errors = append(r.Errors, messages.Problem{Path: "order", Message: fmt.Sprint("wrong ", i)})
			}
		}, []string{" - ", "invalid: order wrong 0: order wrong 1: order wrong 2 and 2 more"}},
		{"a name that steers the terminal", func(r *record) { r.Kind, r.SubscriptionID = messages.KindPaid, "1\x1b[2J\n2" }, []string{"1\uFFFD[2J\uFFFD2"}},
	} {
		r := base
		row.edit(&r)
		for _, want := range row.want {
			p := &cli.Page{}
			if got := strings.Join(recordLayout().Format(r.cells(p), 0), "\n"); !strings.Contains(got, want) || strings.ContainsAny(got, "\n\x1b") {
				t.Errorf("%s: got %q, want %q in one line", row.about, got, want)
			}
		}
	}
}

func TestRecordForPrograms(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ body, want string }{
		{`{"id":"1","order_amount":1599}`, `{"kind":"paid","id":"1","order_amount":1599}` + "\n"},
		{`{}`, `{"kind":"paid"}` + "\n"},
	} {
		got := string(record{Kind: messages.KindPaid, body: []byte(row.body)}.line())
		if got != row.want || !json.Valid([]byte(got)) {
			t.Errorf("got %q, want %q", got, row.want)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3*maxLine)
	for _, row := range []struct {
		about, in string
		want      []string
	}{
		{"nothing", "", nil},
		{"blank lines", "\n \r\n\n", nil},
		{"no newline at the end", "a\nb", []string{"1:a", "2:b"}},
		{"Windows", "a\r\n\r\nb\r\n", []string{"1:a", "3:b"}},
		{"too long", "a\n" + long + "\nb", []string{"1:a", "2:" + long[:maxLine], "3:b"}},
	} {
		var got []string
		var read int64
		err := lines(strings.NewReader(row.in), func(number int, text []byte, at int64) error {
			got = append(got, fmt.Sprintf("%d:%s", number, text))
			read = at
			return nil
		})
		if err != nil || strings.Join(got, "\n") != strings.Join(row.want, "\n") {
			t.Errorf("%s: got %.80q (%v), want %.80q", row.about, got, err, row.want)
		}
		if len(row.want) > 0 && !strings.HasSuffix(row.in, "\n") && read != int64(len(row.in)) {
			t.Errorf("%s: %d bytes read, want %d", row.about, read, len(row.in))
		}
	}
	broken := errors.New("broken")
	if err := lines(strings.NewReader("a\nb\n"), func(int, []byte, int64) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the callback's error", err)
	}
}
