package messages

import (
	"fmt"
	"slices"
	"strings"
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

// DueSubject is where the jobs of an account are published: renewals.due.<account>.
func DueSubject(account Account) string { return "renewals.due." + string(account) }

// CaptureSubject is where the capture jobs of an account are published: renewals.capture.<account>.
func CaptureSubject(account Account) string { return "renewals.capture." + string(account) }

// RecordSubject is where a record is published: renewals.<kind>.<renewal key>.<account>.
func RecordSubject(kind Kind, renewal RenewalKey, account Account) string {
	return "renewals." + string(kind) + "." + string(renewal) + "." + string(account)
}

// RenewalFilter matches every record of a renewal: renewals.*.<renewal key>.*. Every compare-and-set on a renewal names
// exactly this string as its Nats-Expected-Last-Subject-Sequence-Subject: in a cluster two different filters do not
// exclude each other.
func RenewalFilter(renewal RenewalKey) string { return "renewals.*." + string(renewal) + ".*" }

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
	return parseJobSubject(subject, "renewals.capture.")
}

func parseJobSubject(subject, prefix string) (Account, error) {
	name, ok := strings.CutPrefix(subject, prefix)
	if !ok {
		return "", fmt.Errorf("subject %.80q: expected %s<account>", subject, prefix)
	}
	return ParseAccount(name)
}

// ParseRecordSubject is the inverse of [RecordSubject].
func ParseRecordSubject(subject string) (Kind, RenewalKey, Account, error) {
	kind, key, account, ok := splitSubject(subject)
	if !ok || !slices.Contains(Kinds(), Kind(kind)) {
		return "", "", "", fmt.Errorf("subject %.80q: expected renewals.<kind>.<renewal key>.<account>", subject)
	}
	return Kind(kind), RenewalKey(key), account, nil
}

// ParseDeadSubject is the inverse of [DeadSubject].
func ParseDeadSubject(subject string) (IdempotencyKey, Account, error) {
	kind, key, account, ok := splitSubject(subject)
	if !ok || kind != "dead" {
		return "", "", fmt.Errorf("subject %.80q: expected renewals.dead.<idempotency key>.<account>", subject)
	}
	return IdempotencyKey(key), account, nil
}

func splitSubject(subject string) (kind, key string, account Account, ok bool) {
	part := strings.Split(subject, ".")
	if len(part) != 4 || part[0] != "renewals" || !isKey(part[2]) {
		return "", "", "", false
	}
	account, err := ParseAccount(part[3])
	return part[1], part[2], account, err == nil
}
