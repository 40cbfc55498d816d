package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/settlements"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/desk/books"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

type reconcileCmd struct {
	NATS   cli.NATSSettings    `embed:""`
	Log    cli.LogSettings     `embed:""`
	Klarna cli.AccountSettings `embed:""`
	Books  booksSettings       `embed:""`

	Account      string        `help:"The account whose settlements they are." required:"" from:"command-line"`
	From         string        `help:"From this day on, UTC: payouts of Klarna's API, or what FILEs have all payouts of." from:"command-line"`
	To           string        `help:"To this day, included." from:"command-line"`
	ExpectWithin time.Duration `default:"21d" help:"How long Klarna may take from a capture to its payout."`
	Delimiter    string        `help:"Of FILEs: , ; | or tab. Default: what parts the names in the first line." from:"command-line"`
	Decimal      string        `help:"Of FILEs: the decimal sign, . or ,. Default: by each number." from:"command-line"`
	Dates        string        `help:"Of FILEs: YYYY-MM-DD, DD/MM/YYYY or MM/DD/YYYY. Default: by each date, but for those with slashes." from:"command-line"`
	Apply        bool          `help:"Record as paid what is unresolved and proven by exactly one sale." from:"command-line"`
	JSON         bool          `name:"json" help:"All of it as one JSON document." from:"command-line"`

	File []string `arg:"" optional:"" help:"CSV reports as the merchant downloads them. Default: Klarna's Settlements API."`
}

// span is the days that are asked for.
type span struct{ from, to time.Time }

func (c *reconcileCmd) span() (s span, err error) {
	if (c.From == "") != (c.To == "") || c.From == "" && len(c.File) == 0 {
		return s, cli.Usagef("--from and --to: expected both, days such as 2026-12-01, or FILEs")
	}
	if c.From == "" {
		return s, nil
	}
	if s.from, err = time.Parse(time.DateOnly, c.From); err != nil {
		return s, cli.Usagef("--from: %q, expected a day such as 2026-12-01", c.From)
	}
	if s.to, err = time.Parse(time.DateOnly, c.To); err != nil || s.to.Before(s.from) {
		return s, cli.Usagef("--to: %q, expected a day such as 2026-12-01, not before --from", c.To)
	}
	s.to = s.to.Add(24*time.Hour - time.Second)
	return s, nil
}

func (c *reconcileCmd) form() (form settlements.Form, err error) {
	form.MinorUnits = messages.MinorUnits
	switch c.Delimiter {
	case "":
	case "tab", "\t":
		form.Delimiter = '\t'
	case ",", ";", "|":
		form.Delimiter = rune(c.Delimiter[0])
	default:
		return form, cli.Usagef("--delimiter: %q, expected one of , ; | and tab", c.Delimiter)
	}
	if c.Decimal != "" && c.Decimal != "." && c.Decimal != "," {
		return form, cli.Usagef("--decimal: %q, expected . or ,", c.Decimal)
	}
	if c.Decimal != "" {
		form.Decimal = rune(c.Decimal[0])
	}
	if form.Dates, err = settlements.ParseDates(c.Dates); err != nil {
		return form, cli.Usagef("--dates: %w", err)
	}
	return form, nil
}

func (c *reconcileCmd) Run(ctx context.Context, s *cli.Settings, w *streams) error {
	days, err := c.span()
	if err != nil {
		return err
	}
	form, err := c.form()
	if err != nil {
		return err
	}
	entry, configured, err := c.entry(s)
	if err != nil {
		return err
	}
	path, err := c.Books.path(s)
	if err != nil {
		return err
	}
	server, err := c.NATS.Server(s)
	if err != nil {
		return err
	}
	log := c.Log.Logger(w.logs())
	report := reports{c.File, form}.records(ctx)
	bar := cli.NewProgress(w.stderr, "", 0)
	defer bar.Done()
	if len(c.File) == 0 {
		client, err := entry.Settlements(c.Klarna.AllowHTTP, func(err error, pause time.Duration) {
			bar.Done() // it comes back below the line
			log.Warn().Err(err).Str("pause", pause.Round(time.Second).String()).Msg("Klarna's settlements are asked again")
		})
		if err != nil {
			return cli.Usage(err)
		}
		defer client.Close()
		report = client.Records(ctx, days.from, days.to, "")
	}
	ctx, js, err := server.Connect(ctx, log)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	d := reconciler{js: js, path: path, log: log, bar: bar, apply: c.Apply, configured: configured, streams: w}
	found, err := d.compare(ctx, report, reconcile.Options{
		Account: messages.Account(c.Account), Merchant: entry.Merchant(), From: days.from, To: days.to, ExpectWithin: c.ExpectWithin, Now: time.Now(),
	})
	if err != nil {
		return entry.SettlementsProblem(err)
	}
	result, err := d.settle(ctx, found)
	if err != nil {
		return err
	}
	if err := result.print(w, c.JSON); err != nil {
		return err
	}
	if len(result.Breaks) > 0 {
		return cli.ErrReported
	}
	return nil
}

// entry is the account, which with FILEs needs no credentials, and the names of all that are configured.
func (c *reconcileCmd) entry(s *cli.Settings) (entry cli.AccountEntry, configured []string, err error) {
	if _, err := messages.ParseAccount(c.Account); err != nil {
		return entry, nil, cli.Usagef("--account: %w", err)
	}
	entries, err := c.Klarna.Entries(s)
	if err != nil {
		return entry, nil, cli.Usage(err)
	}
	entry = cli.AccountEntry{Name: c.Account}
	found := false
	for _, e := range entries {
		configured = append(configured, e.Name)
		if e.Name == c.Account {
			entry, found = e, true
		}
	}
	if !found && len(c.File) == 0 {
		return entry, nil, cli.Usagef("--account: %q is not configured: expected KLARNA_ACCOUNT, KLARNA_ENDPOINT and credentials of it, or an entry in --config", c.Account)
	}
	return entry, configured, nil
}

// reconciler is what a comparison works with.
type reconciler struct {
	*streams
	js      jetstream.JetStream
	journal *journal.Journal
	news    reconcile.News
	path    string
	log     zerolog.Logger
	bar     *cli.Progress
	apply   bool

	configured []string // accounts
}

// compare brings the books up to date and puts the report beside them.
func (d *reconciler) compare(ctx context.Context, report iter.Seq2[settlements.Record, error], options reconcile.Options) (found *reconcile.Report, err error) {
	if d.journal, err = journal.Open(ctx, d.js, d.log); err != nil {
		return nil, cli.JournalProblem(err)
	}
	if d.news, err = reconcile.OpenNews(ctx, d.js); err != nil {
		return nil, err
	}
	told, err := d.news.List(ctx, options.Account)
	if err != nil {
		return nil, err
	}
	for _, b := range told {
		if b.Status != messages.BreakClosed {
			options.Open = append(options.Open, b.Break)
		}
	}
	busy, err := d.sync(ctx)
	if err != nil {
		return nil, err
	}
	b, err := books.Open(ctx, d.path)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if busy != nil {
		if err := d.beside(ctx, b, busy); err != nil {
			return nil, err
		}
	}
	if err := d.known(ctx, b, options.Account); err != nil {
		return nil, err
	}
	defer d.bar.Done()
	options.Progress = func(step reconcile.Step, n, of int) { d.bar.Show(string(step), int64(n), int64(of)) }
	return reconcile.Compare(ctx, books.Compared{Books: b, Rhythm: func(ctx context.Context, r messages.Renewal) (messages.Cadence, bool, error) {
		at, err := d.journal.Last(ctx, r)
		return at.State.Cadence, at.State.OffCycle, err
	}}, report, options)
}

// known fails where nobody has heard of the account: every row would be unused, as if nothing were wrong.
func (d *reconciler) known(ctx context.Context, b *books.Books, account messages.Account) error {
	if slices.Contains(d.configured, string(account)) {
		return nil
	}
	names, err := b.Accounts(ctx)
	if err != nil || slices.Contains(names, string(account)) {
		return err
	}
	names = append(names, d.configured...)
	slices.Sort(names)
	return cli.Usagef("--account: %q is in neither the books nor the settings, which have %s", account, strings.Join(slices.Compact(names), ", "))
}

// patience is for how long who follows the journal with the books is waited for.
const patience = 5 * time.Second

// beside says what it means that somebody else writes the books: they are compared as they are, and nothing is recorded by books that do not
// have every record.
func (d *reconciler) beside(ctx context.Context, b *books.Books, busy *books.BusyError) error {
	if !d.apply {
		fmt.Fprintf(d.stderr, "renewals-desk: %v; going on with the books as they are\n", busy)
		return nil
	}
	why, err := b.Behind(ctx, d.js, patience)
	if err == nil && why != "" {
		err = fmt.Errorf("--apply: nothing was compared or recorded, since the books do not have every record of an order: %s; %w", why, busy)
	}
	return err
}

// sync brings the books up to date. busy says who else writes them.
func (d *reconciler) sync(ctx context.Context) (busy *books.BusyError, err error) {
	writer, err := books.Create(d.path, fmt.Sprintf("renewals-desk reconcile, process %d on %s", os.Getpid(), cli.Hostname()))
	if errors.As(err, &busy) {
		return busy, nil
	}
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	_, err = books.Syncer{
		JetStream: d.js, Writer: writer, Say: func(sentence string) { d.log.Warn().Msg(sentence) },
		Progress: func(total int64) (func(int64), func()) {
			bar := cli.NewProgress(d.stderr, "records read", total)
			return bar.Set, bar.Done
		},
	}.Run(ctx)
	return nil, err
}

// settle applies what is proven, where that is asked for, closes what has come right, and tells of the rest.
func (d *reconciler) settle(ctx context.Context, found *reconcile.Report) (r result, err error) {
	r = result{Report: found}
	if d.apply {
		finder := desk.Finder{JetStream: d.js, Journal: d.journal, Progress: func(label string, total int64) (func(int64), func()) {
			bar := cli.NewProgress(d.stderr, label, total)
			return bar.Set, bar.Done
		}}
		if r.Applied, err = reconcile.Apply(ctx, d.journal, finder, found, time.Now); err != nil {
			return r, err
		}
	}
	for _, a := range r.Applied {
		if a.Recorded {
			if err := d.dropLetters(ctx, found.Evidence[a.Break].Renewal); err != nil {
				return r, err
			}
		}
		i := slices.IndexFunc(r.Breaks, func(b messages.Break) bool { return b.ID == a.Break })
		if !a.Recorded || i < 0 {
			continue
		}
		if err := d.close(ctx, a.Break, found.Evidence[a.Break].Note); err != nil {
			return r, err
		}
		r.Breaks = slices.Delete(r.Breaks, i, i+1)
	}
	for _, s := range found.Settled {
		if err := d.close(ctx, s.Break.ID, s.Note); err != nil {
			return r, err
		}
	}
	told, err := d.news.Publish(ctx, r.Breaks)
	r.New, r.ClosedBefore, r.Breaks = told.New, len(r.Breaks)-len(told.Open), told.Open
	return r, err
}

// close closes a break, if it was told. Whoever is faster has the word.
func (d *reconciler) close(ctx context.Context, id messages.BreakID, note string) error {
	s, err := d.news.Find(ctx, id)
	if err == nil {
		err = d.news.Close(ctx, s, reconcile.Actor, note, time.Now())
	}
	if errors.Is(err, reconcile.ErrMoved) {
		return nil
	}
	return err
}
