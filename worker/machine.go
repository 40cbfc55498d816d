package worker

import (
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// This file is the state machine of a renewal: pure functions from the last
// recorded state and an event to the record to write and what becomes of the
// message. Nothing here reads a clock, a stream or Klarna. Whoever acts on a Step
// first writes its record with a compare-and-set on the state it was computed from;
// where that is lost, the new last state is read and the function asked again.
//
// Each rule is here because a system without it charged twice, lost a job or
// contradicted itself. See the tests of this file before removing one.

const (
	// staleAfter is how long past its own deadline an open claim is left to the
	// delivery of its job before anybody else may settle it.
	staleAfter = 2 * time.Hour
	// pendingLimit is how long a fraud status may stay open. Klarna: typically 4–8
	// business hours, at most 24 h.
	// https://docs.klarna.com/payments/after-payments/order-management/more-actions/pending-orders
	pendingLimit = 48 * time.Hour
	// unsentLimit is how long a claim under which nothing was sent may keep other keys waiting:
	// its own job waits as they do while the account is paused, and speaks first afterwards.
	unsentLimit  = 7 * 24 * time.Hour
	maxPanics    = 10
	maxLastError = 1 << 10 // bytes; the state has to fit into a header
)

// rules are the settings that the machine works with.
type rules struct {
	ackWait     time.Duration   // length of a lease
	keyWindow   time.Duration   // from first_sent_at on, how long a key is used
	settleDelay time.Duration   // after a cut try, until Klarna has surely finished or dropped it
	retryDelays []time.Duration // between deliveries, the last repeating
	clockMargin time.Duration   // how far clocks may be apart: leases end so much later for the others than for their holder
	jitter      float64         // factor on them, around 1
	paused      bool            // the account is, so that one job's trouble is not its own
	restored    time.Time       // before this moment the journal may have forgotten what it knew; zero where it never did
}

// delay is the pause after the nth delivery of a claim, n ≥ 1.
func (r rules) delay(n int) time.Duration {
	d := r.retryDelays[min(max(n, 1), len(r.retryDelays))-1]
	return time.Duration(float64(d) * r.jitter)
}

// request is one delivery of a job, as far as the machine cares.
type request struct {
	Key        messages.IdempotencyKey
	Hash       string // of account, token and order: what would be charged
	Account    messages.Account
	Payload    []byte          // the whole message: what was rejected, where that was about these bytes only
	Verdict    messages.Reason // why this job may not be claimed at all; "" when it may
	Attempt    int64
	DueAt      time.Time
	Policy     dunning.Policy
	Authorised *Order  // what a charge leaves to be captured; nil where that is automatic
	Capture    *wanted // what is to be captured; nil for a charge
	Replay     uint64  // sequence of the dead letter that this message repeats; 0: none
	Nonce      string
	Worker     string
	Host       string
	Endpoint   string // with the merchant: where the key means something
	Merchant   string
	StandIn    bool // Key is a stand-in: nothing is ever sent under it
	Delivered  int  // how often JetStream handed the message out; for pauses only
}

// payloadHash is taken where it is asked for: a job that is charged never needs it.
func (q request) payloadHash() string { return hash(q.Payload, string(q.Account)) }

type action uint8

const (
	actAck     action = iota + 1 // the key is settled: done
	actNak                       // not yet: deliver again after Delay
	actCharge                    // the claim is ours: ask Klarna
	actPoll                      // an order exists: ask for its fraud status
	actLook                      // ask how much of the order can be captured, then decide again
	actStandIn                   // the ID belongs to something else: file under the stand-in
	actPark                      // too early: keep it elsewhere until Until, it comes again then
)

// step is what to do next: write Record with State (unless Record is empty),
// publish the dead letter if Dead, then act.
type step struct {
	Record messages.Kind
	Key    messages.IdempotencyKey // whose record it is
	Reason messages.Reason         // of a rejected or unresolved record, and of a dead letter
	State  State                   // after the record

	Then  action
	Delay time.Duration
	Until time.Time // with actPark
	Dead  bool

	Made      string        // the order or capture that no result names, with a dead letter about it
	Corrects  messages.Kind // the earlier result of the same key that this one overrides
	Conflicts messages.IdempotencyKey
	DueAt     time.Time // of the renewal, where a conflict is about that
	Duplicate bool      // the job had its result before this delivery
}

func nak(d time.Duration) step    { return step{Then: actNak, Delay: max(d, 0)} }
func until(t, now time.Time) step { return nak(t.Sub(now) + time.Second) }
func deadAgain(e Settlement) bool {
	return e.Kind == messages.KindRejected && buried(e.Reason) || e.Kind == messages.KindUnresolved
}
func rebindable(e Settlement) bool {
	return e.Reason == messages.ReasonInvalid || e.Reason == messages.ReasonNotDue || e.Reason == messages.ReasonNothingToCharge
}

// buried says that a rejected job is filed as a dead letter: not a period that
// costs nothing, since there is nothing to mend or to replay.
func buried(why messages.Reason) bool { return why != messages.ReasonNothingToCharge }

// afterwards says that an order or capture came to light which no result can name any more.
func (st step) afterwards() bool {
	return st.Reason == messages.ReasonOrderAfterDunning || st.Reason == messages.ReasonSecondOrder || st.Reason == messages.ReasonCaptureAfterFailure
}

// byTheClock says that the step is right only if the clock is: something has expired, or a lease begins.
func (st step) byTheClock() bool {
	switch {
	case st.Record == messages.KindUnresolved:
		return st.Reason != messages.ReasonPoison
	case st.Record == messages.KindRejected:
		return st.Reason == messages.ReasonExpired || st.Reason == messages.ReasonTooOld || st.Reason == messages.ReasonNotDue
	case st.Reason == messages.ReasonRefusedWithoutCode:
		return true
	}
	return st.Then == actCharge
}

// deliver decides what a delivered job means for its renewal.
func deliver(s State, q request, now time.Time, r rules) step {
	if q.StandIn && q.Verdict != "" {
		return filed(s, q)
	}
	if e, ok := s.Settled[q.Key]; ok && e.binds(q) {
		if e.SHA256 != q.settlementHash(e) {
			return conflict(q)
		}
		return duplicate(s, q, e)
	}

	if s.open() && s.holds(q.Key) {
		return carryOn(s, q, now, r)
	}
	if q.Verdict != "" {
		return reject(s, q, q.Verdict)
	}
	if s.open() {
		if r.paused && s.Claim.FirstSentAt.IsZero() {
			return nak(r.delay(q.Delivered))
		}
		if now.Before(s.staleAt(r)) {
			return nak(min(r.delay(q.Delivered), s.staleAt(r).Sub(now)+time.Second))
		}
		give := giveUp(s, s.expiredReason())
		give.Then, give.Delay, give.Dead = actNak, time.Second, false // the dead letter is for whoever has its payload
		return give
	}

	if q.Capture != nil {
		return capture(s, q, now, r)
	}

	switch s.Phase {
	case PhaseCaptured, PhaseCaptureFailed:
		st := reject(s, q, messages.ReasonOrderExists)
		st.Conflicts = s.Claim.Key
		return st
	case PhasePaid:
		st := reject(s, q, messages.ReasonAlreadyPaid)
		st.Conflicts = s.Claim.Key
		return st
	case PhaseUnresolved:
		why := messages.ReasonBlockedByUnresolved
		if s.Claim.Capture != nil {
			why = messages.ReasonOrderExists
		}
		st := reject(s, q, why)
		st.Conflicts = s.Claim.Key
		return st
	case PhaseCancelled:
		return reject(s, q, messages.ReasonCancelled)
	}

	if !s.DueAt.IsZero() && !s.DueAt.Equal(q.DueAt) {
		// How long the journal remembers the period is counted from this moment, and so is what is too close to it.
		return step{Then: actStandIn, Reason: messages.ReasonConflict, DueAt: s.DueAt}
	}
	if !s.known(q.Key) && len(s.Settled) >= maxSettled {
		return step{Then: actStandIn, Reason: messages.ReasonTooManyAttempts}
	}
	switch wait := q.DueAt.Sub(now); {
	case wait > firedEarly:
		return step{Then: actPark, Until: q.DueAt, State: s, Key: q.Key}
	case wait > 0:
		return nak(wait)
	}
	st := claim(s, q, now, r)
	if st.State.windowClosed(now, r) || s.unseen(q, r) {
		return giveUp(st.State, st.State.expiredReason())
	}
	return st
}

// binds says whether a settled key speaks for this message. It does not after a
// replay that an operator asked for, nor for corrected bytes under the ID of a job that was rejected
// as invalid or not due: that rejection was about those bytes only.
func (e Settlement) binds(q request) bool {
	if e.Kind != messages.KindRejected {
		return true
	}
	if rebindable(e) && e.SHA256 != q.payloadHash() {
		return false
	}
	return q.Replay == 0 || q.Replay == e.Replay || e.SHA256 != q.settlementHash(e)
}

func (e Settlement) deadReason() messages.Reason {
	if e.Reason != "" {
		return e.Reason
	}
	return messages.Reason(e.Kind)
}

// settlementHash is the hash by which a settlement knows its message again.
func (q request) settlementHash(e Settlement) string {
	if rebindable(e) {
		return q.payloadHash()
	}
	return q.Hash
}

// filed decides for a message that goes by its stand-in, where it ends whatever is
// there: a conflict has no further place to go to.
func filed(s State, q request) step {
	if e, ok := s.Settled[q.Key]; ok && e.SHA256 == q.settlementHash(e) {
		return duplicate(s, q, e)
	}
	if s.open() {
		s.Phase = s.before() // that claim only counted panics
	}
	return reject(s, q, q.Verdict)
}

// duplicate says that the message has its result. The dead letter may be missing.
func duplicate(s State, q request, e Settlement) step {
	return step{Then: actAck, Duplicate: true, Dead: deadAgain(e), Reason: e.deadReason(), State: s, Key: q.Key}
}

func conflict(q request) step {
	return step{Then: actStandIn, Reason: messages.ReasonConflict, Conflicts: q.Key}
}

// carryOn takes an open claim of the same key towards its end. The job's
// validity is not asked again: the order may exist already.
func carryOn(s State, q request, now time.Time, r rules) step {
	c := *s.Claim
	c.distrust(s, q, r)
	switch {
	case c.SHA256 != q.Hash, (c.Capture == nil) != (q.Capture == nil):
		return conflict(q)
	case s.Phase == PhasePending:
		return step{Then: actPoll, State: s, Key: q.Key} // also after the limit: a last look
	case c.Nonce == q.Nonce:
		return step{Then: actCharge, State: s, Key: q.Key} // the answer to our claim was lost, the claim was not
	case !c.Released && now.Before(c.LeaseUntil):
		return until(c.LeaseUntil, now)
	case c.Capture != nil && c.Capture.Amount == 0:
		s.Phase = s.before() // the claim only counts panics
		return capture(s, q, now, r)
	case s.claimed(c).windowClosed(now, r):
		s = s.claimed(c)
		return giveUp(s, s.expiredReason())
	case c.elsewhere(q) && !c.FirstSentAt.IsZero():
		// Another endpoint or merchant would not know the key and charge anew: wait for
		// the old one to be configured again, or for the window to close.
		return nak(min(r.delay(max(c.Deliveries, q.Delivered)), c.FirstSentAt.Add(r.keyWindow).Sub(now)))
	}

	if c.Restored && !s.Claim.Restored {
		s.UndecidedAt = later(s.UndecidedAt, r.restored)
	}
	if !c.Released {
		c.UndecidedTries++
	}
	if !c.Released || c.UndecidedTries > 0 && s.UndecidedAt.IsZero() { // older workers do not write when it ended
		s.UndecidedAt = later(s.UndecidedAt, c.LeaseUntil)
	}
	c.take(q, now, r)
	c.Deliveries++
	return step{Record: c.becomes(answerNone), Key: q.Key, State: s.claimed(c), Then: actCharge}
}

// claim opens a renewal's next attempt.
func claim(s State, q request, now time.Time, r rules) step {
	c := Claim{Key: q.Key, SHA256: q.Hash, Deliveries: 1, Corrects: s.Settled[q.Key].Kind}
	c.distrust(s, q, r)
	c.take(q, now, r)
	next := s.claimed(c)
	next.Phase, next.UndecidedAt, next.NotEvaluated = PhaseCharging, time.Time{}, NotEvaluated{}
	if c.Restored {
		next.UndecidedAt = r.restored // when a try that was forgotten may have ended
	}
	next.Attempts = max(s.Attempts+1, q.Attempt)
	if next.FirstAttemptAt.IsZero() {
		next.FirstAttemptAt, next.DueAt, next.Policy = now, q.DueAt, &q.Policy
	}
	return step{Record: messages.KindCharging, Key: q.Key, State: next, Then: actCharge}
}

// take makes the claim that of the delivery at hand and starts the key's clock
// if it does not run.
func (c *Claim) take(q request, now time.Time, r rules) {
	c.Nonce, c.Worker = q.Nonce, q.Worker
	c.Host, c.Endpoint, c.Merchant = q.Host, q.Endpoint, q.Merchant
	c.LeaseUntil, c.Released = now.Add(r.ackWait), false
	if c.FirstSentAt.IsZero() {
		c.FirstSentAt = now
	}
}

// elsewhere says that a request would be sent to where the key of the claim means
// nothing. Claims of older workers know the host alone.
func (c Claim) elsewhere(q request) bool {
	if c.Endpoint == "" {
		return c.Host != q.Host
	}
	return c.Endpoint != q.Endpoint || c.Merchant != q.Merchant
}

// windowClosed says that no byte may be sent under the key of the claim any more.
func (s State) windowClosed(now time.Time, r rules) bool {
	return !s.Claim.FirstSentAt.IsZero() && !now.Before(s.Claim.FirstSentAt.Add(r.keyWindow))
}

// staleAt is when an open claim may be settled by somebody who does not have its
// job: its window, or what else limits it, is over and its own delivery had its chance.
func (s State) staleAt(r rules) time.Time {
	c := s.Claim
	switch {
	case s.Phase == PhasePending:
		return c.FirstSentAt.Add(pendingLimit + staleAfter)
	case !c.FirstSentAt.IsZero():
		return c.FirstSentAt.Add(r.keyWindow + staleAfter)
	default: // released, and nothing was ever evaluated
		return c.LeaseUntil.Add(unsentLimit + staleAfter)
	}
}

// expiredReason names why a claim that ran out of time is unresolved.
func (s State) expiredReason() messages.Reason {
	switch {
	case s.Phase == PhasePending:
		return messages.ReasonPendingTooLong
	case s.Claim.Contradicted:
		return messages.ReasonContradictoryAnswers
	case s.Claim.FirstSentAt.IsZero():
		return messages.ReasonNotEvaluated
	case s.Claim.Restored:
		return messages.ReasonJournalRestored
	}
	return messages.ReasonIdempotencyWindowExpired
}

// giveUp settles the open claim as unresolved: from here on only an operator
// decides. The dead letter keeps the job.
func giveUp(s State, why messages.Reason) step {
	c := *s.Claim
	c.Released = true
	next := s.claimed(c).settle(c.Key, Settlement{Kind: messages.KindUnresolved, SHA256: c.SHA256, Reason: why})
	next.Phase = PhaseUnresolved
	return step{Record: messages.KindUnresolved, Key: c.Key, Reason: why, State: next, Then: actAck, Dead: true, Corrects: c.Corrects}
}

// sweep settles a claim that nobody delivers any more. ok is false while there
// is nothing to do. A claim under which nothing was sent is left to whoever meets it: its account may be
// paused for longer than a week.
func sweep(s State, now time.Time, r rules) (_ step, ok bool) {
	if !s.open() || s.Claim.FirstSentAt.IsZero() || now.Before(s.staleAt(r)) {
		return step{}, false
	}
	st := giveUp(s, s.expiredReason())
	st.Dead = false
	return st, true
}

// reject records that a job will not be charged. The renewal goes on as it was:
// the state is carried, only the key is settled.
func reject(s State, q request, why messages.Reason) step {
	if !s.known(q.Key) && len(s.Settled) >= maxSettled {
		return step{Then: actStandIn, Reason: why}
	}
	e := Settlement{Kind: messages.KindRejected, Reason: why, Replay: q.Replay}
	e.SHA256 = q.settlementHash(e)
	if s.Phase == "" {
		s.Phase = PhaseNone
	}
	return step{Record: messages.KindRejected, Key: q.Key, Reason: why, State: s.settle(q.Key, e), Then: actAck, Dead: buried(why)}
}

// answer is what Klarna's words of one delivery come to.
type answer uint8

const (
	answerNone          answer = iota // not known
	answerAccepted                    // an order, its fraud status ACCEPTED: money, or an authorisation; or a capture
	answerPending                     // an order, its fraud status not final
	answerFraudRejected               // an order that Klarna rejected
	answerRefused                     // a definite no
)

// made says that Klarna made an order, or a capture: never dropped.
func (a answer) made() bool { return a == answerAccepted || a == answerPending }

// outcome is what the tries of one delivery came to.
type outcome struct {
	Answer answer
	Made   string // the order or capture that Klarna made

	Tries       int
	Undecided   int       // tries after which an order may exist, without one that was cut last
	UndecidedAt time.Time // when the last of them ended, one that was cut among them

	// Unsent: none of the tries can have been evaluated, so the key's clock need not run.
	Unsent       bool
	NotEvaluated bool      // the last try was turned away unread
	Canary       condition // of the way to Klarna, where NotEvaluated
	EvaluatedAt  time.Time // when Klarna's application last gave its word on another job, as far as this worker knows
	Answered2xx  bool
	Contradicted bool
	TooSoon      bool // refused while an undecided try may still be at work: see doubt
	Cut          bool // the last try broke or timed out: it may still be under way at Klarna
	HandBack     bool // ended by a shutdown or a late start, not by Klarna
	RetryAfter   time.Duration
	LastError    string
}

// A doubt is what the tries under a key have left open: an order may exist, or come
// to exist. After a 5xx or a 408 Klarna may still be at work on the request that it answered, as on one that was cut.
type doubt struct {
	Tries       int       // undecided ones, over all deliveries
	EndedAt     time.Time // the last of them, by the broker's clock
	Answered2xx bool      // Klarna said yes without naming the order
}

// standing is what a refusal is worth.
type standing uint8

const (
	refusalDecides     standing = iota
	refusalTooSoon              // the try before it may yet make an order: ask again once that is over
	refusalContradicts          // it says nothing of the order that an earlier try may have made
)

// refused says what a refusal is worth, one of an order that Klarna made and
// rejected among them. began is when its try was begun; judged says that the refusal is about this very order. Without
// doubt any refusal decides. A yes, or the token's or the request's fault, is never overruled; and a decline of the
// money decides once Klarna has surely finished or dropped the undecided try, by anybody's clock.
func (d doubt) refused(judged bool, began time.Time, r rules) standing {
	switch {
	case d.Answered2xx:
		return refusalContradicts
	case d.Tries == 0:
		return refusalDecides
	case !judged:
		return refusalContradicts
	case began.Before(d.EndedAt.Add(r.settled())):
		return refusalTooSoon
	}
	return refusalDecides
}

// settled is how long after the end of an undecided try its request is surely over:
// the moment was read on one clock and is compared on another, each up to a margin off.
func (r rules) settled() time.Duration { return r.settleDelay + 2*r.clockMargin }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// holding is what a delivery knows of the claim it won.
type holding struct {
	Claim       Claim     // as it was written
	UndecidedAt time.Time // as it was written
	SetsClock   bool      // this delivery started the key's clock, so it may clear it
	Authorised  *Order    // what the charge leaves to be captured; nil where that is automatic
}

// doubt is what the deliveries before have left open.
func (h holding) doubt() doubt {
	return doubt{Tries: h.Claim.UndecidedTries, EndedAt: h.UndecidedAt, Answered2xx: h.Claim.Answered2xx}
}

// conclude decides what the tries of a delivery mean for its renewal, whose
// last state may be another's by now.
func conclude(s State, h holding, o outcome, now time.Time, r rules) step {
	k := h.Claim.Key
	own := s.holds(k) && s.Claim.Nonce == h.Claim.Nonce
	e, settled := s.Settled[k]

	switch {
	case own && s.Phase == PhasePending && o.Answer != answerAccepted:
		// A fenced delivery found the order and put it here: nothing that we heard can take it away.
		return nak(r.delay(1))
	case own && s.open():
		return record(s, h, o, now, r)
	case own && settled && o.Answer.made() && s.Claim.made() != o.Made:
		return fenced(s, h, o, now, r) // an operator named another one
	case own && settled && (e.Kind == h.Claim.becomes(o.Answer) || o.Answer == answerNone):
		// Our record is there, its answer was lost.
		return step{Then: actAck, Dead: deadAgain(e), Reason: e.deadReason(), State: s, Key: k}
	case o.Answer.made():
		return fenced(s, h, o, now, r)
	case s.open() && s.holds(k):
		// Another delivery is at it, whatever an earlier use of the key came to.
		return until(s.Claim.LeaseUntil, now)
	case settled:
		return step{Then: actAck, Duplicate: true, Dead: deadAgain(e), Reason: e.deadReason(), State: s, Key: k}
	}
	return nak(r.delay(h.Claim.Deliveries))
}

// becomes is the record that an answer leads to while the claim is one's own.
func (c Claim) becomes(a answer) messages.Kind {
	if c.Capture != nil {
		switch a {
		case answerAccepted:
			return messages.KindCaptured
		case answerRefused:
			return messages.KindCaptureFailed
		}
		return messages.KindCapturing
	}
	switch a {
	case answerAccepted:
		return messages.KindPaid
	case answerPending:
		return messages.KindPending
	case answerRefused, answerFraudRejected:
		return messages.KindDunning
	}
	return messages.KindCharging
}

// gained is the state after Klarna made what the claim asked for: there is an
// order to capture, or less of it is left.
func (s State) gained(c Claim, authorised *Order) State {
	switch {
	case c.Capture != nil:
		o := *s.Order
		o.Captured += c.Capture.Amount
		return s.ordered(o)
	case authorised != nil:
		o := *authorised
		o.ID = c.OrderID
		return s.ordered(o)
	}
	return s
}

// record writes what one's own claim came to.
func record(s State, h holding, o outcome, now time.Time, r rules) step {
	c := h.after(o, now, r)
	c.Corrects, c.Panics = s.Claim.Corrects, s.Claim.Panics // others may have written these on our claim
	c.NotEvaluatedSince = time.Time{}
	next := s.claimed(c)
	next.UndecidedAt = later(s.UndecidedAt, o.UndecidedAt)
	next.NotEvaluated = s.unread().after(o, now)
	why := next.NotEvaluated.comesTo(c, o, now, r)
	if why == messages.ReasonNotEvaluated {
		return giveUp(next, why)
	} else if why != "" {
		o.Answer = answerRefused
	}
	st := step{Record: c.becomes(o.Answer), Key: c.Key, Reason: why, Then: actAck, Corrects: c.Corrects}

	switch st.Record {
	case messages.KindPaid, messages.KindCaptured:
		next = next.gained(c, h.Authorised)
		fallthrough
	case messages.KindDunning, messages.KindCaptureFailed:
		next.Phase = Phase(st.Record)
		st.State = next.settle(c.Key, Settlement{Kind: st.Record, SHA256: c.SHA256})
		return st
	case messages.KindPending:
		next.Phase = PhasePending
		st.State, st.Then, st.Delay = next, actNak, r.delay(1)
		return st
	}

	st.State, st.Then = next, actNak
	st.Delay = max(r.delay(c.Deliveries), o.RetryAfter)
	if o.TooSoon {
		st.Delay = max(next.UndecidedAt.Add(r.settled()).Sub(now), o.RetryAfter)
	}
	if o.HandBack {
		st.Delay = 0
	}
	if !c.FirstSentAt.IsZero() { // be there when the window closes
		st.Delay = min(st.Delay, max(c.FirstSentAt.Add(r.keyWindow).Sub(now), 0))
	}
	if o.Cut {
		st.Delay = max(st.Delay, r.settleDelay+r.clockMargin)
	}
	return st
}

// after is the claim with what the delivery's tries have taught.
func (h holding) after(o outcome, now time.Time, r rules) Claim {
	c := h.Claim
	c.Tries += o.Tries
	c.UndecidedTries += o.Undecided
	c.Answered2xx = c.Answered2xx || o.Answered2xx
	c.Contradicted = c.Contradicted || o.Contradicted
	c.LastError = o.LastError[:min(len(o.LastError), maxLastError)]
	if o.Made != "" {
		c.make(o.Made)
	}
	c.Released, c.LeaseUntil = true, now
	if o.Cut {
		c.Released, c.LeaseUntil = false, now.Add(r.settleDelay+r.clockMargin)
	}
	if h.SetsClock && o.Unsent && !c.Restored {
		c.FirstSentAt = time.Time{}
	}
	return c
}

// fenced decides for a delivery that holds an order, or a capture, but no longer
// the claim: what is in hand is never dropped.
func fenced(s State, h holding, o outcome, now time.Time, r rules) step {
	k := h.Claim.Key
	e, settled := s.Settled[k]
	if h.forgottenBy(s) {
		s = s.claimed(h.Claim)
		s.Attempts++
		if s.FirstAttemptAt.IsZero() {
			s.FirstAttemptAt = now
		}
	}
	switch {
	case settled && (e.Kind == messages.KindPaid || e.Kind == messages.KindCaptured):
		named := o.Made
		if s.holds(k) {
			named = s.Claim.made()
		} else if h.Claim.Capture == nil && s.Order != nil {
			named = s.Order.ID // a capture has followed
		}
		if named != o.Made {
			return step{Then: actAck, Dead: true, Reason: messages.ReasonSecondOrder, Made: o.Made, State: s, Key: k}
		}
		return step{Then: actAck, Duplicate: true, State: s, Key: k}
	case !s.holds(k) && h.Claim.Capture != nil:
		return step{Then: actAck, Dead: true, Reason: messages.ReasonCaptureAfterFailure, Made: o.Made, State: s, Key: k}
	case !s.holds(k):
		// Another key has followed: its charge cannot be undone from here.
		st := step{Then: actAck, Dead: true, Reason: messages.ReasonOrderAfterDunning, Made: o.Made, State: s, Key: k}
		if !settled { // the journal was set back: the job gets its result when it comes again
			st.Then, st.Delay = actNak, r.delay(1)
		}
		return st
	}
	if s.Phase == PhasePending && o.Answer == answerPending {
		return nak(r.delay(1))
	}

	c := *s.Claim
	c.make(o.Made)
	c.Tries += o.Tries
	c.Released, c.LeaseUntil = true, now
	if settled {
		c.Corrects = e.Kind
	}
	next := s.claimed(c)
	st := step{Record: c.becomes(o.Answer), Key: k, Then: actAck, Corrects: c.Corrects}
	if o.Answer == answerPending {
		next.Phase = PhasePending
		st.State, st.Then, st.Delay = next.unsettle(k), actNak, r.delay(1)
		return st
	}
	next = next.gained(c, h.Authorised)
	next.Phase = Phase(st.Record)
	st.State = next.settle(k, Settlement{Kind: st.Record, SHA256: h.Claim.SHA256})
	return st
}

// polled decides what the fraud status of a pending order means. final is false
// while Klarna has not decided.
func polled(s State, q request, accepted, final bool, now time.Time, r rules) step {
	if s.Phase != PhasePending || !s.holds(q.Key) {
		return deliver(s, q, now, r)
	}
	if left := s.Claim.FirstSentAt.Add(pendingLimit).Sub(now); !final && left <= 0 {
		return giveUp(s, messages.ReasonPendingTooLong)
	} else if !final {
		return nak(min(r.delay(q.Delivered), left+time.Second))
	}
	st := step{Record: messages.KindPaid, Key: q.Key, Then: actAck, Corrects: s.Claim.Corrects}
	if !accepted {
		st.Record = messages.KindDunning
	}
	next := s
	if accepted {
		next = next.gained(*s.Claim, q.Authorised)
	}
	next.Phase = Phase(st.Record)
	if !accepted && s.Cancelled { // a cancellation outlives an order that came to nothing
		next.Phase = PhaseCancelled
	}
	st.State = next.settle(q.Key, Settlement{Kind: st.Record, SHA256: s.Claim.SHA256})
	return st
}

// panicked counts a panic in the handling of a job, and puts the job aside after
// the last that is allowed: unresolved where Klarna may have been asked, else rejected.
func panicked(s State, q request, now time.Time, r rules) step {
	own := s.open() && s.holds(q.Key)
	if e, ok := s.Settled[q.Key]; ok && q.StandIn { // it has its result: this delivery broke before its ack
		return duplicate(s, q, e)
	}
	if own && s.Claim.SHA256 != q.Hash && !q.StandIn {
		return conflict(q) // the claim is another job's
	}
	if !own {
		// To count on, there has to be a claim. Where the job would not get one, what it gets instead ends it.
		if st := deliver(s, q, now, r); st.Then != actCharge && st.Then != actLook {
			return st
		}
		if q.Capture != nil {
			s = claimCapture(s, q, 0, now, r).State
		} else {
			s = claim(s, q, now, r).State
		}
		s.Claim.LeaseUntil, s.Claim.Released = now, true // nothing was sent
		if !s.Claim.Restored {
			s.Claim.FirstSentAt = time.Time{}
		}
	}
	c := *s.Claim
	c.Panics++
	if c.Panics >= maxPanics {
		if !c.FirstSentAt.IsZero() {
			return giveUp(s.claimed(c), messages.ReasonPoison)
		}
		c.Released = true
		next := s.claimed(c)
		next.Phase = next.before()
		return reject(next, q, messages.ReasonPoison)
	}
	if own && c.Nonce == q.Nonce && !c.Released {
		c.LeaseUntil = now.Add(r.settleDelay + r.clockMargin) // a try may have been under way
	}
	next := s.claimed(c) // in the phase that it is in: a pending order stays pending
	return step{Record: c.becomes(answerNone), Key: q.Key, State: next, Then: actNak, Delay: max(r.delay(c.Panics), c.LeaseUntil.Sub(now))}
}

// before is the phase that a claim without any effect leaves behind.
func (s State) before() Phase {
	switch {
	case s.Order == nil && s.settledAs(messages.KindDunning):
		return PhaseDunning
	case s.Order == nil:
		return PhaseNone
	case s.Order.Captured > 0:
		return PhaseCaptured
	case s.settledAs(messages.KindCaptureFailed):
		return PhaseCaptureFailed
	}
	return PhasePaid
}
