package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// record is one record of the journal, read for people: what every kind has and what some have.
type record struct {
	Kind     messages.Kind `json:"-"`
	header   nats.Header
	body     []byte
	sequence uint64

	ID             messages.MessageID      `json:"id"`
	Account        messages.Account        `json:"account"`
	SubscriptionID messages.SubscriptionID `json:"subscription_id"`
	Period         messages.Period         `json:"period"`
	Attempt        int64                   `json:"attempt"`
	RenewalKey     messages.RenewalKey     `json:"renewal_key"`
	IdempotencyKey messages.IdempotencyKey `json:"idempotency_key"`
	OrderAmount    int64                   `json:"order_amount"`
	Currency       string                  `json:"purchase_currency"`
	At             time.Time               `json:"at"`

	OrderID       string             `json:"order_id"`
	Captured      *bool              `json:"captured"`
	CaptureBefore time.Time          `json:"capture_before"`
	CaptureID     string             `json:"capture_id"`
	Amount        int64              `json:"captured_amount"`  // of a capture
	Remaining     int64              `json:"remaining_amount"` // after it
	Corrects      string             `json:"corrects"`
	Reason        messages.Reason    `json:"reason"`
	Category      messages.Category  `json:"category"`
	NextAttemptAt *time.Time         `json:"next_attempt_at"`
	Errors        []messages.Problem `json:"errors"`
	LastError     string             `json:"last_error"`
	Undone        bool               `json:"undone"` // of a cancellation
}

func readRecord(m jetstream.Msg) (record, error) {
	address, err := messages.ParseRecordSubject(m.Subject())
	if err != nil {
		return record{}, fmt.Errorf("read record: %w", err)
	}
	meta, err := m.Metadata()
	if err != nil {
		return record{}, fmt.Errorf("read record: %w", err)
	}
	r := record{Kind: address.Kind, header: m.Headers(), sequence: meta.Sequence.Stream}
	if r.body, err = journal.WholeBody(m.Subject(), r.header.Get(messages.HeaderState), m.Data()); err != nil {
		r.body = m.Data() // of a newer version: what there is of it
	}
	if err := json.Unmarshal(r.body, &r); err != nil {
		return record{}, fmt.Errorf("read record %d of %s: %w", r.sequence, messages.StreamJournal, err)
	}
	return r, nil
}

// line is the record as one line of JSON: the event as other teams get it, its kind first.
func (r record) line() []byte {
	rest := r.body[1:]
	line := fmt.Appendf(nil, `{"kind":%q`, r.Kind)
	if len(r.body) > 2 {
		line = append(line, ',')
	}
	return append(append(line, rest...), '\n')
}

// recordLayout is that of records which come one by one: how wide the next will be is not known.
func recordLayout() cli.Layout {
	return cli.Layout{Widths: []int{8, 23, 20, 10, 14}, Prose: true, Indent: 10}
}

// cells are the record for a person.
func (r record) cells(p *cli.Page) []string {
	return []string{
		p.Paint(cli.Dim, r.At.Local().Format(time.TimeOnly)), p.Paint(tone(r.Kind), "renewals."+string(r.Kind)),
		cli.Printable(cmp.Or(string(r.SubscriptionID), "-")), cli.Printable(cmp.Or(string(r.Period), "-")), fmt.Sprintf("%14s", r.money()), r.outcome(),
	}
}

// tone is the colour of a kind of record, or of the phase that it leads to: whether somebody has to do something.
func tone(kind messages.Kind) cli.Style {
	switch kind {
	case messages.KindPaid, messages.KindCaptured:
		return cli.Green
	case messages.KindDunning, messages.KindCaptureFailed:
		return cli.Yellow
	case messages.KindUnresolved, messages.KindRejected:
		return cli.Red
	case messages.KindPending, messages.KindCharging, messages.KindCapturing:
		return cli.Cyan
	}
	return cli.Plain
}

// money is what was asked for: of a capture its own amount, which may be a part of the order's.
func (r record) money() string {
	return cli.Amount(cmp.Or(r.Amount, r.OrderAmount), r.Currency)
}

// outcome says what the record announces.
func (r record) outcome() string {
	outcome := string(r.Reason)
	switch r.Kind {
	case messages.KindPaid:
		outcome = "order " + r.OrderID
		if r.Captured != nil && !*r.Captured {
			outcome += ", to be captured" + before(r.CaptureBefore)
		}
	case messages.KindCapturing:
		outcome = "of order " + r.OrderID
	case messages.KindCaptured:
		outcome = fmt.Sprintf("order %s, capture %s, %s", r.OrderID, r.CaptureID, left(r.Remaining, r.Currency))
	case messages.KindCaptureFailed:
		outcome = fmt.Sprintf("order %s, %s, %s", r.OrderID, r.Reason, r.Category)
		if r.NextAttemptAt != nil {
			outcome += ", next capture " + r.NextAttemptAt.Format(time.DateOnly)
		} else {
			outcome += ", final"
		}
	case messages.KindPending:
		outcome = "order " + r.OrderID + ", Klarna is still deciding"
	case messages.KindDunning:
		outcome += ", " + string(r.Category)
		if r.NextAttemptAt != nil {
			outcome += ", next attempt " + r.NextAttemptAt.Format(time.DateOnly)
		} else {
			outcome += ", final"
		}
	case messages.KindCancelled:
		if r.Undone {
			outcome = "taken back: the period may be charged again"
		}
	case messages.KindUnresolved:
		if r.Amount > 0 {
			outcome = fmt.Sprintf("capture of order %s, %s", r.OrderID, r.Reason)
		}
	}
	if r.Corrects != "" {
		outcome += ", corrects " + r.Corrects
	}
	for i, problem := range r.Errors {
		if i == 3 {
			outcome += fmt.Sprintf(" and %d more", len(r.Errors)-i)
			break
		}
		outcome += ": " + problem.Path + " " + problem.Message
	}
	if r.LastError != "" {
		outcome += ": " + r.LastError
	}
	return cli.Printable(strings.TrimPrefix(outcome, ": "))
}

// printRecord writes one record, for a person or for a program.
func printRecord(t *terminal, r record, asJSON bool) error {
	if asJSON {
		_, err := t.stdout.Write(r.line())
		return err
	}
	p := t.page()
	return p.Lines(recordLayout().Format(r.cells(p), p.Width)...)
}

// isClaim says that a kind announces nothing: it is written before Klarna is asked.
func isClaim(kind messages.Kind) bool {
	return kind == messages.KindCharging || kind == messages.KindCapturing
}
