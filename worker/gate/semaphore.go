package gate

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Semaphore bounds the charges, or the captures, that an account may have in flight. A job
// holds a permit from before its claim until Klarna has answered. Reading it and recording the answer need none, so
// while charges are quick some more jobs are at hand than there are permits: none is
// then idle between two of them.
type Semaphore struct {
	bound  int             // permits that there may ever be
	rate   func() float64  // what the permits have to suffice for, see pace; nil: their number is fixed
	freed  []chan struct{} // one entry when more jobs may be wanted; one for each puller that shares the semaphore
	atHand atomic.Int64    // jobs that have come and are not done
	quick  atomic.Int64    // when a quick charge ended last, Unix time in nanoseconds

	mu      sync.Mutex
	pace    pace
	permits int
	taken   int       // more than permits for a while after these have become fewer
	waiting list.List // of chan struct{}, which are closed in this order
}

// quickCharge is a charge beside which the time between two of them counts. Behind
// slower ones jobs that are at hand too early would only grow old, while another worker may be idle.
const quickCharge = time.Second

// NewSemaphore has n permits.
func NewSemaphore(n int) *Semaphore {
	return &Semaphore{bound: n, permits: n}
}

// NewRatedSemaphore has as many permits as the rate of l needs while charges take as long as they do,
// see [Semaphore.Permits].
func NewRatedSemaphore(l *Limiter) *Semaphore {
	s := &Semaphore{bound: MostPermits, rate: l.Rate}
	s.permits = s.pace.permits(s.rate())
	return s
}

// A Permit is the right to have one charge in flight. The zero value is none. It is not to be copied once it may be
// released.
type Permit struct {
	of    *Semaphore
	began time.Time
}

// Acquire waits for a permit, at most d.
func (s *Semaphore) Acquire(ctx context.Context, d time.Duration) (_ Permit, ok bool) {
	s.mu.Lock()
	if s.taken < s.permits { // nobody waits then
		s.taken++
		s.mu.Unlock()
		return Permit{of: s}, true
	}
	turn := make(chan struct{})
	place := s.waiting.PushBack(turn)
	s.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-turn:
		return Permit{of: s}, true
	case <-ctx.Done():
	case <-timer.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-turn: // it came at the last moment, and is nobody else's
		return Permit{of: s}, true
	default:
	}
	s.waiting.Remove(place)
	return Permit{}, false
}

// admit gives the permits that are free to those who have waited longest. s.mu is held.
func (s *Semaphore) admit() {
	for first := s.waiting.Front(); first != nil && s.taken < s.permits; first = s.waiting.Front() {
		s.taken++
		close(s.waiting.Remove(first).(chan struct{}))
	}
}

// Begin says that the account's rate was waited for: what holds the permit from now on is its claim and Klarna.
func (p *Permit) Begin() {
	if p.of != nil {
		p.began = time.Now()
	}
}

// Release gives the permit back, once however often it is called.
func (p *Permit) Release() {
	s := p.of
	if s == nil {
		return
	}
	p.of = nil
	s.mu.Lock()
	s.taken--
	if !p.began.IsZero() {
		s.took(time.Since(p.began))
	}
	s.admit()
	s.mu.Unlock()
	s.free()
}

// took takes in how long a permit was held since its turn came. s.mu is held.
func (s *Semaphore) took(held time.Duration) {
	if held < quickCharge {
		s.quick.Store(time.Now().UnixNano())
	}
	if s.rate != nil {
		s.pace = s.pace.took(held)
		s.permits = s.pace.permits(s.rate())
	}
}

// InUse is how many permits are taken.
func (s *Semaphore) InUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// Permits is how many there are now. Where they follow a rate their number rises as soon as charges take longer and falls
// slowly, and what is taken when there are too many is only not given again.
func (s *Semaphore) Permits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.permits
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
// permits, and some more while charges are quick, or where their number follows a rate: then
// another worker is bound by its own share of it, and what is read or recorded here must not cost a turn. With more, a few are not
// worth a request, since as many wait here.
func (s *Semaphore) wanted(atHand int) int {
	permits, ahead := s.Permits(), 0
	if s.rate != nil && s.rate() > 0 || time.Since(time.Unix(0, s.quick.Load())) < quickCharge {
		ahead = spare(permits)
	}
	if wanted := permits + ahead - atHand; wanted > ahead/2 {
		return wanted
	}
	return 0
}

// spare is the most jobs that may be at hand beside those in flight.
func spare(permits int) int { return permits / 4 }
