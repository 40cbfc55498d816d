package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	overview "github.com/klarna-renewals/renewals/worker/desk"
)

// TestDeployedDesk: the operator compares the settlements, finds and closes a break, and the monitor sees it meanwhile, each with the
// rights that deploy/nats gives them.
func TestDeployedDesk(t *testing.T) {
	t.Parallel()
	d := deploy(t, "node.conf", 1)
	d.does("provisioner", "provision")
	d.mirror(1)
	d.as("worker", "work")
	file := filepath.Join(d.dir, "jobs.jsonl")
	write(t, file, string(job(1, "ok-1"))+"\n"+string(job(2, "ok-2"))+"\n")
	d.does("publisher", "publish", file)
	await(t, 30*time.Second, "both to be paid", func() bool {
		return strings.Contains(d.does("operator", "show", "1234001/2026-12"), "state: paid") && strings.Contains(d.does("operator", "show", "1234002/2026-12"), "state: paid")
	})
	if err := d.klarna.Simulator.Lie(klarnasim.Lie{OrderID: d.klarna.Simulator.Books().Orders[0].OrderID, Kind: klarnasim.OtherAmount, Amount: 1}); err != nil {
		t.Fatal(err)
	}
	d.klarna.Simulator.Advance(2 * 24 * time.Hour)

	binary := filepath.Join(t.TempDir(), "renewals-desk")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/renewals-desk").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	desk := func(want int, args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir, "NATS_CONTEXT=" + d.context("operator"), "KLARNA_ENDPOINT=" + d.klarna.URL, "KLARNA_USERNAME=merchant", "KLARNA_PASSWORD=secret-password"}
		p := launch(t, cmd)
		if code := p.exit(time.Minute); code != want {
			t.Fatalf("renewals-desk %s: exit code %d, want %d:\n%s", strings.Join(args, " "), code, want, p.text())
		}
		return p.text()
	}
	day := func(n int) string { return time.Now().AddDate(0, 0, n).UTC().Format(time.DateOnly) }
	compare := []string{"reconcile", "--account=default", "--from=" + day(-1), "--to=" + day(3)}
	desk(0, "breaks")
	if said := desk(1, compare...); !strings.Contains(said, "breaks 1 (new 1, closed before 0)") {
		t.Errorf("reconcile says %s", said)
	}
	desk(0, "find", "1234001/2026-12")
	desk(0, "report")
	if said := d.does("monitor", "!", "status"); !strings.Contains(said, "default: open breaks between Klarna's settlements and the journal: 1 amount; renewals-desk breaks --account default") {
		t.Errorf("status says %s", said)
	}
	nc, _ := d.connect("worker")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var counted overview.Breaks // as the worker that leads does, some time after its start
	if err := counted.Read(t.Context(), js, 10); err != nil || counted.Open()["default"][messages.BreakAmount] != 1 {
		t.Errorf("the worker counts %v, %v", counted.Open(), err)
	}
	var b messages.Break
	if said := desk(0, "breaks", "--json"); json.Unmarshal([]byte(said), &b) != nil || b.Kind != messages.BreakAmount {
		t.Fatalf("breaks says %s", said)
	}
	var told messages.Break // as who consumes results is, in the account of those
	if m := d.news(messages.BreakSubject("*", "*", "*")); json.Unmarshal(m.Data(), &told) != nil || told.ID != b.ID {
		t.Errorf("a consumer is told %s", m.Data())
	}
	desk(0, "close", string(b.ID), "--note", "booked as settled", "--yes")
	d.does("monitor", "status")
	if said := desk(0, compare...); !strings.Contains(said, "breaks 0 (new 0, closed before 1)") {
		t.Errorf("reconcile says %s", said)
	}
	if said := desk(0, "breaks", "--all"); !strings.Contains(said, "booked as settled") {
		t.Errorf("breaks --all says %s", said)
	}
	if refused := d.log.seen(); len(refused) > 0 {
		t.Errorf("refused:\n%s", strings.Join(refused, "\n"))
	}
}

// news is the first message on a subject of the news that a consumer of results reads.
func (d *deployed) news(subject string) jetstream.Msg {
	d.t.Helper()
	nc, _ := d.connect("consumer")
	js, err := jetstream.New(nc)
	if err != nil {
		d.t.Fatal(err)
	}
	consumer, err := js.CreateConsumer(d.t.Context(), messages.StreamNews, jetstream.ConsumerConfig{Durable: "books", FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		d.t.Fatal(err)
	}
	m, err := consumer.Next(jetstream.FetchMaxWait(20 * time.Second))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := m.DoubleAck(d.t.Context()); err != nil {
		d.t.Error(err)
	}
	return m
}
