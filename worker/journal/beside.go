package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/klarna-renewals/renewals/messages"
)

// asksAgain is how often a leader that has been deposed is asked again before a charge goes back.
const asksAgain = 3

// errPast is an answer of a leader that does not know yet that it is none any more.
var errPast = fmt.Errorf("%s was read from a leader that has been deposed", messages.StreamJournal)

// Beside reads the periods of a subscription that may stand in the way of a renewal's claim, at, which is in the journal. It asks the
// index of subjects, which knows every period and its due moment and reads no record, and then the last record of those that are near:
// mostly there are none. An answer counts only if it knows the claim, and a record only if it is at least as new as the index. After an
// error nothing is known, and nothing may be sent.
func (j *Journal) Beside(ctx context.Context, r messages.Renewal, at Entry) ([]Neighbour, error) {
	ctx, cancel := context.WithTimeout(ctx, PublishTimeout)
	defer cancel()
	var between = NewPause()
	for n := range 1 + asksAgain {
		beside, err := j.beside(ctx, r, at)
		if !errors.Is(err, errPast) || n == asksAgain || !pause(ctx, between.NextBackOff()) {
			return beside, err
		}
	}
	return nil, errPast
}

func (j *Journal) beside(ctx context.Context, r messages.Renewal, at Entry) (beside []Neighbour, err error) {
	subscription, _ := r.Split()
	subjects, last, err := j.subjects.under(ctx, messages.SubscriptionFilter(subscription))
	j.read(err)
	if err != nil {
		return nil, fmt.Errorf("read the periods of the subscription of renewal %s: %w", r.Key(), err)
	}
	index := readIndex(subjects, at.State)
	// Records age: then fewer are left than were counted, and the end of the stream tells.
	if index[r].records < at.State.Rev && last < at.Sequence {
		return nil, errPast
	}
	for _, other := range index.near(r) {
		e, err := j.Last(ctx, other)
		if err != nil {
			return nil, err
		}
		if e.State.Rev < index[other].records {
			return nil, errPast
		}
		beside = append(beside, Neighbour{Renewal: other, State: e.State})
	}
	return beside, nil
}

// An index is what the subjects of a subscription's records say of its periods.
type index map[messages.Renewal]period

// A period is one of them.
type period struct {
	records int64
	near    bool // to the one that is looked from
	claimed bool // a key of it was claimed: what was only rejected or cancelled stands in nobody's way
}

// readIndex reads how many records there are on each subject, as a period in state s sees them.
func readIndex(subjects map[string]uint64, s State) index {
	all := make(index, 1)
	for subject, records := range subjects {
		a, err := messages.ParseRecordSubject(subject)
		if err != nil {
			continue // no worker wrote it
		}
		p := all[a.Renewal]
		p.records += int64(records)
		p.near = p.near || s.near(a)
		p.claimed = p.claimed || a.Kind != messages.KindRejected && a.Kind != messages.KindCancelled
		all[a.Renewal] = p
	}
	return all
}

// near are the periods whose last records are to be read, in a certain order.
func (all index) near(own messages.Renewal) (near []messages.Renewal) {
	for r, p := range all {
		if r != own && p.near && p.claimed {
			near = append(near, r)
		}
	}
	slices.Sort(near)
	return near
}
