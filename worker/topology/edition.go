package topology

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// movingOn is what to do about a journal of the contract's first edition. No command moves its records: what was charged would be
// known under names that no compare-and-set looks at, or be forgotten without anybody's word.
const movingOn = "they are of the first edition of the contract, and no version of this program reads both: let the version that wrote them finish, " +
	`then move as "The contract, second edition" in CHANGELOG.md says`

// An EditionError is a journal that holds records of the contract's first edition. It is the memory of what was charged, and
// neither joined by new subjects nor replaced.
type EditionError struct {
	Found    string // one of its subjects
	Subjects int    // those of the first edition that have records
}

func (e *EditionError) Error() string {
	return fmt.Sprintf("stream %s: setting subjects: found %s with records on %d subjects, expected %s; %s",
		messages.StreamJournal, likewise(e.Found), e.Subjects, likewise(currentSubject()), movingOn)
}

// currentSubject is one of the journal's.
func currentSubject() string { return messages.RecordFilter(messages.KindPaid, "*") }

func likewise(subject string) string { return subject + " and others like it" }

// firstEdition are those of a stream's subjects that are of the contract's first edition.
func firstEdition(subjects []string) []string {
	return slices.DeleteFunc(slices.Clone(subjects), func(s string) bool { return !messages.FirstEdition(s) })
}

// guardEdition refuses a journal with records of the contract's first edition.
func guardEdition(ctx context.Context, js jetstream.JetStream, subjects []string) error {
	old := firstEdition(subjects)
	if len(old) == 0 {
		return nil
	}
	_, records, err := subjectsFrom(ctx, js, messages.StreamJournal, "renewals.*.*.*", math.MaxInt32) // counted, not listed
	if err != nil {
		return err
	}
	if records > 0 {
		return &EditionError{Found: old[0], Subjects: records}
	}
	return nil
}

// update makes a stream as target. It may take subjects of the first edition from a journal without records. Whoever still runs that
// edition may have claimed something between the look and the update: then they come back, so that what it charges can be recorded.
func update(ctx context.Context, js jetstream.JetStream, found, target jetstream.StreamConfig) error {
	if _, err := js.UpdateStream(ctx, target); err != nil {
		return err
	}
	err := guardEdition(ctx, js, found.Subjects)
	if err != nil {
		if _, back := js.UpdateStream(ctx, found); back != nil {
			return fmt.Errorf("%w; the old subjects could not be put back: %w", err, back)
		}
	}
	return err
}
