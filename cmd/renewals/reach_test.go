package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
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
