package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
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

// subjects asks for what the index knows of a journal's subjects. Every charge asks, and nats.go would read the stream's whole
// configuration from each answer, some 1.5 kB that nobody looks at.
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
		m, err := s.requester.RequestWithContext(ctx, s.subject, subjectsRequest(filter, offset))
		if err != nil {
			return nil, 0, fmt.Errorf("ask %s: %w", s.subject, s.refused(err))
		}
		page, err := readSubjects(m.Data, all)
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("answer of %s: %w", s.subject, err)
		case len(all) >= page.total:
			return all, page.last, nil
		case len(all) == offset:
			return nil, 0, fmt.Errorf("answer of %s: %d subjects of %d, and no more from there on", s.subject, offset, page.total)
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

// subjectsRequest is the request for the subjects from offset on.
// https://docs.nats.io/reference/reference-protocols/nats_api_reference
func subjectsRequest(filter string, offset int) []byte {
	b := messages.AppendText(append(make([]byte, 0, 128), `{"subjects_filter":`...), filter)
	if offset > 0 {
		b = strconv.AppendInt(append(b, `,"offset":`...), int64(offset), 10)
	}
	return append(b, '}')
}

// page is one answer.
type page struct {
	total int
	last  uint64 // sequence of the stream
}

// readSubjects adds the subjects of an answer to all. It reads nothing else of it but the numbers of a page.
func readSubjects(answer []byte, all map[string]uint64) (p page, err error) {
	var failed *jetstream.APIError
	var ended, named bool
	state := func(name, value []byte) (err error) {
		switch string(name) {
		case `"last_seq"`:
			ended = true
			p.last, err = strconv.ParseUint(string(value), 10, 64)
		case `"subjects"`:
			named = true
			err = members(value, func(name, records []byte) error {
				subject, err := unquoted(name)
				if err == nil {
					all[subject], err = strconv.ParseUint(string(records), 10, 64)
				}
				return err
			})
		}
		return err
	}
	err = members(answer, func(name, value []byte) (err error) {
		switch string(name) {
		case `"error"`:
			err = json.Unmarshal(value, &failed)
		case `"total"`:
			p.total, err = strconv.Atoi(string(value))
		case `"state"`:
			err = members(value, state)
		}
		return err
	})
	switch {
	case err != nil:
		return page{}, err
	case failed != nil && failed.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return page{}, jetstream.ErrStreamNotFound
	case failed != nil:
		return page{}, failed
	case !ended:
		return page{}, errors.New("no state of the stream in it")
	case !named && p.total > 0:
		return page{}, fmt.Errorf("none of %d subjects in it", p.total)
	}
	return p, nil
}

// errObject is JSON that [members] cannot read.
var errObject = errors.New("not a JSON object")

// members gives the members of a JSON object, names and values as they stand there. What is inside of a value is not looked at.
func members(object []byte, each func(name, value []byte) error) error {
	rest := blank(object)
	if len(rest) == 0 || rest[0] != '{' {
		return errObject
	}
	for rest = blank(rest[1:]); len(rest) > 0 && rest[0] == '"'; rest = blank(rest[1:]) {
		end := textEnd(rest)
		name := rest[:end]
		if rest = blank(rest[end:]); len(rest) == 0 || rest[0] != ':' {
			return errObject
		}
		rest = blank(rest[1:])
		if end = valueEnd(rest); end == 0 {
			return errObject
		}
		if err := each(name, rest[:end]); err != nil {
			return err
		}
		if rest = blank(rest[end:]); len(rest) == 0 || rest[0] != ',' {
			break
		}
	}
	if len(rest) == 0 || rest[0] != '}' || len(blank(rest[1:])) > 0 {
		return errObject
	}
	return nil
}

// blank is b without the white space that it begins with.
func blank(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\r' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// unquoted is what a JSON string says.
func unquoted(quoted []byte) (s string, err error) {
	if len(quoted) < 2 || bytes.IndexByte(quoted, '\\') >= 0 {
		err = json.Unmarshal(quoted, &s)
		return s, err
	}
	return string(quoted[1 : len(quoted)-1]), nil
}

// textEnd is where the JSON string ends that b begins with, or b.
func textEnd(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// valueEnd is where the JSON value ends that b begins with, or b.
func valueEnd(b []byte) int {
	for depth, i := 0, 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i += textEnd(b[i:]) - 1; depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // of a number or a word
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}
