package desk

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A rejection for what was wrong with a job's bytes speaks for these bytes only, as the machine has it: the same ones again
// have their result, corrected ones are a job of their own.
func TestSettledDuplicateOfAnInvalidJob(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	read := func(body string, header nats.Header) WaitingJob {
		return readDue(messages.StreamJobs, &jetstream.RawStreamMsg{Subject: messages.DueSubject("default"), Header: header, Data: []byte(body)})
	}
	const body = `{"id":"i-1","subscription_id":"s","period":"p"}`
	j := read(body, nil)
	s := journal.State{Phase: journal.PhaseNone, Settled: map[messages.IdempotencyKey]journal.Settlement{
		j.Key: {Kind: messages.KindRejected, Reason: messages.ReasonInvalid, SHA256: journal.HashPayload("default", []byte(body)), Replay: 7},
	}}
	for name, tt := range map[string]struct {
		job  WaitingJob
		want string
	}{
		"the same again":                   {j, "it has its result"},
		"corrected":                        {read(strings.Replace(body, "{", `{"attempt":1,`, 1), nil), "no worker has claimed it"},
		"the replay that led to it, again": {read(body, nats.Header{messages.HeaderReplay: {"7"}}), "it has its result"},
		"another replay":                   {read(body, nats.Header{messages.HeaderReplay: {"8"}}), "no worker has claimed it"},
	} {
		if got := tt.job.Standing(s, now); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// What makes sense of a blocked job goes by what can still be captured: of an order that Klarna has closed, nothing.
func TestBlockedCapture(t *testing.T) {
	order := journal.Order{ID: "o-1", Amount: 1599, Captured: 500}
	open := journal.State{Phase: journal.PhaseCaptureFailed, Order: &order}
	shut := order
	shut.Closed = true
	closed := journal.State{Phase: journal.PhaseCaptureFailed, Order: &shut}
	for want, s := range map[string]journal.State{
		"renewals dead replay":                          open,
		"renewals dead drop":                            closed,
		"once the period is paid, renewals dead replay": {Phase: journal.PhaseDunning},
	} {
		if got := (Letter{Kind: CaptureJob}).NowThat(s); got != want {
			t.Errorf("%s: got %q, want %q", s.Phase, got, want)
		}
	}
}

// What the program needs to know of a waiting job is no part of what `renewals show --json` prints.
func TestWaitingJobAsJSON(t *testing.T) {
	got, err := json.Marshal(WaitingJob{Job: ChargeJob, Renewal: "r", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{`"Job"`, `"Renewal"`, `"Key"`} {
		if strings.Contains(string(got), name) {
			t.Errorf("%s is in %s", name, got)
		}
	}
}
