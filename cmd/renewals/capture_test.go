package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// authorised is a job whose order is not captured with the charge.
func (o *office) authorised(subscription, token string) messages.Job {
	o.Helper()
	job := o.job(subscription, token, "", 1)
	job.Order = []byte(strings.Replace(string(job.Order), `"auto_capture":true`, `"auto_capture":false`, 1))
	return job
}

// capture publishes capture jobs as a billing team does.
func (o *office) capture(captures ...messages.Capture) {
	o.Helper()
	var lines strings.Builder
	for _, c := range captures {
		c.Period = "2026-12"
		line, err := c.Encode()
		if err != nil {
			o.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	out, told := finish(o.T, cli.ExitDone, o.env, lines.String(), "publish", "--capture")
	if want := fmt.Sprintf("accepted %d, ", len(captures)); !strings.HasPrefix(out, want) {
		o.Fatalf("publish --capture: got %q, want %q\n%s", out, want, told)
	}
}

// books are what Klarna has taken of each order, by the merchant's reference.
func (o *office) books() map[string]int64 {
	taken := map[string]int64{}
	for _, order := range o.sim.Simulator.Books().Orders {
		subscription := strings.Split(order.MerchantReference1, "-")[1]
		for _, c := range order.Captures {
			taken[subscription] += c.CapturedAmount
		}
	}
	return taken
}

// An order that is authorised, captured in two parts, and then not again.
func TestDelayedCapture(t *testing.T) {
	o := newOffice(t)
	watch := start(t, o.env, "", "watch", "--json", "--since=1h", "--kind=captured,capturing,paid")
	o.publish(o.authorised("1", "ok"), o.job("2", "ok", "", 1))
	o.work()
	out, _ := o.run(cli.ExitDone, "show", "1/2026-12")
	o.expect(out, "to be captured before ", ": 15.99 EUR authorised, capture before ", "publish a capture job: `renewals publish --capture`")
	out, _ = o.run(cli.ExitDone, "show", "2/2026-12")
	o.expect(out, "captured with the charge", "!publish a capture job")
	_, told := o.run(cli.ExitFailed, "cancel", "1", "2026-12", "--yes")
	o.expect(told, "cancel: too late: the renewal is paid with order ", "nothing of it is captured: cancel the order in Klarna's portal")

	o.capture(messages.Capture{ID: "inv 7", SubscriptionID: "1", CapturedAmount: 800})
	out, _ = o.run(cli.ExitDone, "show", "inv 7")
	o.expect(out, "state: paid with order ", "queue: capture job inv 7, sequence ", "no worker has claimed it")
	out, _ = o.run(cli.ExitDone, "show", "inv 7", "--json")
	o.expect(out, `{"kind":"capture","sequence":`, `"captured_amount":800`, "!due_at")
	out, _ = o.run(cli.ExitFailed, "status", "--json")
	o.expect(out, `"backlog":1,"captures":1`)
	o.work()
	for _, name := range []string{"1/2026-12", "inv 7", "1/2026-12/1"} {
		out, _ = o.run(cli.ExitDone, "show", name)
		o.expect(out, "of message ID inv 7\n", "claimed to capture 8.00 EUR", " 8.00 EUR, order ", "7.99 EUR remain to be captured",
			"state: captured in part: 8.00 EUR of 15.99 EUR of order ", "7.99 EUR remain, capture before ")
	}
	_, told = o.run(cli.ExitFailed, "cancel", "1", "2026-12", "--yes")
	o.expect(told, "8.00 EUR of it are captured: refund them in Klarna's portal")

	o.capture(messages.Capture{ID: "1/2026-12/c2", SubscriptionID: "1"})
	o.work()
	out, _ = o.run(cli.ExitDone, "show", "1/2026-12/c2")
	o.expect(out, " 7.99 EUR, order ", "nothing remains", "state: captured in full: 15.99 EUR of order ")
	again := o.job("1", "ok", "", 2)
	o.publish(again)
	o.capture(messages.Capture{ID: "1/2026-12/c3", SubscriptionID: "1"}, messages.Capture{ID: "2/2026-12/c1", SubscriptionID: "2"},
		messages.Capture{ID: "3/2026-12/c1", SubscriptionID: "3"})
	o.work()
	reasons := map[messages.MessageID]string{}
	for _, e := range o.letters() {
		reasons[e.ID] = fmt.Sprintf("%s %s", e.Job, e.Reason)
	}
	for id, want := range map[messages.MessageID]string{
		again.ID: "charge order_exists", "1/2026-12/c3": "capture already_captured", "2/2026-12/c1": "capture already_captured", "3/2026-12/c1": "capture not_paid",
	} {
		if reasons[id] != want {
			t.Errorf("dead letter of %s: %q, want %q", id, reasons[id], want)
		}
	}
	if got := o.books(); got["1"] != 1599 || got["2"] != 0 {
		t.Errorf("Klarna has taken %v on captures, want 1599 for subscription 1", got)
	}
	eventually(t, "both captures on watch", func() bool { return strings.Count(watch.stdout.String(), `{"kind":"captured"`) == 2 })
	o.expect(watch.stdout.String(), `{"kind":"capturing"`, `"captured_amount":799,"total_captured_amount":1599,"remaining_amount":0`)
}

// S14: a capture that Klarna refuses is a result, not a dead letter; what nothing can come of is told so.
func TestCaptureFailed(t *testing.T) {
	o := newOffice(t)
	o.publish(o.authorised("1", "capture-declined"), o.authorised("2", "ok"))
	o.work()
	o.capture(messages.Capture{ID: "1/c", SubscriptionID: "1", CapturedAmount: 500}, messages.Capture{ID: "2/c", SubscriptionID: "2", CapturedAmount: 500})
	o.work()
	out, _ := o.run(cli.ExitDone, "show", "1/2026-12")
	o.expect(out, " 5.00 EUR, order ", "payment_method_failed, soft_decline, next capture ", "state: capture failed: payment_method_failed; of order ", " 0.00 EUR of 15.99 EUR are captured, 15.99 EUR remain",
		"another capture under a new message ID, suggested at ")
	out, _ = o.run(cli.ExitDone, "dead", "list")
	o.expect(out, "!capture")
	_, told := o.run(cli.ExitFailed, "cancel", "1", "2026-12", "--yes")
	o.expect(told, "nothing of it is captured: cancel the order")

	o.sim.Simulator.Advance(40 * 24 * time.Hour)
	o.capture(messages.Capture{ID: "2/d", SubscriptionID: "2"})
	o.work()
	out, _ = o.run(cli.ExitDone, "show", "2/d")
	o.expect(out, "state: capture failed: order_expired; of order ", " 5.00 EUR of 15.99 EUR are captured", "next: no further capture is suggested; since the period has an order, nothing new is charged")
	if got := o.books(); got["1"] != 0 || got["2"] != 500 {
		t.Errorf("Klarna has taken %v, want 500 for subscription 2", got)
	}
}

// Whether Klarna took the money is not known: an operator looks, and says so in the words of a capture.
func TestResolveCapture(t *testing.T) {
	o := newOffice(t)
	o.publish(o.authorised("1", "ok"), o.authorised("2", "ok"), o.authorised("3", "500"))
	o.work()
	o.capture(messages.Capture{ID: "1/c1", SubscriptionID: "1", CapturedAmount: 500, Reference: "created-500x9-"},
		messages.Capture{ID: "2/c1", SubscriptionID: "2", CapturedAmount: 500, Reference: "500-"})
	o.work()
	o.capture(messages.Capture{ID: "1/c2", SubscriptionID: "1", CapturedAmount: 300}, messages.Capture{ID: "2/c2", SubscriptionID: "2"},
		messages.Capture{ID: "3/c1", SubscriptionID: "3"})
	o.publish(o.job("1", "ok", "", 2), o.job("3", "ok", "", 2))
	o.work()

	out, _ := o.run(cli.ExitFailed, "status")
	o.expect(out, "1/2026-12  default  capture  5.00 EUR   idempotency_window_expired", "3/2026-12  default  charge   15.99 EUR  idempotency_window_expired")
	out, _ = o.run(cli.ExitDone, "show", "1/c1")
	o.expect(out, "capture of order ", "undecided tries: ", "state: unresolved capture: idempotency_window_expired; whether Klarna captured 5.00 EUR of order ", "renewals resolve 1/2026-12 --captured --capture-id CAPTURE   or   renewals resolve 1/2026-12 --not-captured")
	_, told := o.run(cli.ExitFailed, "cancel", "1", "2026-12", "--yes")
	o.expect(told, "a capture of it is unresolved")
	_, told = o.run(cli.ExitFailed, "dead", "replay", o.letterFor("1/c1"))
	o.expect(told, "refused: it may have been captured: look it up in Klarna's portal, then `renewals resolve 1/2026-12`")

	records := o.count(messages.StreamJournal)
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"1/2026-12", "--paid", "--order-id=X"}, "--paid: the renewal is paid, what is unresolved is a capture of 5.00 EUR of order "},
		{[]string{"1/2026-12", "--paid", "--order-id=X", "--captured"}, "expected --captured --capture-id CAPTURE, or --not-captured"},
		{[]string{"1/2026-12", "--not-charged"}, "--not-charged: the renewal is paid, what is unresolved is a capture"},
		{[]string{"3/2026-12", "--captured", "--capture-id=X"}, "--captured: what is unresolved is a charge, not a capture; expected --paid --order-id ORDER, or --not-charged"},
		{[]string{"3/2026-12", "--not-captured"}, "--not-captured: what is unresolved is a charge"},
	} {
		_, told := o.run(cli.ExitUsage, append([]string{"resolve", "--yes"}, row.args...)...)
		o.expect(told, row.want)
	}
	if n := o.count(messages.StreamJournal); n != records {
		t.Fatalf("%d records, want the %d there were", n, records)
	}

	// The portal shows the one and not the other.
	var made string
	for _, order := range o.sim.Simulator.Books().Orders {
		for _, c := range order.Captures {
			made = c.CaptureID
		}
	}
	blocked := o.letterFor("1/c2")
	out, _ = o.run(cli.ExitDone, "resolve", "1/2026-12", "--captured", "--capture-id", made, "--yes", "--actor=anna", "--note=it is there")
	o.expect(out, "recorded: captured 5.00 EUR, order ", "capture "+made+", 10.99 EUR remain to be captured, corrects unresolved, by anna, verified at Klarna, note: it is there", "dead letter ", "renewals dead replay "+blocked+"\n")
	out, _ = o.run(cli.ExitDone, "resolve", "2/c1", "--not-captured", "--yes", "--json")
	o.expect(out, `{"kind":"capture_failed"`, `"reason":"not_captured"`, `"captured_amount":500`, `"corrects":"unresolved"`)
	out, _ = o.run(cli.ExitDone, "dead", "replay", "--all", "--reason=blocked_by_unresolved")
	o.expect(out, "4 replayed")

	// In the queue the replay is the capture job it was.
	stream, err := o.js.Stream(t.Context(), messages.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), messages.CaptureSubject(devAccount))
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get(messages.HeaderReplay) == "" || m.Header.Get("ce-id") == "" || strings.Contains(string(m.Data), "customer_token") {
		t.Errorf("replayed as %v %s, want a capture job", m.Header, m.Data)
	}
	o.work()
	if got := o.books(); got["1"] != 800 || got["2"] != 1599 || got["3"] != 0 {
		t.Errorf("Klarna has taken %v, want 800 for subscription 1 and everything for 2", got)
	}
	if s := o.state("1"); s.Phase != journal.PhaseCaptured || s.Order.Captured != 800 {
		t.Errorf("got %s, %+v, want 800 captured", s.Phase, s.Order)
	}

	// What an unresolved charge blocked makes sense only once there is an order.
	jobs, captures := o.letterFor("3/2026-12/2"), o.letterFor("3/c1")
	out, _ = o.run(cli.ExitDone, "resolve", "3/2026-12", "--paid", "--order-id=X", "--captured=false", "--unverified", "--yes")
	o.expect(out, "to be captured, corrects unresolved", "renewals dead drop "+jobs+"\n", "renewals dead replay "+captures+"\n")
}

// After each decision, what was blocked by what was not known.
func TestNowThat(t *testing.T) {
	t.Parallel()
	order := func(captured int64) *journal.Order { return &journal.Order{ID: "X", Amount: 1599, Captured: captured} }
	for _, row := range []struct {
		situation       string
		state           journal.State
		charge, capture string
	}{
		{situation: "not charged", state: journal.State{Phase: journal.PhaseDunning}, charge: "renewals dead replay", capture: "once the period is paid, renewals dead replay"},
		{situation: "not charged, and cancelled before", state: journal.State{Phase: journal.PhaseCancelled}, charge: "renewals dead drop", capture: "renewals dead drop"},
		{situation: "paid and captured", state: journal.State{Phase: journal.PhasePaid}, charge: "renewals dead drop", capture: "renewals dead drop"},
		{situation: "paid, to be captured", state: journal.State{Phase: journal.PhasePaid, Order: order(0)}, charge: "renewals dead drop", capture: "renewals dead replay"},
		{situation: "captured in part", state: journal.State{Phase: journal.PhaseCaptured, Order: order(1)}, charge: "renewals dead drop", capture: "renewals dead replay"},
		{situation: "captured in full", state: journal.State{Phase: journal.PhaseCaptured, Order: order(1599)}, charge: "renewals dead drop", capture: "renewals dead drop"},
		{situation: "not captured", state: journal.State{Phase: journal.PhaseCaptureFailed, Order: order(0)}, charge: "renewals dead drop", capture: "renewals dead replay"},
	} {
		if got := (desk.Letter{Kind: desk.ChargeJob}).NowThat(row.state); got != row.charge {
			t.Errorf("%s: a charge: got %q, want %q", row.situation, got, row.charge)
		}
		if got := (desk.Letter{Kind: desk.CaptureJob}).NowThat(row.state); got != row.capture {
			t.Errorf("%s: a capture: got %q, want %q", row.situation, got, row.capture)
		}
	}
}

// Charges and captures are told apart, share one table of IDs, and keep the customer token to themselves.
func TestPublishCapture(t *testing.T) {
	o := newOffice(t)
	charge := strings.TrimSpace(jobLines(t, "a", 1))
	id := fmt.Sprintf("a-0/%s/1", time.Now().UTC().Format("2006-01"))
	capture := `{"id":"c1","subscription_id":"a-0","period":"2026-12","captured_amount":800}`
	late := strings.Replace(capture, "c1", id, 1) // under the ID of the job

	out, told := finish(t, cli.ExitFailed, o.env, capture+"\n"+charge+"\n{\n", "publish")
	if want := "accepted 1, duplicates 0, invalid 2, failed 0\n"; out != want {
		t.Errorf("publish says %q, want %q", out, want)
	}
	o.expect(told, "stdin:1: not published: this looks like a capture job: add --capture\n", "stdin:3: not published: invalid job: ")
	out, told = finish(t, cli.ExitFailed, o.env, charge+"\n"+capture+"\n"+capture+"\n"+late+"\n"+strings.Replace(capture, "800", "0", 1), "publish", "--capture")
	if want := "accepted 1, duplicates 2, invalid 2, failed 0\n"; out != want {
		t.Errorf("publish --capture says %q, want %q", out, want)
	}
	o.expect(told, "stdin:1: not published: this looks like the job of a charge: leave --capture out\n", "stdin:3: c1: duplicate, dropped", "stdin:4: "+id+": duplicate, dropped",
		"be it of a charge or of a capture", "stdin:5: not published: invalid job: captured_amount: ", "!ok-a-")
	if n := o.count(messages.StreamJobs); n != 2 {
		t.Errorf("jobs in the queue: %d, want 2", n)
	}

	// A charge that somebody else puts where captures belong.
	m := nats.NewMsg(messages.CaptureSubject(devAccount))
	m.Data = []byte(strings.Replace(charge, id, "stray", 1))
	if _, err := o.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	o.work()
	stray := o.letterFor("stray")
	for _, args := range [][]string{{"dead", "list"}, {"dead", "show", stray}, {"dead", "show", stray, "--json"}, {"show", "stray"}} {
		out, told := o.run(cli.ExitDone, args...)
		o.expect(out+told, "!ok-a-", "capture")
	}
}
