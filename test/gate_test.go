package test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// A gate is a TCP proxy in front of the broker that closes at a chosen
// message: the way to stop a real worker process between two of its steps without a hook in it.
type gate struct {
	addr   string
	closed chan struct{} // closed once the chosen message came by

	mu      sync.Mutex
	pattern []byte
	forward bool
	shut    bool
	conns   []net.Conn
}

// newGate forwards to the broker at target until a client sends pattern. With
// forward the message that holds it still passes and its answer does not come back; without it stays here.
// From then on nothing passes in either direction.
func newGate(t *testing.T, target, pattern string, forward bool) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{addr: l.Addr().String(), closed: make(chan struct{}), pattern: []byte(pattern), forward: forward}
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
			g.mu.Lock()
			g.conns = append(g.conns, client, server)
			g.mu.Unlock()
			running.Go(func() { g.pipe(server, client, true) })
			running.Go(func() { g.pipe(client, server, false) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.mu.Lock()
		for _, c := range g.conns {
			c.Close()
		}
		g.mu.Unlock()
		running.Wait()
	})
	return g
}

// reopen breaks what was held and lets new connections through, for good.
func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.pattern = false, nil
	for _, c := range g.conns {
		c.Close()
	}
	g.conns = nil
}

// pipe copies until the gate is shut; what arrives later is swallowed.
func (g *gate) pipe(to, from net.Conn, upstream bool) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	var tail []byte // the end of what was seen, in case the pattern is split
	for {
		n, err := from.Read(buf)
		if n > 0 && !g.pass(to, buf[:n], &tail, upstream) {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if err != nil {
			return
		}
	}
}

// pass forwards a chunk and says whether the gate is still open.
func (g *gate) pass(to net.Conn, chunk []byte, tail *[]byte, upstream bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	if upstream {
		seen := append(*tail, chunk...)
		if g.pattern != nil && bytes.Contains(seen, g.pattern) {
			g.shut = true
			if g.forward {
				_, _ = to.Write(chunk)
			}
			close(g.closed)
			return false
		}
		*tail = append([]byte(nil), seen[max(0, len(seen)-len(g.pattern)):]...)
	}
	_, err := to.Write(chunk)
	return err == nil
}
