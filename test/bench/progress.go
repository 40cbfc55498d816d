//go:build linux

package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// progress tells whoever waits how far it is: on a terminal on one line that changes, elsewhere one line for each run.
type progress struct {
	out      *os.File
	terminal bool
	began    time.Time
	what     atomic.Pointer[string]
	world    atomic.Pointer[world] // whose results are counted

	mu             sync.Mutex
	ready, of      int
	measuring      time.Time // since when
	stop, finished chan struct{}
}

func newProgress(out *os.File) *progress {
	p := &progress{out: out, began: time.Now(), stop: make(chan struct{}), finished: make(chan struct{})}
	info, err := out.Stat()
	p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	go p.run()
	return p
}

func (p *progress) run() {
	defer close(p.finished)
	every := 250 * time.Millisecond
	if !p.terminal {
		every = 30 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.show()
		}
	}
}

// show tells of the run that is going on.
func (p *progress) show() {
	line := p.head()
	if what := p.what.Load(); what != nil {
		line += *what
	}
	if w := p.world.Load(); w != nil {
		line += fmt.Sprintf(", %s of %s", grouped(w.results.count()), grouped(w.setup.Jobs))
	}
	p.line(line)
}

func (p *progress) line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprintf(p.out, "\r\033[K%.120s", text)
	} else {
		fmt.Fprintln(p.out, text)
	}
}

// head is how far it is and how long it will still take.
func (p *progress) head() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	head := fmt.Sprintf("%3.0f s  ", time.Since(p.began).Seconds())
	if p.of > 0 {
		head += fmt.Sprintf("%d/%d  ", p.ready, p.of)
	}
	if p.ready > 2 && p.ready < p.of {
		head += fmt.Sprintf("%.0f s left  ", (time.Since(p.measuring) / time.Duration(p.ready) * time.Duration(p.of-p.ready)).Seconds())
	}
	return head
}

// say names what is being done.
func (p *progress) say(what string) {
	p.world.Store(nil)
	p.what.Store(&what)
	if p.terminal || p.of == 0 {
		p.show()
	}
}

// follow names a run and returns what is to be told of its world.
func (p *progress) follow(what string) func(*world) {
	p.say(what)
	return func(w *world) { p.world.Store(w) }
}

func (p *progress) expect(runs int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of, p.measuring = runs, time.Now()
}

// again counts runs that are to be repeated.
func (p *progress) again(runs int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of += runs
}

// done counts a run.
func (p *progress) done(what string) {
	p.mu.Lock()
	p.ready++
	p.mu.Unlock()
	if !p.terminal {
		p.line(p.head() + what)
	}
}

func (p *progress) close() {
	close(p.stop)
	<-p.finished
	if p.terminal {
		p.line("")
	}
}
