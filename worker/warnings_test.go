package worker

import (
	"bytes"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
)

// S57: what Klarna is not known to refuse is charged. The result says what was
// odd, the metric counts it, and the log hears of each kind once.
func TestWarningsTravelInTheResult(t *testing.T) {
	w := newWorld(t)
	odd := func(j map[string]any) {
		order := j["order"].(map[string]any)
		order["merchant_reference1"], order["merchant_reference2"] = j["id"], 48211
		line := order["order_lines"].([]any)[0].(map[string]any)
		line["quantity"], line["unit_price"] = 7, 229
	}
	w.publish(w.due("s57", "ok-1", 1, odd))
	w.publish(w.due("s57b", "soft-decline-1", 1, odd))
	registry := prometheus.NewRegistry()
	var log bytes.Buffer
	w.start(oneHand, func(o *Options) {
		o.Metrics, o.Log = NewMetrics(registry), zerolog.New(zerolog.SyncWriter(&log))
	})
	w.awaitEmpty()
	w.expect(1, "paid", "dunning payment_method_failed")
	want := []string{"order.merchant_reference2 number", "order.order_lines[0].total_amount rounded_unit"}
	var paid, declined []messages.Problem
	for _, p := range bodies[messages.Paid](w) {
		paid = p.Warnings
	}
	for _, d := range bodies[messages.Dunning](w) {
		declined = d.Warnings
	}
	for _, told := range [][]messages.Problem{paid, declined} {
		if len(told) != 2 || !hasWarning(told, want[0]) || !hasWarning(told, want[1]) {
			t.Errorf("warnings %v, want %v", told, want)
		}
	}
	for _, c := range bodies[messages.Charging](w) {
		if c.Warnings != nil {
			t.Errorf("a claim says %v, want no warnings: it is no result", c.Warnings)
		}
	}
	if n := metric(t, registry, "renewals_job_warnings_total", "number"); n != 2 {
		t.Errorf("numbers counted: %v, want 2", n)
	}
	if n := strings.Count(log.String(), "an odd job (number)"); n != 1 {
		t.Errorf("the log tells of numbers %d times, want once:\n%s", n, log.String())
	}
}

func hasWarning(all []messages.Problem, want string) bool {
	for _, w := range all {
		if w.Path+" "+string(w.Kind) == want && w.Message != "" {
			return true
		}
	}
	return false
}

// Every kind of warning is there at 0 before the first: an increase from nothing is invisible.
func TestWarningsCountFromZero(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	metrics := NewMetrics(registry)
	metrics.start("a")
	families, err := metrics.Gatherer(registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "renewals_job_warnings_total" && len(f.GetMetric()) == len(messages.WarningKinds()) {
			return
		}
	}
	t.Error("renewals_job_warnings_total does not begin with every kind")
}

// S57: an account may let an order recur in two ways.
func TestMixedCadences(t *testing.T) {
	w := newWorld(t)
	mixed := func(j map[string]any) {
		order := j["order"].(map[string]any)
		line := func(amount, tax int, interval string) any {
			return map[string]any{
				"type": "digital", "name": "Box", "quantity": 1, "unit_price": amount, "tax_rate": 1900, "total_amount": amount, "total_tax_amount": tax,
				"subscription": map[string]any{"name": "Box {{" + j["subscription_id"].(string) + "}}", "interval": interval, "interval_count": 1},
			}
		}
		order["order_lines"] = []any{line(1000, 160, "MONTH"), line(599, 95, "YEAR")}
	}
	w.publish(w.due("s57c", "ok-1", 1, mixed))
	stop := w.start()
	w.awaitEmpty()
	w.expect(0, "rejected invalid")
	stop()
	w.start(func(o *Options) { o.Accounts[0].Rules.MixedCadences = true })
	w.publish(w.due("s57d", "ok-1", 1, mixed))
	w.awaitEmpty()
	w.expect(1, "rejected invalid", "paid")
}

// A period that costs nothing is rejected as just that, and nobody has to look at it: no dead letter, not even when
// its job comes again. The same ID with an amount is a fresh job.
func TestNothingToCharge(t *testing.T) {
	w := newWorld(t)
	free := func(j map[string]any) {
		order := j["order"].(map[string]any)
		order["order_amount"], order["order_tax_amount"] = 0, 0
		line := order["order_lines"].([]any)[0].(map[string]any)
		line["unit_price"], line["total_amount"], line["total_tax_amount"] = 0, 0, 0
	}
	job := w.due("free", "ok-1", 1, free)
	w.start(oneHand)
	w.publish(job)
	w.awaitEmpty()
	w.publish(job)
	w.awaitEmpty()
	w.expect(0, "rejected nothing_to_charge")
	if letters, _ := w.deadLetters(); len(letters) != 0 {
		t.Errorf("dead letters %v, want none", letters)
	}
	if e := w.results()[0].Errs; len(e) != 1 || e[0].Path != "order.order_amount" {
		t.Errorf("errors %v, want one about the amount", e)
	}
	w.publish(w.due("free", "ok-1", 1))
	w.awaitEmpty()
	w.expect(1, "rejected nothing_to_charge", "paid")
}

// S58: a discount line that adds is refused here, and Klarna hears nothing.
func TestDiscountThatAdds(t *testing.T) {
	w := newWorld(t)
	w.publish(w.due("s58", "ok-1", 1, func(j map[string]any) {
		order := j["order"].(map[string]any)
		order["order_amount"] = 1799
		order["order_lines"] = append(order["order_lines"].([]any), map[string]any{"type": "discount", "name": "Loyal", "quantity": 1, "unit_price": 200, "total_amount": 200})
	}))
	w.start()
	w.awaitEmpty()
	w.expect(0, "rejected invalid")
	if calls := w.orders(); len(calls) != 0 {
		t.Errorf("Klarna was asked: %v", calls)
	}
}

// The looser forms of Klarna's refusals end as the documented ones do, and gzip that nobody asked for is one POST (S56).
func TestLooserAnswers(t *testing.T) {
	w := newWorld(t)
	for i, token := range []string{"400-uncoded-1", "403-payment_method_failed-1", "gzip-ok-1", "gzip-suspended-1"} {
		w.publish(w.due("loose-"+string(rune('a'+i)), token, 1))
	}
	w.start(oneHand)
	w.awaitEmpty()
	w.expect(1, "dunning fraud_rejected", "dunning payment_method_failed", "paid", "dunning token_suspended")
	if n := len(w.orders()); n != 4 {
		t.Errorf("tries: %d, want one for each job", n)
	}
}
