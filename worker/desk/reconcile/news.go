package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// News is where breaks are published and looked up: the last message on a break's subject tells how it stands.
type News struct{ js jetstream.JetStream }

// OpenNews binds the stream. Where it is missing, the error says what to do.
func OpenNews(ctx context.Context, js jetstream.JetStream) (News, error) {
	_, err := js.Stream(ctx, messages.StreamNews)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return News{}, fmt.Errorf("stream %s is missing; run `renewals provision`", messages.StreamNews)
	}
	if err != nil {
		return News{}, fmt.Errorf("bind stream %s: %w", messages.StreamNews, err)
	}
	return News{js}, nil
}

// Publish tells of breaks that are not told as open already, by compare-and-set: of two that find the same, one tells it. It returns
// how many were new.
func (n News) Publish(ctx context.Context, breaks []messages.Break) (told int, err error) {
	for _, b := range breaks {
		last, sequence, err := n.last(ctx, messages.BreakSubject(b.Kind, b.ID, b.Account))
		if err != nil {
			return told, err
		}
		if sequence > 0 && last.Status == messages.BreakOpen {
			continue
		}
		if sequence > 0 && last.Actor != "" && b.Status == messages.BreakOpen && last.same(b) {
			continue // a person has looked at exactly this
		}
		stored, err := n.put(ctx, b, sequence)
		if err != nil {
			return told, err
		}
		if stored {
			told++
		}
	}
	return told, nil
}

// standing is a break as it was told last.
type standing struct{ messages.Break }

// same says that a break is still what it was.
func (s standing) same(b messages.Break) bool {
	return s.Amount == b.Amount && s.ExpectedAmount == b.ExpectedAmount && s.Currency == b.Currency && s.OrderID == b.OrderID && s.OtherOrderID == b.OtherOrderID
}

// Close says that a break is dealt with. It does nothing where the break is closed already.
func (n News) Close(ctx context.Context, b messages.Break, actor, note string, at time.Time) error {
	last, sequence, err := n.last(ctx, messages.BreakSubject(b.Kind, b.ID, b.Account))
	if err != nil || sequence == 0 || last.Status == messages.BreakClosed {
		return err
	}
	closed := last.Break
	closed.Status, closed.Actor, closed.Note, closed.At = messages.BreakClosed, actor, note, at
	_, err = n.put(ctx, closed, sequence)
	return err
}

// put publishes a break on top of what was read; false where another was faster.
func (n News) put(ctx context.Context, b messages.Break, last uint64) (bool, error) {
	m, err := b.Message()
	if err != nil {
		return false, err
	}
	_, err = n.js.PublishMsg(ctx, m, jetstream.WithExpectStream(messages.StreamNews), jetstream.WithExpectLastSequencePerSubject(last))
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("publish break %s: %w", b.ID, err)
	}
	return true, nil
}

func (n News) last(ctx context.Context, subject string) (standing, uint64, error) {
	stream, err := n.js.Stream(ctx, messages.StreamNews)
	if err != nil {
		return standing{}, 0, fmt.Errorf("bind stream %s: %w", messages.StreamNews, err)
	}
	m, err := stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return standing{}, 0, nil
	}
	if err != nil {
		return standing{}, 0, fmt.Errorf("read %s: %w", messages.StreamNews, err)
	}
	var b standing
	if err := json.Unmarshal(m.Data, &b.Break); err != nil {
		return standing{}, 0, fmt.Errorf("read message %d of %s: %w", m.Sequence, messages.StreamNews, err)
	}
	return b, m.Sequence, nil
}

// Open lists the breaks that nobody has closed, of an account or with "*" of all, in the order of their subjects.
func (n News) Open(ctx context.Context, account messages.Account) (open []messages.Break, err error) {
	stream, err := n.js.Stream(ctx, messages.StreamNews)
	if err != nil {
		return nil, fmt.Errorf("bind stream %s: %w", messages.StreamNews, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(messages.BreakSubject("*", "*", account)))
	if err != nil {
		return nil, fmt.Errorf("read the subjects of %s: %w", messages.StreamNews, err)
	}
	for _, subject := range slices.Sorted(maps.Keys(info.State.Subjects)) {
		b, sequence, err := n.last(ctx, subject)
		if err != nil {
			return nil, err
		}
		if sequence > 0 && b.Status == messages.BreakOpen {
			open = append(open, b.Break)
		}
	}
	return open, nil
}
