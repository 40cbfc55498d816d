package messages_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

func TestCadence(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for cadence, want := range map[messages.Cadence]time.Duration{
		"DAY/1": day, "DAY/10": 10 * day, "WEEK/1": 7 * day, "WEEK/2": 14 * day, "MONTH/1": 30 * day, "MONTH/3": 90 * day, "YEAR/1": 365 * day,
		"YEAR/2147483647": 36500 * day, "": 0, "MONTH": 0, "MONTH/0": 0, "MONTH/-1": 0, "FORTNIGHT/1": 0, "MONTH/2147483648": 0, "1/MONTH": 0,
	} {
		if got := cadence.Length(); got != want {
			t.Errorf("%q lasts %s, want %s", cadence, got, want)
		}
	}
}

// The cadence of an order is the one by which something of it is paid again first.
func TestCadenceOfAnOrder(t *testing.T) {
	t.Parallel()
	line := `{"name":"x","quantity":1,"unit_price":100,"total_amount":100,"total_tax_amount":0,"subscription":{"name":"a {{s}}","interval":"%s","interval_count":%d}}`
	for _, tt := range []struct {
		lines string
		want  messages.Cadence
	}{
		{fmt.Sprintf(line, "MONTH", 1), "MONTH/1"},
		{fmt.Sprintf(line, "WEEK", 2), "WEEK/2"},
		{fmt.Sprintf(line, "YEAR", 1) + "," + fmt.Sprintf(line, "WEEK", 3) + "," + fmt.Sprintf(line, "MONTH", 1), "WEEK/3"},
		{fmt.Sprintf(line, "FORTNIGHT", 1), ""},
	} {
		r := messages.Rules{MixedCadences: true}.Read([]byte(`{"id":"1","subscription_id":"s","period":"p","due_at":"2026-12-01T00:00:00Z","customer_token":"t","order":{"order_lines":[`+tt.lines+`]}}`), nil)
		if r.Facts.Cadence != tt.want {
			t.Errorf("%s: got %q, want %q", tt.lines, r.Facts.Cadence, tt.want)
		}
	}
}
