package messages

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The six identifiers travel together and must not change places, so each has a type.
type (
	// MessageID names a job. Unique in a deployment, whatever the account: 1 to 255 bytes of UTF-8 without control,
	// invisible or unassigned characters, no space at either end.
	MessageID string
	// SubscriptionID is the billing system's name of a subscription, unique in a deployment: 1 to 64 bytes, otherwise as
	// a MessageID.
	SubscriptionID string
	// Period is the billing system's name of what a renewal pays for, such as 2026-12. Opaque here: 1 to 64 bytes,
	// otherwise as a MessageID.
	Period string
	// Account names one Klarna merchant account: its credentials and endpoint. See [ParseAccount].
	Account string
	// RenewalKey names one period of one subscription, whatever the attempt: a UUID in its canonical lower-case form.
	RenewalKey string
	// IdempotencyKey names one job inside its renewal and is sent as Klarna-Idempotency-Key: a UUID in its canonical
	// lower-case form.
	IdempotencyKey string
)

const (
	maxMessageID = 255
	maxOpaque    = 64 // bytes of a subscription ID or a period
)

// ParseAccount checks the name of an account: [a-z0-9][a-z0-9-]{0,31}. The error says what is allowed.
func ParseAccount(s string) (Account, error) {
	ok := len(s) >= 1 && len(s) <= 32 && s[0] != '-'
	for i := 0; ok && i < len(s); i++ {
		ok = s[i] >= 'a' && s[i] <= 'z' || s[i] >= '0' && s[i] <= '9' || s[i] == '-'
	}
	if !ok {
		return "", fmt.Errorf("account %.40q: expected 1 to 32 of a-z, 0-9 and -, the first not -", s)
	}
	return Account(s), nil
}

// ParseMessageID checks a message ID that did not come with a job, such as one typed by an operator.
func ParseMessageID(s string) (MessageID, error) {
	if fault := identifierFault(s, maxMessageID); fault != "" {
		return "", fmt.Errorf("message ID: %s", fault)
	}
	return MessageID(s), nil
}

// ParseSubscriptionID is the same for a subscription ID.
func ParseSubscriptionID(s string) (SubscriptionID, error) {
	if fault := identifierFault(s, maxOpaque); fault != "" {
		return "", fmt.Errorf("subscription ID: %s", fault)
	}
	return SubscriptionID(s), nil
}

// identifierFault says what is wrong with an identifier of at most limit bytes, or "". A space at an end, and a character
// that nobody sees anywhere, would be lost on whoever compares two identifiers, and make two renewals of one.
func identifierFault(s string, limit int) string {
	switch {
	case s == "":
		return fmt.Sprintf("found an empty string, expected 1 to %d bytes", limit)
	case len(s) > limit:
		return fmt.Sprintf("found %d bytes, expected 1 to %d", len(s), limit)
	case !utf8.ValidString(s):
		return "found a string that is not valid UTF-8"
	}
	for i, r := range s {
		switch {
		case r > ' ' && r < 0x7f:
			continue
		case unicode.IsControl(r):
			return fmt.Sprintf("found the control character %U, expected none", r)
		case unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			return fmt.Sprintf("found the invisible character %U, expected none", r)
		case unicode.Is(unicode.Cn, r):
			return fmt.Sprintf("found %U, which is no assigned character, expected none", r)
		}
		if (i == 0 || i+utf8.RuneLen(r) == len(s)) && unicode.IsSpace(r) {
			return "found a space at the beginning or end, expected none"
		}
	}
	return ""
}

// NewRenewalKey is UUIDv5(NameSpaceURL, "urn:renewals:renewal:" + esc(subscription) + "/" + esc(period)), where esc
// percent-encodes every byte outside A–Z a–z 0–9 - . _ ~ with upper-case hex digits. Unicode is not normalised. Anyone
// can compute it:
//
//	uuidgen --sha1 --namespace @url --name urn:renewals:renewal:1234834/2026-12
//
// It never changes: another key for the same period is a double charge.
func NewRenewalKey(subscription SubscriptionID, period Period) RenewalKey {
	name := append(make([]byte, 0, 512), uuid.NameSpaceURL[:]...)
	name = append(name, "urn:renewals:renewal:"...)
	name = escape(name, string(subscription), unreserved)
	name = append(name, '/')
	name = escape(name, string(period), unreserved)
	return RenewalKey(version5(name))
}

// NewIdempotencyKey is UUIDv5(renewal, id). It is made inside the renewal so that an ID reused by mistake for another
// renewal can never make Klarna repeat the answer to a stranger's order. It never changes: another key for the same job
// is a double charge. It panics when renewal is not a UUID, since any value in place of a key would be charged under.
func NewIdempotencyKey(renewal RenewalKey, id MessageID) IdempotencyKey {
	space := uuid.MustParse(string(renewal))
	return IdempotencyKey(version5(append(append(make([]byte, 0, 512), space[:]...), id...)))
}

// NewCaptureKey is UUIDv5(renewal, "capture:" + id), the key of a capture job. Anyone can compute it:
//
//	uuidgen --sha1 --namespace 4a87da77-4bba-50c6-8cae-6972612639ac --name capture:1234834/2026-12/c1
//
// It never changes: another key for the same job takes the money twice. It panics as [NewIdempotencyKey] does.
func NewCaptureKey(renewal RenewalKey, id MessageID) IdempotencyKey {
	return NewIdempotencyKey(renewal, "capture:"+id)
}

// StandIn is what a message without a valid identity is filed under, and one that conflicts with an earlier use of its
// ID: UUIDv5(NameSpaceURL, "urn:renewals:stream:" + stream + "/" + sequence + "/" + hex SHA-256 of the payload) in place
// of both keys. A stream that is made anew counts from 1 again: the payload tells its messages from the former ones.
func StandIn(stream string, sequence uint64, payload []byte) (RenewalKey, IdempotencyKey) {
	name := append(uuid.NameSpaceURL[:], "urn:renewals:stream:"...)
	name = append(append(name, stream...), '/')
	name = append(strconv.AppendUint(name, sequence, 10), '/')
	sum := sha256.Sum256(payload)
	id := version5(hex.AppendEncode(name, sum[:]))
	return RenewalKey(id), IdempotencyKey(id)
}

// version5 is uuid.NewSHA1 without its allocations; the name follows the 16 bytes of its namespace.
func version5(name []byte) string {
	sum := sha1.Sum(name)
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// isKey reports whether s is a UUID in its canonical lower-case form.
func isKey(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}

// escape appends s to b, percent-encoding every byte that keep refuses.
func escape(b []byte, s string, keep func(byte) bool) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; keep(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// unescape undoes escape, whatever was escaped; ok is false where a percent sign stands for nothing.
func unescape(s string) (text string, ok bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, true
	}
	text, err := url.PathUnescape(s)
	return text, err == nil
}

// unreserved is RFC 3986's set of that name, section 2.3.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// subjectToken reports whether a byte may stand in a token of a subject as it is.
func subjectToken(c byte) bool { return c != '.' && unreserved(c) }
