package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// standby says what is waited for once that takes longer than one expects: on a terminal in a line that counts the seconds and goes away,
// elsewhere in one that stays. It is safe for concurrent use.
type standby struct {
	page *cli.Page

	mu    sync.Mutex
	what  string // "": nothing is waited for
	since time.Time
	timer *time.Timer
	shown bool
}

const standbyAfter = time.Second

func newStandby(p *cli.Page) *standby { return &standby{page: p} }

// begin waits for something, from now on.
func (s *standby) begin(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.what, s.since = what, time.Now()
	if what == "" {
		return
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(standbyAfter, s.show)
	} else {
		s.timer.Reset(standbyAfter)
	}
}

// end waits for nothing any more.
func (s *standby) end() { s.begin("") }

func (s *standby) show() {
	s.mu.Lock()
	defer s.mu.Unlock()
	waited := time.Since(s.since)
	if s.what == "" || waited < standbyAfter {
		return // for something else by now
	}
	if s.page.Width == 0 {
		fmt.Fprintln(s.page, s.what)
		return
	}
	s.clear()
	line := fmt.Sprintf("%3.0fs  %s", waited.Seconds(), s.what)
	_, _ = io.WriteString(s.page.Writer, s.page.Paint(cli.Dim, cli.Cut(line, s.page.Width-1)))
	s.shown = true
	s.timer.Reset(time.Second)
}

func (s *standby) clear() {
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.shown {
		_, _ = io.WriteString(s.page.Writer, "\r\x1b[K")
		s.shown = false
	}
}
