package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

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
