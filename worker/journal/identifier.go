package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/klarna-renewals/renewals/messages"
)

const (
	// maxIdentifier is how long an id of Klarna's may be to stand in the state
	// as it is, in bytes: the longest that Klarna documents. The state travels in
	// a header, of which the broker takes 64 KiB in all, and an order that cannot be recorded is lost.
	maxIdentifier = 255
	// maxSpelled is how long an id may be to stand in a record's body as it is.
	maxSpelled = 256 << 10
	hashed     = "sha256:"
)

// StateID is what stands in the state for an id of Klarna's: itself, or its
// hash. The machine compares ids in this form only.
func StateID(id string) string {
	if len(id) <= maxIdentifier && utf8.ValidString(id) && !strings.HasPrefix(id, hashed) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hashed + hex.EncodeToString(sum[:])
}

// Spelled is what stands in a record's body for an id of the state: the id as
// Klarna told it, where that is at hand and fits.
func Spelled(id, told string) string {
	if told != "" && len(told) <= maxSpelled && StateID(told) == id {
		return told
	}
	return id
}

// SpelledOrder is the id of a renewal's order as Klarna knows it. Where the state
// has its hash only, the record of the order has the whole; where that is gone the hash is all there is, which Klarna does
// not know.
func (j *Journal) SpelledOrder(ctx context.Context, r messages.Renewal, id string) string {
	if !strings.HasPrefix(id, hashed) {
		return id
	}
	for _, kind := range []messages.Kind{messages.KindPaid, messages.KindPending} {
		var of struct {
			OrderID string `json:"order_id"`
		}
		e, err := j.LastOf(ctx, kind, r)
		if err == nil && json.Unmarshal(e.Body, &of) == nil && StateID(of.OrderID) == id {
			return of.OrderID
		}
	}
	return id
}
