package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// Unresolved lists the renewals that wait for an operator, the oldest first.
func (j *Journal) Unresolved(ctx context.Context) ([]messages.Unresolved, error) {
	all, _, err := j.Waiting(ctx, nil, math.MaxInt)
	return all, err
}

// MostVisits is how many renewals that were unresolved once are looked at in one go. Each visit is a read of a
// record that may be months old, and claims wait behind it.
const MostVisits = 2000

// Resolved are renewals that were unresolved and are no more, by the subject of
// those records and how many there were: without a further one they are not unresolved again.
type Resolved map[string]uint64

// Waiting is [Journal.Unresolved] with at most so many visits; left is how many renewals it did not get to. It does not visit
// what is known to be resolved, and adds to that unless it is nil, so that the next call gets further.
func (j *Journal) Waiting(ctx context.Context, known Resolved, most int) (waiting []messages.Unresolved, left int, err error) {
	given, err := j.counts(ctx, messages.RecordFilter(messages.KindUnresolved, "*"))
	if err != nil {
		return nil, 0, err
	}
	maps.DeleteFunc(known, func(subject string, _ uint64) bool { return given[subject] == 0 })
	for subject, n := range given {
		record, err := messages.ParseRecordSubject(subject)
		if err != nil || known[subject] == n {
			continue
		}
		if most--; most < 0 {
			left++
			continue
		}
		at, err := j.Last(ctx, record.Renewal)
		var unreadable *UnreadableError
		if errors.As(err, &unreadable) {
			continue // whoever has a job for it meets it
		}
		if err != nil {
			return nil, 0, err
		}
		if at.State.Phase != PhaseUnresolved {
			if known != nil {
				known[subject] = n
			}
			continue
		}
		gaveUp, err := j.unresolved(ctx, record.Renewal)
		if err != nil {
			return nil, 0, err
		}
		waiting = append(waiting, gaveUp)
	}
	slices.SortFunc(waiting, func(a, b messages.Unresolved) int { return a.At.Compare(b.At) })
	return waiting, left, nil
}

// counts says how many records there are, by subject.
func (j *Journal) counts(ctx context.Context, filter string) (map[string]uint64, error) {
	info, err := j.stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("read the subjects of %s: %w", messages.StreamJournal, err)
	}
	return info.State.Subjects, nil
}
