package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// S5: a job whose ID came in a header only, turned away because of an unresolved renewal, then replayed and paid.
func TestReplay(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("2", "500", "", 1), o.job("3", "ok", "", 1))
	o.publishRaw([]byte(`{"customer_token":"ok-not-a-job-at-all"`), nil)
	o.work()
	payload, err := o.job("2", "ok", "", 2).Encode()
	if err != nil {
		t.Fatal(err)
	}
	withoutID := strings.Replace(string(payload), `"id":"2/2026-12/2",`, "", 1)
	o.publishRaw([]byte(withoutID), nats.Header{nats.MsgIdHdr: {"invoice 2"}, "traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}})
	o.publish(o.job("3", "ok", "another ID", 2))
	o.work()

	out, _ := o.run(cli.ExitDone, "dead", "list")
	o.expect(out, "SEQ", "blocked_by_unresolved", "invoice 2", "idempotency_window_expired", "already_paid", "another ID", "invalid", "!ok-not-a-job")
	if letters := o.letters("--reason=already_paid,invalid", "--account=default"); len(letters) != 2 {
		t.Errorf("filtered: %+v, want 2", letters)
	}
	if letters := o.letters("--account=se"); len(letters) != 0 {
		t.Errorf("of another account: %+v, want none", letters)
	}
	_, told := o.run(cli.ExitDone, "dead", "list", "--account=se")
	o.expect(told, "no dead letters")

	unresolved, blocked := o.letterFor("2/2026-12/1"), o.letterFor("invoice 2")
	_, told = o.run(cli.ExitFailed, "dead", "replay", unresolved)
	o.expect(told, unresolved+": 2/2026-12/1: refused: it may have been charged", "`renewals resolve 2/2026-12`")
	out, told = o.run(cli.ExitFailed, "dead", "replay", "--all", "--reason=blocked_by_unresolved,idempotency_window_expired")
	o.expect(out, "1 refused, 1 replayed")
	o.expect(told, "refused: it may have been charged")

	// In the queue it is the job it was, with nothing of its dead letter.
	out, _ = o.run(cli.ExitDone, "show", "invoice 2")
	o.expect(out, "queue: job invoice 2", "no worker has claimed it\n", "state: unresolved")
	stream, err := o.js.Stream(t.Context(), messages.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), messages.DueSubject(devAccount))
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Data) != withoutID || m.Header.Get(messages.HeaderReplay) != blocked || m.Header.Get(messages.HeaderReason) != "" || m.Header.Get("traceparent") == "" || !strings.HasPrefix(m.Header.Get(nats.MsgIdHdr), "RENEWAL_DEAD/"+blocked+"/") {
		t.Errorf("replayed as %v %s", m.Header, m.Data)
	}
	o.run(cli.ExitDone, "resolve", "2/2026-12", "--not-charged", "--yes")
	o.work()
	renewal := messages.NewRenewalKey("2", "2026-12")
	if s := o.state("2"); s.Phase != journal.PhasePaid || s.Claim.Key != messages.NewIdempotencyKey(renewal, "invoice 2") {
		t.Errorf("got %s under key %s, want paid under that of invoice 2", s.Phase, s.Claim.Key)
	}

	// What is gone was done by the run before, and what was never there is a mistake.
	_, told = o.run(cli.ExitDone, "dead", "replay", blocked)
	o.expect(told, blocked+": -: gone: replayed, resolved or dropped before")
	_, told = o.run(cli.ExitUsage, "dead", "replay", "4711")
	o.expect(told, "SEQ: 4711, expected a sequence that `renewals dead list` shows")
}

// A replay that ended between publishing and dropping is made good by the next: one job, one result, one charge.
func TestReplayTwice(t *testing.T) {
	o := newOffice(t)
	o.run(cli.ExitDone, "cancel", "1", "2026-12", "--unknown", "--yes")
	o.publish(o.job("1", "ok", "", 1))
	o.work()
	dead, err := desk.OpenDeadLetters(t.Context(), o.js)
	if err != nil {
		t.Fatal(err)
	}
	l, err := dead.Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Publish(t.Context(), o.js); err != nil { // and the operator's machine loses power
		t.Fatal(err)
	}
	o.run(cli.ExitDone, "dead", "replay", "1")
	if n := o.count(messages.StreamJobs); n != 1 {
		t.Errorf("jobs in the queue: %d, want 1", n)
	}
	o.work()
	records := o.count(messages.StreamJournal)
	// Past the duplicate window the journal knows it.
	if _, err := o.js.PublishMsg(t.Context(), &nats.Msg{Subject: messages.DueSubject(l.Account), Header: l.Replay(l.Number, "an hour later"), Data: l.Payload}); err != nil {
		t.Fatal(err)
	}
	o.work()
	if n := o.count(messages.StreamJournal); n != records {
		t.Errorf("records: %d, want the %d there were", n, records)
	}
	for _, l := range o.letters() {
		if l.Reason != messages.ReasonCancelled || l.Sequence == 1 {
			t.Errorf("dead letter %+v, want the second rejection's only", l)
		}
	}
}

func TestDrop(t *testing.T) {
	o := newOffice(t)
	for n := range 3 {
		o.publishRaw([]byte(fmt.Sprint("no job ", n)), nil)
	}
	o.work()
	_, told := o.run(cli.ExitUsage, "dead", "drop", "1")
	o.expect(told, "--yes: not set")
	if n := o.count(messages.StreamDead); n != 3 {
		t.Fatalf("dead letters: %d, want 3", n)
	}
	out, _ := o.run(cli.ExitDone, "dead", "drop", "2", "2", "--yes")
	o.expect(out, "1 dropped")
	out, told = o.run(cli.ExitDone, "dead", "drop", "1", "2", "--yes", "--json")
	o.expect(out, `{"sequence":1,"fate":"dropped"}`, `{"sequence":2,"fate":"gone","why":`)
	o.expect(told, "!gone")
	out, _ = o.run(cli.ExitDone, "dead", "drop", "--all", "--reason=expired", "--yes")
	o.expect(out, "nothing to drop")
	out, _ = o.run(cli.ExitDone, "dead", "drop", "--all", "--yes")
	o.expect(out, "1 dropped")
	if n := o.count(messages.StreamDead); n != 0 {
		t.Errorf("dead letters: %d, want none", n)
	}
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"drop"}, "SEQ: none, expected sequences"},
		{[]string{"drop", "1", "--all"}, "SEQ: given beside --all"},
		{[]string{"replay", "1", "--reason=invalid"}, "for --all only"},
		{[]string{"replay", "--all", "--reason=payed"}, `--reason: "payed", expected one of invalid, `},
		{[]string{"list", "--account=Default"}, "--account: "},
	} {
		_, told := o.run(cli.ExitUsage, append([]string{"dead"}, row.args...)...)
		o.expect(told, row.want)
	}
	_, told = o.run(cli.ExitFailed, "dead", "show", "1")
	o.expect(told, "dead letter 1 is gone")
}

// A customer token is shown to who asks for it only, wherever in the job it is.
func TestDeadShow(t *testing.T) {
	o := newOffice(t)
	const token = "ok-0b1d9815-165e-42e2"
	job := o.job("1", "ok", "", 1)
	job.CustomerToken = messages.NewCustomerToken(token)
	job.Order = []byte(strings.Replace(string(job.Order), `"order_amount":1599`, `"order_amount":1600,"merchant_data":"`+token+`"`, 1))
	payload, err := job.Encode()
	if err != nil {
		t.Fatal(err)
	}
	o.publishRaw(payload, nats.Header{"X-Customer": {token}, "X-Screen": {"\x1b[2J"}})
	o.publishRaw([]byte(`{"customer_token":"`+token+`"`), nil)
	if _, err := o.js.PublishMsg(t.Context(), nats.NewMsg("renewals.dead.not-a-key.default")); err != nil {
		t.Fatal(err)
	}
	o.work()

	first, second := o.letterFor("1/2026-12/1"), ""
	for _, e := range o.letters("--reason=invalid") {
		if s := fmt.Sprint(e.Sequence); s != first {
			second = s
		}
	}
	out, _ := o.run(cli.ExitDone, "dead", "show", first)
	o.expect(out, "Renewals-Reason: invalid", `"customer_token": "[redacted]"`, `"merchant_data": "[redacted]"`, "Renewals-Orig-X-Customer: [redacted]", `"order_amount": 1600`, "!"+token, "!\x1b")
	out, _ = o.run(cli.ExitDone, "dead", "show", first, "--json")
	o.expect(out, `"customer_token\":\"[redacted]\"`, "!"+token)
	out, _ = o.run(cli.ExitDone, "dead", "show", first, "--reveal-token")
	o.expect(out, `"customer_token": "`+token+`"`)
	out, _ = o.run(cli.ExitDone, "dead", "show", second)
	o.expect(out, "no JSON and may hold a customer token anywhere", "!"+token)
	out, _ = o.run(cli.ExitDone, "dead", "show", second, "--reveal-token")
	o.expect(out, token)

	// What somebody else has put there is listed, and not replayed.
	out, _ = o.run(cli.ExitDone, "dead", "list")
	o.expect(out, "not written by a worker: ")
	_, told := o.run(cli.ExitFailed, "dead", "replay", "1")
	o.expect(told, "1: -: refused: not written by a worker")
}

// S47: a job as large as the queue takes has no room for the header of a replay.
func TestReplayTooLarge(t *testing.T) {
	o := newOffice(t)
	o.publishRaw([]byte(strings.Repeat("x", 512<<10)), nil)
	o.work()
	_, told := o.run(cli.ExitFailed, "dead", "replay", "1")
	o.expect(told, "too large for RENEWALS, it can never be charged: `renewals dead drop 1`")
	if n := o.count(messages.StreamDead); n != 1 {
		t.Errorf("dead letters: %d, want 1", n)
	}
}

// Many dead letters are read and replayed in one run, and those that the run itself brings forth are left alone.
func TestReplayAll(t *testing.T) {
	o := newOffice(t)
	const n = 50
	for i := range n {
		if _, err := o.js.PublishMsgAsync(&nats.Msg{Subject: messages.DueSubject(devAccount), Data: fmt.Append(nil, i)}, jetstream.WithStallWait(patience)); err != nil {
			t.Fatal(err)
		}
	}
	<-o.js.PublishAsyncComplete()
	p := start(t, o.env, "", "work")
	o.empty(p)
	out, _ := o.run(cli.ExitDone, "dead", "replay", "--all")
	o.expect(out, "50 replayed")
	o.empty(p)
	if got := o.count(messages.StreamDead); got != n {
		t.Errorf("dead letters: %d, want %d again", got, n)
	}
}

func TestRedaction(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ about, payload, want string }{
		{"a job", `{"id":"1","customer_token":"secret-1"}`, `{"id":"1","customer_token":"[redacted]"}`},
		{"spaces", "{ \"customer_token\" :\n \"secret-1\" , \"id\": 1}", "{ \"customer_token\" :\n \"[redacted]\" , \"id\": 1}"},
		{"twice", `{"customer_token":"secret-1","customer_token":"secret-2"}`, `{"customer_token":"[redacted]","customer_token":"[redacted]"}`},
		{"another spelling", `{"customerToken":"secret-1","Token":"secret-2"}`, `{"customerToken":"[redacted]","Token":"[redacted]"}`},
		{"an escaped name", `{"customer_\u0074oken":"secret-1"}`, `{"customer_\u0074oken":"[redacted]"}`},
		{"a number", `{"customer_token":12345678901234567890}`, `{"customer_token":"[redacted]"}`},
		{"null", `{"customer_token":null}`, `{"customer_token":null}`},
		{"in a list", `[{"tokens":["secret-1",{"a":"secret-2"}],"b":"c"}]`, `[{"tokens":["[redacted]",{"a":"[redacted]"}],"b":"c"}]`},
		{"repeated elsewhere", `{"customer_token":"secret-1","order":{"merchant_data":"for secret-1"}}`, `{"customer_token":"[redacted]","order":{"merchant_data":"for [redacted]"}}`},
		{"repeated without its line break", `{"customer_token":" secret-1\n","metadata":{"t":"secret-1"}}`, `{"customer_token":"[redacted]","metadata":{"t":"[redacted]"}}`},
		{"in an event", `{"id":"1","data":{"customer_token":"secret-1"}}`, `{"id":"1","data":{"customer_token":"[redacted]"}}`},
		{"in Base64", `{"id":"1","data_base64":"c2VjcmV0LTE="}`, `{"id":"1","data_base64":"[redacted]"}`},
		{"encoded twice", `{"data":"{\"customer_token\":\"secret-1\"}"}`, `{"data":"[redacted]"}`},
		{"part of a word", `{"customer_token":"e","name":"Streaming"}`, `{"customer_token":"[redacted]","name":"Streaming"}`},
		{"no token", `{"id":"1"}`, `{"id":"1"}`},
		{"no object", `"secret"`, `"secret"`},
	} {
		if got := string(redactionOf([]byte(row.payload)).payload([]byte(row.payload))); got != row.want {
			t.Errorf("%s: got %s, want %s", row.about, got, row.want)
		}
	}
	for _, payload := range []string{"", "{", `{"customer_token":"secret-1"`, "\xff"} {
		if got := string(redactionOf([]byte(payload)).payload([]byte(payload))); strings.Contains(got, "secret") || !strings.Contains(got, "no JSON") {
			t.Errorf("%q is shown as %q", payload, got)
		}
	}
}
