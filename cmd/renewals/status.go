package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/doctor"
	"github.com/klarna-renewals/renewals/worker/topology"
)

type statusCmd struct {
	NATS cli.NATSSettings `embed:""`
	Log  cli.LogSettings  `embed:""`
	View viewSettings     `embed:""`

	JSON  bool `name:"json" help:"As JSON, one line."`
	Watch bool `help:"Again every 2s, until interrupted." from:"command-line"`

	Unresolved bool `help:"Only what is unresolved, all of it, with what a search at Klarna needs; exit code 0." from:"command-line"`
	CSV        bool `name:"csv" help:"With --unresolved: as CSV, whose verdict column is filled in for renewals resolve --from." from:"command-line"`

	KeyWindow time.Duration `default:"${key_window}" help:"The workers' setting, for saying how long a key may still be used."`
}

const (
	statusEvery   = 2 * time.Second
	statusTimeout = 15 * time.Second
)

// Run fails where something needs a human, or where it cannot be seen whether something does.
func (c *statusCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	switch {
	case c.CSV && !c.Unresolved:
		return cli.Usagef("--csv: without --unresolved, expected both")
	case c.CSV && c.JSON:
		return cli.Usagef("--csv: beside %s, expected one of them", s.Place("json"))
	case c.Unresolved && c.Watch:
		return cli.Usagef("--watch: with --unresolved, expected one of them")
	}
	if err := c.View.check(c.NATS.Reach, s); err != nil {
		return err
	}
	server, err := c.NATS.Server(s)
	if err != nil {
		return err
	}
	server.Follows = c.Watch
	ctx, js, err := server.Connect(ctx, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	if c.Unresolved {
		return c.list(ctx, js, c.Log.Logger(t.logs()), t)
	}
	patient := doctor.Patient{JS: js, Version: cli.Version()}
	leave, err := c.View.sight(ctx, c.NATS, s, &patient)
	if err != nil {
		return err
	}
	defer leave()
	glance := &glance{patient: patient}
	if !c.Watch {
		calm, err := c.look(ctx, js, glance, t)
		if err == nil && !calm {
			err = cli.ErrReported
		}
		return err
	}
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		if _, err := c.look(ctx, js, glance, t); err != nil && ctx.Err() == nil {
			fmt.Fprintln(t.margin(), "renewals:", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// look shows how everything stands, and says whether nobody has to do anything.
func (c *statusCmd) look(ctx context.Context, js jetstream.JetStream, g *glance, t *terminal) (calm bool, err error) {
	one, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	o, err := desk.Look(one, js, time.Now())
	if err != nil {
		return false, err
	}
	if warning := cli.InClear(js.Conn()); warning != "" {
		o.Warnings = append(o.Warnings, warning)
	}
	if warning := g.worst(one, o.At); warning != "" {
		o.Warnings = append(o.Warnings, warning)
	}
	human := needsHuman(o)
	if c.JSON {
		o.Accounts, o.Workers = append([]desk.AccountOverview{}, o.Accounts...), append([]topology.Presence{}, o.Workers...) // never null
		err = json.NewEncoder(t.stdout).Encode(struct {
			desk.Overview
			NeedsHuman []string `json:"needs_human"`
		}{o, human})
		return len(human) == 0, err
	}
	var screen strings.Builder
	if c.Watch && cli.IsTerminal(t.stdout) {
		screen.WriteString("\x1b[H\x1b[J") // to the top, and clear what is below
	}
	shown := t.page()
	printStatus(&cli.Page{Writer: &screen, Width: shown.Width, Colour: shown.Colour}, o, human, c.KeyWindow)
	if c.Watch && !cli.IsTerminal(t.stdout) {
		screen.WriteString("\n")
	}
	_, err = io.WriteString(t.stdout, screen.String())
	return len(human) == 0, err
}

// A glance is the worst that the doctor sees without asking anybody but NATS, and anew once a minute.
type glance struct {
	patient doctor.Patient
	at      time.Time
	told    string
}

const glanceEvery = time.Minute

func (g *glance) worst(ctx context.Context, now time.Time) string {
	if now.Sub(g.at) < glanceEvery {
		return g.told
	}
	g.at, g.told = now, ""
	if worst, ok := doctor.Glance(ctx, g.patient); ok {
		g.told = fmt.Sprintf("%s: %s: %s (renewals doctor)", worst.Check, worst.Seen, worst.Why)
	}
	return g.told
}

// needsHuman says what no machine will put right; never nil, for JSON.
func needsHuman(o desk.Overview) []string {
	why := []string{}
	for _, off := range o.Deviations {
		why = append(why, "nothing is charged: "+off)
	}
	for _, a := range o.Accounts {
		if human := a.Human(); human != "" {
			why = append(why, "account "+string(a.Name)+": "+human)
		}
		why = append(why, a.Unreadable...)
	}
	for i, m := range o.Misaddressed {
		if i == mostMisaddressed {
			why = append(why, fmt.Sprintf("jobs wait for %d more names that no account can have: renewals status --json", len(o.Misaddressed)-i))
			break
		}
		why = append(why, m.String())
	}
	return why
}

// mostMisaddressed is how many wrong names of accounts fit on a screen: whoever may publish can make up more.
const mostMisaddressed = 10

// mostUnresolved is how many renewals that wait for an operator fit on a screen.
const mostUnresolved = 10

func printStatus(w *cli.Page, o desk.Overview, human []string, keyWindow time.Duration) {
	fmt.Fprintf(w, "%s  ", o.At.UTC().Format("2006-01-02 15:04:05 UTC"))
	if len(human) == 0 {
		fmt.Fprintln(w, w.Paint(cli.Green, "nothing needs a human"))
	} else {
		fmt.Fprintln(w, w.Paint(cli.Alarm, "NEEDS A HUMAN"))
	}
	for _, sentence := range human {
		fmt.Fprintln(w, "  "+w.Paint(cli.Alarm, "!"), cli.Printable(sentence))
	}

	for _, warning := range o.Warnings {
		fmt.Fprintln(w, "  "+w.Paint(cli.Yellow, "warning:"), cli.Printable(warning))
	}
	printAccounts(w, o, keyWindow)
	if o.NewsUnread > 0 {
		fmt.Fprintf(w, "%d messages of RENEWAL_NEWS were not read, so many are there: there may be more open breaks, see the workers' metric renewals_breaks_open\n", o.NewsUnread)
	}
	printWorkers(w, o)
	printUnresolved(w, o)
}

// drainWorthTelling is a backlog that somebody may have to plan with. What is shorter comes and goes.
const drainWorthTelling = time.Minute

func printAccounts(w *cli.Page, o desk.Overview, keyWindow time.Duration) {
	fmt.Fprintln(w)
	if len(o.Accounts) == 0 {
		fmt.Fprintln(w, "no jobs, no dead letters, no unresolved renewals")
	} else {
		table := cli.NewTable("ACCOUNT", "BACKLOG", "CAPTURES", "OLDEST", "IN FLIGHT", "WORKERS", "PARKED", "UNRESOLVED", "DEAD LETTERS", "EXPIRING", "UNDECIDED", "KEY LEFT", "PAUSED")
		for _, a := range o.Accounts {
			oldest, undecided, left := "-", "-", "-"
			if !a.Oldest.IsZero() {
				oldest = age(o.At, a.Oldest)
			}
			if !a.Undecided.IsZero() {
				undecided = age(o.At, a.Undecided)
				left = cli.Lapse(max(a.Undecided.Add(keyWindow).Sub(o.At), 0))
			}
			table.Add(a.Name, a.Backlog, a.Captures, oldest, a.InFlight, a.Workers, a.Parked, a.Unresolved, a.Dead, a.Expiring, undecided, left,
				cli.Printable(cmp.Or(strings.Join(slices.Sorted(maps.Keys(a.Paused)), ", "), "-")))
		}
		table.Print(w)
	}
	for _, a := range o.Accounts {
		if a.DrainedAt.Sub(o.At) >= drainWorthTelling {
			fmt.Fprintf(w, "%s: %d jobs at %.3g requests a second are done by %s; one that comes now waits as long\n", a.Name, a.Backlog, a.Rate, clockFrom(o.At, a.DrainedAt))
		}
		if a.Parked > 0 && !a.ParkedUntil.IsZero() {
			fmt.Fprintf(w, "%s parked: %d jobs that came early wait outside the queue, the next comes back by %s\n", a.Name, a.Parked, clock(a.ParkedUntil))
		}
		for _, consumer := range slices.Sorted(maps.Keys(a.NearlyFull)) {
			fmt.Fprintf(w, "%s: jobs that wait take %.0f %% of max_ack_pending of consumer %s; at 100 %% nothing is handed out, whatever is due\n", a.Name, 100*a.NearlyFull[consumer], cli.Printable(consumer))
		}
		if len(a.Breaks) > 0 {
			fmt.Fprintf(w, "%s: open breaks between Klarna's settlements and the journal: %s; renewals-desk breaks --account %s\n", a.Name, cli.Printable(counted(a.Breaks)), a.Name)
		}
		for _, reason := range slices.Sorted(maps.Keys(a.Paused)) {
			fmt.Fprintf(w, "%s paused, %s: %s\n", a.Name, cli.Printable(reason), cli.Printable(a.Paused[reason]))
		}
	}
}

func printWorkers(w *cli.Page, o desk.Overview) {
	fmt.Fprintln(w)
	if len(o.Workers) == 0 {
		if o.WorkersUnknown {
			fmt.Fprintln(w, "which workers are live is not known without the bucket")
		} else {
			fmt.Fprintln(w, "no worker is live")
		}
	} else {
		table := cli.NewTable("WORKER", "UP", "ACCOUNTS")
		table.Prose = true
		slices.SortFunc(o.Workers, func(a, b topology.Presence) int { return strings.Compare(a.Name, b.Name) })
		for _, p := range o.Workers {
			table.Add(cli.Printable(p.Name), age(o.At, p.Started), cli.Printable(serves(p)))
		}
		table.Print(w)
	}
}

func printUnresolved(w *cli.Page, o desk.Overview) {
	if o.NotVisited > 0 {
		fmt.Fprintf(w, "\n%d renewals that were unresolved once were not looked at, so many are there: the workers' metric renewals_unresolved counts them all\n", o.NotVisited)
	}
	if len(o.Unresolved) == 0 {
		return
	}
	fmt.Fprintln(w, "\nunresolved: look each up in Klarna's portal, then `renewals resolve`")
	table := cli.NewTable("", "", "", "", "", "") // what each is can be seen
	for i, u := range o.Unresolved {
		if i == mostUnresolved {
			break
		}
		what := desk.ChargeJob
		if u.CapturedAmount > 0 {
			what = desk.CaptureJob
		}
		table.Add("  "+cli.Printable(desk.Argument(string(u.SubscriptionID)+"/"+string(u.Period))), u.Account, what,
			cli.Amount(cmp.Or(u.CapturedAmount, u.OrderAmount), u.PurchaseCurrency), cli.Printable(string(u.Reason)), age(o.At, u.At)+" ago")
	}
	table.Print(w)
	if more := len(o.Unresolved) - mostUnresolved; more > 0 {
		fmt.Fprintf(w, "  and %d more: renewals status --json\n", more)
	}
}

// serves lists a worker's accounts with its share of each.
func serves(p topology.Presence) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(p.Accounts)) {
		a := p.Accounts[name]
		rate := "no rate limit"
		if a.Rate > 0 {
			rate = fmt.Sprintf("%.3g/s", a.Rate)
		}
		parts = append(parts, fmt.Sprintf("%s (%d in flight, %s)", name, a.InFlight, rate))
	}
	return strings.Join(parts, ", ")
}
