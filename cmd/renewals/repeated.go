package main

import (
	"fmt"
	"hash/maphash"
	"io"

	"github.com/klarna-renewals/renewals/messages"
)

// repeated tells of renewals that have the merchant references of another one: by them Klarna's portal and settlements are searched
// where an outcome stays unknown, and they do not tell which renewal it was.
type repeated struct {
	seed   maphash.Seed
	renews map[uint64]uint64 // by their references, as hashes: there may be a million
	count  int
}

// note takes in a job, and says whether its references are those of another renewal.
func (r *repeated) note(of messages.Renewal, reference1, reference2 string) bool {
	if reference1 == "" && reference2 == "" {
		return false
	}
	if r.renews == nil {
		r.seed, r.renews = maphash.MakeSeed(), map[uint64]uint64{}
	}
	key, renewal := maphash.String(r.seed, reference1+"\x00"+reference2), maphash.String(r.seed, string(of))
	first, known := r.renews[key]
	if !known {
		r.renews[key] = renewal
	}
	if !known || first == renewal {
		return false
	}
	r.count++
	return true
}

// report says how many there were.
func (r *repeated) report(w io.Writer) {
	if r.count > 0 {
		fmt.Fprintf(w, "warning: %d jobs have the merchant references of another renewal: where it stays unknown whether one was charged, Klarna's settlements cannot tell which; "+
			"give each period a reference of its own, or publish with --stamp\n", r.count)
	}
}
