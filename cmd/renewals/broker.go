package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startBroker runs a NATS server in this process, on a free loopback port, that syncs every write to disk before it
// answers: what it acknowledged survives a power cut.
func startBroker(store string) (*server.Server, error) {
	broker, err := server.NewServer(&server.Options{
		ServerName: "renewals-dev", Host: "127.0.0.1", Port: -1,
		JetStream: true, StoreDir: store, SyncAlways: true,
		NoSigs: true, NoLog: true,
	})
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
