package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// News is where breaks are published and looked up: the last message on a break's subject tells how it stands.
type News struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// OpenNews binds the stream. Where it is missing, the error says what to do.
func OpenNews(ctx context.Context, js jetstream.JetStream) (News, error) {
	stream, err := js.Stream(ctx, messages.StreamNews)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return News{}, fmt.Errorf("stream %s is missing; run `renewals provision`", messages.StreamNews)
	}
	if err != nil {
		return News{}, fmt.Errorf("bind stream %s: %w", messages.StreamNews, err)
	}
	return News{js, stream}, nil
}

// Standing is a break as it was told last, and by which message.
type Standing struct {
	messages.Break
	Sequence uint64 `json:"-"` // 0 where nobody has told of it
}

// Told is what became of breaks that were found.
type Told struct {
	New int // told now
	// Open are those that somebody has to look at. The others are still what they were when somebody closed them.
	Open []messages.Break
}

// Publish tells of breaks that are not told as open already, by compare-and-set: of two that find the same, one tells it. One that was
// closed opens again where it is another by now.
func (n News) Publish(ctx context.Context, breaks []messages.Break) (told Told, err error) {
	for _, b := range breaks {
		last, err := n.last(ctx, messages.BreakSubject(b.Kind, b.ID, b.Account))
		if err != nil {
			return told, err
		}
		if last.Sequence > 0 && last.Status == messages.BreakClosed && last.same(b) {
			continue
		}
		told.Open = append(told.Open, b)
		if last.Sequence > 0 && last.Status == messages.BreakOpen {
			continue
		}
		stored, err := n.put(ctx, b, last.Sequence)
		if err != nil {
			return told, err
		}
		if stored {
			told.New++
		}
	}
	return told, nil
}

// same says that a break is still what it was.
func (s Standing) same(b messages.Break) bool {
	return s.Amount == b.Amount && s.ExpectedAmount == b.ExpectedAmount && s.Currency == b.Currency && s.OrderID == b.OrderID && s.OtherOrderID == b.OtherOrderID
}

// ErrMoved says that somebody else has told something of a break since it was looked at. Nothing was changed: look again.
var ErrMoved = errors.New("somebody else has told something of it meanwhile: nothing was changed, look again")

// Close says that a break is dealt with, as it was looked at. It does nothing where that was closed already. The error is [ErrMoved], or
// the broker's: then it may be closed all the same, and closing it again does no harm.
func (n News) Close(ctx context.Context, s Standing, actor, note string, at time.Time) error {
	if s.Sequence == 0 || s.Status == messages.BreakClosed {
		return nil
	}
	closed := s.Break
	closed.Status, closed.Actor, closed.Note, closed.At = messages.BreakClosed, actor, note, at
	stored, err := n.put(ctx, closed, s.Sequence)
	if err == nil && !stored {
		return fmt.Errorf("break %s: %w", s.ID, ErrMoved)
	}
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

func (n News) last(ctx context.Context, subject string) (s Standing, err error) {
	m, err := n.stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read %s: %w", messages.StreamNews, err)
	}
	if err := json.Unmarshal(m.Data, &s.Break); err != nil {
		return s, fmt.Errorf("read message %d of %s: %w", m.Sequence, messages.StreamNews, err)
	}
	s.Sequence = m.Sequence
	return s, nil
}

// Find looks a break up by its ID. Its sequence is 0 where nobody has told of one.
func (n News) Find(ctx context.Context, id messages.BreakID) (found Standing, err error) {
	err = n.each(ctx, messages.BreakSubject("*", id, "*"), func(s Standing) { found = s })
	return found, err
}

// List gives every break that was told of an account, or with "*" of all, in the order of kinds and then of when they were told.
func (n News) List(ctx context.Context, account messages.Account) (all []Standing, err error) {
	err = n.each(ctx, messages.BreakSubject("*", "*", account), func(s Standing) { all = append(all, s) })
	kinds := messages.BreakKinds()
	slices.SortFunc(all, func(a, b Standing) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(a.Sequence, b.Sequence))
	})
	return all, err
}

// each visits the last message on each subject.
func (n News) each(ctx context.Context, filter string, visit func(Standing)) error {
	info, err := n.stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return fmt.Errorf("read the subjects of %s: %w", messages.StreamNews, err)
	}
	for subject := range info.State.Subjects {
		s, err := n.last(ctx, subject)
		if err != nil {
			return err
		}
		if s.Sequence > 0 {
			visit(s)
		}
	}
	return nil
}
