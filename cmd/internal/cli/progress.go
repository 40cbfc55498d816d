package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// IsTerminal reports whether somebody is looking at a stream, or typing into it.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Progress is a bar on a terminal and nothing elsewhere. It is safe for concurrent use.
type Progress struct {
	mu    sync.Mutex
	w     io.Writer
	label string
	total int64 // 0 where it is not known
	at    int64
	next  time.Time
	shown bool
	on    bool
}

func NewProgress(w io.Writer, label string, total int64) *Progress {
	return &Progress{w: w, label: label, total: total, on: IsTerminal(w)}
}

// Set moves the bar.
func (p *Progress) Set(at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(at)
}

// Show is Set of work that has several parts, each with its own label and total.
func (p *Progress) Show(label string, at, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.label, p.total = label, total
	p.set(at)
}

func (p *Progress) set(at int64) {
	p.at = at
	if now := time.Now(); p.on && now.After(p.next) {
		p.next = now.Add(100 * time.Millisecond)
		p.draw()
	}
}

func (p *Progress) draw() {
	const width = 40
	p.shown = true
	if p.total <= 0 {
		fmt.Fprintf(p.w, "\r\x1b[K%s %d", p.label, p.at)
		return
	}
	full := int(width * min(p.at, p.total) / p.total)
	fmt.Fprintf(p.w, "\r\x1b[K%s [%s%s] %3d%%", p.label, strings.Repeat("=", full), strings.Repeat(" ", width-full), 100*min(p.at, p.total)/p.total)
}

// Printf writes a line above the bar.
func (p *Progress) Printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.w, format, args...)
}

// Done takes the bar away.
func (p *Progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *Progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
