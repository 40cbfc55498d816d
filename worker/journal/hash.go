package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"

	"github.com/klarna-renewals/renewals/messages"
)

// HashPayload is that of a whole message, by which one is known again that could not be read.
func HashPayload(account messages.Account, payload []byte) string {
	return Hash(payload, string(account))
}

// HashCharge is what a charge's key stands for.
func HashCharge(account messages.Account, j messages.Job) string {
	return Hash(j.Order, string(account), j.CustomerToken.Reveal())
}

// HashCapture is what a capture's key stands for.
func HashCapture(account messages.Account, c messages.Capture) string {
	return Hash(c.OrderLines, string(account), c.OrderID, strconv.FormatInt(c.CapturedAmount, 10), c.Description, c.Reference)
}

// Hash is what a key stands for: the parts, each behind its length, so that no
// two lists of parts give the same bytes. The last is the large one.
func Hash(last []byte, first ...string) string {
	h := sha256.New()
	var small [512]byte
	b := small[:0]
	for _, p := range first {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(p))), p...)
	}
	h.Write(binary.BigEndian.AppendUint64(b, uint64(len(last))))
	h.Write(last)
	return hex.EncodeToString(h.Sum(small[:0]))
}
