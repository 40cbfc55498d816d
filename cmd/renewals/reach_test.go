package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// The streams are in the domain of a hub, and everybody connects to a leaf that has a JetStream of its own.
func TestStreamsInTheDomainOfAHub(t *testing.T) {
	t.Parallel()
	hub := broker(t, func(o *server.Options) {
		o.ServerName, o.JetStreamDomain = "hub", "hub"
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", -1
	})
	leaf := broker(t, func(o *server.Options) {
		o.ServerName, o.JetStreamDomain = "leaf", "leaf"
		o.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: []*url.URL{{Scheme: "nats-leaf", Host: leafAddress(t, hub)}}}}
	})
	eventually(t, "the leaf is connected", func() bool { return leaf.NumLeafNodes() == 1 })
	env := environmentFor(leaf, simulator(t)).with("NATS_JS_DOMAIN", "hub")
	finish(t, cli.ExitDone, env, "", "provision")
	if account, err := hub.LookupAccount("$G"); err != nil || !account.JetStreamEnabled() {
		t.Fatalf("the hub's account: %v, %v", account, err)
	}
	if streams := streamsOf(t, hub); !strings.Contains(streams, "RENEWAL_JOURNAL") {
		t.Errorf("the hub has the streams %s", streams)
	}
	if streams := streamsOf(t, leaf); streams != "" {
		t.Errorf("the leaf has the streams %s, want none", streams)
	}
	start(t, env, "", "work")
	watch := start(t, env, "", "watch", "--json", "--since=1h")
	if out, _ := finish(t, cli.ExitDone, env, jobLines(t, "hub", 1), "publish"); !strings.HasPrefix(out, "accepted 1,") {
		t.Errorf("publish says %s", out)
	}
	eventually(t, "the result", func() bool { return strings.Contains(watch.stdout.String(), `"kind":"paid"`) })
	if out, _ := finish(t, cli.ExitDone, env, "", "status"); !strings.Contains(out, "default (") {
		t.Errorf("status sees no worker: %s", out)
	}
	// Without the domain the leaf's own JetStream is asked, which has nothing.
	if _, told := finish(t, cli.ExitFailed, env.with("NATS_JS_DOMAIN", ""), "", "show", "hub-0"); !strings.Contains(told, "RENEWAL_JOURNAL is missing") {
		t.Errorf("got %q", told)
	}
}

// With what is printed for a domain every role does at a leaf what it does at the hub. Of a monitor's NATS account the leaf has a connection
// of its own, so that what the hub imports for it is there as well.
func TestPermissionsInTheDomainOfAHub(t *testing.T) {
	t.Parallel()
	domain := variables{"NATS_JS_DOMAIN": "hub"}
	printed, _ := finish(t, cli.ExitDone, domain, "", "provision", "--print-permissions")
	leaf := leafOfAHub(t, printed)
	refused := &violations{}
	leaf.SetLogger(refused, false, false)

	list, _ := finish(t, cli.ExitDone, domain, "", "provision", "--print-permissions", "--json")
	var grants []topology.Grant
	if err := json.Unmarshal([]byte(list), &grants); err != nil {
		t.Fatal(err)
	}
	as, all := map[topology.Role]variables{}, environmentFor(leaf, simulator(t))
	for _, g := range grants {
		as[g.Role] = all.with("NATS_USER", string(g.Role), "NATS_PASSWORD", "x", "NATS_INBOX_PREFIX", g.InboxPrefix, "NATS_JS_DOMAIN", g.Domain)
	}
	finish(t, cli.ExitDone, as[topology.RoleProvisioner], "", "provision")
	start(t, as[topology.RoleWorker], "", "work")
	watch := start(t, as[topology.RoleConsumer], "", "watch", "--json", "--since=1h")
	finish(t, cli.ExitDone, as[topology.RolePublisher], jobLines(t, "hub", 1), "publish")
	eventually(t, "the result", func() bool { return strings.Contains(watch.stdout.String(), `"kind":"paid"`) })
	if out, _ := finish(t, cli.ExitDone, as[topology.RoleOperator], "", "show", "hub-0"); !strings.Contains(out, "paid") {
		t.Errorf("show says %s", out)
	}
	finish(t, cli.ExitDone, as[topology.RoleOperator], "", "dead", "list")
	for _, role := range []topology.Role{topology.RoleOperator, topology.RoleMonitor} {
		if out, _ := finish(t, cli.ExitDone, as[role], "", "status"); !strings.Contains(out, "default (") {
			t.Errorf("status sees no worker as %s: %s", role, out)
		}
		doctor := start(t, as[role], "", "doctor") // which has its doubts of a lone server
		doctor.wait(t)
		if want := fmt.Sprintf("user %s looks like role %[1]s, and may nothing else", role); !strings.Contains(doctor.stdout.String(), want) {
			t.Errorf("doctor does not say %q: %s", want, doctor.stdout.String())
		}
	}
	if said := refused.seen(); len(said) > 0 {
		t.Errorf("the leaf refused:\n%s", strings.Join(said, "\n"))
	}
}

// leafOfAHub is a leaf with a user for each role, named as it is, and two connections to a hub: for the workers' NATS account and for the monitors'.
func leafOfAHub(t *testing.T, permissions string) *server.Server {
	t.Helper()
	dir := t.TempDir()
	configured := func(name, text string) *server.Server {
		path := filepath.Join(dir, name+".conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return broker(t, func(o *server.Options) {
			o.ServerName, o.JetStreamDomain = name, name
			if err := o.ProcessConfigFile(path); err != nil {
				t.Fatal(err)
			}
		})
	}
	hub := configured("hub", `
leafnodes: {listen: "127.0.0.1:-1", authorization: {users: [{user: all, password: x, account: RENEWALS}, {user: monitors, password: x, account: MONITOR}]}}
accounts: {
  RENEWALS: {jetstream: enabled, exports: [{service: "$JS.API.>", response_type: stream}, {service: "$JS.FC.>"}, {stream: "_INBOX_monitor.>"}]}
  MONITOR: {imports: [
    {service: {account: RENEWALS, subject: "$JS.API.>"}, to: "$JS.monitor.API.>"}
    {service: {account: RENEWALS, subject: "$JS.FC.>"}}
    {stream: {account: RENEWALS, subject: "_INBOX_monitor.>"}}
  ]}
}`)
	leaf := configured("leaf", permissions+fmt.Sprintf(`
leafnodes: {remotes: [{url: "nats-leaf://all:x@%[1]s", account: RENEWALS}, {url: "nats-leaf://monitors:x@%[1]s", account: MONITOR}]}
accounts: {
  RENEWALS: {jetstream: enabled, users: [
    {user: publisher, password: x, permissions: $renewals_publisher_default}
    {user: worker, password: x, permissions: $renewals_worker}
    {user: consumer, password: x, permissions: $renewals_consumer}
    {user: operator, password: x, permissions: $renewals_operator}
    {user: provisioner, password: x, permissions: $renewals_provisioner}
  ]}
  MONITOR: {users: [{user: monitor, password: x, permissions: $renewals_monitor}]}
}`, leafAddress(t, hub)))
	eventually(t, "the leaf is connected", func() bool { return leaf.NumLeafNodes() == 2 })
	return leaf
}

// violations are what a server says that somebody must not do.
type violations struct {
	mu  sync.Mutex
	all []string
}

func (v *violations) seen() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.all)
}

func (v *violations) Errorf(format string, args ...any) {
	if said := fmt.Sprintf(format, args...); strings.Contains(said, "Violation") {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.all = append(v.all, said)
	}
}

func (*violations) Noticef(string, ...any) {}
func (*violations) Warnf(string, ...any)   {}
func (*violations) Fatalf(string, ...any)  {}
func (*violations) Debugf(string, ...any)  {}
func (*violations) Tracef(string, ...any)  {}

func leafAddress(t *testing.T, hub *server.Server) string {
	t.Helper()
	v, err := hub.Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(v.LeafNode.Port))
}

func streamsOf(t *testing.T, b *server.Server) string {
	t.Helper()
	j, err := b.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, account := range j.AccountDetails {
		for _, stream := range account.Streams {
			names = append(names, stream.Name)
		}
	}
	return strings.Join(names, " ")
}

// Where a command looks: in the file of all commands, in the context that was selected, or wherever something nearer says.
func TestEveryCommandReachesTheSameBroker(t *testing.T) {
	t.Parallel()
	b := broker(t, nil)
	home := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := write("renewals.yaml", "nats_url: "+b.ClientURL()+"\ntimeout: 5s\n")
	write(".config/nats/context.txt", "work\n")
	write(".config/nats/context/work.json", fmt.Sprintf(`{"url": %q}`, b.ClientURL()))
	write(".config/nats/context/gone.json", `{"url": "nats://127.0.0.1:1"}`)
	finish(t, cli.ExitDone, variables{"RENEWALS_CONFIG": config}, "", "provision")
	for _, row := range []struct {
		situation string
		env       variables
		flags     []string
		found     bool
	}{
		{"the file, by variable", variables{"RENEWALS_CONFIG": config}, nil, true},
		{"the file, by flag", nil, []string{"--config=" + config}, true},
		{"the variable over the file", variables{"RENEWALS_CONFIG": config, "NATS_URL": "nats://127.0.0.1:1", "RENEWALS_TIMEOUT": "10ms"}, nil, false},
		{"the flag over the variable", variables{"NATS_URL": "nats://127.0.0.1:1"}, []string{"--nats-url=" + b.ClientURL()}, true},
		{"the selected context", variables{"HOME": home}, nil, true},
		{"another context", variables{"HOME": home, "NATS_CONTEXT": "gone", "RENEWALS_TIMEOUT": "10ms"}, nil, false},
		{"a URL beside a selected context", variables{"HOME": home, "NATS_URL": "nats://127.0.0.1:1", "RENEWALS_TIMEOUT": "10ms"}, nil, false},
		{"the file beside a selected context", variables{"HOME": home, "RENEWALS_CONFIG": write("other.yaml", "nats_url: nats://127.0.0.1:1\ntimeout: 10ms\n")}, nil, false},
	} {
		for _, command := range [][]string{{"status"}, {"dead", "list"}, {"publish"}} {
			want := cli.ExitDone
			if !row.found {
				want = cli.ExitFailed
			}
			_, told := finish(t, want, row.env, "", append(command, row.flags...)...)
			if !row.found && !strings.Contains(told, "no NATS server at nats://127.0.0.1:1 (") {
				t.Errorf("%s: %v says %q", row.situation, command, told)
			}
		}
	}
}
