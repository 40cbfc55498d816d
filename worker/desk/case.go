package desk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A Case is a charge or a capture that is unresolved, or was before an operator settled it, with all that a verdict on it is
// compared with.
type Case struct {
	Renewal messages.Renewal
	State   journal.State
	// GaveUp is the record that left it to a person: what was asked for, and when.
	GaveUp messages.Unresolved
	// Since is when its key was claimed, less what clocks may be off: no record that was stored before names what was made under it, see
	// [Comparison.NamedSince]. Zero where the journal may have forgotten when that was.
	Since time.Time

	claimedAt time.Time       // by the worker's clock
	rulings   []made          // on it, the newest last
	captures  map[string]bool // that the renewal's other records have
}

// made is what a record says became of the key after it was given up.
type made struct {
	kind            messages.Kind
	order, captured string
}

// ErrNeverUnresolved means that a renewal has no record of having been left to a person.
var ErrNeverUnresolved = errors.New("it was never unresolved")

// NewCase reads the case from all records of a renewal, the oldest first. It is the last one that was left to a person.
func NewCase(r messages.Renewal, entries []journal.Entry) (Case, error) {
	c := Case{Renewal: r, captures: map[string]bool{}}
	gaveUp := -1
	for i, e := range entries {
		if kind(e) == messages.KindUnresolved {
			gaveUp = i
		}
		c.State = e.State
	}
	if gaveUp < 0 {
		return c, ErrNeverUnresolved
	}
	event, err := messages.DecodeEvent(messages.KindUnresolved, entries[gaveUp].Body)
	if err != nil {
		return c, fmt.Errorf("record %d of %s: %w", entries[gaveUp].Sequence, messages.StreamJournal, err)
	}
	c.GaveUp = event.(messages.Unresolved)
	for i, e := range entries {
		var about naming
		if err := json.Unmarshal(e.Body, &about); err != nil {
			return c, fmt.Errorf("record %d of %s: %w", e.Sequence, messages.StreamJournal, err)
		}
		switch own := about.IdempotencyKey == c.GaveUp.IdempotencyKey; {
		case !own && kind(e) == messages.KindCaptured:
			c.captures[about.CaptureID] = true
		case own && c.Since.IsZero():
			c.Since, c.claimedAt = e.Time.Add(-2*clockMargin), about.At
		case own && i > gaveUp:
			c.rulings = append(c.rulings, made{kind(e), about.OrderID, about.CaptureID})
		}
	}
	if c.State.Claim != nil && c.State.Claim.Restored {
		c.Since = time.Time{}
	}
	return c, nil
}

// clockMargin is how far the clock of a worker may be off Klarna's: a worker that is more than a minute off the broker's does not
// send, and Klarna's may be as far off on the other side.
const clockMargin = 2 * time.Minute

// window is when what was asked for can have been made, by the clock of the workers. until is zero where nobody knows.
func (c Case) window() (from, until time.Time) {
	from = c.GaveUp.FirstSentAt
	if from.IsZero() || !c.claimedAt.IsZero() && c.claimedAt.Before(from) {
		from = c.claimedAt
	}
	return from, c.GaveUp.SearchUntil
}

// within says that what was made at a moment can be what was asked for, as [Case.since] and [Case.until] do for either end.
func (c Case) within(when time.Time) bool { return c.since(when) && c.until(when) }

func (c Case) since(when time.Time) bool {
	from, _ := c.window()
	return !when.IsZero() && !when.Before(from.Add(-clockMargin))
}

func (c Case) until(when time.Time) bool {
	_, until := c.window()
	return !when.IsZero() && (until.IsZero() || !when.After(until.Add(clockMargin)))
}

func kind(e journal.Entry) messages.Kind {
	a, err := messages.ParseRecordSubject(e.Subject)
	if err != nil {
		return ""
	}
	return a.Kind
}

// OfCapture says that it is a capture.
func (c Case) OfCapture() bool { return c.GaveUp.CapturedAmount > 0 || c.capture() != nil }

// capture is what was to be captured; nil of a charge.
func (c Case) capture() *journal.Capture {
	if s := c.State; s.Holds(c.GaveUp.IdempotencyKey) {
		return s.Claim.Capture
	}
	return nil
}

// Order is the one to look at for a verdict; "" where nobody knows of any. Against a ruling that is to be corrected it is that one's.
func (c Case) Order(r Ruling) string {
	if r.Verdict == VerdictPaid {
		return r.OrderID
	}
	if capture := c.capture(); capture != nil {
		return capture.OrderID
	}
	order := c.GaveUp.OrderID
	for _, ruled := range c.rulings {
		order = cmp.Or(ruled.order, order)
	}
	return order
}

// contradicted are the orders beside that one which records name for the same charge: each must have come to nothing where the verdict holds.
// Of one that Klarna named itself a comparison with paid says so already.
func (c Case) contradicted(r Ruling) (orders []string) {
	if c.OfCapture() {
		return nil // of the same order
	}
	known := []string{c.Order(r), ""}
	add := func(order string) {
		if !slices.Contains(known, order) {
			known, orders = append(known, order), append(orders, order)
		}
	}
	if r.Verdict == VerdictNotCharged {
		add(c.GaveUp.OrderID)
	}
	for _, ruled := range c.rulings {
		add(ruled.order)
	}
	return orders
}

// ruledCaptured says that a ruling on it named a capture, which no record of another job has.
func (c Case) ruledCaptured(id string) bool {
	return !c.captures[id] && slices.ContainsFunc(c.rulings, func(ruled made) bool { return ruled.captured == id })
}

// Settled says that the case is settled, and as what, in the words of [Ruling]; "" while it is not.
func (c Case) Settled() (as Ruling) {
	if len(c.rulings) == 0 {
		return as
	}
	switch last := c.rulings[len(c.rulings)-1]; last.kind {
	case messages.KindPaid:
		return Ruling{Verdict: VerdictPaid, OrderID: last.order}
	case messages.KindDunning:
		return Ruling{Verdict: VerdictNotCharged}
	case messages.KindCaptured:
		return Ruling{Verdict: VerdictCaptured, CaptureID: last.captured}
	case messages.KindCaptureFailed:
		return Ruling{Verdict: VerdictNotCaptured}
	}
	return as
}

// Write settles the case in the journal as it was read: captured is for paid alone, and says that none of its money is left to capture.
// Errors are as with [journal.Journal.ResolvePaid].
func (c Case) Write(ctx context.Context, records *journal.Journal, r Ruling, captured bool, d journal.Decision) error {
	d.Rev = c.State.Rev
	switch r.Verdict {
	case VerdictPaid:
		return records.ResolvePaid(ctx, c.Renewal, r.OrderID, captured, d)
	case VerdictNotCharged:
		return records.ResolveNotCharged(ctx, c.Renewal, d)
	case VerdictCaptured:
		return records.ResolveCaptured(ctx, c.Renewal, r.CaptureID, d)
	case VerdictNotCaptured:
		return records.ResolveNotCaptured(ctx, c.Renewal, d)
	}
	return fmt.Errorf("verdict %q: expected one of the four", r.Verdict)
}
