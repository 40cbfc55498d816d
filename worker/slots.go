package worker

import (
	"context"
	"sync/atomic"
	"time"
)

// slots are the charges, or the captures, that an account may have in flight. A job
// holds one from before its claim until Klarna has answered. Reading it and recording the answer need none, so
// while charges are quick some more jobs are at hand than there are slots: a slot is
// then not idle between two of them.
type slots struct {
	taken chan struct{}   // holds an entry for each
	told  []chan struct{} // one entry when more jobs may be wanted; one for each puller that shares the slots
	busy  atomic.Int64    // jobs that have come and are not done
	quick atomic.Int64    // when a quick charge ended last, Unix time in nanoseconds
}

// quickCharge is a charge beside which the time between two of them counts. Behind
// slower ones jobs that are at hand too early would only grow old, while another worker may be idle.
const quickCharge = time.Second

func newSlots(n int) *slots {
	return &slots{taken: make(chan struct{}, n)}
}

// tell is how a puller hears that more jobs may be wanted. Each has its own, lest one take the news from another.
func (s *slots) tell() <-chan struct{} {
	c := make(chan struct{}, 1)
	s.told = append(s.told, c)
	return c
}

// free tells every puller that more jobs may be wanted.
func (s *slots) free() {
	for _, c := range s.told {
		signal(c)
	}
}

// enter waits for a slot, at most d, and says whether the job has it.
func (s *slots) enter(ctx context.Context, j *job, d time.Duration) bool {
	select {
	case s.taken <- struct{}{}:
		j.slot = true
		return true
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case s.taken <- struct{}{}:
		j.slot = true
	case <-ctx.Done():
	case <-timer.C:
	}
	return j.slot
}

// leave gives back the job's slot where it has one.
func (s *slots) leave(j *job) {
	if j.slot {
		j.slot = false
		<-s.taken
		s.free()
	}
}

// took is told how long a charge was.
func (s *slots) took(d time.Duration) {
	if d < quickCharge {
		s.quick.Store(time.Now().UnixNano())
	}
}

// wanted is how many jobs should come to those that are at hand: as many as the
// slots can take, and while charges are quick some more. Then a few are not
// worth a request, since as many wait here.
func (s *slots) wanted(atHand int) int {
	ahead := 0
	if time.Since(time.Unix(0, s.quick.Load())) < quickCharge {
		ahead = spare(cap(s.taken))
	}
	if wanted := cap(s.taken) + ahead - atHand; wanted > ahead/2 {
		return wanted
	}
	return 0
}

// spare is the most jobs that may be at hand beside so many in flight.
func spare(slots int) int { return slots / 4 }
