package desk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// oldest hands out the first messages on a subject, at most so many, the oldest first. Behind the last of them it asks for nothing: a broker
// looks for that in every block that follows, while writes wait.
func oldest(ctx context.Context, stream jetstream.Stream, subject string, most int, each func(*jetstream.RawStreamMsg) error) error {
	from, last := uint64(1), uint64(math.MaxUint64)
	for n := range most {
		if n == 1 {
			m, err := stream.GetLastMsgForSubject(ctx, subject)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return nil // gone meanwhile
			}
			if err != nil {
				return err
			}
			last = m.Sequence
		}
		if from > last {
			return nil
		}
		m, err := stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(m); err != nil {
			return err
		}
		from = m.Sequence + 1
	}
	return nil
}

// mostLost is how often a [Scan] begins anew behind a lost consumer.
const mostLost = 3

// Scan hands out the messages that a stream holds now, in order and each once, until there are no more or each returns an error.
// [ErrStop] ends it without one. Where the broker loses the consumer meanwhile, as a cluster does that has just been mended, another
// one reads on.
func Scan(ctx context.Context, js jetstream.JetStream, stream string, config jetstream.OrderedConsumerConfig, each func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	for lost := 0; ; lost++ {
		err := scan(ctx, js, stream, config, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
			config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, meta.Sequence.Stream+1
			return each(m, meta)
		})
		if !errors.Is(err, jetstream.ErrConsumerNotFound) || lost == mostLost {
			return err
		}
	}
}

// scan is [Scan] with one consumer.
func scan(ctx context.Context, js jetstream.JetStream, stream string, config jetstream.OrderedConsumerConfig, each func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	config.InactiveThreshold = 30 * time.Second
	consumer, err := js.OrderedConsumer(ctx, stream, config)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("stream %s is missing; run `renewals provision`", stream)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	iterator, err := consumer.Messages(jetstream.PullMaxMessages(200)) // of up to half a megabyte
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	defer iterator.Stop()
	for {
		m, err := iterator.Next(jetstream.NextMaxWait(2 * time.Second))
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, nats.ErrTimeout):
			info, err := consumer.Info(ctx)
			if err != nil {
				return fmt.Errorf("read %s: %w", stream, err)
			}
			if info.NumPending == 0 {
				return nil // what was to come has been deleted
			}
			continue
		case err != nil:
			return fmt.Errorf("read %s: %w", stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		if err := each(m, meta); errors.Is(err, ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
		if meta.NumPending == 0 {
			return nil
		}
	}
}

// ErrStop ends a [Scan] that has seen enough.
var ErrStop = errors.New("stop")
