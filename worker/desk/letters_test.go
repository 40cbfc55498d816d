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
		{"an invalid job", ChargeJob, messages.ReasonInvalid, settled(messages.KindRejected), ""},
		{"blocked by an unresolved renewal", ChargeJob, messages.ReasonBlockedByUnresolved, settled(messages.KindRejected), ""},
		{"corrected and paid under the same ID", ChargeJob, messages.ReasonInvalid, settled(messages.KindPaid), "settled as paid already: `renewals dead drop 17`"},
		{"resolved, its letter left over", ChargeJob, messages.ReasonIdempotencyWindowExpired, settled(messages.KindDunning), "settled as dunning already: `renewals dead drop 17`"},
		{"not known whether charged", ChargeJob, messages.ReasonContradictoryAnswers, settled(messages.KindUnresolved), "renewals resolve"},
		{"invalid first, its correction under the same ID not known", ChargeJob, messages.ReasonInvalid, settled(messages.KindUnresolved), "renewals resolve"},
		{"not known, and the journal has forgotten", ChargeJob, messages.ReasonNotEvaluated, journal.State{}, "renewals resolve"},
		{"poison before a charge", ChargeJob, messages.ReasonPoison, settled(messages.KindRejected), ""},
		{"poison while charging", ChargeJob, messages.ReasonPoison, settled(messages.KindUnresolved), "renewals resolve"},
		{"poison, and the journal has forgotten", ChargeJob, messages.ReasonPoison, journal.State{}, "renewals resolve"},
		{"an order after dunning", ChargeJob, messages.ReasonOrderAfterDunning, settled(messages.KindDunning), "refund or cancel it"},
		{"a second order", ChargeJob, messages.ReasonSecondOrder, settled(messages.KindPaid), "an order was made that no result names: refund or cancel it"},
		{"nothing left to capture", CaptureJob, messages.ReasonAlreadyCaptured, settled(messages.KindRejected), ""},
		{"captured under the same ID after a correction", CaptureJob, messages.ReasonInvalid, settled(messages.KindCaptured), "settled as captured already: `renewals dead drop 17`"},
		{"resolved as not captured, its letter left over", CaptureJob, messages.ReasonIdempotencyWindowExpired, settled(messages.KindCaptureFailed), "settled as capture_failed already"},
		{"not known whether captured", CaptureJob, messages.ReasonContradictoryAnswers, settled(messages.KindUnresolved), "it may have been captured: look it up in Klarna's portal, then `renewals resolve"},
		{"a capture after its failure", CaptureJob, messages.ReasonCaptureAfterFailure, settled(messages.KindCaptureFailed), "a capture was made that no result names: refund it in Klarna's portal, then `renewals dead drop 17`"},
		{"a second capture", CaptureJob, messages.ReasonSecondOrder, settled(messages.KindCaptured), "a capture was made that no result names"},
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
