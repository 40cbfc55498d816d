package desk

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// naming is what records say of what was made at Klarna, and for whom.
type naming struct {
	SubscriptionID messages.SubscriptionID `json:"subscription_id"`
	Period         messages.Period         `json:"period"`
	IdempotencyKey messages.IdempotencyKey `json:"idempotency_key"`
	At             time.Time               `json:"at"`
	OrderID        string                  `json:"order_id"`
	CaptureID      string                  `json:"capture_id"`
}

// Mention is a record that names an order or a capture.
type Mention struct {
	Kind           messages.Kind
	Sequence       uint64
	SubscriptionID messages.SubscriptionID
	Period         messages.Period
	Key            messages.IdempotencyKey
}

// Mentions are the records that name certain orders and captures. The journal has no index of them, so all records are read from when
// what is sought can first be named, in the order in which they were written and without a filter: claims do not wait for that.
type Mentions struct {
	finder Finder
	since  time.Time
	next   uint64 // 0: nothing was read yet
	found  map[string][]Mention
}

// NewMentions looks for orders and captures by their ids among the records that were stored since a moment, zero for all. Nothing is read yet.
func NewMentions(f Finder, since time.Time, ids ...string) *Mentions {
	m := &Mentions{finder: f, since: since, found: map[string][]Mention{}}
	for _, id := range ids {
		m.found[id] = nil
	}
	return m
}

// Read reads what was written since the last time, at first everything.
func (m *Mentions) Read(ctx context.Context) error {
	info, err := m.finder.stream(ctx, messages.StreamJournal)
	if err != nil || m.next > info.State.LastSeq || len(m.found) == 0 {
		return err
	}
	config := jetstream.OrderedConsumerConfig{}
	switch {
	case m.next > 0:
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, m.next
	case !m.since.IsZero():
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &m.since
	}
	set, done := func(int64) {}, func() {}
	defer func() { done() }()
	read, whole := int64(0), m.next == 0
	err = Scan(ctx, m.finder.JetStream, messages.StreamJournal, config, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if read++; read == 1 && whole {
			set, done = m.finder.Progress("journal searched for other records of it", int64(meta.NumPending)+1)
		}
		m.take(meta.Sequence.Stream, msg)
		m.next = meta.Sequence.Stream + 1
		set(read)
		return nil
	})
	if err == nil && m.next == 0 {
		m.next = info.State.LastSeq + 1
	}
	return err
}

func (m *Mentions) take(at uint64, msg jetstream.Msg) {
	if !bytes.Contains(msg.Data(), []byte(`"order_id"`)) {
		return
	}
	address, err := messages.ParseRecordSubject(msg.Subject())
	var names naming
	if err != nil || json.Unmarshal(msg.Data(), &names) != nil {
		return // no worker wrote it
	}
	for _, id := range [...]string{names.OrderID, names.CaptureID} {
		if _, sought := m.found[id]; sought {
			m.found[id] = append(m.found[id], Mention{address.Kind, at, names.SubscriptionID, names.Period, names.IdempotencyKey})
		}
	}
}

// Elsewhere is the first record that names an order or a capture for another key than this one; nil where none that was read does.
func (m *Mentions) Elsewhere(id string, key messages.IdempotencyKey) *Mention {
	for _, mention := range m.found[id] {
		if mention.Key != key {
			return &mention
		}
	}
	return nil
}
