//go:build linux

package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// said is what a reconciliation prints that has named every lie of a month, as change alters it.
func said(t *testing.T, m month, change func(map[string]any)) []byte {
	t.Helper()
	var breaks []messages.Break
	for name := range m.breaks() {
		kind, subscription, _ := strings.Cut(name, " of ")
		breaks = append(breaks, messages.Break{Kind: messages.BreakKind(kind), SubscriptionID: messages.SubscriptionID(subscription)})
	}
	all := map[string]any{"rows": len(m.payout().rows), "expected": m.expected(), "breaks": breaks, "unused": []struct{}{{}, {}, {}}}
	change(all)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A reconciliation passes that names exactly the lies of a month, and none that names one more or less, or has not looked at everything.
func TestJudgeOfAMonth(t *testing.T) {
	m := newMonth(10_000)
	if len(m.breaks()) != liesOfEach*len(told) {
		t.Fatalf("%d breaks of %d lies", len(m.breaks()), liesOfEach*len(told))
	}
	breaks := func(all map[string]any) []messages.Break { return all["breaks"].([]messages.Break) }
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"exactly":  {func(map[string]any) {}, ""},
		"one less": {func(all map[string]any) { all["breaks"] = breaks(all)[1:] }, "not named: ["},
		"one more": {func(all map[string]any) {
			all["breaks"] = append(breaks(all), messages.Break{Kind: "missing", SubscriptionID: "1"})
		}, `no lie: ["missing of 1"]`},
		"one twice":       {func(all map[string]any) { all["breaks"] = append(breaks(all), breaks(all)[0]) }, "no lie: ["},
		"not all rows":    {func(all map[string]any) { all["rows"] = 999 }, "rows 999, expected"},
		"not all in time": {func(all map[string]any) { all["expected"] = 8999 }, "captures not settled yet 8999, expected 9000"},
		"nothing strange": {func(all map[string]any) { all["unused"] = nil }, "unused rows 0, expected 3"},
		"unanswered":      {func(all map[string]any) { all["unanswered"] = []string{"missing"} }, `not answered: ["missing"]`},
	} {
		if err := m.judge(said(t, m, c.change), len(m.payout().rows)); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: found %v, want %q", name, err, c.want)
		}
	}
}

// Whoever asks faster than Klarna allows is found out, and so is who never met the faults.
func TestJudgeOfRequests(t *testing.T) {
	asked := func(every time.Duration) []time.Time {
		var all []time.Time
		for n := range 200 {
			all = append(all, firstOfMonth.Add(time.Duration(n)*every))
		}
		return all
	}
	if err := (&settlementsAPI{asked: asked(200 * time.Millisecond), cut: true, refusals: mostRefusals}).judge(); err != nil {
		t.Error(err)
	}
	for name, api := range map[string]*settlementsAPI{
		"six a second": {asked: asked(time.Second / 6), cut: true, refusals: mostRefusals},
		"never cut":    {asked: asked(time.Second), refusals: mostRefusals},
		"not refused":  {asked: asked(time.Second), cut: true},
	} {
		if api.judge() == nil {
			t.Errorf("%s: nothing is said", name)
		}
	}
	api := &settlementsAPI{}
	for offset, want := range map[int]int{0: 0, 299: 0} {
		if got := api.fault(offset, 1000); got != want {
			t.Errorf("row %d: %d, want %d", offset, got, want)
		}
	}
	for n := range mostRefusals {
		if got := api.fault(300, 1000); got != http.StatusTooManyRequests {
			t.Errorf("request %d for row 300: %d, want 429", n, got)
		}
	}
	if cut, then := api.fault(600, 1000), api.fault(600, 1000); cut != http.StatusBadGateway || then != 0 {
		t.Errorf("row 600: %d and %d, want one cut", cut, then)
	}
}
