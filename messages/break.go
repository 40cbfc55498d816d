package messages

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// StreamNews holds what other teams may want to know beside results: what a comparison with Klarna's settlements found, and that
// a customer token was cancelled. Nothing
// that was promised rests on it.
const StreamNews = "RENEWAL_NEWS"

// TokenNewsFilter matches what is known of customer tokens, see [TokenNews]: renewals.token.<esc(subscription)>.<account>.
const TokenNewsFilter = "renewals.token.*.*"

// BreakKind says how the settlements and the journal differ.
type BreakKind string

// The kinds. Closed and append-only: they are part of subjects.
const (
	BreakSecondOrder  BreakKind = "second_order"  // two orders, one renewal: a double charge
	BreakOrderShared  BreakKind = "order_shared"  // one order, two renewals: on record, or by its references
	BreakUnknownOrder BreakKind = "unknown_order" // ours by its reference, in no record
	BreakAmount       BreakKind = "amount"        // other money than is recorded
	BreakCurrency     BreakKind = "currency"      // another currency than is recorded
	BreakMissing      BreakKind = "missing"       // captured, and never settled
	BreakNotCaptured  BreakKind = "not_captured"  // charged, and the money never taken
	BreakReturned     BreakKind = "returned"      // given back, and nobody who charges was told
	BreakReversed     BreakKind = "reversed"      // taken back after a dispute
	BreakClosePeriods BreakKind = "close_periods" // two periods, one month: a period under two names
	BreakResolves     BreakKind = "resolves"      // evidence for what is unresolved
	BreakForgotten    BreakKind = "forgotten"     // of a period of ours that the journal does not know
)

// BreakKinds returns every kind.
func BreakKinds() []BreakKind {
	return []BreakKind{
		BreakSecondOrder, BreakOrderShared, BreakUnknownOrder, BreakAmount, BreakCurrency, BreakMissing,
		BreakNotCaptured, BreakReturned, BreakReversed, BreakClosePeriods, BreakResolves, BreakForgotten,
	}
}

// BreakStatus says whether somebody still has to look.
type BreakStatus string

const (
	BreakOpen   BreakStatus = "open"
	BreakClosed BreakStatus = "closed"
)

// BreakID names what a break is about: the same whenever it is found again, in whichever report.
type BreakID string

// NewBreakID is UUIDv5(NameSpaceURL, "urn:renewals:break:" + kind + "/" + account + "/" + esc(part) + …), parts joined by slashes. A part
// may be empty.
func NewBreakID(kind BreakKind, account Account, about ...string) BreakID {
	name := append(append(make([]byte, 0, 256), uuid.NameSpaceURL[:]...), "urn:renewals:break:"...)
	name = append(append(append(name, kind...), '/'), account...)
	for _, part := range about {
		name = escape(append(name, '/'), part, unreserved)
	}
	return BreakID(version5(name))
}

// Break is one difference between Klarna's settlements and the journal: the body of a message on
// renewals.break.<kind>.<id>.<account>, whose last one counts. Amounts are in minor units. What is empty is not known, or not
// part of it.
type Break struct {
	ID             BreakID        `json:"id"`
	Kind           BreakKind      `json:"kind"`
	Status         BreakStatus    `json:"status"`
	Account        Account        `json:"account"`
	At             time.Time      `json:"at"` // when this was found, or closed
	SubscriptionID SubscriptionID `json:"subscription_id,omitempty"`
	Period         Period         `json:"period,omitempty"`
	RenewalKey     RenewalKey     `json:"renewal_key,omitempty"`
	MessageID      MessageID      `json:"message_id,omitempty"` // of the renewal's last attempt
	// ConflictsWith is the other renewal, where there are two.
	ConflictsWith RenewalKey `json:"conflicts_with,omitempty"`
	OrderID       string     `json:"order_id,omitempty"`
	OtherOrderID  string     `json:"other_order_id,omitempty"` // the one on record, where there are two
	CaptureID     string     `json:"capture_id,omitempty"`
	RefundID      string     `json:"refund_id,omitempty"`
	// Amount and Currency are what was settled, those expected what the journal has.
	Amount           int64  `json:"amount,omitempty"`
	ExpectedAmount   int64  `json:"expected_amount,omitempty"`
	Currency         string `json:"currency,omitempty"`
	ExpectedCurrency string `json:"expected_currency,omitempty"`
	// PaymentReference and Line are where it stands: the payout, and the line of the file or of the payout's rows.
	PaymentReference string `json:"payment_reference,omitempty"`
	Line             int    `json:"line,omitempty"`
	// SettledAt is when Klarna registered the row.
	SettledAt time.Time `json:"settled_at,omitzero"`
	Detail    string    `json:"detail"` // a sentence for people
	// Actor and Note say who closed it, and why.
	Actor string `json:"actor,omitempty"`
	Note  string `json:"note,omitempty"`
}

// BreakSubject is where a break is published: renewals.break.<kind>.<id>.<account>.
func BreakSubject(kind BreakKind, id BreakID, account Account) string {
	return "renewals.break." + string(kind) + "." + string(id) + "." + string(account)
}

// ParseBreakSubject is the inverse of [BreakSubject].
func ParseBreakSubject(subject string) (BreakKind, BreakID, Account, error) {
	part := strings.Split(subject, ".")
	if len(part) != 5 || part[0] != "renewals" || part[1] != "break" || !isKey(part[3]) {
		return "", "", "", fmt.Errorf("subject %.80q: expected renewals.break.<kind>.<id>.<account>", subject)
	}
	account, err := ParseAccount(part[4])
	return BreakKind(part[2]), BreakID(part[3]), account, err
}

// Message is what publishes the break, with the headers of CloudEvents that results have.
func (b Break) Message() (*nats.Msg, error) {
	b.At, b.SettledAt, b.Detail, b.Actor, b.Note = instant(b.At), instant(b.SettledAt), cut(b.Detail, maxSentence), cut(b.Actor, maxWord), cut(b.Note, maxSentence)
	var body bytes.Buffer
	if err := encode(&body, b); err != nil {
		return nil, fmt.Errorf("encode break %s: %w", b.ID, err)
	}
	m := nats.NewMsg(BreakSubject(b.Kind, b.ID, b.Account))
	m.Data = bytes.TrimSuffix(body.Bytes(), []byte("\n"))
	m.Header = Envelope{
		ID: string(b.ID) + "/" + string(b.Status) + "/" + strconv.FormatInt(b.At.Unix(), 10), Kind: "break", Account: b.Account,
		SubscriptionID: b.SubscriptionID, Period: b.Period, Time: b.At,
	}.Header()
	m.Header["ce-dataschema"] = []string{percentEncode(SchemaID("break"))}
	return m, nil
}
