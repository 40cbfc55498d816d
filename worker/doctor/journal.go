package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

const acceptance = "see deploy/RUNBOOK.md, RenewalsJournalSetBack: restore the journal, or renewals provision --accept-restored-journal"

// examineJournal asks whether the memory of what was charged is whole.
func examineJournal(ctx context.Context, e *exam) []Finding {
	a := e.streams()[messages.StreamJournal]
	if errors.Is(a.err, jetstream.ErrStreamNotFound) {
		if jobs := e.streams()[messages.StreamJobs]; jobs.err == nil && jobs.info.State.Msgs > 0 {
			return one(NotSafe, topology.ErrJournalMissing.Error(), "nobody knows which of the waiting jobs were charged", "do not accept an empty one before you know")
		}
		return one(NotSafe, "stream "+messages.StreamJournal+" is missing", "nothing can be charged", "run renewals provision; or is this user in another NATS account than the workers?")
	}
	if errors.Is(a.err, jetstream.ErrJetStreamNotEnabled) || errors.Is(a.err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return one(NotSafe, a.err.Error(), "nothing can be charged here", "check the user, its NATS account and NATS_JS_DOMAIN, and the jetstream block of the servers")
	}
	if a.err != nil {
		return blind(a.err)
	}
	memory := topology.Memory(a.info.Config, e.Now())
	if e.Retention > 0 && memory < e.Retention-topology.RetentionMargin {
		return one(Warn, fmt.Sprintf("the journal remembers %s, %s are configured", topology.Days(memory.Round(time.Hour)), topology.Days(e.Retention)),
			"periods are refused as too_old that were meant to be charged", "run renewals provision")
	}
	s, err := e.standing(ctx)
	if err != nil {
		return blind(err)
	}
	size := fmt.Sprintf("remembers %s, %d records", topology.Days(memory.Round(time.Hour)), a.info.State.Msgs)
	switch {
	case s.SetBack != "":
		return one(NotSafe, "the journal was set back: "+s.SetBack, "it has forgotten charges; nothing is charged until it is accepted", acceptance)
	case s.Proof != "":
		return one(NotSafe, "the journal was set back: "+s.Proof, "it has forgotten charges, and no worker has noticed yet", acceptance)
	case s.Behind:
		return one(Warn, fmt.Sprintf("the journal ends before record %d, which a worker has seen stored", s.Sequence),
			"it was set back, or a leader answered that is none any more", "look again in a minute; workers judge by their next record")
	case s.Created.IsZero():
		return well("%s; no worker has marked how far it came", size)
	case !s.Restored.IsZero():
		return well("%s, as workers marked it; accepted as restored: what fell due before %s is charged within the key window only", size, s.Restored.Format(time.RFC3339))
	}
	return well("%s, as workers marked it", size)
}

// standing compares the journal with its marks.
func (e *exam) standing(ctx context.Context) (s journal.Standing, err error) {
	for _, name := range []string{messages.StreamMarks, messages.StreamMarksCopy} {
		if err := e.streams()[name].err; err != nil {
			return s, err
		}
	}
	calls := []string{"STREAM.MSG.GET." + messages.StreamMarks, "STREAM.MSG.GET." + messages.StreamMarksCopy, "STREAM.MSG.GET." + messages.StreamJournal}
	err = e.ask(ctx, calls, func(ctx context.Context) error {
		s, err = journal.CompareWithMarks(ctx, e.JS)
		return err
	})
	return s, err
}
