package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// A Requester is a JetStream that answers requests of its API itself: tests' are. Of any other the connection is asked.
type Requester interface {
	RequestWithContext(ctx context.Context, subject string, data []byte) (*nats.Msg, error)
}

// subjects asks for what the index knows of a journal's subjects. Every charge asks, and nats.go would gather the stream's whole
// configuration from each answer, which nobody looks at.
type subjects struct {
	requester Requester
	subject   string // of the request
}

func newSubjects(js jetstream.JetStream) subjects {
	s := subjects{subject: topology.API(js, "STREAM.INFO."+messages.StreamJournal)}
	if r, ok := js.(Requester); ok {
		s.requester = r
	} else {
		s.requester = js.Conn()
	}
	return s
}

// under are the subjects that match a filter with the number of their records, and last the end of the stream. An answer of the server has
// 100,000 of them at most; the end is that of the last one.
func (s subjects) under(ctx context.Context, filter string) (all map[string]uint64, last uint64, err error) {
	all = make(map[string]uint64)
	for {
		offset := len(all)
		m, err := s.requester.RequestWithContext(ctx, s.subject, topology.SubjectsRequest(filter, offset))
		if err != nil {
			return nil, 0, fmt.Errorf("ask %s: %w", s.subject, s.refused(err))
		}
		page, err := topology.ReadSubjects(m.Data)
		if err != nil {
			return nil, 0, fmt.Errorf("answer of %s: %w", s.subject, err)
		}
		maps.Copy(all, page.Subjects)
		switch {
		case len(all) >= page.Total:
			return all, page.Last, nil
		case len(all) == offset:
			return nil, 0, fmt.Errorf("answer of %s: %d subjects of %d, and no more from there on", s.subject, offset, page.Total)
		}
	}
}

// refused is why a request failed: one that its user may not make gets no answer.
func (s subjects) refused(err error) error {
	nc, ok := s.requester.(*nats.Conn)
	if !ok {
		return err
	}
	if last := nc.LastError(); errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), `"`+s.subject+`"`) {
		return fmt.Errorf("%w; print permissions anew with `renewals provision --print-permissions`: %w", last, err)
	}
	return err
}
