package main

import (
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// An outage of the broker is told when it begins and when it is over, and by nothing in between: eight warnings were eight
// things to understand. Jobs flow again with the connection, not with the next heartbeat.
func TestOutageIsToldOnce(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	b := broker(t, func(o *server.Options) { o.StoreDir = store })
	sim := simulator(t)
	env := environmentFor(b, sim)
	finish(t, cli.ExitDone, env, "", "provision")
	worker := start(t, env, "", "work")
	eventually(t, "the worker charges", func() bool { return strings.Contains(worker.stderr.String(), "charging renewals") })
	port := b.Addr().(*net.TCPAddr).Port
	stopBroker(b)
	eventually(t, "the loss is told", func() bool { return strings.Contains(worker.stderr.String(), "NATS connection lost") })
	polls := 0
	eventually(t, "pulls had time to fail", func() bool { polls++; return polls > 300 })
	again := broker(t, func(o *server.Options) { o.StoreDir, o.Port = store, port })
	env["NATS_URL"] = again.ClientURL()
	finish(t, cli.ExitDone, env, jobLines(t, "outage", 1), "publish")
	eventually(t, "the job is charged", func() bool { return strings.Contains(worker.stderr.String(), `"recorded"`) })
	worker.stop()
	worker.wait(t)
	told := worker.stderr.String()
	for what, want := range map[string]int{`"level":"warn"`: 1, `"level":"error"`: 0, "NATS connection is back": 1, `"dials":`: 1, "jobs flow again": 0} {
		if got := strings.Count(told, what); got != want {
			t.Errorf("%s: %d times, want %d:\n%s", what, got, want, told)
		}
	}
}
