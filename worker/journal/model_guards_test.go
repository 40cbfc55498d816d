package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// This file is the model's part for the guards: attempts that a renewal's state would allow, and that are refused all the same.

// token is the customer's one token, by its fingerprint.
func (p posting) token() string {
	if p.captures() {
		return ""
	}
	return "token"
}

// toldOfToken notes what an attempt is told of its token.
func (w *modelWorld) toldOfToken(k int, st *Transition) {
	w.dead[k] = st.Record == messages.KindDunning && st.Reason == messages.ReasonTokenCancelled
}

// guard: no claim of a new attempt comes past the guards, on whichever way it is made.
func (w *modelWorld) guard(before *State, st *Transition) {
	g, s := w.guards, st.State
	if st.Record != messages.KindCharging || s.Phase != PhaseCharging || before.Open() && before.Holds(st.Key) || w.restored > 0 {
		return
	}
	for k, dead := range w.dead {
		if dead && modelKeys[k] != st.Key {
			w.fail("the token of %s is dead, as %s was told", st.Key, modelKeys[k])
		}
	}
	if g.MinAttemptGap > 0 && !before.LastAttemptAt.IsZero() && s.LastAttemptAt.Sub(before.LastAttemptAt) < g.MinAttemptGap {
		w.fail("%s comes %s after the last attempt", st.Key, s.LastAttemptAt.Sub(before.LastAttemptAt))
	}
	attempts := int64(0)
	for _, claimed := range w.inOrder[:2] {
		if claimed {
			attempts++
		}
	}
	if g.MaxAttempts > 0 && attempts > g.MaxAttempts {
		w.fail("%s is attempt %d", st.Key, attempts)
	}
}

// guarded is what the guards know of a renewal.
func (id identifier) guarded(s *State) {
	if id.guards == (Guards{}) {
		return
	}
	id.flags(len(s.DeadTokens) > 0)
	id.WriteByte(byte(s.Attempts))
	id.time(s.LastAttemptAt, id.guards.MinAttemptGap)
}

// guardWorlds are worlds in which somebody publishes what the guards refuse.
func guardWorlds() []*setting {
	first := posting{name: "attempt 1", hash: "order 1", payload: "payload 1"}
	second := posting{name: "attempt 2", key: 1, hash: "order 2", payload: "payload 2"}
	replay := second
	replay.name, replay.replay = "attempt 2, replayed", 2
	return []*setting{
		{name: "an attempt after an attempt", postings: []posting{first, second, replay}, horizon: 3 * time.Hour,
			guards:  Guards{MinAttemptGap: time.Hour, MaxAttempts: 20},
			replies: []reply{declines},
			budget:  budget{deliveries: 4, faults: 1}},
		{name: "an attempt with a dead token", postings: []posting{first, second, replay}, horizon: 3 * time.Hour,
			guards:  Guards{MinAttemptGap: time.Hour, MaxAttempts: 20},
			replies: []reply{refusesToken},
			budget:  budget{deliveries: 3, faults: 1, tokens: 1, panics: 1}},
		{name: "an attempt too many", postings: []posting{first, second}, horizon: 10 * time.Minute,
			guards:  Guards{MaxAttempts: 1},
			replies: []reply{declines},
			budget:  budget{deliveries: 3, faults: 1, panics: 1}},
	}
}

func brokenGuards() []brokenRule {
	return []brokenRule{
		{"an attempt waits until the gap after the last one is over", "an attempt after an attempt",
			asking(func(s *State, q *Request, _ time.Time) {
				if !s.Open() {
					s.LastAttemptAt = time.Time{}
				}
			})},
		{"a claim notes when it was made", "an attempt after an attempt",
			saying(func(st *Transition, s State, _ Request, _ time.Time) {
				if st.Record == messages.KindCharging {
					st.State.LastAttemptAt = s.FirstAttemptAt
				}
			})},
		{"a token that an attempt was told is dead is not charged again", "an attempt with a dead token",
			asking(func(s *State, _ *Request, _ time.Time) { s.DeadTokens = nil })},
		{"a refusal that says that the token is dead is noted", "an attempt with a dead token",
			concluded(func(st *Transition) { st.State.DeadTokens = nil })},
		{"no more attempts than the account allows", "an attempt too many",
			asking(func(s *State, q *Request, _ time.Time) {
				if s.Phase == PhaseDunning && !s.known(q.Key) {
					s.Attempts, q.Attempt = 0, 0
				}
			})},
	}
}
