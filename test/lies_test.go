package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// paidOut is an order that Klarna has paid out, and what is to be said of it while nobody lies.
type paidOut struct {
	order, kind string // "": nothing
}

// under is what is to be said of an order's rows when one of them lies.
func (o paidOut) under(lie klarnasim.LieKind) (breaks []string) {
	recorded := o.kind == "" || o.kind == "order_shared"
	if o.kind != "" {
		breaks = append(breaks, o.kind)
	}
	switch lie {
	case klarnasim.RowMissing, klarnasim.Late: // beyond the days that were asked for
		if breaks = nil; recorded {
			breaks = []string{"missing"}
		}
	case klarnasim.RowDoubled, klarnasim.OtherAmount:
		if recorded {
			breaks = append(breaks, "amount")
		}
	case klarnasim.OtherCurrency:
		if recorded {
			breaks = append(breaks, "currency")
		}
	case klarnasim.Returned, klarnasim.Reversed:
		if o.kind != "forgotten" { // which is more than a return of it
			breaks = append(breaks, string(lie))
		}
	case klarnasim.ReferenceMissing:
		if !recorded { // nobody can tell whose it is
			breaks = nil
		}
	}
	for i := range breaks {
		breaks[i] += " " + o.order
	}
	return breaks
}

// liars are renewals that were charged, and reports that lie about them.
type liars struct {
	*testing.T
	w       *world
	rand    *rand.Rand
	numbers map[string]int // of the jobs, by their keys
	refused []int          // jobs
	nothing []int          // jobs that are unresolved and were not charged
	all     []paidOut
}

// S67: two SALE rows of one renewal; a row missing; a RETURN; a report with another delimiter: each is named, none invented. A worker
// charges random renewals in several currencies, captures in parts and late, refuses some and gives some up; refunds are made. Klarna's
// reports lie at random, in a random form, and what reconcile names are exactly the lies, by the books and by plain maps. What is proven
// is applied, and then nothing is left. Then real faults come: a second order, one for two renewals, one of a renewal that was refused,
// one of a period that the journal does not know. SETTLED_SEED repeats a run; with LONG there is more of everything.
func TestReconcileNamesExactlyTheLies(t *testing.T) {
	t.Parallel()
	seed, err := strconv.ParseUint(env("SETTLED_SEED", strconv.FormatInt(time.Now().UnixNano()%1e9, 10)), 10, 64)
	if err != nil {
		t.Fatalf("SETTLED_SEED: %v", err)
	}
	t.Logf("SETTLED_SEED=%d repeats the run", seed)
	jobs, rounds := 15, 5
	if os.Getenv("LONG") != "" {
		jobs, rounds = 80, 60
	}
	w := newWorld(t, klarnasim.Options{Seed: seed, PendingFor: 300 * time.Millisecond})
	w.provision()
	l := &liars{T: t, w: w, rand: rand.New(rand.NewPCG(seed, 0)), numbers: map[string]int{}}
	l.charge(jobs)
	w.klarna.Simulator.Advance(40 * 24 * time.Hour)

	compared := w.comparison()
	report := l.truth(compared)
	if report.Refunded == 0 || report.Orders != len(l.all) {
		t.Fatalf("%d orders and %d refunds, want %d and some", report.Orders, report.Refunded, len(l.all))
	}
	l.lie(compared, rounds)
	if n := compared.apply(t, report); n == 0 {
		t.Fatal("no evidence")
	}
	for i := range l.all {
		l.all[i].kind = ""
	}
	compared = w.comparison()
	l.truth(compared)

	l.plant()
	w.klarna.Simulator.Advance(4 * 24 * time.Hour)
	compared = w.comparison()
	l.truth(compared)
	l.lie(compared, rounds)
}

// charge publishes jobs, waits for all results and gives some money back.
func (l *liars) charge(jobs int) {
	l.Helper()
	p := l.w.start(nil, "work")
	kinds := []string{"ok-", "parts", "soft-decline-", "pending-accept-", "created-cut-"}
	var parts []int
	n := 0
	for ; n < jobs; n++ {
		kind := kinds[n%len(kinds)]
		switch kind {
		case "parts":
			parts = append(parts, n)
		case "soft-decline-":
			l.refused = append(l.refused, n)
		}
		l.publish(n, kind)
	}
	l.settled(jobs)
	results := jobs + l.capture(parts, 600)
	l.settled(results)
	const open = 3 // of each: more in a row would look like an outage
	for range open {
		l.publish(n, "created-500x99-")
		l.publish(n+1, "500x99-")
		l.nothing = append(l.nothing, n+1)
		n += 2
	}
	await(l.T, time.Minute, "the orders of which nobody is told", func() bool {
		return len(l.w.klarna.Simulator.Books().Orders) == jobs-len(l.refused)+open
	})
	if code := p.stop(os.Interrupt); code != 0 {
		l.Fatalf("the worker stops with %d", code)
	}
	p = l.w.start([]string{"RENEWALS_KEY_WINDOW=1s"}, "work")
	results += 2 * open
	l.settled(results)
	p.stop(os.Interrupt)
	l.w.klarna.Simulator.Advance(3 * time.Hour)
	parts = slices.DeleteFunc(parts, func(int) bool { return l.rand.IntN(3) == 0 }) // of some the rest is never captured
	l.w.start(nil, "work")
	results += l.capture(parts, 999)
	l.settled(results)
	for i, o := range l.w.klarna.Simulator.Books().Orders {
		of := paidOut{order: o.OrderID}
		if l.numbers[o.IdempotencyKey] >= jobs {
			of.kind = "resolves"
		} else if i%3 == 0 && l.numbers[o.IdempotencyKey] > 0 && !l.w.klarna.Simulator.Refund(o.OrderID, 100, "rma-1") {
			l.Fatal("no refund")
		}
		l.all = append(l.all, of)
	}
}

// publish publishes a job in some currency, stamped or not.
func (l *liars) publish(n int, kind string) {
	l.Helper()
	payload := job(n, kind+strconv.Itoa(n), func(j map[string]any) {
		order := j["order"].(map[string]any)
		order["auto_capture"] = kind != "parts"
		if n > 0 && kind != "500x99-" { // some in one currency, for an order with two renewals, the first of which keeps its money
			order["purchase_currency"] = []string{"EUR", "SEK", "GBP"}[l.rand.IntN(3)]
		}
		if l.rand.IntN(3) == 0 {
			order["merchant_reference2"] = j["id"]
		}
	})
	_, key := keys(payload)
	l.numbers[string(key)] = n
	l.w.publish(payload)
}

// capture publishes a capture of each, and says how many.
func (l *liars) capture(jobs []int, amount int) int {
	l.Helper()
	for _, n := range jobs {
		l.w.publishCapture(capture(n, amount, map[string]any{"captured_amount": amount}))
	}
	return len(jobs)
}

// settled waits for so many results.
func (l *liars) settled(results int) {
	l.Helper()
	await(l.T, time.Minute, fmt.Sprint(results, " results"), func() bool { return len(l.w.results()) == results })
}

// plant makes orders that no worker has asked for, and a record that no order justifies.
func (l *liars) plant() {
	l.Helper()
	made := l.w.klarna.Simulator.Books().Orders
	paid := func() int { return l.numbers[made[l.rand.IntN(len(made))].IdempotencyKey] }
	l.byHand("second_order", fmt.Sprintf("%d-2026-12", 1234000+paid()), "")
	l.byHand("unknown_order", fmt.Sprintf("%d-2026-12", 1234000+l.refused[0]), "")
	l.byHand("forgotten", "a reference of nobody", fmt.Sprintf("%d/2026-11/1", 1234000+paid()))
	whole := slices.IndexFunc(made, func(o klarnasim.Order) bool {
		return o.PurchaseCurrency == "EUR" && len(o.Captures) == 0 && o.RefundedAmount == 0
	})
	if whole < 0 {
		l.Fatal("no order in EUR that was captured at once and not given back")
	}
	shared := &l.all[whole]
	renewal, _ := keys(job(l.nothing[0], "any"))
	if err := l.w.journal().ResolvePaid(l.Context(), renewal, shared.order, true, journal.Decision{Actor: "ada", Note: "the wrong order", At: time.Now()}); err != nil {
		l.Fatal(err)
	}
	shared.kind = "order_shared"
}

// truth is what is said while nobody lies.
func (l *liars) truth(c *comparison) *reconcile.Report {
	l.Helper()
	l.w.klarna.Simulator.TellTheTruth()
	var want []string
	for _, o := range l.all {
		if o.kind != "" {
			want = append(want, o.kind+" "+o.order)
		}
	}
	slices.Sort(want)
	got, report := c.found(l, klarnasim.ReportForm{})
	if !slices.Equal(got, want) || len(report.Unused) != 0 || len(report.Unanswered) != 0 {
		l.Fatalf("nobody lies: found\n%s\nwant\n%s\nnot used %+v, not answered %q", strings.Join(got, "\n"), strings.Join(want, "\n"), report.Unused, report.Unanswered)
	}
	return report
}

var lieKinds = []klarnasim.LieKind{
	klarnasim.RowMissing, klarnasim.RowDoubled, klarnasim.OtherAmount, klarnasim.OtherCurrency, klarnasim.Late, klarnasim.Returned, klarnasim.Reversed, klarnasim.ReferenceMissing,
}

// lie lets reports lie, round after round, and compares each.
func (l *liars) lie(c *comparison, rounds int) {
	l.Helper()
	for round := range rounds {
		l.w.klarna.Simulator.TellTheTruth()
		var want, lies []string
		for _, o := range l.all {
			if l.rand.IntN(3) > 0 {
				if o.kind != "" {
					want = append(want, o.kind+" "+o.order)
				}
				continue
			}
			lie := klarnasim.Lie{OrderID: o.order, Kind: lieKinds[l.rand.IntN(len(lieKinds))], Currency: "NOK"}
			switch lie.Kind {
			case klarnasim.OtherAmount:
				lie.Amount = 1
			case klarnasim.Late:
				lie.Days = 60
			}
			if err := l.w.klarna.Simulator.Lie(lie); err != nil {
				l.Fatal(err)
			}
			want = append(want, o.under(lie.Kind)...)
			lies = append(lies, string(lie.Kind)+" "+o.order)
		}
		slices.Sort(want)
		either := func(all ...string) string { return all[l.rand.IntN(len(all))] }
		form := klarnasim.ReportForm{
			Delimiter: either(";", ",", "\t", "|"), Decimal: either(".", ","), Dates: either("", "02.01.2006 15:04:05"),
			Signed: l.rand.IntN(2) == 0, Mark: l.rand.IntN(2) == 0, CRLF: l.rand.IntN(2) == 0,
		}
		if got, _ := c.found(l, form); !slices.Equal(got, want) {
			l.Fatalf("round %d, with the lies\n%s\nfound\n%s\nwant\n%s", round, strings.Join(lies, "\n"), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// byHand makes an order as somebody would with a script.
func (l *liars) byHand(kind, reference1, reference2 string) {
	l.Helper()
	var j struct{ Order map[string]any }
	if err := json.Unmarshal(job(0, "ok-"), &j); err != nil {
		l.Fatal(err)
	}
	j.Order["merchant_reference1"], j.Order["merchant_reference2"] = reference1, reference2
	body, err := json.Marshal(j.Order)
	if err != nil {
		l.Fatal(err)
	}
	request := httptest.NewRequestWithContext(l.Context(), http.MethodPost, "/customer-token/v1/tokens/ok-by-hand/order", bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Klarna-Idempotency-Key", kind)
	request.SetBasicAuth("merchant", "secret-password")
	answer := httptest.NewRecorder()
	l.w.klarna.Simulator.ServeHTTP(answer, request)
	var made struct {
		OrderID string `json:"order_id"`
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &made); err != nil || made.OrderID == "" {
		l.Fatalf("%s: %d %s", kind, answer.Code, answer.Body)
	}
	l.all = append(l.all, paidOut{made.OrderID, kind})
}
