package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

const (
	// MaxSkew is how far a machine's clock may be off the broker's. Less is
	// corrected; more is a machine that nobody looks after.
	MaxSkew = time.Minute
	// StaleAfter is how long past its own deadline an open claim is left to the
	// delivery of its job before anybody else may settle it.
	StaleAfter = 2 * time.Hour
	// pendingLimit is how long a fraud status may stay open. Klarna: typically 4–8
	// business hours, at most 24 h.
	// https://docs.klarna.com/payments/after-payments/order-management/more-actions/pending-orders
	pendingLimit = 48 * time.Hour
	// unsentLimit is how long a claim under which nothing was sent may keep other keys waiting:
	// its own job waits as they do while the account is paused, and speaks first afterwards.
	unsentLimit = 7 * 24 * time.Hour
	MaxPanics   = 10
	// MaxWait is how long a job waits for the end of another key's claim before it asks again. That end is no matter of Klarna's
	// trouble, for which the pauses grow: whoever writes it wakes the jobs of which it knows, and this is for the others, which
	// another worker sent back, or one that has ended since. It costs two reads of the leader a minute for each of them.
	MaxWait = time.Minute
	// maxRetryAfter is how long one answer may put a job off.
	maxRetryAfter = time.Minute
	maxLastError  = 1 << 10 // bytes; the state has to fit into a header
)

// Timing is how a worker spaces what it does.
type Timing struct {
	// TryTimeout bounds one HTTP request, body included. Klarna gives up at 59 s
	// itself, so a shorter one abandons live requests. Default 65 s.
	TryTimeout time.Duration
	// TryBudget is how long one delivery goes on trying. Default 30 s.
	TryBudget time.Duration
	// SettleDelay is the pause after a try that was cut or timed out: by then
	// Klarna has finished or dropped it. Default 60 s.
	SettleDelay time.Duration
	// RetryDelays are the pauses between deliveries of an undecided job, ±20 %,
	// the last one repeating. Default 5 s, 1 m, 5 m, 15 m, 1 h, 2 h.
	RetryDelays []time.Duration
	// KeyWindow is how long after the first send an idempotency key is used.
	// Klarna honours one for 24 h. Default 23 h.
	KeyWindow time.Duration
}

// DefaultTiming is that of the design.
func DefaultTiming() Timing {
	return Timing{
		TryTimeout:  65 * time.Second,
		TryBudget:   30 * time.Second,
		SettleDelay: 60 * time.Second,
		RetryDelays: []time.Duration{
			5 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 2 * time.Hour,
		},
		KeyWindow: 23 * time.Hour,
	}
}

// LeaseNeeded is how long a lease must be at least: it lasts one AckWait, and the last try that the budget allows must
// still fit.
func (t Timing) LeaseNeeded() time.Duration {
	need := t.TryBudget + t.TryTimeout
	return need + max(need/10, time.Second)
}

// NewRules are those of a worker whose leases last for ackWait. Half of what that leaves beside the tries is for clocks
// that are apart: the holder of a lease lets it end that much sooner.
func NewRules(t Timing, ackWait time.Duration) Rules {
	return Rules{Timing: t, AckWait: ackWait, ClockMargin: (ackWait - t.TryBudget - t.TryTimeout) / 2, Jitter: 1}
}

// Rules are the settings that the machine works with.
type Rules struct {
	Timing
	AckWait     time.Duration // length of a lease
	ClockMargin time.Duration // how far clocks may be apart: leases end so much later for the others than for their holder
	Jitter      float64       // factor on them, around 1
	Guards      Guards        // of the account
	Paused      bool          // the account is, so that one job's trouble is not its own
	Restored    time.Time     // before this moment the journal may have forgotten what it knew; zero where it never did
}

// Delay is the pause after the nth delivery of a claim, n ≥ 1.
func (r Rules) Delay(n int) time.Duration {
	d := r.RetryDelays[min(max(n, 1), len(r.RetryDelays))-1]
	return time.Duration(float64(d) * r.Jitter)
}

// Request is one delivery of a job, as far as the machine cares.
type Request struct {
	Renewal  messages.Renewal // whose State it meets; only to say what the job waits for
	Key      messages.IdempotencyKey
	Hash     string // of account, token and order: what would be charged
	Account  messages.Account
	Payload  []byte          // the whole message: what was rejected, where that was about these bytes only
	Verdict  messages.Reason // why this job may not be claimed at all; "" when it may
	Attempt  int64
	Token    string // fingerprint of the customer token
	DueAt    time.Time
	Cadence  messages.Cadence
	OffCycle bool // meant to fall between two periods
	Unspaced bool // its account does not look at the periods beside it
	Way      *Way // what stands beside it; nil until that was looked at
	// CustomerActed: the attempt need not wait for the last one's gap.
	CustomerActed bool
	Policy        dunning.Policy
	Authorised    *Order         // what a charge leaves to be captured; nil where that is automatic
	Capture       *CaptureWanted // what is to be captured; nil for a charge
	Replay        uint64         // sequence of the dead letter that this message repeats; 0: none
	Nonce         string
	Worker        string
	Host          string
	Endpoint      string // with the merchant: where the key means something
	Merchant      string
	StandIn       bool // Key is a stand-in: nothing is ever sent under it
	Delivered     int  // how often JetStream handed the message out; for pauses only
}

// payloadHash is taken where it is asked for: a job that is charged never needs it.
func (q Request) payloadHash() string { return HashPayload(q.Account, q.Payload) }

type Action uint8

const (
	Ack        Action = iota + 1 // the key is settled: done
	Nak                          // not yet: deliver again after Delay
	Try                          // the claim is ours: ask Klarna
	Poll                         // an order exists: ask for its fraud status
	Look                         // ask how much of the order can be captured, then decide again
	LookAround                   // look at the periods beside it, then decide again
	FileApart                    // the ID belongs to something else: file under the stand-in
	Park                         // too early: keep it elsewhere until Until, it comes again then
)

// Transition is what to do next: write Record with State (unless Record is empty),
// publish the dead letter if Dead, then act.
type Transition struct {
	Record messages.Kind
	Key    messages.IdempotencyKey // whose record it is
	Reason messages.Reason         // of a rejected or unresolved record, of a refusal, and of a dead letter
	Advice *Advice                 // with a refusal
	State  State                   // after the record

	Then  Action
	Delay time.Duration
	Waits messages.Renewal // with Nak: it waits for the end of this one's open claim, which cuts the delay short; "": for nothing but time
	Until time.Time        // with Park
	Dead  bool

	Made      string        // the order or capture that no result names, with a dead letter about it
	Corrects  messages.Kind // the earlier result of the same key that this one overrides
	Conflicts messages.IdempotencyKey
	Way       Way       // of a charge that is too close to another
	DueAt     time.Time // of the renewal, where a conflict is about that
	// NextAttemptAt is from when on an attempt is accepted that came too soon, MaxAttempts how many a renewal may have that had too many.
	NextAttemptAt time.Time
	MaxAttempts   int64
	unread        bool // a refusal that is none of Klarna's application, but of the time that has passed
	Duplicate     bool // the job had its result before this delivery
}

func Later(d time.Duration) Transition  { return Transition{Then: Nak, Delay: max(d, 0)} }
func until(t, now time.Time) Transition { return Later(t.Sub(now) + time.Second) }
func deadAgain(e Settlement) bool {
	return e.Kind == messages.KindRejected && buried(e.Reason) || e.Kind == messages.KindUnresolved
}
func rebindable(e Settlement) bool {
	return e.Reason == messages.ReasonInvalid || e.Reason == messages.ReasonNotDue || e.Reason == messages.ReasonNothingToCharge
}

// waitFor sends a job back until a renewal's open claim has ended, or d has passed, or [MaxWait].
func waitFor(r messages.Renewal, d time.Duration) Transition {
	st := Later(min(d, MaxWait))
	st.Waits = r
	return st
}

// Stray says that an order or capture came to light which no result can name any more.
func (st Transition) Stray() bool {
	return st.Reason == messages.ReasonOrderAfterDunning || st.Reason == messages.ReasonSecondOrder || st.Reason == messages.ReasonCaptureAfterFailure
}

// ByTheClock says that the step is right only if the clock is: something has expired, or a lease begins.
func (st Transition) ByTheClock() bool {
	switch {
	case st.Record == messages.KindUnresolved:
		return st.Reason != messages.ReasonPoison
	case st.Record == messages.KindRejected:
		return st.Reason == messages.ReasonExpired || st.Reason == messages.ReasonTooOld || st.Reason == messages.ReasonNotDue || st.Reason == messages.ReasonTooSoon
	case st.unread:
		return true
	}
	return st.Then == Try
}

// FiredEarly is how long before its moment a job may come back from where it waited: a schedule is made of whole
// seconds, and clocks differ. It is not parked again for that.
const FiredEarly = 2 * time.Second

// CaptureWanted is what a capture job asks for.
type CaptureWanted struct {
	OrderID string      // "": whichever order the renewal has
	Amount  int64       // minor units; 0: everything that is left
	Found   *OrderFound // nil until Klarna was asked
}

// OrderFound is what Klarna says of the order before a capture is claimed.
type OrderFound struct {
	Refused            bool             // Klarna does not know it, or does not tell
	Refusal            dunning.Decision // then
	Status             string
	Amount, Remaining  int64 // minor units
	Captured           int64 // by whomever
	Currency           string
	MerchantReference1 string
	MerchantReference2 string
	CaptureBefore      time.Time
	Booked             int64 // what the journal had as captured when Klarna was asked
}

// buried says that a rejected job is filed as a dead letter: not a period that
// costs nothing, since there is nothing to mend or to replay.
func buried(why messages.Reason) bool { return why != messages.ReasonNothingToCharge }
