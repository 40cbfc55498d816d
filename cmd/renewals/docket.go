package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// docket is what becomes of the lines of a file of verdicts.
type docket struct {
	*settling
	file     string
	entries  []ruled
	mentions *desk.Mentions
	tally    map[string]int
}

// ruled is a line with the case that it is about.
type ruled struct {
	desk.Line
	unresolved desk.Case
	comparison desk.Comparison
	fate       string // one of the following, "" while it is to be settled
}

const (
	fateSettled = "settled"
	fateAlready = "already settled the same way"
	fateRefused = "refused"
	fateOpen    = "left open, without a verdict"
)

// many settles what a file says. Every line is looked up before anything is asked or recorded, and what is recorded is
// said line by line: whoever interrupts it runs the same command again for what is left.
func (c *resolveCmd) many(ctx context.Context, acts *settling, t *terminal) error {
	in, name, _, err := openInput(c.From, t)
	if err != nil {
		return err
	}
	defer in.Close()
	lines, err := desk.ReadLines(cli.Interruptible(ctx, in))
	if err != nil {
		return fmt.Errorf("%s: %w; nothing was recorded", name, err)
	}
	d := &docket{settling: acts, file: name, tally: map[string]int{}}
	for _, l := range lines {
		d.entries = append(d.entries, ruled{Line: l})
	}
	if err := d.look(ctx); err != nil {
		return err
	}
	if question := d.question(); question != "" {
		if err := t.agreed(ctx, c.Decision.Yes, question); err != nil {
			return err
		}
	}
	err = d.settle(ctx)
	d.summary()
	if err == nil && d.tally[fateRefused] > 0 {
		err = cli.ErrReported
	}
	return err
}

// look compares every line with Klarna, with the other lines and with the journal, and says what does not fit.
func (d *docket) look(ctx context.Context) error {
	bar := cli.NewProgress(d.t.stderr, "lines looked up at Klarna", int64(len(d.entries)))
	for i := range d.entries {
		if err := d.consider(ctx, &d.entries[i]); err != nil {
			bar.Done()
			return err
		}
		bar.Set(int64(i + 1))
	}
	bar.Done()
	d.contradictions()
	d.repetitions()
	return d.elsewhere(ctx)
}

// contradictions refuses each line beside which another says something else of the same charge or capture: one of the two is wrong, and
// nobody but their author knows which.
func (d *docket) contradictions() {
	about := map[messages.IdempotencyKey][]*ruled{}
	for i := range d.entries {
		if e := &d.entries[i]; e.key() != "" {
			about[e.key()] = append(about[e.key()], e)
		}
	}
	for i := range d.entries {
		e := &d.entries[i]
		for _, other := range about[e.key()] {
			if e.fate == "" && other.Problem != nil {
				d.refuse(e, fmt.Sprintf("line %d is about it, too, and says nothing that can be taken", other.Number))
			}
			if e.fate == "" && !other.Same(e.Ruling) {
				d.refuse(e, fmt.Sprintf("line %d says otherwise of it: %s", other.Number, said(other.Ruling)))
			}
		}
	}
}

// key is that of the charge or the capture that a line says something of; "" where it says nothing, or that is not known.
func (e ruled) key() messages.IdempotencyKey {
	key := e.unresolved.GaveUp.IdempotencyKey
	if e.Open() || e.Key != "" && e.Key != key {
		return ""
	}
	return key
}

// repetitions refuses each line that is about what an earlier one is about, or names the order or the capture of one.
func (d *docket) repetitions() {
	made, renewals := map[string]int{}, map[messages.IdempotencyKey]int{}
	for i := range d.entries {
		e := &d.entries[i]
		if e.fate != "" {
			continue
		}
		key, id := e.unresolved.GaveUp.IdempotencyKey, e.Made()
		switch {
		case renewals[key] > 0:
			d.refuse(e, fmt.Sprintf("line %d is about it, too", renewals[key]))
		case id != "" && made[id] > 0:
			d.refuse(e, fmt.Sprintf("line %d names %s, too", made[id], id))
		default:
			renewals[key], made[id] = e.Number, e.Number
		}
	}
}

// consider finds what a line is about and asks Klarna. Only what keeps the whole file from being looked at is an error.
func (d *docket) consider(ctx context.Context, e *ruled) error {
	if e.Open() {
		e.fate = fateOpen
		return nil
	}
	if e.Problem != nil {
		d.refuse(e, e.Problem.Error())
		if e.Name() == "" {
			return nil
		}
	}
	h, err := d.find(ctx, e.Line)
	if err == nil {
		e.unresolved, err = h.unresolved()
	}
	var usage cli.UsageError
	switch key := e.unresolved.GaveUp.IdempotencyKey; {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case e.Problem != nil:
		return nil // found for what other lines say of it
	case err != nil:
		d.refuse(e, err.Error())
		return nil
	case e.Key != "" && e.Key != key:
		d.refuse(e, fmt.Sprintf("the line is about key %s, what was unresolved last is key %s", e.Key, key))
		return nil
	}
	switch was := e.unresolved.Settled(); {
	case was.Verdict != "" && e.Same(was):
		e.fate = fateAlready
		return nil
	case was.Verdict != "":
		d.refuse(e, fmt.Sprintf("it is settled as %s already", said(was)))
		return nil
	}
	if err := h.takes(e.Verdict); err != nil {
		d.refuse(e, err.Error())
		return nil
	}
	e.comparison, err = d.checker.Look(ctx, e.unresolved, e.Ruling)
	switch no := e.comparison.Differences(); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &usage):
		return err // it would be so of every line
	case err != nil:
		d.refuse(e, err.Error())
	case len(no) > 0:
		d.refuse(e, strings.Join(no, "; "))
	}
	return nil
}

// said is a ruling in a few words.
func said(r desk.Ruling) string { return strings.TrimSpace(string(r.Verdict) + " " + r.Made()) }

// find reads the renewal of a line.
func (d *docket) find(ctx context.Context, l desk.Line) (history, error) {
	if l.Subscription == "" || l.Period == "" {
		return one(ctx, d.finder, l.ID)
	}
	h, err := historyOf(ctx, d.finder, messages.NewRenewal(l.Subscription, l.Period))
	if err == nil && h.last == 0 {
		err = fmt.Errorf("no record of it in %s", messages.StreamJournal)
	}
	return h, err
}

// elsewhere reads the journal once for all the orders and captures that are to be recorded.
func (d *docket) elsewhere(ctx context.Context) error {
	var ids []string
	var since []time.Time
	for _, e := range d.entries {
		if e.fate == "" && e.Made() != "" {
			ids, since = append(ids, e.Made()), append(since, e.comparison.NamedSince(e.unresolved))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	d.mentions = desk.NewMentions(d.finder, slices.MinFunc(since, time.Time.Compare), ids...)
	if err := d.mentions.Read(ctx); err != nil {
		return err
	}
	for i := range d.entries {
		e := &d.entries[i]
		if e.fate != "" || e.Made() == "" {
			continue
		}
		e.comparison.Named(d.mentions.Elsewhere(e.Made(), e.unresolved.GaveUp.IdempotencyKey))
		if no := e.comparison.Differences(); len(no) > 0 {
			d.refuse(e, strings.Join(no, "; "))
		}
	}
	return nil
}

func (d *docket) refuse(e *ruled, why string) {
	e.fate = fateRefused
	fmt.Fprintf(d.aside, "%s:%d: %s refused: %s\n", cli.Printable(d.file), e.Number, cli.Printable(e.Name()), cli.Printable(why))
}

// question is what a person agrees to, with every line that is to be recorded above it; "" where there is none.
func (d *docket) question() string {
	var total money
	n, alone, until := 0, 0, time.Time{}
	table := cli.NewTable("LINE", "RENEWAL", "VERDICT", "AMOUNT", "ORDER OR CAPTURE", "CHECKED")
	for _, e := range d.entries {
		if e.fate != "" {
			continue
		}
		checked := "as Klarna shows it"
		if e.Verdict == desk.VerdictNotCharged || e.Verdict == desk.VerdictNotCaptured {
			until = later(until, e.unresolved.GaveUp.SearchUntil)
		}
		if !e.comparison.Verified() {
			checked = "on your word alone"
			alone++
		}
		n++
		u := e.unresolved.GaveUp
		total.add(e.Verdict, desk.Asked(u), u.PurchaseCurrency)
		table.Add(fmt.Sprint(e.Number), cli.Printable(e.Name()), string(e.Verdict), cli.Amount(desk.Asked(u), u.PurchaseCurrency), cmp.Or(cli.Printable(e.Made()), "-"), checked)
	}
	if n == 0 {
		return ""
	}
	table.Print(d.aside)
	say := ""
	if alone > 0 {
		say = fmt.Sprintf(", %d of them on your word alone", alone)
	}
	return early(until, time.Now()) + fmt.Sprintf("Record %d decisions%s: %s?", n, say, total)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// settle records the lines that fit, one after the other. What it has come to when it ends is in their fates.
func (d *docket) settle(ctx context.Context) error {
	for i := range d.entries {
		e := &d.entries[i]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch e.fate {
		case fateAlready: // whoever did may have been interrupted before its dead letter was dropped
			if err := d.clear(ctx, e.unresolved.GaveUp.IdempotencyKey); err != nil {
				return err
			}
		case "":
			fmt.Fprintf(d.aside, "%s:%d: %s\n", cli.Printable(d.file), e.Number, cli.Printable(e.Name()))
			recorded, err := d.write(ctx, e.unresolved, e.Ruling, e.comparison, d.mentions, e.comparison.Captured, e.Note)
			if recorded {
				e.fate = fateSettled
			}
			var refused *journal.RefusedError
			switch {
			case err == nil:
			case errors.As(err, &refused) || errors.Is(err, errNamed) && !recorded:
				d.refuse(e, err.Error())
			default:
				return fmt.Errorf("%s:%d: %s: %w", d.file, e.Number, e.Name(), err)
			}
		}
	}
	return nil
}

// summary counts what the lines have come to.
func (d *docket) summary() {
	for _, e := range d.entries {
		d.tally[e.fate]++
	}
	var say []string
	for _, fate := range []string{fateSettled, fateAlready, fateRefused, fateOpen} {
		if n := d.tally[fate]; n > 0 || fate == fateSettled {
			say = append(say, fmt.Sprintf("%d %s", n, fate))
		}
	}
	if n := d.tally[""]; n > 0 {
		say = append(say, fmt.Sprintf("%d not done: run the same command again", n))
	}
	fmt.Fprintln(d.aside, strings.Join(say, ", "))
}
