package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// examineStreams compares every setting with what provision makes.
func examineStreams(_ context.Context, e *exam) (found []Finding) {
	var missing, unasked []string
	var why error // of the first of those
	for _, name := range topology.Streams() {
		a := e.streams()[name]
		switch {
		case errors.Is(a.err, jetstream.ErrStreamNotFound) && name == messages.StreamJournal: // a finding of its own
		case errors.Is(a.err, jetstream.ErrStreamNotFound):
			missing = append(missing, topology.Called(name))
		case a.err != nil:
			if unasked = append(unasked, topology.Called(name)); why == nil {
				why = a.err
			}
		default:
			for _, off := range topology.Deviations(a.info.Config) {
				found = append(found, Finding{Verdict: NotSafe, Seen: off.Finding(), Why: "what was charged may be forgotten or read wrongly; workers claim nothing while they see it", Do: off.Remedy()})
			}
		}
	}
	if len(missing) > 0 {
		found = append(found, Finding{Verdict: NotSafe, Seen: "missing: " + strings.Join(missing, ", "), Why: "workers claim nothing", Do: "run renewals provision"})
	}
	if len(unasked) > 0 {
		f := blind(why)[0]
		f.Seen = "nothing of " + strings.Join(unasked, ", ") + ": " + f.Seen
		found = append(found, f)
	}
	if len(found) == 0 {
		return well("%d streams, the workers' bucket among them, are as provision makes them", len(topology.Streams()))
	}
	return found
}

// examineConsumers looks at the consumers of every account, of which there are three.
func examineConsumers(ctx context.Context, e *exam) (found []Finding) {
	accounts := e.accounts()
	if len(accounts) == 0 {
		return one(Unseen, "no account is configured here, no worker serves one and none has jobs", "", "say which accounts there are: KLARNA_ACCOUNT, or --config")
	}
	for _, name := range []string{messages.StreamJobs, messages.StreamLater} {
		if err := e.streams()[name].err; err != nil {
			return blind(err)
		}
	}
	var listed topology.Listing // without it each is asked for
	lists := []string{"CONSUMER.LIST." + messages.StreamJobs, "CONSUMER.LIST." + messages.StreamLater}
	_ = e.ask(ctx, lists, func(ctx context.Context) (err error) {
		listed, err = topology.List(ctx, e.JS, len(accounts))
		return err
	})
	answers := make([][]Finding, len(accounts))
	var looking sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i, a := range accounts {
		looking.Go(func() {
			places <- struct{}{}
			answers[i] = e.consumersOf(ctx, a, listed)
			<-places
		})
	}
	looking.Wait()
	if found = onceUnseen(slices.Concat(answers...)); len(found) > 0 {
		return found
	}
	return well("as provision makes them for %s, none is paused or nearly full", accountsText(accounts))
}

// onceUnseen tells of the first account that cannot be seen, and how many more there are: the reason is the same.
func onceUnseen(all []Finding) (found []Finding) {
	first, more := -1, 0
	for _, f := range all {
		if f.Verdict == Unseen && first >= 0 {
			more++
			continue
		}
		if f.Verdict == Unseen {
			first = len(found)
		}
		found = append(found, f)
	}
	if more > 0 {
		found[first].Seen += fmt.Sprintf(", and so for %d more accounts", more)
	}
	return found
}

// consumersOf names what is off about an account's consumers.
func (e *exam) consumersOf(ctx context.Context, a messages.Account, listed topology.Listing) (found []Finding) {
	for name, subject := range topology.Consumers(a) {
		var info *jetstream.ConsumerInfo
		err := e.ask(ctx, []string{"CONSUMER.INFO." + topology.StreamOf(name) + "." + name}, func(ctx context.Context) (err error) {
			info, err = topology.VerifyConsumer(ctx, e.JS, a, name, subject, e.LeaseNeeded, listed)
			return err
		})
		off, deviates := errors.AsType[*topology.Deviation](err)
		switch {
		case deviates:
			found = append(found, Finding{Verdict: NotSafe, Seen: off.Finding(), Why: "account " + string(a) + " is not charged while workers see it", Do: off.Remedy()})
		case topology.Missing(err):
			found = append(found, Finding{Verdict: NotSafe, Seen: "consumer " + name + " on stream " + topology.StreamOf(name) + " is missing", Why: "jobs of account " + string(a) + " are handed to nobody", Do: "run renewals provision"})
		case err != nil:
			return append(found, blind(err)...)
		}
		if info != nil {
			found = append(found, waiting(name, info.NumAckPending, info.Config.MaxAckPending)...)
		}
	}
	return found
}

// waiting says that a consumer holds nearly as many jobs as it may.
func waiting(name string, pending, most int) []Finding {
	if most <= 0 || float64(pending) < nearlyFull*float64(most) {
		return nil
	}
	return one(Warn, fmt.Sprintf("consumer %s: jobs that wait take %d of max_ack_pending %d", name, pending, most),
		"at that number nothing is handed out, whatever is due", "see deploy/RUNBOOK.md, RenewalsQueueNearlyFull")
}

func accountsText(accounts []messages.Account) string {
	if len(accounts) > 4 {
		return fmt.Sprintf("%d accounts", len(accounts))
	}
	names := make([]string, len(accounts))
	for i, a := range accounts {
		names[i] = string(a)
	}
	return strings.Join(names, ", ")
}
