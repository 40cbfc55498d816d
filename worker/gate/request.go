package gate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// A request is served whether or not whoever made it still lives: the server
	// asks only for the subscription, and a frozen machine keeps its connection for minutes. What it
	// sends there comes again after AckWait at the earliest. So while jobs flow a
	// request lives a few seconds, and while none come it asks for a single one.
	pullExpiry     = 5 * time.Second
	pullExpiryIdle = 30 * time.Second
	pullHeartbeat  = 5 * time.Second // of an idle request; a shorter one has none

	// A worker of a thousand accounts has three thousand idle requests, whose heartbeats would be most of what it does while
	// none has a job. Where there are so many they come more seldom.
	slowHeartbeat    = 10 * time.Second
	heartbeatsSecond = 300
)

// heartbeat is how often an idle request of so many hears that it is still served. After twice that it is made again.
func heartbeat(requests int) time.Duration {
	return min(max(pullHeartbeat, time.Duration(requests)*time.Second/heartbeatsSecond), slowHeartbeat)
}

// errForgotten is a request of which it is not known whether it is still served.
var errForgotten = errors.New("ask for jobs: no heartbeat from the server")

// errReconnected is a request that the server behind the new connection may know nothing of.
var errReconnected = errors.New("ask for jobs: connected again")

// pullRequest is the body of a request for jobs.
type pullRequest struct {
	Batch     int           `json:"batch"`
	Expires   time.Duration `json:"expires"`
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"`
}

// errConsumerDeleted pauses the account: nobody but an operator deletes consumers.
var errConsumerDeleted = errors.New("the consumer was deleted")

// errNoResponders is no word about the consumer: see [Puller.gone].
var errNoResponders = errors.New("ask for jobs: no responders: JetStream is not available, or the consumer is missing")

// requestOver reads a status message of the server.
func requestOver(m *nats.Msg) (over bool, err error) {
	status, description := m.Header.Get("Status"), m.Header.Get("Description")
	lower := strings.ToLower(description)
	switch status {
	case "100": // heartbeat
		return false, nil
	case "404", "408": // nothing there, time is up
		return true, nil
	case "503":
		return true, errNoResponders
	case "409":
		if strings.Contains(lower, "consumer deleted") {
			return true, errConsumerDeleted
		}
		if strings.Contains(lower, "batch completed") {
			return true, nil
		}
	}
	return true, fmt.Errorf("ask for jobs: %s %s", status, description)
}
