package main

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// outbox publishes jobs, many at a time, and says what became of each in the order in which they were put.
type outbox struct {
	ctx     context.Context
	js      jetstream.JetStream
	queue   chan outgoing
	drained chan struct{}
	settled func(outgoing, fate)
}

// outgoing is one job on its way.
type outgoing struct {
	line int
	id   messages.MessageID
	msg  *nats.Msg

	future jetstream.PubAckFuture
	err    error // instead of a future: it did not even leave
}

// fate is what became of a publish. With an error it is not known to be in the stream.
type fate struct {
	duplicate bool // the stream had this message ID before the first time we sent it
	err       error
}

const (
	inFlight        = 512 // publishes whose answer is awaited
	publishTimeout  = 5 * time.Second
	publishAttempts = 4
)

// newOutbox calls settled from one goroutine, until close returns.
func newOutbox(ctx context.Context, js jetstream.JetStream, settled func(outgoing, fate)) *outbox {
	o := &outbox{ctx, js, make(chan outgoing, inFlight), make(chan struct{}), settled}
	go func() {
		defer close(o.drained)
		for out := range o.queue {
			o.settled(out, o.settle(out))
		}
	}()
	return o
}

// put sends a job. It waits while too many answers are missing, and fails only when the context ends.
func (o *outbox) put(line int, id messages.MessageID, msg *nats.Msg) error {
	out := outgoing{line: line, id: id, msg: msg}
	out.future, out.err = o.js.PublishMsgAsync(msg)
	select {
	case o.queue <- out:
		return nil
	case <-o.ctx.Done():
		return context.Cause(o.ctx)
	}
}

// close returns when the fate of every job is told.
func (o *outbox) close() {
	close(o.queue)
	<-o.drained
}

// settle waits for one answer. A publish whose answer is lost is repeated under the same Nats-Msg-Id, which the stream
// then drops if it has the first: to the publisher both mean that the job is in. Repeating goes on while there is no
// connection; with one it ends after a few times, since the stream is then missing or refuses.
func (o *outbox) settle(out outgoing) fate {
	var ack *jetstream.PubAck
	err := out.err
	if err == nil {
		select {
		case ack = <-out.future.Ok():
			return fate{duplicate: ack.Duplicate}
		case err = <-out.future.Err():
		}
	}
	for attempt := 1; err != nil && attempt < publishAttempts && o.ctx.Err() == nil; {
		if o.js.Conn().IsConnected() {
			attempt++
		}
		timeout, cancel := context.WithTimeout(o.ctx, publishTimeout)
		_, err = o.js.PublishMsg(timeout, out.msg)
		cancel()
	}
	return fate{err: err}
}
