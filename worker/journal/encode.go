package journal

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// Encode gives the Renewals-State header. Every record carries one, so it is written without reflection; a test compares it with
// encoding/json, so that no field is forgotten. What is zero is left out, and what another field says already, see [State.spare]:
// [ParseState] reads the same state from it as from the whole.
func (s State) Encode() (string, error) {
	s = s.spare()
	var usual [1024]byte // on the stack
	b := append(usual[:0], `{"v":`...)
	b = strconv.AppendInt(b, stateVersion, 10)
	if s.Phase == "" {
		s.Phase = PhaseNone
	}
	b = messages.AppendText(append(b, `,"phase":`...), string(s.Phase))
	if s.Claim != nil {
		var err error
		if b, err = s.Claim.append(append(b, `,"claim":`...)); err != nil {
			return "", err
		}
	}
	b = s.appendSettled(b)
	if s.Order != nil { // only where something is left to capture
		order, err := json.Marshal(s.Order)
		if err != nil {
			return "", fmt.Errorf("encode order: %w", err)
		}
		b = append(append(b, `,"order":`...), order...)
	}
	b = appendFlag(b, `,"cancelled":true`, s.Cancelled)
	b = appendTime(b, `,"due_at":`, s.DueAt)
	b = appendWord(b, `,"cadence":`, string(s.Cadence))
	b = appendFlag(b, `,"off_cycle":true`, s.OffCycle)
	if s.Rev != 0 {
		b = strconv.AppendInt(append(b, `,"rev":`...), s.Rev, 10)
	}
	if s.ClaimedSeq != 0 {
		b = strconv.AppendUint(append(b, `,"claimed_seq":`...), s.ClaimedSeq, 10)
	}
	b = appendTime(b, `,"first_attempt_at":`, s.FirstAttemptAt)
	b = appendTime(b, `,"last_attempt_at":`, s.LastAttemptAt)
	b = s.appendDeadTokens(b)
	b = appendTime(b, `,"undecided_at":`, s.UndecidedAt)
	if n := s.NotEvaluated; n != (NotEvaluated{}) {
		b = strconv.AppendInt(append(b, `,"not_evaluated":{"n":`...), int64(n.N), 10)
		b = messages.AppendTime(append(b, `,"since":`...), n.Since)
		b = append(appendFlag(b, `,"heard":true`, n.Heard), '}')
	}
	b = strconv.AppendInt(append(b, `,"attempts":`...), s.Attempts, 10)
	if p := s.Policy; p != nil {
		b = appendSchedule(append(b, `,"policy":{"soft_decline":`...), p.SoftDecline)
		b = append(appendSchedule(append(b, `,"customer_action":`...), p.CustomerAction), '}')
	}
	b = s.appendPanics(b)
	b = appendTime(b, `,"vouched_at":`, s.VouchedAt)
	return string(append(b, '}')), nil
}

func (s State) appendSettled(b []byte) []byte {
	if len(s.Settled) == 0 {
		return b
	}
	before := `,"settled":{`
	var few [8]messages.IdempotencyKey
	keys := slices.AppendSeq(few[:0], maps.Keys(s.Settled))
	slices.Sort(keys)
	for _, k := range keys {
		b = messages.AppendText(append(b, before...), string(k))
		b = s.Settled[k].append(append(b, ':'))
		before = ","
	}
	return append(b, '}')
}

func (s State) appendDeadTokens(b []byte) []byte {
	if len(s.DeadTokens) == 0 {
		return b
	}
	before := `,"dead_tokens":[`
	for _, token := range s.DeadTokens {
		b = messages.AppendText(append(b, before...), token)
		before = ","
	}
	return append(b, ']')
}

func (s State) appendPanics(b []byte) []byte {
	if len(s.Panics) == 0 {
		return b
	}
	before := `,"panics":{`
	for _, k := range slices.Sorted(maps.Keys(s.Panics)) {
		b = messages.AppendText(append(b, before...), string(k))
		b = strconv.AppendInt(append(b, ':'), int64(s.Panics[k]), 10)
		before = ","
	}
	return append(b, '}')
}

func (c Claim) append(b []byte) ([]byte, error) {
	b = messages.AppendText(append(b, `{"key":`...), string(c.Key))
	b = appendWord(b, `,"sha256":`, c.SHA256)
	b = appendWord(b, `,"nonce":`, c.Nonce)
	b = appendWord(b, `,"worker":`, c.Worker)
	b = appendWord(b, `,"host":`, c.Host)
	b = appendWord(b, `,"endpoint":`, c.Endpoint)
	b = appendWord(b, `,"merchant":`, c.Merchant)
	b = appendTime(b, `,"lease_until":`, c.LeaseUntil)
	b = appendTime(b, `,"first_sent_at":`, c.FirstSentAt)
	b = appendFlag(b, `,"released":true`, c.Released)
	b = appendCount(b, `,"tries":`, c.Tries)
	b = appendCount(b, `,"deliveries":`, c.Deliveries)
	b = appendCount(b, `,"undecided_tries":`, c.UndecidedTries)
	b = appendFlag(b, `,"answered_2xx":true`, c.Answered2xx)
	b = appendCount(b, `,"panics":`, c.Panics)
	b = appendWord(b, `,"order_id":`, c.OrderID)
	b = appendFlag(b, `,"held":true`, c.Held)
	b = appendFlag(b, `,"unspaced":true`, c.Unspaced)
	if c.Capture != nil {
		capture, err := json.Marshal(c.Capture)
		if err != nil {
			return nil, fmt.Errorf("encode capture: %w", err)
		}
		b = append(append(b, `,"capture":`...), capture...)
	}
	b = appendFlag(b, `,"contradicted":true`, c.Contradicted)
	b = appendTime(b, `,"not_evaluated_since":`, c.NotEvaluatedSince)
	b = appendWord(b, `,"last_error":`, c.LastError)
	b = appendWord(b, `,"corrects":`, string(c.Corrects))
	b = appendFlag(b, `,"restored":true`, c.Restored)
	if c.Search != nil {
		b = c.Search.append(append(b, `,"search":`...))
	}
	return append(b, '}'), nil
}

func (s Search) append(b []byte) []byte {
	b = append(b, '{')
	start := len(b)
	b = appendTime(b, `,"taken_at":`, s.TakenAt)
	b = appendTime(b, `,"last_sent_at":`, s.LastSentAt)
	b = appendTime(b, `,"search_until":`, s.Until)
	before := `,"correlation_ids":[`
	for _, id := range s.CorrelationIDs {
		b = messages.AppendText(append(b, before...), id)
		before = ","
	}
	if len(s.CorrelationIDs) > 0 {
		b = append(b, ']')
	}
	if len(b) > start {
		b = slices.Delete(b, start, start+1) // the comma before the first
	}
	return append(b, '}')
}

func (e Settlement) append(b []byte) []byte {
	b = messages.AppendText(append(b, `{"kind":`...), string(e.Kind))
	b = messages.AppendText(append(b, `,"sha256":`...), e.SHA256)
	b = appendWord(b, `,"reason":`, string(e.Reason))
	if e.Replay != 0 {
		b = strconv.AppendUint(append(b, `,"replay":`...), e.Replay, 10)
	}
	return append(appendFlag(b, `,"by_hand":true`, e.ByHand), '}')
}

func appendSchedule(b []byte, s dunning.Schedule) []byte {
	b = append(b, `{"days":`...)
	if s.Days == nil {
		b = append(b, `null`...)
	} else {
		b = append(b, '[')
		for i, day := range s.Days {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(day), 10)
		}
		b = append(b, ']')
	}
	return append(strconv.AppendInt(append(b, `,"max_attempts":`...), int64(s.MaxAttempts), 10), '}')
}

func appendFlag(b []byte, text string, set bool) []byte {
	if !set {
		return b
	}
	return append(b, text...)
}

func appendCount(b []byte, name string, n int) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), int64(n), 10)
}

func appendWord(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return messages.AppendText(append(b, name...), value)
}

func appendTime(b []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return messages.AppendTime(append(b, name...), t)
}

const stateVersion = 1

// ParseState reads a Renewals-State header. An error means that the journal
// was written by a newer version or by somebody else, or says what cannot be: the caller must not act on the renewal.
func ParseState(header string) (State, error) {
	var s State
	if err := json.Unmarshal([]byte(header), &s); err != nil {
		return State{}, fmt.Errorf("read %s header: %w", messages.HeaderState, err)
	}
	if s.Version != stateVersion {
		return State{}, fmt.Errorf("read %s header: version %d, this program knows %d", messages.HeaderState, s.Version, stateVersion)
	}
	if err := s.check(); err != nil {
		return State{}, fmt.Errorf("read %s header: no state of a renewal: %w", messages.HeaderState, err)
	}
	return s.spelledOut(), nil
}

// spare is the state without what [State.spelledOut] derives again, and without what nobody asks of a charge that is paid: that was
// the charge that was claimed, no attempt follows it, and who held the claim, when, how often and at whom it was sent say the records of the
// claim and of the payment. Programs of earlier versions look at none of it in that phase.
func (s State) spare() State {
	if s.LastAttemptAt.Equal(s.FirstAttemptAt) {
		s.LastAttemptAt = time.Time{}
	}
	hash, ok := s.paidHash()
	if !ok || s.Claim.SHA256 != hash {
		return s
	}
	c := *s.Claim
	c.SHA256, c.Nonce, c.Worker, c.Host, c.Endpoint, c.Merchant = "", "", "", "", "", ""
	c.LeaseUntil, c.FirstSentAt, c.Released, c.Tries, c.Deliveries = time.Time{}, time.Time{}, false, 0, 0
	s.FirstAttemptAt, s.LastAttemptAt = time.Time{}, time.Time{}
	return s.Claimed(c)
}

// spelledOut undoes spare, but for what nobody asks.
func (s State) spelledOut() State {
	if s.LastAttemptAt.IsZero() {
		s.LastAttemptAt = s.FirstAttemptAt
	}
	if hash, ok := s.paidHash(); ok && s.Claim.SHA256 == "" {
		c := *s.Claim
		c.SHA256, c.Released = hash, true
		return s.Claimed(c)
	}
	return s
}

// paidHash is the hash of the charge that a renewal was paid with, where its claim is still the last one.
func (s State) paidHash() (string, bool) {
	if s.Phase != PhasePaid || s.Claim == nil {
		return "", false
	}
	e, ok := s.Settled[s.Claim.Key]
	return e.SHA256, ok && e.Kind == messages.KindPaid && !e.ByHand
}
