package worker

import (
	"sync"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// Jobs that wait for another key's claim are woken by the worker that ends it: it naks their deliveries once more, now
// without a delay, and JetStream hands a message that waits out a delayed nak out again at once. Nothing rests on that. A wake that is lost costs
// the rest of a delay, at most [journal.MaxWait]; one that comes when its job is out again already costs one more delivery, which meets
// that one's claim or result.

// maxWoken is how many waiting jobs a worker remembers, at some 300 bytes each. Further ones go by their delay.
const maxWoken = 10_000

// forgetEvery is how often those are forgotten whose delay is over.
const forgetEvery = 10 * time.Second

// nak is what asks for another delivery of a message.
// https://docs.nats.io/reference/reference-protocols/nats_api_reference#acknowledging-messages
var nak = []byte("-NAK")

// waker remembers the jobs that wait for the end of another key's claim and wakes them when it comes. All accounts of a worker share one: two
// accounts may have jobs of one renewal.
type waker struct {
	publish func(subject string, data []byte) error

	mu        sync.Mutex
	waiting   map[messages.Renewal][]asleep // by what they wait for
	n         int                           // of them
	forgotten time.Time                     // when those last were whose delay was over
}

// asleep is a delivery that was naked with a delay.
type asleep struct {
	reply string
	until time.Time // by this machine's clock: the delay is JetStream's
}

func newWaker(publish func(subject string, data []byte) error) *waker {
	return &waker{publish: publish, waiting: map[messages.Renewal][]asleep{}}
}

// remember keeps the reply subject of a delivery that was just naked with a delay since it waits for a renewal's claim. It
// says whether it did: not while too many wait.
func (w *waker) remember(r messages.Renewal, reply string, delay time.Duration) bool {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget(now)
	if w.n >= maxWoken {
		return false
	}
	w.waiting[r] = append(w.waiting[r], asleep{reply: reply, until: now.Add(delay)})
	w.n++
	return true
}

// ended wakes the jobs that wait for a renewal, unless a claim of it is open.
func (w *waker) ended(r messages.Renewal, s journal.State) {
	if s.Open() {
		return
	}
	now := time.Now()
	w.mu.Lock()
	w.forget(now)
	woken := w.waiting[r]
	delete(w.waiting, r)
	w.n -= len(woken)
	w.mu.Unlock()
	for _, a := range woken {
		if now.Before(a.until) {
			_ = w.publish(a.reply, nak) // lost: it comes when its delay is over
		}
	}
}

// forget drops the jobs whose delay is over: they are out again. The lock is held.
func (w *waker) forget(now time.Time) {
	if w.n == 0 || now.Sub(w.forgotten) < forgetEvery {
		return
	}
	w.forgotten = now
	for r, all := range w.waiting {
		left := all[:0]
		for _, a := range all {
			if now.Before(a.until) {
				left = append(left, a)
			}
		}
		w.n -= len(all) - len(left)
		if w.waiting[r] = left; len(left) == 0 {
			delete(w.waiting, r)
		}
	}
}
