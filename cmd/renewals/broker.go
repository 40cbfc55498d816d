package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// brokerOptions are for a NATS server in this process, on a free loopback port, that syncs every write to disk before it
// answers: what it acknowledged survives a power cut.
func brokerOptions(store string) *server.Options {
	return &server.Options{
		ServerName: "renewals-dev", Host: "127.0.0.1", Port: -1,
		JetStream: true, StoreDir: store, SyncAlways: true,
		NoSigs: true, NoLog: true,
	}
}

func startBroker(options *server.Options) (*server.Server, error) {
	broker, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	broker.Start()
	if !broker.ReadyForConnections(10 * time.Second) {
		stopBroker(broker)
		return nil, errors.New("start NATS server: not ready after 10s")
	}
	return broker, nil
}

func stopBroker(broker *server.Server) {
	broker.Shutdown()
	broker.WaitForShutdown()
}
