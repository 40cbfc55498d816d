package desk

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
)

// JobKind tells the two kinds of jobs apart, each of which has a subject of its own.
type JobKind string

const (
	ChargeJob  JobKind = "charge"
	CaptureJob JobKind = "capture" // takes the money of an order that a charge only authorised
)

// KindOf is the kind of the jobs on a subject. What is not known to be a capture is a charge.
func KindOf(subject string) JobKind {
	if messages.IsCapture(subject) {
		return CaptureJob
	}
	return ChargeJob
}

// sentAs is the kind of a job in the queue by where it was sent, be that for an account or not.
func sentAs(subject string) JobKind {
	if strings.HasPrefix(subject, messages.CaptureSubject("")) {
		return CaptureJob
	}
	return ChargeJob
}

// Subject is where an account's jobs of this kind are published.
func (k JobKind) Subject(account messages.Account) string {
	if k == CaptureJob {
		return messages.CaptureSubject(account)
	}
	return messages.DueSubject(account)
}

// JobReading is what could be read of a job of either kind.
type JobReading struct {
	messages.Reading                  // of a capture what both kinds have
	Capture          messages.Capture // zero for a charge
}

// Untimely says why every worker would reject a job that is valid in itself at a time, with a journal that remembers so much;
// a capture never is.
func (r JobReading) Untimely(at time.Time, memory time.Duration) []messages.Problem {
	if len(r.Problems) > 0 || r.Job.DueAt.IsZero() {
		return nil
	}
	why, problem := r.Job.Untimely(at, memory)
	if why == "" {
		return nil
	}
	problem.Message += " (" + string(why) + ")"
	problem.Kind = messages.WarningKind(why)
	return []messages.Problem{problem}
}

func (k JobKind) read(payload []byte, header map[string][]string) JobReading {
	return k.ReadBy(messages.Rules{}, payload, header)
}

// ReadBy reads a job of this kind by an account's rules. It takes any bytes and any header.
func (k JobKind) ReadBy(rules messages.Rules, payload []byte, header map[string][]string) JobReading {
	if k != CaptureJob {
		return JobReading{Reading: rules.Read(payload, header)}
	}
	r := rules.ReadCapture(payload, header)
	return JobReading{Capture: r.Capture, Reading: r.Common()}
}

// Message is what publishes a job that was read without problems, as [messages.NewMessage] makes it for everybody else.
func (k JobKind) Message(rules messages.Rules, account messages.Account, r JobReading) (*nats.Msg, error) {
	if k == CaptureJob {
		return messages.NewCaptureMessage(account, r.Capture)
	}
	return rules.NewMessage(account, r.Job)
}

// Mistaken says that an invalid job looks like one of the other kind, or like what is published around one, and what to do
// about it; "" when it does not.
func (k JobKind) Mistaken(payload []byte) string {
	if bytes.HasPrefix(payload, []byte("[")) {
		return "this looks like an array of jobs: write one job a line, without the brackets and the commas between them, as `jq -c '.[]'` does"
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil {
		return ""
	}
	charge := fields["customer_token"] != nil || fields["order"] != nil || fields["due_at"] != nil
	switch {
	case fields["specversion"] != nil:
		return "this looks like an event in CloudEvents' structured mode: put its data alone here, which is the job"
	case k == CaptureJob && charge:
		return "this looks like the job of a charge: leave --capture out"
	case k == ChargeJob && !charge && fields["subscription_id"] != nil:
		return "this looks like a capture job: add --capture"
	}
	return ""
}
