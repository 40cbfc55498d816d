package worker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A job is a delivery that was read: what it is about, and what is asked of the machine. It is never changed after it was
// made: what goes by a stand-in, or knows its order, is another job of the same delivery.
type job struct {
	delivery
	service   *service
	reading   messages.Reading
	capture   *messages.Capture   // nil for a charge
	renewal   messages.Renewal    // or the stand-in's
	key       messages.RenewalKey // its own
	request   journal.Request
	problems  []messages.Problem // why the verdict, for a person
	conflicts messages.IdempotencyKey
	// nextAttemptAt is with a verdict that it came too soon.
	nextAttemptAt time.Time
	fingerprint,
	traceParent, traceState string
}

// A reader reads the jobs of an account. What is wrong with one becomes its verdict, never an
// error: every message ends in a recorded result.
type reader struct {
	account Account
	worker  string
	clock   *clock
	memory  *memory
}

func (r reader) read(d delivery) *job {
	j := r.unread(d)
	j.traceParent, j.traceState = messages.TraceContext(d.header)
	j.service.read(r, d, j)
	if j.traceParent == "" {
		j.traceParent, j.traceState = j.reading.TraceParent, j.reading.TraceState
	}
	if j.reading.Identified {
		j.renewal, j.key, j.request.Key = j.reading.Renewal(), j.reading.RenewalKey, j.reading.IdempotencyKey
		j.request.Renewal = j.renewal
	} else {
		j.fileApart()
	}
	j.request.Verdict, j.problems = r.verdict(j)
	return j
}

// unread is a job of which only its delivery is known.
func (r reader) unread(d delivery) *job {
	return &job{delivery: d, service: serviceOf(d.subject), request: journal.Request{
		Nonce: d.nonce, Delivered: d.delivered, Account: d.account, Payload: d.data, Replay: replayOf(d.header),
		Worker: r.worker, Host: r.account.Host, Endpoint: r.account.Endpoint, Merchant: r.account.Merchant,
	}}
}

// readCharge reads a renewal that is due.
func (r reader) readCharge(d delivery, j *job) {
	j.reading = r.account.Rules.Read(d.data, d.header)
	in, q := j.reading.Job, &j.request
	q.Hash = journal.HashCharge(d.account, in)
	if !in.CustomerToken.IsZero() {
		j.fingerprint = in.CustomerToken.Fingerprint()
	}
	if f := j.reading.Facts; !f.AutoCapture {
		q.Authorised = asOrdered(f)
	}
	q.Cadence, q.OffCycle, q.Unspaced = j.reading.Facts.Cadence, in.OffCycle, r.account.Spacing == SpacingOff
	q.Attempt, q.DueAt, q.Policy = in.Attempt, in.DueAt, r.account.Policy
	q.Token, q.OffCycle, q.CustomerActed = j.fingerprint, in.OffCycle, in.CustomerActed
}

// asOrdered is what a charge leaves to be captured, by its own words.
func asOrdered(f messages.OrderFacts) *journal.Order {
	return &journal.Order{Amount: f.Amount, Currency: f.Currency, MerchantReference1: f.MerchantReference1, MerchantReference2: f.MerchantReference2}
}

// readCapture reads a capture job. It has no order and no due time of its own.
func (r reader) readCapture(d delivery, j *job) {
	read := r.account.Rules.ReadCapture(d.data, d.header)
	j.capture, j.reading = &read.Capture, read.Common()
	c := read.Capture
	j.request.Capture = &journal.CaptureWanted{OrderID: c.OrderID, Amount: c.CapturedAmount}
	j.request.Hash = journal.HashCapture(d.account, c)
}

// verdict says why a job may not be claimed at all, or nothing.
func (r reader) verdict(j *job) (messages.Reason, []messages.Problem) {
	switch {
	case j.reading.Nothing:
		return messages.ReasonNothingToCharge, j.reading.Problems
	case len(j.reading.Problems) > 0:
		return messages.ReasonInvalid, j.reading.Problems
	case j.service.afterOrder: // its renewal was due
		return "", nil
	}
	if why, problem := j.reading.Job.Untimely(r.clock.now(), r.memory.reach()); why != "" {
		return why, []messages.Problem{problem}
	}
	return "", nil
}

// apart is the job under the keys of its place in the stream.
func (j *job) apart() *job {
	other := *j
	other.fileApart()
	return &other
}

// fileApart files a job under its place while it is being made.
func (j *job) fileApart() {
	j.key, j.request.Key = messages.StandIn(j.stream, j.sequence, j.data)
	j.renewal, j.request.StandIn = messages.StandInRenewal(j.key), true
	j.request.Renewal = j.renewal
}

// standIn is the job filed under its place in the stream, since its own keys
// belong to another renewal or charge.
func (j *job) standIn(next journal.Transition) *job {
	other := j.apart()
	other.conflicts, other.nextAttemptAt = next.Conflicts, next.NextAttemptAt
	if next.Reason != j.request.Verdict {
		other.request.Verdict, other.problems = next.Reason, j.service.explain(next)
		if !next.DueAt.IsZero() {
			other.problems = []messages.Problem{{Path: "due_at", Message: fmt.Sprintf(
				"found %s, expected %s, which the first job of this period said: it is the same for all attempts", j.request.DueAt.UTC().Format(time.RFC3339Nano), next.DueAt.UTC().Format(time.RFC3339Nano))}}
		}
	}
	return other
}

// looked is the job with what Klarna says of the order that is to be captured.
func (j *job) looked(found journal.OrderFound) *job {
	other, wanted := *j, *j.request.Capture
	wanted.Found = &found
	other.request.Capture = &wanted
	return &other
}

// early says that the job is to be parked unless the journal knows better. It needs no turn at Klarna for that.
func (j *job) early(now time.Time) bool {
	return j.request.Verdict == "" && !j.service.afterOrder && j.request.DueAt.Sub(now) > journal.FiredEarly
}

// since is when the job could have been charged: when it was published, or later when it fell due. A result that comes
// before that is counted from its publication.
func (j *job) since(now time.Time) time.Time {
	if due := j.request.DueAt; !j.service.afterOrder && due.After(j.published) && !due.After(now) {
		return due
	}
	return j.published
}

// reference is the capture's own; "" where it has none, and of a charge.
func (j *job) reference() string {
	if j.capture == nil {
		return ""
	}
	return j.capture.Reference
}

// errors says why a job was rejected.
func (j *job) errors(next journal.Transition) []messages.Problem {
	if next.Reason == j.request.Verdict {
		return j.problems
	}
	if next.Reason == messages.ReasonTooClose && !next.Way.Free() {
		return j.tooClose(next.Way)
	}
	return j.service.explain(next)
}

// tooClose tells a person which period stands in the way of theirs.
func (j *job) tooClose(way journal.Way) []messages.Problem {
	_, period := way.By.Split()
	return []messages.Problem{{Path: "period", Message: fmt.Sprintf(
		"found %s, due %s, which is charged or may be, closer to this one, due %s, than half a cadence; where both are to be charged, publish this one again under a new message ID with off_cycle: true "+
			"(idempotency key %s)", period, way.DueAt.UTC().Format(time.DateOnly), j.request.DueAt.UTC().Format(time.DateOnly), way.Key)}}
}

// beside is the job with what stands beside it.
func (j *job) beside(way journal.Way) *job {
	other := *j
	other.request.Way = &way
	return &other
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
