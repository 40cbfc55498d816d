package worker

import (
	"hash/maphash"
	"sync"
)

// rememberedIDs is how many orders and captures of an account a worker remembers, some 200 kB: an answer that went astray
// shows up within minutes.
const rememberedIDs = 4096

// owners remember for whom Klarna last said that it made something. Behind a proxy that answers late the answer to one
// request may be taken for that to the next; whose it is, nobody can tell from the outside.
type owners struct {
	mu   sync.Mutex
	seed maphash.Seed
	of   map[uint64]uint64 // hash of the id → that of its owner
	ids  []uint64          // a ring, oldest at next
	next int
}

// claim notes the owner of what was made, and says whether it had another before.
func (o *owners) claim(id, owner string) (shared bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil {
		o.seed, o.of = maphash.MakeSeed(), map[uint64]uint64{}
	}
	what, whose := maphash.String(o.seed, id), maphash.String(o.seed, owner)
	if first, known := o.of[what]; known {
		return first != whose
	}
	if len(o.ids) < rememberedIDs {
		o.ids = append(o.ids, what)
	} else {
		delete(o.of, o.ids[o.next])
		o.ids[o.next] = what
		o.next = (o.next + 1) % rememberedIDs
	}
	o.of[what] = whose
	return false
}
