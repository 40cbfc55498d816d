package topology

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// notYetCodes are the answers of a cluster that is not complete.
var notYetCodes = map[jetstream.ErrorCode]bool{
	10005: true, // no suitable peers for the placement of a stream
	10007: true, // not assigned to this server
	10008: true, // temporarily unavailable: no leader
	10009: true, // the leader changes
}

// NotYet says that the broker did not answer, or as a cluster that has no leader.
func NotYet(err error) bool {
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
		return notYetCodes[refused.ErrorCode]
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected)
}

// Hint tells what to do where something is not there.
func Hint(err error) string {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		return "; run `renewals provision`"
	}
	return ""
}
