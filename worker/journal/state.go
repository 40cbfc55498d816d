package journal

import (
	"maps"
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// Phase is where a renewal stands. Phases other than none are named after the
// kind of record that led to them.
type Phase string

const (
	PhaseNone       Phase = "none"
	PhaseCharging   Phase = "charging"   // a claim is open: Klarna may be, or may have been, asked
	PhasePending    Phase = "pending"    // an order exists, its fraud status is not final
	PhasePaid       Phase = "paid"       // terminal, save for a capture
	PhaseDunning    Phase = "dunning"    // refused; a new attempt may claim
	PhaseUnresolved Phase = "unresolved" // not known and no longer asked; an operator decides
	PhaseCancelled  Phase = "cancelled"  // no charge for this period

	// After paid, where the order was only authorised.
	PhaseCapturing     Phase = "capturing"      // a claim is open, for a capture
	PhaseCaptured      Phase = "captured"       // in part or in full
	PhaseCaptureFailed Phase = "capture_failed" // refused; the next capture may claim
)

// State is everything that is known of one renewal. It travels whole in the
// Renewals-State header of every journal record, so that one read of the last
// record of a renewal tells all, and a record carries on what it does not change.
type State struct {
	Version int   `json:"v"`
	Phase   Phase `json:"phase"`

	// Claim is the last claim, kept after it is settled: its key tells whether
	// another key has followed, its nonce which delivery wrote the result. Of a charge that is paid little more is
	// kept than the key and the order, see [State.spare].
	Claim *Claim `json:"claim,omitempty"`

	// Settled holds every message ID of this renewal that has its result, by
	// idempotency key.
	Settled map[messages.IdempotencyKey]Settlement `json:"settled,omitempty"`

	// Order is what a paid renewal's captures are about; nil where Klarna was asked to capture
	// it by itself and nobody has seen that it did not.
	Order *Order `json:"order,omitempty"`

	Cancelled bool      `json:"cancelled,omitempty"` // an operator did
	DueAt     time.Time `json:"due_at,omitzero"`

	// Cadence is how often the subscription is charged, OffCycle that this charge is meant to fall between two periods: what is too
	// close to it goes by them.
	Cadence  messages.Cadence `json:"cadence,omitempty"`
	OffCycle bool             `json:"off_cycle,omitempty"`
	// Rev is how many records the renewal has: who counts fewer does not look at the present.
	Rev int64 `json:"rev,omitempty"`
	// ClaimedSeq is where the last key was claimed for a charge, kept by whoever takes the claim over; 0 in that very record.
	ClaimedSeq uint64 `json:"claimed_seq,omitempty"`

	FirstAttemptAt time.Time `json:"first_attempt_at,omitzero"`
	LastAttemptAt  time.Time `json:"last_attempt_at,omitzero"` // when the last attempt's key was claimed
	// DeadTokens are the fingerprints of the tokens that an attempt was told are dead, the newest last.
	DeadTokens []string `json:"dead_tokens,omitempty"`
	// UndecidedAt is when the last undecided try under the claim's key ended, see doubt; where its holder
	// never said, when the lease did.
	UndecidedAt time.Time `json:"undecided_at,omitzero"`
	// NotEvaluated is for how long requests under the claim's key have been turned away unread.
	NotEvaluated NotEvaluated `json:"not_evaluated,omitzero"`
	Attempts     int64        `json:"attempts"`
	// Policy is in force for the whole chain of attempts; nil: [dunning.DefaultPolicy].
	Policy *dunning.Policy `json:"policy,omitempty"`

	// Panics is how often handling a job broke, by the key of the job, until it has its result.
	Panics map[messages.IdempotencyKey]int `json:"panics,omitempty"`

	// VouchedAt is when an operator last said what became of a charge, having looked at Klarna: what the journal
	// may have forgotten before does not matter any more. Read from the journal it is no later than the broker's clock was, see vouched.
	VouchedAt time.Time `json:"vouched_at,omitzero"`
}

// Claim is the right of one delivery to ask Klarna under one key until
// LeaseUntil, and what is known of that key.
type Claim struct {
	Key    messages.IdempotencyKey `json:"key"`
	SHA256 string                  `json:"sha256,omitempty"` // of account, token and order: what the key stands for
	Nonce  string                  `json:"nonce,omitempty"`  // of the delivery that holds the claim
	Worker string                  `json:"worker,omitempty"` // that holds it
	// Host is that of the endpoint, in claims of older workers.
	Host string `json:"host,omitempty"`

	// Endpoint and Merchant are where the key means something: it is sent to no others. Empty in claims of older workers.
	Endpoint string `json:"endpoint,omitempty"`
	Merchant string `json:"merchant,omitempty"`

	LeaseUntil time.Time `json:"lease_until,omitzero"`
	// FirstSentAt starts the key's clock. It is written before the first byte
	// is sent and cleared only by the delivery that wrote it, and only if none of its
	// tries can have reached Klarna.
	FirstSentAt time.Time `json:"first_sent_at,omitzero"`
	// Released: the holder is done and no request of it can be under way. A claim
	// taken over without it counts as one more undecided try.
	Released bool `json:"released,omitempty"`

	Tries          int `json:"tries,omitempty"`
	Deliveries     int `json:"deliveries,omitempty"`
	UndecidedTries int `json:"undecided_tries,omitempty"`
	// Answered2xx: Klarna said yes without naming the order. Never dunning from here on.
	Answered2xx bool `json:"answered_2xx,omitempty"`
	// Panics is what workers of earlier versions counted here; see State.Panics.
	Panics int `json:"panics,omitempty"`
	// OrderID is the order that Klarna made under this key, once known.
	OrderID string `json:"order_id,omitempty"`
	// Held: it is kept for the sake of another period, see [Way]; nothing is sent before that is looked at again.
	Held bool `json:"held,omitempty"`
	// Unspaced: somebody held it who does not look at the periods beside it.
	Unspaced bool `json:"unspaced,omitempty"`
	// Capture is what is captured under this key; nil for a charge.
	Capture *Capture `json:"capture,omitempty"`

	// Contradicted: Klarna refused this key although an earlier try may have made an order.
	Contradicted bool `json:"contradicted,omitempty"`
	// NotEvaluatedSince is what State.NotEvaluated was in workers of earlier versions.
	NotEvaluatedSince time.Time `json:"not_evaluated_since,omitzero"`
	LastError         string    `json:"last_error,omitempty"`
	// Corrects is the earlier result of this key that the next one overrides.
	Corrects messages.Kind `json:"corrects,omitempty"`
	// Restored: the journal was set back before and may have forgotten an earlier use of the key. FirstSentAt
	// is no later than that, and is not cleared.
	Restored bool `json:"restored,omitempty"`
	// Search is what a person needs to find what was made under the key, where that is not known. It decides nothing.
	Search *Search `json:"search,omitempty"`
}

// Search is what a person needs who looks at Klarna for what the requests under a key have made, beside when the first was sent.
// It decides nothing. A claim whose first delivery brings its result has none.
type Search struct {
	// TakenAt is when the delivery that holds the claim took it over from another, until it has told what it sent.
	TakenAt time.Time `json:"taken_at,omitzero"`
	// LastSentAt is when the last try began of which anybody told; of a delivery that never did, when it began.
	LastSentAt time.Time `json:"last_sent_at,omitzero"`
	// Until is when Klarna has surely finished or dropped every try, those of which nobody told included: what does not
	// exist then never will.
	Until time.Time `json:"search_until,omitzero"`
	// CorrelationIDs are those of Klarna's answers, in order, each once.
	CorrelationIDs []string `json:"correlation_ids,omitempty"`
}

// Capture is what one key takes of an order.
type Capture struct {
	OrderID string `json:"order_id"`
	// Amount is fixed by the claim, in minor units: every try asks for the same. 0
	// until Klarna was asked how much is left.
	Amount int64 `json:"captured_amount"`
	// ID is the capture that Klarna made, once known.
	ID string `json:"capture_id,omitempty"`
}

// Order is an authorised order and what was captured of it. Amounts are in
// minor units.
type Order struct {
	ID                 string    `json:"order_id"`
	Amount             int64     `json:"order_amount"` // 0: nothing is known but the id
	Currency           string    `json:"purchase_currency,omitempty"`
	MerchantReference1 string    `json:"merchant_reference1,omitempty"`
	MerchantReference2 string    `json:"merchant_reference2,omitempty"`
	CaptureBefore      time.Time `json:"capture_before,omitzero"` // the authorisation's end, where Klarna told it

	Closed         bool      `json:"closed,omitempty"`          // Klarna said that nothing more can be captured
	Captured       int64     `json:"captured_amount,omitempty"` // of all recorded captures, and what Klarna took by itself
	Captures       int64     `json:"captures,omitempty"`        // claimed so far, failed ones included
	FirstCaptureAt time.Time `json:"first_capture_at,omitzero"`
}

// Settlement says what became of one message ID.
type Settlement struct {
	Kind   messages.Kind `json:"kind"`
	SHA256 string        `json:"sha256"`
	// Reason is set on rejections: after invalid and not_due corrected bytes may use the ID again.
	Reason messages.Reason `json:"reason,omitempty"`
	// Replay is the dead letter whose replay led to this settlement.
	Replay uint64 `json:"replay,omitempty"`
	// ByHand: an operator decided so, and may correct it while nothing has followed.
	ByHand bool `json:"by_hand,omitempty"`
}

// MaxSettled bounds the state: nats-server refuses headers over 64 KiB, and an
// entry takes some 160 bytes. Later rejections are filed under a stand-in, later claims refused.
const MaxSettled = 256

// Open says that a claim is being worked on: no other key may be charged.
func (s State) Open() bool {
	return s.Phase == PhaseCharging || s.Phase == PhasePending || s.Phase == PhaseCapturing
}

// Holds says that the last claim was for this key, whatever became of it.
func (s State) Holds(k messages.IdempotencyKey) bool { return s.Claim != nil && s.Claim.Key == k }

// known says that the key has a result, be it one that a new claim may override.
func (s State) known(k messages.IdempotencyKey) bool {
	_, ok := s.Settled[k]
	return ok
}

// full says that there is no room for the result of one more key, this one.
func (s State) full(k messages.IdempotencyKey) bool {
	return !s.known(k) && len(s.Settled) >= MaxSettled
}

// settledAs says that some key has a result of this kind.
func (s State) settledAs(kind messages.Kind) bool {
	for _, e := range s.Settled {
		if e.Kind == kind {
			return true
		}
	}
	return false
}

// Settle returns the state after the record that settles a key.
func (s State) Settle(k messages.IdempotencyKey, e Settlement) State {
	settled := make(map[messages.IdempotencyKey]Settlement, len(s.Settled)+1)
	maps.Copy(settled, s.Settled)
	settled[k] = e
	s.Settled = settled
	if s.counts(k) {
		s.Panics = maps.Clone(s.Panics)
		delete(s.Panics, k)
	}
	return s
}

// unsettle returns the state before the key was settled: its result turned out
// not to be the last word.
func (s State) unsettle(k messages.IdempotencyKey) State {
	s.Settled = maps.Clone(s.Settled)
	delete(s.Settled, k)
	return s
}

// panics is how often handling the key's job has broken. Earlier versions counted on the claim, and made one where there was none.
func (s State) panics(k messages.IdempotencyKey) int {
	n := s.Panics[k]
	if s.Holds(k) {
		n += s.Claim.Panics
	}
	return n
}

func (s State) counts(k messages.IdempotencyKey) bool {
	_, ok := s.Panics[k]
	return ok
}

// panicked returns the state after one more panic.
func (s State) panicked(k messages.IdempotencyKey) State {
	counted := make(map[messages.IdempotencyKey]int, len(s.Panics)+1)
	maps.Copy(counted, s.Panics)
	counted[k]++
	s.Panics = counted
	return s
}

// Claimed returns the state with another claim, leaving the old one to its readers.
func (s State) Claimed(c Claim) State {
	s.Claim = &c
	return s
}

// ordered returns the state with another order, leaving the old one to its readers.
func (s State) ordered(o Order) State {
	s.Order = &o
	return s
}

// made is what Klarna made under the claim's key, once known: an order or a capture.
func (c Claim) made() string {
	if c.Capture != nil {
		return c.Capture.ID
	}
	return c.OrderID
}

// make notes what Klarna made.
func (c *Claim) make(id string) {
	if c.Capture == nil {
		c.OrderID = id
		return
	}
	capture := *c.Capture
	capture.ID = id
	c.Capture = &capture
}

// before is the phase that a claim without any effect leaves behind.
func (s State) before() Phase {
	switch {
	case s.Order == nil && s.settledAs(messages.KindDunning):
		return PhaseDunning
	case s.Order == nil:
		return PhaseNone
	case s.settledAs(messages.KindCaptured): // not by the amount: Klarna may have captured some by itself
		return PhaseCaptured
	case s.settledAs(messages.KindCaptureFailed):
		return PhaseCaptureFailed
	}
	return PhasePaid
}

// NotEvaluated counts the answers under one key that Klarna's application did not give, while the canary was well.
type NotEvaluated struct {
	N     int       `json:"n"`
	Since time.Time `json:"since"`          // the first of them
	Heard bool      `json:"heard,omitzero"` // Klarna's application spoke to the account at one of them, through the canary or another charge
}
