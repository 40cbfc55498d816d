package worker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// job is one delivery of a renewal-due job.
type job struct {
	msg       *nats.Msg
	stream    string // RENEWALS, or RENEWALS_LATER
	sequence  uint64 // there
	delivered int
	published time.Time
	received  time.Time
	semaphore *gate.Semaphore
	permit    gate.Permit // of it, while it holds one
	probe     bool        // it asks for all whether Klarna listens to the account again
	parked    string      // the subject on which it waited until it was due

	account    messages.Account
	reading    messages.Reading
	renewalKey messages.RenewalKey // or the stand-in's
	request    journal.Request
	problems   []messages.Problem // why the verdict, for a person
	conflicts  messages.IdempotencyKey
	fingerprint,
	traceParent, traceState string

	capture *messages.Capture // nil for a charge
	orderID string            // that is to be captured, once known
}

// place says where in the stream a delivery came from.
func (a *account) place(d gate.Delivery) (*job, error) {
	meta, err := d.Msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read the reply subject of a delivery: %w", err)
	}
	j := &job{
		msg: d.Msg, received: d.Received, semaphore: d.Semaphore, account: a.Name,
		stream: meta.Stream, sequence: meta.Sequence.Stream, delivered: int(meta.NumDelivered), published: meta.Timestamp,
	}
	j.request.Nonce, j.request.Delivered = uuid.NewString(), j.delivered
	if j.stream == messages.StreamLater {
		j.fired(a.Name)
	}
	return j, nil
}

// read reads the job. What is wrong with it becomes its verdict, never an
// error: every message ends in a recorded result.
func (a *account) read(j *job) {
	j.traceParent, j.traceState = messages.TraceContext(j.msg.Header)
	q := &j.request
	if strings.HasPrefix(j.msg.Subject, messages.CaptureSubject("")) {
		a.readCapture(j)
	} else {
		j.reading = a.Rules.Read(j.msg.Data, j.msg.Header)
		in := j.reading.Job
		q.Hash = journal.Hash(in.Order, string(a.Name), in.CustomerToken.Reveal())
		if !in.CustomerToken.IsZero() {
			j.fingerprint = in.CustomerToken.Fingerprint()
		}
		if f := j.reading.Facts; !f.AutoCapture {
			q.Authorised = &journal.Order{Amount: f.Amount, Currency: f.Currency, MerchantReference1: f.MerchantReference1}
		}
		q.Attempt, q.DueAt, q.Policy = in.Attempt, in.DueAt, a.Policy
	}
	q.Worker, q.Host, q.Endpoint, q.Merchant = a.opts.Name, a.Host, a.Endpoint, a.Merchant
	q.Account, q.Payload = a.Name, j.msg.Data
	q.Replay = replayOf(j.msg.Header)
	if j.reading.Identified {
		j.renewalKey, q.Key = j.reading.RenewalKey, j.reading.IdempotencyKey
	} else {
		j.fileApart()
	}
	q.Verdict, j.problems = a.verdict(j)
}

// readCapture reads a capture job. It has no order and no due time of its own.
func (a *account) readCapture(j *job) {
	r := a.Rules.ReadCapture(j.msg.Data, j.msg.Header)
	j.capture, j.reading = &r.Capture, r.Common()
	c := r.Capture
	j.request.Capture = &journal.CaptureWanted{OrderID: c.OrderID, Amount: c.CapturedAmount}
	j.request.Hash = journal.Hash(c.OrderLines, string(a.Name), c.OrderID, strconv.FormatInt(c.CapturedAmount, 10), c.Description, c.Reference)
}

// verdict says why a job may not be claimed at all, or nothing.
func (a *account) verdict(j *job) (messages.Reason, []messages.Problem) {
	now, r := a.now(), j.reading
	switch {
	case r.Nothing:
		return messages.ReasonNothingToCharge, r.Problems
	case len(r.Problems) > 0:
		return messages.ReasonInvalid, r.Problems
	case j.capture != nil: // its renewal was due
		return "", nil
	}
	if why, problem := r.Job.Untimely(now, time.Duration(a.oldest.Load())); why != "" {
		return why, []messages.Problem{problem}
	}
	return "", nil
}

// standIn files the job under its place in the stream, since its own keys
// belong to another renewal or charge.
func (j *job) standIn(next journal.Transition) {
	why, conflicts := next.Reason, next.Conflicts
	j.fileApart()
	j.conflicts = conflicts
	if why != j.request.Verdict {
		j.request.Verdict, j.problems = why, j.explain(why, conflicts, "")
		if !next.DueAt.IsZero() {
			j.problems = []messages.Problem{{Path: "due_at", Message: fmt.Sprintf(
				"found %s, expected %s, which the first job of this period said: it is the same for all attempts", j.request.DueAt.UTC().Format(time.RFC3339Nano), next.DueAt.UTC().Format(time.RFC3339Nano))}}
		}
	}
}

// fileApart gives the job the keys of its place in the stream.
func (j *job) fileApart() {
	j.renewalKey, j.request.Key = messages.StandIn(j.stream, j.sequence, j.msg.Data)
	j.request.StandIn = true
}

// explain tells a person why a job was rejected that is itself in order.
func (j *job) explain(why messages.Reason, by messages.IdempotencyKey, made string) []messages.Problem {
	asked, thing := "charge", "order"
	if j.capture != nil {
		asked, thing = "capture", "capture"
	}
	path, message := "$", string(why)
	switch why {
	case messages.ReasonConflict:
		path, message = "id", "this message ID stands for another "+asked+" already, or for one of another account: publish what changed under a new message ID"
	case messages.ReasonAlreadyPaid:
		path, message = "period", "this period of the subscription is paid already"
	case messages.ReasonBlockedByUnresolved:
		path, message = "period", "an earlier charge or capture of this period is unresolved: settle it with `renewals resolve`, then replay or publish again"
	case messages.ReasonOrderExists:
		path, message = "period", "this period of the subscription has an order, of which money is being captured or was"
	case messages.ReasonNotPaid:
		path, message = "period", "this period of the subscription has no order that could be captured: publish the capture after the result `paid`"
	case messages.ReasonAlreadyCaptured:
		path, message = "period", "everything of this period's order is captured already"
	case messages.ReasonAmountTooHigh:
		path, message = "captured_amount", "found more than can still be captured of the order"
	case messages.ReasonOrderMismatch:
		path, message = "order_id", "this period of the subscription was paid with another order: leave the field out, or correct it"
	case messages.ReasonCancelled:
		path, message = "period", "this period was cancelled"
	case messages.ReasonTooManyAttempts:
		path, message = "period", "this period has seen "+strconv.Itoa(journal.MaxSettled)+" message IDs, no further one is served"
	case messages.ReasonIdempotencyWindowExpired:
		message = "Klarna never said whether it made the " + thing + ", and its idempotency key may no longer be used: look it up in Klarna's portal, then `renewals resolve`"
	case messages.ReasonContradictoryAnswers:
		message = "Klarna refused this " + asked + " after a try that may have made the " + thing + ": look it up in Klarna's portal, then `renewals resolve`"
	case messages.ReasonNotEvaluated:
		message = "Klarna turned this job away unread for a day; nothing was charged under it"
	case messages.ReasonPendingTooLong:
		message = "the order's fraud status did not become final: look it up in Klarna's portal, then `renewals resolve`"
	case messages.ReasonOrderAfterDunning:
		message = "Klarna made order " + made + " for this attempt after the renewal had gone on to another: refund it, or the other"
	case messages.ReasonSecondOrder:
		message = "Klarna made " + thing + " " + made + " beside the one that is recorded: refund one of them"
	case messages.ReasonCaptureAfterFailure:
		message = "Klarna made capture " + made + " although it was recorded as failed and another has followed: refund it, or the other"
	case messages.ReasonPoison:
		message = "the worker broke on this job " + strconv.Itoa(journal.MaxPanics) + " times; see its log"
	}
	if by != "" && why != messages.ReasonConflict {
		message += " (idempotency key " + string(by) + ")"
	}
	return []messages.Problem{{Path: path, Message: message}}
}

// replayOf reads which dead letter a message repeats; 0 when none.
func replayOf(h nats.Header) uint64 {
	for name, values := range h {
		if len(values) > 0 && strings.EqualFold(name, messages.HeaderReplay) {
			n, _ := strconv.ParseUint(values[0], 10, 64)
			return n
		}
	}
	return 0
}
