package messages

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// CustomerToken is Klarna's reusable credential of one customer: whoever has it can charge. It prints, formats and
// marshals as [redacted]; only [CustomerToken.Reveal] and [Job.Encode] give it away.
type CustomerToken struct {
	// A pointer, because package fmt prints the fields of a struct that holds a token in an unexported field without
	// asking the token's methods.
	secret *string
}

const (
	redacted   = "[redacted]"
	maxSegment = 255 // bytes of a token or an order ID
)

// NewCustomerToken wraps s without checking it. "" is the zero token.
func NewCustomerToken(s string) CustomerToken {
	if s == "" {
		return CustomerToken{}
	}
	return CustomerToken{secret: &s}
}

// Reveal returns the token itself, for the request path and nothing else.
func (t CustomerToken) Reveal() string {
	if t.secret == nil {
		return ""
	}
	return *t.secret
}

// IsZero reports whether there is no token.
func (t CustomerToken) IsZero() bool { return t.secret == nil }

// Fingerprint is the first 12 hex digits of the token's SHA-256, by which results name it; "" for no token.
func (t CustomerToken) Fingerprint() string {
	if t.secret == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(*t.secret))
	return hex.EncodeToString(sum[:6])
}

func (CustomerToken) String() string               { return redacted }
func (CustomerToken) GoString() string             { return redacted }
func (CustomerToken) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (CustomerToken) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (CustomerToken) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// pathSegment reports whether s can be one path segment of a URL as it stands.
func pathSegment(s string) bool {
	if s == "" || len(s) > maxSegment || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		if !unreserved(s[i]) {
			return false
		}
	}
	return true
}
