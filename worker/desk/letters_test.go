package desk

import (
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

func TestRefusal(t *testing.T) {
	t.Parallel()
	const key = messages.IdempotencyKey("066fb987-94e8-5d9a-9b0b-0d279f430fd1")
	settled := func(kind messages.Kind) journal.State {
		return journal.State{Settled: map[messages.IdempotencyKey]journal.Settlement{key: {Kind: kind}}}
	}
	for _, row := range []struct {
		situation string
		job       JobKind
		reason    messages.Reason
		state     journal.State
		want      string // "" when it may be replayed
	}{
		{situation: "an invalid job", job: ChargeJob, reason: messages.ReasonInvalid, state: settled(messages.KindRejected)},
		{situation: "blocked by an unresolved renewal", job: ChargeJob, reason: messages.ReasonBlockedByUnresolved, state: settled(messages.KindRejected)},
		{situation: "corrected and paid under the same ID", job: ChargeJob, reason: messages.ReasonInvalid, state: settled(messages.KindPaid), want: "settled as paid already: `renewals dead drop 17`"},
		{
			situation: "resolved, its letter left over", job: ChargeJob, reason: messages.ReasonIdempotencyWindowExpired, state: settled(messages.KindDunning),
			want: "settled as dunning already: `renewals dead drop 17`",
		},
		{situation: "not known whether charged", job: ChargeJob, reason: messages.ReasonContradictoryAnswers, state: settled(messages.KindUnresolved), want: "renewals resolve"},
		{situation: "invalid first, its correction under the same ID not known", job: ChargeJob, reason: messages.ReasonInvalid, state: settled(messages.KindUnresolved), want: "renewals resolve"},
		{situation: "not known, and the journal has forgotten", job: ChargeJob, reason: messages.ReasonNotEvaluated, state: journal.State{}, want: "renewals resolve"},
		{situation: "poison before a charge", job: ChargeJob, reason: messages.ReasonPoison, state: settled(messages.KindRejected)},
		{situation: "poison while charging", job: ChargeJob, reason: messages.ReasonPoison, state: settled(messages.KindUnresolved), want: "renewals resolve"},
		{situation: "poison, and the journal has forgotten", job: ChargeJob, reason: messages.ReasonPoison, state: journal.State{}, want: "renewals resolve"},
		{situation: "an order after dunning", job: ChargeJob, reason: messages.ReasonOrderAfterDunning, state: settled(messages.KindDunning), want: "refund or cancel it"},
		{situation: "a second order", job: ChargeJob, reason: messages.ReasonSecondOrder, state: settled(messages.KindPaid), want: "an order was made that no result names: refund or cancel it"},
		{situation: "nothing left to capture", job: CaptureJob, reason: messages.ReasonAlreadyCaptured, state: settled(messages.KindRejected)},
		{
			situation: "captured under the same ID after a correction", job: CaptureJob, reason: messages.ReasonInvalid, state: settled(messages.KindCaptured),
			want: "settled as captured already: `renewals dead drop 17`",
		},
		{
			situation: "resolved as not captured, its letter left over", job: CaptureJob, reason: messages.ReasonIdempotencyWindowExpired, state: settled(messages.KindCaptureFailed),
			want: "settled as capture_failed already",
		},
		{
			situation: "not known whether captured", job: CaptureJob, reason: messages.ReasonContradictoryAnswers, state: settled(messages.KindUnresolved),
			want: "it may have been captured: look it up in Klarna's portal, then `renewals resolve",
		},
		{
			situation: "a capture after its failure", job: CaptureJob, reason: messages.ReasonCaptureAfterFailure, state: settled(messages.KindCaptureFailed),
			want: "a capture was made that no result names: refund it in Klarna's portal, then `renewals dead drop 17`",
		},
		{situation: "a second capture", job: CaptureJob, reason: messages.ReasonSecondOrder, state: settled(messages.KindCaptured), want: "a capture was made that no result names"},
	} {
		l := Letter{Number: 17, Key: key, Kind: row.job, DeadLetter: messages.DeadLetter{Reason: row.reason}}
		if got := l.refusal(row.state); row.want == "" && got != "" || !strings.Contains(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.situation, got, row.want)
		}
	}
}

// A letter goes back to where its job was published, and nowhere else.
func TestLetterSubject(t *testing.T) {
	t.Parallel()
	payload := []byte(`{"id":"c1","subscription_id":"1","period":"2026-12"}`)
	for _, row := range []struct {
		subject string
		want    JobKind // "" where no worker wrote that
	}{
		{"", ChargeJob}, // of the time before captures
		{"renewals.due.se", ChargeJob},
		{"renewals.capture.se", CaptureJob},
		{"renewals.capture.de", ""},
		{"renewals.due.se.x", ""},
		{"renewals.paid.066fb987-94e8-5d9a-9b0b-0d279f430fd1.se", ""},
	} {
		header := messages.DeadLetter{Reason: messages.ReasonInvalid, Account: "se", Stream: messages.StreamJobs, Sequence: 1, Subject: row.subject}.Header(nil)
		l := ReadLetter(17, messages.DeadSubject("066fb987-94e8-5d9a-9b0b-0d279f430fd1", "se"), time.Time{}, header, payload)
		if row.want == "" {
			if l.Fault == nil || !strings.Contains(l.refusal(journal.State{}), "not written by a worker: read header Renewals-Subject") {
				t.Errorf("%s: got %v and %q, want a fault", row.subject, l.Fault, l.refusal(journal.State{}))
			}
			continue
		}
		if l.Fault != nil || l.Kind != row.want || l.Reading.Identified != (row.want == CaptureJob || row.subject != "renewals.capture.se") {
			t.Errorf("%s: got %s (%v), want %s", row.subject, l.Kind, l.Fault, row.want)
		}
		if r := messages.NewRenewalKey("1", "2026-12"); row.want == CaptureJob && l.Reading.IdempotencyKey != messages.NewCaptureKey(r, "c1") {
			t.Errorf("%s: read under key %s", row.subject, l.Reading.IdempotencyKey)
		}
	}
}
