package messages

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Headers of a parked job, beside its own.
const (
	HeaderID        = "Renewals-Id"        // its message ID, as it was read
	HeaderPublished = "Renewals-Published" // when it was published, RFC 3339
)

// LaterSubject is where the parked jobs of an account come when they are due: renewals.later.<account>.
func LaterSubject(account Account) string { return "renewals.later." + string(account) }

// ParkedSubject is where a job waits that came before it was due:
//
//	renewals.parked.<esc(subscription)>.<esc(period)>.<sequence>-<12 hex of the payload's SHA-256>.<account>
//
// where esc also encodes the dot. A schedule replaces another one on its subject: sequence, of the job in the stream that it
// came from, and hash make a second job of the same renewal another subject, and a redelivery of the same one the same.
func ParkedSubject(r Renewal, sequence uint64, payload []byte, account Account) string {
	b := append(append(make([]byte, 0, 128), "renewals.parked."...), r...)
	b = append(strconv.AppendUint(append(b, '.'), sequence, 10), '-')
	sum := sha256.Sum256(payload)
	b = append(hex.AppendEncode(b, sum[:6]), '.')
	return string(append(b, account...))
}

// ParkedFilter matches what waits for an account, "*": for any.
func ParkedFilter(account Account) string { return "renewals.parked.*.*.*." + string(account) }

// ParkedRenewalFilter matches what waits of one renewal.
func ParkedRenewalFilter(r Renewal) string { return "renewals.parked." + string(r) + ".*.*" }

// ParkedSubscriptionFilter matches what waits of a subscription, whatever the period: renewals.parked.<esc(subscription)>.>.
func ParkedSubscriptionFilter(subscription SubscriptionID) string {
	return string(escape([]byte("renewals.parked."), string(subscription), subjectToken)) + ".>"
}

// ParseParkedSubject tells whose job waits on a subject of [ParkedSubject].
func ParseParkedSubject(subject string) (Account, error) {
	part := strings.Split(subject, ".")
	if len(part) != 6 || part[0] != "renewals" || part[1] != "parked" {
		return "", fmt.Errorf("subject %.80q: expected renewals.parked.<subscription>.<period>.<place>.<account>", subject)
	}
	return ParseAccount(part[5])
}

// Parked is what a job waits with, beside its payload as received.
type Parked struct {
	ID        MessageID // as it was read
	Account   Account
	Published time.Time
	DueAt     time.Time
	Original  map[string][]string // the job's own headers
}

// Header returns the headers of the schedule that puts the job on [LaterSubject] when it is due, rounded up to the second
// of which schedules are made. The job's own headers come along, but none that the server would obey, such as Nats-Msg-Id:
// a schedule with one that was seen before is confirmed and not stored.
func (p Parked) Header() nats.Header {
	due := p.DueAt.UTC().Truncate(time.Second)
	if due.Before(p.DueAt) {
		due = due.Add(time.Second)
	}
	h := own(p.Original)
	if parent, _ := TraceContext(h); parent != "" {
		h[headerTraceDest] = []string{notTraced}
	}
	h["Nats-Schedule"] = []string{"@at " + due.Format(time.RFC3339)}
	h["Nats-Schedule-Target"] = []string{LaterSubject(p.Account)}
	h[HeaderID] = []string{string(p.ID)}
	h[HeaderPublished] = []string{p.Published.UTC().Format(time.RFC3339Nano)}
	return h
}

// Unpark reads the headers of a parked job. It returns those under which the job is read as it was the first time, its ID
// among them, and when it was published: zero where they do not tell.
func Unpark(header map[string][]string) (job nats.Header, published time.Time) {
	job = own(header)
	if id := values(header, HeaderID); len(id) > 0 {
		job[HeaderMsgID] = id[:1]
	}
	if at := values(header, HeaderPublished); len(at) > 0 {
		published, _ = time.Parse(time.RFC3339, at[0])
	}
	return job, published
}

// own copies the headers that mean nothing to the server, nor that a job is parked.
func own(header map[string][]string) nats.Header {
	h := nats.Header{}
	for name, values := range header {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "nats-") && lower != strings.ToLower(HeaderID) && lower != strings.ToLower(HeaderPublished) && validHeaderName(name) {
			h[name] = values
		}
	}
	return h
}

// ParkedUntil is when a parked job comes out; false where its headers do not tell.
func ParkedUntil(header map[string][]string) (time.Time, bool) {
	for _, v := range values(header, "Nats-Schedule") {
		if at, ok := strings.CutPrefix(v, "@at "); ok {
			t, err := time.Parse(time.RFC3339, at)
			return t, err == nil
		}
	}
	return time.Time{}, false
}
