package journal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// Batching says when records are committed in batches.
type Batching string

const (
	// BatchAuto is the default: in a journal with replicas, and with one node where the stream is placed on servers with the tag
	// sync:always. No client can see the server's setting itself.
	BatchAuto Batching = "auto"
	// BatchSynced is somebody's word that the server's sync_interval is always: also with one node.
	BatchSynced Batching = "sync-always"
	BatchOff    Batching = "off" // every record by itself
)

// Batchings are all of them.
func Batchings() []Batching { return []Batching{BatchAuto, BatchSynced, BatchOff} }

// Batches gather records of different renewals that are ready at one moment and commit them in one atomic batch of JetStream
// (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md), which costs a few fsyncs, not one a record.
//
// The promise does not rest on them. In a batch each record has its own expectation, as by itself, and whatever becomes of the batch but
// its confirmation, each of its records is then written by itself with the same expectation and the same id: what was stored after all,
// or is stored late, is found to be one's own by [Journal.Apply]. A batch that arrives after that is refused for the sake of any of them.
// What has to hold is that a batch has at most one record of a renewal: the server compares a second one with what was there before the
// batch, and stores both.
//
// Nobody waits for company: while few writes are under way a record goes at once. Else it waits until one of them, or the batch
// that is under way, has come to its end, and goes with all that wait by then. A worker has one batch under way; a stream takes 50.
type Batches struct {
	batching Batching
	counted  func(together bool, records int) // is told of what was confirmed
	now      func() time.Time

	mu      sync.Mutex
	least   int // records of a batch, 0: none is made
	waiting []*waiting
	alone   int       // writes under way by themselves
	open    bool      // a batch is under way
	resting time.Time // until then none is made
}

const (
	// fewAlone writes on their way keep any broker busy: whoever finds as many waits to be gathered.
	fewAlone = 16
	// mostTogether is well below the 1,000 that a server takes.
	mostTogether = 256
	// batchRest is after a batch of which nobody knows what became, or that the server does not take: the next one may cost as long.
	batchRest = time.Minute
)

// NewBatches makes none before it has learned how the journal is kept.
func NewBatches(b Batching, counted func(together bool, records int)) *Batches {
	return &Batches{batching: b, counted: counted, now: time.Now}
}

// Learn takes in how the journal is kept, at any time.
func (b *Batches) Learn(journal jetstream.StreamConfig) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.least = leastTogether(b.batching, journal)
	b.next()
}

// leastTogether is how many records are worth a batch. With one node and without fsync on every write none are: a batch is staged in a
// file that is synced whatever sync_interval says, 3 to 6 ms for what takes 0.03 by itself. With fsync on every write a batch is
// cheaper from about 16 on, with replicas, whose batches are staged in memory, from 2.
func leastTogether(b Batching, journal jetstream.StreamConfig) int {
	synced := b == BatchSynced || journal.Placement != nil && slices.Contains(journal.Placement.Tags, "sync:always")
	switch {
	case b == BatchOff || !journal.AllowAtomicPublish:
		return 0
	case journal.Replicas > 1:
		return 2
	case synced:
		return 16
	}
	return 0
}

// A waiting record is told one thing.
type waiting struct {
	renewal messages.Renewal
	record  *nats.Msg
	told    chan told
	gone    bool // nobody waits any more
}

// told is what to do: to commit a batch, oneself the first of it; else nothing, where the record is stored; else to write it by itself.
type told struct {
	commit []*waiting
	stored uint64 // the record's sequence
}

// store writes a record by itself, or with others, as commit does. After an error it may be stored or not.
func (b *Batches) store(ctx context.Context, r messages.Renewal, m *nats.Msg, byItself func() (uint64, error), commit func([]*waiting) (last uint64, err error)) (uint64, error) {
	if b == nil {
		return byItself()
	}
	t, err := b.enter(ctx, r, m)
	if err != nil {
		return 0, err
	}
	if t.commit != nil {
		t = b.lead(t.commit, commit)
	}
	if t.stored > 0 {
		return t.stored, nil
	}
	defer b.leave()
	sequence, err := byItself()
	if err == nil {
		b.counted(false, 1)
	}
	return sequence, err
}

// enter waits for what is to be done with a record.
func (b *Batches) enter(ctx context.Context, r messages.Renewal, m *nats.Msg) (told, error) {
	b.mu.Lock()
	if b.worthwhile() == 0 || !b.open && len(b.waiting) == 0 && b.alone < fewAlone {
		b.alone++
		b.mu.Unlock()
		return told{}, nil
	}
	w := &waiting{renewal: r, record: batched(m), told: make(chan told, 1)}
	b.waiting = append(b.waiting, w)
	b.next()
	b.mu.Unlock()

	select {
	case t := <-w.told:
		return t, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case t := <-w.told: // others count on it
		return t, nil
	default:
	}
	w.gone = true
	b.waiting = slices.DeleteFunc(b.waiting, func(o *waiting) bool { return o == w })
	return told{}, ctx.Err()
}

// leave says that a write by itself has come to its end.
func (b *Batches) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alone--
	b.next()
}

// worthwhile is for a caller that holds the lock, as next is.
func (b *Batches) worthwhile() int {
	if b.now().Before(b.resting) {
		return 0
	}
	return b.least
}

// next lets go of those who need not wait.
func (b *Batches) next() {
	if b.open {
		return
	}
	least := b.worthwhile()
	if batch, rest := together(b.waiting, func(w *waiting) messages.Renewal { return w.renewal }); least > 0 && len(batch) >= least {
		b.waiting, b.open = rest, true
		batch[0].told <- told{commit: batch}
		return
	}
	for len(b.waiting) > 0 && (least == 0 || b.alone < fewAlone) {
		b.alone++
		b.waiting[0].told <- told{}
		b.waiting = b.waiting[1:]
	}
}

// together takes of all that wait the first of each renewal. The rest are for the next batch.
func together[W any](all []W, of func(W) messages.Renewal) (batch, rest []W) {
	in := make(map[messages.Renewal]bool, len(all))
	for _, w := range all {
		if r := of(w); !in[r] && len(batch) < mostTogether {
			in[r] = true
			batch = append(batch, w)
		} else {
			rest = append(rest, w)
		}
	}
	return batch, rest
}

// lead commits a batch and tells the others what became of it. Its first member is the caller.
func (b *Batches) lead(batch []*waiting, commit func([]*waiting) (uint64, error)) told {
	last, err := uint64(0), errPanicked
	func() {
		defer func() {
			batch[0].gone = errors.Is(err, errPanicked)
			b.settle(batch, last, err)
		}()
		last, err = commit(batch)
	}()
	return <-batch[0].told
}

// settle tells the members of a batch what became of it: the sequences of one batch follow each other.
func (b *Batches) settle(batch []*waiting, last uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = false
	if err == nil {
		b.counted(true, len(batch))
	} else if !overtaken(err) {
		b.resting = b.now().Add(batchRest)
	}
	for i, w := range batch {
		switch {
		case w.gone:
		case err == nil:
			w.told <- told{stored: last - uint64(len(batch)-1-i)}
		default:
			b.alone++
			w.told <- told{}
		}
	}
	b.next()
}

// overtaken says that the broker has judged the expectations, and one did not hold, or not yet.
func overtaken(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
