package journal

import (
	"slices"
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// Guards refuse attempts that the state of a renewal would allow: Klarna, the card networks and the customer are not to
// suffer from a publisher that does not read its results. They are about charges, and never about a key whose claim is open.
type Guards struct {
	// MinAttemptGap is how long after the claim of the last attempt the next one is refused; 0: never.
	MinAttemptGap time.Duration
	// MaxAttempts is how many attempts a renewal may have; 0: any number.
	MaxAttempts int64
}

// DefaultGuards are an hour between two attempts, and 20 attempts.
func DefaultGuards() Guards { return Guards{MinAttemptGap: time.Hour, MaxAttempts: 20} }

// maxDeadTokens bounds the state. A renewal that saw more tokens die than this asks Klarna once more for the oldest.
const maxDeadTokens = 20

// refuse says why the renewal's next attempt is not made, or nothing.
func (g Guards) refuse(s State, q Request, now time.Time) messages.Reason {
	switch {
	case q.Token != "" && slices.Contains(s.DeadTokens, q.Token):
		return messages.ReasonTokenDead
	case g.tooMany(s, q.Attempt):
		return messages.ReasonTooManyAttempts
	case !q.CustomerActed && now.Before(g.earliest(s)):
		return messages.ReasonTooSoon
	}
	return ""
}

// tooMany says that the attempt after those of s is one too many. said is the number that its job gives it; 0: none.
func (g Guards) tooMany(s State, said int64) bool {
	return g.MaxAttempts > 0 && s.nextAttempt(said) > g.MaxAttempts
}

// earliest is from when on the next attempt is not too soon; zero where any time is right. It is a whole second: results tell times
// less exactly than the state, and whoever comes at the moment that they tell is not to be refused.
func (g Guards) earliest(s State) time.Time {
	if g.MinAttemptGap <= 0 || s.LastAttemptAt.IsZero() {
		return time.Time{}
	}
	exact := s.LastAttemptAt.Add(g.MinAttemptGap)
	if whole := exact.Truncate(time.Second); whole.Before(exact) {
		return whole.Add(time.Second)
	}
	return exact
}

// nextAttempt is the number of the attempt after those of s: the larger of what its job says and what is counted.
func (s State) nextAttempt(said int64) int64 { return max(s.Attempts+1, said) }

// heard is the state after a refusal: a token that is dead is not asked for again.
func (s State) heard(d dunning.Decision, token string) State {
	if d.Category != messages.CategoryTokenDead || token == "" {
		return s
	}
	others := slices.DeleteFunc(slices.Clone(s.DeadTokens), func(t string) bool { return t == token })
	s.DeadTokens = append(others[max(len(others)-maxDeadTokens+1, 0):], token)
	return s
}
