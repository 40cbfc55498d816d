package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
)

// asked runs the program as a person does.
func asked(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, told bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &told, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	return code, out.String(), told.String()
}

// example is the journal of one subscription whose second attempt was paid.
func example(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: messages.StreamJournal, Subjects: []string{"renewals.>"}}); err != nil {
		t.Fatal(err)
	}
	exampleRecords(t, js)
}

// exampleRecords are those of the example.
func exampleRecords(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	first, second := messages.MessageID("1234834/2026-12/1"), messages.MessageID("1234834/2026-12/2")
	renewal := messages.NewRenewalKey("1234834", "2026-12")
	again := strings.NewReplacer(string(first), string(second), `"attempt":1`, `"attempt":2`,
		string(messages.NewIdempotencyKey(renewal, first)), string(messages.NewIdempotencyKey(renewal, second)))
	for i, r := range []struct{ kind, file string }{{"charging", "charging"}, {"dunning", "dunning"}, {"charging", "charging"}, {"paid", "paid"}} {
		body, err := os.ReadFile("../../messages/testdata/" + r.file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if i > 1 {
			body = []byte(again.Replace(string(body)))
		}
		m := &nats.Msg{
			Subject: "renewals." + r.kind + ".1234834.2026-12.1796083200.default", Data: body,
			Header: nats.Header{messages.HeaderState: {`{"v":1,"phase":"` + r.kind + `","due_at":"2026-12-01T00:00:00Z","attempts":1}`}},
		}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDesk(t *testing.T) {
	js := broker.JetStream(t)
	env := map[string]string{"NATS_URL": js.Conn().ConnectedUrl(), "XDG_STATE_HOME": t.TempDir()}
	if code, _, told := asked(t, env, "find", "1234834"); code != cli.ExitFailed || !strings.Contains(told, "renewals-desk sync") {
		t.Errorf("without books: %d, %s", code, told)
	}
	if code, _, told := asked(t, env, "sync"); code != cli.ExitFailed || !strings.Contains(told, "renewals provision") {
		t.Errorf("without a journal: %d, %s", code, told)
	}
	example(t, js)
	path := filepath.Join(env["XDG_STATE_HOME"], "renewals", "books.db")
	for _, want := range []string{"4 records added, up to record 4", "0 records added"} {
		if code, out, told := asked(t, env, "sync"); code != cli.ExitDone || !strings.Contains(out, want) || !strings.Contains(out, path) {
			t.Fatalf("sync: %d, %s%s; want %s", code, out, told, want)
		}
	}
	for _, text := range [][]string{{"45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11"}, {"45aa52f3"}, {"1234834-2026-12"}, {"6b5c5c2f"}, {"1234834/2026-12/1"}, {"15.99", "EUR", "2026-12-01"}, {"b17f6e500d48"}} {
		code, out, told := asked(t, env, append([]string{"find"}, text...)...)
		if code != cli.ExitDone || !strings.HasPrefix(out, "1234834/2026-12  paid\n") || !strings.Contains(out, "15.99 EUR") || !strings.Contains(out, "payment_method_failed, soft_decline") {
			t.Errorf("find %s: %d, %s%s", text, code, out, told)
		}
		for line := range strings.Lines(out) {
			if len(line) > 81 {
				t.Errorf("find %s: %d columns: %s", text, len(line), line)
			}
		}
	}
	_, out, _ := asked(t, env, "find", "--json", "1234834")
	var hit struct {
		By      string `json:"found_by"`
		Renewal struct {
			OrderAmount int64 `json:"order_amount"`
			Records     []any `json:"records"`
		}
	}
	if err := json.Unmarshal([]byte(out), &hit); err != nil || hit.By != "subscription" || hit.Renewal.OrderAmount != 1599 || len(hit.Renewal.Records) != 4 {
		t.Errorf("find --json: %v, %s", err, out)
	}
	if code, out, _ := asked(t, env, "export", "--csv", "--kind=paid", "--since=2026-12-01"); code != cli.ExitDone || strings.Count(out, "\n") != 2 || !strings.Contains(out, ",15.99,1599,EUR,") {
		t.Errorf("export: %d, %s", code, out)
	}
	if code, out, _ := asked(t, env, "report"); code != cli.ExitDone || !strings.Contains(out, "soft_decline") || !strings.Contains(out, "100.0 %") || !strings.Contains(out, "15.99") {
		t.Errorf("report: %d, %s", code, out)
	}
	if code, out, _ := asked(t, env, "report", "money", "--csv"); code != cli.ExitDone || out != "day,currency,orders,amount\n2026-12-01,EUR,1,15.99\n" {
		t.Errorf("report money --csv: %d, %q", code, out)
	}
	drawn(t, env)
}

// drawn are pictures that a reader of SVG takes, and that say what they show.
func drawn(t *testing.T, env map[string]string) {
	t.Helper()
	dir := t.TempDir()
	if code, _, told := asked(t, env, "report", "--svg", dir); code != cli.ExitDone {
		t.Fatalf("report --svg: %d, %s", code, told)
	}
	for name, says := range map[string]string{"recovery": "soft decline", "refusals": "refused attempts", "money": "Paid in EUR, by day, 2026-12-01 to 2026-12-01"} {
		text, err := os.ReadFile(filepath.Join(dir, name+".svg"))
		if err != nil || !strings.Contains(string(text), says) {
			t.Errorf("%s.svg: %v, without %q", name, err, says)
		}
		for d := xml.NewDecoder(bytes.NewReader(text)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s.svg: %v", name, err)
			}
		}
	}
}

// TestLostOutput: a report that could not be written is none.
func TestLostOutput(t *testing.T) {
	t.Parallel()
	js := broker.JetStream(t)
	example(t, js)
	env := map[string]string{"NATS_URL": js.Conn().ConnectedUrl(), "XDG_STATE_HOME": t.TempDir()}
	if code, _, told := asked(t, env, "sync"); code != cli.ExitDone {
		t.Fatal(told)
	}
	for _, args := range [][]string{{"report"}, {"export"}, {"find", "1234834"}} {
		var told strings.Builder
		code := run(t.Context(), args, strings.NewReader(""), full{}, &told, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		if code != cli.ExitFailed || !strings.Contains(told.String(), syscall.ENOSPC.Error()) {
			t.Errorf("%v: exit code %d, want %d: %q", args, code, cli.ExitFailed, told.String())
		}
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestUsage(t *testing.T) {
	config := filepath.Join(t.TempDir(), "renewals.yaml")
	if err := os.WriteFile(config, []byte("books: /nowhere/books.db\ntry_timeout: 50s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"XDG_STATE_HOME": t.TempDir()}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"find"}, cli.ExitUsage, "text"},
		{[]string{"find", " "}, cli.ExitUsage, "TEXT"},
		{[]string{"find", "x", "--limit=0"}, cli.ExitUsage, "--limit"},
		{[]string{"export", "--kind=payed"}, cli.ExitUsage, "expected some of charging"},
		{[]string{"export", "--since=yesterday"}, cli.ExitUsage, "--since"},
		{[]string{"export", "--since=2026-12-02", "--until=2026-12-01"}, cli.ExitUsage, "not after --since"},
		{[]string{"report", "--csv"}, cli.ExitUsage, "expected one of recovery"},
		{[]string{"report", "profit"}, cli.ExitUsage, "profit"},
		{[]string{"find", "x", "--config=" + config}, cli.ExitFailed, "/nowhere/books.db"},
		{[]string{"sync", "--nats-url=nats://127.0.0.1:1", "--timeout=10ms"}, cli.ExitFailed, "no NATS server at nats://127.0.0.1:1"},
	} {
		if code, _, told := asked(t, env, tt.args...); code != tt.code || !strings.Contains(told, tt.want) {
			t.Errorf("%s: %d, %s; want %d and %q", tt.args, code, told, tt.code, tt.want)
		}
	}
}
