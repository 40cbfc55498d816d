package main

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"renewals": main})
}

// The scripts are what a user types and sees. "exits N command…" checks the exit code; "run N argument…" does so without
// another process, for the many that only read settings.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:      "testdata/script",
		Deadline: time.Now().Add(6 * time.Minute), // a command that waits for a server that nobody started
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: exits N command...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				var exit *exec.ExitError
				if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
					got = exit.ExitCode()
				} else if err != nil {
					ts.Fatalf("%s: %v", args[1], err)
				}
				if got != want {
					ts.Fatalf("%v exited with %d, want %d", args[1:], got, want)
				}
			},
			"run": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: run N argument...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				env := func(name string) (string, bool) { return ts.Getenv(name), true }
				if got := run(ctx, args[1:], strings.NewReader(""), ts.Stdout(), ts.Stderr(), env); got != want {
					ts.Fatalf("%v exited with %d, want %d", args[1:], got, want)
				}
			},
		},
	})
}
