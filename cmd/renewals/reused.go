package main

import (
	"fmt"
	"hash/maphash"

	"github.com/klarna-renewals/renewals/messages"
)

// reused tells of message IDs that come again in a file for other bytes: the stream takes the first and drops the others, whatever
// they are for. The same bytes again are the same job.
type reused struct {
	seed maphash.Seed
	seen map[uint64]firstUse // by the ID, as a hash: there may be a million
}

// firstUse is where an ID came first, and the hash of what for.
type firstUse struct {
	text uint64
	line int
}

// note takes in a job, and returns what is wrong where its ID is another job's already.
func (r *reused) note(id messages.MessageID, line int, text []byte) []messages.Problem {
	if r.seen == nil {
		r.seed, r.seen = maphash.MakeSeed(), map[uint64]firstUse{}
	}
	key, job := maphash.String(r.seed, string(id)), maphash.Bytes(r.seed, text)
	first, known := r.seen[key]
	if !known {
		r.seen[key] = firstUse{job, line}
		return nil
	}
	if first.text == job {
		return nil
	}
	return []messages.Problem{{Path: "id", Message: fmt.Sprintf("found the ID of line %d, whose bytes are others, expected one of its own: the stream drops what comes again under an ID", first.line)}}
}
