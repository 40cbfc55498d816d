package cli

import (
	"io"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// logLines takes what is logged, and writes it beside whoever logs: a pipe that nobody reads blocks the writes, and neither a charge nor
// a record nor an acknowledgement may wait for it. What does not fit into memory meanwhile is dropped, and the log says how much.
//
// A line for each result is not a write for each result either: that would be a fifteenth of what a renewal costs. A warning or an error
// leaves at once, with everything before it. A process that is killed loses the lines of the last moment; what happened to anybody's
// money is in the journal.
type logLines struct {
	out     io.Writer
	gap     func(lines int) []byte // the line that says how many are missing before it
	dropped func(lines int)        // is told of all that nobody took

	due  chan struct{} // something is to be written
	done chan struct{} // closed when nothing more will be

	mu     sync.Mutex
	held   logBatch
	timer  *time.Timer // runs while something is held
	closed bool
}

// A logBatch is what is written at a time.
type logBatch struct {
	text    []byte
	lines   int
	missing int // lines that were dropped
}

const (
	logHeldFor = 20 * time.Millisecond
	logHeld    = 32 << 10 // bytes, from which on nothing is waited for
	logMost    = 1 << 20  // bytes that are held, and as many again that are being written
	logLeave   = 2 * time.Second
)

var _ zerolog.LevelWriter = (*logLines)(nil)

// NewLogLines returns a writer that is safe for concurrent use and waits for nothing, and what to call when nothing more will be logged:
// whether out has taken everything by then, within 2 s.
func NewLogLines(out io.Writer, gap func(lines int) []byte, dropped func(lines int)) (_ *logLines, flush func() (written bool)) {
	l := &logLines{out: out, gap: gap, dropped: dropped, due: make(chan struct{}, 1), done: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(logHeldFor, l.wake)
	go l.run()
	return l, l.flush
}

func (l *logLines) Write(line []byte) (int, error) { return l.WriteLevel(zerolog.InfoLevel, line) }

func (l *logLines) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.held.missing > 0 || len(l.held.text)+len(line) > logMost {
		l.held.missing++ // as is all that comes behind it, so that the gap is in one place
		l.dropped(1)
		l.wake()
		return len(line), nil
	}
	if len(l.held.text) == 0 {
		l.timer.Reset(logHeldFor)
	}
	l.held.text = append(l.held.text, line...)
	l.held.lines++
	if len(l.held.text) >= logHeld || level >= zerolog.WarnLevel {
		l.wake()
	}
	return len(line), nil
}

// wake lets what is held be written now, or once the write under way is done.
func (l *logLines) wake() {
	select {
	case l.due <- struct{}{}:
	default:
	}
}

func (l *logLines) run() {
	defer close(l.done)
	var batch logBatch
	unwritten := 0
	for last := false; !last; {
		<-l.due
		batch, last = l.take(batch.text[:0])
		if batch.missing += unwritten; batch.missing > 0 {
			batch.text = append(batch.text, l.gap(batch.missing)...)
		}
		if len(batch.text) == 0 {
			continue
		}
		unwritten = 0
		if _, err := l.out.Write(batch.text); err != nil { // of which there is nobody to tell until a write succeeds
			unwritten = batch.missing + batch.lines
			l.dropped(batch.lines)
		}
	}
}

// take returns what is held and keeps room for what comes.
func (l *logLines) take(room []byte) (batch logBatch, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer.Stop()
	batch, l.held = l.held, logBatch{text: room}
	return batch, l.closed
}

// flush writes what is held, for as long as a process that is told to stop may take for that.
func (l *logLines) flush() (written bool) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wake()
	patience := time.NewTimer(logLeave)
	defer patience.Stop()
	select {
	case <-l.done:
		return true
	case <-patience.C:
		return false
	}
}
