package cli

import (
	"io"
	"sync"
)

// Output is standard output that remembers the first error of a write: a command of which a word is lost, on a full disk for instance, has
// not done what it was asked to, however it ends.
type Output struct {
	w   io.Writer
	mu  sync.Mutex
	err error
}

var _ io.Writer = (*Output)(nil)

// NewOutput leaves a terminal as it is, which is asked for its width, and is never full.
func NewOutput(w io.Writer) io.Writer {
	if IsTerminal(w) {
		return w
	}
	return &Output{w: w}
}

func (o *Output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err == nil {
			o.err = err
		}
	}
	return n, err
}

// unwritten is the first error of a write to a program's output; nil where all is written.
func unwritten(w io.Writer) error {
	o, ok := w.(*Output)
	if !ok {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
