package worker

import (
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// strayShared is the reason under which an order or a capture is counted that came back for a second renewal.
const strayShared = "order_shared"

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

// mine is the answer of a try, unless the order or the capture in it is another renewal's: then it is not known what
// became of this one, and Klarna is asked again under the same key. What is repeated for its own renewal is a replay.
func (a *account) mine(j *job, h journal.HeldClaim, made klarna.CreatedOrder, err error) (klarna.CreatedOrder, error) {
	if err != nil || made.OrderID == "" {
		return made, err
	}
	owner := string(j.renewalKey)
	if h.Claim.Capture != nil { // a renewal may have many
		owner = string(h.Claim.Key)
	}
	id := journal.StateID(made.OrderID)
	if !a.owners.claim(id, owner) {
		return made, nil
	}
	a.metrics.stray.WithLabelValues(string(a.Name), strayShared).Inc()
	a.log.Error().Str("reason", strayShared).Str("order_id", id).Str("idempotency_key", string(h.Claim.Key)).Str("renewal_key", string(j.renewalKey)).
		Str("correlation_id", made.CorrelationID).Msg("Klarna named an order or a capture for a second renewal: it is no result, and Klarna is asked again; a person must look whose it is")
	a.Klarna.CloseIdle() // another answer may wait on a connection
	return klarna.CreatedOrder{RateLimit: made.RateLimit}, &klarna.UnknownError{
		StatusCode: 200, CorrelationID: made.CorrelationID, Err: fmt.Errorf("order or capture %s is another renewal's", id),
	}
}
