package desk

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/test/broker"
)

// losing is a broker that loses a consumer after so many of its messages, the first times.
type losing struct {
	jetstream.JetStream
	after, times, made int
}

func (l *losing) OrderedConsumer(ctx context.Context, stream string, config jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	l.made++
	c, err := l.JetStream.OrderedConsumer(ctx, stream, config)
	return losingConsumer{c, l, stream}, err
}

type losingConsumer struct {
	jetstream.Consumer
	of     *losing
	stream string
}

func (c losingConsumer) Messages(opts ...jetstream.PullMessagesOpt) (jetstream.MessagesContext, error) {
	m, err := c.Consumer.Messages(opts...)
	if c.of.made > c.of.times {
		return m, err
	}
	return &losingMessages{m, c, c.of.after}, err
}

type losingMessages struct {
	jetstream.MessagesContext
	from losingConsumer
	left int
}

func (m *losingMessages) Next(opts ...jetstream.NextOpt) (jetstream.Msg, error) {
	if m.left--; m.left >= 0 {
		return m.MessagesContext.Next(opts...)
	}
	if err := m.from.of.DeleteConsumer(context.Background(), m.from.stream, m.from.CachedInfo().Name); err != nil {
		return nil, err
	}
	return nil, nats.ErrTimeout // nobody says that it is gone
}

// A scan goes on behind what it has handed out where its consumer is lost, and not for ever.
func TestScanReadsOnWithoutItsConsumer(t *testing.T) {
	t.Parallel()
	js := broker.JetStream(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}}); err != nil {
		t.Fatal(err)
	}
	var want []uint64
	for n := range 40 {
		ack, err := js.Publish(t.Context(), []string{"s.a", "s.b"}[n%2], nil)
		if err != nil {
			t.Fatal(err)
		}
		if n%2 == 1 {
			want = append(want, ack.Sequence)
		}
	}
	for _, tt := range []struct {
		name        string
		after, lost int
		made        int
		err         error
	}{
		{"never", 0, 0, 1, nil},
		{"before the first message", 0, 2, 3, nil},
		{"after some", 7, 2, 3, nil},
		{"after the last", 20, 1, 1, nil},
		{"again and again", 0, 100, 1 + mostLost, jetstream.ErrConsumerNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lossy := &losing{JetStream: js, after: tt.after, times: tt.lost}
			var got []uint64
			since := time.Now().Add(-time.Hour)
			config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{"s.b"}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since}
			err := Scan(t.Context(), lossy, "S", config, func(_ jetstream.Msg, meta *jetstream.MsgMetadata) error {
				got = append(got, meta.Sequence.Stream)
				return nil
			})
			if !errors.Is(err, tt.err) || lossy.made != tt.made || tt.err == nil && !slices.Equal(got, want) {
				t.Errorf("%v, %d consumers, messages %d, want %v, %d and %d", err, lossy.made, got, tt.err, tt.made, want)
			}
		})
	}
}
