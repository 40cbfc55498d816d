package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// A backup is a stream as `nats stream backup` saves it.
type backup struct {
	about struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}
	chunks [][]byte
}

// ask calls JetStream's API where nats.go has no function.
func (w *world) ask(subject string, body any, answer any) {
	w.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := w.js.Conn().Request(subject, data, 5*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	var refused struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := errors.Join(json.Unmarshal(m.Data, &refused), json.Unmarshal(m.Data, answer)); err != nil || refused.Error != nil {
		w.t.Fatal(subject, err, refused.Error)
	}
}

func (w *world) backUp(stream string) (b backup) {
	w.t.Helper()
	nc := w.js.Conn()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ask("$JS.API.STREAM.SNAPSHOT."+stream, map[string]any{"deliver_subject": inbox}, &b.about)
	for {
		m, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(m.Data) == 0 {
			return b
		}
		b.chunks = append(b.chunks, m.Data)
		if m.Reply != "" {
			_ = m.Respond(nil)
		}
	}
}

// restore puts a backup in the place of a stream, under running workers.
func (w *world) restore(stream string, b backup) {
	w.t.Helper()
	if err := w.js.DeleteStream(w.t.Context(), stream); err != nil {
		w.t.Fatal(err)
	}
	var place struct {
		Deliver string `json:"deliver_subject"`
	}
	w.ask("$JS.API.STREAM.RESTORE."+stream, b.about, &place)
	for _, chunk := range append(b.chunks, nil) {
		if _, err := w.js.Conn().Request(place.Deliver, chunk, 5*time.Second); err != nil {
			w.t.Fatal(err)
		}
	}
}

// makeAnew puts an empty journal in the place of the old one.
func (w *world) makeAnew() {
	w.t.Helper()
	if err := w.js.DeleteStream(w.t.Context(), messages.StreamJournal); err != nil {
		w.t.Fatal(err)
	}
	p := topology.Provisioning{Replicas: 1, Retention: topology.DefaultRetention}
	if _, err := w.js.CreateStream(w.t.Context(), p.Journal()); err != nil {
		w.t.Fatal(err)
	}
}

// marked awaits that both streams remember the journal's last record.
func (w *world) marked() {
	w.t.Helper()
	w.await("the mark", func() bool {
		records, err := w.js.Stream(w.t.Context(), messages.StreamJournal)
		if err != nil {
			w.t.Fatal(err)
		}
		kept, err := journal.ReadMarks(w.t.Context(), w.js)
		last := records.CachedInfo().State.LastSeq
		return err == nil && kept[0].Sequence == last && kept[1].Sequence == last && kept[0].SHA256 != ""
	})
}

// pausedBy awaits that a live worker says that it is paused for the reason.
func (w *world) pausedBy(reason string) {
	w.t.Helper()
	w.await("the pause "+reason, func() bool {
		live, err := topology.Workers(w.t.Context(), w.js)
		if err != nil {
			return false
		}
		for _, p := range live {
			if p.Paused[reason] != "" {
				return true
			}
		}
		return false
	})
}

// notPausedBy awaits that a worker lives and none is paused for the reason.
func (w *world) notPausedBy(reason string) {
	w.t.Helper()
	w.await("the end of the pause "+reason, func() bool {
		live, err := topology.Workers(w.t.Context(), w.js)
		if err != nil || len(live) == 0 {
			return false
		}
		for _, p := range live {
			if p.Paused[reason] != "" {
				return false
			}
		}
		return true
	})
}

// accept is the operator's word, in the time that the test lives in.
func (w *world) accept() {
	w.t.Helper()
	if _, err := journal.AcceptRestoredAhead(w.t.Context(), w.js, time.Duration(w.ahead.Load())); err != nil {
		w.t.Fatal(err)
	}
}

// S71: the journal is made anew, restored or cut short, under a running worker or before one starts, and every job
// is published again. Nothing is sent before an operator has accepted the journal. After it, Klarna gives
// the same orders again within the key window; after the window nothing is sent at all (S92).
func TestJournalSetBack(t *testing.T) {
	t.Parallel()
	const jobs = 6
	for _, how := range []struct {
		name  string
		knows int // how many renewals the journal knows afterwards; -1: it is made anew
	}{{"made anew", -1}, {"restored empty", 0}, {"restored from a copy", 2}, {"cut short by a renewal", jobs - 1}} {
		for _, restart := range []bool{false, true} {
			for _, later := range []time.Duration{0, 25 * time.Hour} {
				t.Run(fmt.Sprintf("%s/restart=%t/%s", how.name, restart, later), func(t *testing.T) {
					w := newWorld(t)
					w.markEvery = 100 * time.Millisecond
					stop := w.start()
					payloads := make([][]byte, jobs)
					var copied backup
					for i := range payloads {
						if i == how.knows {
							copied = w.backUp(messages.StreamJournal)
						}
						payloads[i] = w.due(fmt.Sprintf("s71-%d", i), fmt.Sprintf("ok-%d", i), 1)
						w.publish(payloads[i])
						w.awaitEmpty()
					}
					w.marked()
					if restart {
						stop()
					}
					if how.knows < 0 {
						w.makeAnew()
					} else {
						w.restore(messages.StreamJournal, copied)
					}
					w.advance(later)
					if restart {
						w.start()
					}
					for _, p := range payloads {
						w.publish(p)
					}
					w.pausedBy(pauseSetBack)
					if n := len(w.orders()); n != jobs {
						t.Errorf("requests before an operator has spoken: %d, want %d", n, jobs)
					}
					w.accept()
					w.awaitEmpty()
					w.notPausedBy(pauseSetBack)
					books := w.klarna.Simulator.Books()
					if n := len(books.Orders); n != jobs {
						t.Errorf("orders: %d, want %d", n, jobs)
					}
					forgotten := jobs - max(how.knows, 0)
					want := map[string]int{"paid": jobs}
					if later > 0 {
						want = map[string]int{"paid": jobs - forgotten, "unresolved journal_restored": forgotten}
						if n := len(w.orders()); n != jobs {
							t.Errorf("requests after the window: %d, want %d", n, jobs)
						}
					}
					got := map[string]int{"paid": 0}
					for _, r := range w.results() {
						got[r.String()]++
					}
					if fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("results: %v, want %v", got, want)
					}
					if letters, _ := w.deadLetters(); len(letters) != want["unresolved journal_restored"] {
						t.Errorf("dead letters: %d, want %d", len(letters), want["unresolved journal_restored"])
					}
				})
			}
		}
	}
}

// S71: while this worker was idle, another has written beyond the mark that is held here. Then the broker comes back with
// an older journal. On a new connection nothing is sent before the marks of all were read.
func TestNothingOnANewConnectionBeforeTheMarksAreRead(t *testing.T) {
	w := newWorld(t)
	idle := journal.NewMarks(w.js, zerolog.Nop(), 3*time.Second)
	if err := idle.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	var told atomic.Value
	idle.Noticed = func(how string) { told.Store(how) }
	if idle.Doubtful() {
		t.Fatal("in doubt after the marks were read")
	}
	empty := w.backUp(messages.StreamJournal)
	w.markEvery = 50 * time.Millisecond
	stop := w.start()
	w.publish(w.due("s71", "ok-1", 1))
	w.awaitEmpty()
	w.marked()
	stop()
	w.restore(messages.StreamJournal, empty)
	reconnects := w.js.Conn().Stats().Reconnects
	if err := w.js.Conn().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	w.await("the new connection", func() bool { return w.js.Conn().IsConnected() && w.js.Conn().Stats().Reconnects > reconnects })
	if !idle.Doubtful() {
		t.Fatal("not in doubt on a new connection")
	}
	ctx, end := context.WithCancel(t.Context())
	running := make(chan struct{})
	go func() { defer close(running); idle.Run(ctx, func(error) {}) }()
	defer func() { end(); <-running }()
	w.await("the look", func() bool { return !idle.Unread() })
	records, err := journal.Open(t.Context(), w.js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	event := messages.Charging{Record: messages.Record{ID: "1", Account: "default", RenewalKey: messages.NewRenewalKey("first", "2026-12")}}
	w.writes(records.Observed(idle, nil, func() {}, func(string, error) {}), messages.NewRenewal("first", "2026-12"), journal.Entry{}, journal.State{Phase: journal.PhaseNone}, event, event.Record)
	if !idle.Doubtful() || told.Load() == nil {
		t.Error("the first record of an older journal, which is not above the mark of all, is no set-back")
	}
}
