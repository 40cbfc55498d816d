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
}

var _ reconcile.Books = (*Ledger)(nil)

// New is an empty ledger.
func New() *Ledger {
	return &Ledger{Renewals: map[messages.RenewalKey]reconcile.Renewal{}, Orders: map[string][]messages.RenewalKey{}, References: map[string][]messages.RenewalKey{}}
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
	records := map[messages.Renewal][]reconcile.Record{}
	err := desk.Scan(ctx, js, messages.StreamJournal, jetstream.OrderedConsumerConfig{}, func(m jetstream.Msg, _ *jetstream.MsgMetadata) error {
		address, err := messages.ParseRecordSubject(m.Subject())
		if err != nil || address.Renewal.StandsIn() {
			return err
		}
		state, err := journal.ParseState(m.Headers().Get(messages.HeaderState))
		if err != nil {
			return err
		}
		records[address.Renewal] = append(records[address.Renewal], reconcile.Record{Kind: address.Kind, State: state, Body: slices.Clone(m.Data())})
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, of := range records {
		r, err := reconcile.Fold(of)
		if err != nil {
			return nil, err
		}
		l.Add(r)
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
			paid := r.OrderID != "" && within(r.PaidAt)
			for _, c := range r.Captures {
				paid = paid || within(c.At)
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

func (l *Ledger) Knows(_ context.Context, account messages.Account, subscription messages.SubscriptionID) (bool, error) {
	for _, r := range l.Renewals {
		if r.Account == account && r.SubscriptionID == subscription {
			return true, nil
		}
	}
	return false, nil
}
