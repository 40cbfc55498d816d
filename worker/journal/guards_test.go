package journal

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// guardedRules are the test's rules with the guards of an account that sets none.
func guardedRules() Rules {
	r := testRules()
	r.Guards = DefaultGuards()
	return r
}

// S65: which attempt the guards refuse, and what its result says.
func TestGuards(t *testing.T) {
	r := guardedRules()
	dead, _ := dunning.DecideRefused(403, "TOKEN_CANCELLED", "")
	declined := Conclude(charging(), HeldClaim{Claim: *charging().Claim, Token: "token 1"}, refused, noon.Add(time.Second), r).State
	tokenDied := Conclude(charging(), HeldClaim{Claim: *charging().Claim, Token: "token 1"}, Outcome{Answer: Refused, Refusal: dead, Tries: 1}, noon.Add(time.Second), r).State
	nineteen, twenty := declined, declined
	nineteen.Attempts, twenty.Attempts = 19, 20
	fromBefore := declined
	fromBefore.LastAttemptAt = time.Time{} // an earlier version wrote it
	off := guardedRules()
	off.Guards = Guards{}

	const soon, due = time.Minute, time.Hour
	for _, row := range []struct {
		name  string
		state State
		rules Rules
		after time.Duration // the first attempt's claim
		job   func(*Request)
		want  messages.Reason // "": it is claimed
	}{
		{name: "within the hour", state: declined, rules: r, after: soon, want: messages.ReasonTooSoon},
		{name: "a moment before the hour is over", state: declined, rules: r, after: due - 1, want: messages.ReasonTooSoon},
		{name: "after the hour", state: declined, rules: r, after: due},
		{name: "within the hour, the customer has acted", state: declined, rules: r, after: soon, job: func(q *Request) { q.CustomerActed = true }},
		{name: "within the hour, the account sets no gap", state: declined, rules: off, after: soon},
		{name: "within the hour, the last attempt's time is not known", state: fromBefore, rules: r, after: soon},
		{name: "the dead token again", state: tokenDied, rules: r, after: 48 * time.Hour, want: messages.ReasonTokenDead},
		{name: "the dead token again, the customer has acted", state: tokenDied, rules: r, after: soon, job: func(q *Request) { q.CustomerActed = true }, want: messages.ReasonTokenDead},
		{name: "the dead token, where no other guard is set", state: tokenDied, rules: off, after: soon, want: messages.ReasonTokenDead},
		{name: "a new token after a dead one", state: tokenDied, rules: r, after: soon, job: func(q *Request) { q.Token, q.CustomerActed = "token 2", true }},
		{name: "a new token after a dead one, within the hour", state: tokenDied, rules: r, after: soon, job: func(q *Request) { q.Token = "token 2" }, want: messages.ReasonTooSoon},
		{name: "the twentieth attempt", state: nineteen, rules: r, after: due},
		{name: "the twenty-first attempt", state: twenty, rules: r, after: due, job: func(q *Request) { q.CustomerActed = true }, want: messages.ReasonTooManyAttempts},
		{name: "the twenty-first attempt, by what the job says", state: declined, rules: r, after: due, job: func(q *Request) { q.Attempt = 21 }, want: messages.ReasonTooManyAttempts},
		{name: "the twenty-first attempt, the account sets no number", state: twenty, rules: off, after: due},
		{name: "a job that may not be charged at all", state: declined, rules: r, after: soon, job: func(q *Request) { q.Verdict = messages.ReasonExpired }, want: messages.ReasonExpired},
		{name: "an early one is refused at once", state: tokenDied, rules: r, after: -2 * time.Hour, want: messages.ReasonTokenDead},
	} {
		t.Run(row.name, func(t *testing.T) {
			q := second()
			q.Token = "token 1"
			if row.job != nil {
				row.job(&q)
			}
			st := Deliver(row.state, q, noon.Add(row.after), row.rules)
			if row.want == "" {
				if st.Record != messages.KindCharging || st.Then != Try || !st.State.LastAttemptAt.Equal(noon.Add(row.after)) {
					t.Errorf("got %s %s, last attempt at %s, want a claim", st.Record, st.Reason, st.State.LastAttemptAt)
				}
				return
			}
			if st.Record != messages.KindRejected || st.Reason != row.want || st.Then != Ack || !st.Dead || st.State.Phase != PhaseDunning || st.State.Attempts != row.state.Attempts {
				t.Errorf("got %+v, want it rejected as %s, with a dead letter, and the renewal as it was", st, row.want)
			}
			if told := !st.NextAttemptAt.IsZero(); told != (row.want == messages.ReasonTooSoon) || told && !st.NextAttemptAt.Equal(noon.Add(due)) {
				t.Errorf("got the next attempt at %s, want it from one that is too soon", st.NextAttemptAt)
			}
			if st.MaxAttempts == 20 != (row.want == messages.ReasonTooManyAttempts) || !slices.Equal(st.State.DeadTokens, row.state.DeadTokens) {
				t.Errorf("got max_attempts %d and dead tokens %v", st.MaxAttempts, st.State.DeadTokens)
			}
		})
	}
}

// A key whose claim is open is carried to its end, a capture waits for nobody, and a replayed dead letter is no exception.
func TestGuardsAreAboutNewAttempts(t *testing.T) {
	r := guardedRules()
	open := charging()
	open.DeadTokens, open.Attempts = []string{"token 1"}, 99
	again := first()
	again.Token, again.Nonce = "token 1", "b"
	if st := Deliver(open, again, noon.Add(r.AckWait), r); st.Then != Try {
		t.Errorf("an open claim: got %+v, want it carried on", st)
	}

	declined := after(t, charging(), refused)
	soon := Deliver(declined, second(), noon.Add(time.Minute), r)
	replayed := second()
	replayed.Replay = 7
	if st := Deliver(soon.State, replayed, noon.Add(2*time.Minute), r); st.Record != messages.KindRejected || st.Reason != messages.ReasonTooSoon || !st.Dead {
		t.Errorf("a replay within the hour: got %+v, want it rejected again", st)
	}
	if st := Deliver(soon.State, replayed, noon.Add(time.Hour), r); st.Then != Try {
		t.Errorf("a replay after the hour: got %+v, want it claimed", st)
	}
	if st := Deliver(soon.State, second(), noon.Add(time.Hour), r); !st.Duplicate {
		t.Errorf("the same message ID after the hour: got %+v, want a duplicate of its result", st)
	}

	order := Order{ID: "order-1", Amount: 1599}
	paid := after(t, charging(), accepted).ordered(order)
	paid.DeadTokens, paid.Attempts = []string{"token 1"}, 99
	if st := Deliver(paid, captureJob(5), noon.Add(time.Minute), r); st.Then != Look {
		t.Errorf("a capture: got %+v, want its order looked at", st)
	}
}

// What is told of tokens stays within its bound, the newest are kept, and only a charge's own word counts.
func TestDeadTokensAreNoted(t *testing.T) {
	dead, _ := dunning.DecideRefused(403, "TOKEN_CANCELED", "")
	declined, _ := dunning.DecideRefused(403, "PAYMENT_METHOD_FAILED", "")
	s := empty()
	for i := range 25 {
		s = s.heard(dead, fmt.Sprint(i))
	}
	if len(s.DeadTokens) != maxDeadTokens || s.DeadTokens[0] != "5" || s.DeadTokens[19] != "24" {
		t.Errorf("after 25: got %v, want the last %d", s.DeadTokens, maxDeadTokens)
	}
	before := slices.Clone(s.DeadTokens)
	if again := s.heard(dead, "5"); len(again.DeadTokens) != maxDeadTokens || again.DeadTokens[19] != "5" || again.DeadTokens[0] != "6" || !slices.Equal(s.DeadTokens, before) {
		t.Errorf("told again: got %v from %v, want it the newest, and the state before untouched", again.DeadTokens, s.DeadTokens)
	}
	if other := s.heard(declined, "new"); !slices.Equal(other.DeadTokens, before) {
		t.Errorf("after another refusal: got %v", other.DeadTokens)
	}
	if other := s.heard(dead, ""); !slices.Equal(other.DeadTokens, before) {
		t.Errorf("where the token is not known: got %v", other.DeadTokens)
	}
}

// A publisher that repeats itself does not use up the message IDs of the attempts to come: what is refused goes by its stand-in.
func TestRefusedAttemptsLeaveRoom(t *testing.T) {
	r := guardedRules()
	s := after(t, charging(), refused)
	apart := 0
	for i := range 1000 {
		q := second()
		q.Key = messages.NewIdempotencyKey("4a87da77-4bba-50c6-8cae-6972612639ac", messages.MessageID(fmt.Sprint(i)))
		st := Deliver(s, q, noon.Add(time.Minute), r)
		switch {
		case st.Then == FileApart && st.Reason == messages.ReasonTooSoon && st.NextAttemptAt.Equal(noon.Add(time.Hour)):
			apart++
		case st.Record == messages.KindRejected && st.Reason == messages.ReasonTooSoon:
			s = st.State
		default:
			t.Fatalf("job %d: got %+v, want it refused as too soon", i, st)
		}
	}
	if len(s.Settled) != MaxSettled/2 || apart != 1000-MaxSettled/2+1 {
		t.Errorf("got %d results in the state and %d apart", len(s.Settled), apart)
	}
	if st := Deliver(s, second(), noon.Add(time.Hour), r); st.Then != Try {
		t.Errorf("the next attempt in its time: got %+v, want it claimed", st)
	}
}

// S65: what a refusal suggests no guard refuses, and where every further attempt would be one too many none is suggested: over chains of
// attempts of any policy, guards, tokens and refusals, at any times.
func TestAdviceAndGuardsAgree(t *testing.T) {
	t.Parallel()
	refusals := []dunning.Decision{dunning.FraudRejected(), dunning.RefusedWithoutCode()}
	for _, code := range []string{"PAYMENT_METHOD_FAILED", "PAYMENT_METHOD_FAILED", "UNAVAILABLE_PAYMENT_METHOD", "TOKEN_SUSPENDED", "TOKEN_CANCELLED", "BAD_VALUE", "SOMETHING_NEW"} {
		d, _ := dunning.DecideRefused(403, code, "")
		refusals = append(refusals, d)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := newChain(t)
		for range rapid.IntRange(1, 12).Draw(t, "attempts") {
			q := c.attempt(fmt.Sprint("token ", rapid.IntRange(1, 3).Draw(t, "token")))
			q.CustomerActed = rapid.Bool().Draw(t, "the customer has acted")
			q.Attempt = rapid.SampledFrom([]int64{0, 0, 1, c.s.Attempts + 1, c.s.Attempts + 3}).Draw(t, "attempt")
			st := Deliver(c.s, q, c.now, c.r)
			if st.Reason == messages.ReasonTooSoon {
				passes(t, c, q, st.NextAttemptAt)
			}
			if st.Then != FileApart {
				c.s = st.State
			}
			if st.Then == Try {
				c.now = c.now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, 2 * time.Hour}).Draw(t, "Klarna takes"))
				h := Held(st.State, c.r)
				h.Token = q.Token
				st = Conclude(st.State, h, Outcome{Answer: Refused, Refusal: rapid.SampledFrom(refusals).Draw(t, "refusal"), Tries: 1}, c.now, c.r)
				c.s = st.State
				advises(t, c, q, st.Advice)
			}
			c.now = c.now.Add(rapid.SampledFrom([]time.Duration{0, 1, time.Minute, time.Hour, 23*time.Hour + 30*time.Minute, 24 * time.Hour, 110 * time.Hour}).Draw(t, "passes"))
		}
	})
}

// chain is a renewal that is refused again and again.
type chain struct {
	s    State
	r    Rules
	now  time.Time
	jobs int
	p    dunning.Policy
}

func newChain(t *rapid.T) *chain {
	c := &chain{s: empty(), r: testRules(), now: noon.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "begins")))}
	c.r.Guards = Guards{
		MinAttemptGap: rapid.SampledFrom([]time.Duration{0, 1, time.Hour, time.Hour + time.Millisecond, 30 * time.Hour, 100*time.Hour + 1}).Draw(t, "gap"),
		MaxAttempts:   rapid.SampledFrom([]int64{0, 1, 2, 3, 5, 20}).Draw(t, "most"),
	}
	days := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(rapid.IntRange(1, 20), 0, 8).Draw(t, "days"))))
	schedule := dunning.Schedule{Days: days, MaxAttempts: rapid.IntRange(1, len(days)+1).Draw(t, "policy")}
	c.p = dunning.Policy{SoftDecline: schedule, CustomerAction: schedule}
	settled := map[messages.IdempotencyKey]Settlement{}
	for i := range rapid.SampledFrom([]int{0, 0, MaxSettled/2 - 1, MaxSettled - 2, MaxSettled - 1}).Draw(t, "other jobs") {
		settled[messages.IdempotencyKey(fmt.Sprint("other ", i))] = Settlement{Kind: messages.KindRejected, Reason: messages.ReasonExpired, SHA256: "x"}
	}
	c.s.Settled = settled
	return c
}

// attempt is the next job, under a message ID of its own.
func (c *chain) attempt(token string) Request {
	c.jobs++
	q := first()
	q.Key, q.Hash = messages.IdempotencyKey(fmt.Sprint("job ", c.jobs)), fmt.Sprint("order of ", token)
	q.Nonce, q.Token, q.Policy = fmt.Sprint("nonce ", c.jobs), token, c.p
	return q
}

// passes checks that an attempt like q is claimed at the moment that its result tells, to the millisecond.
func passes(t *rapid.T, c *chain, q Request, at time.Time) {
	next := c.attempt(q.Token)
	next.Attempt = c.s.nextAttempt(q.Attempt)
	if st := Deliver(c.s, next, at.Truncate(time.Millisecond), c.r); st.Then != Try {
		t.Fatalf("attempt %d at %s, as was told: got %s %s, want it claimed; last attempt at %s, guards %+v", next.Attempt, at, st.Record, st.Reason, c.s.LastAttemptAt, c.r.Guards)
	}
}

// advises checks what a refusal of q says against what the guards then say of the next attempt.
func advises(t *rapid.T, c *chain, q Request, a *Advice) {
	if a.Final != (a.NextAttemptAt == nil) {
		t.Fatalf("got final %t and the next attempt at %v", a.Final, a.NextAttemptAt)
	}
	last := c.attempt("a new token")
	last.CustomerActed = true
	never := true
	for _, wait := range []time.Duration{0, time.Hour, 1000 * time.Hour} {
		never = never && Deliver(c.s, last, c.now.Add(wait), c.r).Reason == messages.ReasonTooManyAttempts
	}
	if never && !a.Final {
		t.Fatalf("attempt %d: every further one is one too many, and the next is suggested at %s; guards %+v, %d results", c.s.Attempts, a.NextAttemptAt, c.r.Guards, len(c.s.Settled))
	}
	if a.NextAttemptAt == nil || slices.Contains(c.s.DeadTokens, q.Token) {
		return
	}
	for _, at := range []time.Time{*a.NextAttemptAt, a.NextAttemptAt.Add(time.Minute)} {
		next := c.attempt(q.Token)
		next.Attempt = c.s.Attempts + 1
		if st := Deliver(c.s, next, at.Truncate(time.Millisecond), c.r); st.Then != Try {
			t.Fatalf("attempt %d at %s, as suggested: got %s %s, want it claimed; last attempt at %s, guards %+v", next.Attempt, at, st.Record, st.Reason, c.s.LastAttemptAt, c.r.Guards)
		}
	}
}
