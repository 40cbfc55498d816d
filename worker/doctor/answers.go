package doctor

import (
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A streamAnswer is a stream as its leader tells of it.
type streamAnswer struct {
	info *jetstream.StreamInfo
	err  error
	clockAnswer
}

// A clockAnswer is how this machine's clock compares with another one's.
type clockAnswer struct {
	whose string
	ahead time.Duration // of this machine's
	give  time.Duration // by how much that may be wrong: half of what the question took
	seen  bool
}

// surely is how far the clocks are apart at least.
func (c clockAnswer) surely() time.Duration { return max(c.ahead.Abs()-c.give, 0) }

// A server of NATS as it tells of itself, on its monitoring port or to the system account.
type server struct {
	id, name, version string
	always            bool // syncs every write
	interval          time.Duration
	stored, room      uint64 // bytes; room 0: without limit
}

// seenServers are those that told of themselves.
type seenServers struct {
	list []server
	errs []string // what became of the others that were asked
}

func (s seenServers) names() (names []string) {
	for _, one := range s.list {
		names = append(names, one.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
