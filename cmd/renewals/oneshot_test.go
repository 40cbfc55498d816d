package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// oneShots are the commands that somebody waits for.
var oneShots = [][]string{
	{"status"}, {"show", "1/2026-12"}, {"publish"}, {"watch"}, {"cancel", "1", "2026-12"}, {"provision"}, {"resolve", "1/2026-12", "--not-charged"},
	{"dead", "list"}, {"dead", "show", "1"}, {"dead", "replay", "--all"}, {"dead", "drop", "--all"},
}

// Without a server these waited for ever behind a line of JSON.
func TestOneShotsEndWithoutServer(t *testing.T) {
	t.Parallel()
	for _, args := range oneShots {
		_, told := finish(t, cli.ExitFailed, variables{"NATS_URL": "nats://me:hunter2@127.0.0.1:1"}, "", append(args, "--timeout=20ms")...)
		last := told[strings.LastIndex(strings.TrimSpace(told), "\n")+1:]
		if !strings.HasPrefix(last, "renewals: no NATS server at nats://[redacted]@127.0.0.1:1 (NATS_URL) within 20ms: dial tcp 127.0.0.1:1: ") || strings.Contains(told, "{") || strings.Contains(told, "hunter2") {
			t.Errorf("%v: got %q", args, told)
		}
	}
}

// The server says no at once; the call itself would only find that nothing answers.
func TestOneShotsNameWhatIsRefused(t *testing.T) {
	t.Parallel()
	b := broker(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "operator", Password: "p"},
			{Username: "silent", Password: "p", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}}}},
			{Username: "deaf", Password: "p", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"answers.>"}}}},
		}
	})
	env := variables{"NATS_URL": b.ClientURL(), "NATS_PASSWORD": "p"}
	finish(t, cli.ExitDone, env.with("NATS_USER", "operator"), "", "provision")
	for _, args := range oneShots {
		if args[0] == "publish" {
			continue // it may
		}
		_, told := finish(t, cli.ExitFailed, env.with("NATS_USER", "silent"), "", args...)
		if !strings.Contains(told, `Permissions Violation for Publish to "$JS.API.`) || !strings.Contains(told, "with NATS_USER at nats://127.0.0.1") || !strings.Contains(told, "--print-permissions") {
			t.Errorf("%v: got %q", args, told)
		}
		_, told = finish(t, cli.ExitFailed, env.with("NATS_USER", "deaf"), "", args...)
		if !strings.Contains(told, `Permissions Violation for Subscription to "_INBOX.`) || !strings.Contains(told, "set NATS_INBOX_PREFIX") {
			t.Errorf("%v: got %q", args, told)
		}
	}
	finish(t, cli.ExitDone, env.with("NATS_USER", "deaf", "NATS_INBOX_PREFIX", "answers.me"), "", "status")
}

func TestOneShotsWithoutJetStream(t *testing.T) {
	t.Parallel()
	b := broker(t, func(o *server.Options) { o.JetStream = false })
	for _, args := range oneShots {
		if args[0] == "publish" {
			continue // nothing
		}
		if _, told := finish(t, cli.ExitFailed, variables{"NATS_URL": b.ClientURL()}, "", args...); !strings.Contains(told, "JetStream is off on this server") {
			t.Errorf("%v: got %q", args, told)
		}
	}
}

// A server that goes while a command waits for it ends the command, but not one that follows.
func TestOneShotsOutliveNoOutage(t *testing.T) {
	t.Parallel()
	b := broker(t, nil)
	env := variables{"NATS_URL": b.ClientURL(), "RENEWALS_TIMEOUT": "300ms"}
	finish(t, cli.ExitDone, env, "", "provision")
	watch := start(t, env, "", "watch")
	publish, in := startWithInput(t, env, "publish")
	t.Cleanup(func() { in.Close() })
	eventually(t, "both connect", func() bool { return b.NumClients() == 2 })
	stopBroker(b)
	if code := publish.wait(t); code != cli.ExitFailed || !strings.Contains(publish.stderr.String(), "was lost, and no server answered for 300ms") {
		t.Errorf("publish exits with %d and says %q", code, publish.stderr.String())
	}
	select {
	case <-watch.done:
		t.Errorf("watch has ended: %q", watch.stderr.String())
	default:
	}
}

// Ctrl-C, as a terminal sends it.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "renewals") // the name by which TestMain knows that it is not to test
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	b := broker(t, nil)
	finish(t, cli.ExitDone, variables{"NATS_URL": b.ClientURL()}, "", "provision")
	for _, row := range []struct {
		url  string
		args []string
		want int
	}{
		{"nats://127.0.0.1:1", []string{"status", "--timeout=1h"}, cli.ExitInterrupted},
		{b.ClientURL(), []string{"watch"}, cli.ExitInterrupted},
		{b.ClientURL(), []string{"status", "--watch"}, cli.ExitInterrupted},
		{b.ClientURL(), []string{"klarna-sim", "--addr=127.0.0.1:0"}, cli.ExitDone}, // a server, which is told to stop
	} {
		command := exec.Command(program, row.args...)
		command.Env = append(os.Environ(), "NATS_URL="+row.url)
		var output screen
		command.Stdout, command.Stderr = &output, &output
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = command.Process.Kill() })
		eventually(t, "it is under way", func() bool {
			if row.args[0] == "watch" {
				c, err := b.Connz(&server.ConnzOptions{Subscriptions: true})
				return err == nil && len(c.Conns) > 0 && c.Conns[0].NumSubs > 1
			}
			return output.String() != ""
		})
		if err := command.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		got := 0
		var exit *exec.ExitError
		if err := command.Wait(); errors.As(err, &exit) {
			got = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if got != row.want {
			t.Errorf("%v: exit code %d, want %d: %s", row.args, got, row.want, output.String())
		}
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What a command had to say and could not is no success, whatever it did.
func TestLostOutput(t *testing.T) {
	o := newOffice(t)
	env := o.env
	o.publishRaw([]byte("{}"), nil)
	o.work()
	finish(t, cli.ExitDone, env, jobLines(t, "known", 1), "publish")
	for _, row := range []struct {
		in   string
		args []string
	}{
		{"{}\n", []string{"validate"}}, {"{}\n", []string{"validate", "--json"}}, {jobLines(t, "full", 1), []string{"publish"}}, {"", []string{"doctor"}}, {"", []string{"doctor", "--json"}},
		{"", []string{"status"}}, {"", []string{"show", "known-0"}}, {"", []string{"dead", "list"}}, {"", []string{"trigger", "ok"}}, {"", []string{"trigger", "--list"}}, {"", []string{"provision"}},
		{"", []string{"dunning-table"}}, {"", []string{"schema", "job"}}, {"", []string{"sample"}}, {"", []string{"--help"}}, {"", []string{"--version"}}, {"", []string{"completion", "bash"}},
	} {
		var told screen
		if code := run(t.Context(), row.args, strings.NewReader(row.in), full{}, &told, env.lookup); code != cli.ExitFailed || !strings.Contains(told.String(), syscall.ENOSPC.Error()) {
			t.Errorf("%v: exit code %d, want %d: %q", row.args, code, cli.ExitFailed, told.String())
		}
	}
}

// A pipe that nobody writes to, and one to which nobody writes any more, keep no command from its end.
func TestInterruptedInput(t *testing.T) {
	t.Parallel()
	env := environmentFor(broker(t, nil), simulator(t))
	finish(t, cli.ExitDone, env, "", "provision")
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"validate", fifo}, {"validate"}, {"publish", fifo}, {"publish"}, {"resolve", "--from", fifo}, {"token", "show", "--token-file", fifo}} {
		r, w := io.Pipe()
		t.Cleanup(func() { w.Close() })
		ctx, interrupt := context.WithCancel(t.Context())
		p := &process{stop: interrupt, done: make(chan struct{})}
		go func() {
			defer close(p.done)
			p.code = run(ctx, args, r, &p.stdout, &p.stderr, env.lookup)
		}()
		select {
		case <-p.done:
			t.Errorf("%v: ended without input: %s", args, p.stderr.String())
		case <-time.After(50 * time.Millisecond):
		}
		p.stop()
		if code := p.wait(t); code != cli.ExitInterrupted || !strings.HasSuffix(p.stderr.String(), "renewals: interrupted\n") {
			t.Errorf("%v: exit code %d, want %d: %s", args, code, cli.ExitInterrupted, p.stderr.String())
		}
	}
	// With somebody at its other end it is an input as any other. What was interrupted waits at the first one as long as the process lives.
	if fifo += "2"; syscall.Mkfifo(fifo, 0o600) != nil {
		t.Fatal(fifo)
	}
	go func() {
		if err := os.WriteFile(fifo, []byte(jobLines(t, "fifo", 3)), 0o600); err != nil {
			t.Error(err)
		}
	}()
	if out, _ := finish(t, cli.ExitDone, env, "", "publish", fifo); out != "accepted 3, duplicates 0, invalid 0, failed 0\n" {
		t.Errorf("publish says %q", out)
	}
}

// Whoever looks at the server sees who is connected from where.
func TestConnectionsSayWhoTheyAre(t *testing.T) {
	t.Parallel()
	b := broker(t, nil)
	env := environmentFor(b, simulator(t))
	finish(t, cli.ExitDone, env, "", "provision")
	start(t, env, "", "watch")
	start(t, env, "", "work")
	host := cli.Hostname()
	eventually(t, "both are there under their names", func() bool {
		c, err := b.Connz(&server.ConnzOptions{})
		if err != nil {
			return false
		}
		names := map[string]bool{}
		for _, one := range c.Conns {
			names[one.Name] = true
		}
		return names["renewals watch@"+host] && names["renewals work@"+host]
	})
}

// startWithInput is a program whose input stays open.
func startWithInput(t *testing.T, env variables, args ...string) (*process, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{stop: func() {}, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.code = run(t.Context(), args, bufio.NewReader(r), &p.stdout, &p.stderr, env.lookup)
	}()
	return p, w
}
