package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
)

// follow hands out the records of the journal that takes wants, in order, until ctx ends or each returns an error. desk.ErrStop ends it
// without one.
func follow(ctx context.Context, js jetstream.JetStream, config jetstream.OrderedConsumerConfig, takes func(messages.RecordAddress) bool, each func(record) error) error {
	consumer, err := js.OrderedConsumer(ctx, messages.StreamJournal, config)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("stream %s is missing; run `renewals provision`", messages.StreamJournal)
	}
	if err != nil {
		return fmt.Errorf("follow %s: %w", messages.StreamJournal, err)
	}
	iterator, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("follow %s: %w", messages.StreamJournal, err)
	}
	defer iterator.Stop()
	for {
		m, err := iterator.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("follow %s: %w", messages.StreamJournal, err)
		}
		if a, err := messages.ParseRecordSubject(m.Subject()); err != nil || !takes(a) {
			continue // or no worker wrote it
		}
		r, err := readRecord(m)
		if err == nil {
			err = each(r)
		}
		if errors.Is(err, desk.ErrStop) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func everyRecord(messages.RecordAddress) bool { return true }
