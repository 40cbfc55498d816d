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
// then idle between two of them. Nor is one while a claim is written: a few jobs are claimed ahead, for permits that are
// about to come free, and wait for these with their claims, see [Permit.Send].
type Semaphore struct {
	bound  int             // permits that there may ever be
	rate   func() float64  // what the permits have to suffice for, see pace; nil: their number is fixed
	news   []chan struct{} // one entry when more jobs may be wanted; one for each puller that shares the semaphore
	atHand atomic.Int64    // jobs that have come and are not done
	quick  atomic.Int64    // when a quick charge ended last, Unix time in nanoseconds

	mu      sync.Mutex
	pace    pace
	permits int
	taken   int       // more than permits where jobs are claimed ahead, and for a while after these have become fewer
	sent    int       // of those taken, what is with Klarna
	freed   time.Time // when one of those was last given back
	waiting line      // for a permit
	claimed line      // for one of those before them to be answered by Klarna
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

// A line is of those who wait for something, and get it in the order in which they came. The semaphore's mutex guards it.
type line struct{ turns list.List } // of chan struct{}, closed when the turn comes

// wait waits in the line until the turn comes, at most d. mu is held; while it waits and afterwards it is not.
func (l *line) wait(ctx context.Context, mu *sync.Mutex, d time.Duration) (came bool) {
	turn := make(chan struct{})
	place := l.turns.PushBack(turn)
	mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	mu.Lock()
	defer mu.Unlock()
	select {
	case <-turn: // it came at the last moment, and is nobody else's
		return true
	default:
	}
	l.turns.Remove(place)
	return false
}

// next gives the first of the line its turn.
func (l *line) next() (somebody bool) {
	first := l.turns.Front()
	if first != nil {
		close(l.turns.Remove(first).(chan struct{}))
	}
	return first != nil
}

// A Permit is the right to have one charge in flight. The zero value is none. It is not to be copied once it may be
// released.
type Permit struct {
	of    *Semaphore
	began time.Time
	sent  bool
}

// Acquire waits for a permit, at most d.
func (s *Semaphore) Acquire(ctx context.Context, d time.Duration) (_ Permit, ok bool) {
	s.mu.Lock()
	if s.taken < s.permits+s.ahead() { // nobody waits then
		s.taken++
		s.mu.Unlock()
		return Permit{of: s}, true
	}
	if !s.waiting.wait(ctx, &s.mu, d) {
		return Permit{}, false
	}
	return Permit{of: s}, true
}

// admit lets those who have waited longest go on: with what Klarna may be asked now, and then with permits. s.mu is held.
func (s *Semaphore) admit() {
	for s.sent < s.permits && s.claimed.next() {
		s.sent++
	}
	for s.taken < s.permits+s.ahead() && s.waiting.next() {
		s.taken++
	}
}

// ahead is how many jobs may be claimed now beside as many as there are permits: those for which one comes free within
// claimAhead, by Little's law, and an eighth at most. Where Klarna has fallen silent none does. s.mu is held.
func (s *Semaphore) ahead() int {
	if s.pace.held == 0 || time.Since(s.freed) > claimAhead*4 {
		return 0
	}
	return int(min(time.Duration(s.permits)*claimAhead/s.pace.held, time.Duration(s.permits/8)))
}

// claimAhead is several times what it takes to write a claim and to look beside it: answers come in bursts, and what these set free
// then waits for processor and disk.
const claimAhead = 40 * time.Millisecond

// Begin says that the account's rate was waited for: what holds the permit from now on is its claim and Klarna.
func (p *Permit) Begin() {
	if p.of != nil {
		p.began = time.Now()
	}
}

// Send waits, at most d, until fewer charges are with Klarna than there are permits. It is called once, after the claim
// and before the first byte goes to Klarna; where it says no, nothing may be sent.
func (p *Permit) Send(ctx context.Context, d time.Duration) (ok bool) {
	s := p.of
	if s == nil {
		return false
	}
	s.mu.Lock()
	if s.sent < s.permits {
		s.sent++
		s.mu.Unlock()
		p.sent = true
		return true
	}
	began := time.Now()
	p.sent = s.claimed.wait(ctx, &s.mu, d)
	if !p.began.IsZero() { // more permits are not needed because of it
		p.began = p.began.Add(time.Since(began))
	}
	return p.sent
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
	if p.sent {
		s.sent--
		s.freed = time.Now()
	}
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
	s.pace = s.pace.took(held)
	if s.rate != nil {
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
	s.news = append(s.news, c)
	return c
}

// free tells every puller that more jobs may be wanted.
func (s *Semaphore) free() {
	for _, c := range s.news {
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
