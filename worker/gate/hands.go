package gate

import (
	"sync"
	"sync/atomic"
)

// Hands are goroutines that do one piece of work after the other. A new one for each piece would grow its stack anew, by copying it
// several times: that was a tenth of the worker's processor time. The zero value is ready.
type Hands struct {
	once sync.Once
	next chan func()
	idle atomic.Int64
}

// spareHands is how many wait for work at most: as many as come free in the moment before jobs come.
const spareHands = 64

func (h *Hands) open() { h.once.Do(func() { h.next = make(chan func()) }) }

// Do does the work in a goroutine that is free, or else in a new one. It never waits.
func (h *Hands) Do(work func()) {
	h.open()
	select {
	case h.next <- work:
	default:
		go h.run(work)
	}
}

func (h *Hands) run(work func()) {
	for open := true; open; {
		work()
		if h.idle.Add(1) > spareHands {
			h.idle.Add(-1)
			return
		}
		work, open = <-h.next
		h.idle.Add(-1)
	}
}

// Close lets those go that are free. Nothing may be given to do any more.
func (h *Hands) Close() {
	h.open()
	close(h.next)
}
