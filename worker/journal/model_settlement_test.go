package journal

import (
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// This file is the model's part for the settlements: reconcile finds that an order was paid out whose charge is unresolved, looks at
// the renewal once more, and records it as an operator would. Meanwhile anything may happen, another reconcile included.

// desk is one run of reconcile, about the one renewal. A run that is killed and one that stands still for ever are the same to everybody
// else; being killed makes room for the next.
type desk struct {
	at    deskStage
	key   messages.IdempotencyKey // of the attempt that was unresolved when it compared
	order string                  // that was paid out
	rev   int64                   // of the state that it looked at
}

type deskStage uint8

const (
	closed   deskStage = iota
	compared           // it has evidence
	proven             // it has looked, and nothing stands against the evidence
)

// What was paid out: the order that Klarna made under the unresolved key, or one that somebody made by hand with the same reference.
const (
	ownOrder = iota
	strangersOrder
)

// stranger is an order that no worker has made. Where the journal knows of no order, nobody can tell it from the renewal's own: that is
// for a report that has both, and for the customer.
const stranger = "order-by-hand"

// sold is what the settlements of the last claim show.
func (w *modelWorld) sold(what int8) string {
	if what == strangersOrder {
		return stranger
	}
	return madeNames[w.bookNumber(w.claimedBook(w.journal[0].state))]
}

// addDesks adds what a reconcile may do, and says whether anybody is still at work.
func (w *modelWorld) addDesks(busy bool, add func(v verb, who, what int)) bool {
	s := w.journal[0].state
	evidence := w.left.reconciles > 0 && s.Phase == PhaseUnresolved && !s.Capturing()
	for i, d := range w.desks {
		busy = busy || d.at != closed
		switch d.at {
		case closed:
			if !evidence {
				continue
			}
			if b := w.claimedBook(s); b.live() && b.status == fraudAccepted {
				add(compares, i, ownOrder)
				busy = true
			}
			if s.Claim.OrderID != "" {
				add(compares, i, strangersOrder)
				busy = true
			}
		case compared:
			add(provesIt, i, 0)
		case proven:
			add(applies, i, confirmed)
			if w.left.losses > 0 && slices.Contains(w.late[:], nil) {
				add(applies, i, 1)
			}
		}
		if d.at != closed && w.left.crashes > 0 && w.left.reconciles > 0 {
			add(leavesDesk, i, 0)
		}
	}
	return busy
}

// reconcile is one step of it: what package reconcile does between two reads of the journal.
func (w *modelWorld) reconcile(m move) {
	d, s := &w.desks[m.who], *w.journal[0].state
	switch m.verb {
	case compares:
		w.left.reconciles--
		*d = desk{at: compared, key: s.Claim.Key, order: w.sold(m.what)}
	case provesIt:
		if w.machinery.provable(s, d.key, d.order) != nil {
			*d = desk{}
			return
		}
		d.at, d.rev = proven, s.Rev
	case applies:
		decision := Decision{Actor: "reconcile", At: w.clock(0), Rev: d.rev}
		paid := verdict{kind: messages.KindPaid, made: d.order, at: decision.At}
		*d = desk{}
		if w.machinery.fits(decision, s) != nil {
			return
		}
		st, err := w.machinery.resolve(s, paid)
		if err != nil {
			return
		}
		if m.what == confirmed {
			w.store(0, w.journal[0].sequence, st, "")
			return
		}
		w.left.losses--
		w.late[slices.Index(w.late[:], nil)] = &lateWrite{on: w.journal[0].sequence, step: st}
	case leavesDesk:
		w.left.crashes--
		*d = desk{}
	}
}

// closeDesks leads every reconcile to its end.
func (w *modelWorld) closeDesks(do func(move)) {
	for i := range w.desks {
		for _, v := range []verb{provesIt, applies} {
			if w.desks[i].at == compared && v == provesIt || w.desks[i].at == proven && v == applies {
				do(move{verb: v, who: int8(i)})
			}
		}
	}
}

// keepsOrder: an order that the journal knows of is not exchanged for another, and a key is not paid with another key's.
func (w *modelWorld) keepsOrder(before *State, st *Transition) {
	if st.Record != messages.KindPaid || !before.Holds(st.Key) {
		return
	}
	switch now := st.State.Claim.OrderID; {
	case now == stranger && w.excused[keyNumber(st.Key)]: // the operator's word
	case before.Claim.OrderID != "" && before.Claim.OrderID != now:
		w.fail("%s is paid with %s, and %s is forgotten", st.Key, now, before.Claim.OrderID)
	case w.left.reconciles < w.budget.reconciles && now != madeNames[w.bookNumber(w.claimedBook(before))]:
		w.fail("%s is paid with %s, which is another's", st.Key, now)
	}
}

// desks are as they stand; one is as good as the other.
func (id identifier) desks() {
	var all []string
	for _, d := range id.modelWorld.desks {
		fresh := "\x00"
		if d.rev == id.journal[0].state.Rev {
			fresh = "\x01"
		}
		if d.at < proven {
			fresh = "\x02"
		}
		all = append(all, string([]byte{byte(d.at), byte(keyNumber(d.key))})+d.order+fresh)
	}
	slices.Sort(all)
	id.text(strings.Join(all, "\x03"))
}

// settlementWorlds are worlds in which reconcile runs, and somebody else decides at the same moment.
func settlementWorlds() []*setting {
	first := posting{name: "attempt 1", hash: "order 1", payload: "payload 1"}
	second := posting{name: "attempt 2", key: 1, hash: "order 2", payload: "payload 2"}
	return []*setting{
		{name: "settlements and a late answer", postings: []posting{first}, horizon: 26 * time.Hour, errs: true,
			replies: []reply{acceptsThen500, takesLong},
			budget:  budget{deliveries: 2, faults: 1, crashes: 1, resolves: 1, reconciles: 2}},
		{name: "settlements and a lost write", postings: []posting{first}, horizon: 26 * time.Hour, errs: true,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 2, faults: 1, losses: 1, resolves: 1, reconciles: 2}},
		{name: "settlements and another attempt", postings: []posting{first, second}, horizon: 50 * time.Hour,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 2, faults: 1, resolves: 1, reconciles: 1}},
		{name: "settlements and a fraud check", postings: []posting{first}, horizon: 51 * time.Hour, errs: true,
			replies: []reply{acceptsPending},
			budget:  budget{deliveries: 2, faults: 1, resolves: 1, reconciles: 2}},
	}
}

func brokenSettlementRules() []brokenRule {
	proving := func(change func(s *State, key *messages.IdempotencyKey, order *string)) func(*machinery) {
		return func(m *machinery) {
			m.provable = func(s State, key messages.IdempotencyKey, order string) error {
				change(&s, &key, &order)
				return s.Provable(key, order)
			}
		}
	}
	return []brokenRule{
		{"only what is unresolved is settled by evidence", "settlements and a late answer", func(m *machinery) {
			proving(func(s *State, _ *messages.IdempotencyKey, _ *string) { s.Phase = PhaseUnresolved })(m)
			// The decision asks the same again, of the state that it writes over: either of them is enough.
			m.fits = func(Decision, State) error { return nil }
			m.resolve = func(s State, v verdict) (Transition, error) { return settleByHand(s, v, messages.KindUnresolved) }
		}},
		{"evidence is about one attempt", "settlements and another attempt",
			proving(func(s *State, key *messages.IdempotencyKey, _ *string) { *key = s.Claim.Key })},
		{"evidence does not outweigh an order that is known", "settlements and a fraud check",
			proving(func(s *State, _ *messages.IdempotencyKey, order *string) { *order = s.Claim.OrderID })},
		{"an answer that comes after the evidence, with another order, is told of", "settlements and a late answer",
			concluded(func(st *Transition) { st.Dead = st.Dead && st.Reason != messages.ReasonSecondOrder })},
		{"evidence is recorded only of the state that it was looked at beside", "settlements and another attempt", func(m *machinery) {
			m.fits = func(d Decision, s State) error {
				d.Rev = 0
				return d.fits(s)
			}
		}},
	}
}
