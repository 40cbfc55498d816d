package broker

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Unheard stores what is published and loses the first answer.
type Unheard struct {
	jetstream.JetStream
	Lost *bool // so far
}

func (u Unheard) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ack, err := u.JetStream.PublishMsg(ctx, m, opts...)
	if err == nil && !*u.Lost {
		*u.Lost = true
		return nil, nats.ErrTimeout
	}
	return ack, err
}
