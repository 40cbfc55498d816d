package main

import (
	"encoding/json"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// jobKind tells the two kinds of jobs apart, each of which has a subject of its own.
type jobKind string

const (
	chargeJob  jobKind = "charge"
	captureJob jobKind = "capture" // takes the money of an order that a charge only authorised
)

// kindOf is the kind of the jobs on a subject. What is not known to be a capture is a charge.
func kindOf(subject string) jobKind {
	if _, err := messages.ParseCaptureSubject(subject); err == nil {
		return captureJob
	}
	return chargeJob
}

func (k jobKind) subject(account messages.Account) string {
	if k == captureJob {
		return messages.CaptureSubject(account)
	}
	return messages.DueSubject(account)
}

// jobReading is what could be read of a job of either kind.
type jobReading struct {
	messages.Reading                  // of a capture what both kinds have
	Capture          messages.Capture // zero for a charge
}

// untimely says why every worker would reject a job that is valid in itself at a time, with a journal of the default age;
// a capture never is.
func (r jobReading) untimely(at time.Time) []messages.Problem {
	if len(r.Problems) > 0 || r.Job.DueAt.IsZero() {
		return nil
	}
	why, problem := r.Job.Untimely(at, messages.DefaultMemory)
	if why == "" {
		return nil
	}
	problem.Message += " (" + string(why) + ")"
	problem.Kind = messages.WarningKind(why)
	return []messages.Problem{problem}
}

func (k jobKind) read(payload []byte, header map[string][]string) jobReading {
	return k.readBy(messages.Rules{}, payload, header)
}

func (k jobKind) readBy(rules messages.Rules, payload []byte, header map[string][]string) jobReading {
	if k != captureJob {
		return jobReading{Reading: rules.Read(payload, header)}
	}
	r := rules.ReadCapture(payload, header)
	return jobReading{Capture: r.Capture, Reading: r.Common()}
}

// mistaken says that an invalid job looks like one of the other kind, and what to do about it; "" when it does not.
func (k jobKind) mistaken(payload []byte) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil {
		return ""
	}
	charge := fields["customer_token"] != nil || fields["order"] != nil || fields["due_at"] != nil
	switch {
	case k == captureJob && charge:
		return "this looks like the job of a charge: leave --capture out"
	case k == chargeJob && !charge && fields["subscription_id"] != nil:
		return "this looks like a capture job: add --capture"
	}
	return ""
}

// jobSettings say which kind of jobs a file holds.
type jobSettings struct {
	Capture bool `help:"Capture jobs, which take the money of orders made without auto_capture, instead of charges."`

	MixedCadences bool   `help:"For an account with mixed_cadences: allow: an order may recur in several ways."`
	MerchantName  string `help:"Warn where it is in a subscription's name."`
}

// rules are those of the account that the jobs are for.
func (s jobSettings) rules() messages.Rules {
	return messages.Rules{MixedCadences: s.MixedCadences, MerchantName: s.MerchantName}
}

func (s jobSettings) kind() jobKind {
	if s.Capture {
		return captureJob
	}
	return chargeJob
}
