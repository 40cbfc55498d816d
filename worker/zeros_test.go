package worker

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/klarna-renewals/renewals/messages"
)

// A series that is counted in takes the place of its zero: each is there once, whether something has happened to it or not.
func TestSeriesFromZero(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	for _, a := range []messages.Account{"a", "b"} {
		m.start(a)
	}
	m.results.WithLabelValues("b", "paid", "").Add(3)
	m.paused.WithLabelValues("a", "breaker").Set(1)
	m.tried("a", nil)
	families, err := m.Gatherer(registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, s := range f.Metric {
			name := f.GetName() + fmt.Sprint(s.Label)
			if _, twice := values[name]; twice {
				t.Errorf("%s is there twice", name)
			}
			values[name] = s.GetCounter().GetValue() + s.GetGauge().GetValue()
		}
	}
	for _, of := range []struct {
		metric string
		series int
		sum    float64
	}{
		{metric: "renewals_results_total", series: 2 * len(fromZero("results_total")), sum: 3},
		{metric: "renewals_account_paused", series: 2 * len(fromZero("account_paused")), sum: 1},
		{metric: "renewals_klarna_requests_total", series: 2 * len(startCodes), sum: 1},
		{metric: "renewals_stray_orders_total", series: 2 * len(fromZero("stray_orders_total"))},
		{metric: "renewals_duplicates_total", series: 2},
		{metric: "renewals_charge_seconds", series: 2},
		{metric: "renewals_panics_total", series: 3}, // one of them is nobody's
	} {
		n, sum := 0, 0.0
		for _, f := range families {
			if f.GetName() == of.metric {
				for _, s := range f.Metric {
					n, sum = n+1, sum+s.GetCounter().GetValue()+s.GetGauge().GetValue()
				}
			}
		}
		if n != of.series || sum != of.sum {
			t.Errorf("%s: %d series with %v in all, want %d with %v", of.metric, n, sum, of.series, of.sum)
		}
	}
	kept, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range kept {
		if n := len(f.Metric); f.GetName() == "renewals_results_total" && n != 1 {
			t.Errorf("series kept of results: %d, want the one to which something has happened", n)
		}
	}
}

// What is written line by line is what is gathered, series for series.
func TestTextIsWhatIsGathered(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	for _, a := range []messages.Account{"a", "b-1"} {
		m.start(a)
	}
	m.results.WithLabelValues("b-1", "paid", "").Add(3)
	m.charge.WithLabelValues("a").Observe(0.3)
	m.paused.WithLabelValues("a", "breaker").Set(1)
	families, err := m.Gatherer(registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var gathered, written bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&gathered, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.WriteText(&written, registry); err != nil {
		t.Fatal(err)
	}
	want, got := gathered.String(), written.String()
	if got != want {
		t.Errorf("written:\n%s\nwant:\n%s", got, want)
	}
	if strings.Count(got, "renewals_charge_seconds_bucket{account=\"b-1\"") == 0 {
		t.Error("a histogram without observations is not there")
	}
}
