// Package ledger keeps a journal in plain maps, for tests: what [reconcile.Compare] asks a database for.
package ledger

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// Ledger is all renewals by their keys.
type Ledger struct {
	Renewals map[messages.RenewalKey]reconcile.Renewal
	// Orders and References are those of any record of a renewal.
	Orders, References map[string][]messages.RenewalKey
	// Cadences of renewals, MONTH/1 where there is none here, and which of them are off their cycle.
	Cadences map[messages.RenewalKey]messages.Cadence
	OffCycle map[messages.RenewalKey]bool
}

var _ reconcile.Books = (*Ledger)(nil)

// New is an empty ledger.
func New() *Ledger {
	return &Ledger{
		Renewals: map[messages.RenewalKey]reconcile.Renewal{}, Orders: map[string][]messages.RenewalKey{}, References: map[string][]messages.RenewalKey{},
		Cadences: map[messages.RenewalKey]messages.Cadence{}, OffCycle: map[messages.RenewalKey]bool{},
	}
}

// Add takes in a renewal.
func (l *Ledger) Add(r reconcile.Renewal) {
	l.Renewals[r.Key()] = r
	note(l.Orders, r.OrderID, r.Key())
	for _, reference := range []string{r.Reference1, r.Reference2, string(r.MessageID)} {
		note(l.References, reference, r.Key())
	}
}

func note(in map[string][]messages.RenewalKey, text string, key messages.RenewalKey) {
	if text != "" && !slices.Contains(in[text], key) {
		in[text] = append(in[text], key)
	}
}

// Read makes a ledger of a journal.
func Read(ctx context.Context, js jetstream.JetStream) (*Ledger, error) {
	l := New()
	events, states := map[messages.Renewal][]messages.Event{}, map[messages.Renewal]journal.State{}
	var renewals []messages.Renewal // as they come
	err := desk.Scan(ctx, js, messages.StreamJournal, jetstream.OrderedConsumerConfig{}, func(m jetstream.Msg, _ *jetstream.MsgMetadata) error {
		address, err := messages.ParseRecordSubject(m.Subject())
		if err != nil || address.Renewal.StandsIn() {
			return err
		}
		state := m.Headers().Get(messages.HeaderState)
		body, err := journal.WholeBody(m.Subject(), state, m.Data())
		if err != nil {
			return err
		}
		event, err := messages.DecodeEvent(address.Kind, body)
		if err != nil {
			return err
		}
		if events[address.Renewal] == nil {
			renewals = append(renewals, address.Renewal)
		}
		events[address.Renewal] = append(events[address.Renewal], event)
		states[address.Renewal], err = journal.ParseState(state)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, of := range renewals {
		s := states[of]
		r := reconcile.Fold(events[of])
		r.Phase, r.DueAt = s.Phase, s.DueAt
		l.Add(r)
		l.Cadences[r.Key()], l.OffCycle[r.Key()] = s.Cadence, s.OffCycle
	}
	return l, nil
}

func (l *Ledger) all(keys []messages.RenewalKey, is func(reconcile.Renewal) bool) (renewals []reconcile.Renewal) {
	for _, key := range keys {
		if r := l.Renewals[key]; is(r) {
			renewals = append(renewals, r)
		}
	}
	return renewals
}

// ByOrder is that of [reconcile.Books], as the other methods are.
func (l *Ledger) ByOrder(_ context.Context, orderID string) ([]reconcile.Renewal, error) {
	return l.all(l.Orders[orderID], func(reconcile.Renewal) bool { return true }), nil
}

func (l *Ledger) ByReference(_ context.Context, account messages.Account, reference string) ([]reconcile.Renewal, error) {
	return l.all(l.References[reference], func(r reconcile.Renewal) bool { return r.Account == account }), nil
}

func (l *Ledger) Paid(_ context.Context, account messages.Account, from, to time.Time) iter.Seq2[reconcile.Renewal, error] {
	return func(yield func(reconcile.Renewal, error) bool) {
		within := func(at time.Time) bool { return !at.Before(from) && at.Before(to) }
		for _, key := range slices.Sorted(maps.Keys(l.Renewals)) {
			r := l.Renewals[key]
			paid := r.OrderID != "" && within(r.MadeAt())
			for _, c := range r.Captures {
				paid = paid || within(c.MadeAt())
			}
			if paid && r.Account == account && !yield(r, nil) {
				return
			}
		}
	}
}

func (l *Ledger) Neighbours(_ context.Context, r reconcile.Renewal, within time.Duration) (near []reconcile.Renewal, err error) {
	for _, key := range slices.Sorted(maps.Keys(l.Renewals)) {
		n := l.Renewals[key]
		if n.SubscriptionID == r.SubscriptionID && n.Period != r.Period && n.DueAt.Sub(r.DueAt).Abs() < within {
			near = append(near, n)
		}
	}
	return near, nil
}

func (l *Ledger) Cadence(_ context.Context, r reconcile.Renewal) (messages.Cadence, bool, error) {
	if cadence, ok := l.Cadences[r.Key()]; ok {
		return cadence, l.OffCycle[r.Key()], nil
	}
	return "MONTH/1", l.OffCycle[r.Key()], nil
}

func (l *Ledger) Knows(_ context.Context, account messages.Account, subscription messages.SubscriptionID) (bool, error) {
	for _, r := range l.Renewals {
		if r.Account == account && r.SubscriptionID == subscription {
			return true, nil
		}
	}
	return false, nil
}
