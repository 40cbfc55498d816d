package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// subscription is what is known of a customer's periods.
type subscription struct {
	id       messages.SubscriptionID
	periods  []desk.Standing // the newest
	older    int             // further ones that were not read
	jobs     []desk.WaitingJob
	parked   bool // a job of it is
	complete bool // the queue was searched
	searched bool // the journal was, for a message ID of this name
}

func (s *subscription) known() bool { return len(s.periods)+len(s.jobs) > 0 || s.parked }

// print is for a person: a line for each period, then what waits.
func (s subscription) print(w *cli.Page, now time.Time) {
	if len(s.periods) == 0 {
		fmt.Fprintf(w, "subscription %s: nothing is recorded of it yet\n", cli.Printable(string(s.id)))
	} else {
		fmt.Fprintf(w, "subscription %s: periods with records: %d, the newest first\n\n", cli.Printable(string(s.id)), len(s.periods)+s.older)
		table := cli.NewTable("PERIOD", "DUE (UTC)", "STATE", "AMOUNT", "RECORDS", "OUTCOME")
		table.Prose = true
		for _, p := range s.periods {
			line := lineOf(p)
			table.Add(cli.Printable(string(line.Period)), line.due(), w.Paint(tone(messages.Kind(line.Phase)), line.Phase), cli.Amount(line.OrderAmount, line.Currency), p.Records, line.outcome)
		}
		table.Print(w)
	}
	if len(s.jobs) > 0 {
		fmt.Fprintln(w)
	}
	for _, j := range s.jobs {
		fmt.Fprintf(w, "  queue: period %s: %s\n", cli.Printable(string(j.Period)), cli.Printable(queued(j, s.state(j.Renewal), now)))
	}
}

// printJSON writes a line for each period, then the jobs that wait.
func (s subscription) printJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, p := range s.periods {
		if err := encoder.Encode(lineOf(p)); err != nil {
			return err
		}
	}
	for _, j := range s.jobs {
		if err := encoder.Encode(j); err != nil {
			return err
		}
	}
	return nil
}

// state is that of a period which is listed.
func (s subscription) state(r messages.Renewal) journal.State {
	i := slices.IndexFunc(s.periods, func(p desk.Standing) bool { return p.Renewal == r })
	if i < 0 {
		return journal.State{Phase: journal.PhaseNone}
	}
	return s.periods[i].State
}

// periodLine is a period in one line.
type periodLine struct {
	Kind           string                  `json:"kind"` // "period": jobs that wait are in the same list
	SubscriptionID messages.SubscriptionID `json:"subscription_id"`
	Period         messages.Period         `json:"period"`
	RenewalKey     messages.RenewalKey     `json:"renewal_key"`
	Account        messages.Account        `json:"account"`
	DueAt          time.Time               `json:"due_at,omitzero"`
	Phase          string                  `json:"phase"`
	OrderAmount    int64                   `json:"order_amount,omitempty"`
	Currency       string                  `json:"purchase_currency,omitempty"`
	OrderID        string                  `json:"order_id,omitempty"`
	Reason         messages.Reason         `json:"reason,omitempty"`
	NextAttemptAt  *time.Time              `json:"next_attempt_at,omitempty"`
	Records        uint64                  `json:"records"`
	At             time.Time               `json:"at,omitzero"` // of the record that led to the phase

	outcome string // for a person
}

func lineOf(s desk.Standing) periodLine {
	subscription, period := s.Renewal.Split()
	line := periodLine{
		Kind: "period", SubscriptionID: subscription, Period: period, RenewalKey: s.Renewal.Key(),
		DueAt: s.Due.UTC(), Phase: string(s.State.Phase), Records: s.Records,
	}
	if s.Due.IsZero() {
		line.DueAt = time.Time{}
	}
	var r record
	if s.Unreadable == nil {
		if err := json.Unmarshal(s.Record.Body, &r); err != nil {
			s.Unreadable = &journal.UnreadableError{Sequence: s.Record.Sequence, Subject: s.Record.Subject, Err: err}
		}
	}
	if s.Unreadable != nil {
		line.Phase, line.outcome = "unreadable", cli.Printable(s.Unreadable.Error())
		return line
	}
	if a, err := messages.ParseRecordSubject(s.Record.Subject); err == nil {
		r.Kind = a.Kind
	}
	line.Account, line.OrderAmount, line.Currency, line.OrderID, line.Reason = r.Account, r.OrderAmount, r.Currency, r.OrderID, r.Reason
	line.NextAttemptAt, line.At, line.outcome = r.NextAttemptAt, r.At, r.outcome()
	return line
}

// due is the day, which is what a subscription's periods differ in.
func (l periodLine) due() string {
	if l.DueAt.IsZero() {
		return "-"
	}
	return l.DueAt.Format(time.DateOnly)
}

// mostInstead is how many periods are named in place of one that there is not.
const mostInstead = 6

// periodsInstead says which periods the subscriptions have that a text can name as SUBSCRIPTION/PERIOD, or as SUBSCRIPTION, in a
// clause for the end of a sentence; "" where the journal knows none of them.
func periodsInstead(ctx context.Context, f desk.Finder, text string) (string, error) {
	var say strings.Builder
	for i := range len(text) + 1 {
		if i != len(text) && (text[i] != '/' || i == 0) {
			continue
		}
		periods, err := f.Periods(ctx, messages.SubscriptionID(text[:i]))
		if err != nil {
			return "", err
		}
		var names []string
		for _, p := range periods[:min(len(periods), mostInstead)] {
			names = append(names, cli.Printable(string(p.Name())))
		}
		if more := len(periods) - len(names); more > 0 {
			names = append(names, fmt.Sprintf("and %d older ones", more))
		}
		if len(names) > 0 {
			fmt.Fprintf(&say, "; subscription %s has the periods %s", cli.Printable(text[:i]), strings.Join(names, ", "))
		}
	}
	return say.String(), nil
}
