package journal

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
)

// monthly is a claim of a monthly period that falls due some days after noon.
func monthly(due int, seq uint64) State {
	q := first()
	q.DueAt, q.Cadence = noon.AddDate(0, 0, due), "MONTH/1"
	s := Deliver(empty(), q, q.DueAt.Add(time.Hour), testRules()).State
	s.ClaimedSeq = seq
	return s
}

// What stands in the way of a claim, by the phase of the period beside it and by who was there first.
func TestPassage(t *testing.T) {
	own := monthly(0, 10)
	in := func(phase Phase, seq uint64, change ...func(*State)) State {
		s := monthly(3, seq)
		s.Phase = phase
		for _, c := range change {
			c(&s)
		}
		return s
	}
	for _, tt := range []struct {
		name   string
		beside State
		want   Way
	}{
		{name: "nobody has claimed it", beside: State{Phase: PhaseNone}},
		{name: "refused", beside: in(PhaseDunning, 5)},
		{name: "cancelled", beside: in(PhaseCancelled, 5)},
		{name: "claimed before", beside: in(PhaseCharging, 5), want: Way{By: "b", First: true}},
		{name: "claimed later", beside: in(PhaseCharging, 15)},
		{name: "pending", beside: in(PhasePending, 5), want: Way{By: "b", Blocked: true, First: true}},
		{name: "paid", beside: in(PhasePaid, 5), want: Way{By: "b", Blocked: true, First: true}},
		{name: "paid by one that was claimed later", beside: in(PhasePaid, 15), want: Way{By: "b", Blocked: true}},
		{name: "paid, by a correction", beside: in(PhasePaid, 5, func(s *State) { *s = with(*s, func(c *Claim) { c.Corrects = messages.KindDunning }) }), want: Way{By: "b", Blocked: true}},
		{name: "paid, by an operator's word", beside: in(PhasePaid, 5, func(s *State) { *s = s.Settle(K1, Settlement{Kind: messages.KindPaid, ByHand: true}) }), want: Way{By: "b", Blocked: true}},
		{name: "unresolved", beside: in(PhaseUnresolved, 5), want: Way{By: "b", Blocked: true, First: true}},
		{name: "its order is being captured", beside: in(PhaseCapturing, 5), want: Way{By: "b", Blocked: true, First: true}},
		{name: "captured", beside: in(PhaseCaptured, 5), want: Way{By: "b", Blocked: true, First: true}},
		{name: "its capture failed", beside: in(PhaseCaptureFailed, 5), want: Way{By: "b", Blocked: true, First: true}},
		{name: "off-cycle", beside: in(PhasePaid, 5, func(s *State) { s.OffCycle = true })},
		{name: "far enough", beside: in(PhasePaid, 5, func(s *State) { s.DueAt = noon.AddDate(0, 0, 15) })},
		{name: "weekly", beside: in(PhasePaid, 5, func(s *State) { s.Cadence, s.DueAt = "WEEK/1", noon.AddDate(0, 0, 4) })},
		{name: "of a cadence that is not known", beside: in(PhasePaid, 5, func(s *State) { s.Cadence = "" }), want: Way{By: "b", Blocked: true, First: true}},
	} {
		if !tt.want.Free() {
			tt.want.Key, tt.want.DueAt = tt.beside.Claim.Key, tt.beside.DueAt
		}
		if got := own.Passage([]Neighbour{{"b", tt.beside}}); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
		both := own.Passage([]Neighbour{{"a", in(PhaseCharging, 1)}, {"b", tt.beside}})
		if tt.want.Blocked != both.Blocked || both.Free() {
			t.Errorf("%s, beside one that was claimed before: got %+v, want blocked %t", tt.name, both, tt.want.Blocked)
		}
	}
	own.OffCycle = true
	if way := own.Passage([]Neighbour{{"b", in(PhasePaid, 5)}}); !way.Free() {
		t.Errorf("one's own charge is off-cycle: got %+v, want it free", way)
	}
}

// What a claim does in whose way another period stands, by what may have been sent under it.
func TestYield(t *testing.T) {
	r := testRules()
	blocked, held := Way{By: "b", Key: "other", Blocked: true}, Way{By: "b", Key: "other"}
	first := Way{By: "b", Key: "other", Blocked: true, First: true}
	fresh := monthly(0, 10)
	refusedBefore := fresh.Settle("earlier", Settlement{Kind: messages.KindDunning})
	taken := func(change func(*Claim)) State {
		s := with(fresh, func(c *Claim) { c.LeaseUntil = c.LeaseUntil.Add(time.Hour) }) // its clock runs since another delivery
		return with(s, change)
	}
	keep := func(*Claim) {}
	for _, tt := range []struct {
		name   string
		state  State
		way    Way
		record messages.Kind
		phase  Phase
		then   Action
		clock  bool // runs on
	}{
		{name: "a fresh claim, blocked", state: fresh, way: blocked, record: messages.KindRejected, phase: PhaseNone, then: Ack},
		{name: "a fresh claim after a refusal, blocked", state: refusedBefore, way: blocked, record: messages.KindRejected, phase: PhaseDunning, then: Ack},
		{name: "a fresh claim, held", state: fresh, way: held, record: messages.KindCharging, phase: PhaseCharging, then: Nak},
		{name: "taken over, blocked by one that was there first", state: taken(keep), way: first, record: messages.KindRejected, phase: PhaseNone, then: Ack},
		{name: "taken over, blocked by one that came later", state: taken(keep), way: blocked, record: messages.KindCharging, phase: PhaseCharging, then: Nak, clock: true},
		{name: "taken over, held", state: taken(keep), way: held, record: messages.KindCharging, phase: PhaseCharging, then: Nak, clock: true},
		{name: "taken over after tries", state: taken(func(c *Claim) { c.Tries = 1 }), way: first, record: messages.KindCharging, phase: PhaseCharging, then: Nak, clock: true},
		{name: "taken over from one who does not look", state: taken(func(c *Claim) { c.Unspaced = true }), way: first, record: messages.KindCharging, phase: PhaseCharging, then: Nak, clock: true},
		{name: "after the journal was set back", state: taken(func(c *Claim) { c.Restored = true }), way: first, record: messages.KindCharging, phase: PhaseCharging, then: Nak, clock: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := Request{Renewal: "a", Key: K1, Hash: "order 1", Nonce: "a", Host: "api.klarna.com", DueAt: noon, Delivered: 1}
			st := Yield(tt.state, Held(tt.state, r), q, tt.way, noon.Add(time.Hour), r)
			s := st.State
			if st.Record != tt.record || s.Phase != tt.phase || st.Then != tt.then || s.Claim.FirstSentAt.IsZero() == tt.clock || !s.Claim.Released {
				t.Fatalf("got %s, %s, then %d, clock since %s", st.Record, s.Phase, st.Then, s.Claim.FirstSentAt)
			}
			if tt.record == messages.KindRejected {
				if st.Reason != messages.ReasonTooClose || !st.Dead || st.Conflicts != "other" || s.Settled[K1].Reason != messages.ReasonTooClose || s.Claim.Held {
					t.Errorf("got %+v", st)
				}
				if (s.DueAt.IsZero() && s.Attempts == 0 && s.Cadence == "") != (tt.phase == PhaseNone) {
					t.Errorf("due %s, %d attempts, %q: want a period that nobody has heard of forgotten, another kept", s.DueAt, s.Attempts, s.Cadence)
				}
				return
			}
			if !s.Claim.Held || (st.Waits == "b") == tt.way.Blocked {
				t.Errorf("held %t, waits for %q", s.Claim.Held, st.Waits)
			}
			q.Nonce = "c"
			again := Deliver(s, q, noon.Add(2*time.Hour), r)
			if again.Then != LookAround || again.Record != "" {
				t.Errorf("it comes again: %+v, want another look first", again)
			}
			q.Way = &Way{}
			if free := Deliver(s, q, noon.Add(2*time.Hour), r); free.Then != Try || free.State.Claim.Held || free.State.ClaimedSeq != 10 {
				t.Errorf("the way is free: %+v, want it taken over in its old place", free)
			}
			q.Way = &tt.way
			if still := Deliver(s, q, noon.Add(2*time.Hour), r); still.Record != "" || still.Then != Nak {
				t.Errorf("the way is not free: %+v, want it to come again, nothing written", still)
			}
			if !tt.clock {
				return
			}
			slow, left := r, 7*time.Second // before the window closes
			slow.RetryDelays = []time.Duration{48 * time.Hour}
			if still := Deliver(s, q, s.Claim.FirstSentAt.Add(r.KeyWindow-left), slow); still.Delay != left {
				t.Errorf("comes again in %s, want %s: when the window closes", still.Delay, left)
			}
		})
	}

	t.Run("it is no longer ours", func(t *testing.T) {
		mine := Held(fresh, r)
		other := with(fresh, func(c *Claim) { c.Nonce = "another" })
		if st := Yield(other, mine, Request{Key: K1}, blocked, noon.Add(time.Second), r); st.Record != "" || st.Then != Nak {
			t.Errorf("got %+v, want nothing written", st)
		}
	})
}

// An order that is recorded although the journal was set back to before its claim says when its period fell due: those beside it go by that.
func TestForgottenClaimSaysWhenItFellDue(t *testing.T) {
	charged := monthly(0, 10)
	st := Conclude(empty(), Held(charged, testRules()), accepted, noon.Add(time.Hour), testRules())
	if st.Record != messages.KindPaid || !st.State.DueAt.Equal(charged.DueAt) || st.State.Cadence != "MONTH/1" {
		t.Fatalf("got %s, due %s, every %q", st.Record, st.State.DueAt, st.State.Cadence)
	}
	st.State.ClaimedSeq = 5
	if way := monthly(3, 20).Passage([]Neighbour{{"b", st.State}}); !way.Blocked {
		t.Errorf("got %+v, want the next period blocked", way)
	}
}

// deposed answers as a leader that has been deposed: from its past, a number of times.
type deposed struct {
	jetstream.Stream
	Requester
	indexes, reads *int // how often it still does
	without        string
	old            *jetstream.RawStreamMsg
}

func (s deposed) RequestWithContext(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	m, err := s.Requester.RequestWithContext(ctx, subject, data)
	if err == nil && *s.indexes > 0 {
		*s.indexes--
		var answer struct {
			State jetstream.StreamState `json:"state"`
		}
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			return nil, err
		}
		delete(answer.State.Subjects, s.without)
		answer.State.LastSeq = 0
		m.Data, err = json.Marshal(answer)
	}
	return m, err
}

func (s deposed) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	if *s.reads > 0 {
		*s.reads--
		return s.old, nil
	}
	return s.Stream.GetLastMsgForSubject(ctx, subject)
}

// S87, of the periods beside a charge: an index that does not know the claim is asked for again, and so is a record that is older than the
// index; what stays in the past sends nothing.
func TestBesideFromThePast(t *testing.T) {
	js := emptyJournal(t)
	journal, err := Open(t.Context(), js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	write := func(r messages.Renewal, at Entry, kind messages.Kind, s State) Entry {
		t.Helper()
		_, e, err := journal.Apply(t.Context(), at, Change{Renewal: r, Decide: func(State) (Transition, error) { return Transition{Record: kind, State: s}, nil },
			Record: func(context.Context, Transition) (Record, error) {
				about := messages.Record{Account: "default", IdempotencyKey: K1, RenewalKey: r.Key()}
				event := messages.Event(messages.Charging{Record: about})
				switch kind {
				case messages.KindPaid:
					event = messages.Paid{Record: about}
				case messages.KindRejected:
					event = messages.Rejected{Record: about}
				}
				return Record{Event: event, About: about, Time: noon}, nil
			}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a, b, far := messages.NewRenewal("s.1", "a"), messages.NewRenewal("s.1", "b"), messages.NewRenewal("s.1", "far")
	claimed := write(b, Entry{}, messages.KindCharging, monthly(2, 0))
	old, err := journal.stream.GetLastMsgForSubject(t.Context(), messages.RenewalFilter(b))
	if err != nil {
		t.Fatal(err)
	}
	paid := after(t, claimed.State, accepted)
	write(b, claimed, messages.KindPaid, paid)
	write(far, Entry{}, messages.KindCharging, monthly(40, 0))
	write(messages.NewRenewal("s.2", "b"), Entry{}, messages.KindCharging, monthly(0, 0)) // another subscription's
	foreign := nats.NewMsg("renewals.charging.s%2E1.%zz.0.default")                       // no worker's
	if _, err := js.PublishMsg(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	rejected := monthly(1, 0)
	rejected.Phase, rejected.Claim = PhaseNone, nil
	write(messages.NewRenewal("s.1", "rejected"), Entry{}, messages.KindRejected, rejected) // was never claimed: not read
	own := write(a, Entry{}, messages.KindCharging, monthly(0, 0))

	for _, tt := range []struct {
		name           string
		indexes, reads int
		past           bool
	}{
		{name: "the present"},
		{name: "an old index, once", indexes: 1},
		{name: "an old index, three times", indexes: 3},
		{name: "an old index, for ever", indexes: 9, past: true},
		{name: "an old record, once", reads: 1},
		{name: "old records, for ever", reads: 9, past: true},
	} {
		j := *journal
		leader := deposed{Stream: journal.stream, Requester: journal.subjects.requester, indexes: &tt.indexes, reads: &tt.reads, old: old, without: messages.RecordAddress{Kind: messages.KindCharging, Renewal: a, Due: noon.Unix(), Account: "default"}.Subject()}
		j.stream, j.subjects.requester = leader, leader
		beside, err := j.Beside(t.Context(), a, own)
		if tt.past {
			if !errors.Is(err, errPast) {
				t.Errorf("%s: got %v, %v, want an error", tt.name, beside, err)
			}
			continue
		}
		if err != nil || len(beside) != 1 || beside[0].Renewal != b || beside[0].State.Phase != PhasePaid {
			t.Errorf("%s: got %+v, %v, want the one that is paid, and nobody else", tt.name, beside, err)
		}
		if way := own.State.Passage(beside); !way.Blocked || !way.First {
			t.Errorf("%s: the way is %+v, want it blocked", tt.name, way)
		}
	}
	aged := own
	aged.State.Rev = 100 // most of its records are too old to be there
	if beside, err := journal.Beside(t.Context(), a, aged); err != nil || len(beside) != 1 {
		t.Errorf("with records that have aged: %+v, %v", beside, err)
	}
}
