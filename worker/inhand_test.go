package worker

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// faulty is a JetStream of which a test fails reads and writes, or loses their
// answers. It tells the test which call it is, "read", "dead" or the kind of the record, and the token of its subject that
// names the renewal, or the key of a dead letter.
type faulty struct {
	jetstream.JetStream
	before func(ctx context.Context, call, of string) error
	after  func(call, of string) error // of what was stored
}

func (f faulty) PublishMsg(ctx context.Context, m *nats.Msg, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	tokens := strings.Split(m.Subject, ".")
	if err := f.before(ctx, tokens[1], tokens[2]); err != nil {
		return nil, err
	}
	ack, err := f.JetStream.PublishMsg(ctx, m, options...)
	if err == nil && f.after != nil {
		err = f.after(tokens[1], tokens[2])
	}
	return ack, err
}

func (f faulty) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := f.JetStream.Stream(ctx, name)
	return faultyStream{s, f}, err
}

type faultyStream struct {
	jetstream.Stream
	faulty faulty
}

func (s faultyStream) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	if err := s.faulty.before(ctx, "read", strings.Split(subject, ".")[2]); err != nil {
		return nil, err
	}
	return s.Stream.GetLastMsgForSubject(ctx, subject)
}

// startFaulty is start, on a faulty view of the broker.
func (w *world) startFaulty(f faulty, change ...func(*Options)) (stop func()) {
	w.t.Helper()
	f.JetStream = w.js
	defer func() { w.js = f.JetStream }()
	w.js = f
	return w.start(change...)
}

// decline writes what another worker would that took the open claim of a renewal
// over and was declined.
func (w *world) decline(r messages.RenewalKey) {
	w.t.Helper()
	journal, err := OpenJournal(w.t.Context(), w.js, DefaultOptions().Log)
	if err != nil {
		w.t.Fatal(err)
	}
	at, err := journal.Last(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	c := *at.State.Claim
	c.Nonce, c.Worker = uuid.NewString(), "another"
	next := at.State.claimed(c).settle(c.Key, Settlement{Kind: messages.KindDunning, SHA256: c.SHA256})
	next.Phase = PhaseDunning
	event := messages.Dunning{Record: messages.Record{ID: "declined", Account: "default", RenewalKey: r, IdempotencyKey: c.Key}}
	m, err := recordMessage(event, event.Record, next, w.now(), "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := journal.Write(w.t.Context(), m, r, at.Sequence); err != nil {
		w.t.Fatal(err)
	}
}

// S69: a 200 is in hand, another worker has recorded `dunning`, and the read that
// would tell so fails: once, and for as long as a minute of a lease of two.
func TestS69LostSetThenFailedReads(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fails time.Duration
	}{{"once", 0}, {"for long", time.Second}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.publish(w.due("s69", "ok-1", 1))
			renewal := messages.NewRenewalKey("s69", "2026-12")
			var declined, failed atomic.Int64
			w.startFaulty(faulty{before: func(_ context.Context, call, _ string) error {
				switch {
				case call == "paid" && declined.CompareAndSwap(0, time.Now().UnixNano()):
					w.decline(renewal)
				case call == "read" && declined.Load() != 0 && (failed.Add(1) == 1 || time.Since(time.Unix(0, declined.Load())) < tt.fails):
					return nats.ErrTimeout
				}
				return nil
			}}, oneHand)
			w.awaitEmpty()
			w.expect(1, "dunning", "paid")
			if r := w.results(); len(r) == 2 && (r[1].Corr != "dunning" || r[1].Order == "") {
				t.Errorf("result %+v, want paid with its order, corrects dunning", r[1])
			}
			if n := len(w.orders()); n != 1 {
				t.Errorf("requests: %d, want 1", n)
			}
		})
	}
}
