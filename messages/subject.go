package messages

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind says what a record of the journal announces.
type Kind string

// The kinds. Closed and append-only: they are part of subjects and of ce-type.
const (
	KindCharging   Kind = "charging"   // claimed: a worker may be asking Klarna
	KindPending    Kind = "pending"    // an order exists, its fraud status is not final
	KindPaid       Kind = "paid"       // an order exists and was accepted
	KindDunning    Kind = "dunning"    // refused
	KindUnresolved Kind = "unresolved" // not known, and given up: an operator decides
	KindRejected   Kind = "rejected"   // the job is not charged; the renewal stays as it was
	KindCancelled  Kind = "cancelled"  // no charge for this period

	KindCapturing     Kind = "capturing"      // a capture is claimed: a worker may be asking Klarna
	KindCaptured      Kind = "captured"       // money was taken for the order
	KindCaptureFailed Kind = "capture_failed" // a capture was refused; the order stays as it was
)

// Kinds returns every kind.
func Kinds() []Kind {
	return []Kind{
		KindCharging, KindPending, KindPaid, KindDunning, KindUnresolved, KindRejected, KindCancelled,
		KindCapturing, KindCaptured, KindCaptureFailed,
	}
}

// Claims says that records of this kind announce nothing: they are written before Klarna is asked.
func (k Kind) Claims() bool { return k == KindCharging || k == KindCapturing }

// DueSubject is where the jobs of an account are published: renewals.due.<account>.
func DueSubject(account Account) string { return "renewals.due." + string(account) }

// CaptureSubject is where the capture jobs of an account are published: renewals.capture.<account>.
func CaptureSubject(account Account) string { return capturePrefix + string(account) }

// A Renewal is a renewal as subjects name it: <esc(subscription)>.<esc(period)>, two tokens in which a person reads what it is, see
// [NewRenewal]. A stand-in's is %.<UUID>.
type Renewal string

// standIn is the subscription of a stand-in: esc never makes it of one.
const standIn = "%."

// NewRenewal names one period of one subscription: esc percent-encodes every byte outside A–Z a–z 0–9 - _ ~ with upper-case hex
// digits, the dot among them, so that two renewals never share a subject, and none has a token, a wildcard or a space too many. In keys,
// see [NewRenewalKey], the dot stays as it is.
func NewRenewal(subscription SubscriptionID, period Period) Renewal {
	b := append(escape(make([]byte, 0, 64), string(subscription), subjectToken), '.')
	return Renewal(escape(b, string(period), subjectToken))
}

// StandInRenewal names what a message without a renewal of its own is filed under, see [StandIn].
func StandInRenewal(key RenewalKey) Renewal { return Renewal(standIn + string(key)) }

// Key is the renewal's key, or the stand-in's.
func (r Renewal) Key() RenewalKey {
	if key, ok := strings.CutPrefix(string(r), standIn); ok {
		return RenewalKey(key)
	}
	subscription, period := r.Split()
	return NewRenewalKey(subscription, period)
}

// StandsIn says that it is no renewal, but the place of a message that has none.
func (r Renewal) StandsIn() bool { return strings.HasPrefix(string(r), standIn) }

// Split returns what the renewal was made of; nothing of a stand-in.
func (r Renewal) Split() (SubscriptionID, Period) {
	subscription, period, _ := strings.Cut(string(r), ".")
	s, known := unescape(subscription)
	p, also := unescape(period)
	if !known || !also {
		return "", ""
	}
	return SubscriptionID(s), Period(p)
}

// A RecordAddress is what the subject of a record says.
type RecordAddress struct {
	Kind    Kind
	Renewal Renewal
	// Due is when the period fell due, in seconds since 1970 UTC; 0 where the record has no such moment.
	Due     int64
	Account Account
}

// Subject is where the record is published: renewals.<kind>.<esc(subscription)>.<esc(period)>.<due>.<account>.
func (a RecordAddress) Subject() string {
	b := append(append(make([]byte, 0, 128), "renewals."...), a.Kind...)
	b = append(append(append(b, '.'), a.Renewal...), '.')
	b = append(strconv.AppendInt(b, a.Due, 10), '.')
	return string(append(b, a.Account...))
}

// DueToken is a moment as [RecordAddress] has it, without its fraction of a second; 0 for the zero time.
func DueToken(due time.Time) int64 {
	if due.IsZero() {
		return 0
	}
	return due.Unix()
}

// RecordFilter matches the records of a kind and an account, "*" for any: renewals.<kind>.*.*.*.<account>.
func RecordFilter(kind Kind, account Account) string {
	return "renewals." + string(kind) + ".*.*.*." + string(account)
}

// RenewalFilter matches every record of a renewal: renewals.*.<esc(subscription)>.<esc(period)>.*.*. Every compare-and-set on a
// renewal names exactly this string as its Nats-Expected-Last-Subject-Sequence-Subject: in a cluster two different filters do not
// exclude each other.
func RenewalFilter(r Renewal) string { return "renewals.*." + string(r) + ".*.*" }

// KindFilter matches the records of one kind of a renewal.
func KindFilter(kind Kind, r Renewal) string {
	return "renewals." + string(kind) + "." + string(r) + ".*.*"
}

// SubscriptionFilter matches every record of a subscription, whatever the period: renewals.*.<esc(subscription)>.>.
func SubscriptionFilter(subscription SubscriptionID) string {
	return string(escape([]byte("renewals.*."), string(subscription), subjectToken)) + ".>"
}

// SubscriptionRecordFilter is [RecordFilter] for one subscription: renewals.<kind>.<esc(subscription)>.*.*.<account>.
func SubscriptionRecordFilter(kind Kind, subscription SubscriptionID, account Account) string {
	b := append(append(append(make([]byte, 0, 128), "renewals."...), kind...), '.')
	return string(append(escape(b, string(subscription), subjectToken), ".*.*."+account...))
}

// FirstEdition says that a subject of a stream is one of records in the contract's first edition, renewals.<kind>.<renewal key>.<account>,
// which nothing reads any more.
func FirstEdition(subject string) bool {
	part := strings.Split(subject, ".")
	return len(part) == 4 && part[0] == "renewals" && slices.Contains(Kinds(), Kind(part[1]))
}

// DeadSubject is where a dead letter is published: renewals.dead.<idempotency key>.<account>.
func DeadSubject(key IdempotencyKey, account Account) string {
	return "renewals.dead." + string(key) + "." + string(account)
}

// ParseDueSubject is the inverse of [DueSubject].
func ParseDueSubject(subject string) (Account, error) {
	return parseJobSubject(subject, "renewals.due.")
}

// ParseCaptureSubject is the inverse of [CaptureSubject].
func ParseCaptureSubject(subject string) (Account, error) {
	return parseJobSubject(subject, capturePrefix)
}

// IsCapture says that a job of this subject is a capture; every other is a charge.
func IsCapture(subject string) bool {
	name, ok := strings.CutPrefix(subject, capturePrefix)
	if !ok {
		return false
	}
	_, err := ParseAccount(name)
	return err == nil
}

const capturePrefix = "renewals.capture."

func parseJobSubject(subject, prefix string) (Account, error) {
	name, ok := strings.CutPrefix(subject, prefix)
	if !ok {
		return "", fmt.Errorf("subject %.80q: expected %s<account>", subject, prefix)
	}
	return ParseAccount(name)
}

// ParseRecordSubject is the inverse of [RecordAddress.Subject].
func ParseRecordSubject(subject string) (RecordAddress, error) {
	part := strings.Split(subject, ".")
	if len(part) == 6 && part[0] == "renewals" && slices.Contains(Kinds(), Kind(part[1])) {
		a := RecordAddress{Kind: Kind(part[1]), Renewal: Renewal(part[2] + "." + part[3])}
		due, err := strconv.ParseInt(part[4], 10, 64)
		a.Due = due
		if err == nil && strconv.FormatInt(due, 10) == part[4] && a.Renewal.valid() {
			if a.Account, err = ParseAccount(part[5]); err == nil {
				return a, nil
			}
		}
	}
	return RecordAddress{}, fmt.Errorf("subject %.200q: expected renewals.<kind>.<subscription>.<period>.<due>.<account>", subject)
}

// valid says that it is one that [NewRenewal] or [StandInRenewal] makes.
func (r Renewal) valid() bool {
	if key, ok := strings.CutPrefix(string(r), standIn); ok {
		return isKey(key)
	}
	subscription, period := r.Split()
	return subscription != "" && period != "" && NewRenewal(subscription, period) == r
}

// ParseDeadSubject is the inverse of [DeadSubject].
func ParseDeadSubject(subject string) (IdempotencyKey, Account, error) {
	part := strings.Split(subject, ".")
	if len(part) == 4 && part[0] == "renewals" && part[1] == "dead" && isKey(part[2]) {
		if account, err := ParseAccount(part[3]); err == nil {
			return IdempotencyKey(part[2]), account, nil
		}
	}
	return "", "", fmt.Errorf("subject %.80q: expected renewals.dead.<idempotency key>.<account>", subject)
}
