package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// Subjects counts the messages of a stream by subject.
func Subjects(ctx context.Context, js jetstream.JetStream, stream, filter string) (map[string]uint64, error) {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("bind stream %s: %w", stream, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("read the subjects of %s: %w", stream, err)
	}
	return info.State.Subjects, nil
}

// Parked counts the jobs that wait in RENEWALS_LATER, by account; of holds accounts to ask for where they are too many to
// be listed. The server counts from its index of subjects, each of which holds one job.
func Parked(ctx context.Context, js jetstream.JetStream, of []messages.Account) (map[messages.Account]int, error) {
	listed, total, err := ParkedSubjects(ctx, js, messages.ParkedFilter("*"), 0)
	if err != nil {
		return nil, err
	}
	count := map[messages.Account]int{}
	for subject := range listed {
		if a, err := messages.ParseParkedSubject(subject); err == nil {
			count[a]++
		}
	}
	if total <= len(listed) {
		return count, nil
	}
	for _, a := range of {
		count[a] = 0
	}
	for a := range count {
		if _, count[a], err = ParkedSubjects(ctx, js, messages.ParkedFilter(a), math.MaxInt32); err != nil {
			return nil, err
		}
	}
	return count, nil
}

// ParkedSubjects asks for one page of subjects, at most 100,000, from offset on, and how many there are. The library's
// own question would gather all of them.
func ParkedSubjects(ctx context.Context, js jetstream.JetStream, filter string, offset int) (subjects map[string]uint64, total int, err error) {
	return subjectsFrom(ctx, js, messages.StreamLater, filter, offset)
}

func subjectsFrom(ctx context.Context, js jetstream.JetStream, stream, filter string, offset int) (subjects map[string]uint64, total int, err error) {
	m, err := js.Conn().RequestWithContext(ctx, API(js, "STREAM.INFO."+stream), SubjectsRequest(filter, offset))
	if err != nil {
		return nil, 0, fmt.Errorf("read the subjects of %s: %w", stream, err)
	}
	page, err := ReadSubjects(m.Data)
	if err != nil {
		return nil, 0, fmt.Errorf("read the subjects of %s: %w", stream, err)
	}
	return page.Subjects, page.Total, nil
}

// SubjectsRequest asks STREAM.INFO for the subjects that match a filter, from offset on.
// https://docs.nats.io/reference/reference-protocols/nats_api_reference
func SubjectsRequest(filter string, offset int) []byte {
	body, _ := json.Marshal(struct {
		Filter string `json:"subjects_filter"`
		Offset int    `json:"offset,omitempty"`
	}{filter, offset})
	return body
}

// A SubjectsPage is one answer to a [SubjectsRequest], at most 100,000 subjects.
type SubjectsPage struct {
	Subjects map[string]uint64 // the number of messages under each
	Total    int               // subjects that match, on all pages
	Last     uint64            // sequence of the stream
}

// ReadSubjects reads the answer to a [SubjectsRequest]. It fails on one that names none of the subjects it counts.
func ReadSubjects(answer []byte) (SubjectsPage, error) {
	var a struct {
		Error *jetstream.APIError `json:"error"`
		Total int                 `json:"total"`
		State struct {
			LastSeq  *uint64           `json:"last_seq"`
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
	}
	err := json.Unmarshal(answer, &a)
	switch {
	case err != nil:
		return SubjectsPage{}, err
	case a.Error != nil && a.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return SubjectsPage{}, jetstream.ErrStreamNotFound
	case a.Error != nil:
		return SubjectsPage{}, a.Error
	case a.State.LastSeq == nil:
		return SubjectsPage{}, errors.New("no state of the stream in it")
	}
	return SubjectsPage{Subjects: a.State.Subjects, Total: a.Total, Last: *a.State.LastSeq}, nil
}
