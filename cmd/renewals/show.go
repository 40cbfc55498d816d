package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

type showCmd struct {
	NATS cli.NATSSettings `embed:""`
	Log  cli.LogSettings  `embed:""`

	ID        string        `arg:"" help:"SUBSCRIPTION/PERIOD, the message ID of a job or a capture job, or SUBSCRIPTION for its periods."`
	As        string        `enum:",message-id,subscription" default:"" help:"What ID is, message-id or subscription, where it may be both. Default: what is found first, in the order above." from:"command-line"`
	All       bool          `help:"Of a subscription all periods, not the newest 50." from:"command-line"`
	JSON      bool          `name:"json" help:"The records, or the periods, as JSON Lines."`
	KeyWindow time.Duration `default:"${key_window}" help:"The workers' setting, for saying how long a key may still be used."`
}

// What showCmd.As may say.
const (
	asMessageID    = "message-id"
	asSubscription = "subscription"
)

func (c *showCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if c.ID == "" {
		return cli.Usagef("ID: found nothing, expected SUBSCRIPTION/PERIOD, a message ID or SUBSCRIPTION")
	}
	ctx, f, err := finder(ctx, c.NATS, s, t, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	defer f.JetStream.Conn().Close()
	of, err := c.subscription(ctx, f)
	if err != nil {
		return err
	}
	renewals, err := c.renewals(ctx, f, &of)
	if err != nil {
		return err
	}
	sought := desk.Sought{ID: messages.MessageID(c.ID), Renewals: renewals, Quick: len(renewals) > 0 || of.known()}
	if c.As == asSubscription {
		sought.ID = ""
	}
	if c.As != asMessageID && len(renewals) == 0 {
		sought.Subscription = of.id
	}
	jobs, complete, err := f.Waiting(ctx, sought)
	if err != nil {
		return err
	}
	of.complete = complete
	for _, j := range jobs {
		switch {
		case j.SubscriptionID == sought.Subscription && string(j.ID) != c.ID && !slices.Contains(renewals, j.Renewal):
			of.jobs = append(of.jobs, j)
		case j.Renewal == "" || !slices.Contains(renewals, j.Renewal):
			renewals = append(renewals, j.Renewal)
		}
	}
	if len(renewals) == 0 && of.known() {
		return c.list(t, of)
	}
	shown, err := c.histories(ctx, f, t, renewals, jobs)
	switch {
	case err != nil:
		return err
	case shown == 0:
		return c.unknown(ctx, f)
	case of.known():
		fmt.Fprintf(t.beside(c.JSON), "  %s is the name of a subscription, too: `renewals show --as=%s %s` lists its periods\n", cli.Printable(c.ID), asSubscription, desk.Argument(c.ID))
	}
	if !complete && !c.JSON {
		fmt.Fprintf(t.page(), "  the queue holds more than %d jobs and was not searched for further ones of this renewal\n", desk.QuickQueue)
	}
	return nil
}

// renewals finds those that are to be shown one by one. Where the name is known as a subscription's, a search of the whole journal
// for a message ID that is the same is left out.
func (c *showCmd) renewals(ctx context.Context, f desk.Finder, of *subscription) (found []messages.Renewal, err error) {
	switch c.As {
	case asSubscription:
		return nil, nil
	case asMessageID:
		return f.Search(ctx, c.ID, desk.SearchStep)
	}
	if found, err = f.Named(ctx, c.ID); err != nil || len(found) > 0 {
		return found, err
	}
	if !of.known() {
		return f.Search(ctx, c.ID, desk.SearchStep)
	}
	for _, p := range of.periods {
		if p.Took(messages.MessageID(c.ID)) {
			found = append(found, p.Renewal)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	found, of.searched, err = f.Recent(ctx, c.ID)
	return found, err
}

// histories shows renewals with their jobs, and says how many there were of which anything is known.
func (c *showCmd) histories(ctx context.Context, f desk.Finder, t *terminal, renewals []messages.Renewal, jobs []desk.WaitingJob) (shown int, err error) {
	for _, r := range desk.Compact(renewals) {
		h, err := historyOf(ctx, f, r)
		if err != nil && len(h.unreadable) == 0 {
			return shown, err
		}
		for _, j := range jobs {
			if j.Renewal == r {
				h.jobs = append(h.jobs, j)
			}
		}
		if len(h.records)+len(h.jobs)+len(h.unreadable) == 0 {
			continue
		}
		if c.JSON {
			for _, left := range h.leftOut() {
				fmt.Fprintln(t.margin(), left)
			}
			if err := h.printJSON(t.stdout); err != nil {
				return shown, err
			}
		} else {
			if shown > 0 {
				fmt.Fprintln(t.stdout)
			}
			h.print(t.page(), time.Now(), c.KeyWindow)
		}
		shown++
	}
	return shown, nil
}

// unknown says what was looked for, and what there is instead.
func (c *showCmd) unknown(ctx context.Context, f desk.Finder) error {
	what := "a period SUBSCRIPTION/PERIOD, a message ID or a subscription"
	switch c.As {
	case asMessageID:
		what = "a message ID"
	case asSubscription:
		what = "a subscription"
	}
	instead, err := periodsInstead(ctx, f, c.ID)
	if err != nil {
		return err
	}
	if instead == "" && c.As == "" && !strings.Contains(c.ID, "/") {
		instead = "; a period is named with its subscription, as in " + cli.Printable(desk.Argument(c.ID+"/2026-12"))
	}
	return fmt.Errorf("show %s: neither a record in %s nor a job in %s or %s has it as %s%s; the journal forgets a renewal after its retention",
		cli.Printable(c.ID), messages.StreamJournal, messages.StreamJobs, messages.StreamLater, what, instead)
}

// finder connects and opens the journal.
func finder(ctx context.Context, n cli.NATSSettings, s *cli.Settings, t *terminal, log zerolog.Logger) (context.Context, desk.Finder, error) {
	server, err := n.Server(s)
	if err != nil {
		return nil, desk.Finder{}, err
	}
	ctx, js, err := server.Connect(ctx, log)
	if err != nil {
		return nil, desk.Finder{}, err
	}
	journal, err := journal.Open(ctx, js, log)
	if err != nil {
		js.Conn().Close()
		return nil, desk.Finder{}, cli.JournalProblem(err)
	}
	return ctx, desk.Finder{JetStream: js, Journal: journal, Progress: func(label string, total int64) (func(int64), func()) {
		bar := cli.NewProgress(t.stderr, label, total)
		return bar.Set, bar.Done
	}}, nil
}

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

const instants = "2006-01-02 15:04:05.000"

// print writes the history for a person: what it is about, what happened, and how it stands.
func (h history) print(w *page, now time.Time, keyWindow time.Duration) {
	about := h.about()
	key := "-"
	if h.renewal != "" {
		key = string(h.renewal.Key())
	}
	fmt.Fprintf(w, "subscription %s, period %s, %s, %s, account %s\nrenewal key %s\n", cli.Printable(cmp.Or(string(about.SubscriptionID), "-")),
		cli.Printable(cmp.Or(string(about.Period), "-")), cli.Amount(about.OrderAmount, about.Currency), cli.Printable(cmp.Or(strings.TrimPrefix(references(about.Reference, about.Reference2), ", "), "merchant reference -")), about.Account, key)
	keys := map[messages.IdempotencyKey]bool{}
	for _, e := range h.records {
		if !keys[e.IdempotencyKey] && e.ID != "" {
			fmt.Fprintf(w, "key %s… is %s of message ID %s\n", short(e.IdempotencyKey), e.IdempotencyKey, cli.Printable(string(e.ID)))
		}
		keys[e.IdempotencyKey] = true
	}
	if len(h.records) > 0 {
		fmt.Fprintln(w)
		table := newTable("TIME (UTC)", "SINCE", "KIND", "ATTEMPT", "KEY", "TRIES", "DELIVERIES", "WORKER", "OUTCOME")
		table.prose = true
		deliveries := map[messages.IdempotencyKey]int{}
		for i, e := range h.records {
			since := ""
			if i > 0 {
				since = "+" + cli.Lapse(e.At.Sub(h.records[i-1].At))
			}
			outcome := e.told()
			if isClaim(e.Kind) {
				if e.Deliveries > deliveries[e.IdempotencyKey] {
					outcome = e.claimed()
				}
				deliveries[e.IdempotencyKey] = e.Deliveries
			}
			table.add(e.At.UTC().Format(instants), since, w.paint(tone(e.Kind), string(e.Kind)), e.Attempt, short(e.IdempotencyKey), e.Tries, e.Deliveries, cli.Printable(e.Worker), outcome)
		}
		table.print(w)
	}
	fmt.Fprintln(w)
	for _, sentence := range h.standing(now, keyWindow) {
		fmt.Fprintln(w, " ", sentence)
	}
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
	if e.Verified != nil {
		parts = append(parts, map[bool]string{true: "verified at Klarna", false: "by word alone"}[*e.Verified])
	}
	if e.Note != "" {
		parts = append(parts, "note: "+e.Note)
	}
	return cli.Printable(strings.Join(parts, ", "))
}

// standing says in words where the renewal stands and what happens next.
func (h history) standing(now time.Time, keyWindow time.Duration) []string {
	var say []string
	add := func(format string, args ...any) { say = append(say, cli.Printable(fmt.Sprintf(format, args...))) }
	s := h.state
	say = append(say, h.leftOut()...)
	if h.stuck() {
		return say
	}
	switch s.Phase {
	case journal.PhaseNone, "":
		if len(h.records) == 0 {
			add("state: nothing recorded: no worker has claimed it yet")
		} else {
			add("state: none: nothing was charged and nothing is being charged; what was rejected is in the dead letters")
		}
	case journal.PhaseCharging, journal.PhaseCapturing:
		h.claim(now, keyWindow, add)
	case journal.PhasePending:
		add("state: pending: Klarna made order %s and is still deciding whether it is money; nothing is charged again", s.Claim.OrderID)
		add("next: the fraud status is asked for until it is final, and an operator is called when it is not within two days")
	case journal.PhasePaid, journal.PhaseCaptured, journal.PhaseCaptureFailed:
		h.order(now, add)
	case journal.PhaseDunning:
		d := h.of(messages.KindDunning)
		add("state: dunning: %s; nothing was charged", d.Reason)
		if d.NextAttemptAt != nil {
			add("next: the billing system may publish another attempt under a new message ID, suggested at %s", clock(*d.NextAttemptAt))
		} else {
			add("next: no further attempt is suggested")
		}
	case journal.PhaseUnresolved:
		u := h.of(messages.KindUnresolved)
		name := desk.Argument(string(u.SubscriptionID) + "/" + string(u.Period))
		search := func() {
			for i, line := range h.sought() {
				add("%s%s", [...]string{"search: ", "        "}[min(i, 1)], line)
			}
		}
		if s.Capturing() {
			add("state: unresolved capture: %s; whether Klarna captured %s is not known, and it is not asked any more", u.Reason, h.capture())
			search()
			add("next: look at the order in Klarna's portal for the capture, then")
			add("      renewals resolve %s --captured --capture-id CAPTURE   or   renewals resolve %[1]s --not-captured", name)
			break
		}
		add("state: unresolved: %s; whether the customer was charged is not known, and Klarna is not asked any more", u.Reason)
		search()
		add("next: look in Klarna's portal for the order, then")
		add("      renewals resolve %s --paid --order-id ORDER   or   renewals resolve %[1]s --not-charged", name)
	case journal.PhaseCancelled:
		add("state: cancelled: this period will not be charged")
	default:
		add("state: %s", s.Phase)
	}
	for _, j := range h.jobs {
		add("queue: %s", queued(j, s, now))
	}
	return say
}

// queued says of a job in the queue what it is and what it waits for, by the state of its renewal.
func queued(j desk.WaitingJob, s journal.State, now time.Time) string {
	what := "job"
	if j.Job == desk.CaptureJob {
		what = "capture job"
	}
	return fmt.Sprintf("%s %s, sequence %d of %s, published %s ago for account %s: %s", what, cmp.Or(string(j.ID), "without a valid ID"), j.Sequence, cmp.Or(j.Stream, messages.StreamJobs),
		age(now, j.Published), j.Account, j.Standing(s, now))
}

// order tells of a renewal that is paid, and how much of its order is captured.
func (h history) order(now time.Time, add func(string, ...any)) {
	o := h.state.Order
	if o == nil {
		add("state: paid with order %s, captured with the charge; nothing more is charged for this period", h.state.Claim.OrderID)
		return
	}
	rest := o.Amount - o.Captured
	total, captured, remain := cli.Amount(o.Amount, o.Currency), cli.Amount(o.Captured, o.Currency), cli.Amount(rest, o.Currency)
	why := h.of(messages.KindCaptureFailed)
	until := "Klarna has not said until when"
	if !o.CaptureBefore.IsZero() {
		until = "capture" + before(o.CaptureBefore)
	}
	switch {
	case rest <= 0:
		add("state: captured in full: %s of order %s; nothing more is charged or captured for this period", captured, o.ID)
		return
	case h.state.Phase == journal.PhaseCaptureFailed:
		add("state: capture failed: %s; of order %s %s of %s are captured, %s remain, %s", why.Reason, o.ID, captured, total, remain, until)
	case o.Captured == 0:
		add("state: paid with order %s: %s authorised, %s; nothing more is charged for this period", o.ID, total, until)
	default:
		add("state: captured in part: %s of %s of order %s, %s remain, %s", captured, total, o.ID, remain, until)
	}
	switch late := !o.CaptureBefore.IsZero() && !now.Before(o.CaptureBefore); {
	case late:
		add("next: the authorisation ended %s ago: Klarna captures nothing more of it", cli.Lapse(now.Sub(o.CaptureBefore)))
	case h.state.Phase != journal.PhaseCaptureFailed:
		add("next: to take the money, publish a capture job: `renewals publish --capture`")
	case why.NextAttemptAt != nil:
		add("next: the billing system may publish another capture under a new message ID, suggested at %s", clock(*why.NextAttemptAt))
	default:
		add("next: no further capture is suggested; since the period has an order, nothing new is charged for it either")
	}
}

// claim tells of a charge, or a capture, that is not decided.
func (h history) claim(now time.Time, keyWindow time.Duration, add func(string, ...any)) {
	c := h.state.Claim
	doing := "charging"
	if h.state.Capturing() {
		doing = "capturing " + h.capture() + ","
	}
	add("state: %s under key %s, %d tries in %d deliveries, %d of them undecided", doing, c.Key, c.Tries, c.Deliveries, c.UndecidedTries)
	switch left := c.FirstSentAt.Add(keyWindow).Sub(now); {
	case c.FirstSentAt.IsZero():
		add("key:   Klarna has not read a request under it yet; its time does not run")
	case left > 0:
		add("key:   in use since %s, may be used for another %s; after that the renewal is unresolved", clock(c.FirstSentAt), cli.Lapse(left))
	default:
		add("key:   in use since %s, may no longer be used: the next delivery or the sweep makes the renewal unresolved", clock(c.FirstSentAt))
	}
	if c.Answered2xx {
		add("       Klarna has said yes without naming what it made: there may be an order, or a capture")
	}
	if c.Contradicted {
		add("       Klarna refused it after a try that may have succeeded")
	}
	if c.LastError != "" {
		add("       last: %s", c.LastError)
	}
	switch left := c.LeaseUntil.Sub(now); {
	case c.Held:
		add("next: it waits for another period of the subscription, which is due close to it: once that is charged this one is rejected as too_close")
	case c.Released:
		add("next: the next delivery of the job tries again under the same key")
	case left > 0:
		add("next: worker %s holds the claim for another %s; then any worker goes on under the same key", c.Worker, cli.Lapse(left))
	default:
		add("next: the claim of worker %s ended %s ago: the next delivery of the job goes on under the same key", c.Worker, cli.Lapse(-left))
	}
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
