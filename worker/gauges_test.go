package worker

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
)

// The gauge of open breaks says 0 of what is closed, so that an alert on it ends, and nothing once another worker leads.
func TestGaugeOfOpenBreaks(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	m := NewMetrics(r)
	shows := func(what string, want map[string]float64) {
		t.Helper()
		got := map[string]float64{}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, s := range f.GetMetric() {
				if f.GetName() == "renewals_breaks_open" {
					got[s.GetLabel()[0].GetValue()+" "+s.GetLabel()[1].GetValue()] = s.GetGauge().GetValue()
				}
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		for series, n := range want {
			if got[series] != n {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
	}
	m.gaugeBreaks(map[messages.Account]map[messages.BreakKind]int{"se": {messages.BreakMissing: 2, "of_tomorrow": 1, "of_next_week": 1}, "de": {messages.BreakSecondOrder: 1}})
	shows("open", map[string]float64{"se missing": 2, "se other": 2, "de second_order": 1})
	m.gaugeBreaks(map[messages.Account]map[messages.BreakKind]int{"se": {messages.BreakMissing: 1}})
	shows("some are closed", map[string]float64{"se missing": 1, "se other": 0, "de second_order": 0})
	m.forget()
	shows("another worker leads", nil)
}

// Breaks of accounts that this worker does not serve count, too: one worker looks for everybody.
func TestBreaksOfOtherAccountsCount(t *testing.T) {
	w := newWorld(t)
	g := gauges{js: w.js, metrics: NewMetrics(prometheus.NewRegistry())}
	b := messages.Break{ID: messages.NewBreakID(messages.BreakMissing, "other", "1"), Kind: messages.BreakMissing, Account: "other", Status: messages.BreakOpen, At: w.now()}
	m, err := b.Message()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	g.lookAtBreaks(t.Context())
	if len(g.metrics.broken) != 1 || !g.metrics.broken[brokenSeries{"other", messages.BreakMissing}] {
		t.Errorf("series: %v", g.metrics.broken)
	}
}

// Jobs for what no account can be called are jobs that nobody serves.
func TestGaugeOfUnservedJobs(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	NewMetrics(r).gauge(desk.Overview{
		Accounts:     []desk.AccountOverview{{Name: "se", Backlog: 3, Workers: 1}, {Name: "de", Backlog: 2}},
		Misaddressed: []desk.Misaddressed{{Account: `"SE"`, Job: desk.ChargeJob, Jobs: 4}, {Account: `"SE"`, Job: desk.CaptureJob, Jobs: 1}},
	}, nil, 0)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "renewals_unserved_jobs" && f.GetMetric()[0].GetGauge().GetValue() != 7 {
			t.Errorf("%v, want 7", f.GetMetric())
		}
	}
}
