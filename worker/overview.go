package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	// Deviation names a setting of a stream that the promise rests on and that somebody changed, or the bucket where it is
	// missing; with the names of others that are off. Deviations has each in a sentence.
	Deviation  string   `json:"deviation,omitempty"`
	Deviations []string `json:"deviations,omitempty"`
	// Warnings are what keeps nobody from charging and still should not be so.
	Warnings []string `json:"warnings,omitempty"`
	// WorkersUnknown says that the bucket in which workers tell of themselves is missing.
	WorkersUnknown bool `json:"workers_unknown,omitempty"`

	deep bool
}

// AccountOverview is how one account stands.
type AccountOverview struct {
	Name       messages.Account  `json:"name"`
	Workers    int               `json:"workers"`  // live ones that serve it
	Backlog    int               `json:"backlog"`  // jobs in the stream, captures included
	Captures   int               `json:"captures"` // those of them that are captures
	InFlight   int               `json:"in_flight"`
	Oldest     time.Time         `json:"oldest,omitzero"` // when the oldest job arrived
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

	blind bool // nobody knows of its workers
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
	if a.Backlog > 0 && a.Workers == 0 && !a.blind {
		why = append(why, "no worker serves it")
	}
	return strings.Join(why, ", ")
}

// oldestJobs is how many of an account's oldest jobs are looked at for undecided claims.
const oldestJobs = 20

// Look reads how everything stands. An account is listed when it has jobs, dead
// letters, unresolved renewals or a worker.
func Look(ctx context.Context, js jetstream.JetStream, now time.Time) (Overview, error) {
	o, err := look(ctx, js, now, true, nil)
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
	return o, err
}

// look is [Look]; without deep it leaves out what costs the broker more than a
// glance: dead letters, unresolved renewals and undecided claims.
func look(ctx context.Context, js jetstream.JetStream, now time.Time, deep bool, known journal.Resolved) (Overview, error) {
	o := Overview{At: now, deep: deep}
	found, err := topology.Inspect(ctx, js)
	if err != nil && found.Missing != topology.StreamWorkers {
		return o, err
	}
	o.judge(found, err)
	accounts := map[messages.Account]*AccountOverview{}
	of := func(a messages.Account) *AccountOverview {
		if accounts[a] == nil {
			accounts[a] = &AccountOverview{Name: a, blind: o.WorkersUnknown}
		}
		return accounts[a]
	}

	if !o.WorkersUnknown {
		if o.Workers, err = topology.Workers(ctx, js); err != nil {
			return o, err
		}
	}
	for _, w := range o.Workers {
		for name, n := range w.Expiring {
			of(name).Expiring += n
		}
		for name, p := range w.Accounts {
			a := of(name)
			a.Workers++
			a.InFlight += p.InFlight
			for consumer, share := range p.NearlyFull {
				if a.NearlyFull == nil {
					a.NearlyFull = map[string]float64{}
				}
				a.NearlyFull[consumer] = max(a.NearlyFull[consumer], share)
			}
			for _, reasons := range []map[string]string{p.Paused, w.Paused} {
				for reason, sentence := range reasons {
					if a.Paused == nil {
						a.Paused = map[string]string{}
					}
					a.Paused[reason] = sentence
				}
			}
		}
	}
	jobs, err := topology.Subjects(ctx, js, messages.StreamJobs, ">")
	if err != nil {
		return o, err
	}
	for subject, n := range jobs {
		if name, err := messages.ParseDueSubject(subject); err == nil {
			of(name).Backlog += int(n)
		}
		if name, err := messages.ParseCaptureSubject(subject); err == nil {
			of(name).Backlog += int(n)
			of(name).Captures += int(n)
		}
	}
	if err := o.looksLater(ctx, js, accounts, of); err != nil {
		return o, err
	}
	if deep {
		dead, err := topology.Subjects(ctx, js, messages.StreamDead, messages.DeadSubject("*", "*"))
		if err != nil {
			return o, err
		}
		for subject, n := range dead {
			of(messages.Account(subject[strings.LastIndexByte(subject, '.')+1:])).Dead += int(n)
		}
	}
	records, err := journal.Open(ctx, js, zerolog.Nop())
	switch {
	case err != nil && o.Deviation == "":
		return o, err
	case err != nil:
		deep = false // the deviation says it
	case deep:
		if o.Unresolved, o.NotVisited, err = records.Waiting(ctx, known, journal.MostVisits); err != nil {
			return o, err
		}
		for _, u := range o.Unresolved {
			of(u.Account).Unresolved++
		}
	}
	for _, a := range accounts {
		if a.Backlog == 0 {
			continue
		}
		jobs := 1
		if deep {
			jobs = oldestJobs
		}
		if err := a.look(ctx, js, records, jobs); err != nil {
			return o, err
		}
	}
	for _, a := range accounts {
		o.Accounts = append(o.Accounts, *a)
	}
	slices.SortFunc(o.Accounts, func(a, b AccountOverview) int { return cmp.Compare(a.Name, b.Name) })
	return o, nil
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

// look reads the account's oldest jobs and what the journal says of them.
func (a *AccountOverview) look(ctx context.Context, js jetstream.JetStream, records *journal.Journal, jobs int) error {
	for name, subject := range topology.Consumers(a.Name) {
		stream, err := js.Stream(ctx, topology.StreamOf(name))
		if err != nil {
			return fmt.Errorf("bind stream %s: %w", topology.StreamOf(name), err)
		}
		next := uint64(1)
		for range jobs {
			m, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			}
			if err != nil {
				return fmt.Errorf("read the oldest jobs of account %s: %w", a.Name, err)
			}
			next = m.Sequence + 1
			if a.Oldest.IsZero() || m.Time.Before(a.Oldest) {
				a.Oldest = m.Time
			}
			if jobs == 1 {
				continue
			}
			if err := a.undecided(ctx, records, m); err != nil {
				return err
			}
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
	renewal, key, identified := r.RenewalKey, r.IdempotencyKey, r.Identified
	if _, err := messages.ParseCaptureSubject(m.Subject); err == nil {
		r := messages.ReadCapture(m.Data, m.Header)
		renewal, key, identified = r.RenewalKey, r.IdempotencyKey, r.Identified
	}
	if !identified {
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
