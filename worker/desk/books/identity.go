package books

import (
	"context"
	"errors"
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
			m, err := stream.GetMsg(ctx, at.LastSequence)
			if err == nil {
				if recorded(m).Fingerprint() == at.Fingerprint {
					return "", nil
				}
				return fmt.Sprintf("%s was set back: its record %d is another than the books have read", messages.StreamJournal, at.LastSequence), nil
			}
			if !errors.Is(err, jetstream.ErrMsgNotFound) {
				return "", fmt.Errorf("read %s: %w", messages.StreamJournal, err)
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

func recorded(m *jetstream.RawStreamMsg) Record {
	return Record{
		Sequence: m.Sequence, Stored: m.Time, Subject: m.Subject, State: m.Header.Get(messages.HeaderState), EventID: m.Header.Get("ce-id"), Body: m.Data,
	}
}
