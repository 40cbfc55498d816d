package topology

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// firstJournal has the subjects that the contract's first edition gave the journal.
func firstJournal(c *jetstream.StreamConfig) {
	c.Subjects = nil
	for _, k := range messages.Kinds() {
		c.Subjects = append(c.Subjects, "renewals."+string(k)+".*.*")
	}
}

const firstRecord = "renewals.paid.4a87da77-4bba-50c6-8cae-6972612639ac.default"

// A journal with records of the contract's first edition is neither joined by new subjects nor replaced, whatever else is asked for:
// no compare-and-set would look at its records, and what they say was charged would be charged again.
func TestProvisionRefusesTheFirstEdition(t *testing.T) {
	w := newWorld(t)
	both := w.streamConfig(messages.StreamJournal).Subjects
	w.changed(messages.StreamJournal, firstJournal)
	old := w.streamConfig(messages.StreamJournal).Subjects
	if _, err := w.js.Publish(t.Context(), firstRecord, nil); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		journal  string
		subjects []string
		p        Provisioning
	}{
		{journal: "as the first edition made it", subjects: old},
		{journal: "the same, and an empty one would do", subjects: old, p: Provisioning{AcceptEmptyJournal: true}},
		{journal: "with the new subjects beside the old", subjects: slices.Concat(old, both)},
	} {
		w.changed(messages.StreamJournal, func(c *jetstream.StreamConfig) { c.Subjects = row.subjects })
		told, err := w.provisions(row.p)
		var refused *EditionError
		if !errors.As(err, &refused) || refused.Subjects != 1 || len(told) > 0 {
			t.Errorf("%s: provision says %q, %v, want the edition refused before anything is done", row.journal, told, err)
			continue
		}
		_, off := Verify(t.Context(), w.js)
		for _, err := range []error{err, off} {
			for _, want := range []string{"stream RENEWAL_JOURNAL: setting subjects: found ", "renewals.charging.*.*", "expected ", "renewals.paid.*.*.*.*", `"The contract, second edition" in CHANGELOG.md`} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v, want it to say %q", row.journal, err, want)
				}
			}
		}
		if after := w.streamConfig(messages.StreamJournal).Subjects; !slices.Equal(after, row.subjects) {
			t.Errorf("%s: subjects %q, want them untouched", row.journal, after)
		}
	}
}

// Without a record there is nothing to lose: the subjects are replaced, and nothing else of what an operator set.
func TestProvisionRenamesAnEmptyJournal(t *testing.T) {
	w := newWorld(t)
	w.changed(messages.StreamJournal, func(c *jetstream.StreamConfig) { firstJournal(c); c.MaxAge *= 2 })
	if _, err := Verify(t.Context(), w.js); err == nil || !strings.Contains(err.Error(), "where the stream is empty, run `renewals provision`") {
		t.Errorf("verify: %v, want it to say what to do", err)
	}
	told, err := w.provisions(Provisioning{})
	if err != nil || len(told) != 1 || !strings.Contains(told[0], "RENEWAL_JOURNAL: subjects: ") {
		t.Fatalf("provision says %q, %v, want the subjects alone changed", told, err)
	}
	want := Provisioning{Retention: 2 * DefaultRetention}.Journal()
	if after := w.streamConfig(messages.StreamJournal); !slices.Equal(after.Subjects, want.Subjects) || after.MaxAge != want.MaxAge {
		t.Errorf("subjects %q, age %s, want %q, %s", after.Subjects, after.MaxAge, want.Subjects, want.MaxAge)
	}
	if _, err := Verify(t.Context(), w.js); err != nil {
		t.Error(err)
	}
}

// claimsMeanwhile is a worker of the first edition that writes a record between the look and the update.
type claimsMeanwhile struct{ jetstream.JetStream }

func (js claimsMeanwhile) UpdateStream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	if c.Name == messages.StreamJournal && len(firstEdition(c.Subjects)) == 0 {
		if _, err := js.Publish(ctx, firstRecord, nil); err != nil {
			return nil, err
		}
	}
	return js.JetStream.UpdateStream(ctx, c)
}

// Whoever has just claimed under the old subjects can still record what it charged.
func TestProvisionGivesBackTheFirstEdition(t *testing.T) {
	w := newWorld(t)
	w.changed(messages.StreamJournal, firstJournal)
	old := w.streamConfig(messages.StreamJournal).Subjects
	err := Provision(t.Context(), claimsMeanwhile{w.js}, Provisioning{Accounts: []messages.Account{"default"}})
	var refused *EditionError
	if !errors.As(err, &refused) {
		t.Errorf("provision: %v, want the edition refused", err)
	}
	if after := w.streamConfig(messages.StreamJournal).Subjects; !slices.Equal(after, old) {
		t.Errorf("subjects %q, want %q back", after, old)
	}
}
