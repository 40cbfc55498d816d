package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A node is a nats-server process that can be killed and started again on its files.
type node struct {
	t      *testing.T
	config string
	port   int
	text   string // of the configuration, with a place for the account's quota
	cmd    *exec.Cmd
	done   chan struct{}
}

// cluster configures n nats-server processes with file stores and fsync on every write, and starts them.
func cluster(t *testing.T, n int) []*node {
	t.Helper()
	ports := freePorts(t, 2*n)
	var routes []string
	for i := range n {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[n+i]))
	}
	nodes := make([]*node, n)
	for i := range nodes {
		dir := t.TempDir()
		text := fmt.Sprintf("server_name: n%d\nlisten: \"127.0.0.1:%d\"\njetstream { store_dir: %q, sync_interval: always }\n", i, ports[i], dir)
		text += "accounts { R { jetstream { %s }, users: [{user: r, password: r}] } }\nno_auth_user: r\n"
		if n > 1 {
			text += fmt.Sprintf("cluster { name: test, listen: \"127.0.0.1:%d\", routes: [%s] }\n", ports[n+i], strings.Join(routes, ", "))
		}
		nodes[i] = &node{t: t, config: filepath.Join(dir, "nats.conf"), port: ports[i], text: text}
		nodes[i].configure(unlimited)
		nodes[i].start()
		t.Cleanup(nodes[i].kill)
	}
	for _, node := range nodes {
		node.awaitListening()
	}
	return nodes
}

// What an account may store: everything, or less than it has stored already.
const (
	unlimited = "max_file: -1"
	exhausted = "max_file: 1000"
)

func (n *node) configure(quota string) {
	n.t.Helper()
	if err := os.WriteFile(n.config, fmt.Appendf(nil, n.text, quota), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// limit changes the account's quota while the broker runs: with a full one it refuses every write with 400 and code 10002.
func (n *node) limit(quota string) {
	n.configure(quota)
	_ = n.cmd.Process.Signal(syscall.SIGHUP)
}

func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at the end, so that no port comes twice
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

func (n *node) start() {
	n.cmd = exec.Command(broker, "-c", n.config)
	if err := n.cmd.Start(); err != nil {
		n.t.Errorf("start the broker: %v", err)
		return
	}
	done := make(chan struct{})
	n.done = done
	go func() { _ = n.cmd.Wait(); close(done) }()
}

// kill is kill -9.
func (n *node) kill() {
	_ = n.cmd.Process.Kill()
	<-n.done
}

func (n *node) addr() string { return fmt.Sprintf("127.0.0.1:%d", n.port) }

// awaitListening waits until the broker listens. Its port was free a moment ago; where somebody's connection has it meanwhile, the
// broker ends at once, and is started again.
func (n *node) awaitListening() {
	n.t.Helper()
	await(n.t, 20*time.Second, "the broker to listen", func() bool {
		select {
		case <-n.done:
			n.start()
		default:
		}
		c, err := net.Dial("tcp", n.addr())
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}
