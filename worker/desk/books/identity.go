package books

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// stamp names a stream by when the broker made it, as its info of last says.
func stamp(stream jetstream.Stream) string {
	return stream.CachedInfo().Created.UTC().Format(time.RFC3339Nano)
}

// differs says why a journal is not the one that the books were read from: it was made anew, or set back to a backup and written on. "" where
// nothing says so. A backup that holds all that the books have read is no other journal.
func (s Syncer) differs(ctx context.Context, stream jetstream.Stream, at Position) (why string, err error) {
	if at.CreatedAt == "" {
		return "", nil
	}
	for began := time.Now(); ; {
		info := stream.CachedInfo()
		switch {
		case at.CreatedAt != stamp(stream):
			return fmt.Sprintf("%s was made on %s, and the books are of one made on %s", messages.StreamJournal, stamp(stream), at.CreatedAt), nil
		case at.LastSequence > info.State.LastSeq:
			why = fmt.Sprintf("%s was set back: it ends with record %d, and the books have read record %d", messages.StreamJournal, info.State.LastSeq, at.LastSequence)
		case at.LastSequence < info.State.FirstSeq:
			return "", nil // aged: nobody can tell
		default:
			r, err := s.at(ctx, at.LastSequence)
			if err != nil {
				return "", err
			}
			if r.Sequence == at.LastSequence {
				if r.Fingerprint() == at.Fingerprint {
					return "", nil
				}
				return fmt.Sprintf("%s was set back: its record %d is another than the books have read", messages.StreamJournal, at.LastSequence), nil
			}
			why = fmt.Sprintf("%s has no record %d, which the books have read", messages.StreamJournal, at.LastSequence)
		}
		// A lower number may come from a leader's past. The same for as long as no such leader lasts may not.
		if time.Since(began) >= s.Doubt {
			return why, nil
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(min(time.Second, s.Doubt)):
		}
		if _, err := stream.Info(ctx); err != nil {
			return "", fmt.Errorf("read %s: %w", messages.StreamJournal, err)
		}
	}
}

// Behind says why the books do not have all that the journal has as this begins: they lag, or are of another journal; "" where they have it.
// Somebody who follows the journal with them is given so long to write what is left.
func (b *Books) Behind(ctx context.Context, js jetstream.JetStream, patience time.Duration) (why string, err error) {
	stream, err := js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return "", fmt.Errorf("bind stream %s: %w", messages.StreamJournal, err)
	}
	end := stream.CachedInfo().State
	for began := time.Now(); ; {
		at, err := b.Position(ctx)
		switch {
		case err != nil:
			return "", err
		case at.LastSequence >= end.LastSeq || end.Msgs == 0:
			if _, err := stream.Info(ctx); err != nil { // the books may have read on since
				return "", fmt.Errorf("read %s: %w", messages.StreamJournal, err)
			}
			return Syncer{JetStream: js}.differs(ctx, stream, at)
		case time.Since(began) >= patience:
			return fmt.Sprintf("they end with record %d, and %s with record %d", at.LastSequence, messages.StreamJournal, end.LastSeq), nil
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(min(100*time.Millisecond, patience)):
		}
	}
}

// at reads the first record from a sequence on, by a consumer: whoever may only read results may do that.
func (s Syncer) at(ctx context.Context, sequence uint64) (r Record, err error) {
	consumer, err := s.JetStream.OrderedConsumer(ctx, messages.StreamJournal, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: sequence, InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return r, fmt.Errorf("read %s: %w", messages.StreamJournal, err)
	}
	iterator, err := consumer.Messages(jetstream.PullMaxMessages(1))
	if err != nil {
		return r, fmt.Errorf("read %s: %w", messages.StreamJournal, err)
	}
	defer iterator.Stop()
	one, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := iterator.Next(jetstream.NextContext(one))
	if err == nil {
		r, _, err = received(m)
	}
	if err != nil {
		return r, fmt.Errorf("read record %d of %s: %w", sequence, messages.StreamJournal, err)
	}
	return r, nil
}

// received is a message of the journal as the books read it.
func received(m jetstream.Msg) (Record, *jetstream.MsgMetadata, error) {
	meta, err := m.Metadata()
	if err != nil {
		return Record{}, nil, err
	}
	header := m.Headers()
	return Record{
		Sequence: meta.Sequence.Stream, Stored: meta.Timestamp, Subject: m.Subject(), State: header.Get(messages.HeaderState), EventID: header.Get("ce-id"), Body: m.Data(),
	}, meta, nil
}
