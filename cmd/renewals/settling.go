package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// lookTimeout is for one question to Klarna: somebody is waiting for the answer.
const lookTimeout = 30 * time.Second

// merchants finds the accounts whose orders are to be looked at.
func merchants(a cli.AccountSettings, s *cli.Settings, log zerolog.Logger) func(messages.Account) (desk.Merchant, error) {
	return func(name messages.Account) (none desk.Merchant, _ error) {
		entries, err := a.Entries(s)
		if err != nil {
			return none, err
		}
		for _, e := range entries {
			if e.Name != string(name) {
				continue
			}
			account, err := e.Client(lookTimeout, a.AllowHTTP, log)
			if err != nil {
				return none, cli.Usagef("%w; the order is looked up at Klarna first, with the settings of account %s", err, name)
			}
			return desk.Merchant{Orders: account.Klarna, Endpoint: account.Endpoint, ID: account.Merchant, Rate: account.Rate}, nil
		}
		return none, cli.Usagef("account %s: not configured here; the order is looked up at Klarna first: set KLARNA_ACCOUNT=%[1]s and its endpoint, user name and key, or RENEWALS_CONFIG to the file that lists it", name)
	}
}

// settling is what the acts of resolve need.
type settling struct {
	finder   desk.Finder
	dead     desk.DeadLetters
	checker  desk.Checker
	decision cli.DecisionSettings
	correct  bool
	t        *terminal // what settles is told on its page, as JSON where asJSON says so
	aside    *cli.Page // everything else
	asJSON   bool
}

// unresolved is the case that the history tells of.
func (h history) unresolved() (desk.Case, error) { return desk.NewCase(h.renewal, h.entries) }

// named adds to a comparison whether another record names what the ruling says was made.
func (s *settling) named(ctx context.Context, c desk.Case, r desk.Ruling, comparison *desk.Comparison) (*desk.Mentions, error) {
	if r.Made() == "" {
		return nil, nil
	}
	mentions := desk.NewMentions(s.finder, comparison.NamedSince(c), r.Made())
	if err := mentions.Read(ctx); err != nil {
		return nil, err
	}
	comparison.Named(mentions.Elsewhere(r.Made(), c.GaveUp.IdempotencyKey))
	return mentions, nil
}

// errNamed means that another record has come to name the same order, or capture.
var errNamed = errors.New("is named by another record meanwhile")

// write records a decision, shows its record, and drops the dead letters of what was settled. Between what was looked at and
// the record nobody else may have named the same order, or settled the renewal. recorded is true with an error where only something after
// the record failed.
func (s *settling) write(ctx context.Context, c desk.Case, r desk.Ruling, comparison desk.Comparison, mentions *desk.Mentions, captured bool, note string) (recorded bool, _ error) {
	if err := s.unnamed(ctx, c, r, mentions); err != nil {
		return false, fmt.Errorf("%w: nothing was changed, look again", err)
	}
	decision := s.decision.Decision(time.Now())
	decision.Corrects, decision.Seen, decision.Verified = s.correct, comparison.Seen, comparison.Verified()
	decision.Note = cmp.Or(note, decision.Note)
	// Once begun it is carried to its end: who interrupts it would not know whether it is recorded.
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), decisionTimeout)
	defer cancel()
	if err := c.Write(writing, s.finder.Journal, r, captured, decision); err != nil {
		return false, decisionProblem("resolve", err)
	}
	after, err := announce(writing, s.finder, s.t, c.Renewal, s.asJSON)
	if err != nil {
		return true, err
	}
	if err = s.clear(writing, c.GaveUp.IdempotencyKey); err == nil {
		err = printBlocked(writing, s.aside, s.dead, after.state, messages.ReasonBlockedByUnresolved)
	}
	if err != nil {
		return true, err
	}
	if err := s.unnamed(writing, c, r, mentions); err != nil {
		return true, fmt.Errorf("recorded, but %w: one of the two is wrong, put it right with `renewals resolve --correct`", err)
	}
	return true, nil
}

// unnamed reads on, and fails where another record has come to name the same order, or capture, since it was looked for.
func (s *settling) unnamed(ctx context.Context, c desk.Case, r desk.Ruling, mentions *desk.Mentions) error {
	if mentions == nil {
		return nil
	}
	was := mentions.Elsewhere(r.Made(), c.GaveUp.IdempotencyKey)
	if err := mentions.Read(ctx); err != nil {
		return err
	}
	if at := mentions.Elsewhere(r.Made(), c.GaveUp.IdempotencyKey); at != nil && was == nil {
		return fmt.Errorf("%s %w: %s/%s, record %d", cli.Printable(r.Made()), errNamed, cli.Printable(string(at.SubscriptionID)), cli.Printable(string(at.Period)), at.Sequence)
	}
	return nil
}

// clear drops the dead letters of what was settled.
func (s *settling) clear(ctx context.Context, key messages.IdempotencyKey) error {
	dropped, err := s.dead.DropSettled(ctx, key)
	for _, number := range dropped {
		fmt.Fprintf(s.aside, "dead letter %d dropped\n", number)
	}
	return err
}

// printComparison shows what was asked for beside what Klarna shows.
func printComparison(w *cli.Page, c desk.Comparison, account messages.Account) {
	if c.Seen != nil {
		fmt.Fprintf(w, "Klarna's order %s of account %s, looked up %s:\n", cli.Printable(c.Seen.OrderID), account, second(c.Seen.LookedAt))
	}
	table := cli.NewTable("", "THE JOB SAYS", "KLARNA SAYS", "FITS")
	for _, r := range c.Rows {
		fits := "yes"
		if !r.Fits {
			fits = "NO"
		}
		table.Add("  "+r.What, cli.Printable(r.Job), cli.Printable(r.Klarna), fits)
	}
	table.Print(w)
}

// announce shows the record that a decision led to, and returns how the renewal stands with it.
func announce(ctx context.Context, f desk.Finder, t *terminal, r messages.Renewal, asJSON bool) (history, error) {
	h, err := historyOf(ctx, f, r)
	if err != nil && (h.stuck() || len(h.records) == 0) {
		return h, fmt.Errorf("recorded, but not read again: %w", err)
	}
	last := h.records[len(h.records)-1]
	if asJSON {
		return h, printRecord(t, last.record, true)
	}
	_, err = fmt.Fprintf(t.page(), "recorded: %s %s\n", last.Kind, last.told())
	return h, err
}

// printBlocked points to the jobs that were turned away for a reason which a decision has just taken away.
func printBlocked(ctx context.Context, w io.Writer, d desk.DeadLetters, s journal.State, why messages.Reason) error {
	blocked, err := d.Blocked(ctx, s, why)
	for _, now := range slices.Sorted(maps.Keys(blocked)) {
		var sequences []string
		for _, l := range blocked[now] {
			sequences = append(sequences, fmt.Sprint(l.Number))
		}
		fmt.Fprintf(w, "jobs that were turned away are in the dead letters: %s %s\n", now, strings.Join(sequences, " "))
	}
	return err
}
