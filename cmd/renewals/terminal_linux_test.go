package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/term"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

// typing is a terminal into which somebody has typed a line.
func typing(t *testing.T, line string) *os.File {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) { // a container or build root without /dev/pts; every machine has it
		t.Skip("no pseudo-terminals here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	var number, unlocked uint32
	for request, argument := range map[uintptr]*uint32{syscall.TIOCSPTLCK: &unlocked, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, keyboard.Fd(), request, uintptr(unsafe.Pointer(argument))); errno != 0 {
			t.Fatal(errno)
		}
	}
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	if _, err := keyboard.WriteString(line); err != nil {
		t.Fatal(err)
	}
	return screen
}

// A question does not keep anybody who has had enough of it: one interrupt ends the program.
func TestAskingIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var said strings.Builder
	if err := cli.Agreed(ctx, typing(t, ""), &said, false, "Close it?"); !errors.Is(err, context.Canceled) || said.String() != "Close it? [y/N] \n" {
		t.Errorf("got %v and %q, want the interrupt", err, said.String())
	}
}

// On a terminal every command that settles something about money asks first, and takes anything but yes for no.
func TestAsking(t *testing.T) {
	o := newOffice(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if cli.IsTerminal(null) {
		t.Error("the null device is taken for a terminal")
	}
	o.publish(o.job("1", "500", "", 1), o.authorised("3", "ok"))
	o.publishRaw([]byte("no job"), nil)
	o.work()
	o.capture(messages.Capture{ID: "3/c1", SubscriptionID: "3", CapturedAmount: 500, Reference: "500-"})
	o.work()
	order := o.state("3").Order.ID
	invalid := fmt.Sprint(o.letters("--reason=invalid")[0].Sequence)
	for _, row := range []struct {
		args     []string
		typed    string
		question string
		code     int
	}{
		{args: []string{"resolve", "1/2026-12", "--not-charged"}, typed: "n\n", question: "Record that period 2026-12 of subscription 1 (15.99 EUR) was not charged?", code: cli.ExitFailed},
		{args: []string{"resolve", "1/2026-12", "--not-charged"}, typed: "n\n", question: "Too early: Klarna may be at work on it until ", code: cli.ExitFailed},
		{args: []string{"resolve", "1/2026-12", "--not-charged"}, typed: "n\n", question: "Sought at Klarna: an order of 15.99 EUR, merchant reference op-1-", code: cli.ExitFailed},
		{
			args: []string{"resolve", "1/2026-12", "--paid", "--order-id=X", "--unverified", "--captured"}, typed: "\n", question: "Record period 2026-12 of subscription 1 (15.99 EUR) as paid with order X, captured: true?",
			code: cli.ExitFailed,
		},
		{args: []string{"cancel", "2", "2026-12", "--unknown"}, typed: "nope\n", question: "Cancel period 2026-12 of subscription 2 on account default?", code: cli.ExitFailed},
		{args: []string{"dead", "replay", invalid}, typed: "N\n", question: "Publish 1 jobs again (1 invalid)?", code: cli.ExitFailed},
		{args: []string{"dead", "drop", "--all"}, typed: "no\n", question: "Drop 3 dead letters (2 idempotency_window_expired, 1 invalid)?", code: cli.ExitFailed},
		{
			args: []string{"resolve", "3/2026-12", "--captured", "--capture-id=X", "--unverified"}, typed: "n\n",
			question: "Record that capture X took 5.00 EUR of order " + order + ", for period 2026-12 of subscription 3 (15.99 EUR)?", code: cli.ExitFailed,
		},
		{
			args: []string{"resolve", "3/2026-12", "--not-captured"}, typed: "y\n", question: "Record that 5.00 EUR of order " + order + " were not captured, for period 2026-12 of subscription 3 (15.99 EUR)?",
			code: cli.ExitDone,
		},
		{args: []string{"resolve", "1/2026-12", "--not-charged"}, typed: "y\n", question: "was not charged?", code: cli.ExitDone},
		{args: []string{"cancel", "2", "2026-12", "--unknown"}, typed: "yes\n", question: "Cancel period", code: cli.ExitDone},
		{args: []string{"dead", "replay", invalid}, typed: "Y\n", question: "Publish 1 jobs again", code: cli.ExitDone},
	} {
		records, letters, jobs := o.count(messages.StreamJournal), o.count(messages.StreamDead), o.count(messages.StreamJobs)
		var stdout, stderr screen
		code := run(t.Context(), row.args, typing(t, row.typed), &stdout, &stderr, o.env.lookup)
		if code != row.code || !strings.Contains(stderr.String(), row.question) {
			t.Errorf("%v, typed %q: exit code %d, want %d, and %q in %q", row.args, row.typed, code, row.code, row.question, stderr.String())
		}
		changed := records != o.count(messages.StreamJournal) || letters != o.count(messages.StreamDead) || jobs != o.count(messages.StreamJobs)
		if changed != (row.code == cli.ExitDone) {
			t.Errorf("%v, typed %q: changed %t", row.args, row.typed, changed)
		}
		if row.code == cli.ExitFailed && !strings.Contains(stderr.String(), "nothing was changed") {
			t.Errorf("%v: got %q", row.args, stderr.String())
		}
	}
}

// Asked for on a terminal, a customer token is not shown.
func TestTokenIsAskedFor(t *testing.T) {
	sim := simulator(t)
	env := variables{"KLARNA_ENDPOINT": sim.URL, "KLARNA_USERNAME": testUser, "KLARNA_PASSWORD": testPassword}
	var stdout, stderr screen
	if code := run(t.Context(), []string{"token", "show"}, typing(t, "ok-customer-4711\n"), &stdout, &stderr, env.lookup); code != cli.ExitDone {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	if out := stdout.String(); !strings.HasPrefix(out, "status ACTIVE") || !strings.Contains(stderr.String(), "Customer token: ") || strings.Contains(out+stderr.String(), "4711") {
		t.Errorf("got %q and %q", out, stderr.String())
	}
	// An interrupted question leaves the terminal with its echo.
	pts := typing(t, "")
	before, err := term.GetState(int(pts.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan int)
	go func() { done <- run(ctx, []string{"token", "show"}, pts, io.Discard, io.Discard, env.lookup) }()
	eventually(t, "the question", func() bool {
		now, err := term.GetState(int(pts.Fd()))
		return err == nil && *now != *before
	})
	interrupt()
	if code := <-done; code != cli.ExitInterrupted {
		t.Errorf("interrupted: exit code %d, want %d", code, cli.ExitInterrupted)
	}
	if now, err := term.GetState(int(pts.Fd())); err != nil || *now != *before {
		t.Errorf("the terminal is not as it was: %v, %v", now, err)
	}
}

// What is printed on a terminal has its width, and colours unless somebody does not want them.
func TestPageOnATerminal(t *testing.T) {
	t.Parallel()
	screen := typing(t, "")
	size := [4]uint16{40, 100}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size))); errno != 0 {
		t.Fatal(errno)
	}
	for _, row := range []struct {
		env    variables
		colour bool
	}{{variables{}, true}, {variables{"NO_COLOR": "1"}, false}, {variables{"NO_COLOR": ""}, true}, {variables{"TERM": "dumb"}, false}} {
		if p := newTerminal(nil, screen, screen, row.env.lookup).page(); p.Width != 100 || p.Colour != row.colour {
			t.Errorf("%v: width %d and colour %t, want 100 and %t", row.env, p.Width, p.Colour, row.colour)
		}
	}
	if p := newTerminal(nil, io.Discard, screen, variables{}.lookup).page(); p.Width != 0 || p.Colour {
		t.Errorf("beside a terminal: width %d and colour %t, want none", p.Width, p.Colour)
	}
}
