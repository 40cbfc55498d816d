package test

import (
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
			running.Go(func() { w.pipe(client, server) })
			running.Go(func() { w.pipe(server, client) })
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

func (w *wire) pipe(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		for w.silent && !w.down {
			w.cond.Wait()
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
