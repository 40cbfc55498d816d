package journal

import (
	"fmt"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

const (
	K1 messages.IdempotencyKey = "066fb987-94e8-5d9a-9b0b-0d279f430fd1"
	k2 messages.IdempotencyKey = "b0b7c1de-0000-5000-8000-000000000002"
)

func testRules() Rules {
	return Rules{
		AckWait: 2 * time.Minute, Jitter: 1,
		Timing: Timing{KeyWindow: 23 * time.Hour, SettleDelay: time.Minute, RetryDelays: []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute}},
	}
}

// first is the job of a renewal's first attempt, second that of the next.
func first() Request {
	return Request{
		Key: K1, Hash: "order 1", Payload: []byte("payload 1"), DueAt: noon.Add(-time.Hour), Policy: dunning.DefaultPolicy(),
		Nonce: "a", Worker: "worker a", Host: "api.klarna.com", Delivered: 1,
	}
}

func second() Request {
	q := first()
	q.Key, q.Hash, q.Payload, q.Nonce = k2, "order 2", []byte("payload 2"), "b"
	return q
}

func empty() State { return State{Phase: PhaseNone} }

// charging is the state after the first job was claimed at noon.
func charging() State { return Deliver(empty(), first(), noon, testRules()).State }

func with(s State, change func(*Claim)) State {
	c := *s.Claim
	change(&c)
	return s.Claimed(c)
}

// after is the state once the claim of s was concluded.
func after(t *testing.T, s State, o Outcome) State {
	t.Helper()
	st := Conclude(s, HeldClaim{Claim: *s.Claim, SetsClock: true}, o, noon.Add(time.Second), testRules())
	if st.Record == "" {
		t.Fatalf("conclude(%+v) writes no record", o)
	}
	return st.State
}

var (
	accepted  = Outcome{Answer: Accepted, Made: "order-1", Tries: 1}
	refused   = Outcome{Answer: Refused, Tries: 1}
	undecided = Outcome{Tries: 1, Undecided: 1}
	wasCut    = Outcome{Tries: 1, Cut: true}
	unsent    = Outcome{Unsent: true}
)

func TestDeliver(t *testing.T) {
	r := testRules()
	invalid := first()
	invalid.Verdict = messages.ReasonInvalid
	rejected := Deliver(empty(), invalid, noon, r).State
	corrected := first()
	corrected.Hash, corrected.Payload = "order 1 corrected", []byte("payload 1 corrected")
	corrected.Nonce = "c"
	expired := first()
	expired.Verdict = messages.ReasonExpired
	rejectedExpired := Deliver(empty(), expired, noon, r).State
	replay := first()
	replay.Replay = 7
	replayed := Deliver(empty(), func() Request { q := expired; q.Replay = 7; return q }(), noon, r).State
	otherAccount := first()
	otherAccount.Hash = "the same order on another account"
	takeover := first()
	takeover.Nonce = "b"
	early := first()
	early.DueAt = noon.Add(3 * time.Hour)
	earlySecond := second()
	earlySecond.DueAt = early.DueAt
	lateInvalid := takeover
	lateInvalid.Verdict = messages.ReasonInvalid
	elsewhere := takeover
	elsewhere.Host = "api.kustom.co"
	invalidSecond := second()
	invalidSecond.Verdict = messages.ReasonInvalid

	paid, declined := after(t, charging(), accepted), after(t, charging(), refused)
	released := after(t, charging(), undecided)
	cut := after(t, charging(), wasCut)
	pending := after(t, charging(), Outcome{Answer: Pending, Made: "order-1", Tries: 1})
	unresolved := giveUp(charging(), messages.ReasonIdempotencyWindowExpired, testRules()).State
	cancelled := declined
	cancelled.Phase = PhaseCancelled
	secondOpen := Deliver(declined, second(), noon, r).State

	for _, tt := range []struct {
		name   string
		state  State
		job    Request
		at     time.Time
		record messages.Kind
		reason messages.Reason
		then   Action
		delay  time.Duration
		dead   bool
		dup    bool
	}{
		{name: "a new renewal is claimed", state: empty(), job: first(), at: noon, record: messages.KindCharging, then: Try},
		{name: "early: it is parked until it is due (S77)", state: empty(), job: early, at: noon, then: Park},
		{name: "early by more than a schedule may be", state: empty(), job: early, at: noon.Add(3*time.Hour - FiredEarly - 1), then: Park},
		{name: "early by as much as a schedule may be: it is not parked again", state: empty(), job: early, at: noon.Add(3*time.Hour - FiredEarly), then: Nak, delay: FiredEarly},
		{name: "early, and due", state: empty(), job: early, at: noon.Add(3 * time.Hour), record: messages.KindCharging, then: Try},
		{name: "early, its period paid: told at once", state: paid, job: earlySecond, at: noon, record: messages.KindRejected, reason: messages.ReasonAlreadyPaid, then: Ack, dead: true},
		{name: "early, its period cancelled: told at once", state: cancelled, job: earlySecond, at: noon, record: messages.KindRejected, reason: messages.ReasonCancelled, then: Ack, dead: true},
		{
			name: "early, its own claim open: carried on", state: released, job: func() Request { q := takeover; q.DueAt = early.DueAt; return q }(), at: noon.Add(2 * time.Second),
			record: messages.KindCharging, then: Try,
		},
		{name: "early, another attempt open: it waits", state: charging(), job: earlySecond, at: noon, then: Nak, delay: 5 * time.Second},
		{name: "early, settled", state: paid, job: func() Request { q := first(); q.DueAt = early.DueAt; return q }(), at: noon, reason: "paid", then: Ack, dup: true},
		{name: "early, its ID with another order", state: paid, job: func() Request { q := otherAccount; q.DueAt = early.DueAt; return q }(), at: noon, reason: messages.ReasonConflict, then: FileApart},
		{name: "invalid: recorded and put aside", state: empty(), job: invalid, at: noon, record: messages.KindRejected, reason: messages.ReasonInvalid, then: Ack, dead: true},

		{name: "paid and delivered again: the ack was lost", state: paid, job: first(), at: noon, reason: "paid", then: Ack, dup: true},
		{name: "declined and delivered again", state: declined, job: first(), at: noon, reason: "dunning", then: Ack, dup: true},
		{name: "attempt 1 again while attempt 2 is open (S41)", state: secondOpen, job: first(), at: noon, reason: "dunning", then: Ack, dup: true},
		{name: "rejected and delivered again: the dead letter may be missing", state: rejected, job: invalid, at: noon, reason: messages.ReasonInvalid, then: Ack, dead: true, dup: true},
		{name: "unresolved and delivered again", state: unresolved, job: first(), at: noon, reason: messages.ReasonIdempotencyWindowExpired, then: Ack, dead: true, dup: true},

		{name: "the ID with another order, settled (S11, S36)", state: paid, job: otherAccount, at: noon, reason: messages.ReasonConflict, then: FileApart},
		{name: "the ID with another order, open (S36)", state: charging(), job: otherAccount, at: noon, reason: messages.ReasonConflict, then: FileApart},
		{name: "an expired job's ID with another order", state: rejectedExpired, job: corrected, at: noon, reason: messages.ReasonConflict, then: FileApart},
		{name: "corrected bytes after invalid are a fresh job", state: rejected, job: corrected, at: noon, record: messages.KindCharging, then: Try},

		{name: "replay of a rejected job is claimed", state: rejectedExpired, job: replay, at: noon, record: messages.KindCharging, then: Try},
		{name: "replay delivered again after it was rejected again", state: replayed, job: replay, at: noon, reason: messages.ReasonExpired, then: Ack, dead: true, dup: true},
		{name: "replay of an unresolved job changes nothing", state: unresolved, job: replay, at: noon, reason: messages.ReasonIdempotencyWindowExpired, then: Ack, dead: true, dup: true},
		{name: "replay of a paid job changes nothing", state: paid, job: replay, at: noon, reason: "paid", then: Ack, dup: true},

		{name: "open claim, its lease not over", state: charging(), job: takeover, at: noon.Add(time.Minute), then: Nak, delay: time.Minute + time.Second},
		{name: "open claim, its lease over: taken over", state: charging(), job: takeover, at: noon.Add(2 * time.Minute), record: messages.KindCharging, then: Try},
		{name: "open claim, released: taken over at once", state: released, job: takeover, at: noon.Add(2 * time.Second), record: messages.KindCharging, then: Try},
		{name: "open claim, its try was cut: the settle delay (S38)", state: cut, job: takeover, at: noon.Add(31 * time.Second), then: Nak, delay: 31 * time.Second},
		{name: "own claim, its answer was lost", state: charging(), job: first(), at: noon.Add(time.Second), then: Try},
		{name: "open claim of a job that newer rules call invalid (S43)", state: released, job: lateInvalid, at: noon.Add(time.Minute), record: messages.KindCharging, then: Try},
		{name: "open claim made on another endpoint", state: released, job: elsewhere, at: noon.Add(time.Minute), then: Nak, delay: 5 * time.Second},
		{
			name: "the window has closed (S3)", state: released, job: takeover, at: noon.Add(23 * time.Hour), record: messages.KindUnresolved, reason: messages.ReasonIdempotencyWindowExpired, then: Ack,
			dead: true,
		},
		{name: "the window closes in a second", state: released, job: takeover, at: noon.Add(23*time.Hour - time.Second), record: messages.KindCharging, then: Try},

		{name: "pending: its fraud status is asked for (S12)", state: pending, job: takeover, at: noon.Add(time.Hour), then: Poll},
		{name: "pending for two days: a last look", state: pending, job: takeover, at: noon.Add(48 * time.Hour), then: Poll},

		{name: "attempt 2 while attempt 1 is open (S5)", state: released, job: second(), at: noon.Add(time.Hour), then: Nak, delay: 5 * time.Second},
		{
			name: "attempt 2 meets an abandoned attempt 1 (S45)", state: released, job: second(), at: noon.Add(25 * time.Hour), record: messages.KindUnresolved, reason: messages.ReasonIdempotencyWindowExpired,
			then: Nak, delay: time.Second,
		},
		{name: "attempt 2 after a decline (S10)", state: declined, job: second(), at: noon, record: messages.KindCharging, then: Try},
		{name: "a second job for a paid period (S32, S34)", state: paid, job: second(), at: noon, record: messages.KindRejected, reason: messages.ReasonAlreadyPaid, then: Ack, dead: true},
		{name: "a second job for an unresolved period", state: unresolved, job: second(), at: noon, record: messages.KindRejected, reason: messages.ReasonBlockedByUnresolved, then: Ack, dead: true},
		{name: "a job for a cancelled period (S15)", state: cancelled, job: second(), at: noon, record: messages.KindRejected, reason: messages.ReasonCancelled, then: Ack, dead: true},
		{name: "an invalid second job while attempt 1 is open", state: charging(), job: invalidSecond, at: noon, record: messages.KindRejected, reason: messages.ReasonInvalid, then: Ack, dead: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Deliver(tt.state, tt.job, tt.at, r)
			if got.Record != tt.record || got.Reason != tt.reason || got.Then != tt.then || got.Delay != tt.delay || got.Dead != tt.dead || got.Duplicate != tt.dup {
				t.Errorf("deliver = %+v\nwant record %q reason %q then %d delay %s dead %t duplicate %t", got, tt.record, tt.reason, tt.then, tt.delay, tt.dead, tt.dup)
			}
		})
	}
}

func TestDeliverKeepsWhatIsKnown(t *testing.T) {
	r := testRules()
	takeover := first()
	takeover.Nonce, takeover.Worker = "b", "worker b"

	t.Run("a crash counts as an undecided try", func(t *testing.T) {
		got := Deliver(charging(), takeover, noon.Add(3*time.Minute), r).State.Claim
		if got.UndecidedTries != 1 || got.Deliveries != 2 || got.Nonce != "b" || got.Worker != "worker b" || got.Released {
			t.Errorf("claim after takeover = %+v", got)
		}
	})
	t.Run("the key's clock keeps running (S42)", func(t *testing.T) {
		got := Deliver(charging(), takeover, noon.Add(3*time.Minute), r).State.Claim
		if !got.FirstSentAt.Equal(noon) {
			t.Errorf("first_sent_at = %s, want %s", got.FirstSentAt, noon)
		}
		s := Conclude(Deliver(charging(), takeover, noon.Add(3*time.Minute), r).State, HeldClaim{Claim: *got}, unsent, noon.Add(4*time.Minute), r).State
		if !s.Claim.FirstSentAt.Equal(noon) {
			t.Errorf("first_sent_at after a takeover that could not send = %s, want %s", s.Claim.FirstSentAt, noon)
		}
	})
	t.Run("the delivery that started the clock stops it when nothing was sent", func(t *testing.T) {
		if got := after(t, charging(), unsent).Claim; !got.FirstSentAt.IsZero() || !got.Released {
			t.Errorf("claim = %+v, want no first_sent_at, released", got)
		}
	})
	t.Run("a rejection carries the open claim on", func(t *testing.T) {
		bad := second()
		bad.Verdict = messages.ReasonInvalid
		got := Deliver(charging(), bad, noon, r)
		if got.State.Phase != PhaseCharging || got.State.Claim.Key != K1 || got.State.Settled[k2].Kind != messages.KindRejected {
			t.Errorf("state after the rejection = %+v", got.State)
		}
	})
	t.Run("attempts are the larger of what is said and what is counted (S21)", func(t *testing.T) {
		declined := after(t, charging(), refused)
		if got := Deliver(declined, second(), noon, r).State.Attempts; got != 2 {
			t.Errorf("attempts = %d, want 2", got)
		}
		third := second()
		third.Attempt = 3
		if got := Deliver(declined, third, noon, r).State.Attempts; got != 3 {
			t.Errorf("attempts = %d, want 3", got)
		}
	})
	t.Run("the policy of the first attempt stays (S22)", func(t *testing.T) {
		declined := after(t, charging(), refused)
		changed := second()
		changed.Policy = dunning.Policy{SoftDecline: dunning.Schedule{Days: []int{9}, MaxAttempts: 2}}
		claimed := Deliver(declined, changed, noon, r).State
		if claimed.Policy != nil || !claimed.FirstAttemptAt.Equal(noon) {
			t.Errorf("policy = %+v, first attempt at %s, want the usual one kept, which is not written", claimed.Policy, claimed.FirstAttemptAt)
		}
		soft := dunning.Decision{Category: messages.CategorySoftDecline, Retryable: true}
		if claimed.advise(soft, false, Guards{}).Final {
			t.Error("the second of five attempts is final")
		}
		own := first()
		own.Policy = changed.Policy
		if got := Deliver(after(t, Deliver(empty(), own, noon, r).State, refused), second(), noon, r).State.Policy; got == nil || got.SoftDecline.MaxAttempts != 2 {
			t.Errorf("policy = %+v, want the account's of the first attempt", got)
		}
	})
	t.Run("the state stays small enough for a header", func(t *testing.T) {
		s := after(t, charging(), accepted)
		for i := range 1000 {
			q := second()
			q.Key = messages.NewIdempotencyKey("4a87da77-4bba-50c6-8cae-6972612639ac", messages.MessageID(rune('a'+i)))
			q.Hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
			if st := Deliver(s, q, noon, r); st.Record != "" {
				s = st.State
			} else if st.Then != FileApart {
				t.Fatalf("rejection %d: %+v, want the stand-in", i, st)
			}
		}
		if header, err := s.Encode(); err != nil || len(header) > 60<<10 {
			t.Errorf("state takes %d bytes (%v), want at most 60 KiB", len(header), err)
		}
	})
}

func TestConclude(t *testing.T) {
	r := testRules()
	now := noon.Add(3 * time.Minute)
	mine := HeldClaim{Claim: *charging().Claim, SetsClock: true}
	takeover := first()
	takeover.Nonce = "b"
	takenOver := Deliver(charging(), takeover, noon.Add(2*time.Minute), r).State
	concluded := func(o Outcome) State {
		return Conclude(takenOver, HeldClaim{Claim: *takenOver.Claim}, o, now, r).State
	}
	declined := concluded(refused)
	later := second()
	later.Nonce = "c"
	secondOpen := Deliver(declined, later, now, r).State
	secondPaid := Conclude(secondOpen, HeldClaim{Claim: *secondOpen.Claim}, Outcome{Answer: Accepted, Made: "order-2"}, now, r).State
	rejectedBetween := reject(charging(), later, messages.ReasonInvalid).State
	cancelled := declined
	cancelled.Phase = PhaseCancelled
	pendingThere := concluded(Outcome{Answer: Pending, Made: "order-1", Tries: 1})
	inDoubt := Outcome{Answer: Pending, Made: "order-1", Tries: 1}

	for _, tt := range []struct {
		name     string
		state    State
		outcome  Outcome
		record   messages.Kind
		corrects messages.Kind
		reason   messages.Reason
		then     Action
		dead     bool
	}{
		{name: "an order is paid", state: charging(), outcome: accepted, record: messages.KindPaid, then: Ack},
		{name: "an order in doubt is pending", state: charging(), outcome: inDoubt, record: messages.KindPending, then: Nak},
		{name: "an order rejected for fraud is dunning", state: charging(), outcome: Outcome{Answer: FraudRejected, Tries: 1}, record: messages.KindDunning, reason: messages.ReasonFraudRejected, then: Ack},
		{name: "a refusal is dunning", state: charging(), outcome: refused, record: messages.KindDunning, then: Ack},
		{name: "no answer is announced as nothing (S4)", state: charging(), outcome: undecided, record: messages.KindCharging, then: Nak},
		{name: "a rejection came between: written again on top", state: rejectedBetween, outcome: accepted, record: messages.KindPaid, then: Ack},
		{name: "our record is there, its answer was lost", state: after(t, charging(), accepted), outcome: accepted, reason: "paid", then: Ack},

		{name: "fenced with an order, the other still charging", state: takenOver, outcome: accepted, record: messages.KindPaid, then: Ack},
		{name: "fenced with an order, the other paid the same (S31)", state: concluded(accepted), outcome: accepted, then: Ack},
		{name: "fenced with an order, the other paid another", state: concluded(Outcome{Answer: Accepted, Made: "order-9"}), outcome: accepted, reason: messages.ReasonSecondOrder, then: Ack, dead: true},
		{name: "fenced with an order, the other declined (S40)", state: declined, outcome: accepted, record: messages.KindPaid, corrects: messages.KindDunning, then: Ack},
		{
			name: "fenced with an order, given up meanwhile", state: giveUp(takenOver, messages.ReasonContradictoryAnswers, testRules()).State, outcome: accepted, record: messages.KindPaid,
			corrects: messages.KindUnresolved, then: Ack,
		},
		{name: "fenced with an order, cancelled after the decline", state: cancelled, outcome: accepted, record: messages.KindPaid, corrects: messages.KindDunning, then: Ack},
		{name: "fenced with an order, attempt 2 is open (S40)", state: secondOpen, outcome: accepted, reason: messages.ReasonOrderAfterDunning, then: Ack, dead: true},
		{name: "fenced with an order, attempt 2 is paid (S40)", state: secondPaid, outcome: accepted, reason: messages.ReasonOrderAfterDunning, then: Ack, dead: true},
		{name: "fenced with an order in doubt, the other declined", state: declined, outcome: inDoubt, record: messages.KindPending, corrects: messages.KindDunning, then: Nak},
		{name: "fenced with an order, pending there", state: pendingThere, outcome: accepted, record: messages.KindPaid, then: Ack},
		{name: "fenced with an order in doubt, pending there", state: pendingThere, outcome: inDoubt, then: Nak},

		{name: "fenced with a refusal, the other still charging (S31)", state: takenOver, outcome: refused, then: Nak},
		{name: "fenced with a refusal, the other paid", state: concluded(accepted), outcome: refused, reason: "paid", then: Ack},
		{
			name: "fenced with nothing, given up meanwhile", state: giveUp(takenOver, messages.ReasonContradictoryAnswers, testRules()).State, outcome: undecided, reason: messages.ReasonContradictoryAnswers, then: Ack,
			dead: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Conclude(tt.state, mine, tt.outcome, now, r)
			if got.Record != tt.record || got.Corrects != tt.corrects || got.Reason != tt.reason || got.Then != tt.then || got.Dead != tt.dead {
				t.Errorf("conclude = %+v\nwant record %q corrects %q reason %q then %d dead %t", got, tt.record, tt.corrects, tt.reason, tt.then, tt.dead)
			}
		})
	}
}

func TestConcludeUndecided(t *testing.T) {
	r := testRules()
	now := noon.Add(10 * time.Second)
	mine := HeldClaim{Claim: *charging().Claim, SetsClock: true}

	t.Run("a cut try keeps its claim until Klarna has surely finished", func(t *testing.T) {
		got := Conclude(charging(), mine, wasCut, now, r)
		c := got.State.Claim
		if c.Released || !c.LeaseUntil.Equal(now.Add(time.Minute)) || got.Delay != time.Minute || c.UndecidedTries != 0 {
			t.Errorf("claim %+v delay %s, want not released, leased for a minute; the takeover counts the try", c, got.Delay)
		}
	})
	t.Run("an undecided try releases the claim and counts", func(t *testing.T) {
		got := Conclude(charging(), mine, undecided, now, r)
		c := got.State.Claim
		if !c.Released || c.UndecidedTries != 1 || c.Tries != 1 || got.Delay != 5*time.Second || c.FirstSentAt.IsZero() {
			t.Errorf("claim %+v delay %s", c, got.Delay)
		}
	})
	t.Run("a shutdown hands back at once", func(t *testing.T) {
		if got := Conclude(charging(), mine, Outcome{HandBack: true, Unsent: true}, now, r); got.Delay != 0 || !got.State.Claim.Released {
			t.Errorf("step %+v, want delay 0, released", got)
		}
	})
	t.Run("Klarna's own pause is kept", func(t *testing.T) {
		if got := Conclude(charging(), mine, Outcome{Tries: 1, Unsent: true, RetryAfter: 40 * time.Second}, now, r); got.Delay != 40*time.Second {
			t.Errorf("delay = %s, want 40s", got.Delay)
		}
	})
	t.Run("the job is there when its window closes", func(t *testing.T) {
		s := with(charging(), func(c *Claim) { c.Deliveries = 9; c.FirstSentAt = now.Add(-23*time.Hour + 30*time.Second) })
		if got := Conclude(s, HeldClaim{Claim: *s.Claim}, undecided, now, r); got.Delay != 30*time.Second {
			t.Errorf("delay = %s, want 30s", got.Delay)
		}
	})
}

// countedByAClaim is the state in which an earlier version counted panics of a job without a claim of its own.
func countedByAClaim(s State, q Request, panics int) State {
	if q.Capture != nil {
		s = claimCapture(s, q, 0, noon, testRules()).State
	} else {
		s = claim(s, q, noon, testRules()).State
	}
	c := *s.Claim
	c.LeaseUntil, c.Released, c.FirstSentAt, c.Panics = noon, true, time.Time{}, panics
	return s.Claimed(c)
}

func TestPanicked(t *testing.T) {
	r := testRules()
	t.Run("before any claim: rejected in the end (S35)", func(t *testing.T) {
		s, q := empty(), first()
		for n := 1; n < MaxPanics; n++ {
			st := Panicked(s, q, noon, r)
			if st.Record != messages.KindCharging || st.Then != Nak || st.State.Phase != PhaseNone || st.State.Claim != nil || st.State.Attempts != 0 {
				t.Fatalf("panic %d: %+v, want it counted and sent back, and nothing else", n, st)
			}
			s = st.State
		}
		st := Panicked(s, q, noon, r)
		if st.Record != messages.KindRejected || st.Reason != messages.ReasonPoison || st.State.Phase != PhaseNone || !st.Dead || st.State.counts(q.Key) {
			t.Errorf("panic %d: %+v, want rejected, the renewal free, nothing counted any more", MaxPanics, st)
		}
	})
	t.Run("before any claim: others are not kept waiting", func(t *testing.T) {
		s := Panicked(empty(), first(), noon, r).State
		st := Deliver(s, second(), noon, r)
		if st.Then != Try || st.State.panics(K1) != 1 || st.State.panics(k2) != 0 {
			t.Errorf("%+v, want attempt 2 claimed, the panic of attempt 1 remembered", st)
		}
		if st = Panicked(st.State, first(), noon, r); st.Record != "" || st.Then != Nak {
			t.Errorf("%+v, want attempt 1 to wait for attempt 2", st)
		}
	})
	t.Run("counted on a claim by an earlier version", func(t *testing.T) {
		if st := Deliver(countedByAClaim(empty(), first(), 4), first().again(), noon, r); st.Then != Try || st.State.panics(K1) != 4 {
			t.Errorf("%+v, want it claimed, four panics remembered", st)
		}
		st := Panicked(countedByAClaim(empty(), first(), MaxPanics-2), first(), noon, r)
		if st.Record != messages.KindCharging || st.State.panics(K1) != MaxPanics-1 {
			t.Fatalf("%+v, want one more counted", st)
		}
		if st = Panicked(st.State, first(), noon, r); st.Record != messages.KindRejected || st.Reason != messages.ReasonPoison || st.State.Phase != PhaseNone {
			t.Errorf("%+v, want rejected, the renewal free again", st)
		}
	})
	t.Run("more jobs of one renewal than are counted: put aside at once", func(t *testing.T) {
		s, q := empty(), first()
		for i := range maxBroken {
			q.Key = messages.IdempotencyKey(fmt.Sprint("key ", i))
			s = Panicked(s, q, noon, r).State
		}
		if st := Panicked(s, q, noon, r); st.Then != Nak || st.State.panics(q.Key) != 2 {
			t.Errorf("one that is counted: %+v, want it counted again", st)
		}
		q.Key = K1
		if st := Panicked(s, q, noon, r); st.Record != messages.KindRejected || st.Reason != messages.ReasonPoison {
			t.Errorf("one more: %+v, want it rejected", st)
		}
	})
	t.Run("with an open claim: unresolved in the end (S35)", func(t *testing.T) {
		s := with(charging(), func(c *Claim) { c.Panics = MaxPanics - 1 })
		st := Panicked(s, first(), noon, r)
		if st.Record != messages.KindUnresolved || st.Reason != messages.ReasonPoison {
			t.Errorf("last panic: %+v, want unresolved", st)
		}
	})
	t.Run("a panic while a try was under way keeps the claim", func(t *testing.T) {
		st := Panicked(charging(), first(), noon.Add(time.Second), r)
		if c := st.State.Claim; c.Released || !c.LeaseUntil.Equal(noon.Add(time.Second+r.SettleDelay)) {
			t.Errorf("claim = %+v, want not released", c)
		}
	})
	t.Run("after the result: done, or it would come back for ever", func(t *testing.T) {
		if st := Panicked(after(t, charging(), accepted), first(), noon, r); st.Record != "" || st.Then != Ack || !st.Duplicate {
			t.Errorf("step = %+v, want an acknowledgement", st)
		}
	})
	t.Run("where there is nothing to charge: what it gets without a panic", func(t *testing.T) {
		if st := Panicked(after(t, charging(), accepted), second(), noon, r); st.Reason != messages.ReasonAlreadyPaid {
			t.Errorf("step = %+v, want it rejected as paid already", st)
		}
	})
}

func TestSweep(t *testing.T) {
	r := testRules()
	released := after(t, charging(), undecided)
	never := after(t, charging(), unsent)
	for _, tt := range []struct {
		name  string
		state State
		at    time.Time
		want  messages.Reason
	}{
		{name: "its own delivery still has its chance", state: released, at: noon.Add(24 * time.Hour)},
		{name: "the window is over and nobody came (S45)", state: released, at: noon.Add(25 * time.Hour), want: messages.ReasonIdempotencyWindowExpired},
		{name: "nothing was ever sent", state: never, at: noon.Add(48 * time.Hour)},
		{name: "nothing was ever sent, for a week: the account may be paused", state: never, at: noon.Add(8 * 24 * time.Hour)},
		{name: "settled", state: after(t, charging(), refused), at: noon.Add(1000 * time.Hour)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st, ok := Sweep(tt.state, tt.at, r)
			if ok != (tt.want != "") || st.Reason != tt.want {
				t.Errorf("sweep = %v, %q, want %q", ok, st.Reason, tt.want)
			}
		})
	}
}

// TestOrderInHandIsKept holds the corners in which a second delivery of the same
// key could lose what the first has found.
func TestOrderInHandIsKept(t *testing.T) {
	r := testRules()
	takeover := first()
	takeover.Nonce = "b"

	t.Run("pending under another's claim: its cut or refused try changes nothing", func(t *testing.T) {
		theirs := Deliver(charging(), takeover, noon.Add(3*time.Minute), r).State
		pending := Conclude(theirs, HeldClaim{Claim: *charging().Claim}, Outcome{Answer: Pending, Made: "order-1", Tries: 1}, noon.Add(3*time.Minute), r).State
		for name, o := range map[string]Outcome{"cut": wasCut, "undecided": undecided, "refused": refused} {
			if got := Conclude(pending, HeldClaim{Claim: *theirs.Claim}, o, noon.Add(4*time.Minute), r); got.Record != "" || got.Then != Nak {
				t.Errorf("%s: %+v, want nothing written, the job back", name, got)
			}
		}
		if got := Conclude(pending, HeldClaim{Claim: *theirs.Claim}, accepted, noon.Add(4*time.Minute), r); got.Record != messages.KindPaid {
			t.Errorf("accepted: record %q, want paid", got.Record)
		}
	})
	t.Run("pending for two days: the last look decides, or gives up", func(t *testing.T) {
		pending, later := after(t, charging(), Outcome{Answer: Pending, Made: "order-1", Tries: 1}), noon.Add(48*time.Hour)
		if got := Polled(pending, takeover, true, true, later, r); got.Record != messages.KindPaid {
			t.Errorf("accepted: %+v, want paid", got)
		}
		if got := Polled(pending, takeover, false, false, later, r); got.Reason != messages.ReasonPendingTooLong || !got.Dead {
			t.Errorf("not final: %+v, want unresolved", got)
		}
		if got := Polled(pending, takeover, false, false, later.Add(-time.Second), r); got.Record != "" || got.Delay > 2*time.Second {
			t.Errorf("not final a second before: %+v, want it back when the time is up", got)
		}
	})
	t.Run("an operator named another order", func(t *testing.T) {
		resolved, err := resolve(giveUp(charging(), messages.ReasonIdempotencyWindowExpired, testRules()).State, verdict{kind: messages.KindPaid, made: "order-9"})
		if err != nil {
			t.Fatal(err)
		}
		got := Conclude(resolved.State, HeldClaim{Claim: *charging().Claim}, accepted, noon.Add(26*time.Hour), r)
		if got.Reason != messages.ReasonSecondOrder || !got.Dead || got.Made != "order-1" {
			t.Errorf("%+v, want a dead letter about order-1", got)
		}
	})
	t.Run("an earlier rejection of the key does not acknowledge its open claim", func(t *testing.T) {
		invalid := first()
		invalid.Verdict = messages.ReasonInvalid
		corrected := first()
		corrected.Hash, corrected.Payload = "corrected", []byte("corrected payload")
		ours := Deliver(Deliver(empty(), invalid, noon, r).State, corrected, noon, r)
		corrected.Nonce = "b"
		theirs := Deliver(ours.State, corrected, noon.Add(3*time.Minute), r)
		if got := Conclude(theirs.State, HeldClaim{Claim: *ours.State.Claim}, undecided, noon.Add(4*time.Minute), r); got.Then != Nak {
			t.Errorf("%+v, want the job back", got)
		}
	})
	t.Run("a cancellation outlives an order that came to nothing", func(t *testing.T) {
		theirs := Deliver(charging(), takeover, noon.Add(3*time.Minute), r).State
		cancelled, err := cancel(Conclude(theirs, HeldClaim{Claim: *theirs.Claim}, refused, noon.Add(3*time.Minute), r).State)
		if err != nil {
			t.Fatal(err)
		}
		pending := Conclude(cancelled.State, HeldClaim{Claim: *charging().Claim}, Outcome{Answer: Pending, Made: "order-1", Tries: 1}, noon.Add(4*time.Minute), r).State
		if got := Polled(pending, takeover, false, true, noon.Add(5*time.Minute), r); got.State.Phase != PhaseCancelled {
			t.Errorf("phase %s, want cancelled", got.State.Phase)
		}
	})
}

// A lease ends when it says, not a moment sooner for whoever waits for it.
func TestLeaseEndsWhenItSays(t *testing.T) {
	r := testRules()
	open, q := charging(), first()
	q.Nonce = "b"
	if st := Deliver(open, q, open.Claim.LeaseUntil.Add(-time.Millisecond), r); st.Then != Nak || st.Record != "" {
		t.Errorf("a millisecond before the lease ends: %+v, want it to wait", st)
	}
	if st := Deliver(open, q, open.Claim.LeaseUntil, r); st.Then != Try || st.State.Claim.Nonce != "b" {
		t.Errorf("when the lease ends: %+v, want the claim taken over", st)
	}
}
