package main

import (
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

// What every worker would reject now is not published, unless somebody says that it is meant: it would be a dead letter of each job.
func TestUntimelyIsNotPublished(t *testing.T) {
	t.Parallel()
	b := broker(t, nil)
	env := variables{"NATS_URL": b.ClientURL()}
	finish(t, cli.ExitDone, env, "", "provision")
	line := func(name string, edit func(*messages.Job)) string {
		job := charge(name, "0", "ok", product{"Premium Monthly", "MONTH", 1, 1599, "EUR"}, time.Now())
		edit(&job)
		text, err := job.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	}
	for _, row := range []struct {
		name string
		edit func(*messages.Job)
		want string
	}{
		{"soon", func(j *messages.Job) { j.DueAt = j.DueAt.AddDate(0, 1, 0) }, "stdin:1: not published: every worker would reject it now: due_at: found "},
		{"old", func(j *messages.Job) { j.DueAt = j.DueAt.AddDate(-1, 0, 0) }, "(too_old); --untimely publishes it all the same"},
		{"past", func(j *messages.Job) { j.DueAt, j.ExpiresAt = j.DueAt.AddDate(0, 0, -2), j.DueAt.AddDate(0, 0, -1) }, "(expired); --untimely publishes it all the same"},
	} {
		in := line(row.name, row.edit)
		out, told := finish(t, cli.ExitFailed, env, in, "publish")
		if out != "accepted 0, duplicates 0, invalid 1, failed 0\n" || !strings.Contains(told, row.want) {
			t.Errorf("%s: got %q and %q", row.name, out, told)
		}
		if _, told := finish(t, cli.ExitFailed, env, in, "validate"); !strings.Contains(told, "1 that every worker would reject now") {
			t.Errorf("%s: validate says %q", row.name, told)
		}
		if out, told := finish(t, cli.ExitDone, env, in, "publish", "--untimely"); !strings.HasPrefix(out, "accepted 1,") || !strings.Contains(told, "now: ") {
			t.Errorf("%s: got %q and %q", row.name, out, told)
		}
	}
	// A journal that remembers longer takes older jobs; the variable is that of provision.
	env["RENEWALS_RETENTION"] = "400d"
	if out, told := finish(t, cli.ExitDone, env, line("older", func(j *messages.Job) { j.DueAt = j.DueAt.AddDate(-1, 0, 0) }), "publish"); !strings.HasPrefix(out, "accepted 1,") {
		t.Errorf("got %q and %q", out, told)
	}
}
