package test

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// A wire is the network between one worker and the broker, to be cut.
type wire struct {
	addr   string
	target string

	mu     sync.Mutex
	cond   *sync.Cond
	down   bool // connections are broken and refused
	silent bool // connections stay, nothing passes in either direction
	garble bool // the broker does not understand every other read
	reads  int
	conns  map[net.Conn]bool
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{addr: l.Addr().String(), target: target, conns: map[net.Conn]bool{}}
	w.cond = sync.NewCond(&w.mu)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			if !w.keep(client, server) {
				continue
			}
			running.Go(func() { w.pipe(client, server, false) })
			running.Go(func() { w.pipe(server, client, true) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.set(true, false)
		running.Wait()
	})
	return w
}

func (w *wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		if w.down {
			c.Close()
		} else {
			w.conns[c] = true
		}
	}
	return !w.down
}

// set changes what the network does.
func (w *wire) set(down, silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down, w.silent = down, silent
	if down {
		for c := range w.conns {
			c.Close()
		}
		clear(w.conns)
	}
	w.cond.Broadcast()
}

// garbleReads makes every other read of a last record fail, or no longer.
func (w *wire) garbleReads(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.garble = on
}

var lastRead, garbledRead = []byte(`{"last_by_subj":`), []byte(`{"last_by_what":`)

// spoil changes the requests in a chunk that are to fail; none gets longer or shorter.
func (w *wire) spoil(chunk []byte) {
	for rest := chunk; w.garble; {
		i := bytes.Index(rest, lastRead)
		if i < 0 {
			return
		}
		if w.reads++; w.reads%2 == 0 {
			copy(rest[i:], garbledRead)
		}
		rest = rest[i+len(lastRead):]
	}
}

func (w *wire) pipe(to, from net.Conn, upstream bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		for w.silent && !w.down {
			w.cond.Wait()
		}
		if upstream {
			w.spoil(buf[:n])
		}
		w.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
