package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// jobLines are n jobs as JSON Lines.
func jobLines(t *testing.T, run string, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		job := charge(run, fmt.Sprint(i), "ok", product{"Premium Monthly", "MONTH", 1, 1599, "EUR"}, time.Now())
		text, err := job.Encode()
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
		b.WriteByte('\n')
	}
	return b.String()
}

// What the program publishes is, but for who did it, what a billing system in Go publishes.
func TestPublishedAsByABillingSystem(t *testing.T) {
	t.Parallel()
	b := broker(t, nil)
	env := environmentFor(b, simulator(t))
	finish(t, cli.ExitDone, env, "", "provision")
	_, js, err := cli.NATSServer{URL: b.ClientURL()}.Connect(t.Context(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer js.Conn().Close()
	stream, err := js.Stream(t.Context(), messages.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}

	job := charge("p", "0", "ok", product{"Premium Monthly", "MONTH", 1, 1599, "EUR"}, time.Now())
	charged, err := messages.NewMessage(devAccount, job)
	if err != nil {
		t.Fatal(err)
	}
	captured, err := messages.NewCaptureMessage(devAccount, messages.Capture{ID: "p/c1", SubscriptionID: job.SubscriptionID, Period: job.Period})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		want *nats.Msg
		args []string
	}{{charged, []string{"publish"}}, {captured, []string{"publish", "--capture"}}} {
		finish(t, cli.ExitDone, env, string(row.want.Data), row.args...)
		got, err := stream.GetLastMsgForSubject(t.Context(), row.want.Subject)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(got.Header, row.want.Header, slices.Equal) || string(got.Data) != string(row.want.Data) {
			t.Errorf("%s: got %v %s, want %v %s", row.args, got.Header, got.Data, row.want.Header, row.want.Data)
		}
	}
}

// What the README shows in several terminals: provision, two workers, publish, watch.
func TestTwoWorkers(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	env := environmentFor(broker(t, nil), sim)
	out, _ := finish(t, cli.ExitDone, env, "", "provision")
	if !strings.Contains(out, "consumers charge-default, later-default and capture-default are ready for account default") {
		t.Errorf("provision says %q", out)
	}
	watch := start(t, env, "", "watch", "--json", "--since", "1h")
	one, two := start(t, env, "", "work"), start(t, env, "", "work")

	const n = 400
	file := filepath.Join(t.TempDir(), "jobs.jsonl")
	lines := jobLines(t, "a", n)
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ = finish(t, cli.ExitDone, env, "", "publish", file)
	if want := "accepted 400, duplicates 0, invalid 0, failed 0\n"; out != want {
		t.Errorf("publish says %q, want %q", out, want)
	}
	eventually(t, "400 results on watch", func() bool { return strings.Count(watch.stdout.String(), "\n") >= n })
	one.stop()
	two.stop()
	for _, worker := range []*process{one, two} {
		if code := worker.wait(t); code != cli.ExitDone {
			t.Errorf("worker exited with %d, want 0:\n%s", code, worker.stderr.String())
		}
		if got := worker.stdout.String() + worker.stderr.String(); strings.Contains(got, testPassword) || strings.Contains(got, "ok-a-") {
			t.Errorf("a worker logs a secret:\n%s", got)
		}
	}
	watch.stop()
	if code := watch.wait(t); code != cli.ExitInterrupted {
		t.Errorf("watch exited with %d, want 130: %s", code, watch.stderr.String())
	}

	paid, workers := map[messages.MessageID]bool{}, map[string]int{}
	for line := range strings.Lines(watch.stdout.String()) {
		var r struct {
			Kind   messages.Kind
			ID     messages.MessageID
			Worker string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Kind != messages.KindPaid {
			t.Fatalf("watch shows %q (%v), want a paid result", line, err)
		}
		if paid[r.ID] {
			t.Errorf("%s is announced twice", r.ID)
		}
		paid[r.ID] = true
		workers[r.Worker]++
	}
	if len(paid) != n || len(workers) != 2 {
		t.Errorf("got %d results by workers %v, want %d by two", len(paid), workers, n)
	}
	if orders := sim.Simulator.Counts().Orders; orders != n {
		t.Errorf("got %d orders in Klarna's books, want %d", orders, n)
	}

	// The stream drops what it has seen, and publish says which and why.
	out, told := finish(t, cli.ExitDone, env, lines, "publish", "-")
	if want := "accepted 0, duplicates 400, invalid 0, failed 0\n"; out != want {
		t.Errorf("publish says %q, want %q", out, want)
	}
	id := fmt.Sprintf("a-0/%s/1", time.Now().UTC().Format("2006-01"))
	if want := "stdin:1: " + id + ": duplicate, dropped"; !strings.Contains(told, want) || !strings.Contains(told, "whichever account") {
		t.Errorf("publish does not say %q:\n%.500s", want, told)
	}
}

func TestPublishReportsEveryLine(t *testing.T) {
	t.Parallel()
	env := environmentFor(broker(t, nil), simulator(t))
	finish(t, cli.ExitDone, env, "", "provision", "--klarna-account=se")
	good := strings.SplitAfter(jobLines(t, "b", 3), "\n")
	in := good[0] + "\n" + "{\"id\":\n" + good[1] + strings.Replace(good[2], `"order_amount":1599`, `"order_amount":1600`, 1) + good[0] +
		`{"id":"long","metadata":{"x":"` + strings.Repeat("x", 2*maxLine) + "\"}}\n" + strings.TrimSpace(good[2])
	out, told := finish(t, cli.ExitFailed, env, in, "publish", "--account=se")
	if want := "accepted 3, duplicates 1, invalid 3, failed 0\n"; out != want {
		t.Errorf("got %q, want %q\n%s", out, want, told)
	}
	for _, want := range []string{"stdin:3: not published: ", "stdin:5: not published: invalid job: order.order_amount", "stdin:6: b-0/", "stdin:7: not published: "} {
		if !strings.Contains(told, want) {
			t.Errorf("publish does not say %q:\n%s", want, told)
		}
	}
	if strings.Contains(told, "ok-b-") {
		t.Errorf("publish shows a customer token:\n%s", told)
	}
}

// The stream drops a corrected job under the ID of the wrong one, and a second job under the ID of the first: neither is lost without
// a word of what to do.
func TestPublishUnderAUsedID(t *testing.T) {
	t.Parallel()
	env := environmentFor(broker(t, nil), simulator(t))
	finish(t, cli.ExitDone, env, "", "provision")
	job := jobLines(t, "u", 1)
	finish(t, cli.ExitDone, env, job, "publish")
	corrected := strings.Replace(job, "Premium Monthly", "Premium monthly", 1)
	out, told := finish(t, cli.ExitDone, env, corrected, "publish")
	if want := "if this is another or a corrected job, give it a new id, or publish it again after that window (1h, unless it was made longer)"; out != "accepted 0, duplicates 1, invalid 0, failed 0\n" || !strings.Contains(told, want) {
		t.Errorf("got %q and %q, want %q", out, told, want)
	}

	lines := jobLines(t, "v", 1)
	lines += "\n" + strings.Replace(lines, `"subscription_id":"`, `"subscription_id":"x`, 1) + lines
	const want = "id: found the ID of line 1, whose bytes are others, expected one of its own"
	out, told = finish(t, cli.ExitFailed, env, lines, "publish")
	if out != "accepted 1, duplicates 1, invalid 1, failed 0\n" || !strings.Contains(told, "stdin:3: not published: invalid job: "+want) {
		t.Errorf("got %q and %q, want %q", out, told, want)
	}
	out, told = finish(t, cli.ExitFailed, env, lines, "validate")
	if !strings.Contains(out, "stdin:3: "+want) || !strings.Contains(told, "3 jobs, 1 invalid, ") {
		t.Errorf("got %q and %q, want %q", out, told, want)
	}
}

// What is behind the first MiB of a line is not read, and so the line is a problem, whatever is before it.
func TestLongLines(t *testing.T) {
	t.Parallel()
	env := environmentFor(broker(t, nil), simulator(t))
	finish(t, cli.ExitDone, env, "", "provision")
	job := strings.Split(strings.TrimSpace(jobLines(t, "l", 4)), "\n")
	blanks := strings.Repeat(" ", 2*maxLine)
	in := job[0] + "\n" + blanks + job[1] + "\n" + job[2] + blanks + job[3] + "\n" + blanks + "\n"
	out, told := finish(t, cli.ExitFailed, env, in, "validate")
	for _, want := range []string{"stdin:2: $: found 1048576 bytes or more", "stdin:3: $: ", "stdin:4: $: ", "4 jobs, 3 invalid, "} {
		if !strings.Contains(out+told, want) {
			t.Errorf("validate does not say %q: %s%s", want, out, told)
		}
	}
	if out, told := finish(t, cli.ExitFailed, env, in, "publish"); out != "accepted 1, duplicates 0, invalid 3, failed 0\n" || !strings.Contains(told, "stdin:2: not published: invalid job: $: found 1048576 bytes or more") {
		t.Errorf("publish says %q, %s", out, told)
	}
	// So it is where it comes first, and inside of a job over several lines.
	document := strings.Replace(job[0], `"order":`, blanks+`"order":`, 1)
	for _, in := range []string{blanks + job[0] + "\n" + job[1], "{\n" + document[1:len(document)-1] + "\n}", "{\n" + job[0][1:] + "\n" + blanks + job[1]} {
		if _, told := finish(t, cli.ExitFailed, env, in, "validate"); !strings.Contains(told, "1 invalid, ") {
			t.Errorf("validate says %s", told)
		}
	}
}

// A job need not be in one line, as nobody writes it so by hand.
func TestPublishOneJobOverSeveralLines(t *testing.T) {
	t.Parallel()
	env := environmentFor(broker(t, nil), simulator(t))
	finish(t, cli.ExitDone, env, "", "provision", "--klarna-account=se")
	var document bytes.Buffer
	if err := json.Indent(&document, []byte(jobLines(t, "c", 1)), "", "  "); err != nil {
		t.Fatal(err)
	}
	out, told := finish(t, cli.ExitDone, env, "\n"+document.String(), "publish", "--account=se")
	if want := "accepted 1, duplicates 0, invalid 0, failed 0\n"; out != want {
		t.Errorf("got %q, want %q\n%s", out, want, told)
	}
	broken := strings.Replace(document.String(), `"order_amount": 1599`, `"order_amount": 1600`, 1)
	out, told = finish(t, cli.ExitFailed, env, "\n"+broken, "publish", "--account=se")
	if want := "accepted 0, duplicates 0, invalid 1, failed 0\n"; out != want || !strings.Contains(told, "stdin:2: not published: invalid job: order.order_amount") {
		t.Errorf("got %q, want %q, and the field that is wrong:\n%s", out, want, told)
	}
}

// Publishing survives a restart of the server: an answer that is lost is asked for again, and nothing is in twice.
func TestPublishOverARestart(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	keep := func(o *server.Options) { o.StoreDir = store }
	first := broker(t, keep)
	env := environmentFor(first, simulator(t))
	finish(t, cli.ExitDone, env, "", "provision")
	port := first.Addr().(*net.TCPAddr).Port

	reader, writer := net.Pipe()
	defer reader.Close()
	lines := strings.SplitAfter(jobLines(t, "c", 200), "\n")
	p := &process{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.code = run(t.Context(), []string{"publish"}, reader, &p.stdout, &p.stderr, env.lookup)
	}()
	feed := func(lines []string) {
		w := bufio.NewWriter(writer)
		for _, line := range lines {
			if _, err := w.WriteString(line); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	feed(lines[:100])
	stopBroker(first)
	feed(lines[100:])
	writer.Close()
	second := broker(t, func(o *server.Options) { keep(o); o.Port = port })
	if code := p.wait(t); code != cli.ExitDone || p.stdout.String() != "accepted 200, duplicates 0, invalid 0, failed 0\n" {
		t.Fatalf("publish: exit code %d, %s%s", code, p.stdout.String(), p.stderr.String())
	}
	if jobs := streamMessages(t, second.ClientURL()); jobs != 200 {
		t.Errorf("the stream holds %d jobs, want 200", jobs)
	}
}

// forgetful stores what is published and loses the answer.
type forgetful struct{ jetstream.JetStream }

func (f forgetful) PublishMsgAsync(msg *nats.Msg, _ ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	if _, err := f.PublishMsg(context.Background(), msg); err != nil {
		return nil, err
	}
	return nil, jetstream.ErrAsyncPublishTimeout
}

// A job that is in because we put it there is no duplicate, whoever's first answer was lost.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	b := broker(t, nil)
	finish(t, cli.ExitDone, environmentFor(b, simulator(t)), "", "provision")
	_, js, err := cli.NATSServer{URL: b.ClientURL()}.Connect(t.Context(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer js.Conn().Close()
	for _, row := range []struct {
		situation string
		js        jetstream.JetStream
		id        messages.MessageID
		want      fate
	}{
		{situation: "answered", js: js, id: "1", want: fate{}},
		{situation: "the first answer is lost", js: forgetful{js}, id: "2", want: fate{}},
		{situation: "published by somebody else before", js: js, id: "2", want: fate{duplicate: true}},
	} {
		var got []fate
		out := newOutbox(t.Context(), row.js, func(_ outgoing, f fate) { got = append(got, f) })
		if err := out.put(1, row.id, &nats.Msg{Subject: messages.DueSubject(devAccount), Header: nats.Header{nats.MsgIdHdr: {string(row.id)}}, Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		out.close()
		if len(got) != 1 || got[0] != row.want {
			t.Errorf("%s: got %+v, want %+v", row.situation, got, row.want)
		}
	}
	if jobs := streamMessages(t, b.ClientURL()); jobs != 2 {
		t.Errorf("the stream holds %d jobs, want 2", jobs)
	}
}

func TestMissingStream(t *testing.T) {
	t.Parallel()
	env := environmentFor(broker(t, nil), simulator(t))
	for _, command := range []string{"work", "watch"} {
		if _, told := finish(t, cli.ExitFailed, env, "", command); !strings.Contains(told, "RENEWAL_JOURNAL") || !strings.Contains(told, "run `renewals provision`") {
			t.Errorf("%s says %q", command, told)
		}
	}
	if out, told := finish(t, cli.ExitFailed, env, jobLines(t, "d", 1), "publish"); !strings.Contains(told, "run `renewals provision`") || !strings.Contains(out, "failed 1") {
		t.Errorf("publish says %q %q", out, told)
	}
	// One command does both.
	p := start(t, env, "", "work", "--provision", "--log-format=json")
	eventually(t, "the worker charges", func() bool { return strings.Contains(p.stderr.String(), "charging renewals") })
	p.stop()
	if code := p.wait(t); code != cli.ExitDone {
		t.Errorf("work --provision exited with %d: %s", code, p.stderr.String())
	}
}

// What a worker tells of an ack_wait that is too short cures it, as it is printed.
func TestAckWaitRemedy(t *testing.T) {
	t.Parallel()
	env := environmentFor(broker(t, nil), simulator(t)).with("RENEWALS_TRY_TIMEOUT", "110300ms", "RENEWALS_LOG_FORMAT", "json", "RENEWALS_LOG_LEVEL", "info")
	finish(t, cli.ExitDone, env, "", "provision")
	_, told := finish(t, cli.ExitFailed, env, "", "work")
	found, _ := finish(t, cli.ExitFailed, env, "", "doctor")
	_, remedy, _ := strings.Cut(told, "run `renewals ")
	remedy, _, _ = strings.Cut(remedy, "`")
	if want := "provision --ack-wait 2m35s --force=ack_wait"; remedy != want || !strings.Contains(found, want) {
		t.Fatalf("the worker says %s\nand doctor %s\nwant %q", told, found, want)
	}
	finish(t, cli.ExitDone, env, "", strings.Fields(remedy)...)
	p := start(t, env, "", "work")
	eventually(t, "the worker charges", func() bool { return strings.Contains(p.stderr.String(), "charging renewals") })
	p.stop()
	if code := p.wait(t); code != cli.ExitDone || strings.Contains(p.stderr.String(), "ack_wait") {
		t.Errorf("after what it advised the worker exited with %d: %s", code, p.stderr.String())
	}
}

func TestNoServerYet(t *testing.T) {
	t.Parallel()
	gone := broker(t, nil)
	port := gone.Addr().(*net.TCPAddr).Port
	env := environmentFor(gone, simulator(t))
	stopBroker(gone)
	told := start(t, env, "", "work", "--provision")
	waiting := func() bool {
		return strings.Contains(told.stderr.String(), "no NATS server, trying again until there is one")
	}
	eventually(t, "the worker says that there is no server", waiting)

	stopped := start(t, env, "", "work")
	eventually(t, "it says so too", func() bool { return strings.Contains(stopped.stderr.String(), "no NATS server") })
	stopped.stop()
	if code := stopped.wait(t); code != cli.ExitDone {
		t.Errorf("stopped while waiting: exit code %d, want 0", code)
	}

	broker(t, func(o *server.Options) { o.Port = port })
	eventually(t, "the worker finds the server", func() bool { return strings.Contains(told.stderr.String(), "charging renewals") })
	told.stop()
	if code := told.wait(t); code != cli.ExitDone {
		t.Errorf("exit code %d, want 0: %s", code, told.stderr.String())
	}
}

func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	b := broker(t, func(o *server.Options) { o.Username, o.Password = "worker", "correct" })
	env := environmentFor(b, simulator(t)).with("NATS_USER", "worker", "NATS_PASSWORD", "wrong-secret")
	for _, command := range []string{"work", "provision", "publish", "watch"} {
		_, told := finish(t, cli.ExitFailed, env, "", command)
		if !strings.Contains(told, "Authorization Violation") || !strings.Contains(told, "check NATS_USER") || strings.Contains(told, "wrong-secret") {
			t.Errorf("%s says %q", command, told)
		}
	}
	finish(t, cli.ExitDone, env.with("NATS_PASSWORD", "correct"), "", "provision")

	// The same through a context of the nats CLI; the environment wins over it.
	config := t.TempDir()
	if err := os.MkdirAll(filepath.Join(config, "nats", "context"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"description":"","url":%q,"user":"worker","password":"correct"}`, b.ClientURL())
	if err := os.WriteFile(filepath.Join(config, "nats", "context", "billing.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	named := variables{"XDG_CONFIG_HOME": config, "NATS_CONTEXT": "billing"}
	finish(t, cli.ExitDone, named, "", "provision")
	finish(t, cli.ExitFailed, named.with("NATS_USER", "worker", "NATS_PASSWORD", "wrong-secret"), "", "provision")
}

// A connection that is refused for good ends the worker with the reason. The server is started anew with another password
// rather than reloaded: a reload in this process races with the connections that it is about to close.
func TestCredentialsRevoked(t *testing.T) {
	t.Parallel()
	options := brokerOptions(t.TempDir())
	options.Username, options.Password = "worker", "correct"
	b, err := startBroker(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopBroker(b) })
	env := environmentFor(b, simulator(t)).with("NATS_USER", "worker", "NATS_PASSWORD", "correct")
	p := start(t, env, "", "work", "--provision")
	eventually(t, "the worker charges", func() bool { return strings.Contains(p.stderr.String(), "charging renewals") })
	changed := brokerOptions(options.StoreDir)
	changed.Port, changed.Username, changed.Password = b.Addr().(*net.TCPAddr).Port, "worker", "changed"
	stopBroker(b)
	again, err := startBroker(changed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopBroker(again) })
	if code := p.wait(t); code != cli.ExitFailed || !strings.Contains(p.stderr.String(), "check NATS_USER") {
		t.Errorf("exit code %d, want 1:\n%s", code, p.stderr.String())
	}
}

// Several accounts from a file, one of them changed by the environment.
func TestSeveralAccounts(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	env := environmentFor(broker(t, nil), sim)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(testPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("settle_delay: 1s\naccounts:\n- {name: se, endpoint: %[1]q, username: %[2]s, password_file: %[3]q, rate: 500, concurrency: 2}\n"+
		"- {name: de, endpoint: http://127.0.0.1:1, username: %[2]s, password_file: %[3]q, dunning: {soft_decline: {days: [2], max_attempts: 2}}}\n",
		sim.URL, testUser, filepath.Join(dir, "key"))
	file := filepath.Join(dir, "renewals.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	common := variables{"NATS_URL": env["NATS_URL"]}.with("RENEWALS_CONFIG", file)
	work := common.with("KLARNA_ACCOUNT", "de", "KLARNA_ENDPOINT", sim.URL)
	watch := start(t, common, "", "watch", "--json", "--since=1h", "--account=de")
	if code := watch.wait(t); code != cli.ExitFailed {
		t.Errorf("watch without a journal exited with %d, want 1", code)
	}
	out, _ := finish(t, cli.ExitDone, common, "", "provision")
	if !strings.Contains(out, "charge-se") || !strings.Contains(out, "charge-de") {
		t.Errorf("provision says %q", out)
	}
	start(t, work, "", "work")
	watch = start(t, common, "", "watch", "--json", "--since=1h", "--kind=dunning,paid", "--account=de,se")
	finish(t, cli.ExitDone, common, jobLines(t, "e", 1), "publish", "--account=se")
	finish(t, cli.ExitDone, common, strings.ReplaceAll(jobLines(t, "f", 1), "ok-f", "soft-decline-f"), "publish", "--account=de")
	eventually(t, "both accounts have a result", func() bool {
		shown := watch.stdout.String()
		return strings.Contains(shown, `"account":"se"`) && strings.Contains(shown, `"account":"de"`)
	})
	for line := range strings.Lines(watch.stdout.String()) {
		if strings.Contains(line, `"account":"de"`) && !strings.Contains(line, `"next_attempt_at":"`+time.Now().UTC().AddDate(0, 0, 2).Format(time.DateOnly)) {
			t.Errorf("the account's own schedule is not in force: %s", line)
		}
	}
}

// A server's limit on requests, which it writes into every consumer, is kept to where everything that is asked for fits into it. Where it
// does not, provision says so: to run it again changes nothing.
func TestServersLimitOnRequests(t *testing.T) {
	t.Parallel()
	limited := func(most int) variables {
		b := broker(t, func(o *server.Options) { o.JetStreamLimits.MaxRequestBatch = most })
		return environmentFor(b, simulator(t)).with("KLARNA_CONCURRENCY", "4096")
	}
	env := limited(topology.MostBatch - 1)
	for range 2 {
		_, told := finish(t, cli.ExitFailed, env, "", "provision")
		for _, want := range []string{"setting max_batch: found 1999, expected at least 2000", "where the server has a limit max_request_batch (jetstream, limits) raise it to 2000 or more"} {
			if !strings.Contains(told, want) {
				t.Errorf("provision says %q, want %q", told, want)
			}
		}
	}
	env = limited(topology.MostBatch)
	finish(t, cli.ExitDone, env, "", "provision")
	start(t, env, "", "work")
	watch := start(t, env, "", "watch", "--json", "--since=1h")
	finish(t, cli.ExitDone, env, jobLines(t, "limited", 3), "publish")
	eventually(t, "the results", func() bool { return strings.Count(watch.stdout.String(), `"kind":"paid"`) == 3 })
}
