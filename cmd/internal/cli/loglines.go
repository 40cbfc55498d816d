package cli

import (
	"io"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// logLines gathers what is logged, so that a line for each result is not a write for each result: that would be a
// fifteenth of what a renewal costs. A warning or an error leaves at once, with everything before it. A process that is
// killed loses the lines of the last moment; what happened to anybody's money is in the journal.
type logLines struct {
	out io.Writer

	mu    sync.Mutex
	held  []byte
	timer *time.Timer // runs while something is held
}

const (
	logHeldFor = 20 * time.Millisecond
	logHeld    = 32 << 10 // bytes
)

var _ zerolog.LevelWriter = (*logLines)(nil)

// NewLogLines returns a writer that is safe for concurrent use, and what to call when nothing more will be logged.
func NewLogLines(out io.Writer) (_ *logLines, flush func()) {
	l := &logLines{out: out}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(logHeldFor, l.flush)
	return l, l.flush
}

func (l *logLines) Write(line []byte) (int, error) { return l.WriteLevel(zerolog.InfoLevel, line) }

func (l *logLines) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.held) == 0 {
		l.timer.Reset(logHeldFor)
	}
	l.held = append(l.held, line...)
	if len(l.held) >= logHeld || level >= zerolog.WarnLevel {
		l.write()
	}
	return len(line), nil
}

func (l *logLines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write()
}

// write gives out what is held. There is nobody to tell that the log cannot be written.
func (l *logLines) write() {
	l.timer.Stop()
	if len(l.held) > 0 {
		_, _ = l.out.Write(l.held)
		l.held = l.held[:0]
	}
}
