package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// S8: TestKilledAtEachStep kills a worker with SIGKILL between any two steps and
// starts another: the job still ends in one result, and Klarna has one order.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	const wait = 30 * time.Second
	for _, tt := range []struct {
		step  string
		token string
		// stop brings a worker to the step and returns once it is there.
		stop stopper
	}{
		{"before the claim is published", "ok-1", atMessage("HPUB renewals.charging.", false)},
		{"claim stored, its answer lost", "ok-1", atMessage("HPUB renewals.charging.", true)},
		{"claimed, before the periods beside it are looked at", "ok-1", atLook(false)},
		{"claimed, what stands beside it under way", "ok-1", atLook(true)},
		{"claimed, the request lost on its way", "ok-1", atKlarna},
		{"request under way at Klarna", "slow-900-1", atRequest},
		{"order made, the answer under way", "created-cut-1", atOrder},
		{"answer in hand, result not published", "ok-1", atMessage("HPUB renewals.paid.", false)},
		{"result stored, its answer lost", "ok-1", atMessage("HPUB renewals.paid.", true)},
		{"before the ack", "ok-1", atMessage("+ACK", false)},
	} {
		t.Run(tt.step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, klarnasim.Options{})
			w.provision()
			w.publish(job(1, tt.token))
			p, env := tt.stop(t, w)
			p.kill()

			w.start(env, "work")
			await(t, wait, "the job to leave the stream", func() bool { return w.left() == 0 })
			w.settledOnce(1)
		})
	}
}

// S8: TestParkingKilledAtEachStep is the same for a job that comes early: it waits outside the queue, and is charged once.
func TestParkingKilledAtEachStep(t *testing.T) {
	t.Parallel()
	const wait = 30 * time.Second
	for _, tt := range []struct {
		step string
		due  time.Duration // from now
		stop stopper
	}{
		{"before it is parked", 5 * time.Second, atMessage("HPUB renewals.parked.", false)},
		{"parked, the answer lost", 5 * time.Second, atMessage("HPUB renewals.parked.", true)},
		{"parked, before the ack", 5 * time.Second, atMessage("$JS.ACK.RENEWALS.", false)},
		{"parked, before the ack, and due when it comes again", 3 * time.Second, atMessage("$JS.ACK.RENEWALS.", false)},
		{"out again, before the claim is published", 3 * time.Second, atMessage("HPUB renewals.charging.", false)},
		{"out again, charged, before the ack", 3 * time.Second, atMessage("$JS.ACK.RENEWALS_LATER.", false)},
	} {
		t.Run(tt.step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, klarnasim.Options{})
			w.provision()
			w.publish(job(1, "ok-1", func(j map[string]any) { j["due_at"] = time.Now().Add(tt.due).UTC().Format(time.RFC3339Nano) }))
			p, env := tt.stop(t, w)
			p.kill()

			w.start(env, "work")
			await(t, wait, "the job to leave the streams", func() bool { return w.left() == 0 && w.leftIn(messages.StreamLater) == 0 })
			w.settledOnce(1)
		})
	}
}

// S8: TestCaptureKilledAtEachStep is the same for a capture: its money is taken once.
func TestCaptureKilledAtEachStep(t *testing.T) {
	t.Parallel()
	const wait = 30 * time.Second
	for _, tt := range []struct {
		step      string
		reference string // of the capture
		stop      stopper
	}{
		{"before the claim is published", "", atMessage("HPUB renewals.capturing.", false)},
		{"claim stored, its answer lost", "", atMessage("HPUB renewals.capturing.", true)},
		{"claimed, the request lost on its way", "", atKlarna},
		{"request under way at Klarna", "slow-900-", atCapture(0)},
		{"capture made, the answer under way", "created-cut-", atCapture(1)},
		{"answer in hand, result not published", "", atMessage("HPUB renewals.captured.", false)},
		{"result stored, its answer lost", "", atMessage("HPUB renewals.captured.", true)},
		{"before the ack", "", atMessage("+ACK", false)},
	} {
		t.Run(tt.step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, klarnasim.Options{})
			w.provision()
			p := w.start(nil, "work")
			w.publish(job(1, "ok-1", func(j map[string]any) { j["order"].(map[string]any)["auto_capture"] = false }))
			await(t, wait, "the order", func() bool { return w.left() == 0 })
			p.kill()

			w.publishCapture(capture(1, 1, map[string]any{"reference": tt.reference + "c1"}))
			p, env := tt.stop(t, w)
			p.kill()
			w.start(env, "work")
			await(t, wait, "the job to leave the stream", func() bool { return w.left() == 0 })

			if results := w.results(); len(results) != 2 || results[0].Kind != "paid" || results[1].Kind != "captured" {
				t.Errorf("results: %v, want paid and captured", results)
			}
			orders := w.klarna.Simulator.Books().Orders
			if len(orders) != 1 || len(orders[0].Captures) != 1 || orders[0].Captures[0].CapturedAmount != 1599 {
				t.Errorf("orders at Klarna: %+v, want one, captured once", orders)
			}
		})
	}
}

// settledOnce checks the promise for jobs that must all be paid.
func (w *world) settledOnce(jobs int) {
	w.t.Helper()
	results := w.results()
	if len(results) != jobs {
		w.t.Errorf("results: %d, want %d: %v", len(results), jobs, results)
	}
	for _, r := range results {
		if r.Kind != "paid" {
			w.t.Errorf("result %s, want paid: %v", r.Kind, r.Event)
		}
	}
	if orders := w.klarna.Simulator.Books().Orders; len(orders) != jobs {
		w.t.Errorf("orders at Klarna: %d, want %d: %v", len(orders), jobs, orders)
	}
}

// A stopper returns the worker that it stopped and what the next one needs in
// its environment.
type stopper func(t *testing.T, w *world) (p *process, env []string)

// atMessage stops a worker at a message that it sends to the broker: before it
// arrives, or after it, before the answer.
func atMessage(pattern string, stored bool) stopper {
	return func(t *testing.T, w *world) (*process, []string) {
		g := newGate(t, w.broker.Addr().String(), pattern, stored)
		p := w.start([]string{"NATS_URL=nats://" + g.addr}, "work")
		g.await(t, p)
		return p, nil
	}
}

// atLook stops a worker that looks at the periods beside its claim: before the question arrives, or before the answer.
func atLook(asked bool) stopper { return atMessage(`"subjects_filter":"renewals.*.`, asked) }

// S84: TestKilledBeforeTheLook kills a worker that has claimed a period and not looked yet at the one beside it, which is the same under another
// name, and comes to another worker: one of them is charged, and the other says why not.
func TestKilledBeforeTheLook(t *testing.T) {
	t.Parallel()
	named := func(period string) func(map[string]any) {
		return func(j map[string]any) { j["id"], j["period"] = period, period }
	}
	for _, asked := range []bool{false, true} {
		t.Run(map[bool]string{false: "before the question", true: "before the answer"}[asked], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, klarnasim.Options{})
			w.provision()
			w.publish(job(1, "ok-1", named("2026-12")))
			p, env := atLook(asked)(t, w)
			w.publish(job(1, "ok-2", named("December 2026")))
			p.kill()
			w.start(env, "work")
			w.start(env, "work")
			await(t, 40*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
			var got []string
			for _, r := range w.results() {
				got = append(got, strings.TrimSpace(r.Kind+" "+fmt.Sprint(r.Event["id"])+" "+fmt.Sprint(r.Event["reason"])))
			}
			if want := []string{"paid 2026-12 <nil>", "rejected December 2026 too_close"}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if n := len(w.klarna.Simulator.Books().Orders); n != 1 {
				t.Errorf("%d orders, want 1", n)
			}
		})
	}
}

// atKlarna stops a worker whose request is on its way and does not arrive.
func atKlarna(t *testing.T, w *world) (*process, []string) {
	g := newGate(t, strings.TrimPrefix(w.klarna.URL, "http://"), "POST ", false)
	env := []string{"KLARNA_ENDPOINT=http://" + g.addr}
	p := w.start(env, "work")
	g.await(t, p)
	g.reopen()
	return p, env
}

// atRequest stops a worker whose request Klarna has, but not answered.
func atRequest(t *testing.T, w *world) (*process, []string) {
	p := w.start(nil, "work")
	await(t, 20*time.Second, "the request", func() bool { return w.klarna.Simulator.Books().Requests > 0 })
	return p, nil
}

// atOrder stops a worker after Klarna has made the order.
func atOrder(t *testing.T, w *world) (*process, []string) {
	p := w.start(nil, "work")
	await(t, 20*time.Second, "the order", func() bool { return len(w.klarna.Simulator.Books().Orders) == 1 })
	return p, nil
}

// atCapture stops a worker whose capture Klarna is asked for, or has made.
func atCapture(made int) stopper {
	return func(t *testing.T, w *world) (*process, []string) {
		before := w.klarna.Simulator.Books().Requests
		p := w.start(nil, "work")
		await(t, 20*time.Second, "the capture", func() bool {
			books := w.klarna.Simulator.Books()
			return books.Requests > before+1 && books.Counts.Captures >= made // the first looks at the order
		})
		return p, nil
	}
}

// await returns once the message has come by.
func (g *gate) await(t *testing.T, p *process) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	select {
	case <-g.closed:
	case <-p.done:
		t.Fatalf("the worker ended: %v", p.err)
	case <-deadline.C:
		t.Fatalf("the worker sent no %q", g.pattern)
	}
}
