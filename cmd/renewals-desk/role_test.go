package main

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// Whoever may read results may keep books, again and again, and needs no other right.
func TestSyncAsAConsumerOfResults(t *testing.T) {
	grant := topology.GrantsOf(topology.RoleConsumer, nil, "")[0]
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{{Username: "all", Password: "all"}, {Username: "consumer", Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: grant.Permissions.Publish.Allow}, Subscribe: &server.SubjectPermission{Allow: grant.Permissions.Subscribe.Allow},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo("all", "all"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	example(t, js)
	env := map[string]string{
		"NATS_URL": s.ClientURL(), "NATS_USER": "consumer", "NATS_PASSWORD": "secret", "NATS_INBOX_PREFIX": grant.InboxPrefix, "XDG_STATE_HOME": t.TempDir(),
	}
	for _, want := range []string{"4 records added", "0 records added"} {
		if code, out, told := asked(t, env, "sync"); code != cli.ExitDone || !strings.Contains(out, want) || told != "" {
			t.Errorf("sync: %d, %s%s; want %s", code, out, told, want)
		}
	}
}
