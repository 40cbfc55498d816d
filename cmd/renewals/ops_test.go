package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/worker"
)

// opsAddress reads from a worker's log where it serves.
func opsAddress(t *testing.T, p *process) (address string) {
	t.Helper()
	eventually(t, "the operations address", func() bool {
		for line := range strings.Lines(p.stderr.String()) {
			var said struct{ Address, Message string }
			if json.Unmarshal([]byte(line), &said) == nil && strings.HasPrefix(said.Message, "serving /metrics") {
				address = "http://" + said.Address
			}
		}
		return address != ""
	})
	return address
}

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// S28, S49: Klarna refuses our password. Everybody can see it, nobody is dunned, and the right password in its file heals it.
func TestWrongPasswordUntilItsFileChanges(t *testing.T) {
	o := newOffice(t)
	file := filepath.Join(t.TempDir(), "key")
	write := func(password string) {
		t.Helper()
		next := file + ".next"
		if err := os.WriteFile(next, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	write("the old password")
	o.env = o.env.with("KLARNA_PASSWORD", "", "KLARNA_PASSWORD_FILE", file, "RENEWALS_OPS_ADDR", "127.0.0.1:0")
	p := start(t, o.env, "", "work")
	address := opsAddress(t, p)
	eventually(t, "the worker is ready", func() bool { code, _ := get(t, address+"/readyz"); return code == http.StatusOK })
	o.publish(o.job("1", "ok", "", 1))

	eventually(t, "the worker is not ready any more", func() bool {
		code, why := get(t, address+"/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(why, "account default: not_evaluated: Klarna turns requests away")
	})
	if code, _ := get(t, address+"/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d, want 200: it lives", code)
	}
	var status string
	eventually(t, "status tells of the pause", func() bool { // workers say every 5 s how they stand
		p := start(t, o.env, "", "status", "--json")
		code := p.wait(t)
		status = p.stdout.String()
		return code == cli.ExitFailed && strings.Contains(status, `"not_evaluated":"Klarna turns requests away unread`)
	})
	o.expect(status, `"needs_human":["account default: paused"]`, `"backlog":1`)
	out, _ := o.run(cli.ExitFailed, "status")
	o.expect(out, "account default: paused", "default paused, not_evaluated: Klarna turns requests away unread", "no rate limit")
	_, metrics := get(t, address+"/metrics")
	o.expect(metrics, `renewals_account_paused{account="default",reason="not_evaluated"} 1`, "go_goroutines", "process_", "go_build_info", "!"+testPassword)

	write(testPassword)
	o.empty(p)
	eventually(t, "the change is noticed", func() bool { return strings.Contains(p.stderr.String(), "API key changed: paused accounts try again") })
	o.expect(p.stderr.String(), "!"+testPassword, "!the old password")
	_, metrics = get(t, address+"/metrics")
	o.expect(metrics, `renewals_account_paused{account="default",reason="not_evaluated"} 0`, `renewals_results_total{account="default",kind="paid",reason=""} 1`,
		`renewals_results_total{account="default",kind="dunning",reason="payment_method_failed"} 0`)
	p.stop()
	if code := p.wait(t); code != cli.ExitDone {
		t.Errorf("exit code %d, want 0", code)
	}
	if _, err := http.Get(address + "/healthz"); err == nil {
		t.Error("the address is still served")
	}
}

// On SIGHUP a paused account tries again at once. In the test the whole process gets it: it must not end.
func TestHangup(t *testing.T) {
	o := newOffice(t)
	o.sim.Simulator.Change(func(s *klarnasim.Options) { s.Password = "not yet valid" })
	p := start(t, o.env, "", "work")
	o.publish(o.job("1", "ok", "", 1))
	eventually(t, "the pause", func() bool { return strings.Contains(p.stderr.String(), "account paused") })
	o.sim.Simulator.Change(func(s *klarnasim.Options) { s.Password = testPassword })
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	o.empty(p)
	eventually(t, "the end of the pause", func() bool { return strings.Contains(p.stderr.String(), "account no longer paused") })
	o.expect(p.stderr.String(), "SIGHUP: paused accounts try again")
}

func TestRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, late := filepath.Join(dir, "key"), filepath.Join(dir, "late")
	write := func(path, text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	write(file, "a", now)
	r, stop := newRotation([]cli.AccountEntry{{PasswordFile: file}, {Password: "from the environment"}, {PasswordFile: late}})
	defer stop()
	for _, row := range []struct {
		situation string
		do        func()
		want      []string
	}{
		{"nothing", func() {}, nil},
		{"written again", func() { write(file, "b", now.Add(time.Second)) }, []string{file}},
		{"once only", func() {}, nil},
		{"longer at the same time", func() { write(file, "cc", now.Add(time.Second)) }, []string{file}},
		{"in the middle of a change", func() { _ = os.Remove(file) }, nil},
		{"there again", func() { write(file, "d", now.Add(2*time.Second)) }, []string{file}},
		{"the other comes", func() { write(late, "e", now) }, []string{late}},
	} {
		row.do()
		if got := r.changed(2); !slices.Equal(got, row.want) {
			t.Errorf("%s: changed %v, want %v", row.situation, got, row.want)
		}
	}
	write(file, "f", now.Add(3*time.Second))
	write(late, "f", now.Add(3*time.Second))
	for n, want := range [][]string{{file}, {late}, nil, nil} {
		if got := r.changed(1); !slices.Equal(got, want) {
			t.Errorf("look %d at one of two that were written: changed %v, want %v", n+1, got, want)
		}
	}
}

// A changed file and a signal each lead to one retry.
func TestRotationRetries(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, stop := newRotation([]cli.AccountEntry{{PasswordFile: file}})
	stop() // a real signal is another test's
	ctx, end := context.WithCancel(t.Context())
	retried, ended := make(chan struct{}, 10), make(chan struct{})
	go func() {
		defer close(ended)
		r.run(ctx, zerolog.Nop(), func() { retried <- struct{}{} })
	}()
	if err := os.WriteFile(file, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a retry after the change", func() bool { return len(retried) == 1 })
	r.signal <- syscall.SIGHUP
	eventually(t, "a retry after the signal", func() bool { return len(retried) == 2 })
	end()
	<-ended
}

func TestOpsAddress(t *testing.T) {
	o := newOffice(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o.env = o.env.with("RENEWALS_OPS_ADDR", taken.Addr().String())
	_, told := o.run(cli.ExitUsage, "work")
	o.expect(told, "renewals: RENEWALS_OPS_ADDR: listen tcp "+taken.Addr().String(), "address already in use, expected a free host:port, or off")
	_, told = o.run(cli.ExitUsage, "work", "--ops-addr=9464")
	o.expect(told, "--ops-addr: ", "missing port in address")

	for _, off := range []string{"--ops-addr=off", "--ops-addr="} {
		p := start(t, o.env, "", "work", off)
		eventually(t, "the worker charges", func() bool { return strings.Contains(p.stderr.String(), "charging renewals") })
		o.expect(p.stderr.String(), "!serving /metrics")
	}
}

// Before there is a broker the process lives and is not ready.
func TestOpsWithoutBroker(t *testing.T) {
	t.Parallel()
	gone := broker(t, nil)
	env := environmentFor(gone, simulator(t)).with("RENEWALS_OPS_ADDR", "127.0.0.1:0")
	stopBroker(gone)
	p := start(t, env, "", "work")
	address := opsAddress(t, p)
	if code, _ := get(t, address+"/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d, want 200", code)
	}
	if code, why := get(t, address+"/readyz"); code != http.StatusServiceUnavailable || why != "not connected to NATS yet\n" {
		t.Errorf("readyz: %d %q, want 503 and why", code, why)
	}
	if code, _ := get(t, address+"/"); code != http.StatusNotFound {
		t.Errorf("another path: %d, want 404", code)
	}
}

// Profiles are there for who asked for them, and never the command line, which may hold a password.
func TestProfiles(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		path  string
		asked bool
		want  int
	}{
		{"/debug/pprof/heap", true, http.StatusOK},
		{"/debug/pprof/heap", false, http.StatusNotFound},
		{"/debug/pprof/cmdline", true, http.StatusNotFound},
	} {
		answer := httptest.NewRecorder()
		newOperations().handler(row.asked).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, row.path, nil))
		if answer.Code != row.want {
			t.Errorf("%s, asked for %v: %d, want %d", row.path, row.asked, answer.Code, row.want)
		}
	}
}

// Whatever form a monitoring system asks for, it gets the metrics: text, packed or not, or the library's protocol buffers.
func TestScrapedInAnyForm(t *testing.T) {
	t.Parallel()
	o := newOperations()
	o.metrics = worker.NewMetrics(o.registry)
	served := httptest.NewServer(o.handler(false))
	defer served.Close()
	for _, tt := range []struct{ name, accept, encoding, contentType string }{
		{name: "text", contentType: "text/plain"},
		{name: "packed text", accept: "text/plain;version=0.0.4", encoding: "gzip", contentType: "text/plain"},
		{name: "protocol buffers", accept: "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", contentType: "application/vnd.google.protobuf"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, served.URL+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", tt.accept)
		request.Header.Set("Accept-Encoding", tt.encoding) // set here, so that the client leaves the answer as it is
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = answer.Body
		if tt.encoding == "gzip" {
			if body, err = gzip.NewReader(answer.Body); err != nil {
				t.Fatal(err)
			}
		}
		text, err := io.ReadAll(body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(text), "renewals_unserved_jobs") {
			t.Errorf("%s: status %d, %d bytes (%v), want the metrics", tt.name, answer.StatusCode, len(text), err)
		}
		if got := answer.Header; !strings.HasPrefix(got.Get("Content-Type"), tt.contentType) || got.Get("Content-Encoding") != tt.encoding {
			t.Errorf("%s: got %s, packed: %q", tt.name, got.Get("Content-Type"), got.Get("Content-Encoding"))
		}
	}
}
