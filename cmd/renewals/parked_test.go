package main

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

// TestParkedJobIsSeen: whoever asks for an early job that waits outside the queue finds it, and may cancel its period (S77).
func TestParkedJobIsSeen(t *testing.T) {
	o := newOffice(t)
	job := o.job("early", "ok", "", 1)
	job.DueAt = time.Now().Add(20 * time.Hour).UTC().Truncate(time.Second)
	other := o.job("early", "ok", "an ID of its own", 2)
	other.DueAt = job.DueAt
	o.publish(job, other)
	p := start(t, o.env, "", "work")
	o.empty(p)
	if n := o.count(messages.StreamLater); n != 2 {
		t.Fatalf("parked: %d, want 2", n)
	}
	until := "parked, it waits outside the queue until " + clock(job.DueAt)
	for _, name := range []string{"early/2026-12", string(job.ID), "an ID of its own"} {
		out, _ := o.run(cli.ExitDone, "show", name)
		o.expect(out, until, "of "+messages.StreamLater, "account default")
	}
	out, _ := o.run(cli.ExitDone, "show", "--json", "early/2026-12")
	o.expect(out, `"id":"an ID of its own"`, `"parked_until":"`+job.DueAt.Format(time.RFC3339)+`"`, "!ok-op-")
	out, _ = o.run(cli.ExitDone, "status")
	o.expect(out, "default parked: 2 jobs", "by "+clock(job.DueAt))

	out, _ = o.run(cli.ExitDone, "cancel", "early", "2026-12", "--yes")
	o.expect(out, "job "+string(job.ID)+" of it is parked until "+clock(job.DueAt), "cancelled")
	p.stop()
}
