package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/desk/books"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// TestReconcileAskedWrongly: each mistake is named with its flag, before anything is asked of anybody.
func TestReconcileAskedWrongly(t *testing.T) {
	t.Parallel()
	env := map[string]string{"NATS_URL": "nats://127.0.0.1:1", "XDG_STATE_HOME": t.TempDir()}
	for want, args := range map[string][]string{
		"--account":      {"--from=2026-12-01", "--to=2026-12-31"},
		"--from":         {"--account=default"},
		"--to":           {"--account=default", "--from=2026-12-31", "--to=2026-12-01"},
		"--delimiter":    {"--account=default", "--delimiter=x", "r.csv"},
		"--decimal":      {"--account=default", "--decimal=x", "r.csv"},
		"--dates":        {"--account=default", "--dates=YY", "r.csv"},
		"not configured": {"--account=nobody", "--from=2026-12-01", "--to=2026-12-31"},
	} {
		if code, out, told := asked(t, env, append([]string{"reconcile"}, args...)...); code != cli.ExitUsage || out != "" || !strings.Contains(told, want) {
			t.Errorf("%v: %d, %q, %q; want %s", args, code, out, told, want)
		}
	}
}

// TestReconcileFiles: a file is compared, told and published once; a clean one ends with 0; a bad one says where.
func TestReconcileFiles(t *testing.T) {
	t.Parallel()
	js := broker.JetStream(t)
	example(t, js)
	env := map[string]string{"NATS_URL": js.Conn().ConnectedUrl(), "XDG_STATE_HOME": t.TempDir()}
	file := func(name, rows string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("type;order_id;amount;posting_currency\n"+rows), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const order = "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11"
	clean, wrong, bad := file("clean.csv", "SALE;"+order+";15.99;EUR\n"), file("wrong.csv", "SALE;"+order+";15,98;EUR\n"), file("bad.csv", "SALE;x;free;EUR\n")
	if code, _, told := asked(t, env, "reconcile", "--account=default", clean); code != cli.ExitFailed || !strings.Contains(told, "renewals provision") {
		t.Errorf("without the stream: %d, %s", code, told)
	}
	news := topology.Provisioning{Replicas: 1}.News()
	if err := js.DeleteStream(t.Context(), messages.StreamJournal); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), news); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), topology.Provisioning{Replicas: 1}.Journal()); err != nil {
		t.Fatal(err)
	}
	exampleRecords(t, js)
	if code, out, told := asked(t, env, "reconcile", "--account=default", clean); code != cli.ExitDone || !strings.Contains(out, "breaks 0") {
		t.Errorf("clean: %d, %s%s", code, out, told)
	}
	for _, fresh := range []float64{1, 0} {
		code, out, told := asked(t, env, "reconcile", "--account=default", "--json", wrong)
		var said struct {
			Breaks []messages.Break `json:"breaks"`
			New    float64          `json:"new"`
		}
		if err := json.Unmarshal([]byte(out), &said); err != nil || code != cli.ExitFailed || len(said.Breaks) != 1 || said.Breaks[0].Kind != messages.BreakAmount || said.New != fresh {
			t.Errorf("wrong: %d, %s%s, %v", code, out, told, err)
		}
	}
	if code, out, told := asked(t, env, "reconcile", "--account=nope", clean); code != cli.ExitUsage || out != "" || !strings.Contains(strings.Join(strings.Fields(told), " "), `--account: "nope" is in neither the books nor the settings, which have default`) {
		t.Errorf("an account of nobody: %d, %s%s", code, out, told)
	}
	env["KLARNA_ACCOUNT"] = "new"
	for _, account := range []string{"new", "default"} { // of the settings alone, and of the books alone
		if code, out, told := asked(t, env, "reconcile", "--account="+account, clean); code != cli.ExitDone || !strings.Contains(out, "breaks 0") {
			t.Errorf("account %s: %d, %s%s", account, code, out, told)
		}
	}
	if code, _, told := asked(t, env, "reconcile", "--account=nope", clean); code != cli.ExitUsage || !strings.Contains(strings.Join(strings.Fields(told), " "), "which have default, new") {
		t.Errorf("an account of nobody beside another: %d, %s", code, told)
	}
	if code, _, told := asked(t, env, "reconcile", "--account=default", bad); code != cli.ExitFailed || !strings.Contains(told, "bad.csv: line 2, column 8 (amount)") {
		t.Errorf("bad: %d, %s", code, told)
	}
}

// exampleWithNews is the example on a server that takes breaks, too.
func exampleWithNews(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := broker.JetStream(t)
	for _, config := range []jetstream.StreamConfig{topology.Provisioning{Replicas: 1}.News(), topology.Provisioning{Replicas: 1}.Journal()} {
		if _, err := js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	exampleRecords(t, js)
	return js
}

// TestApplyNeedsAllRecords: beside somebody who writes the books nothing is recorded until they have every record. Without --apply they are
// compared as they are.
func TestApplyNeedsAllRecords(t *testing.T) {
	t.Parallel()
	js := exampleWithNews(t)
	dir := t.TempDir()
	env := map[string]string{"NATS_URL": js.Conn().ConnectedUrl(), "XDG_STATE_HOME": dir}
	report := filepath.Join(t.TempDir(), "r.csv")
	if err := os.WriteFile(report, []byte("type;order_id;amount;posting_currency\nSALE;45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11;15.99;EUR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, told := asked(t, env, "sync"); code != cli.ExitDone {
		t.Fatal(told)
	}
	writer, err := books.Create(filepath.Join(dir, "renewals", "books.db"), "somebody who was stopped")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { writer.Close() })
	if code, out, told := asked(t, env, "reconcile", "--account=default", "--apply", report); code != cli.ExitDone || !strings.Contains(out, "breaks 0") || told != "" {
		t.Errorf("the books have every record: %d, %s%s", code, out, told)
	}
	exampleRecords(t, js)
	const behind = "--apply: nothing was compared or recorded, since the books do not have every record of an order: they end with record 4, and RENEWAL_JOURNAL with record 8; books "
	code, out, told := asked(t, env, "reconcile", "--account=default", "--apply", report)
	if told = strings.Join(strings.Fields(told), " "); code != cli.ExitFailed || out != "" || !strings.Contains(told, behind) || !strings.Contains(told, "are written by somebody who was stopped: stop that one") {
		t.Errorf("the books lag: %d, %s%s", code, out, told)
	}
	if code, out, told := asked(t, env, "reconcile", "--account=default", report); code != cli.ExitDone || !strings.Contains(out, "breaks 0") || !strings.Contains(told, "going on with the books as they are") {
		t.Errorf("the books lag, and nothing is to be recorded: %d, %s%s", code, out, told)
	}
}

// TestPayoutInTwoFiles: its rows would count twice. It is refused, by the names of both files.
func TestPayoutInTwoFiles(t *testing.T) {
	t.Parallel()
	js := exampleWithNews(t)
	dir := t.TempDir()
	env := map[string]string{"NATS_URL": js.Conn().ConnectedUrl(), "XDG_STATE_HOME": t.TempDir()}
	const order, row = "45aa52f3-1b5d-6b3f-9a6e-0e0d6f4e5d11", "type;order_id;amount;posting_currency;payment_reference\nSALE;%s;15.99;EUR;%s\n"
	const totals = "payment_reference;settlement_currency;total_sale_amount;total_settlement_amount\n%s;EUR;15.99;15.99\n\ntype;order_id;amount;posting_currency\nSALE;%s;15.99;EUR\n"
	for name, text := range map[string]string{
		"whole.csv": fmt.Sprintf(totals, "P1", order), "rows.csv": fmt.Sprintf(row, order, "P1"), "bare.csv": fmt.Sprintf(row, order, ""), "copy.csv": fmt.Sprintf(row, order, ""),
		"other.csv": fmt.Sprintf(totals, "P2", "shoes"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for files, want := range map[string]string{
		"whole.csv whole.csv": "whole.csv both have payout P1", "whole.csv rows.csv": "rows.csv both have payout P1", "rows.csv other.csv whole.csv": "whole.csv both have payout P1",
		"bare.csv copy.csv": "copy.csv are the same", "whole.csv other.csv": "",
	} {
		arguments := []string{"reconcile", "--account=default"}
		for file := range strings.FieldsSeq(files) {
			arguments = append(arguments, filepath.Join(dir, file))
		}
		code, out, told := asked(t, env, arguments...)
		first, _, _ := strings.Cut(files, " ")
		if told = strings.Join(strings.Fields(told), " "); want == "" && (code != cli.ExitDone || !strings.Contains(out, "breaks 0")) || want != "" && (code != cli.ExitFailed || out != "" || !strings.Contains(told, want) || !strings.Contains(told, first+" and ")) {
			t.Errorf("%s: %d, %s%s; want %q", files, code, out, told, want)
		}
	}
}

// TestReconcileRefused: where Klarna does not give the settlements, the message says where to look, and nobody waits.
func TestReconcileRefused(t *testing.T) {
	t.Parallel()
	js := exampleWithNews(t)
	var status atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(server.Close)
	env := map[string]string{"NATS_URL": js.Conn().ConnectedUrl(), "XDG_STATE_HOME": t.TempDir(), "KLARNA_ENDPOINT": server.URL, "KLARNA_USERNAME": "K123456_a", "KLARNA_PASSWORD": "klarna_test_api_KEY"}
	for code, want := range map[int]string{
		http.StatusUnauthorized: "the API key of account default is wrong, or of another region: see KLARNA_USERNAME, its password and KLARNA_ENDPOINT",
		http.StatusForbidden:    "may not read settlements",
		http.StatusNotFound:     "is KLARNA_ENDPOINT of account default right?",
		http.StatusFound:        "is KLARNA_ENDPOINT of account default right?",
	} {
		status.Store(int64(code))
		exit, out, told := asked(t, env, "reconcile", "--account=default", "--from=2026-12-01", "--to=2026-12-31")
		if exit != cli.ExitFailed || out != "" || !strings.Contains(strings.Join(strings.Fields(told), " "), want) || strings.Contains(told, "klarna_test_api_KEY") {
			t.Errorf("%d: %d, %q, %q; want %s", code, exit, out, told, want)
		}
	}
}

// TestReconcileInterrupted: a pipe that nobody writes to keeps no command from its end.
func TestReconcileInterrupted(t *testing.T) {
	t.Parallel()
	js := broker.JetStream(t)
	if err := topology.Provision(t.Context(), js, topology.Provisioning{}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"NATS_URL": js.Conn().ConnectedUrl(), "XDG_STATE_HOME": t.TempDir()}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"reconcile", "--account=default", fifo}, {"close", "--from", fifo}} {
		ctx, interrupt := context.WithCancel(t.Context())
		done := make(chan int)
		var told strings.Builder
		go func() {
			done <- run(ctx, args, strings.NewReader(""), io.Discard, &told, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		}()
		select {
		case code := <-done:
			t.Fatalf("%v: ended without input: %d, %s", args, code, told.String())
		case <-time.After(300 * time.Millisecond):
		}
		interrupt()
		select {
		case code := <-done:
			if code != cli.ExitInterrupted {
				t.Errorf("%v: exit code %d, want %d: %s", args, code, cli.ExitInterrupted, told.String())
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%v: still running", args)
		}
	}
}
