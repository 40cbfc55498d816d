package gate

import (
	"context"
	"sync/atomic"
	"time"
)

// A Semaphore bounds the charges, or the captures, that an account may have in flight. A job
// holds a permit from before its claim until Klarna has answered. Reading it and recording the answer need none, so
// while charges are quick some more jobs are at hand than there are permits: none is
// then idle between two of them.
type Semaphore struct {
	taken  chan struct{}   // holds an entry for each
	freed  []chan struct{} // one entry when more jobs may be wanted; one for each puller that shares the semaphore
	atHand atomic.Int64    // jobs that have come and are not done
	quick  atomic.Int64    // when a quick charge ended last, Unix time in nanoseconds
}

// quickCharge is a charge beside which the time between two of them counts. Behind
// slower ones jobs that are at hand too early would only grow old, while another worker may be idle.
const quickCharge = time.Second

// NewSemaphore has n permits.
func NewSemaphore(n int) *Semaphore {
	return &Semaphore{taken: make(chan struct{}, n)}
}

// A Permit is the right to have one charge in flight. The zero value is none. It is not to be copied once it may be
// released.
type Permit struct{ of *Semaphore }

// Acquire waits for a permit, at most d.
func (s *Semaphore) Acquire(ctx context.Context, d time.Duration) (_ Permit, ok bool) {
	select {
	case s.taken <- struct{}{}:
		return Permit{s}, true
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case s.taken <- struct{}{}:
		return Permit{s}, true
	case <-ctx.Done():
	case <-timer.C:
	}
	return Permit{}, false
}

// Release gives the permit back, once however often it is called.
func (p *Permit) Release() {
	if s := p.of; s != nil {
		p.of = nil
		<-s.taken
		s.free()
	}
}

// InUse is how many permits are taken.
func (s *Semaphore) InUse() int { return len(s.taken) }

// Took is told how long a charge was.
func (s *Semaphore) Took(d time.Duration) {
	if d < quickCharge {
		s.quick.Store(time.Now().UnixNano())
	}
}

// tell is how a puller hears that more jobs may be wanted. Each has its own, lest one take the news from another.
func (s *Semaphore) tell() <-chan struct{} {
	c := make(chan struct{}, 1)
	s.freed = append(s.freed, c)
	return c
}

// free tells every puller that more jobs may be wanted.
func (s *Semaphore) free() {
	for _, c := range s.freed {
		signal(c)
	}
}

// wanted is how many jobs should come to those that are at hand: as many as there are
// permits, and while charges are quick some more. Then a few are not
// worth a request, since as many wait here.
func (s *Semaphore) wanted(atHand int) int {
	ahead := 0
	if time.Since(time.Unix(0, s.quick.Load())) < quickCharge {
		ahead = s.spare()
	}
	if wanted := cap(s.taken) + ahead - atHand; wanted > ahead/2 {
		return wanted
	}
	return 0
}

// spare is the most jobs that may be at hand beside those in flight.
func (s *Semaphore) spare() int { return cap(s.taken) / 4 }

// most is how many jobs may be at hand at once.
func (s *Semaphore) most() int { return cap(s.taken) + s.spare() }
