package journal

import (
	"errors"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// This file is the model's part for a journal that was set back: at some moment it knows only the first records
// of the renewal, or none, an operator accepts it, and every message may come again.

// rules are the worker's at this moment.
func (w *modelWorld) rules() Rules {
	r := w.machinery.rules
	r.Guards = w.guards
	if w.restored > 0 {
		r.Restored = modelDay.Add(w.restored)
	}
	return r
}

// fence says why a try may not start now.
func (w *modelWorld) fence(h *hand, who int) error {
	if !w.machinery.fence(h.held.Claim, w.clock(who), w.rules()) {
		return errors.New("the claim ends before a try could")
	}
	return nil
}

// addSetBacks adds what the journal may be set back to. Deliveries that have asked Klarna, or may, go on: a worker
// pauses before it claims, not in the middle of a try.
func (w *modelWorld) addSetBacks(add func(v verb, who, what int)) {
	if w.left.setbacks == 0 || w.journal[0].sequence == 0 {
		return
	}
	for _, h := range w.hands[:w.workers] {
		if h.at != idle && h.at != sending && h.at != trying && h.at != pausing {
			return
		}
	}
	for known := w.keeps; known < min(len(w.past)+1, w.journal[0].sequence); known++ {
		add(setsBack, 0, known)
	}
}

// setBack leaves the journal with the renewal's first records. What had been announced nobody takes back.
func (w *modelWorld) setBack(known int) {
	w.left.setbacks--
	w.late = [2]*lateWrite{}
	w.journal[0] = lastRecord{state: &State{Phase: PhaseNone}}
	if known > 0 {
		w.journal[0] = w.past[known-1]
	}
	for k, r := range w.results {
		if r != "" && !w.journal[0].state.known(modelKeys[k]) {
			w.results[k], w.told[k] = "", true
		}
	}
	w.restored = w.now + MaxSkew
}

// setBackInstants are the moments that matter once the journal cannot tell when a key was first used.
func (w *modelWorld) setBackInstants(at func(time.Duration)) {
	if w.left.setbacks == 0 && w.restored == 0 {
		return
	}
	at(5 * time.Hour) // so that a key may be used later than at once
	for _, b := range w.books {
		if b.seen {
			at(b.first + w.machinery.rules.KeyWindow)
			at(b.first + klarnaForgets)
			at(b.first + klarnaForgets + 2*time.Hour)
		}
	}
}

func (id identifier) restored() {
	if id.flags(id.modelWorld.restored > 0); id.modelWorld.restored > 0 {
		id.since(id.modelWorld.restored, 60*time.Hour)
		id.since(0, 60*time.Hour) // what is due counts, too
	}
	if id.left.setbacks > 0 {
		for _, p := range id.past {
			if id.flags(p.sequence > 0); p.sequence > 0 {
				id.state(p.state)
			}
		}
	}
}

func setBackWorlds() []*setting {
	c := newModelCaptures()
	first := posting{name: "attempt 1", hash: "order 1", payload: "payload 1"}
	second := posting{name: "attempt 2", key: 1, hash: "order 2", payload: "payload 2", follows: true}
	return []*setting{
		{name: "a journal set back", postings: []posting{first}, horizon: 30 * time.Hour,
			replies: []reply{acceptsThen500, unreachable},
			budget:  budget{deliveries: 3, faults: 1, setbacks: 1}},
		{name: "a journal set back, a cancelled token", postings: []posting{first}, hides: true, horizon: 30 * time.Hour,
			replies: []reply{refusesToken},
			budget:  budget{deliveries: 3, faults: 1, tokens: 1, setbacks: 1}},
		// Replayed, since nobody could know of the second attempt where Klarna evaluates the first anew.
		{name: "a journal set back between attempts", postings: []posting{first, second}, replays: true, horizon: 30 * time.Hour,
			replies: []reply{declines},
			budget:  budget{deliveries: 3, faults: 1, setbacks: 1}},
		{name: "a journal set back under a request", postings: []posting{first}, horizon: 2 * time.Hour,
			replies: []reply{takesLong},
			budget:  budget{deliveries: 2, faults: 1, setbacks: 1}},
		{name: "a journal set back over captures of what Klarna left", postings: []posting{c.auto, c.part}, paid: true, keeps: 2, horizon: 30 * time.Hour,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 3, faults: 1, setbacks: 1}},
	}
}

func brokenSetBackRules() []brokenRule {
	counted := func(since func(q Request, now time.Time) time.Time) func(*machinery) {
		return saying(func(st *Transition, _ State, q Request, now time.Time) {
			if st.State.Claim == nil || !st.State.Claim.Restored || st.State.Phase != PhaseCharging && st.Record != messages.KindUnresolved {
				return
			}
			*st = Transition{Record: messages.KindCharging, Key: q.Key, State: st.State, Then: Try}
			st.State = st.State.unsettle(q.Key)
			st.State.Phase = PhaseCharging
			edit(&st.State, func(c *Claim) {
				c.Nonce, c.FirstSentAt, c.LeaseUntil, c.Released = q.Nonce, since(q, now), now.Add(2*time.Minute), false
			})
		})
	}
	return []brokenRule{
		{"what the journal may have forgotten is charged within the window from its due moment", "a journal set back",
			func(m *machinery) {
				ask := m.deliver
				m.deliver = func(s State, q Request, now time.Time, r Rules) Transition {
					r.Restored = time.Time{}
					return ask(s, q, now, r)
				}
			}},
		{"a claim that is given up may have been used without the journal's knowing", "a journal set back",
			func(m *machinery) {
				ask := m.sweep
				m.sweep = func(s State, now time.Time, r Rules) (Transition, bool) {
					r.Restored = time.Time{}
					return ask(s, now, r)
				}
			}},
		{"the window is counted from the due moment, not from now", "a journal set back",
			counted(func(_ Request, now time.Time) time.Time { return now })},
		{"the window is counted from the due moment, not from the publication", "a journal set back",
			counted(func(_ Request, now time.Time) time.Time { return now.Add(-time.Hour) })},
		{"a renewal that the journal knows is not known as it is", "a journal set back between attempts",
			func(m *machinery) {
				ask := m.deliver
				m.deliver = func(s State, q Request, now time.Time, r Rules) Transition {
					if s.Phase != PhaseNone && s.Phase != "" {
						r.Restored = time.Time{}
					}
					return ask(s, q, now, r)
				}
			}},
		{"an attempt before which the journal knows nothing of others is left to a person", "a journal set back between attempts",
			asking(func(_ *State, q *Request, _ time.Time) { q.Attempt = 1 })},
		{"a clock that was started at the due moment is not stopped", "a journal set back",
			func(m *machinery) {
				m.held = func(s State, _ Rules) HeldClaim {
					return HeldClaim{Claim: *s.Claim, UndecidedAt: s.UndecidedAt, SetsClock: true}
				}
				concluding(func(_ State, h *HeldClaim, _ *Outcome) { h.Claim.Restored = false })(m)
				asking(func(s *State, q *Request, _ time.Time) {
					if s.Open() && s.Holds(q.Key) && s.Claim.FirstSentAt.IsZero() {
						edit(s, func(c *Claim) { c.Restored = true })
					}
				})(m)
			}},
		{"what Klarna has captured may be a capture that the journal has forgotten", "a journal set back over captures of what Klarna left",
			asking(func(s *State, q *Request, _ time.Time) {
				if q.Capture != nil && q.Capture.Found != nil && s.Order == nil && s.Phase == PhasePaid {
					w, f := *q.Capture, *q.Capture.Found
					s.Order = &Order{ID: s.Claim.OrderID, Amount: f.Amount, Captured: f.Captured}
					f.Booked, w.Found, q.Capture = f.Captured, &f, &w
				}
			})},
		{"a capture that may be forgotten is not counted before it is known", "a journal set back over captures of what Klarna left",
			saying(func(st *Transition, _ State, q Request, _ time.Time) {
				if st.Record == messages.KindCapturing && st.State.Claim.Restored && q.Capture.Found != nil {
					o := *st.State.Order
					o.Captured = q.Capture.Found.Captured
					st.State = st.State.ordered(o)
				}
			})},
		{"a key that may have been used has an undecided try", "a journal set back, a cancelled token",
			saying(func(st *Transition, _ State, _ Request, _ time.Time) {
				if st.State.Claim != nil && st.State.Claim.Restored {
					edit(&st.State, func(c *Claim) { c.UndecidedTries = 0 })
				}
			})},
		{"an order whose claim the journal has forgotten is recorded", "a journal set back under a request",
			func(m *machinery) {
				ask := m.conclude
				m.conclude = func(s State, h HeldClaim, o Outcome, now time.Time, r Rules) Transition {
					if h.forgottenBy(s) {
						return Later(time.Second)
					}
					return ask(s, h, o, now, r)
				}
			}},
	}
}
