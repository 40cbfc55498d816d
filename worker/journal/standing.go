package journal

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// A Standing is how the journal compares with what the workers remember of it, as somebody sees it who only looks.
type Standing struct {
	Mark          // what the workers remember; its zero value where no worker has marked anything yet
	Proof  string // by what the journal was set back, found now; Mark.SetBack is what a worker found. "" for nothing
	Behind bool   // it ends before the mark, which a deposed leader shows, too
}

// CompareWithMarks reads and writes nothing. An error says nothing about the journal.
func CompareWithMarks(ctx context.Context, js jetstream.JetStream) (s Standing, err error) {
	stream, err := js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return s, fmt.Errorf("stream %s: %w", messages.StreamJournal, err)
	}
	kept, err := ReadMarks(ctx, js)
	if err != nil {
		return s, err
	}
	for _, k := range kept {
		s.Mark = s.with(k.Mark)
	}
	if s.Created.IsZero() || s.SetBack != "" {
		return s, nil
	}
	s.Proof, s.Behind, err = s.disproves(ctx, stream)
	return s, err
}
