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
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// history is everything that is known of one renewal.
type history struct {
	renewal messages.Renewal
	state   journal.State
	last    uint64 // sequence of the last record
	records []episode
	entries []journal.Entry // the records as the journal has them

	unreadable []*journal.UnreadableError // records that are left out
	jobs       []desk.WaitingJob
}

// name is the renewal as a person says it.
func (h history) name() string {
	about := h.about()
	return fmt.Sprintf("period %s of subscription %s (%s)", cli.Printable(string(about.Period)), cli.Printable(string(about.SubscriptionID)), cli.Amount(about.OrderAmount, about.Currency))
}

// episode is a record with what only an operator asks for.
type episode struct {
	record
	Tries          int    `json:"tries"`
	Deliveries     int    `json:"deliveries"`
	Worker         string `json:"worker"`
	FraudStatus    string `json:"fraud_status"`
	UndecidedTries int    `json:"undecided_tries"`
	Actor          string `json:"actor"`
	Verified       *bool  `json:"verified"`
	Note           string `json:"note"`
	Reference      string `json:"merchant_reference1"`
	Reference2     string `json:"merchant_reference2"`

	SearchUntil time.Time `json:"search_until"` // of what is unresolved
}

// historyOf reads a renewal. Where the error is about records that cannot be read, the history has what can be.
func historyOf(ctx context.Context, f desk.Finder, r messages.Renewal) (history, error) {
	h := history{renewal: r, state: journal.State{Phase: journal.PhaseNone}}
	if r == "" {
		return h, nil // of a job without a valid identity
	}
	entries, err := f.Journal.Records(ctx, r)
	if h.unreadable = journal.Unreadable(err); err != nil && h.unreadable == nil {
		return h, err
	}
	h.entries = entries
	for _, e := range entries {
		address, err := messages.ParseRecordSubject(e.Subject)
		if err != nil {
			return h, fmt.Errorf("read record: %w", err)
		}
		one := episode{record: record{Kind: address.Kind, body: e.Body, sequence: e.Sequence}}
		if err := json.Unmarshal(e.Body, &one); err != nil {
			return h, fmt.Errorf("read record %d of %s: %w", e.Sequence, messages.StreamJournal, err)
		}
		h.records = append(h.records, one)
		h.state, h.last = e.State, e.Sequence
	}
	return h, err
}

// about is what names the renewal: its last record, or else a job that waits.
func (h history) about() episode {
	if n := len(h.records); n > 0 {
		last := h.records[n-1]
		for _, e := range slices.Backward(h.records) {
			if e.Currency != "" { // an operator's cancellation has none
				last.OrderAmount, last.Currency, last.Reference, last.Reference2 = e.OrderAmount, e.Currency, e.Reference, e.Reference2
				break
			}
		}
		return last
	}
	if len(h.jobs) == 0 {
		subscription, period := h.renewal.Split()
		return episode{record: record{SubscriptionID: subscription, Period: period}}
	}
	j := h.jobs[0]
	return episode{record: record{SubscriptionID: j.SubscriptionID, Period: j.Period, Account: j.Account}}
}

// of is the last record of a kind.
func (h history) of(kind messages.Kind) episode {
	for _, e := range slices.Backward(h.records) {
		if e.Kind == kind {
			return e
		}
	}
	return episode{}
}

// capture is what a renewal's last claim was to capture, as a person says it.
func (h history) capture() string {
	c := h.state.Claim.Capture
	what := "the rest" // Klarna has not been asked yet how much that is
	if c.Amount > 0 {
		what = cli.Amount(c.Amount, h.about().Currency)
	}
	return fmt.Sprintf("%s of order %s", what, cli.Printable(c.OrderID))
}

// printJSON writes the records as other teams get them, the jobs that wait after them.
func (h history) printJSON(w io.Writer) error {
	for _, e := range h.records {
		if _, err := w.Write(e.line()); err != nil {
			return err
		}
	}
	for _, j := range h.jobs {
		if err := json.NewEncoder(w).Encode(j); err != nil {
			return err
		}
	}
	return nil
}

// claimed is the outcome of a record with which a delivery begins. What it repeats of the last one stands a line above.
func (e episode) claimed() string {
	if e.Kind == messages.KindCapturing {
		return "claimed to capture " + e.money()
	}
	return "claimed"
}

// told is the outcome of a record, with what an operator adds to it.
func (e episode) told() string {
	var parts []string
	if e.Kind == messages.KindCaptured || e.Kind == messages.KindCaptureFailed {
		parts = append(parts, e.money())
	}
	if text := e.outcome(); text != "" {
		parts = append(parts, text)
	}
	if e.FraudStatus != "" {
		parts = append(parts, "fraud status "+e.FraudStatus)
	}
	if e.UndecidedTries > 0 {
		parts = append(parts, fmt.Sprintf("undecided tries: %d", e.UndecidedTries))
	}
	if e.Actor != "" {
		parts = append(parts, "by "+e.Actor)
	}
	switch {
	case e.Verified == nil:
	case *e.Verified:
		parts = append(parts, "verified at Klarna")
	case e.Actor == reconcile.Actor:
		parts = append(parts, "proven by Klarna's settlements")
	default:
		parts = append(parts, "by word alone")
	}
	if e.Note != "" {
		parts = append(parts, "note: "+e.Note)
	}
	return cli.Printable(strings.Join(parts, ", "))
}
