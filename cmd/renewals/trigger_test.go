package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// What the list says of each case is what becomes of it, whichever Klarna does.
func TestEveryCaseEndsAsListed(t *testing.T) {
	long(t)
	t.Parallel()
	soon, late := newHurry(t), newHurry(t, "RENEWALS_KEY_WINDOW", "12s")
	var walks sync.WaitGroup
	for _, c := range klarnasim.Cases() {
		want, known := rulingOn(c.Name)
		if !known {
			t.Errorf("%s: nobody says what becomes of it", c.Name)
			continue
		}
		env := soon
		if want.late {
			env = late
		}
		walks.Go(func() {
			if want.byHand {
				finish(t, cli.ExitFailed, env, "", "trigger", "--wait", "--within=2s", c.Name)
				return
			}
			out, _ := finish(t, cli.ExitDone, env, "", "trigger", "--wait", "--json", c.Name)
			last := out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]
			var r record
			if err := json.Unmarshal([]byte(last), &struct {
				*record
				Kind *messages.Kind `json:"kind"`
			}{&r, &r.Kind}); err != nil || r.Kind != want.kind || r.Reason != want.reason {
				t.Errorf("%s: %s, want %s", c.Name, last, want)
			}
		})
	}
	walks.Wait()
}

// newHurry is a world with a worker that does not pause longer than it has to.
func newHurry(t *testing.T, pairs ...string) variables {
	t.Helper()
	env := environmentFor(broker(t, nil), simulator(t)).with("RENEWALS_TRY_TIMEOUT", "4s", "RENEWALS_TRY_BUDGET", "3s", "RENEWALS_ACK_WAIT", "9s").with(pairs...)
	finish(t, cli.ExitDone, env, "", "provision")
	w := start(t, env, "", "work")
	t.Cleanup(func() {
		w.stop()
		w.wait(t)
	})
	return env
}

func TestTriggerSays(t *testing.T) {
	t.Parallel()
	env := newHurry(t)
	out, _ := finish(t, cli.ExitDone, env, "", "trigger", "503x1-soft-decline")
	if !strings.Contains(out, "-503x1-soft-decline/") || !strings.Contains(out, "renewals watch --since 5m --subscription ") || strings.Contains(out, "expected:") {
		t.Errorf("got %q", out)
	}
	if out, _ = finish(t, cli.ExitDone, env, "", "trigger", "cancelled", "--wait"); !strings.Contains(out, "expected:  dunning, token_cancelled") || !strings.Contains(out, "renewals.dunning") {
		t.Errorf("got %q", out)
	}
	finish(t, cli.ExitDone, env, "", "trigger", strings.Repeat("slow-1-", 25)+"ok", "--wait")
	for _, row := range []struct {
		args string
		env  variables
		want string
		code int
	}{
		{"", env, "CASE: none, expected one of `renewals trigger --list`", cli.ExitUsage},
		{"nonsense", env, `CASE: "nonsense" is no behaviour of the simulator; `, cli.ExitUsage},
		{strings.Repeat("503x1-", 60) + "ok", env, "CASE: it has 362 characters, and 200 fit", cli.ExitUsage},
		{"ok", env.with("KLARNA_ENDPOINT", "eu"), "KLARNA_ENDPOINT: api.klarna.com is not the simulator", cli.ExitUsage},
		{"ok", env.with("NATS_URL", broker(t, nil).ClientURL()), "no stream takes it; run `renewals provision`", cli.ExitFailed},
		{"ok --wait --within=1s --account=nobody", env, "no result of ", cli.ExitFailed},
	} {
		args := append([]string{"trigger"}, strings.Fields(row.args)...)
		if row.code == cli.ExitFailed && strings.Contains(row.want, "no result") {
			finish(t, cli.ExitDone, row.env.with("KLARNA_ACCOUNT", "nobody"), "", "provision")
		}
		if _, told := finish(t, row.code, row.env, "", args...); !strings.Contains(told, row.want) {
			t.Errorf("%s: got %q, want %q", row.args, told, row.want)
		}
	}
}

func TestTriggerList(t *testing.T) {
	t.Parallel()
	out, _ := finish(t, cli.ExitDone, variables{}, "", "trigger", "--list")
	asJSON, _ := finish(t, cli.ExitDone, variables{}, "", "trigger", "--list", "--json")
	for _, c := range klarnasim.Cases() {
		if !strings.Contains(out, "\n"+c.Name+" ") || !strings.Contains(out, c.Answers) || !strings.Contains(asJSON, fmt.Sprintf(`{"case":%q,`, c.Name)) {
			t.Errorf("%s is not listed", c.Name)
		}
	}
}

// What sample prints are jobs that validate and publish take.
func TestSample(t *testing.T) {
	t.Parallel()
	env := newHurry(t)
	all, _ := finish(t, cli.ExitDone, env, "", "sample")
	if got, want := strings.Count(all, "\n"), len(klarnasim.Cases()); got != want {
		t.Errorf("%d lines, want %d", got, want)
	}
	if _, told := finish(t, cli.ExitDone, env, all, "validate"); !strings.Contains(told, " 0 invalid") {
		t.Errorf("validate says %q", told)
	}
	some, _ := finish(t, cli.ExitDone, env, "", "sample", "ok", "cancelled", "ok", "--jobs=5")
	if out, _ := finish(t, cli.ExitDone, env, some, "publish"); out != "accepted 5, duplicates 0, invalid 0, failed 0\n" {
		t.Errorf("publish says %q", out)
	}
	if _, told := finish(t, cli.ExitUsage, env, "", "sample", "ok", "nonsense"); !strings.Contains(told, "renewals trigger --list") {
		t.Errorf("got %q", told)
	}
}
