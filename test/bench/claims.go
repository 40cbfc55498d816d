//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// model is a renewal that a worker made: its claim and its result, to be copied under other names.
type model struct{ claim, paid *jetstream.RawStreamMsg }

// model lets a worker charge one job.
func (w *world) model(ctx context.Context) (m model, err error) {
	if err := publish(ctx, w.js, w.setup, 0, 1, w.results); err != nil {
		return m, err
	}
	if err := w.startWorkers(); err != nil {
		return m, err
	}
	if err := await(ctx, w, w.results.reached(1)); err != nil {
		return m, err
	}
	if err := w.stopWorkers(); err != nil {
		return m, err
	}
	w.workers = nil
	journal, err := w.js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return m, err
	}
	if m.claim, err = journal.GetLastMsgForSubject(ctx, messages.KindFilter(messages.KindCharging, renewal(0))); err == nil {
		m.paid, err = journal.GetLastMsgForSubject(ctx, messages.KindFilter(messages.KindPaid, renewal(0)))
	}
	if err != nil {
		return m, err
	}
	w.js.Conn().Close() // and with it whoever waited for the result
	w.js, err = w.connect(ctx)
	return m, err
}

// copied is a record of the model as renewal n would have it, of the same size. It carries its expectation under another name: whoever
// fills a journal knows what is in it.
func copied(m *jetstream.RawStreamMsg, n int) *nats.Msg {
	of := func(n int) (string, string, string) {
		id := messages.SubscriptionID(subscription(n))
		key := messages.NewRenewalKey(id, period)
		return string(id), string(key), string(messages.NewIdempotencyKey(key, messages.MessageID(subscription(n)+"/"+string(period)+"/1")))
	}
	id, key, attempt := of(0)
	newID, newKey, newAttempt := of(n)
	rename := strings.NewReplacer(attempt, newAttempt, key, newKey, id, newID)
	header := nats.Header{}
	for name, values := range m.Header {
		if rest, ok := strings.CutPrefix(name, "Nats-"); ok {
			name = "Mats-" + rest
		}
		for _, value := range values {
			header[name] = append(header[name], rename.Replace(value))
		}
	}
	return &nats.Msg{Subject: rename.Replace(m.Subject), Header: header, Data: []byte(rename.Replace(string(m.Data)))}
}

// fill writes renewals as some dozens at a time would be charged: each result a little behind its claim. middle is when half was written.
func (w *world) fill(ctx context.Context, m model, renewals int) (middle time.Time, err error) {
	const behind = 32
	js, err := jetstream.New(w.js.Conn(), jetstream.WithPublishAsyncMaxPending(2000))
	if err != nil {
		return middle, err
	}
	put := func(of *jetstream.RawStreamMsg, n int) error {
		_, err := js.PublishMsgAsync(copied(of, n), jetstream.WithStallWait(30*time.Second))
		return err
	}
	for n := 1; n < renewals+behind && err == nil; n++ { // the first is there
		if n < renewals {
			err = put(m.claim, n)
		}
		if result := n - behind; result > 0 && err == nil {
			err = put(m.paid, result)
		}
		if n == renewals/2 {
			middle = time.Now()
		}
		if ctx.Err() != nil {
			return middle, context.Cause(ctx)
		}
	}
	if err != nil {
		return middle, err
	}
	if err := await(ctx, w, js.PublishAsyncComplete()); err != nil {
		return middle, err
	}
	journal, err := w.js.Stream(ctx, messages.StreamJournal)
	if err == nil && journal.CachedInfo().State.Msgs != uint64(2*renewals) {
		err = fmt.Errorf("%d records, expected %d", journal.CachedInfo().State.Msgs, 2*renewals)
	}
	return middle, err
}

// claimPace is how many claims are made a second: an account's rate.
const claimPace = 180

// claims makes claims as a worker does: the renewal's last record is read, and the claim is stored if that is still the last.
type claims struct {
	model model
	next  int // renewal that nobody has claimed
}

// claimed is claims at a pace.
type claimed struct {
	stop func()
	busy sync.WaitGroup

	mu     sync.Mutex
	since  time.Time // those that were begun before do not count
	took   []time.Duration
	failed int
}

// start begins to claim the renewals, or where none are named new ones.
func (c *claims) start(ctx context.Context, w *world, renewals []int) (*claimed, error) {
	nc, err := nats.Connect(w.brokerURL)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	journal, err := js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		nc.Close()
		return nil, err
	}
	told, stop := context.WithCancel(ctx)
	s := &claimed{}
	s.stop = sync.OnceFunc(func() {
		stop()
		s.busy.Wait()
		nc.Close()
	})
	s.busy.Go(func() {
		tick := time.NewTicker(time.Second / claimPace)
		defer tick.Stop()
		for n := 0; renewals == nil || n < len(renewals); n++ {
			select {
			case <-told.Done():
				return
			case <-tick.C:
			}
			of := c.next
			if renewals != nil {
				of = renewals[n]
			} else {
				c.next++
			}
			s.busy.Go(func() { s.note(time.Now(), c.claim(ctx, js, journal, of)) })
		}
	})
	return s, nil
}

// claim is one of them. That of a renewal which is drawn twice may lose against its other.
func (c *claims) claim(ctx context.Context, js jetstream.JetStream, journal jetstream.Stream, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, last := renewal(n), uint64(0)
	m, err := journal.GetLastMsgForSubject(ctx, messages.RenewalFilter(r))
	if err == nil {
		last = m.Sequence
	} else if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return err
	}
	_, err = js.PublishMsg(ctx, copied(c.model.claim, n), expect(r, last))
	return err
}

func (s *claimed) note(began time.Time, err error) {
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	if began.Before(s.since) {
		return
	}
	s.took = append(s.took, took)
	if err != nil {
		s.failed++
	}
}

// forget lets only those count that begin from now on.
func (s *claimed) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since, s.took, s.failed = time.Now(), nil, 0
}

// end waits for those that are under way.
func (s *claimed) end() { s.stop() }

func (s *claimed) done() (took []time.Duration, failed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.took, s.failed
}
