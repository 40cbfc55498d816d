package desk

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// A Period is one of a subscription's, as the journal's index of subjects knows it.
type Period struct {
	Renewal messages.Renewal
	Due     time.Time // zero where no record of it has a due moment: it was cancelled before anybody published it
	Records uint64
}

// Name is what the subscription calls it.
func (p Period) Name() messages.Period {
	_, name := p.Renewal.Split()
	return name
}

// Periods lists the periods of a subscription that the journal knows, the one that fell due last first. No record is read for it.
func (f Finder) Periods(ctx context.Context, subscription messages.SubscriptionID) ([]Period, error) {
	subjects, err := topology.Subjects(ctx, f.JetStream, messages.StreamJournal, messages.SubscriptionFilter(subscription))
	if err != nil {
		return nil, err
	}
	known := map[messages.Renewal]Period{}
	for subject, records := range subjects {
		a, err := messages.ParseRecordSubject(subject)
		if err != nil {
			continue // no worker wrote it
		}
		p := known[a.Renewal]
		p.Renewal, p.Records = a.Renewal, p.Records+records
		if due := time.Unix(a.Due, 0); a.Due != 0 && due.After(p.Due) {
			p.Due = due
		}
		known[a.Renewal] = p
	}
	var periods []Period
	for _, p := range known {
		periods = append(periods, p)
	}
	slices.SortFunc(periods, func(a, b Period) int {
		return cmp.Or(b.Due.Compare(a.Due), cmp.Compare(b.Name(), a.Name()))
	})
	return periods, nil
}

// A Standing is how a period stands.
type Standing struct {
	Period
	State journal.State
	// Record is the one that its phase is about: the last, unless that is only about a job that was turned away.
	Record journal.Entry
	// Unreadable is why nothing is known but what the index says.
	Unreadable *journal.UnreadableError
}

// Took says that the period has had a job of this message ID.
func (s Standing) Took(id messages.MessageID) bool { return took(s.State, s.Renewal, id) }

// Stands reads how a period stands: one record of the journal, at times two, each by a name of its own.
func (f Finder) Stands(ctx context.Context, p Period) (Standing, error) {
	s := Standing{Period: p}
	at, err := f.Journal.Last(ctx, p.Renewal)
	if errors.As(err, &s.Unreadable) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.State, s.Record = at.State, at
	phase := messages.Kind(at.State.Phase) // named after the kind of record that led to it
	if a, err := messages.ParseRecordSubject(at.Subject); err != nil || a.Kind == phase || !slices.Contains(messages.Kinds(), phase) {
		return s, nil
	}
	about, err := f.Journal.LastOf(ctx, phase, p.Renewal)
	if err == nil && about.Sequence != 0 {
		s.Record = about
	}
	if errors.As(err, &s.Unreadable) {
		return s, nil
	}
	return s, err
}
