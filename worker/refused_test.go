package worker

import (
	"strconv"
	"testing"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// How many refusals in a row pause an account, after Klarna has taken an order and before it has.
const refusedRun, refusedUnproven = 20, 3

// S74: from one moment on Klarna refuses every token, since the account is
// another merchant's. At most twenty renewals end by it, whatever is in flight; the others wait, and are charged
// under the same keys once it is mended. Before the first order since the start three are enough.
func TestAnotherMerchantsTokens(t *testing.T) {
	t.Parallel()
	const jobs, concurrency = 100, 32
	for _, tt := range []struct {
		name    string
		proven  bool
		refused int
	}{{"after an order", true, refusedRun}, {"since the start", false, refusedUnproven}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			var worker *Worker
			w.startWith(&worker, func(o *Options) { o.Accounts[0].Concurrency = concurrency })
			w.await("the worker", func() bool { return worker.Ready() == nil })
			a := (*worker.running.Load())[0]
			orders := 0
			if tt.proven {
				orders = 1
				w.publish(w.due("s74-first", "ok-first", 1))
				w.awaitEmpty()
			}
			w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "not-found" })
			for n := range jobs {
				w.publish(w.due("s74-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
			}
			w.await("the pause", func() bool { return a.breaker.PausedFor(gate.PauseRefusedByConfig) })
			w.await("the jobs in flight to end", func() bool { return a.inFlight.Load() == 0 })
			refused := 0
			for _, r := range w.results() {
				if r.Kind == messages.KindDunning {
					refused++
				}
			}
			if refused < tt.refused || refused > tt.refused+1 { // the first probe may have been
				t.Errorf("refusals recorded: %d, want %d and a pause", refused, tt.refused)
			}
			putOff := map[messages.MessageID]bool{}
			for _, r := range w.records() {
				if c := r.State.Claim; r.Kind == messages.KindCharging && c.Released && c.Tries > 0 { // what was claimed and not sent comes again at once
					putOff[r.ID] = true
					if !c.FirstSentAt.IsZero() {
						t.Errorf("%s: put off, and its key's clock runs since %s", r.ID, c.FirstSentAt)
					}
				}
			}
			if len(putOff) > concurrency {
				t.Errorf("put off: %d, want no more than were in flight", len(putOff))
			}
			if why := a.paused()[gate.PauseRefusedByConfig]; why == "" || worker.Ready() == nil {
				t.Errorf("paused: %q, ready: %v", why, worker.Ready())
			}

			w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Outage = "" })
			worker.Retry()
			w.await("what is not put off", func() bool { return w.left() == len(putOff) })
			ended := map[messages.Kind]int{}
			for _, r := range w.results() {
				ended[r.Kind]++
				if putOff[r.ID] || r.Kind == messages.KindDunning && r.Reason != messages.ReasonTokenNotFound {
					t.Errorf("%s: %s", r.ID, r)
				}
			}
			const probes = 4 // one at a time, with growing pauses, until Klarna was told to behave
			paid := ended[messages.KindPaid]
			if paid != len(w.klarna.Simulator.Books().Orders) || paid+ended[messages.KindDunning]+len(putOff) != jobs+orders || ended[messages.KindDunning] > tt.refused+probes {
				t.Errorf("ended: %v, put off %d, orders %d; want every job to have its end", ended, len(putOff), len(w.klarna.Simulator.Books().Orders))
			}
		})
	}
}

// S74: which answers say something of the account, and what becomes of a
// refusal that is put off.
func TestWhichRefusalsSpeakOfTheAccount(t *testing.T) {
	notFound := &klarna.Error{StatusCode: 404, Code: "TOKEN_NOT_FOUND", HasErrorObject: true}
	money := &klarna.Error{StatusCode: 403, Code: "PAYMENT_METHOD_FAILED", HasErrorObject: true}
	refused := func(e *klarna.Error) journal.TryResult {
		var r journal.TryResult
		r.Hear(journal.Created{}, e, midday, midday, journal.Rules{})
		return r
	}
	for _, tt := range []struct {
		name   string
		t      journal.TryResult
		h      journal.HeldClaim
		probe  bool
		want   journal.Answer
		paused bool
		unsent bool
	}{
		{name: "another of the run", t: refused(notFound), h: journal.HeldClaim{SetsClock: true}, want: journal.NoAnswer, paused: true, unsent: true},
		{name: "the probe", t: refused(notFound), h: journal.HeldClaim{SetsClock: true}, probe: true, want: journal.Refused, paused: true},
		{name: "a key with an earlier try", t: refused(notFound), h: journal.HeldClaim{}, want: journal.Refused, paused: true},
		{name: "a capture", t: refused(notFound), h: journal.HeldClaim{SetsClock: true, Claim: journal.Claim{Capture: &journal.Capture{}}}, want: journal.Refused, paused: true},
		{name: "nothing heard", t: journal.TryResult{}, h: journal.HeldClaim{SetsClock: true}, probe: true, want: journal.NoAnswer, paused: true},
		{name: "the customer's", t: refused(money), h: journal.HeldClaim{}, want: journal.Refused},
		{name: "an order", t: journal.TryResult{Outcome: journal.Outcome{Answer: journal.Accepted}}, h: journal.HeldClaim{}, want: journal.Accepted},
		{name: "an order that Klarna rejected", t: journal.TryResult{Outcome: journal.Outcome{Answer: journal.FraudRejected}}, h: journal.HeldClaim{}, want: journal.FraudRejected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &asker{limiter: gate.NewLimiter(0), breaker: gate.NewBreaker(func(string, bool, string) {})}
			service := charge
			if tt.h.Claim.Capture != nil {
				service = capture
			}
			for n := range refusedUnproven {
				a.breaker.MerchantFault(strconv.Itoa(n), 1, false)
			}
			a.judge(&job{fingerprint: "token", service: service}, tt.h, tt.probe, &tt.t)
			if tt.t.Answer != tt.want || tt.t.Unsent != tt.unsent || a.breaker.Paused() != tt.paused || (tt.t.Refusal == nil) != (tt.want != journal.Refused) {
				t.Errorf("judge: %+v, refusal %v, paused %v; want answer %d, paused %t", tt.t.Outcome, tt.t.Refusal, a.breaker.Reasons(), tt.want, tt.paused)
			}
		})
	}
}

// S74: jobs that came before the run of refusals do not go on when it leaves no place for them.
func TestFewerInFlight(t *testing.T) {
	a, _, _ := compared(t)
	a.breaker.MerchantProven()
	semaphore := gate.NewSemaphore(32)
	for n := range refusedRun - 1 {
		a.breaker.MerchantFault(strconv.Itoa(n), 1, false)
	}
	for n, want := range []bool{true, false} {
		if _, _, ok := a.handler.turns.take(t.Context(), gate.Delivery{Semaphore: semaphore, Received: a.shared.clock.now()}); ok != want {
			t.Errorf("job %d may go on: %t", n, ok)
		}
	}
}
