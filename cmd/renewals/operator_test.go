package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	testbroker "github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// office is a broker, a Klarna and the streams, as an operator's commands find them.
type office struct {
	*testing.T
	env variables
	due time.Time // of every period, the same for all its attempts
	js  jetstream.JetStream
	sim *klarnasim.Server
}

// newOffice gives keys so short a life that what Klarna never decides is unresolved after a moment, and an account whose attempts
// follow each other as fast.
func newOffice(t *testing.T) *office {
	t.Helper()
	t.Parallel()
	b, sim := broker(t, nil), simulator(t)
	config := filepath.Join(t.TempDir(), "renewals.yaml")
	if err := os.WriteFile(config, []byte("accounts: [{name: default, min_attempt_gap: 0s}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &office{T: t, sim: sim, due: time.Now(), env: environmentFor(b, sim).with("RENEWALS_KEY_WINDOW", "300ms", "RENEWALS_RETRY_DELAYS", "100ms", "RENEWALS_TRY_BUDGET", "1ms", "RENEWALS_CONFIG", config)}
	finish(t, cli.ExitDone, o.env, "", "provision")
	_, js, err := cli.NATSServer{URL: b.ClientURL()}.Connect(t.Context(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(js.Conn().Close)
	o.js = js
	return o
}

// job is a sample job under an ID of its own choice, or the usual one.
func (o *office) job(subscription, token, id string, attempt int64) messages.Job {
	o.Helper()
	job := charge("op", subscription, token, product{"Premium Monthly", "MONTH", 1, 1599, "EUR"}, o.due)
	job.CustomerToken = messages.NewCustomerToken(token + "-" + strings.ReplaceAll("op-"+subscription, "/", "-"))
	job.SubscriptionID, job.Period, job.Attempt = messages.SubscriptionID(subscription), "2026-12", attempt
	if job.ID = messages.MessageID(id); id == "" {
		job.ID = messageID(job)
	}
	return job
}

func (o *office) publish(jobs ...messages.Job) {
	o.Helper()
	for _, job := range jobs {
		payload, err := job.Encode()
		if err != nil {
			o.Fatal(err)
		}
		o.publishRaw(payload, nats.Header{nats.MsgIdHdr: {string(job.ID)}})
	}
}

func (o *office) publishRaw(payload []byte, header nats.Header) {
	o.Helper()
	if _, err := o.js.PublishMsg(o.Context(), &nats.Msg{Subject: messages.DueSubject(devAccount), Header: header, Data: payload}); err != nil {
		o.Fatal(err)
	}
}

// work runs a worker until the queue is empty.
func (o *office) work() {
	o.Helper()
	p := start(o.T, o.env, "", "work")
	o.empty(p)
	p.stop()
	if code := p.wait(o.T); code != cli.ExitDone {
		o.Fatalf("the worker exited with %d:\n%s", code, p.stderr.String())
	}
}

func (o *office) empty(p *process) {
	o.Helper()
	eventually(o.T, "the queue is empty", func() bool {
		select {
		case <-p.done:
			o.Fatalf("the worker has ended:\n%s", p.stderr.String())
		default:
		}
		return o.count(messages.StreamJobs) == 0
	})
}

func (o *office) count(stream string) uint64 {
	o.Helper()
	s, err := o.js.Stream(o.Context(), stream)
	if err != nil {
		o.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// run is a command that must end with this exit code.
func (o *office) run(want int, args ...string) (stdout, stderr string) {
	o.Helper()
	stdout, stderr = finish(o.T, want, o.env, "", args...)
	if both := stdout + stderr; strings.Contains(both, testPassword) {
		o.Errorf("renewals %s shows the API key:\n%s", strings.Join(args, " "), both)
	}
	return stdout, stderr
}

// expect checks for what must be and, behind a "!", what must not be in a text.
func (o *office) expect(text string, wants ...string) {
	o.Helper()
	for _, want := range wants {
		want, not := strings.CutPrefix(want, "!")
		if strings.Contains(text, want) == not {
			o.Errorf("found %q: %t, want %t, in:\n%s", want, not, !not, text)
		}
	}
}

// letters are the dead letters, as dead list tells programs.
func (o *office) letters(args ...string) (letters []entry) {
	o.Helper()
	out, _ := o.run(cli.ExitDone, append([]string{"dead", "list", "--json"}, args...)...)
	for line := range strings.Lines(out) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			o.Fatal(err)
		}
		letters = append(letters, e)
	}
	return letters
}

// letterFor is the one dead letter of a job.
func (o *office) letterFor(id string) string {
	o.Helper()
	for _, e := range o.letters() {
		if e.ID == messages.MessageID(id) {
			return fmt.Sprint(e.Sequence)
		}
	}
	o.Fatalf("no dead letter of %s", id)
	return ""
}

func (o *office) state(subscription string) journal.State {
	o.Helper()
	records, err := journal.Open(o.Context(), o.js, zerolog.Nop())
	if err != nil {
		o.Fatal(err)
	}
	at, err := records.Last(o.Context(), messages.NewRenewal(messages.SubscriptionID(subscription), "2026-12"))
	if err != nil {
		o.Fatal(err)
	}
	return at.State
}

// S23, S24: an unresolved renewal from the moment it needs somebody until everything about it is put in order.
func TestResolveNotCharged(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("1234834", "500", "", 1))
	o.work()
	o.publish(o.job("1234834", "ok", "", 2))
	o.work()

	out, _ := o.run(cli.ExitFailed, "status")
	o.expect(out, "NEEDS A HUMAN", "account default: unresolved renewals, dead letters", "no worker is live", "1234834/2026-12  default  charge  15.99 EUR  idempotency_window_expired")
	out, _ = o.run(cli.ExitDone, "show", "1234834/2026-12")
	o.expect(out, "subscription 1234834, period 2026-12, 15.99 EUR", "of message ID 1234834/2026-12/1", "claimed\n", "klarna answered 500",
		"state: unresolved: idempotency_window_expired", "renewals resolve 1234834/2026-12 --not-charged")

	// Nobody is there to ask.
	_, told := o.run(cli.ExitUsage, "resolve", "1234834/2026-12", "--not-charged")
	o.expect(told, "--yes: not set, and standard input is no terminal to ask on; nothing was changed")
	if got := o.state("1234834").Phase; got != journal.PhaseUnresolved {
		t.Fatalf("phase %s, want unresolved", got)
	}

	blocked := o.letterFor("1234834/2026-12/2")
	out, _ = o.run(cli.ExitDone, "resolve", "1234834/2026-12/1", "--not-charged", "--yes", "--actor=anna@billing", "--note=no order in the portal")
	o.expect(out, "recorded: dunning not_charged", "by anna@billing, by word alone, note: no order in the portal", "dead letter ", "renewals dead replay "+blocked)
	if letters := o.letters(); len(letters) != 1 || letters[0].Reason != messages.ReasonBlockedByUnresolved {
		t.Errorf("dead letters %+v, want the blocked job's only", letters)
	}
	_, told = o.run(cli.ExitFailed, "resolve", "1234834/2026-12", "--not-charged", "--yes")
	o.expect(told, "resolve: only an unresolved renewal can be resolved: this one is dunning")

	// The attempt that it blocked goes on under its own key.
	out, _ = o.run(cli.ExitDone, "dead", "replay", blocked)
	o.expect(out, "1 replayed")
	o.work()
	out, _ = o.run(cli.ExitDone, "show", "1234834/2026-12", "--json")
	var kinds []string
	for line := range strings.Lines(out) {
		var r struct{ Kind, ID, Actor, Corrects string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Kind != "charging" {
			kinds = append(kinds, r.Kind+" "+r.ID[len(r.ID)-1:]+r.Actor+r.Corrects)
		}
	}
	if got, want := strings.Join(kinds, ", "), "unresolved 1, rejected 2, dunning 1anna@billingunresolved, paid 2rejected"; got != want {
		t.Errorf("results %q, want %q", got, want)
	}
	out, _ = o.run(cli.ExitDone, "status")
	o.expect(out, "nothing needs a human")
	if orders := o.sim.Simulator.Counts().Orders; orders != 1 {
		t.Errorf("orders at Klarna: %d, want 1", orders)
	}
}

// S23: what a person found in Klarna's books ends the renewal as paid, once.
func TestResolvePaid(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("77", "created-cutx9-ok", "", 1), o.job("78", "500", "", 1), o.job("80", "500", "", 1))
	o.work()

	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"resolve", "77/2026-12"}, "missing flags: --paid or --not-charged of a charge, --captured or --not-captured of a capture"},
		{[]string{"resolve", "77/2026-12", "--paid", "--not-charged"}, "can't be used together"},
		{[]string{"resolve", "77/2026-12", "--paid", "--yes"}, "--order-id: not set, expected the order"},
		{[]string{"resolve", "77/2026-12", "--not-charged", "--order-id=1", "--yes"}, "for --paid only"},
		{[]string{"resolve", "77/2026-12", "--captured=false", "--yes"}, "--captured: false without --paid, expected --not-captured"},
		{[]string{"resolve", "77/2026-12", "--not-captured", "--captured", "--yes"}, "--captured: with --not-captured, expected one of them"},
		{[]string{"resolve", "77/2026-12", "--captured", "--yes"}, "--capture-id: not set, expected the capture"},
		{[]string{"resolve", "77/2026-12", "--captured", "--capture-id=a b", "--yes"}, `--capture-id: "a b", expected`},
		{[]string{"resolve", "77/2026-12", "--paid", "--order-id=1", "--capture-id=1", "--yes"}, "--capture-id: for --captured without --paid only"},
		{[]string{"resolve", "77/2026-12", "--paid", "--order-id=a b", "--yes"}, `--order-id: "a b", expected`},
	} {
		_, told := o.run(cli.ExitUsage, row.args...)
		o.expect(told, row.want)
	}
	_, told := o.run(cli.ExitFailed, "resolve", "79/2026-12", "--not-charged", "--yes")
	o.expect(told, "79/2026-12: no record of it in RENEWAL_JOURNAL")

	order := o.sim.Simulator.Books().Orders[0].OrderID
	out, told := o.run(cli.ExitDone, "resolve", "77/2026-12", "--paid", "--order-id", order, "--yes", "--json")
	var paid struct {
		messages.Paid
		Kind messages.Kind
	}
	if err := json.Unmarshal([]byte(out), &paid); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if paid.Kind != "paid" || paid.OrderID != order || !paid.Captured || paid.Corrects != "unresolved" || !strings.Contains(paid.Actor, "@") {
		t.Errorf("got %+v, want the order, captured as Klarna says, and who said so", paid)
	}
	o.expect(told, "dead letter ", " dropped", "state: unresolved", "Klarna's order "+order+" of account default, looked up ", "amount               15.99 EUR", "15.99 EUR of 15.99 EUR", "!NO")
	if paid.Verified == nil || !*paid.Verified || paid.Seen.OrderID != order || paid.Seen.OrderAmount != 1599 || paid.Seen.CapturedAmount != 1599 || paid.Seen.LookedAt.IsZero() || paid.FraudStatus != "ACCEPTED" {
		t.Errorf("got %+v, want what Klarna said of the order", paid)
	}
	if letters := o.letters(); len(letters) != 2 || letters[0].SubscriptionID == "77" || letters[1].SubscriptionID == "77" {
		t.Errorf("dead letters %+v, want those of the other two", letters)
	}

	// An order that does not fit is refused with each difference; on an operator's word alone the record says so, and what was seen.
	other := []string{"resolve", "80/2026-12", "--paid", "--order-id", order, "--yes"}
	out, told = o.run(cli.ExitFailed, other...)
	o.expect(out, "merchant_reference1  op-80-", "NO")
	o.expect(told, "nothing was recorded, since Klarna does not bear it out", "merchant_reference1: the job says op-80-", ", Klarna says op-77-", "named by another renewal, too: 77/2026-12, paid record ")
	if got := o.state("80").Phase; got != journal.PhaseUnresolved {
		t.Fatalf("phase %s, want unresolved", got)
	}
	out, _ = o.run(cli.ExitDone, append(other, "--unverified", "--json")...)
	o.expect(out, `"verified":false,"seen":{"order_id":"`+order+`"`, `"merchant_reference1":"op-77-`, `"fraud_status":"ACCEPTED","captured":true`)

	// So it is of one that Klarna does not know.
	_, told = o.run(cli.ExitFailed, "resolve", "78/2026-12", "--paid", "--order-id=X", "--yes")
	o.expect(told, "account default has no order X at Klarna: check the id, and whether the order is another account's", "nothing was recorded")
	_, told = o.run(cli.ExitUsage, "resolve", "78/2026-12", "--paid", "--order-id=X", "--unverified", "--yes")
	o.expect(told, "--captured: not set, and Klarna was not asked")
	out, _ = o.run(cli.ExitDone, "resolve", "78/2026-12", "--paid", "--order-id=X", "--captured=false", "--unverified", "--yes")
	o.expect(out, "not looked up: account default has no order X at Klarna", "order X, to be captured", "by word alone", "!ACCEPTED")
	out, _ = o.run(cli.ExitDone, "show", "78/2026-12")
	o.expect(out, "state: paid with order X: 15.99 EUR authorised, Klarna has not said until when", "publish a capture job")
}

// A decision is about what was shown.
func TestMovedOn(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("1", "500", "", 1))
	o.work()
	records, err := journal.Open(t.Context(), o.js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	f := desk.Finder{JetStream: o.js, Journal: records, Progress: quietly}
	h, err := one(t.Context(), f, "1/2026-12")
	if err != nil {
		t.Fatal(err)
	}
	if err := unchanged(t.Context(), f, h); err != nil {
		t.Error(err)
	}
	if err := records.ResolveNotCharged(t.Context(), h.renewal, journal.Decision{Actor: "another", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := unchanged(t.Context(), f, h); err == nil {
		t.Error("the renewal has moved on and nobody notices")
	}
	var refused *journal.RefusedError
	err = decisionProblem("resolve", records.ResolveNotCharged(t.Context(), h.renewal, journal.Decision{Actor: "me", At: time.Now()}))
	if !errors.As(err, &refused) || strings.Contains(err.Error(), "repeat it") {
		t.Errorf("got %v, want a refusal", err)
	}
	if err := decisionProblem("resolve", context.DeadlineExceeded); !strings.Contains(err.Error(), "then repeat it") {
		t.Errorf("got %v, want to be told to look and repeat", err)
	}
}

// A decision that was stored is no refusal of itself, whoever lost its answer.
func TestDecisionWhoseAnswerIsLost(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("1", "500", "", 1))
	o.work()
	decision := journal.Decision{Actor: "anna", At: time.Now()}
	for _, row := range []struct {
		what   string
		decide func(*journal.Journal) error
	}{
		{"resolve", func(j *journal.Journal) error {
			return j.ResolveNotCharged(t.Context(), messages.NewRenewal("1", "2026-12"), decision)
		}},
		{"cancel", func(j *journal.Journal) error { return j.Cancel(t.Context(), devAccount, "1", "2026-12", decision) }},
	} {
		before, lost := o.count(messages.StreamJournal), false
		records, err := journal.Open(t.Context(), testbroker.Unheard{JetStream: o.js, Lost: &lost}, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		if err := row.decide(records); err != nil || !lost {
			t.Errorf("%s: got %v, want no error after an answer was lost: %t", row.what, err, lost)
		}
		if n := o.count(messages.StreamJournal) - before; n != 1 {
			t.Errorf("%s: %d records, want 1", row.what, n)
		}
	}
}

// S15: a period that an operator cancels is not charged any more.
func TestCancelByAnOperator(t *testing.T) {
	o := newOffice(t)
	_, told := o.run(cli.ExitUsage, "cancel", "9", "2026-12", "--unknown")
	o.expect(told, "--yes: not set")
	_, told = o.run(cli.ExitFailed, "cancel", "zzz", "2026-13", "--yes")
	o.expect(told, "cancel: nothing is recorded of period 2026-13 of subscription zzz, and no job of it waits; if both are right, --unknown cancels it before anybody publishes it")
	if n := o.count(messages.StreamJournal); n != 0 {
		t.Fatalf("%d records, want none", n)
	}
	_, told = o.run(cli.ExitUsage, "cancel", "9", " ", "--yes")
	o.expect(told, "PERIOD: found a space")
	_, told = o.run(cli.ExitUsage, "cancel", strings.Repeat("9", 65), "2026-12", "--yes")
	o.expect(told, "SUBSCRIPTION: found 65 bytes, expected 1 to 64")

	out, _ := o.run(cli.ExitDone, "cancel", "9", "2026-12", "--unknown", "--yes", "--actor=anna", "--note=left us")
	o.expect(out, "nothing is recorded of this renewal yet", "recorded: cancelled by anna, note: left us")
	o.publish(o.job("8", "ok", "", 1)) // which no worker has seen
	out, _ = o.run(cli.ExitDone, "cancel", "8", "2026-12", "--yes")
	o.expect(out, "recorded: cancelled")
	o.publish(o.job("9", "ok", "", 1))
	o.work()
	out, _ = o.run(cli.ExitDone, "show", "9/2026-12")
	o.expect(out, "state: cancelled: this period will not be charged", "rejected", "15.99 EUR")
	_, told = o.run(cli.ExitFailed, "cancel", "9", "2026-12", "--yes")
	o.expect(told, "cancel: the renewal is cancelled already")

	o.publish(o.job("10", "ok", "", 1), o.job("11", "soft-decline", "", 1), o.job("12", "500", "", 1))
	o.work()
	_, told = o.run(cli.ExitFailed, "cancel", "10", "2026-12", "--yes")
	o.expect(told, "cancel: too late: the renewal is paid with order ", "refund it in Klarna's portal")
	_, told = o.run(cli.ExitFailed, "cancel", "12", "2026-12", "--yes")
	o.expect(told, "it may have been charged: resolve it first")
	_, told = o.run(cli.ExitUsage, "cancel", "11", "2026-12", "--yes", "--account=se")
	o.expect(told, "--account: se, but the records of this renewal are of account default")
	out, _ = o.run(cli.ExitDone, "cancel", "11", "2026-12", "--yes", "--json")
	o.expect(out, `{"kind":"cancelled"`, `"account":"default"`)
	if orders := o.sim.Simulator.Counts().Orders; orders != 1 {
		t.Errorf("orders at Klarna: %d, want 1", orders)
	}
}

// Who follows an account hears of the periods that are cancelled on it, of those too of which only a job knows.
func TestCancelOnTheJobsAccount(t *testing.T) {
	o := newOffice(t)
	on := func(account messages.Account, job messages.Job) {
		payload, err := job.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.js.PublishMsg(t.Context(), &nats.Msg{Subject: messages.DueSubject(account), Data: payload}); err != nil {
			t.Fatal(err)
		}
	}
	on("se", o.job("1", "ok", "", 1))
	on("se", o.job("2", "ok", "", 1))
	on("no", o.job("2", "ok", "an ID of its own", 1))
	_, told := o.run(cli.ExitUsage, "cancel", "1", "2026-12", "--account=no", "--yes")
	o.expect(told, "--account: no, but what waits of this renewal is of account se")
	_, told = o.run(cli.ExitUsage, "cancel", "2", "2026-12", "--yes")
	o.expect(told, "--account: not set, and jobs of this renewal wait on several accounts, expected one of se, no")
	if n := o.count(messages.StreamJournal); n != 0 {
		t.Fatalf("%d records, want none", n)
	}
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"1", "2026-12"}, "se"},
		{[]string{"2", "2026-12", "--account=no"}, "no"},
		{[]string{"3", "2026-12", "--unknown"}, "default"},
		{[]string{"4", "2026-12", "--unknown", "--account=no"}, "no"},
	} {
		out, _ := o.run(cli.ExitDone, append([]string{"cancel", "--yes", "--json"}, row.args...)...)
		o.expect(out, `{"kind":"cancelled"`, `"account":"`+row.want+`"`)
		if _, err := o.cancellation(row.args[0], row.want); err != nil {
			t.Errorf("%v: %v, want a record for those who follow account %s", row.args, err, row.want)
		}
	}
}

// cancellation reads the last cancellation of a subscription's period as who follows an account would.
func (o *office) cancellation(subscription, account string) (*jetstream.RawStreamMsg, error) {
	o.Helper()
	s, err := o.js.Stream(o.Context(), messages.StreamJournal)
	if err != nil {
		o.Fatal(err)
	}
	return s.GetLastMsgForSubject(o.Context(), "renewals.cancelled."+subscription+".2026-12.*."+account)
}

// A name in another encoding would be recorded as another name.
func TestArgumentsAreUTF8(t *testing.T) {
	o := newOffice(t)
	for _, row := range []struct{ args, want string }{
		{"cancel Zo\xeb 2026-12 --unknown --yes", "renewals: argument 2: not valid UTF-8, "},
		{"cancel Zo\u00eb 2026-12 --unknown --yes --note=Zo\xeb", "renewals: argument 6, --note: not valid UTF-8, "},
		{"cancel Zo\u00eb 2026-12 --unknown --yes --nats-user me --nats-password hunter2\xff", "renewals: argument 9: not valid UTF-8, "},
	} {
		if _, told := o.run(cli.ExitUsage, strings.Fields(row.args)...); !strings.HasPrefix(told, row.want) || strings.Contains(told, "hunter2") {
			t.Errorf("%q: got %q, want %q", row.args, told, row.want)
		}
	}
	if n := o.count(messages.StreamJournal); n != 0 {
		t.Errorf("%d records, want none", n)
	}
	o.run(cli.ExitDone, "cancel", "Zo\u00eb", "2026-12", "--unknown", "--yes")
}

// Every way to name a renewal.
func TestShowFinds(t *testing.T) {
	o := newOffice(t)
	conflict := o.job("s/1", "ok", "inv_2041", 1)
	conflict.Metadata = map[string]string{"note": `the ID "inv_2041" again`}
	conflict.CustomerToken = messages.NewCustomerToken("ok-another-customer")
	o.publish(o.job("s/1", "ok", "inv_2041", 1), o.job("2", "ok", "", 1))
	o.work()
	payload, err := conflict.Encode()
	if err != nil {
		t.Fatal(err)
	}
	o.publishRaw(payload, nil)
	o.work()
	o.publish(o.job("3", "ok", "inv <3>", 1), o.job("2", "ok", "", 2), o.job("4", "ok", "", 1))

	for _, row := range []struct {
		name  string
		wants []string
	}{
		{"s/1/2026-12", []string{"subscription s/1, period 2026-12", "state: paid", "!queue:"}},
		{"inv_2041", []string{"subscription s/1", "state: paid", "conflict: id this message ID stands for another", "state: none: nothing was charged"}},
		{"2/2026-12/1", []string{"subscription 2, ", "state: paid", "queue: job 2/2026-12/2, sequence ", "no worker has claimed it"}},
		{"2/2026-12", []string{"subscription 2, ", "state: paid", "queue: job 2/2026-12/2"}},
		{"2/2026-12/2", []string{"subscription 2, ", "state: paid", "queue: job 2/2026-12/2"}},
		{"inv <3>", []string{"subscription 3, ", "state: nothing recorded: no worker has claimed it yet", "queue: job inv <3>"}},
		{"4/2026-12", []string{"subscription 4, ", "queue: job 4/2026-12/1"}},
	} {
		out, _ := o.run(cli.ExitDone, "show", row.name)
		o.expect(out, append(row.wants, "!ok-op-", "!ok-another")...)
	}
	out, _ := o.run(cli.ExitDone, "show", "--json", "4/2026-12/1")
	o.expect(out, `{"kind":"due","sequence":`, `"id":"4/2026-12/1","account":"default","subscription_id":"4"`, "!ok-op-")
	_, told := o.run(cli.ExitFailed, "show", "2041")
	o.expect(told, "show 2041: neither a record in RENEWAL_JOURNAL nor a job in RENEWALS")
	_, told = o.run(cli.ExitUsage, "show", "")
	o.expect(told, "ID: found nothing")
}

// queueWatched is a broker of which somebody looks at the queue.
type queueWatched struct {
	jetstream.JetStream
	before func()
}

func (q queueWatched) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if name == messages.StreamJobs {
		q.before()
	}
	return q.JetStream.Stream(ctx, name)
}

// A job that is decided between the look at the journal and the one in the queue is in neither, and still shown.
func TestShowWhatIsDecidedMeanwhile(t *testing.T) {
	o := newOffice(t)
	records, err := journal.Open(t.Context(), o.js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []showCmd{{ID: "0/2026-12"}, {ID: "1"}, {ID: "2", As: asSubscription}, {ID: "any 3"}, {ID: "any 4", As: asMessageID}} {
		var id string
		if strings.HasPrefix(tt.ID, "any") {
			id = tt.ID
		}
		o.publish(o.job(strconv.Itoa(i), "ok", id, 1))
		work := sync.OnceFunc(o.work)
		var stdout, stderr bytes.Buffer
		f := desk.Finder{JetStream: queueWatched{o.js, work}, Journal: records, Progress: func(string, int64) (func(int64), func()) { return func(int64) {}, func() {} }}
		if err := tt.show(t.Context(), f, newTerminal(nil, &stdout, &stderr, func(string) (string, bool) { return "", false })); err != nil {
			t.Errorf("show %s: %v", tt.ID, err)
		}
		o.expect(stdout.String(), "paid")
	}
}

// The search reads the journal from its end in steps, and stops where it has found something.
func TestSearchBackwards(t *testing.T) {
	o := newOffice(t)
	const records, step = 25, 10
	renewal := func(n int) messages.Renewal {
		return messages.NewRenewal(messages.SubscriptionID(strconv.Itoa(n)), "2026-12")
	}
	for n := range records {
		id := messages.MessageID("inv_" + strconv.Itoa(n%20)) // the first five IDs are used again later
		body, err := messages.Encode(messages.Cancelled{Record: messages.Record{ID: id, SubscriptionID: messages.SubscriptionID(strconv.Itoa(n)), Period: "2026-12"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.js.Publish(t.Context(), messages.RecordAddress{Kind: messages.KindCancelled, Renewal: renewal(n), Account: devAccount}.Subject(), body); err != nil {
			t.Fatal(err)
		}
	}
	f := desk.Finder{JetStream: o.js, Progress: quietly}
	for _, row := range []struct {
		id   string
		want []messages.Renewal
	}{
		{"inv_4", []messages.Renewal{renewal(24)}}, // and not the one of long ago
		{"inv_19", []messages.Renewal{renewal(19)}},
		{"inv_15", []messages.Renewal{renewal(15)}},
		{"inv_14", []messages.Renewal{renewal(14)}},
		{"inv_5", []messages.Renewal{renewal(5)}},
		{"inv_", nil},
		{"2026-12", nil},
	} {
		got, err := f.Search(t.Context(), row.id, step)
		if err != nil || !slices.Equal(got, row.want) {
			t.Errorf("%s: got %v (%v), want %v", row.id, got, err, row.want)
		}
	}
	both, err := f.Search(t.Context(), "inv_0", records)
	if err != nil || len(both) != 2 {
		t.Errorf("within one step: got %v (%v), want both", both, err)
	}
	if got, err := f.Search(t.Context(), "inv_0", 1); err != nil || !slices.Equal(got, []messages.Renewal{renewal(20)}) {
		t.Errorf("one record at a time: got %v (%v)", got, err)
	}
}

// What one operator did wrongly another puts right, both on the record; and nobody can once something has followed.
func TestCorrectedByAnother(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("91", "500", "", 1), o.job("92", "500", "", 1))
	o.work()
	o.run(cli.ExitDone, "resolve", "91/2026-12", "--not-charged", "--yes", "--actor=anna@billing")

	_, told := o.run(cli.ExitFailed, "resolve", "91/2026-12", "--paid", "--order-id=X", "--captured=true", "--yes")
	o.expect(told, "this one is dunning; an operator decided that: put it right with --correct")
	_, told = o.run(cli.ExitFailed, "resolve", "92/2026-12", "--correct", "--not-charged", "--yes")
	o.expect(told, "there is no decision to correct yet")
	out, _ := o.run(cli.ExitDone, "resolve", "91/2026-12", "--correct", "--paid", "--order-id=X", "--captured=true", "--unverified", "--yes", "--actor=ben@billing", "--note=wrong tab")
	o.expect(out, "recorded: paid order X, corrects dunning", "by ben@billing, by word alone, note: wrong tab")
	out, _ = o.run(cli.ExitDone, "show", "91/2026-12")
	o.expect(out, "anna@billing", "ben@billing", "paid with order X")
	_, told = o.run(cli.ExitFailed, "resolve", "91/2026-12", "--correct", "--not-charged", "--yes")
	o.expect(told, "account default has no order X at Klarna", "nothing was recorded")
	o.run(cli.ExitDone, "resolve", "91/2026-12", "--correct", "--not-charged", "--unverified", "--yes")

	o.publish(o.job("91", "ok", "", 2))
	o.work()
	_, told = o.run(cli.ExitFailed, "resolve", "91/2026-12", "--correct", "--paid", "--order-id=X", "--captured=true", "--yes")
	o.expect(told, "only what an operator decided can be corrected")
}

// The order of a decision is not forgotten with the decision: two would be charged for one period.
func TestCorrectedOverAnOrder(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("94", "created-500x9-ok", "", 1))
	o.work()
	order := o.ordersAt()["94"]
	o.run(cli.ExitDone, "resolve", "94/2026-12", "--paid", "--order-id", order, "--yes")
	out, told := o.run(cli.ExitFailed, "resolve", "94/2026-12", "--correct", "--not-charged", "--yes")
	o.expect(out, "Klarna's order "+order+" of account default, looked up ", order+": CAPTURED, ACCEPTED, 15.99 EUR captured", "NO")
	o.expect(told, "nothing was recorded, since Klarna does not bear it out", "or with --unverified on your word alone, and the customer may be charged a second time")
	_, told = o.run(cli.ExitFailed, "resolve", "94/2026-12", "--correct", "--paid", "--order-id=X", "--yes")
	o.expect(told, "account default has no order X at Klarna", "nothing was recorded")
	if s := o.state("94"); s.Phase != journal.PhasePaid || s.Claim.OrderID != order {
		t.Errorf("phase %s with order %s, want it paid with %s", s.Phase, s.Claim.OrderID, order)
	}
	out, _ = o.run(cli.ExitDone, "resolve", "94/2026-12", "--correct", "--not-charged", "--unverified", "--yes", "--json")
	o.expect(out, `"verified":false,"seen":{"order_id":"`+order+`"`, `"corrects":"paid"`)
}

// What Klarna's settlements prove is nobody's word, and nobody decides in their name.
func TestSettledBySettlements(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("95", "500", "", 1))
	o.work()
	_, told := o.run(cli.ExitUsage, "resolve", "95/2026-12", "--not-charged", "--actor= reconcile", "--yes")
	o.expect(told, "--actor: reconcile is the program that settles by Klarna's settlements, expected your name")
	records, err := journal.Open(t.Context(), o.js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := records.ResolvePaid(t.Context(), messages.NewRenewal("95", "2026-12"), "o-1", true, journal.Decision{Actor: reconcile.Actor, Note: "settled in payout P1", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	out, _ := o.run(cli.ExitDone, "show", "95/2026-12")
	o.expect(strings.Join(strings.Fields(out), " "), "by reconcile, proven by Klarna's settlements, note: settled in payout P1", "!by word alone")
}

func TestCancellationTakenBack(t *testing.T) {
	o := newOffice(t)
	o.run(cli.ExitDone, "cancel", "93", "2026-12", "--unknown", "--yes", "--actor=anna@billing")
	o.publish(o.job("93", "ok", "", 1))
	o.work()
	turnedAway := o.letterFor("93/2026-12/1")
	out, _ := o.run(cli.ExitDone, "cancel", "93", "2026-12", "--undo", "--yes", "--actor=ben@billing")
	o.expect(out, "recorded: cancelled taken back: the period may be charged again, by ben@billing", "renewals dead replay "+turnedAway)
	_, told := o.run(cli.ExitFailed, "cancel", "93", "2026-12", "--undo", "--yes")
	o.expect(told, "cancel --undo: only a cancelled renewal can be reinstated: this one is none")
	o.run(cli.ExitDone, "dead", "replay", turnedAway, "--yes")
	o.work()
	out, _ = o.run(cli.ExitDone, "show", "93/2026-12")
	o.expect(out, "anna@billing", "ben@billing", "state: paid")
	if orders := o.sim.Simulator.Counts().Orders; orders != 1 {
		t.Errorf("orders at Klarna: %d, want 1", orders)
	}
}

// quietly tells nobody of progress.
func quietly(string, int64) (set func(int64), done func()) { return func(int64) {}, func() {} }
