// Package broker is the NATS server of tests: one in the test's process, on a free port of the loopback, until the test ends.
package broker

import (
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream is that of a new server without any stream.
func JetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	return Connect(t, start(t, server.Options{}))
}

// Synced is a server that makes an fsync of every write.
func Synced(t testing.TB) *server.Server {
	t.Helper()
	return start(t, server.Options{SyncAlways: true})
}

// Cluster is three servers of which every stream may have a replica each, once they have found each other.
func Cluster(t testing.TB) []*server.Server {
	t.Helper()
	const size = 3
	var nodes []*server.Server
	for range size {
		nodes = append(nodes, Node(t, size, nodes...))
	}
	for deadline := time.Now().Add(30 * time.Second); !slices.ContainsFunc(nodes, func(n *server.Server) bool {
		return n.JetStreamIsLeader() && len(n.JetStreamClusterPeers()) == len(nodes)
	}); {
		if time.Now().After(deadline) {
			t.Fatal("the cluster has no leader")
		}
		select {
		case <-t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nodes
}

// Node is one server more of a cluster that will have that many. It joins those that are there, so that no port has to be
// chosen before its server has it.
func Node(t testing.TB, size int, there ...*server.Server) *server.Server {
	t.Helper()
	o := server.Options{ServerName: "n" + strconv.Itoa(len(there)+1), SyncAlways: true}
	o.Cluster.Name, o.Cluster.Host, o.Cluster.Port = "test", "127.0.0.1", server.RANDOM_PORT
	for _, s := range there {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: s.ClusterAddr().String()})
	}
	for len(o.Routes) < size { // JetStream elects nobody before it has heard of more than half as many servers as it has routes
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: "127.0.0.1:0"})
	}
	return start(t, o)
}

func start(t testing.TB, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port, o.JetStream, o.StoreDir, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, t.TempDir(), true, true
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the broker does not start")
	}
	return s
}

// Connect is JetStream on a connection of its own.
func Connect(t testing.TB, s *server.Server) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// ChangeStream changes settings of a stream behind everybody's back.
func ChangeStream(t testing.TB, js jetstream.JetStream, name string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	change(&config)
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// ChangeConsumer is [ChangeStream] for a stream's consumer.
func ChangeConsumer(t testing.TB, js jetstream.JetStream, stream, name string, change func(*jetstream.ConsumerConfig)) {
	t.Helper()
	consumer, err := js.Consumer(t.Context(), stream, name)
	if err != nil {
		t.Fatal(err)
	}
	config := consumer.CachedInfo().Config
	change(&config)
	if _, err := js.UpdateConsumer(t.Context(), stream, config); err != nil {
		t.Fatal(err)
	}
}
