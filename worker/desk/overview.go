// Package desk answers people: what there is to look at, what became of one renewal and why it waits, and what may be done
// about a dead letter. It charges nothing and decides nothing about a renewal: that is package journal's, also where an operator speaks.
package desk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// An Overview is how everything stands at one moment: what `renewals status`
// shows and the gauges repeat.
type Overview struct {
	At       time.Time           `json:"at"`
	Accounts []AccountOverview   `json:"accounts"`
	Workers  []topology.Presence `json:"workers"`
	// Unresolved are the renewals that wait for an operator, the oldest first.
	Unresolved []messages.Unresolved `json:"unresolved,omitempty"`
	// NotVisited were unresolved once, and not looked at now, since there are so many.
	NotVisited int `json:"unresolved_not_visited,omitempty"`
	// Misaddressed are jobs that no worker ever takes, by the names that their subjects end with.
	Misaddressed []Misaddressed `json:"misaddressed,omitempty"`
	// Deviation names a setting of a stream that the promise rests on and that somebody changed, or the bucket where it is
	// missing; with the names of others that are off. Deviations has each in a sentence.
	Deviation  string   `json:"deviation,omitempty"`
	Deviations []string `json:"deviations,omitempty"`
	// Warnings are what keeps nobody from charging and still should not be so.
	Warnings []string `json:"warnings,omitempty"`
	// NewsUnread are messages of RENEWAL_NEWS that were not read, so many are there: there may be more open breaks.
	NewsUnread uint64 `json:"news_unread,omitempty"`
	// WorkersUnknown says that the bucket in which workers tell of themselves is missing.
	WorkersUnknown bool `json:"workers_unknown,omitempty"`

	// Deep says that nothing was left out, see [Glance].
	Deep bool `json:"-"`
}

// AccountOverview is how one account stands.
type AccountOverview struct {
	Name     messages.Account `json:"name"`
	Workers  int              `json:"workers"`  // live ones that serve it
	Backlog  int              `json:"backlog"`  // jobs in the stream, captures included
	Captures int              `json:"captures"` // those of them that are captures
	InFlight int              `json:"in_flight"`
	Oldest   time.Time        `json:"oldest,omitzero"` // when the oldest job arrived
	// Rate is what its live workers together may ask Klarna a second; 0 where one of them has no limit, or there is none.
	Rate float64 `json:"rate,omitempty"`
	// DrainedAt is when the backlog is done at that rate, and so how long a job has to wait that is published now. Zero without a
	// rate, and while the account is paused: then nobody knows.
	DrainedAt  time.Time         `json:"drained_at,omitzero"`
	Paused     map[string]string `json:"paused,omitempty"`
	Unresolved int               `json:"unresolved"`
	Dead       int               `json:"dead_letters"`
	// Undecided is when Klarna was first asked under the oldest claim that it has
	// not decided, among the account's oldest jobs.
	Undecided time.Time `json:"undecided_since,omitzero"`
	// Parked are early jobs that wait outside the stream, ParkedUntil when the first of the oldest of them comes back:
	// with more than 20 the very first may come sooner.
	Parked      int       `json:"parked"`
	ParkedUntil time.Time `json:"parked_until,omitzero"`
	// NearlyFull are consumers of which jobs that wait take 80 % of max_ack_pending or more, as a share of 1. At 1
	// nothing is handed out, whatever is due.
	NearlyFull map[string]float64 `json:"ack_pending_ratio,omitempty"`
	// Expiring are orders with money left to capture whose authorisation ends within 3
	// days, as the sweeping worker last counted them.
	Expiring int `json:"uncaptured_expiring"`
	// Unreadable are records of the account that stand in the way of a waiting job, each in a sentence.
	Unreadable []string `json:"unreadable,omitempty"`
	// Breaks are open differences between Klarna's settlements and the journal, by kind.
	Breaks map[messages.BreakKind]int `json:"open_breaks,omitempty"`

	blind   bool // nobody knows of its workers
	unrated bool // one of them has no limit
}

// Misaddressed counts the jobs on a subject whose last token is no account's name, since no account can be called so.
type Misaddressed struct {
	// Account is that token, quoted: it is a stranger's text.
	Account string  `json:"account"`
	Job     JobKind `json:"job"`
	Jobs    int     `json:"jobs"`
}

// String says what to do about them.
func (m Misaddressed) String() string {
	return fmt.Sprintf("%d %s jobs wait for account %s, and no account can be called so: no worker takes them; have them published under the right account, then remove these (RUNBOOK.md, RenewalsUnservedJobs)", m.Jobs, m.Job, m.Account)
}

// misaddressed is the last token of a job's subject, quoted, where it is no account's name; "" where it is one.
func misaddressed(subject string) string {
	name := subject[strings.LastIndexByte(subject, '.')+1:]
	if _, err := messages.ParseAccount(name); err == nil {
		return ""
	}
	return fmt.Sprintf("%.80q", name)
}

// Human says why the account needs a person; "" when it does not.
func (a AccountOverview) Human() string {
	var why []string
	if a.Unresolved > 0 {
		why = append(why, "unresolved renewals")
	}
	if a.Dead > 0 {
		why = append(why, "dead letters")
	}
	if len(a.Unreadable) > 0 {
		why = append(why, "unreadable journal records")
	}
	if a.Expiring > 0 {
		why = append(why, "authorisations that expire uncaptured")
	}
	if len(a.NearlyFull) > 0 {
		why = append(why, "waiting jobs fill the queue's max_ack_pending")
	}
	if len(a.Paused) > 0 {
		why = append(why, "paused")
	}
	if len(a.Breaks) > 0 {
		why = append(why, "open breaks")
	}
	if a.Backlog > 0 && a.Workers == 0 && !a.blind {
		why = append(why, "no worker serves it")
	}
	return strings.Join(why, ", ")
}

// oldestJobs is how many of an account's oldest jobs are looked at for undecided claims.
const oldestJobs = 20

// Look reads how everything stands. An account is listed when it has jobs, dead
// letters, unresolved renewals, open breaks or a worker.
func Look(ctx context.Context, js jetstream.JetStream, now time.Time) (Overview, error) {
	o, err := Glance(ctx, js, now, true, nil)
	if quota, unknown := topology.ReadQuota(ctx, js); err == nil && unknown == nil {
		switch warning := quota.Warning(); {
		case quota.Full():
			o.Deviations = append(o.Deviations, warning)
			o.Deviation = cmp.Or(o.Deviation, warning)
		case warning != "":
			o.Warnings = append(o.Warnings, warning)
		}
	}
	for i := range o.Accounts {
		if a := &o.Accounts[i]; err == nil && a.Parked > 0 {
			a.ParkedUntil, err = nextParked(ctx, js, a.Name)
		}
	}
	if err == nil {
		err = o.breaks(ctx, js)
	}
	return o, err
}

// Glance is [Look] as a worker repeats it in its gauges; without deep it leaves out what costs the broker more than a
// glance: dead letters, unresolved renewals and undecided claims. known is as with [journal.Journal.Waiting].
func Glance(ctx context.Context, js jetstream.JetStream, now time.Time, deep bool, known journal.Resolved) (Overview, error) {
	l := look{ctx: ctx, js: js, deep: deep, o: Overview{At: now, Deep: deep}, accounts: map[messages.Account]*AccountOverview{}}
	found, err := topology.Inspect(ctx, js)
	if err != nil && found.Missing != topology.StreamWorkers {
		return l.o, err
	}
	l.o.judge(found, err)
	records, err := l.journal()
	if err != nil {
		return l.o, err
	}
	steps := []func() error{l.workers, l.jobs, l.later}
	if deep {
		steps = append(steps, l.parked, l.dead)
	}
	if deep && records != nil {
		steps = append(steps, func() error { return l.unresolved(records, known) })
	}
	for _, step := range append(steps, func() error { return l.oldest(records) }) {
		if err := step(); err != nil {
			return l.o, err
		}
	}
	for _, a := range l.accounts {
		a.drain(now)
		l.o.Accounts = append(l.o.Accounts, *a)
	}
	slices.SortFunc(l.o.Accounts, func(a, b AccountOverview) int { return cmp.Compare(a.Name, b.Name) })
	return l.o, nil
}

// A look is an overview in the making.
type look struct {
	ctx      context.Context
	js       jetstream.JetStream
	deep     bool
	o        Overview
	accounts map[messages.Account]*AccountOverview
}

// of is the account's part, made where there is none yet.
func (l *look) of(a messages.Account) *AccountOverview {
	if l.accounts[a] == nil {
		l.accounts[a] = &AccountOverview{Name: a, blind: l.o.WorkersUnknown}
	}
	return l.accounts[a]
}

// journal is nil where a deviation says already why it cannot be read.
func (l *look) journal() (*journal.Journal, error) {
	records, err := journal.Open(l.ctx, l.js, zerolog.Nop())
	if err != nil && l.o.Deviation == "" {
		return nil, err
	}
	return records, nil
}

// workers takes in what the live workers say of themselves.
func (l *look) workers() (err error) {
	if l.o.WorkersUnknown {
		return nil
	}
	if l.o.Workers, err = topology.Workers(l.ctx, l.js); err != nil {
		return err
	}
	for _, w := range l.o.Workers {
		for name, n := range w.Expiring {
			l.of(name).Expiring += n
		}
		for name, p := range w.Accounts {
			l.of(name).serve(p, w.Paused)
		}
	}
	return nil
}

// serve takes in what a worker says of the account; paused are the reasons for which all its accounts wait.
func (a *AccountOverview) serve(p topology.AccountPresence, paused map[string]string) {
	a.Workers++
	a.InFlight += p.InFlight
	a.unrated = a.unrated || p.Rate == 0
	a.Rate += p.Rate
	for consumer, share := range p.NearlyFull {
		if a.NearlyFull == nil {
			a.NearlyFull = map[string]float64{}
		}
		a.NearlyFull[consumer] = max(a.NearlyFull[consumer], share)
	}
	for _, reasons := range []map[string]string{p.Paused, paused} {
		if a.Paused == nil && len(reasons) > 0 {
			a.Paused = map[string]string{}
		}
		maps.Copy(a.Paused, reasons)
	}
}

// drain says when the backlog is done: one request for each job, the fewest that it takes.
func (a *AccountOverview) drain(now time.Time) {
	if a.unrated {
		a.Rate = 0
	}
	if a.Rate > 0 && a.Backlog > 0 && len(a.Paused) == 0 {
		a.DrainedAt = now.Add(time.Duration(float64(a.Backlog) / a.Rate * float64(time.Second))).Truncate(time.Second)
	}
}

// jobs counts the jobs in RENEWALS.
func (l *look) jobs() error {
	jobs, err := topology.Subjects(l.ctx, l.js, messages.StreamJobs, ">")
	for _, subject := range slices.Sorted(maps.Keys(jobs)) {
		n := jobs[subject]
		if name := misaddressed(subject); name != "" {
			l.o.Misaddressed = append(l.o.Misaddressed, Misaddressed{Account: name, Job: sentAs(subject), Jobs: int(n)})
		}
		if name, err := messages.ParseDueSubject(subject); err == nil {
			l.of(name).Backlog += int(n)
		}
		if name, err := messages.ParseCaptureSubject(subject); err == nil {
			l.of(name).Backlog += int(n)
			l.of(name).Captures += int(n)
		}
	}
	return err
}

// later counts what came out of RENEWALS_LATER among the jobs.
func (l *look) later() error {
	fired, err := topology.Subjects(l.ctx, l.js, messages.StreamLater, messages.LaterSubject("*"))
	for subject, n := range fired {
		if name, err := messages.ParseAccount(strings.TrimPrefix(subject, messages.LaterSubject(""))); err == nil {
			l.of(name).Backlog += int(n)
		}
	}
	return err
}

// parked counts what still waits in RENEWALS_LATER.
func (l *look) parked() error {
	waiting, err := topology.Parked(l.ctx, l.js, slices.Collect(maps.Keys(l.accounts)))
	for name, n := range waiting {
		l.of(name).Parked = n
	}
	return err
}

func (l *look) dead() error {
	dead, err := topology.Subjects(l.ctx, l.js, messages.StreamDead, messages.DeadSubject("*", "*"))
	for subject, n := range dead {
		l.of(messages.Account(subject[strings.LastIndexByte(subject, '.')+1:])).Dead += int(n)
	}
	return err
}

// unresolved lists the renewals that wait for an operator.
func (l *look) unresolved(records *journal.Journal, known journal.Resolved) (err error) {
	if l.o.Unresolved, l.o.NotVisited, err = records.Waiting(l.ctx, known, journal.MostVisits); err != nil {
		return err
	}
	for _, u := range l.o.Unresolved {
		l.of(u.Account).Unresolved++
	}
	return nil
}

// oldest looks at the oldest jobs of every account that has any.
func (l *look) oldest(records *journal.Journal) error {
	most := 1
	if l.deep && records != nil {
		most = oldestJobs
	}
	streams := map[string]jetstream.Stream{} // once for all accounts
	for _, a := range l.accounts {
		if a.Backlog == 0 {
			continue
		}
		if err := a.oldest(l.ctx, l.js, streams, records, most); err != nil {
			return err
		}
	}
	return nil
}

// judge takes in how the streams compare with what they must be; missing is the error of a bucket that is not there.
func (o *Overview) judge(found topology.Inspection, missing error) {
	for _, off := range found.Deviations {
		o.Deviations = append(o.Deviations, off.Error())
	}
	if err := found.Err(); err != nil {
		o.Deviation = err.Error()
	}
	if missing != nil {
		o.WorkersUnknown = true
		o.Deviations = append(o.Deviations, missing.Error())
		o.Deviation = cmp.Or(o.Deviation, missing.Error())
	}
	o.Warnings = append(o.Warnings, found.Warnings()...)
}

// oldest reads the account's oldest jobs and what the journal says of them.
func (a *AccountOverview) oldest(ctx context.Context, js jetstream.JetStream, streams map[string]jetstream.Stream, records *journal.Journal, jobs int) error {
	for name, subject := range topology.Consumers(a.Name) {
		of := topology.StreamOf(name)
		if streams[of] == nil {
			stream, err := js.Stream(ctx, of)
			if err != nil {
				return fmt.Errorf("bind stream %s: %w", of, err)
			}
			streams[of] = stream
		}
		err := oldest(ctx, streams[of], subject, jobs, func(m *jetstream.RawStreamMsg) error {
			if a.Oldest.IsZero() || m.Time.Before(a.Oldest) {
				a.Oldest = m.Time
			}
			if jobs == 1 {
				return nil
			}
			return a.undecided(ctx, records, m)
		})
		if err != nil {
			return fmt.Errorf("read the oldest jobs of account %s: %w", a.Name, err)
		}
	}
	return nil
}

// undecided notes since when Klarna has left a job undecided.
func (a *AccountOverview) undecided(ctx context.Context, records *journal.Journal, m *jetstream.RawStreamMsg) error {
	header := m.Header
	if strings.HasPrefix(m.Subject, messages.LaterSubject("")) {
		header, _ = messages.Unpark(header)
	}
	r := messages.Read(m.Data, header)
	renewal, key := r.Renewal(), r.IdempotencyKey
	if messages.IsCapture(m.Subject) {
		r := messages.ReadCapture(m.Data, m.Header)
		renewal, key = r.Common().Renewal(), r.IdempotencyKey
	}
	if renewal == "" {
		return nil
	}
	at, err := records.Last(ctx, renewal)
	var unreadable *journal.UnreadableError
	if errors.As(err, &unreadable) {
		a.Unreadable = append(a.Unreadable, unreadable.Error())
		return nil
	}
	if err != nil {
		return err
	}
	s := at.State
	if !s.Open() || !s.Holds(key) || s.Claim.FirstSentAt.IsZero() || s.Claim.Tries == 0 && s.Claim.UndecidedTries == 0 {
		return nil
	}
	if a.Undecided.IsZero() || s.Claim.FirstSentAt.Before(a.Undecided) {
		a.Undecided = s.Claim.FirstSentAt
	}
	return nil
}

// nextParked is the first moment among an account's oldest parked jobs; zero without any. Jobs are stored by when they
// came, not by when they are due: with more than these the first may come out sooner, never later.
func nextParked(ctx context.Context, js jetstream.JetStream, a messages.Account) (first time.Time, err error) {
	stream, err := js.Stream(ctx, messages.StreamLater)
	if err != nil {
		return first, fmt.Errorf("bind stream %s: %w", messages.StreamLater, err)
	}
	err = oldest(ctx, stream, messages.ParkedFilter(a), oldestJobs, func(m *jetstream.RawStreamMsg) error {
		if at, ok := messages.ParkedUntil(m.Header); ok && (first.IsZero() || at.Before(first)) {
			first = at
		}
		return nil
	})
	if err != nil {
		return first, fmt.Errorf("read the parked jobs of account %s: %w", a, err)
	}
	return first, nil
}
